//! What a container has outside of its processes: control groups, a unit of systemd, a resource class.

use std::time::Duration;

use runtime::plan::Head;
use runtime::proto::Step;
use runtime::start_error::chain;
use runtime_systemd::Manager;

use crate::failure::{Result, failure};
use crate::{cgroup, rdt};
use nix::errno::Errno;

/// Has systemd make the container's unit around its first process, then sees to what systemd does not know.
pub fn start_unit(head: &Head, pid: i32) -> Result<()> {
    let Some(unit) = &head.cgroup.systemd else {
        return Ok(());
    };
    let started = Manager::connect().and_then(|mut manager| manager.start_unit(unit, &[pid]));
    started.map_err(|error| failure(Step::Cgroup, &unit.name, Errno::UnknownErrno, chain(&error)))?;
    cgroup::make(&head.cgroup)
}

/// Removes everything; groups may stay busy with dying processes for as long as `patience`. False: something is left.
pub fn remove(head: &Head, patience: Duration) -> bool {
    if let Some(unit) = &head.cgroup.systemd {
        // A scope ends by itself when it is empty; this is for one that is not, and for slices. What systemd has no more
        // is what was wanted. A shim that has given up its rights cannot ask (docs/adr/0009).
        let _ = Manager::connect().and_then(|mut manager| manager.stop_unit(&unit.name));
    }
    let removed = cgroup::remove(&head.cgroup, patience);
    if let Some(class) = &head.rdt {
        rdt::remove(class, &head.id);
    }
    removed
}
