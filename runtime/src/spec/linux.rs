//! The `linux` part of a configuration: namespaces, devices, settings.

use super::options::propagation;
use super::{Result, SpecError, check_path, invalid};
use crate::defaults;
use crate::plan::{Device, DeviceKind, JoinedNamespace, Namespaces, NetDevice, TimeOffset};
use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType, LinuxNamespaceType};
use std::path::PathBuf;

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
            LinuxNamespaceType::User => CloneFlags::CLONE_NEWUSER,
            LinuxNamespaceType::Time => CloneFlags::from_bits_retain(TIME as i32),
        };
        let kind = flag.bits() as u64;
        if seen & kind != 0 {
            return invalid("linux.namespaces", format!("{} is there twice", namespace.typ()));
        }
        seen |= kind;
        match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
            None => out.new |= kind,
            Some(path) => {
                check_path("linux.namespaces", path)?;
                let fd = u32::try_from(joined.len()).unwrap_or(u32::MAX);
                out.joined.push(JoinedNamespace { kind, fd });
                joined.push(path.clone());
            }
        }
    }
    Ok((out, joined))
}

/// `CLONE_NEWTIME`, which `nix` lacks.
pub(super) const TIME: u64 = 0x80;

/// Clocks of a new time namespace.
pub(super) fn time_offsets(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<TimeOffset>> {
    let mut out = Vec::new();
    for (name, offset) in linux.time_offsets().iter().flatten() {
        let clock = match &**name {
            "monotonic" => nix::libc::CLOCK_MONOTONIC,
            "boottime" => nix::libc::CLOCK_BOOTTIME,
            other => return invalid("linux.timeOffsets", format!("{other:?} is not monotonic or boottime")),
        };
        let nanos = offset.nanosecs().unwrap_or(0);
        if nanos >= 1_000_000_000 {
            return invalid("linux.timeOffsets", format!("{nanos} ns are more than a second"));
        }
        out.push(TimeOffset {
            clock,
            seconds: offset.secs().unwrap_or(0),
            nanos,
        });
    }
    if !out.is_empty() && namespaces.new & TIME == 0 {
        return invalid("linux.timeOffsets", "it needs a new time namespace");
    }
    out.sort_by_key(|offset| offset.clock);
    Ok(out)
}

/// Interfaces that move into the container's network namespace.
pub(super) fn net_devices(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<NetDevice>> {
    let mut out: Vec<NetDevice> = Vec::new();
    for (name, device) in linux.net_devices().iter().flatten() {
        let new_name = device
            .name()
            .clone()
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| name.clone());
        for name in [name, &new_name] {
            // dev_valid_name() of the kernel.
            let fits = (1..16).contains(&name.len()) && !matches!(&**name, "." | "..");
            if !fits || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0') {
                return invalid("linux.netDevices", format!("{name:?} is not the name of an interface"));
            }
        }
        if out.iter().any(|other| other.new_name == new_name) {
            return invalid("linux.netDevices", format!("two interfaces shall be called {new_name}"));
        }
        out.push(NetDevice {
            name: name.clone(),
            new_name,
        });
    }
    if !out.is_empty() && !namespaces.has(CloneFlags::CLONE_NEWNET.bits() as u64) {
        return invalid(
            "linux.netDevices",
            "it needs a network namespace of the container's own",
        );
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}

pub(super) fn root_propagation(word: Option<&str>) -> Result<u64> {
    match word.unwrap_or_default() {
        "" => Ok(0),
        word => match propagation(word) {
            Some(flags) => Ok(flags.bits()),
            None => invalid("linux.rootfsPropagation", format!("{word:?}")),
        },
    }
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
    // A map has no order; plans of one configuration shall be equal. Linux resets the settings of all interfaces whenever
    // it is told whether to forward: that comes before what is said about single ones.
    out.sort_by(|a, b| {
        let of_interface = |(path, _): &(String, String)| path != "net/ipv4/ip_forward";
        (of_interface(a), a).cmp(&(of_interface(b), b))
    });
    Ok(out)
}
