//! Mounts: the default ones, the three files of the network, and the user's.

use std::path::PathBuf;

use nix::mount::MsFlags;
use runtime::defaults;
use runtime::plan::{Mount, MountSource};

use super::FOR_BINDS;
use crate::Engine;
use crate::container::Record;
use crate::container::mounts::{MountKind, MountPoint, RecursiveReadOnly};
use crate::container::stage::{is_staged, place};
use crate::container::validate::{Share, ipc_share, network_share};
use crate::error::{Error, Result};

impl Engine {
    /// All mounts, parents before what lies in them.
    pub(super) fn mounts(&self, record: &Record, joined: &[u64]) -> Result<Vec<Mount>> {
        let host = &record.host;
        let own_cgroupns = host.cgroupns_mode != "host" && !host.privileged || host.cgroupns_mode == "private";
        let options = defaults::MountOptions {
            privileged: host.privileged,
            shm_size: u64::try_from(host.shm_size).unwrap_or_default(),
            v1_cgroups: self.cgroups.v1_mounts(),
            cgroup_path: (!own_cgroupns).then_some(self.cgroup_path(record)?.as_str().to_owned()),
        };
        let mut mounts = defaults::mounts(&options);
        match ipc_share(host)? {
            Share::Own if host.ipc_mode == "none" => mounts.retain(|mount| mount.target.as_os_str() != "/dev/shm"),
            Share::Own => {}
            // Shared memory is shared with the namespace: the host's, or the other container's.
            Share::Host => replace(&mut mounts, bind("/dev/shm".into(), "/dev/shm", true)),
            Share::Container(_) => {
                let namespace = joined
                    .iter()
                    .position(|kind| *kind == FOR_BINDS)
                    .and_then(|index| u32::try_from(index).ok());
                let namespace = namespace.ok_or(Error::CutOff)?;
                let mut shm = bind(PathBuf::new(), "/dev/shm", true);
                shm.source = MountSource::BindFrom {
                    namespace,
                    path: "/dev/shm".into(),
                };
                replace(&mut mounts, shm);
            }
        }
        // /dev/mqueue is mounted anew in every case: it shows the queues of whatever IPC namespace the container has.
        // What the user mounts at a default mount's place takes that place.
        mounts.retain(|mount| {
            !record
                .mounts
                .iter()
                .any(|own| own.target.as_str() == mount.target.as_os_str())
        });
        let files = match network_share(host)? {
            Share::Container(target) => self.places(&self.container(&target)?.id),
            Share::Own | Share::Host => self.places(&record.id),
        };
        for (file, target) in [
            (files.resolv_conf(), "/etc/resolv.conf"),
            (files.hosts(), "/etc/hosts"),
            (self.places(&record.id).hostname(), "/etc/hostname"),
        ] {
            // `-v file:/etc/hosts` wins.
            if file.exists() && !record.mounts.iter().any(|own| own.target == target) {
                let mut mount = bind(file, target, !host.readonly_rootfs);
                mount.flags |= 0;
                mounts.push(mount);
            }
        }
        let stage = self.places(&record.id).stage;
        for (number, point) in record.mounts.iter().enumerate() {
            let source = match is_staged(point) {
                true => place(&stage, number),
                false => point.source.clone(),
            };
            mounts.push(user_mount(point, source));
        }
        mounts.sort_by_key(|mount| mount.target.components().count());
        Ok(mounts)
    }
}

pub(super) fn replace(mounts: &mut Vec<Mount>, mount: Mount) {
    mounts.retain(|other| other.target != mount.target);
    mounts.push(mount);
}

pub(super) fn bind(path: PathBuf, target: &str, writable: bool) -> Mount {
    Mount {
        target: PathBuf::from(target),
        source: MountSource::Bind { path, recursive: true },
        flags: if writable { 0 } else { MsFlags::MS_RDONLY.bits() },
        clear: 0,
        recursive_set: 0,
        recursive_clear: 0,
        propagation: 0,
        optional: false,
        id_map: None,
    }
}

/// `MOUNT_ATTR_RDONLY` of mount_setattr(2).
pub(super) const MOUNT_ATTR_RDONLY: u64 = 1;

/// `source` is where the mount's content is now, which is not always where it belongs (see `stage`).
pub(super) fn user_mount(point: &MountPoint, source: PathBuf) -> Mount {
    let mut mount = match point.kind {
        MountKind::Tmpfs => {
            let (flags, data) = tmpfs_options(&point.tmpfs_options, point.writable);
            return Mount {
                target: PathBuf::from(&point.target),
                source: MountSource::Fs {
                    fstype: "tmpfs".into(),
                    source: "tmpfs".into(),
                    data,
                    copy_up: true,
                },
                flags,
                clear: 0,
                recursive_set: 0,
                recursive_clear: 0,
                propagation: 0,
                optional: false,
                id_map: None,
            };
        }
        MountKind::Bind | MountKind::Volume | MountKind::Image => bind(source, &point.target, point.writable),
    };
    if let MountSource::Bind { recursive, .. } = &mut mount.source {
        *recursive = point.recursive;
    }
    if !point.writable && point.kind == MountKind::Bind && point.recursive {
        match point.read_only_recursive {
            // Kernels since 5.12 can; this engine needs a newer one for other reasons.
            RecursiveReadOnly::IfPossible | RecursiveReadOnly::Force => mount.recursive_set = MOUNT_ATTR_RDONLY,
            RecursiveReadOnly::No => {}
        }
    }
    let rec = MsFlags::MS_REC;
    mount.propagation = match point.propagation.as_str() {
        "shared" => MsFlags::MS_SHARED,
        "rshared" => MsFlags::MS_SHARED | rec,
        "slave" => MsFlags::MS_SLAVE,
        "rslave" => MsFlags::MS_SLAVE | rec,
        "private" => MsFlags::MS_PRIVATE,
        _ => MsFlags::MS_PRIVATE | rec,
    }
    .bits();
    mount
}

/// Mount flags and file system options of a tmpfs; Docker's defaults first.
pub(super) fn tmpfs_options(options: &str, writable: bool) -> (u64, String) {
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if !writable {
        flags |= MsFlags::MS_RDONLY;
    }
    let mut data = Vec::new();
    for word in options.split(',').filter(|word| !word.is_empty()) {
        match word {
            "ro" => flags |= MsFlags::MS_RDONLY,
            "rw" => flags -= MsFlags::MS_RDONLY,
            "suid" => flags -= MsFlags::MS_NOSUID,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "dev" => flags -= MsFlags::MS_NODEV,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "exec" => flags -= MsFlags::MS_NOEXEC,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "nodiratime" => flags |= MsFlags::MS_NODIRATIME,
            "relatime" => flags |= MsFlags::MS_RELATIME,
            "strictatime" => flags |= MsFlags::MS_STRICTATIME,
            "sync" => flags |= MsFlags::MS_SYNCHRONOUS,
            word if word.contains('=') => data.push(word.to_owned()),
            // What is so anyway: atime, diratime, async, …
            _ => {}
        }
    }
    (flags.bits(), data.join(","))
}

/// A root that is shared with the host only where a bind asks for propagation outwards.
pub(super) fn root_propagation(mounts: &[MountPoint]) -> u64 {
    let asks = |words: [&str; 2]| mounts.iter().any(|mount| words.contains(&mount.propagation.as_str()));
    if asks(["shared", "rshared"]) {
        (MsFlags::MS_SHARED | MsFlags::MS_REC).bits()
    } else if asks(["slave", "rslave"]) {
        (MsFlags::MS_SLAVE | MsFlags::MS_REC).bits()
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tmpfs_flags_and_data() {
        let (flags, data) = tmpfs_options("size=64m,exec,mode=1777,ro", true);
        assert_eq!(data, "size=64m,mode=1777");
        let flags = MsFlags::from_bits_truncate(flags);
        assert!(flags.contains(MsFlags::MS_RDONLY | MsFlags::MS_NOSUID) && !flags.contains(MsFlags::MS_NOEXEC));
    }
}
