//! Control groups: v1, v2, and v1 with an empty v2 tree beside it (hybrid).
//!
//! ```text
//! Resources ──plan──► CgroupPlan ──► shim: mkdir, write, join      (start; no I/O of ours but reading)
//! Resources ──update──► files of a running container
//! CgroupPath ──► stats, freeze, thaw, pids, kill_all, oom_kills, remove
//! ```
//!
//! A container's groups have the same [`CgroupPath`] in every hierarchy. The parents are made by the daemon, once
//! ([`Cgroups::prepare`]); the container's own folders by its shim, which also removes them.
//!
//! - v1: cpu, cpuacct, memory, devices, freezer, blkio, pids and hugetlb where mounted; cpuset, net_cls, net_prio and
//!   rdma only for a container that asks for what they hold (each hierarchy costs a folder and a join), be it by an
//!   update later in its life. `name=systemd` is not ours.
//! - v2: controllers are enabled on the way down to the parent. Where the root of what we see is a delegated group with
//!   processes in it, these move into a leaf first: a group with controllers for its children may hold no process.
//! - hybrid: each controller by itself, for the kernel binds it to one v1 hierarchy or to v2. A container has a group on
//!   v2 when it asks for something held there; always, where what is needed for freezing or statistics is there.
//!
//! Where systemd owns the hierarchies, a container's group is a unit of systemd ([`UnitPlace`],
//! [`Cgroups::plan_unit`]).
//!
//! Deliberately absent: kernel memory limits (removed from the kernel, see `oci`). No async runtime and no logging: a
//! small single-threaded program uses this module as well as the daemon.

mod control;
mod detect;
mod devices;
mod limits;
mod oci;
mod oom;
mod path;
mod resources;
mod start;
mod stats;
mod systemd;
mod update;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

pub use control::{Freeze, RemoveError};
pub use detect::Support;
pub use devices::{Access, DeviceRule, DeviceType};
pub use oom::OomWatch;
pub use path::CgroupPath;
pub use resources::{InterfacePriority, RdmaLimit, Resources, Throttle, WeightDevice};
pub use stats::{
    Counter, CpuStats, HugePageStats, IoDevice, IoEntry, IoStats, MemoryEvents, MemoryStats, NumaStats, PidsStats,
    Pressure, RdmaStats, Stall, Stats,
};
pub use systemd::{UnitPlace, user_properties};

use crate::plan::{CgroupJoin, CgroupPlan};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// How this machine mounts control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One hierarchy per controller.
    V1,
    /// The unified hierarchy.
    V2,
    /// Controllers on v1, and a v2 tree beside them with few or none.
    Hybrid,
}

/// Why something could not be done with control groups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// Verb and what stands between it and the path.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A value was refused by the kernel.
    #[error("cannot write {value:?} to {}", path.display())]
    Write {
        /// What was to be written.
        value: String,
        /// The control file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No control group file system is mounted at all.
    #[error("no cgroup file system is mounted; mount cgroup2 at /sys/fs/cgroup")]
    NoneMounted,
    /// A controller is needed that is not there.
    #[error("{what} needs the {controller} cgroup controller, which is not available on this machine")]
    NoController {
        /// The setting.
        what: String,
        /// Kernel's name of the controller.
        controller: String,
    },
    /// The setting does not exist on this kind of hierarchy.
    #[error("{what} is not supported {place}")]
    Unsupported {
        /// The setting.
        what: String,
        /// "on cgroup v2", or the like.
        place: &'static str,
    },
    /// A value makes no sense.
    #[error("invalid {what}: {why}")]
    Invalid {
        /// The setting.
        what: &'static str,
        /// What is wrong with its value.
        why: String,
    },
    /// The group did not reach a state in time.
    #[error("cgroup {path} did not become {state} within {seconds} s")]
    Timeout {
        /// The group.
        path: CgroupPath,
        /// What was waited for.
        state: &'static str,
        /// How long.
        seconds: u64,
    },
}

type Result<T, E = CgroupError> = std::result::Result<T, E>;

fn make_group(folder: &Path) -> Result<()> {
    match std::fs::create_dir(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io_error("make cgroup", folder, error)),
    }
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> CgroupError {
    CgroupError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// The control group file systems of this machine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cgroups {
    tree: Arc<detect::Tree>,
    /// Parents that were made and prepared.
    prepared: Arc<Mutex<HashSet<CgroupPath>>>,
}

impl Cgroups {
    /// Looks at what is mounted.
    ///
    /// # Errors
    /// [`CgroupError::NoneMounted`]; errors of reading `/proc`.
    pub fn detect() -> Result<Cgroups> {
        Ok(Cgroups::of(detect::Tree::detect()?))
    }

    fn of(tree: detect::Tree) -> Cgroups {
        Cgroups {
            tree: Arc::new(tree),
            prepared: Arc::default(),
        }
    }

    /// The layout found.
    pub fn mode(&self) -> Mode {
        self.tree.mode()
    }

    /// 1 or 2, as `docker info` says it.
    pub fn version(&self) -> u32 {
        if self.mode() == Mode::V2 { 2 } else { 1 }
    }

    /// What limits this machine can hold.
    pub fn support(&self) -> Support {
        self.tree.support()
    }

    /// The v1 hierarchies that every container joins (not those of cpuset or the network alone), as pairs of mount point and options
    /// (`cpu,cpuacct`), for a container's own view of them; empty on v2.
    pub fn v1_mounts(&self) -> Vec<(PathBuf, String)> {
        self.tree.v1_mounts()
    }

    /// Makes the parent group of containers, with all controllers enabled for its children. Cheap when done before.
    ///
    /// # Errors
    /// When folders cannot be made or controllers not be enabled.
    pub fn prepare(&self, parent: &CgroupPath) -> Result<()> {
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        // Not looked at again at every start: should an administrator have removed the group since, the shim fails to
        // make the container's below it, makes it anew from the plan's `parents`, and tries again.
        if prepared.contains(parent) {
            return Ok(());
        }
        v1::prepare(&self.tree, parent)?;
        if self.tree.joins_v2() {
            v2::prepare(&self.tree, parent, &v2::wanted(&self.tree, &Resources::default()))?;
        }
        prepared.insert(parent.clone());
        Ok(())
    }

    /// What a shim does for the container `id` below `parent`. Prepares the parent.
    ///
    /// # Errors
    /// [`CgroupError::NoController`], [`CgroupError::Unsupported`] and [`CgroupError::Invalid`] for what cannot be held;
    /// errors of [`prepare`](Cgroups::prepare).
    pub fn plan(&self, parent: &CgroupPath, id: &str, resources: &Resources) -> Result<CgroupPlan> {
        let path = parent.child(id)?;
        resources.validate()?;
        self.prepare(parent)?;
        self.prepare_for(parent, &path, resources)?;
        start::plan(&self.tree, &path, resources)
    }

    /// As [`plan`](Cgroups::plan), for a group anywhere, also right below the root of the hierarchies.
    ///
    /// # Errors
    /// As there.
    pub fn plan_at(&self, path: &CgroupPath, resources: &Resources) -> Result<CgroupPlan> {
        if let (Some(parent), name) = path.split() {
            return self.plan(&parent, name, resources);
        }
        resources.validate()?;
        if start::needs_v2(&self.tree, path, resources) {
            v2::prepare_root(&self.tree, &v2::wanted(&self.tree, resources))?;
        }
        start::plan(&self.tree, path, resources)
    }

    /// Prepares the parent for what not every container asks for.
    fn prepare_for(&self, parent: &CgroupPath, path: &CgroupPath, resources: &Resources) -> Result<()> {
        let controllers = resources.controllers();
        if self.tree.hierarchy("cpuset").is_some() && controllers.contains(&"cpuset") {
            // The set of a parent that was made anew is empty, and the shim does not know what to put there.
            v1::prepare(&self.tree, parent)?;
        }
        let further = controllers.iter().any(|name| !detect::V2_WANTED.contains(name));
        if start::needs_v2(&self.tree, path, resources) && (further || !self.tree.joins_v2()) {
            v2::prepare(&self.tree, parent, &v2::wanted(&self.tree, resources))?;
        }
        Ok(())
    }

    /// How a further process gets into the groups that the container has at this moment: those of its start, and those
    /// that an [`update`](Cgroups::update) added.
    pub fn joined(&self, path: &CgroupPath) -> CgroupJoin {
        let v1 = self.tree.v1.iter().map(|hierarchy| path.under(&hierarchy.mount));
        let files = v1
            .filter(|folder| folder.is_dir())
            .map(|folder| folder.join("tasks"))
            .collect();
        start::join(files, self.tree.v2_group(path).filter(|folder| folder.is_dir()))
    }

    /// Names of the groups below `parent`, in any hierarchy: what a crash may have left.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn children(&self, parent: &CgroupPath) -> Result<Vec<String>> {
        let mut names = HashSet::new();
        for folder in self.tree.groups(parent) {
            for child in control::children(&folder)? {
                names.extend(child.file_name().and_then(|name| name.to_str()).map(str::to_owned));
            }
        }
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort();
        Ok(names)
    }

    /// What the container has used.
    ///
    /// # Errors
    /// When the group is gone.
    pub fn stats(&self, path: &CgroupPath) -> Result<Stats> {
        stats::read_from(&self.tree, path)
    }

    /// The same without what takes most of the files and is rarely asked for: memory by nodes, the kernel's own memory on
    /// v1, huge pages, RDMA and pressure.
    ///
    /// # Errors
    /// When the group is gone.
    pub fn usage(&self, path: &CgroupPath) -> Result<Stats> {
        stats::usage(&self.tree, path)
    }
}
