//! Where containers' control groups are, and who makes them: the shim by itself, or systemd at the shim's request.
//!
//! ```text
//! cgroupfs   PARENT/ID                              PARENT: --cgroup-parent, a path
//! systemd    unit iechor-ID.scope in SLICE          SLICE: --cgroup-parent, system.slice
//! ```

use std::collections::BTreeSet;
use std::fs;

use runtime::cgroup::{CgroupPath, Resources, UnitPlace};
use runtime::plan::CgroupPlan;
use runtime_systemd::Manager;
use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::config::CgroupDriver;
use crate::container::spec::HostConfig;
use crate::container::{Record, RunNet};
use crate::error::{Error, Result};
use crate::ids::ContainerId;

/// What our scopes' names begin with.
const PREFIX: &str = "iechor";

/// Who makes control groups.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Driver {
    Cgroupfs,
    Systemd {
        /// systemd's own number: what it can hold depends on it.
        version: u32,
    },
}

/// The groups of a run; written to the run record, since the daemon's settings may be others later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Below every hierarchy's root.
    pub path: String,
    /// The unit of systemd that holds them.
    pub unit: Option<String>,
}

impl Driver {
    /// Looks for systemd where it is wanted.
    pub fn open(wanted: CgroupDriver) -> Result<Driver> {
        match wanted {
            CgroupDriver::Cgroupfs => Ok(Driver::Cgroupfs),
            CgroupDriver::Systemd => {
                let version = Manager::connect().and_then(|mut manager| manager.version())?;
                Ok(Driver::Systemd { version })
            }
        }
    }
}

impl Engine {
    fn parent_of<'a>(&'a self, host: &'a HostConfig) -> &'a str {
        match host.resources.cgroup_parent.as_str() {
            "" => &self.config.cgroup_parent,
            own => own,
        }
    }

    /// Whether a container's parent is one for this driver; the words are Docker's.
    pub(crate) fn check_cgroup_parent(&self, host: &HostConfig) -> Result<()> {
        let parent = self.parent_of(host);
        match self.driver {
            Driver::Cgroupfs => CgroupPath::new(parent).map(drop)?,
            Driver::Systemd { .. } if parent.len() <= ".slice".len() || !parent.ends_with(".slice") => {
                return Err(Error::invalid(
                    "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"",
                ));
            }
            Driver::Systemd { .. } => unit_place(parent, "0").map(drop)?,
        }
        Ok(())
    }

    /// The control group that a container's next run has.
    pub(crate) fn group(&self, record: &Record) -> Result<Group> {
        let parent = self.parent_of(&record.host);
        Ok(match self.driver {
            Driver::Cgroupfs => Group {
                path: CgroupPath::new(parent)?.child(record.id.as_str())?.as_str().to_owned(),
                unit: None,
            },
            Driver::Systemd { .. } => {
                let place = unit_place(parent, record.id.as_str())?;
                Group {
                    path: place.path.as_str().to_owned(),
                    unit: Some(place.name),
                }
            }
        })
    }

    /// Its path.
    pub(crate) fn cgroup_path(&self, record: &Record) -> Result<CgroupPath> {
        Ok(CgroupPath::new(&self.group(record)?.path)?)
    }

    /// What the shim does about control groups.
    pub(crate) fn cgroup_plan(&self, record: &Record, limits: &Resources) -> Result<CgroupPlan> {
        let (parent, id) = (self.parent_of(&record.host), record.id.as_str());
        match self.driver {
            Driver::Cgroupfs => Ok(self.cgroups.plan(&CgroupPath::new(parent)?, id, limits)?),
            Driver::Systemd { version } => {
                let description = format!("iechor container {}", record.id);
                let place = unit_place(parent, id)?;
                let (mut plan, unit) = self.cgroups.plan_unit(&place, &description, &[], limits, version)?;
                plan.systemd = Some(unit);
                Ok(plan)
            }
        }
    }

    /// Changes limits of a running container: systemd is told first, or its next `daemon-reload` would undo them.
    pub(crate) fn update_group(&self, path: &CgroupPath, unit: Option<&str>, limits: &Resources) -> Result<()> {
        let Some(unit) = unit else {
            return Ok(self.cgroups.update(path, limits)?);
        };
        let mut manager = Manager::connect()?;
        let (limits, properties) = self.cgroups.update_unit(path, limits, manager.version()?)?;
        if !properties.is_empty() {
            manager.set_properties(unit, true, &properties)?;
        }
        Ok(self.cgroups.update(path, &limits)?)
    }

    /// Kills what is left in a group, and removes it.
    pub(crate) fn clear_group(&self, id: &ContainerId, group: &Group) -> Result<()> {
        let path = CgroupPath::new(&group.path)?;
        if !self.cgroups.exists(&path) {
            return Ok(());
        }
        self.cgroups.kill_all(&path)?;
        if let Some(unit) = &group.unit {
            Manager::connect().and_then(|mut manager| manager.stop_unit(unit))?;
        }
        // systemd removes what it has made by itself; what it did not make is ours to remove.
        if self.cgroups.exists(&path)
            && let Err(error) = self.cgroups.remove(&path)
        {
            tracing::warn!(container = %id, %error, "a control group without an owner stays");
        }
        Ok(())
    }

    /// Groups whose container is not known: their processes are killed.
    pub(crate) fn remove_orphan_groups(&self, known: &BTreeSet<&str>) -> Result<()> {
        // A slice is shared with others, of whose scopes the name does not tell: ours are those that we have noted.
        for (id, group) in self.noted_groups(known) {
            self.clear_group(&id, &group)?;
        }
        if !matches!(self.driver, Driver::Cgroupfs) {
            return Ok(());
        }
        let parent = CgroupPath::new(&self.config.cgroup_parent)?;
        for name in self.cgroups.children(&parent)? {
            if known.contains(name.as_str()) {
                continue;
            }
            // Only names that we give: others below the same parent are somebody else's.
            let Some(id) = ContainerId::parse(&name) else { continue };
            let group = Group {
                path: parent.child(id.as_str())?.as_str().to_owned(),
                unit: None,
            };
            self.clear_group(&id, &group)?;
        }
        Ok(())
    }

    /// Units in run records of containers that are not known.
    fn noted_groups(&self, known: &BTreeSet<&str>) -> Vec<(ContainerId, Group)> {
        let records = fs::read_dir(self.config.exec_root.join("run"));
        let noted = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let id = ContainerId::parse(name.split('.').next()?)?;
            if known.contains(id.as_str()) {
                return None;
            }
            let run: RunNet = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
            Some((id, run.group.filter(|group| group.unit.is_some())?))
        };
        records.into_iter().flatten().flatten().filter_map(noted).collect()
    }
}

fn unit_place(slice: &str, id: &str) -> Result<UnitPlace> {
    Ok(UnitPlace::parse(&format!("{slice}:{PREFIX}:{id}"), PREFIX, id)?)
}
