//! The systemd driver's part of planning: a container's group is a unit of systemd, which owns the hierarchies.
//!
//! ```text
//! cgroupsPath ──► UnitPlace ──┐
//! Resources ──► writes ───────┼──► SystemdUnit   what systemd is asked for
//! annotations ────────────────┘    CgroupPlan    the same limits, written to cgroupfs afterwards, as without systemd
//! ```
//!
//! systemd is told every limit that it has a property for, or else its next `daemon-reload` would write its own idea of
//! the group; what it does not know is in the files alone, and it leaves those alone. Both are made from one list of
//! writes ([`properties`]).
//!
//! Order of events, of which this module does none: the unit is started with a first process in it (a scope cannot be
//! empty), then the plan is carried out in the group that is there, then the container is cloned into it.

mod annotations;
mod devices;
mod place;
mod properties;

pub use annotations::user_properties;
pub use place::UnitPlace;

use super::limits::limits;
use super::{CgroupPath, Cgroups, Mode, Resources, Result, detect::Place, start, v2};
use crate::plan::{CgroupPlan, CgroupWrite};
use crate::systemd::{SystemdUnit, UnitProperty};
use properties::{DEFAULT_PERIOD, INFINITY, Properties, Target};
use std::fs;

/// systemd's version since which a failed unit can be told to leave nothing behind.
const COLLECT_MODE: u32 = 236;

impl Cgroups {
    /// What systemd is asked for, and what the shim does afterwards in the group that systemd has made: the folders of
    /// the plan may be there already. `user` has precedence over our own properties, limits over both. Prepares the
    /// slices above, as [`plan`](Cgroups::plan) does: which files the kernel has is seen there.
    ///
    /// # Errors
    /// As for [`plan`](Cgroups::plan); [`CgroupError`](super::CgroupError) for limits that systemd cannot hold.
    pub fn plan_unit(
        &self,
        place: &UnitPlace,
        description: &str,
        user: &[UnitProperty],
        resources: &Resources,
        systemd: u32,
    ) -> Result<(CgroupPlan, SystemdUnit)> {
        resources.validate()?;
        let resources = self.agreed(&place.path, resources);
        if let (Some(parent), _) = place.path.split() {
            self.prepare(&parent)?;
            self.prepare_for(&parent, &place.path, &resources)?;
        }
        let mut plan = start::plan(&self.tree, &place.path, &resources)?;
        let v2 = self.mode() == Mode::V2;
        if v2 {
            self.enable_at_the_root(&resources, &mut plan);
        }
        let mut unit = SystemdUnit {
            name: place.name.clone(),
            slice: place.slice.clone(),
            description: description.to_owned(),
            properties: Vec::new(),
        };
        let target = Target {
            v2,
            systemd,
            new_scope: !unit.is_slice(),
        };
        let mut out = Properties::default();
        fixed(target, &mut out);
        user.iter().for_each(|property| out.put(property.clone()));
        for property in devices::properties(&resources.devices, !v2, systemd)? {
            out.put(property);
        }
        properties::of_writes(&plan.writes, target, &mut out)?;
        if !out.has("TasksMax") {
            // systemd's own default is a part of what the machine can run. No limit means none here, as without it.
            out.set("TasksMax", INFINITY);
        }
        unit.properties = out.0;
        Ok((plan, unit))
    }

    /// What an update is for systemd (to be set "at runtime"), and the limits to give to [`update`](Cgroups::update)
    /// afterwards: the quota in them is the one that systemd can hold. On v1 systemd denies every device for a moment
    /// when it is given other rules: the container should stand still meanwhile.
    ///
    /// # Errors
    /// As for [`update`](Cgroups::update).
    pub fn update_unit(
        &self,
        path: &CgroupPath,
        resources: &Resources,
        systemd: u32,
    ) -> Result<(Resources, Vec<UnitProperty>)> {
        let resources = self.agreed(path, &self.checked(path, resources)?);
        let v2 = self.mode() == Mode::V2;
        let target = Target {
            v2,
            systemd,
            new_scope: false,
        };
        let mut out = Properties::default();
        properties::of_writes(&limits(&self.tree, path, &resources)?, target, &mut out)?;
        if !resources.devices.is_empty() {
            out.0.extend(devices::change(&resources.devices, !v2, systemd)?);
        }
        Ok((resources, out.0))
    }

    /// The limits with a CPU quota that systemd writes as we do: in whole percents.
    fn agreed(&self, path: &CgroupPath, resources: &Resources) -> Resources {
        let mut resources = resources.clone();
        let quota = resources.cpu_quota.filter(|quota| *quota != 0);
        let period = resources.cpu_period.filter(|period| *period != 0);
        if quota.is_some() || period.is_some() {
            // What is not said stays as it is.
            let (quota_now, period_now) = self.bandwidth(path);
            let quota = quota.or(quota_now);
            if let Some(quota @ 1..) = quota {
                let period = period.or(period_now).unwrap_or(DEFAULT_PERIOD);
                let (quota, period) = properties::agreed(quota.cast_unsigned(), period);
                resources.cpu_quota = Some(i64::try_from(quota).unwrap_or(i64::MAX));
                resources.cpu_period = Some(period);
            }
        }
        for (file, value) in &mut resources.unified {
            let words: Vec<u64> = value.split_whitespace().map_while(|word| word.parse().ok()).collect();
            // What is no such pair is for the kernel to refuse.
            let ("cpu.max", [quota @ (1..), rest @ ..]) = (file.as_str(), words.as_slice()) else {
                continue;
            };
            let period = rest
                .first()
                .copied()
                .or(self.bandwidth(path).1)
                .unwrap_or(DEFAULT_PERIOD);
            if words.len() == value.split_whitespace().count()
                && words.len() <= 2
                && (1_000..=1_000_000).contains(&period)
            {
                let (quota, period) = properties::agreed(*quota, period);
                *value = format!("{quota} {period}");
            }
        }
        resources
    }

    /// Quota and period in force, where there is a group: microseconds; no quota is `None`.
    fn bandwidth(&self, path: &CgroupPath) -> (Option<i64>, Option<u64>) {
        let (quota, period) = match self.tree.place("cpu", path) {
            Some(Place::V2(folder)) => {
                let text = fs::read_to_string(folder.join("cpu.max")).unwrap_or_default();
                let mut words = text.split_whitespace();
                let quota = words.next().and_then(|word| word.parse().ok());
                (quota, words.next().and_then(|word| word.parse().ok()))
            }
            Some(Place::V1(folder)) => {
                let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
                let quota = read("cpu.cfs_quota_us").and_then(|text| text.trim().parse().ok());
                (
                    quota,
                    read("cpu.cfs_period_us").and_then(|text| text.trim().parse().ok()),
                )
            }
            None => (None, None),
        };
        (quota.filter(|quota: &i64| *quota > 0), period)
    }

    /// systemd enables at the root what its units use; huge pages are none of that, and the plan's own writes begin
    /// below it.
    fn enable_at_the_root(&self, resources: &Resources, plan: &mut CgroupPlan) {
        let Some(root) = &self.tree.v2 else { return };
        let wanted: Vec<String> = v2::wanted(&self.tree, resources)
            .iter()
            .map(|name| format!("+{name}"))
            .collect();
        if !wanted.is_empty() {
            let write = CgroupWrite {
                path: root.join("cgroup.subtree_control"),
                value: wanted.join(" "),
                optional: false,
            };
            plan.parent_writes.insert(0, write);
        }
    }
}

/// What every container's unit has.
fn fixed(target: Target, out: &mut Properties) {
    if target.new_scope {
        // The groups below are the container's own affair, and systemd keeps its hands off the files of this one.
        out.set("Delegate", true);
        if target.systemd >= COLLECT_MODE {
            // One that failed (stopped by force, out of memory) would stay loaded and hold its name. How a container
            // ended is in the runtime's own records.
            out.set("CollectMode", "inactive-or-failed");
        }
    }
    // Not before others at the start, nor stopped before them at the end: the daemon's shutdown decides.
    out.set("DefaultDependencies", false);
    let io = if target.v2 { "IOAccounting" } else { "BlockIOAccounting" };
    for name in ["CPUAccounting", "MemoryAccounting", io, "TasksAccounting"] {
        // A controller that is enabled later does not count what was before.
        out.set(name, true);
    }
}

#[cfg(test)]
mod tests;
