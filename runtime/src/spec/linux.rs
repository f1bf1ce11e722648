//! The `linux` part of a configuration: namespaces, devices, settings.

use super::{Result, SpecError, check_path, invalid, unsupported};
use crate::defaults;
use crate::plan::{Device, DeviceKind, JoinedNamespace, Namespaces};
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType, LinuxNamespaceType};
use std::path::PathBuf;

pub(super) fn refuse(linux: &Linux) -> Result<()> {
    let text = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.is_empty());
    for (name, present) in [
        (
            "linux.netDevices",
            linux.net_devices().as_ref().is_some_and(|map| !map.is_empty()),
        ),
        (
            "linux.uidMappings",
            linux.uid_mappings().as_ref().is_some_and(|list| !list.is_empty()),
        ),
        (
            "linux.gidMappings",
            linux.gid_mappings().as_ref().is_some_and(|list| !list.is_empty()),
        ),
        ("linux.mountLabel", text(linux.mount_label())),
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.memoryPolicy", linux.memory_policy().is_some()),
        ("linux.personality", linux.personality().is_some()),
        (
            "linux.timeOffsets",
            linux.time_offsets().as_ref().is_some_and(|map| !map.is_empty()),
        ),
    ] {
        if present {
            return unsupported(name);
        }
    }
    Ok(())
}

pub(super) fn namespaces(linux: &Linux) -> Result<(Namespaces, Vec<PathBuf>)> {
    let mut out = Namespaces {
        new: 0,
        joined: Vec::new(),
    };
    let mut joined = Vec::new();
    let mut seen = 0;
    for namespace in linux.namespaces().iter().flatten() {
        let flag = match namespace.typ() {
            LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
            LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
            LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
            LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
            LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
            LinuxNamespaceType::User | LinuxNamespaceType::Time => {
                return unsupported(format!("a namespace of type {} in linux.namespaces", namespace.typ()));
            }
        };
        let kind = flag.bits() as u64;
        if seen & kind != 0 {
            return invalid("linux.namespaces", format!("{} is there twice", namespace.typ()));
        }
        seen |= kind;
        match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
            None => out.new |= kind,
            Some(_) if flag == CloneFlags::CLONE_NEWNS => {
                return unsupported("joining a mount namespace by linux.namespaces");
            }
            Some(path) => {
                check_path("linux.namespaces", path)?;
                let fd = u32::try_from(joined.len()).unwrap_or(u32::MAX);
                out.joined.push(JoinedNamespace { kind, fd });
                joined.push(path.clone());
            }
        }
    }
    if out.new & CloneFlags::CLONE_NEWNS.bits() as u64 == 0 {
        return invalid("linux.namespaces", "a container needs a mount namespace of its own");
    }
    Ok((out, joined))
}

pub(super) fn root_propagation(word: Option<&str>) -> Result<u64> {
    let rec = MsFlags::MS_REC;
    let flags = match word.unwrap_or_default() {
        "" => return Ok(0),
        "private" => MsFlags::MS_PRIVATE,
        "rprivate" => MsFlags::MS_PRIVATE | rec,
        "slave" => MsFlags::MS_SLAVE,
        "rslave" => MsFlags::MS_SLAVE | rec,
        "shared" => MsFlags::MS_SHARED,
        "rshared" => MsFlags::MS_SHARED | rec,
        "unbindable" => MsFlags::MS_UNBINDABLE,
        "runbindable" => MsFlags::MS_UNBINDABLE | rec,
        other => return invalid("linux.rootfsPropagation", format!("{other:?}")),
    };
    Ok(flags.bits())
}

/// The configuration's nodes, and those that every container has unless the configuration has another at its place.
pub(super) fn devices(linux: &Linux) -> Result<Vec<Device>> {
    let own = linux
        .devices()
        .iter()
        .flatten()
        .map(device)
        .collect::<Result<Vec<Device>>>()?;
    let mut all = defaults::devices();
    for (index, device) in own.into_iter().enumerate() {
        let later = linux.devices().iter().flatten().skip(index + 1);
        if later.clone().any(|other| *other.path() == device.path) {
            return invalid("linux.devices", format!("{} is there twice", device.path.display()));
        }
        all.retain(|default| default.path != device.path);
        all.push(device);
    }
    Ok(all)
}

fn device(device: &LinuxDevice) -> Result<Device> {
    check_path("linux.devices", device.path())?;
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Char,
        LinuxDeviceType::B => DeviceKind::Block,
        LinuxDeviceType::P => DeviceKind::Fifo,
        LinuxDeviceType::A => {
            return invalid("linux.devices", format!("{} is of type a", device.path().display()));
        }
    };
    let number = |value: i64| {
        u32::try_from(value).map_err(|_| SpecError::Invalid {
            field: "linux.devices".into(),
            why: format!("{} has the number {value}", device.path().display()),
        })
    };
    let fifo = kind == DeviceKind::Fifo;
    Ok(Device {
        path: device.path().clone(),
        kind,
        major: if fifo { 0 } else { number(device.major())? },
        minor: if fifo { 0 } else { number(device.minor())? },
        // Files in the wild say it with the bits of the file's type.
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}

/// Settings of namespaces that the container has for itself; any other would be the host's.
pub(super) fn sysctls(linux: &Linux, has: &impl Fn(CloneFlags) -> bool) -> Result<Vec<(String, String)>> {
    const IPC: [&str; 8] = [
        "kernel/msgmax",
        "kernel/msgmnb",
        "kernel/msgmni",
        "kernel/sem",
        "kernel/shmall",
        "kernel/shmmax",
        "kernel/shmmni",
        "kernel/shm_rmid_forced",
    ];
    let mut out = Vec::new();
    for (name, value) in linux.sysctl().iter().flatten() {
        // As sysctl(8): the first separator decides, so that `net/ipv4/conf/eth0.1/…` keeps its dot.
        let path = match name.find(['.', '/']) {
            Some(at) if name.as_bytes()[at] == b'.' => name
                .chars()
                .map(|c| {
                    if c == '.' {
                        '/'
                    } else if c == '/' {
                        '.'
                    } else {
                        c
                    }
                })
                .collect(),
            _ => name.clone(),
        };
        let field = || format!("linux.sysctl {name}");
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') || value.contains('\0') {
            return invalid(field(), "it is not the name of a setting");
        }
        let needed = if IPC.contains(&&*path) || path.starts_with("fs/mqueue/") {
            CloneFlags::CLONE_NEWIPC
        } else if path.starts_with("net/") {
            CloneFlags::CLONE_NEWNET
        } else if path == "kernel/domainname" {
            CloneFlags::CLONE_NEWUTS
        } else if path == "kernel/hostname" {
            return invalid(field(), "use hostname");
        } else {
            return invalid(field(), "it is a setting of the whole machine, not of a namespace");
        };
        if !has(needed) {
            return invalid(field(), "the container shares this namespace with the host");
        }
        out.push((path, value.clone()));
    }
    // A map has no order; plans of one configuration shall be equal.
    out.sort();
    Ok(out)
}
