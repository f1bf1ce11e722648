//! What is known of a container between calls: a folder per container below `--root`.
//!
//! ```text
//! ROOT/ID/state.json   who and where (this module)          ROOT/ID/plan    the plan, encoded: what exec and delete need
//! ROOT/ID/start        FIFO at which a created container waits; gone once it was started
//! ```
//!
//! Whether a container runs is asked from the kernel, never remembered: the process with that number, if it is the same
//! that was started (its start time), is alive or it is not.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use runtime::plan::Plan;
use runtime::proto::VERSION;
use runtime::wire::Wire;
use runtime_sys::pidfd;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

/// The states of the specification, and paused as runc adds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub fn word(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// `state.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Of the plan beside it.
    pub plan_version: u32,
    pub id: String,
    pub pid: i32,
    /// Of the process, in clock ticks since boot: tells it from another one with the same number.
    pub start_time: u64,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    pub owner: u32,
    /// The container's group, for limits and statistics.
    pub cgroup: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systemd_unit: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A container's folder.
pub struct Container {
    pub folder: PathBuf,
    pub record: Record,
}

/// A name that is a folder's name and nothing else.
pub fn check_id(id: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if id.is_empty() || id.len() > 255 || matches!(id, "." | "..") || !id.bytes().all(plain) {
        return Err(Error::new(format!(
            "invalid container id {id:?}: letters, digits and _+-. only"
        )));
    }
    Ok(())
}

/// Makes the folder of a new container.
pub fn make_folder(root: &Path, id: &str) -> Result<PathBuf> {
    check_id(id)?;
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700);
    let folder = root.join(id);
    match builder.create(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            builder
                .recursive(true)
                .create(root)
                .context(format!("cannot make {}", root.display()))?;
            builder.recursive(false).create(&folder)
        }
        other => other,
    }
    .map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::new(format!("container with given ID already exists: {id}")),
        _ => Error::new(format!("cannot make {}: {error}", folder.display())),
    })?;
    Ok(folder)
}

impl Container {
    pub fn load(root: &Path, id: &str) -> Result<Container> {
        check_id(id)?;
        let folder = root.join(id);
        let text = fs::read(folder.join("state.json")).map_err(|error| match error.kind() {
            // containerd and podman look for these words.
            io::ErrorKind::NotFound => Error::new(format!("container does not exist: {id}")),
            _ => Error::new(format!("cannot read the state of container {id}: {error}")),
        })?;
        let record = serde_json::from_slice(&text).context(format!("cannot read the state of container {id}"))?;
        Ok(Container { folder, record })
    }

    /// Writes the record whole or not at all.
    pub fn save(&self) -> Result<()> {
        let text = serde_json::to_vec(&self.record)?;
        let (path, new) = (self.folder.join("state.json"), self.folder.join("state.new"));
        write(&new, &text)
            .and_then(|()| fs::rename(&new, &path))
            .context(format!("cannot write {}", path.display()))
    }

    pub fn save_plan(folder: &Path, plan: &[u8]) -> Result<()> {
        let path = folder.join("plan");
        write(&path, plan).context(format!("cannot write {}", path.display()))
    }

    pub fn plan(&self) -> Result<Plan> {
        let path = self.folder.join("plan");
        if self.record.plan_version != VERSION {
            return Err(Error::new(format!(
                "container {} was made by another version of this runtime; delete it and make it anew",
                self.record.id
            )));
        }
        let bytes = fs::read(&path).context(format!("cannot read {}", path.display()))?;
        Plan::decode(&bytes).context(format!("cannot read {}", path.display()))
    }

    pub fn gate(&self) -> PathBuf {
        gate(&self.folder)
    }

    /// The first process, if it is alive and still the one that was started.
    pub fn process(&self) -> Option<OwnedFd> {
        let process = pidfd::open(self.record.pid).ok()?;
        // In this order: the descriptor holds the process, so that its number cannot change hands meanwhile.
        let (alive, started) = stat(self.record.pid)?;
        (alive && started == self.record.start_time).then_some(process)
    }

    /// Whether it runs, without the group being asked whether it is paused.
    pub fn is_alive(&self) -> bool {
        self.process().is_some()
    }

    pub fn status(&self) -> Status {
        if !self.is_alive() {
            return Status::Stopped;
        }
        if self.gate().exists() {
            return Status::Created;
        }
        match crate::commands::pause::is_paused(self) {
            true => Status::Paused,
            false => Status::Running,
        }
    }

    /// The state in the form of the specification, with what runc adds.
    pub fn json(&self) -> serde_json::Value {
        let status = self.status();
        let mut object = serde_json::json!({
            "ociVersion": runtime::spec::VERSION,
            "id": self.record.id,
            "pid": if status == Status::Stopped { 0 } else { self.record.pid },
            "status": status.word(),
            "bundle": self.record.bundle,
            "rootfs": self.record.rootfs,
            "created": self.record.created,
            "owner": user_name(self.record.owner),
        });
        if let (false, Some(map)) = (self.record.annotations.is_empty(), object.as_object_mut()) {
            map.insert("annotations".into(), serde_json::json!(self.record.annotations));
        }
        object
    }

    /// Forgets the container.
    pub fn remove(&self) -> Result<()> {
        fs::remove_dir_all(&self.folder).context(format!("cannot remove {}", self.folder.display()))
    }
}

/// The FIFO at which a created container waits.
pub fn gate(folder: &Path) -> PathBuf {
    folder.join("start")
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)
}

/// Whether a process is alive (not a zombie), and when it was started, in ticks since boot: `proc_pid_stat(5)`.
pub fn stat(pid: i32) -> Option<(bool, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, spaces and parentheses too.
    let mut fields = text.get(text.rfind(')')? + 2..)?.split(' ');
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((!matches!(state, "Z" | "X"), started))
}

/// All containers below a root, in the order of their names; folders that are none are passed over.
pub fn all(root: &Path) -> Result<Vec<Container>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::new(format!("cannot read {}: {error}", root.display()))),
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<Container> = names.filter_map(|id| Container::load(root, &id).ok()).collect();
    found.sort_by(|a, b| a.record.id.cmp(&b.record.id));
    Ok(found)
}

fn user_name(uid: u32) -> String {
    if uid == 0 {
        return "root".into();
    }
    // No look-up by the C library, which a static program would have to load its modules for.
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("#{uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_lead_elsewhere_are_refused() {
        for id in ["", ".", "..", "a/b", "../x", "a\0", "a b", "a\n", "ä"] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
        assert!(check_id(&"x".repeat(256)).is_err());
        for id in ["a", "a.b", "4f2a", "a_b+c-d", "..a"] {
            assert!(check_id(id).is_ok(), "{id:?}");
        }
    }

    #[test]
    fn our_own_process_is_alive_and_has_a_start_time() {
        let own = stat(std::process::id() as i32);
        assert!(own.is_some_and(|(alive, started)| alive && started > 0));
        assert_eq!(stat(i32::MAX), None);
    }
}
