//! Plans and limits on v1.

use super::detect::{Hierarchy, Tree};
use super::{CgroupError, CgroupPath, Resources, Result, devices, io_error};
use crate::plan::{CgroupJoin, CgroupPlan, CgroupWrite};
use crate::wire::Blob;
use std::fs;
use std::path::{Path, PathBuf};

/// Makes the parent in every hierarchy; cpuset groups get the CPUs and nodes of the group above, or nobody could join.
pub(super) fn prepare(tree: &Tree, parent: &CgroupPath) -> Result<()> {
    for hierarchy in &tree.v1 {
        let cpuset = hierarchy.controllers.iter().any(|name| name == "cpuset");
        let mut above = hierarchy.mount.clone();
        for folder in parent.chain(&hierarchy.mount) {
            match fs::create_dir(&folder) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_error("make cgroup", &folder, error)),
            }
            if cpuset {
                for name in ["cpuset.cpus", "cpuset.mems"] {
                    inherit(&above, &folder, name)?;
                }
            }
            above = folder;
        }
    }
    Ok(())
}

fn inherit(from: &Path, to: &Path, name: &str) -> Result<()> {
    let (from, to) = (from.join(name), to.join(name));
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| io_error("read", path, error));
    if !read(&to)?.trim().is_empty() {
        return Ok(());
    }
    let value = read(&from)?;
    fs::write(&to, value.trim()).map_err(|error| io_error("write", &to, error))
}

pub(super) fn plan(tree: &Tree, path: &CgroupPath, resources: &Resources) -> Result<CgroupPlan> {
    let joined: Vec<&Hierarchy> = tree.joined(resources.wants_cpuset()).collect();
    let own: Vec<PathBuf> = joined.iter().map(|hierarchy| path.under(&hierarchy.mount)).collect();
    let mut writes = limits(tree, path, resources, None)?;
    if resources.wants_cpuset() {
        // Both files need a value before anybody can join; what is not asked for comes from the parent.
        let group = group(tree, path, "cpuset", "a CPU set")?;
        let parent = group.parent().unwrap_or(&group);
        for (name, wanted) in [
            ("cpuset.cpus", &resources.cpuset_cpus),
            ("cpuset.mems", &resources.cpuset_mems),
        ] {
            if wanted.is_none() {
                let file = parent.join(name);
                let value = fs::read_to_string(&file).map_err(|error| io_error("read", &file, error))?;
                writes.push(write(&group, name, value.trim()));
            }
        }
    }
    let device_writes = devices::v1_writes(&resources.devices);
    if !device_writes.is_empty() {
        let group = group(tree, path, "devices", "device rules")?;
        writes.extend(
            device_writes
                .into_iter()
                .map(|(name, value)| write(&group, name, value)),
        );
    }
    Ok(CgroupPlan {
        parents: joined.iter().flat_map(|hierarchy| parents(hierarchy, path)).collect(),
        parent_writes: Vec::new(),
        join: CgroupJoin::Tasks {
            files: own.iter().map(|folder| folder.join("tasks")).collect(),
        },
        own,
        writes,
        devices: Blob::default(),
        oom: tree
            .v1_group("memory", path)
            .map(|folder| folder.join("memory.oom_control")),
    })
}

/// The groups between the root of a hierarchy and the container's.
fn parents(hierarchy: &Hierarchy, path: &CgroupPath) -> Vec<PathBuf> {
    let mut chain = path.chain(&hierarchy.mount);
    chain.pop();
    chain
}

fn group(tree: &Tree, path: &CgroupPath, controller: &'static str, what: &'static str) -> Result<PathBuf> {
    tree.v1_group(controller, path)
        .ok_or(CgroupError::NoController { what, controller })
}

fn write(group: &Path, name: &str, value: impl ToString) -> CgroupWrite {
    CgroupWrite {
        path: group.join(name),
        value: value.to_string(),
        optional: false,
    }
}

/// What is in force of the limits whose order matters.
pub(super) struct InForce {
    /// Bytes of memory and swap together; `None` where swap is not accounted.
    pub memory_swap: Option<i64>,
    /// Microseconds.
    pub quota: i64,
    /// Microseconds.
    pub period: u64,
}

/// The writes for `resources`, in an order that the kernel accepts for a new group or, given what is in force, for a
/// running one.
pub(super) fn limits(
    tree: &Tree,
    path: &CgroupPath,
    resources: &Resources,
    now: Option<InForce>,
) -> Result<Vec<CgroupWrite>> {
    let mut out = Vec::new();
    cpu(tree, path, resources, now.as_ref(), &mut out)?;
    memory(tree, path, resources, now.as_ref(), &mut out)?;
    if let Some(limit) = resources.pids {
        let group = group(tree, path, "pids", "a process limit")?;
        out.push(write(
            &group,
            "pids.max",
            if limit > 0 { limit.to_string() } else { "max".into() },
        ));
    }
    if resources.wants_cpuset() {
        let group = group(tree, path, "cpuset", "a CPU set")?;
        for (name, value) in [
            ("cpuset.cpus", &resources.cpuset_cpus),
            ("cpuset.mems", &resources.cpuset_mems),
        ] {
            out.extend(value.as_ref().map(|value| write(&group, name, value)));
        }
    }
    block_io(tree, path, resources, &mut out)?;
    for (size, limit) in &resources.hugepages {
        let group = group(tree, path, "hugetlb", "a huge page limit")?;
        out.push(write(&group, &format!("hugetlb.{size}.limit_in_bytes"), limit));
    }
    if let Some((file, _)) = resources.unified.first() {
        return Err(CgroupError::Unsupported {
            what: format!("the unified resource {file:?}"),
            place: "on cgroup v1",
        });
    }
    Ok(out)
}

fn cpu(
    tree: &Tree,
    path: &CgroupPath,
    resources: &Resources,
    now: Option<&InForce>,
    out: &mut Vec<CgroupWrite>,
) -> Result<()> {
    let group = || group(tree, path, "cpu", "a CPU limit");
    if let Some(shares @ 1..) = resources.cpu_shares {
        out.push(write(&group()?, "cpu.shares", shares));
    }
    if let Some(idle) = resources.cpu_idle {
        out.push(write(&group()?, "cpu.idle", u8::from(idle)));
    }
    let period = resources.cpu_period.filter(|period| *period != 0);
    let quota = resources.cpu_quota.filter(|quota| *quota != 0);
    if period.is_some() || quota.is_some() {
        let group = group()?;
        let period_write = period.map(|period| write(&group, "cpu.cfs_period_us", period));
        let quota_write = quota.map(|quota| write(&group, "cpu.cfs_quota_us", quota));
        // Each write is checked alone against the parent's bandwidth: the one that lowers the rate goes first.
        let quota_first = match (now, period, quota) {
            (Some(now), Some(new), Some(quota)) => {
                new < now.period && quota > 0 && (now.quota < 0 || quota < now.quota)
            }
            _ => false,
        };
        if quota_first {
            out.extend(quota_write);
            out.extend(period_write);
        } else {
            out.extend(period_write);
            out.extend(quota_write);
        }
    }
    if let Some(burst) = resources.cpu_burst {
        out.push(write(&group()?, "cpu.cfs_burst_us", burst));
    }
    if let Some(period @ 1..) = resources.cpu_rt_period {
        out.push(write(&group()?, "cpu.rt_period_us", period));
    }
    if let Some(runtime) = resources.cpu_rt_runtime.filter(|runtime| *runtime != 0) {
        out.push(write(&group()?, "cpu.rt_runtime_us", runtime));
    }
    Ok(())
}

fn memory(
    tree: &Tree,
    path: &CgroupPath,
    resources: &Resources,
    now: Option<&InForce>,
    out: &mut Vec<CgroupWrite>,
) -> Result<()> {
    let group = || group(tree, path, "memory", "a memory limit");
    let memory = resources.memory.filter(|limit| *limit != 0);
    let mut swap = resources.memory_swap.filter(|limit| *limit != 0);
    if memory == Some(-1) && swap.is_none() {
        // The sum may not stay below its part.
        swap = Some(-1);
    }
    // Without swap accounting the sum cannot be held; what the user asked for is refused, our own consequence dropped.
    if !tree.v1_swap && swap.is_some() {
        if resources.memory_swap.is_some_and(|limit| limit > 0) && !resources.swap_is_default {
            return Err(CgroupError::Unsupported {
                what: "a swap limit".into(),
                place: "by this kernel",
            });
        }
        swap = None;
    }
    let memory_write = memory
        .map(|limit| Ok(write(&group()?, "memory.limit_in_bytes", limit)))
        .transpose()?;
    let swap_write = swap
        .map(|limit| Ok(write(&group()?, "memory.memsw.limit_in_bytes", limit)))
        .transpose()?;
    // The kernel keeps limit ≤ sum at every step: growing, the sum goes first; shrinking, the limit does.
    let swap_first = match (now.and_then(|now| now.memory_swap), swap) {
        (Some(_), Some(-1)) => true,
        (Some(now), Some(new)) => new > now,
        _ => false,
    };
    if swap_first {
        out.extend(swap_write);
        out.extend(memory_write);
    } else {
        out.extend(memory_write);
        out.extend(swap_write);
    }
    if let Some(reservation) = resources.memory_reservation.filter(|limit| *limit != 0) {
        out.push(write(&group()?, "memory.soft_limit_in_bytes", reservation));
    }
    if let Some(swappiness) = resources.swappiness {
        out.push(write(&group()?, "memory.swappiness", swappiness));
    }
    if resources.oom_kill_disable {
        out.push(write(&group()?, "memory.oom_control", 1));
    }
    Ok(())
}

fn block_io(tree: &Tree, path: &CgroupPath, resources: &Resources, out: &mut Vec<CgroupWrite>) -> Result<()> {
    let group = || group(tree, path, "blkio", "a block IO limit");
    let devices: Vec<_> = resources
        .blkio_weight_device
        .iter()
        .filter(|device| device.weight != 0)
        .collect();
    let weight = resources.blkio_weight.filter(|weight| *weight != 0);
    if weight.is_some() || !devices.is_empty() {
        let group = group()?;
        // The file belongs to the scheduler in use; the parent has it when the container will.
        let parent = group.parent().unwrap_or(&group);
        let names = [
            ("blkio.weight", "blkio.weight_device"),
            ("blkio.bfq.weight", "blkio.bfq.weight_device"),
        ];
        let Some((whole, single)) = names.into_iter().find(|(name, _)| parent.join(name).exists()) else {
            return Err(CgroupError::Unsupported {
                what: "a block IO weight".into(),
                place: "by this kernel",
            });
        };
        out.extend(weight.map(|weight| write(&group, whole, weight)));
        for device in devices {
            out.push(write(
                &group,
                single,
                format!("{}:{} {}", device.major, device.minor, device.weight),
            ));
        }
    }
    for (name, _, throttles) in resources.throttles() {
        for throttle in throttles {
            let value = format!("{}:{} {}", throttle.major, throttle.minor, throttle.rate);
            out.push(write(&group()?, name, value));
        }
    }
    Ok(())
}
