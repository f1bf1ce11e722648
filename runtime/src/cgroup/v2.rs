//! Plans and limits on v2.

use super::detect::{Tree, V2_WANTED};
use super::{CgroupError, CgroupPath, Resources, Result, devices, io_error};
use crate::plan::{CgroupJoin, CgroupPlan, CgroupWrite};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where processes of a delegated root go that stand in the way of enabling controllers.
const LEAF: &str = "iechor-host";

fn root(tree: &Tree) -> Result<&Path> {
    tree.v2.as_deref().ok_or(CgroupError::NoneMounted)
}

/// Makes the parent, with every controller that we use enabled on the way down and for its children.
pub(super) fn prepare(tree: &Tree, parent: &CgroupPath) -> Result<()> {
    let root = root(tree)?;
    enable(root, root)?;
    for folder in parent.chain(root) {
        match fs::create_dir(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error("make cgroup", &folder, error)),
        }
        enable(&folder, root)?;
    }
    Ok(())
}

/// Enables for the children of `folder` what we use, it offers, and is not yet enabled.
fn enable(folder: &Path, root: &Path) -> Result<()> {
    let read = |name: &str| {
        let file = folder.join(name);
        fs::read_to_string(&file).map_err(|error| io_error("read", &file, error))
    };
    let (offered, enabled) = (read("cgroup.controllers")?, read("cgroup.subtree_control")?);
    let has = |list: &str, name: &str| list.split_whitespace().any(|other| other == name);
    let missing: Vec<String> = V2_WANTED
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
    match fs::create_dir(&leaf) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io_error("make cgroup", &leaf, error)),
    }
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

pub(super) fn plan(tree: &Tree, path: &CgroupPath, resources: &Resources) -> Result<CgroupPlan> {
    let root = root(tree)?;
    let group = path.under(root);
    let mut parents = path.chain(root);
    parents.pop();
    let wanted: Vec<String> = V2_WANTED
        .iter()
        .filter(|name| tree.v2_controllers.contains(**name))
        .map(|name| format!("+{name}"))
        .collect();
    let parent_writes = parents
        .iter()
        .filter(|_| !wanted.is_empty())
        .map(|parent| CgroupWrite {
            path: parent.join("cgroup.subtree_control"),
            value: wanted.join(" "),
            optional: false,
        })
        .collect();
    Ok(CgroupPlan {
        parents,
        parent_writes,
        writes: limits(tree, path, resources)?,
        join: CgroupJoin::Into { dir: group.clone() },
        devices: devices::program(&resources.devices).into(),
        oom: tree
            .v2_controllers
            .contains("memory")
            .then(|| group.join("memory.events")),
        own: vec![group],
    })
}

/// The writes for `resources`; v2 checks nothing between files, so the order does not matter.
pub(super) fn limits(tree: &Tree, path: &CgroupPath, resources: &Resources) -> Result<Vec<CgroupWrite>> {
    let group = path.under(root(tree)?);
    let mut out = Vec::new();
    let mut put = |name: &str, value: String| {
        out.push(CgroupWrite {
            path: group.join(name),
            value,
            optional: false,
        });
    };
    let need = |controller: &'static str, what: &'static str| {
        if tree.v2_controllers.contains(controller) {
            Ok(())
        } else {
            Err(CgroupError::NoController { what, controller })
        }
    };
    let unsupported = |what: &str| {
        Err(CgroupError::Unsupported {
            what: what.into(),
            place: "on cgroup v2",
        })
    };

    if let Some(shares @ 1..) = resources.cpu_shares {
        need("cpu", "a CPU weight")?;
        put("cpu.weight", weight_of_shares(shares).to_string());
    }
    if let Some(idle) = resources.cpu_idle {
        need("cpu", "a CPU weight")?;
        put("cpu.idle", u8::from(idle).to_string());
    }
    let period = resources.cpu_period.filter(|period| *period != 0);
    let quota = resources.cpu_quota.filter(|quota| *quota != 0);
    if period.is_some() || quota.is_some() {
        need("cpu", "a CPU limit")?;
        // With one number the kernel keeps the period; a new period needs the quota in force beside it.
        let quota = match quota {
            Some(quota @ 1..) => quota.to_string(),
            Some(_) => "max".into(),
            None => fs::read_to_string(group.join("cpu.max"))
                .ok()
                .and_then(|text| text.split_whitespace().next().map(str::to_owned))
                .unwrap_or_else(|| "max".into()),
        };
        put(
            "cpu.max",
            period.map_or(quota.clone(), |period| format!("{quota} {period}")),
        );
    }
    if let Some(burst) = resources.cpu_burst {
        need("cpu", "a CPU limit")?;
        put("cpu.max.burst", burst.to_string());
    }
    if resources.cpu_rt_period.is_some_and(|period| period != 0)
        || resources.cpu_rt_runtime.is_some_and(|runtime| runtime != 0)
    {
        return unsupported("a real-time CPU limit");
    }
    memory(&group, resources, &need, &mut put)?;
    if let Some(limit) = resources.pids {
        need("pids", "a process limit")?;
        put("pids.max", if limit > 0 { limit.to_string() } else { "max".into() });
    }
    for (name, value) in [
        ("cpuset.cpus", &resources.cpuset_cpus),
        ("cpuset.mems", &resources.cpuset_mems),
    ] {
        if let Some(value) = value {
            need("cpuset", "a CPU set")?;
            put(name, value.clone());
        }
    }
    block_io(&group, resources, &need, &mut put)?;
    for (size, limit) in &resources.hugepages {
        need("hugetlb", "a huge page limit")?;
        put(&format!("hugetlb.{size}.max"), limit.to_string());
    }
    for (file, value) in &resources.unified {
        put(file, value.clone());
    }
    Ok(out)
}

fn memory(
    group: &Path,
    resources: &Resources,
    need: &impl Fn(&'static str, &'static str) -> Result<()>,
    put: &mut impl FnMut(&str, String),
) -> Result<()> {
    let unsupported = |what: &str| {
        Err(CgroupError::Unsupported {
            what: what.into(),
            place: "on cgroup v2",
        })
    };
    if resources.swappiness.is_some() {
        return unsupported("memory swappiness");
    }
    if resources.oom_kill_disable {
        return unsupported("disabling the OOM killer");
    }
    let limit = |value: i64| if value < 0 { "max".to_owned() } else { value.to_string() };
    let memory = resources.memory.filter(|limit| *limit != 0);
    let swap = resources.memory_swap.filter(|limit| *limit != 0).or(match memory {
        Some(-1) => Some(-1), // no limit on the part: none on the sum, as on v1
        _ => None,
    });
    if let Some(sum) = swap {
        need("memory", "a swap limit")?;
        // v2 counts swap alone, v1 (and OCI) memory and swap together.
        let alone = match (sum, memory) {
            (-1, _) => -1,
            (sum, Some(memory)) => sum - memory,
            (sum, None) => sum,
        };
        let accounted = group
            .parent()
            .is_none_or(|parent| parent.join("memory.swap.max").exists() || !parent.join("memory.max").exists());
        if accounted {
            put("memory.swap.max", limit(alone));
        } else if resources.memory_swap.is_some_and(|limit| limit > 0) && !resources.swap_is_default {
            return Err(CgroupError::Unsupported {
                what: "a swap limit".into(),
                place: "by this kernel",
            });
        }
    }
    if let Some(memory) = memory {
        need("memory", "a memory limit")?;
        put("memory.max", limit(memory));
    }
    if let Some(reservation) = resources.memory_reservation.filter(|limit| *limit != 0) {
        need("memory", "a memory reservation")?;
        put(
            "memory.low",
            if reservation < 0 {
                "0".into()
            } else {
                reservation.to_string()
            },
        );
    }
    Ok(())
}

fn block_io(
    group: &Path,
    resources: &Resources,
    need: &impl Fn(&'static str, &'static str) -> Result<()>,
    put: &mut impl FnMut(&str, String),
) -> Result<()> {
    let devices: Vec<_> = resources
        .blkio_weight_device
        .iter()
        .filter(|device| device.weight != 0)
        .collect();
    let weight = resources.blkio_weight.filter(|weight| *weight != 0);
    if weight.is_some() || !devices.is_empty() {
        need("io", "a block IO weight")?;
        // BFQ has a file and a scale (1 to 1,000) of its own; the parent has it when the group will.
        let bfq = group
            .parent()
            .is_some_and(|parent| parent.join("io.bfq.weight").exists());
        let name = if bfq { "io.bfq.weight" } else { "io.weight" };
        let scale = |weight: u16| if bfq { u64::from(weight) } else { io_weight(weight) };
        if let Some(weight) = weight {
            put(name, format!("default {}", scale(weight)));
        }
        for device in devices {
            put(
                name,
                format!("{}:{} {}", device.major, device.minor, scale(device.weight)),
            );
        }
    }
    for (_, key, throttles) in resources.throttles() {
        for throttle in throttles {
            need("io", "a block IO limit")?;
            let rate = if throttle.rate == 0 {
                "max".to_owned()
            } else {
                throttle.rate.to_string()
            };
            put("io.max", format!("{}:{} {key}={rate}", throttle.major, throttle.minor));
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

pub(super) fn folder(tree: &Tree, path: &CgroupPath) -> Result<PathBuf> {
    Ok(path.under(root(tree)?))
}
