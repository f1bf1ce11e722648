//! Files in and out of a container, whatever state it is in.
//!
//! Of a running container it is what the container sees: its root is `/proc/PID/root` of its first process, opened and
//! walked from outside. Nothing of the daemon enters its namespaces. Of one that does not run, its layers are put together
//! with its volumes and bound folders, for as long as the copy takes.
//!
//! Who writes to a container that does not run has its layers alone: a start waits for it (`Container::files`). A copy into
//! a running container may still be writing when that has ended; the next start waits for it too, because the old mounts
//! stay for as long as the copy has them open.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use agent_store::{Bind, BindSource, Change, Found, IntoOptions, Owners, Tree, TreeSource, view};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard};

use super::mounts::MountKind;
use super::stage::is_staged;
use super::state::Phase;
use super::users::map_of;
use super::{Container, Record};
use crate::Engine;
use crate::error::{Error, Result};
use crate::events::EventKind;

/// How long the end of a container may stay unknown to us before we say that it is not running.
const END_KNOWN: Duration = Duration::from_secs(5);
/// How long a start waits for files being copied in.
const COPY_ENDS: Duration = Duration::from_secs(10);

/// How files are copied in.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyInOptions {
    /// A folder is never replaced by something else, nor something else by a folder.
    pub keep_kinds: bool,
    /// They belong to the container's user instead of whom the archive names.
    pub to_user: bool,
}

/// Keeps others off the layers; dropped when the copy has ended.
enum Hold {
    Shared { _guard: OwnedRwLockReadGuard<()> },
    Alone { _guard: OwnedRwLockWriteGuard<()> },
}

impl Engine {
    /// What is at a path.
    ///
    /// # Errors
    /// `NoSuchFile` in Docker's words.
    pub async fn stat_path(&self, container: &Arc<Container>, path: &str) -> Result<Found> {
        let tree = self.tree_to_read(container).await?;
        let (asked, path) = (container.clone(), path.to_owned());
        self.blocking(move |_| tree.stat(&path).map_err(|error| named(&asked, &path, error)))
            .await
    }

    /// What is at a path, and the means to write it as an archive ([`TreeSource::write`]).
    ///
    /// # Errors
    /// As [`Engine::stat_path`].
    pub async fn copy_out(&self, container: &Arc<Container>, path: &str) -> Result<(Found, TreeSource)> {
        let tree = self.tree_to_read(container).await?;
        let (asked, path) = (container.clone(), path.to_owned());
        let opened = self
            .blocking(move |_| tree.source(&path).map_err(|error| named(&asked, &path, error)))
            .await?;
        self.copied(container, "archive-path");
        Ok(opened)
    }

    /// Unpacks an archive, compressed or not, into a folder.
    ///
    /// # Errors
    /// `NoSuchFile`; the folder is none or cannot be written to; the archive is malformed or hostile.
    pub async fn copy_in(
        &self,
        container: &Arc<Container>,
        path: &str,
        reader: impl Read + Send + 'static,
        options: CopyInOptions,
    ) -> Result<()> {
        let (engine, container, path) = (self.clone(), container.clone(), path.to_owned());
        self.detached(async move {
            let (tree, hold) = engine.tree_to_write(&container).await?;
            let asked = container.clone();
            let shifted = match &hold {
                Hold::Alone { .. } => engine.shifted(&container.lock().record),
                Hold::Shared { .. } => Vec::new(),
            };
            engine
                .blocking(move |_| {
                    let hold = hold;
                    let owner = match options.to_user {
                        true => user_of(&tree, &asked.lock().record.config.user.clone())?,
                        false => None,
                    };
                    let into = tree.target(&path).map_err(|error| match error {
                        agent_store::Error::NotAFolder { .. } => Error::invalid("extraction point is not a directory"),
                        agent_store::Error::ReadOnlyPlace { .. } if bound(&shifted, &path) => Error::unsupported(format!(
                            "copying into the bound folder {path} of a container with a user namespace that does not run"
                        )),
                        error => named(&asked, &path, error),
                    })?;
                    let options = IntoOptions {
                        keep_kinds: options.keep_kinds,
                        owner,
                    };
                    let done = into.unpack(reader, &options);
                    // The tree's mounts go before others may have the layers.
                    drop(tree);
                    drop(hold);
                    Ok(done?)
                })
                .await?;
            engine.copied(&container, "extract-to-dir");
            Ok(())
        })
        .await
    }

    /// What a container changed of its image's files; volumes are not part of it.
    ///
    /// # Errors
    /// Its writable layer cannot be read.
    pub async fn changes(&self, container: &Arc<Container>) -> Result<Vec<Change>> {
        let id = container.id.to_string();
        self.blocking(move |engine| Ok(engine.store.snapshots().changes(&id)?))
            .await
    }

    /// Waits until nobody writes to the layers of a container that is about to start; the caller owns its `op`, so that
    /// nobody can begin to.
    pub(super) async fn layers_free(&self, container: &Arc<Container>) -> Result<()> {
        match tokio::time::timeout(COPY_ENDS, container.files.write()).await {
            Ok(_free) => Ok(()),
            Err(_) => Err(Error::Conflict(format!(
                "files are being copied into container {}; start it when that has ended",
                container.id
            ))),
        }
    }

    fn copied(&self, container: &Container, action: &str) {
        self.journal.record(
            EventKind::Container,
            action,
            container.id.as_str(),
            container.event_attributes(),
        );
    }

    /// The tree as it is, to be looked at.
    async fn tree_to_read(&self, container: &Arc<Container>) -> Result<Arc<Tree>> {
        if let Some(tree) = self.running_tree(container).await? {
            return Ok(tree);
        }
        let asked = container.clone();
        let seen = self.blocking(move |engine| engine.resting_tree(&asked, false)).await?;
        if let Some(tree) = seen {
            return Ok(tree);
        }
        // A place for a mount is missing, as in a container that never ran: it is made, which takes the layers alone.
        drop(self.tree_to_write(container).await?);
        let asked = container.clone();
        let seen = self.blocking(move |engine| engine.resting_tree(&asked, false)).await?;
        seen.ok_or_else(|| {
            Error::Conflict(format!(
                "the mounts of container {} cannot be put together",
                container.id
            ))
        })
    }

    async fn tree_to_write(&self, container: &Arc<Container>) -> Result<(Arc<Tree>, Hold)> {
        let _owner = container.op.lock().await;
        if let Some(tree) = self.running_tree(container).await? {
            // Only a copy into a container that rests has it alone, and a start waits for that.
            let guard = container.files.clone().read_owned().await;
            return Ok((tree, Hold::Shared { _guard: guard }));
        }
        // What is left of a run has its mounts.
        container.settled().await;
        let guard = container.files.clone().write_owned().await;
        let asked = container.clone();
        let tree = self.blocking(move |engine| engine.resting_tree(&asked, true)).await?;
        let tree = tree.ok_or(Error::CutOff)?;
        Ok((tree, Hold::Alone { _guard: guard }))
    }

    /// What a running container sees; `None` if it does not run.
    async fn running_tree(&self, container: &Arc<Container>) -> Result<Option<Arc<Tree>>> {
        let limit = tokio::time::Instant::now() + END_KNOWN;
        loop {
            let (phase, pid, cgroup) = {
                let inner = container.lock();
                let cgroup = inner.run.as_ref().map(|run| run.cgroup.as_str().to_owned());
                (inner.record.status.phase, inner.record.status.pid, cgroup)
            };
            match phase {
                Phase::Running | Phase::Paused => {}
                Phase::Created | Phase::Exited | Phase::Restarting => return Ok(None),
                Phase::Removing => return Err(Error::Removing(container.id.clone())),
                Phase::Dead => return Err(Error::NoSuchContainer(container.id.to_string())),
            }
            let remapped = self.is_remapped(&container.lock().record.host);
            if let Some(cgroup) = cgroup {
                let tree = self.blocking(move |_| running(pid, &cgroup, remapped)).await?;
                if let Some(tree) = tree {
                    return Ok(Some(Arc::new(tree)));
                }
            }
            // Its first process has ended, and word of that is on its way.
            if tokio::time::Instant::now() > limit {
                return Err(Error::NotRunning(container.id.clone()));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What a container would see at its next start.
    fn resting_tree(&self, container: &Container, writable: bool) -> Result<Option<Arc<Tree>>> {
        let record = container.lock().record.clone();
        let layers = self.store.snapshots().get(record.id.as_str())?;
        let binds = self.binds(&record)?;
        let seen = view(&layers, &binds, writable, record.host.readonly_rootfs)?;
        // Files of layers and volumes belong on disk to whom the container knows.
        Ok(seen.map(|view| Arc::new(Tree::new(view.root, Owners::default(), Some(view.namespace)))))
    }

    /// Targets in which files do not belong to whom the container knows, but to whom its user namespace makes of them. That
    /// can be told of one that runs; otherwise nothing is written there rather than files of the wrong owner.
    fn shifted(&self, record: &Record) -> Vec<String> {
        if !self.is_remapped(&record.host) {
            return Vec::new();
        }
        let bound = record
            .mounts
            .iter()
            .filter(|point| point.kind == MountKind::Bind && point.writable);
        bound.map(|point| point.target.clone()).collect()
    }

    fn binds(&self, record: &Record) -> Result<Vec<Bind>> {
        let mut binds = Vec::new();
        let shifted = self.shifted(record);
        let places = self.places(&record.id);
        for (source, target) in [
            (places.resolv_conf(), "/etc/resolv.conf"),
            (places.hosts(), "/etc/hosts"),
            (places.hostname(), "/etc/hostname"),
        ] {
            if source.exists() && !record.mounts.iter().any(|own| own.target == target) {
                binds.push(Bind {
                    source: BindSource::Path(source),
                    target: target.into(),
                    read_only: record.host.readonly_rootfs,
                    recursive: false,
                });
            }
        }
        for point in &record.mounts {
            let source = match point.kind {
                // Empty at every start.
                MountKind::Tmpfs => continue,
                _ if is_staged(point) => BindSource::Tree(self.staged_tree(point)?, point.target.clone()),
                _ => BindSource::Path(point.source.clone()),
            };
            binds.push(Bind {
                source,
                target: point.target.clone().into(),
                read_only: !point.writable || shifted.contains(&point.target),
                recursive: point.recursive,
            });
        }
        binds.sort_by_key(|bind| bind.target.components().count());
        Ok(binds)
    }
}

/// The root of a container's first process; `None` when that has ended.
///
/// A number of a process may have become another's, whose root may be the host's. What is open below `/proc/PID` belongs to
/// one process, dead or alive; that it is one of the container's is what its control group says.
fn running(pid: i32, cgroup: &str, remapped: bool) -> Result<Option<Tree>> {
    let gone = |error: nix::errno::Errno| match error {
        nix::errno::Errno::ENOENT | nix::errno::Errno::ESRCH => Ok(None),
        error => Err(Error::io(format!("open process {pid}"))(error.into())),
    };
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let process = match open(format!("/proc/{pid}").as_str(), flags, Mode::empty()) {
        Ok(process) => process,
        Err(error) => return gone(error),
    };
    let inside = |name: &str, flags: OFlag| openat(&process, name, flags | OFlag::O_CLOEXEC, Mode::empty());
    let root = match inside("root", OFlag::O_PATH | OFlag::O_DIRECTORY) {
        Ok(root) => root,
        Err(error) => return gone(error),
    };
    // The mounts stay together for as long as somebody has the namespace, also when the container ends.
    let namespace = match inside("ns/mnt", OFlag::O_RDONLY) {
        Ok(namespace) => namespace,
        Err(error) => return gone(error),
    };
    let mut groups = String::new();
    match inside("cgroup", OFlag::O_RDONLY) {
        Ok(file) => {
            if std::fs::File::from(file).read_to_string(&mut groups).is_err() {
                return Ok(None);
            }
        }
        Err(error) => return gone(error),
    }
    if !is_in_group(&groups, cgroup) {
        return Ok(None);
    }
    let owners = if remapped {
        let map = map_of(pid)?;
        let ranges = |ranges: &[runtime::plan::IdRange]| {
            let ranges = ranges.iter();
            ranges.map(|range| (range.inside, range.outside, range.count)).collect()
        };
        Owners {
            users: ranges(&map.users),
            groups: ranges(&map.groups),
        }
    } else {
        Owners::default()
    };
    Ok(Some(Tree::new(root, owners, Some(namespace))))
}

/// Whether a line of `/proc/PID/cgroup` names the group or one below it. The group's name has the container's id in it.
fn is_in_group(lines: &str, group: &str) -> bool {
    let below = format!("{group}/");
    lines
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .any(|path| path.ends_with(group) || path.contains(&below))
}

fn named(container: &Container, path: &str, error: agent_store::Error) -> Error {
    match error {
        agent_store::Error::NoSuchFile { .. } => Error::NoSuchFile {
            path: path.to_owned(),
            container: container.name(),
        },
        error => error.into(),
    }
}

fn bound(targets: &[String], path: &str) -> bool {
    let path = std::path::Path::new(path);
    targets.iter().any(|target| path.starts_with(target))
}

/// Longest user database that is read: beyond it a name is not found.
const DATABASE: u64 = 4 << 20;

/// The numbers of a container's user, by its own databases; `None` when the container has none set.
fn user_of(tree: &Tree, user: &str) -> Result<Option<(u32, u32)>> {
    if user.is_empty() {
        return Ok(None);
    }
    let read = |path: &str| -> Result<String> {
        let bytes = tree.read(path, DATABASE)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let (name, group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    let users = read("/etc/passwd")?;
    let known = field_of(&users, name);
    let uid = known.map(|(uid, _)| uid).or_else(|| name.parse().ok());
    let uid = uid.ok_or_else(|| {
        Error::invalid(format!(
            "unable to find user {name}: no matching entries in passwd file"
        ))
    })?;
    let gid = match group {
        None => known.and_then(|(_, gid)| gid).unwrap_or(0),
        Some(group) => {
            let groups = read("/etc/group")?;
            let found = field_of(&groups, group).map(|(gid, _)| gid);
            found.or_else(|| group.parse().ok()).ok_or_else(|| {
                Error::invalid(format!(
                    "unable to find group {group}: no matching entries in group file"
                ))
            })?
        }
    };
    Ok(Some((uid, gid)))
}

/// The numbers in the third and fourth field of the line for a name, or for a number.
fn field_of(lines: &str, name: &str) -> Option<(u32, Option<u32>)> {
    let number: Option<u32> = name.parse().ok();
    lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (own, id) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        (own == name || number == Some(id)).then(|| (id, fields.next().and_then(|gid| gid.parse().ok())))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn groups_of_a_process_are_told_apart() {
        let lines = "4:memory:/iechor/abc\n1:name=systemd:/x\n0::/\n";
        assert!(is_in_group(lines, "/iechor/abc"));
        assert!(is_in_group("0::/iechor/abc/init.scope\n", "/iechor/abc"));
        assert!(is_in_group("0::/outer/iechor/abc\n", "/iechor/abc"));
        for other in ["/iechor/ab", "/iechor/abcd", "/other"] {
            assert!(!is_in_group(lines, other), "{other}");
        }
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbad line\nsvc:x:7:70::/:\n";
        assert_eq!(field_of(users, "svc"), Some((7, Some(70))));
        assert_eq!(field_of(users, "7"), Some((7, Some(70))));
        assert_eq!(field_of(users, "nobody"), None);
    }

    proptest! {
        #[test]
        fn hostile_databases_are_only_text(lines in "\\PC{0,80}", name in "[a-z0-9:]{0,6}") {
            let _ = field_of(&lines, &name);
            let _ = is_in_group(&lines, &name);
        }
    }
}
