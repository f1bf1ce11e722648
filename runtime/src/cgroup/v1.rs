//! The files of v1.

use super::detect::Tree;
use super::limits::{OOM_GROUP, Writes};
use super::{CgroupError, CgroupPath, Resources, Result, io_error, make_group};
use std::fs;
use std::path::Path;

/// Makes the parent in every hierarchy; cpuset groups get the CPUs and nodes of the group above, or nobody could join.
pub(super) fn prepare(tree: &Tree, parent: &CgroupPath) -> Result<()> {
    for hierarchy in &tree.v1 {
        let cpuset = hierarchy.controllers.iter().any(|name| name == "cpuset");
        let mut above = hierarchy.mount.clone();
        for folder in parent.chain(&hierarchy.mount) {
            make_group(&folder)?;
            if cpuset {
                inherit(&above, &folder)?;
            }
            above = folder;
        }
    }
    Ok(())
}

/// Gives a cpuset group what the one above has, where it has nothing yet.
pub(super) fn inherit(from: &Path, to: &Path) -> Result<()> {
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| io_error("read", path, error));
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (from.join(name), to.join(name));
        if read(&to)?.trim().is_empty() {
            let value = read(&from)?;
            fs::write(&to, value.trim()).map_err(|error| io_error("write", &to, error))?;
        }
    }
    Ok(())
}

pub(super) fn cpu(writes: &mut Writes<'_>, resources: &Resources) -> Result<()> {
    let idle = resources.cpu_idle;
    if idle.is_some() {
        writes.need("cpu.idle", "linux.resources.cpu.idle")?;
    }
    // The weight of an idle group is the kernel's; it takes no other.
    if idle == Some(false) {
        writes.put("cpu.idle", 0);
    }
    if let Some(shares @ 1..) = resources.cpu_shares
        && idle != Some(true)
    {
        writes.put("cpu.shares", shares);
    }
    if idle == Some(true) {
        writes.put("cpu.idle", 1);
    }
    bandwidth(writes, resources)?;
    realtime(writes, resources)
}

fn bandwidth(writes: &mut Writes<'_>, resources: &Resources) -> Result<()> {
    let burst = resources.cpu_burst;
    if burst.is_some() {
        writes.need("cpu.cfs_burst_us", "linux.resources.cpu.burst")?;
    }
    // The kernel wants burst ≤ quota at every step: a smaller burst goes first, a larger one last.
    let first = burst.is_some_and(|burst| {
        let now = writes.number("cpu.cfs_burst_us").unwrap_or(0);
        i64::try_from(burst).is_ok_and(|burst| burst < now)
    });
    if let Some(burst) = burst.filter(|_| first) {
        writes.put("cpu.cfs_burst_us", burst);
    }
    let period = resources.cpu_period.filter(|period| *period != 0);
    let quota = resources.cpu_quota.filter(|quota| *quota != 0);
    // Each write is checked alone against the parent's bandwidth: the one that lowers the rate goes first.
    let quota_first = match (period, quota) {
        (Some(period), Some(quota)) => {
            let now = writes.number("cpu.cfs_quota_us");
            let shorter = writes
                .number("cpu.cfs_period_us")
                .is_some_and(|now| (period as i64) < now);
            shorter && quota > 0 && now.is_some_and(|now| now < 0 || quota < now)
        }
        _ => false,
    };
    if let Some(quota) = quota.filter(|_| quota_first) {
        writes.put("cpu.cfs_quota_us", quota);
    }
    if let Some(period) = period {
        writes.put("cpu.cfs_period_us", period);
    }
    if let Some(quota) = quota.filter(|_| !quota_first) {
        writes.put("cpu.cfs_quota_us", quota);
    }
    if let Some(burst) = burst.filter(|_| !first) {
        writes.put("cpu.cfs_burst_us", burst);
    }
    Ok(())
}

fn realtime(writes: &mut Writes<'_>, resources: &Resources) -> Result<()> {
    let period = resources.cpu_rt_period.filter(|period| *period != 0);
    let runtime = resources.cpu_rt_runtime.filter(|runtime| *runtime != 0);
    if period.is_some() {
        writes.need("cpu.rt_period_us", "linux.resources.cpu.realtimePeriod")?;
    }
    if runtime.is_some() {
        writes.need("cpu.rt_runtime_us", "linux.resources.cpu.realtimeRuntime")?;
    }
    // As with bandwidth: runtime may not be more than the period at any step.
    let runtime_first = period.is_some_and(|period| {
        let now = writes.number("cpu.rt_period_us").unwrap_or(1_000_000);
        i64::try_from(period).is_ok_and(|period| period < now)
    });
    if let Some(runtime) = runtime.filter(|_| runtime_first) {
        writes.put("cpu.rt_runtime_us", runtime);
    }
    if let Some(period) = period {
        writes.put("cpu.rt_period_us", period);
    }
    if let Some(runtime) = runtime.filter(|_| !runtime_first) {
        writes.put("cpu.rt_runtime_us", runtime);
    }
    Ok(())
}

/// The limit of memory and swap together.
const BOTH: &str = "memory.memsw.limit_in_bytes";
const KERNEL_TCP: &str = "memory.kmem.tcp.limit_in_bytes";

/// `counts_swap`: whether the kernel accounts memory and swap together.
pub(super) fn memory(writes: &mut Writes<'_>, resources: &Resources, counts_swap: bool) -> Result<()> {
    if resources.oom_group.is_some() {
        return Err(CgroupError::Unsupported {
            what: OOM_GROUP.into(),
            place: "on cgroup v1",
        });
    }
    let memory = resources.memory.filter(|limit| *limit != 0);
    let mut swap = resources.memory_swap.filter(|limit| *limit != 0);
    if memory == Some(-1) && swap.is_none() {
        // The sum may not stay below its part.
        swap = Some(-1);
    }
    // Without swap accounting the sum cannot be held; what the user asked for is refused, our own consequence dropped.
    if !counts_swap && swap.is_some() {
        if resources.memory_swap.is_some_and(|limit| limit > 0) && !resources.swap_is_default {
            return Err(CgroupError::Unsupported {
                what: "linux.resources.memory.swap".into(),
                place: "by this kernel",
            });
        }
        swap = None;
    }
    // The kernel keeps limit ≤ sum at every step: growing, the sum goes first; shrinking, the limit does.
    let swap_first = match (writes.number(BOTH), swap) {
        (Some(_), Some(-1)) => true,
        (Some(now), Some(new)) => new > now,
        _ => false,
    };
    if let Some(swap) = swap.filter(|_| swap_first) {
        writes.put(BOTH, swap);
    }
    if let Some(memory) = memory {
        writes.put("memory.limit_in_bytes", memory);
    }
    if let Some(swap) = swap.filter(|_| !swap_first) {
        writes.put(BOTH, swap);
    }
    if let Some(reservation) = resources.memory_reservation.filter(|limit| *limit != 0) {
        writes.put("memory.soft_limit_in_bytes", reservation);
    }
    if let Some(limit) = resources.kernel_tcp.filter(|limit| *limit != 0) {
        // No limit needs no file.
        if limit > 0 {
            writes.need(KERNEL_TCP, "linux.resources.memory.kernelTCP")?;
        }
        if writes.has(KERNEL_TCP) {
            writes.put(KERNEL_TCP, limit);
        }
    }
    if let Some(swappiness) = resources.swappiness {
        writes.put("memory.swappiness", swappiness);
    }
    if resources.oom_kill_disable {
        writes.put("memory.oom_control", 1);
    }
    Ok(())
}

pub(super) fn block_io(writes: &mut Writes<'_>, resources: &Resources) -> Result<()> {
    // The files belong to the scheduler in use: CFQ's have no name in theirs and are gone since Linux 5.0.
    for (field, files, whole, devices) in [
        (
            "linux.resources.blockIO.weight",
            &[
                ("blkio.weight", "blkio.weight_device"),
                ("blkio.bfq.weight", "blkio.bfq.weight_device"),
            ][..],
            resources.blkio_weight,
            &resources.blkio_weight_device,
        ),
        (
            "linux.resources.blockIO.leafWeight",
            &[("blkio.leaf_weight", "blkio.leaf_weight_device")],
            resources.blkio_leaf_weight,
            &resources.blkio_leaf_weight_device,
        ),
    ] {
        let whole = whole.filter(|weight| *weight != 0);
        let devices: Vec<_> = devices.iter().filter(|device| device.weight != 0).collect();
        if whole.is_none() && devices.is_empty() {
            continue;
        }
        let Some((all, single)) = files.iter().find(|(file, _)| writes.has(file)) else {
            return Err(CgroupError::Unsupported {
                what: field.into(),
                place: "by this kernel",
            });
        };
        if let Some(weight) = whole {
            writes.put(all, weight);
        }
        for device in devices {
            writes.put(single, format!("{}:{} {}", device.major, device.minor, device.weight));
        }
    }
    for (file, _, throttles) in resources.throttles() {
        for throttle in throttles {
            writes.put(file, format!("{}:{} {}", throttle.major, throttle.minor, throttle.rate));
        }
    }
    Ok(())
}

pub(super) fn net_class(writes: &mut Writes<'_>, resources: &Resources) {
    if let Some(class) = resources.net_class {
        writes.put("net_cls.classid", class);
    }
}

pub(super) fn net_priorities(writes: &mut Writes<'_>, resources: &Resources) {
    for priority in &resources.net_priorities {
        writes.put(
            "net_prio.ifpriomap",
            format!("{} {}", priority.interface, priority.priority),
        );
    }
}
