//! The files of v2, and the controllers enabled on the way to them.

use super::detect::{Tree, V2_WANTED};
use super::limits::Writes;
use super::{CgroupError, CgroupPath, Resources, Result, io_error, make_group};
use std::fs;
use std::path::Path;

/// Where processes of a delegated root go that stand in the way of enabling controllers.
const LEAF: &str = "iechor-host";

/// The controllers to enable for a container that asks for `resources`, of those that the kernel has on v2.
pub(super) fn wanted(tree: &Tree, resources: &Resources) -> Vec<String> {
    let asked = resources.controllers();
    let further = asked.into_iter().filter(|name| !V2_WANTED.contains(name));
    V2_WANTED
        .into_iter()
        .chain(further)
        .filter(|name| tree.v2_controllers.contains(*name))
        .map(str::to_owned)
        .collect()
}

/// Makes the parent, with the controllers `wanted` enabled on the way down and for its children.
pub(super) fn prepare(tree: &Tree, parent: &CgroupPath, wanted: &[String]) -> Result<()> {
    let root = prepare_root(tree, wanted)?;
    for folder in parent.chain(root) {
        make_group(&folder)?;
        enable(&folder, root, wanted)?;
    }
    Ok(())
}

/// As [`prepare`], for groups right below the root, which is returned.
pub(super) fn prepare_root<'a>(tree: &'a Tree, wanted: &[String]) -> Result<&'a Path> {
    let root = tree.v2.as_deref().ok_or(CgroupError::NoneMounted)?;
    enable(root, root, wanted)?;
    Ok(root)
}

/// Enables for the children of `folder` what is wanted, offered, and not yet enabled.
fn enable(folder: &Path, root: &Path, wanted: &[String]) -> Result<()> {
    let read = |name: &str| {
        let file = folder.join(name);
        fs::read_to_string(&file).map_err(|error| io_error("read", &file, error))
    };
    let (offered, enabled) = (read("cgroup.controllers")?, read("cgroup.subtree_control")?);
    let has = |list: &str, name: &str| list.split_whitespace().any(|other| other == name);
    let missing: Vec<String> = wanted
        .iter()
        .filter(|name| has(&offered, name) && !has(&enabled, name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let file = folder.join("cgroup.subtree_control");
    let value = missing.join(" ");
    let enabled = match fs::write(&file, &value) {
        // No process may be in a group whose children have controllers. The machine's root is exempt; so this is a
        // delegated one (a container's, or a service's), and the processes in it are ours or our neighbours'.
        Err(error) if error.raw_os_error() == Some(libc_ebusy()) && folder == root => {
            evacuate(folder)?;
            fs::write(&file, &value)
        }
        other => other,
    };
    enabled.map_err(|source| CgroupError::Write {
        value,
        path: file,
        source,
    })
}

fn libc_ebusy() -> i32 {
    nix::errno::Errno::EBUSY as i32
}

/// Moves every process of `folder` into a leaf below it.
fn evacuate(folder: &Path) -> Result<()> {
    let leaf = folder.join(LEAF);
    make_group(&leaf)?;
    let (from, to) = (folder.join("cgroup.procs"), leaf.join("cgroup.procs"));
    // New ones can be forked while we move; they go with the next round.
    for _ in 0..10 {
        let processes = fs::read_to_string(&from).map_err(|error| io_error("read", &from, error))?;
        // A 0 stands for a process outside our pid namespace: it cannot be moved from here.
        let processes: Vec<&str> = processes.lines().filter(|line| *line != "0").collect();
        if processes.is_empty() {
            return Ok(());
        }
        for process in processes {
            match fs::write(&to, process) {
                Err(error) if error.raw_os_error() != Some(nix::errno::Errno::ESRCH as i32) => {
                    return Err(CgroupError::Write {
                        value: process.into(),
                        path: to,
                        source: error,
                    });
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn unsupported(field: &str) -> Result<()> {
    Err(CgroupError::Unsupported {
        what: field.into(),
        place: "on cgroup v2",
    })
}

pub(super) fn cpu(writes: &mut Writes<'_>, resources: &Resources) -> Result<()> {
    if resources.cpu_rt_period.is_some_and(|period| period != 0) {
        return unsupported("linux.resources.cpu.realtimePeriod");
    }
    if resources.cpu_rt_runtime.is_some_and(|runtime| runtime != 0) {
        return unsupported("linux.resources.cpu.realtimeRuntime");
    }
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
        writes.put("cpu.weight", weight_of_shares(shares));
    }
    if idle == Some(true) {
        writes.put("cpu.idle", 1);
    }
    bandwidth(writes, resources)
}

fn bandwidth(writes: &mut Writes<'_>, resources: &Resources) -> Result<()> {
    let burst = resources.cpu_burst;
    if burst.is_some() {
        writes.need("cpu.max.burst", "linux.resources.cpu.burst")?;
    }
    // The kernel wants burst ≤ quota at every step: a smaller burst goes first, a larger one last.
    let first = burst.is_some_and(|burst| {
        let now = writes.number("cpu.max.burst").unwrap_or(0);
        i64::try_from(burst).is_ok_and(|burst| burst < now)
    });
    if let Some(burst) = burst.filter(|_| first) {
        writes.put("cpu.max.burst", burst);
    }
    let period = resources.cpu_period.filter(|period| *period != 0);
    let quota = resources.cpu_quota.filter(|quota| *quota != 0);
    if period.is_some() || quota.is_some() {
        // With one number the kernel keeps the period; a new period needs the quota in force beside it.
        let quota = match quota {
            Some(quota @ 1..) => quota.to_string(),
            Some(_) => "max".into(),
            None => writes.now("cpu.max").unwrap_or_else(|| "max".into()),
        };
        match period {
            Some(period) => writes.put("cpu.max", format!("{quota} {period}")),
            None => writes.put("cpu.max", quota),
        }
    }
    if let Some(burst) = burst.filter(|_| !first) {
        writes.put("cpu.max.burst", burst);
    }
    Ok(())
}

pub(super) fn memory(writes: &mut Writes<'_>, resources: &Resources) -> Result<()> {
    // runc passes these over on v2. A limit that is not held is worse than an error that says so.
    if resources.swappiness.is_some() {
        return unsupported("linux.resources.memory.swappiness");
    }
    if resources.oom_kill_disable {
        return unsupported("linux.resources.memory.disableOOMKiller");
    }
    if resources.kernel_tcp.is_some_and(|limit| limit > 0) {
        return unsupported("linux.resources.memory.kernelTCP");
    }
    let limit = |value: i64| if value < 0 { "max".to_owned() } else { value.to_string() };
    let memory = resources.memory.filter(|limit| *limit != 0);
    let swap = resources.memory_swap.filter(|limit| *limit != 0).or(match memory {
        Some(-1) => Some(-1), // no limit on the part: none on the sum, as on v1
        _ => None,
    });
    if let Some(sum) = swap {
        // v2 counts swap alone, v1 (and OCI) memory and swap together.
        let alone = match (sum, memory) {
            (-1, _) => -1,
            (sum, Some(memory)) => sum - memory,
            (sum, None) => sum,
        };
        let parent = writes.group.parent();
        let accounted =
            parent.is_none_or(|parent| parent.join("memory.swap.max").exists() || !parent.join("memory.max").exists());
        if accounted {
            writes.put("memory.swap.max", limit(alone));
        } else if resources.memory_swap.is_some_and(|limit| limit > 0) && !resources.swap_is_default {
            return Err(CgroupError::Unsupported {
                what: "linux.resources.memory.swap".into(),
                place: "by this kernel",
            });
        }
    }
    if let Some(memory) = memory {
        writes.put("memory.max", limit(memory));
    }
    match resources.memory_reservation {
        None | Some(0) => {}
        Some(reservation) => writes.put("memory.low", reservation.max(0)),
    }
    if let Some(group) = resources.oom_group {
        writes.put("memory.oom.group", u8::from(group));
    }
    Ok(())
}

pub(super) fn block_io(writes: &mut Writes<'_>, resources: &Resources) -> Result<()> {
    if resources.blkio_leaf_weight.is_some_and(|weight| weight != 0) {
        return unsupported("linux.resources.blockIO.leafWeight");
    }
    if resources
        .blkio_leaf_weight_device
        .iter()
        .any(|device| device.weight != 0)
    {
        return unsupported("linux.resources.blockIO.weightDevice.leafWeight");
    }
    // BFQ has a file and a scale (1 to 1,000) of its own.
    let bfq = writes.has("io.bfq.weight");
    let file = if bfq { "io.bfq.weight" } else { "io.weight" };
    let scale = |weight: u16| if bfq { u64::from(weight) } else { io_weight(weight) };
    if let Some(weight @ 1..) = resources.blkio_weight {
        writes.put(file, format!("default {}", scale(weight)));
    }
    for device in resources.blkio_weight_device.iter().filter(|device| device.weight != 0) {
        writes.put(
            file,
            format!("{}:{} {}", device.major, device.minor, scale(device.weight)),
        );
    }
    for (_, key, throttles) in resources.throttles() {
        for throttle in throttles {
            let rate = match throttle.rate {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            writes.put("io.max", format!("{}:{} {key}={rate}", throttle.major, throttle.minor));
        }
    }
    Ok(())
}

/// v1 shares (2 to 262,144, default 1,024) → v2 weight (1 to 10,000, default 100).
///
/// runc's newer curve: it keeps the minimum, the maximum *and* the default where they are. (The older straight line
/// made 39 of 1,024, so that a container with the default was weaker than any other group of the machine.)
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// v1 block IO weight (10 to 1,000) → v2 (1 to 10,000), a straight line as in runc.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).max(10) - 10) * 9_999 / 990
}
