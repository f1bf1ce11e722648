//! Limits, device nodes and device rules.

use std::path::PathBuf;

use runtime::cgroup::{DeviceRule, Resources as Limits, Throttle, WeightDevice};
use runtime::defaults;
use runtime::plan::{Device, DeviceKind};

use crate::Engine;
use crate::container::spec::{self, DeviceLimit, HostConfig, Resources};
use crate::error::{Error, Result};

impl Engine {
    /// Device nodes: the default ones and `--device`; all of the host's for a privileged container.
    pub(super) fn devices(&self, host: &HostConfig) -> Result<Vec<Device>> {
        let mut devices: Vec<Device> = defaults::devices();
        if host.privileged {
            for device in host_devices() {
                if !devices.iter().any(|own| own.path == device.path) {
                    devices.push(device);
                }
            }
        }
        for asked in &host.resources.devices {
            for device in device_nodes(asked)? {
                devices.retain(|own| own.path != device.path);
                devices.push(device);
            }
        }
        Ok(devices)
    }
}

/// Limits and device rules for the cgroup.
pub(super) fn limits(resources: &Resources, privileged: bool, devices: &[Device]) -> Result<Limits> {
    let some = |value: i64| (value != 0).then_some(value);
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let mut limits = Limits {
        cpu_shares: some(resources.cpu_shares).map(i64::unsigned_abs),
        cpu_quota: some(resources.cpu_quota),
        cpu_period: some(resources.cpu_period).map(i64::unsigned_abs),
        cpuset_cpus: text(&resources.cpuset_cpus),
        cpuset_mems: text(&resources.cpuset_mems),
        memory: some(resources.memory),
        memory_swap: match (resources.memory, resources.memory_swap) {
            // Docker's default: as much swap again as memory.
            (memory, 0) if memory > 0 => Some(memory.saturating_mul(2)),
            (_, swap) => some(swap),
        },
        swap_is_default: resources.memory_swap == 0,
        memory_reservation: some(resources.memory_reservation),
        swappiness: resources.memory_swappiness.and_then(|value| u64::try_from(value).ok()),
        oom_kill_disable: resources.oom_kill_disable.unwrap_or(false),
        pids: resources.pids_limit.filter(|limit| *limit != 0),
        blkio_weight: (resources.blkio_weight != 0).then_some(resources.blkio_weight),
        blkio_weight_device: weights(&resources.blkio_weight_device)?,
        read_bps: throttles(&resources.read_bps)?,
        write_bps: throttles(&resources.write_bps)?,
        read_iops: throttles(&resources.read_iops)?,
        write_iops: throttles(&resources.write_iops)?,
        ..Limits::default()
    };
    if resources.nano_cpus > 0 {
        limits.set_nano_cpus(resources.nano_cpus.unsigned_abs());
    }
    limits.devices = if privileged {
        vec![DeviceRule::all(true)]
    } else {
        defaults::device_rules()
    };
    if !privileged {
        for asked in &resources.devices {
            for node in devices.iter().filter(|node| node.path.starts_with(in_container(asked))) {
                let kind = if node.kind == DeviceKind::Block { 'b' } else { 'c' };
                let access = if asked.cgroup_permissions.is_empty() {
                    "rwm"
                } else {
                    &asked.cgroup_permissions
                };
                limits.devices.push(DeviceRule::parse(
                    true,
                    &format!("{kind} {}:{} {access}", node.major, node.minor),
                )?);
            }
        }
        for rule in &resources.device_cgroup_rules {
            limits.devices.push(DeviceRule::parse(true, rule)?);
        }
    }
    Ok(limits)
}

/// Major and minor number of a block device; the words are Docker's.
fn block_device(path: &str) -> Result<(u32, u32)> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let gather = |error| Error::invalid(format!("cannot gather device information for \"{path}\": {error}"));
    let meta = std::fs::metadata(path).map_err(gather)?;
    if !meta.file_type().is_block_device() {
        return Err(Error::invalid(format!("{path} is not a block device")));
    }
    let number = |part: u64| u32::try_from(part).unwrap_or(u32::MAX);
    Ok((
        number(nix::sys::stat::major(meta.rdev())),
        number(nix::sys::stat::minor(meta.rdev())),
    ))
}

fn weights(devices: &[DeviceLimit]) -> Result<Vec<WeightDevice>> {
    let weight = |device: &DeviceLimit| {
        let (major, minor) = block_device(&device.path)?;
        Ok(WeightDevice {
            major,
            minor,
            weight: u16::try_from(device.value).unwrap_or(u16::MAX),
        })
    };
    devices.iter().map(weight).collect()
}

fn throttles(devices: &[DeviceLimit]) -> Result<Vec<Throttle>> {
    let throttle = |device: &DeviceLimit| {
        let (major, minor) = block_device(&device.path)?;
        Ok(Throttle {
            major,
            minor,
            rate: device.value,
        })
    };
    devices.iter().map(throttle).collect()
}

/// Only the limits in which `new` differs from `old`; device rules are not touched.
pub(crate) fn changed_limits(old: &Resources, new: &Resources) -> Result<Limits> {
    let (old, new) = (limits(old, true, &[])?, limits(new, true, &[])?);
    fn change<T: PartialEq>(old: Option<T>, new: Option<T>) -> Option<T> {
        if old == new { None } else { new }
    }
    fn changed<T: PartialEq>(old: &[T], new: Vec<T>) -> Vec<T> {
        new.into_iter().filter(|limit| !old.contains(limit)).collect()
    }
    Ok(Limits {
        cpu_shares: change(old.cpu_shares, new.cpu_shares),
        cpu_quota: change(old.cpu_quota, new.cpu_quota),
        cpu_period: change(old.cpu_period, new.cpu_period),
        cpuset_cpus: change(old.cpuset_cpus, new.cpuset_cpus),
        cpuset_mems: change(old.cpuset_mems, new.cpuset_mems),
        // The kernel's order of the two writes depends on both.
        memory: if (old.memory, old.memory_swap) == (new.memory, new.memory_swap) {
            None
        } else {
            new.memory
        },
        memory_swap: if (old.memory, old.memory_swap) == (new.memory, new.memory_swap) {
            None
        } else {
            new.memory_swap
        },
        memory_reservation: change(old.memory_reservation, new.memory_reservation),
        swappiness: change(old.swappiness, new.swappiness),
        pids: change(old.pids, new.pids),
        blkio_weight: change(old.blkio_weight, new.blkio_weight),
        blkio_weight_device: changed(&old.blkio_weight_device, new.blkio_weight_device),
        read_bps: changed(&old.read_bps, new.read_bps),
        write_bps: changed(&old.write_bps, new.write_bps),
        read_iops: changed(&old.read_iops, new.read_iops),
        write_iops: changed(&old.write_iops, new.write_iops),
        ..Limits::default()
    })
}

/// What takes [`changed_limits`] from `old` to `new` back, and the names of limits that only a new group would take back. What
/// was not limited before is given the kernel's default: left out, it would stay as it is.
pub(crate) fn restored_limits(old: &Resources, new: &Resources) -> Result<(Limits, Vec<&'static str>)> {
    let mut back = changed_limits(new, old)?;
    let (old, new) = (limits(old, true, &[])?, limits(new, true, &[])?);
    fn free<T>(back: &mut Option<T>, old: &Option<T>, new: &Option<T>, default: T) {
        if old.is_none() && new.is_some() {
            *back = Some(default);
        }
    }
    free(&mut back.cpu_shares, &old.cpu_shares, &new.cpu_shares, 1024);
    free(&mut back.cpu_quota, &old.cpu_quota, &new.cpu_quota, -1);
    free(&mut back.cpu_period, &old.cpu_period, &new.cpu_period, 0);
    free(&mut back.memory, &old.memory, &new.memory, -1);
    free(&mut back.memory_swap, &old.memory_swap, &new.memory_swap, -1);
    let reservation = (&old.memory_reservation, &new.memory_reservation);
    free(&mut back.memory_reservation, reservation.0, reservation.1, -1);
    free(&mut back.pids, &old.pids, &new.pids, -1);
    for (back, old, new) in [
        (&mut back.read_bps, &old.read_bps, &new.read_bps),
        (&mut back.write_bps, &old.write_bps, &new.write_bps),
        (&mut back.read_iops, &old.read_iops, &new.read_iops),
        (&mut back.write_iops, &old.write_iops, &new.write_iops),
    ] {
        let place = |limit: &Throttle| (limit.major, limit.minor);
        let added = new
            .iter()
            .filter(|limit| old.iter().all(|own| place(own) != place(limit)));
        back.extend(added.map(|limit| Throttle { rate: 0, ..*limit }));
    }
    // Their defaults are the parent's, or depend on the scheduler of the disk.
    let weighed = |limit: &WeightDevice| {
        let same = |own: &WeightDevice| (own.major, own.minor) == (limit.major, limit.minor);
        !old.blkio_weight_device.iter().any(same)
    };
    let stay = [
        (old.cpuset_cpus.is_none() && new.cpuset_cpus.is_some(), "CPUs"),
        (old.cpuset_mems.is_none() && new.cpuset_mems.is_some(), "memory nodes"),
        (old.swappiness.is_none() && new.swappiness.is_some(), "swappiness"),
        (
            old.blkio_weight.is_none() && new.blkio_weight.is_some() || new.blkio_weight_device.iter().any(weighed),
            "block I/O weight",
        ),
    ];
    let stay = stay.into_iter().filter(|(stays, _)| *stays).map(|(_, name)| name);
    Ok((back, stay.collect()))
}

pub(super) fn in_container(device: &spec::Device) -> PathBuf {
    PathBuf::from(if device.path_in_container.is_empty() {
        &device.path_on_host
    } else {
        &device.path_in_container
    })
}

/// The node, or all nodes of a folder, that `--device` names.
pub(super) fn device_nodes(asked: &spec::Device) -> Result<Vec<Device>> {
    let path = PathBuf::from(&asked.path_on_host);
    let missing = |source| Error::Io {
        doing: format!("gather device information for \"{}\"", asked.path_on_host),
        source,
    };
    let meta = std::fs::metadata(&path).map_err(missing)?;
    let mut nodes = Vec::new();
    if meta.is_dir() {
        collect_devices(&path, &in_container(asked), &mut nodes);
    } else if let Some(device) = device_of(&meta, in_container(asked)) {
        nodes.push(device);
    }
    if nodes.is_empty() {
        return Err(Error::invalid(format!(
            "error gathering device information: not a device node: {}",
            asked.path_on_host
        )));
    }
    Ok(nodes)
}

/// The nodes that `--device` names: where they are on the host, and in the container.
pub(crate) fn asked_nodes(host: &HostConfig) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut nodes = Vec::new();
    for asked in &host.resources.devices {
        let (source, target) = (PathBuf::from(&asked.path_on_host), in_container(asked));
        for node in device_nodes(asked)? {
            let below = node.path.strip_prefix(&target).unwrap_or(&node.path);
            let source = match below.as_os_str().is_empty() {
                true => source.clone(),
                false => source.join(below),
            };
            nodes.push((source, node.path));
        }
    }
    Ok(nodes)
}

pub(super) fn device_of(meta: &std::fs::Metadata, path: PathBuf) -> Option<Device> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => DeviceKind::Char,
        kind if kind.is_block_device() => DeviceKind::Block,
        _ => return None,
    };
    Some(Device {
        path,
        kind,
        major: nix::sys::stat::major(meta.rdev()) as u32,
        minor: nix::sys::stat::minor(meta.rdev()) as u32,
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
    })
}

pub(super) fn collect_devices(folder: &std::path::Path, target: &std::path::Path, nodes: &mut Vec<Device>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (path, target) = (entry.path(), target.join(entry.file_name()));
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => collect_devices(&path, &target, nodes),
            Ok(meta) => nodes.extend(device_of(&meta, target)),
            Err(_) => {}
        }
    }
}

/// Every device of the host but those that the container has instances of its own of.
pub(super) fn host_devices() -> Vec<Device> {
    let mut nodes = Vec::new();
    let Ok(entries) = std::fs::read_dir("/dev") else {
        return nodes;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if ["pts", "shm", "fd", "mqueue", "console", "ptmx"]
            .iter()
            .any(|own| name == *own)
        {
            continue;
        }
        let (path, target) = (entry.path(), PathBuf::from("/dev").join(&name));
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => collect_devices(&path, &target, &mut nodes),
            Ok(meta) => nodes.extend(device_of(&meta, target)),
            Err(_) => {}
        }
    }
    nodes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn resources() -> impl Strategy<Value = Resources> {
        let some = || prop_oneof![Just(0i64), 1i64..1000];
        (some(), some(), some(), some(), proptest::option::of(1i64..100)).prop_map(
            |(shares, quota, memory, reservation, pids)| Resources {
                cpu_shares: shares,
                cpu_quota: quota * 1000,
                memory: memory << 20,
                memory_reservation: reservation << 20,
                pids_limit: pids,
                ..Resources::default()
            },
        )
    }

    /// What is in force after a change; a default counts as no limit.
    fn after(before: &Limits, change: &Limits) -> Limits {
        let mut now = before.clone();
        now.cpu_shares = change.cpu_shares.or(now.cpu_shares).filter(|shares| *shares != 1024);
        for (own, new) in [
            (&mut now.cpu_quota, change.cpu_quota),
            (&mut now.memory, change.memory),
            (&mut now.memory_swap, change.memory_swap),
            (&mut now.memory_reservation, change.memory_reservation),
            (&mut now.pids, change.pids),
        ] {
            *own = new.or(*own).filter(|limit| *limit > 0);
        }
        now
    }

    proptest! {
        #[test]
        fn what_a_change_did_is_taken_back(old in resources(), new in resources()) {
            let before = after(&limits(&old, true, &[]).unwrap(), &Limits::default());
            let changed = after(&before, &changed_limits(&old, &new).unwrap());
            let (back, stay) = restored_limits(&old, &new).unwrap();
            prop_assert_eq!(after(&changed, &back), before);
            prop_assert!(stay.is_empty());
        }
    }

    #[test]
    fn what_cannot_be_taken_back_is_named() {
        let new = Resources {
            cpuset_cpus: "0".into(),
            memory_swappiness: Some(3),
            ..Resources::default()
        };
        let (_, stay) = restored_limits(&Resources::default(), &new).unwrap();
        assert_eq!(stay, ["CPUs", "swappiness"]);
        assert!(restored_limits(&new, &new).unwrap().1.is_empty());
    }
}
