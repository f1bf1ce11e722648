//! Finding differences. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use nix::sys::stat::stat;
use runtime::cgroup::CgroupPath;

use super::{Finding, Kind, Side};
use crate::Engine;
use crate::container::stage;
use crate::container::state::Phase;
use crate::disk;
use crate::error::{Error, Result};
use crate::groups::Driver;
use crate::ids::ContainerId;

/// Collects findings.
#[derive(Default)]
struct Findings(BTreeSet<Finding>);

impl Findings {
    fn add(&mut self, side: Side, kind: Kind, name: impl Into<String>, note: impl Into<String>) {
        self.0.insert(Finding {
            kind,
            side,
            name: name.into(),
            note: note.into(),
        });
    }
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(Error::io(format!("list {}", folder.display())))?;
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.collect())
}

impl Engine {
    /// All differences at this moment.
    pub(super) fn differences(&self) -> Result<BTreeSet<Finding>> {
        let mut found = Findings::default();
        self.compare_store(&mut found)?;
        self.compare_containers(&mut found)?;
        self.compare_volumes(&mut found)?;
        self.compare_groups(&mut found)?;
        self.compare_network(&mut found)?;
        Ok(found.0)
    }

    fn compare_store(&self, found: &mut Findings) -> Result<()> {
        let audit = self.store.audit()?;
        for path in audit.orphans {
            let kind = match path.starts_with("rw") {
                true => Kind::WritableLayer,
                false => Kind::LayerFolder,
            };
            found.add(
                Side::Orphan,
                kind,
                path.display().to_string(),
                "no record owns this folder",
            );
        }
        for (chain, user) in audit.missing_layers {
            let note = match user {
                Some(image) => format!("image {image} needs it: remove that image and pull or load it again"),
                None => "no image needs it".to_owned(),
            };
            found.add(Side::Missing, Kind::LayerFolder, chain.to_string(), note);
        }
        let known = self.index.ids();
        for id in audit.missing_snapshots {
            let note = "the changes that this container made are lost; remove the container";
            found.add(Side::Missing, Kind::WritableLayer, id, note);
        }
        for id in self.store.snapshots().list() {
            if !known.contains(&id) {
                found.add(
                    Side::Orphan,
                    Kind::WritableLayer,
                    id,
                    "no container has this writable layer",
                );
            }
        }
        Ok(())
    }

    fn compare_containers(&self, found: &mut Findings) -> Result<()> {
        let folder = self.config.data_root.join("containers");
        // The ids after the names: what is made in between was not listed, what was listed is known still.
        let listed = names(&folder)?;
        let runs = names(&self.config.exec_root.join("run"))?;
        let known = self.index.ids();
        for name in listed.iter().filter(|name| !known.contains(*name)) {
            found.add(Side::Orphan, Kind::ContainerFolder, name, "no container has this id");
        }
        let mut live = BTreeSet::new();
        for container in self.index.all() {
            let (phase, running) = {
                let inner = container.lock();
                (inner.record.status.phase, inner.run.is_some())
            };
            let id = container.id.to_string();
            if phase != Phase::Removing && !self.places(&container.id).data.is_dir() {
                let note = "its log and its files for names and addresses are gone; remove the container";
                found.add(Side::Missing, Kind::ContainerFolder, &id, note);
            }
            if running {
                if !self.places(&container.id).run_record().is_file() {
                    let note = "a restarted daemon would not know the container's address";
                    found.add(Side::Missing, Kind::RunRecord, &id, note);
                }
                live.insert(id);
            }
        }
        for name in runs {
            let id = name.split('.').next().unwrap_or_default();
            if !live.contains(id) {
                found.add(Side::Orphan, Kind::RunRecord, &name, "no such container is running");
            }
        }
        Ok(())
    }

    fn compare_volumes(&self, found: &mut Findings) -> Result<()> {
        let root = self.config.data_root.join("volumes");
        let listed = names(&root)?;
        let all: BTreeMap<String, _> = self
            .volumes
            .all()
            .into_iter()
            .map(|one| (one.name.clone(), one))
            .collect();
        for name in listed.iter().filter(|name| !all.contains_key(*name)) {
            found.add(Side::Orphan, Kind::VolumeFolder, name, "no volume has this name");
        }
        let mounts: BTreeSet<_> = disk::mounts_below(&root).into_iter().collect();
        for (name, volume) in &all {
            let point = self.volumes.mountpoint(name);
            if !point.is_dir() {
                let note = "the volume's content is lost; remove the volume, or put its content back";
                found.add(Side::Missing, Kind::VolumeFolder, name, note);
                continue;
            }
            let held = self.volumes.is_held(name);
            let mounted = mounts.contains(&point);
            if held && !mounted {
                let note =
                    "running containers may see a mount that new ones will not; stop its users and start them again";
                found.add(Side::Missing, Kind::VolumeMount, name, note);
            } else if mounted && !held {
                let note = match volume.options.is_empty() {
                    true => "something is mounted over the content of this volume",
                    false => "no running container has this volume",
                };
                found.add(Side::Orphan, Kind::VolumeMount, name, note);
            }
        }
        // Nothing is being started while we look.
        for name in names(&self.config.exec_root.join("stage"))? {
            found.add(Side::Orphan, Kind::StagedMount, name, "left by a start that is over");
        }
        Ok(())
    }

    fn compare_groups(&self, found: &mut Findings) -> Result<()> {
        if !matches!(self.driver, Driver::Cgroupfs) {
            return Ok(());
        }
        let parent = CgroupPath::new(&self.config.cgroup_parent)?;
        let children = self.cgroups.children(&parent)?;
        let known = self.index.ids();
        for name in children {
            // Only names that we give: others below the same parent are somebody else's.
            if ContainerId::parse(&name).is_some() && !known.contains(&name) {
                found.add(Side::Orphan, Kind::ControlGroup, name, "no container has this id");
            }
        }
        Ok(())
    }

    fn compare_network(&self, found: &mut Findings) -> Result<()> {
        let own = stat("/proc/self/ns/net")
            .map_err(|errno| Error::io("look at the host's network namespace")(errno.into()))?;
        let mut owned = Vec::new();
        for container in self.index.all() {
            let (pid, net) = {
                let inner = container.lock();
                let Some(run) = &inner.run else { continue };
                (inner.record.status.pid, run.net.clone())
            };
            let Some(endpoint) = net.endpoint else { continue };
            match stat(format!("/proc/{pid}/ns/net").as_str()) {
                // It ends at this moment.
                Err(_) => continue,
                Ok(namespace) if namespace.st_ino == own.st_ino => {
                    let note = format!(
                        "container {} is in the host's network namespace and should not be",
                        container.id
                    );
                    found.add(Side::Missing, Kind::NetworkNamespace, container.id.to_string(), note);
                }
                Ok(_) => {}
            }
            owned.push((container.id.to_string(), endpoint));
        }
        let endpoints: Vec<_> = owned.iter().map(|(_, endpoint)| endpoint.clone()).collect();
        let audit = self.network.audit(&endpoints)?;
        if audit.table_is_missing {
            found.add(
                Side::Missing,
                Kind::NftTable,
                "the daemon's table",
                "no published port can be reached",
            );
        }
        for port in audit.missing_ports {
            found.add(Side::Missing, Kind::PublishedPort, port, "it cannot be reached");
        }
        for port in audit.stray_ports {
            found.add(Side::Orphan, Kind::PublishedPort, port, "nobody published it");
        }
        for link in audit.missing_links {
            let owner = owned.iter().find(|(_, endpoint)| endpoint.host_if == link);
            let owner = owner.map_or("a container", |(id, _)| id.as_str());
            let note = format!("container {owner} has no network any more; restart it");
            found.add(Side::Missing, Kind::Interface, link, note);
        }
        for link in audit.stray_links {
            found.add(Side::Orphan, Kind::Interface, link, "no container has this interface");
        }
        Ok(())
    }
}

/// Whether a name of the stage is still there; for repairs.
pub(super) fn clear_stage(root: &Path, name: &str) -> Result<()> {
    stage::clear(&root.join("stage").join(name))
}
