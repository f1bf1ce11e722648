//! What a container gets when nobody says otherwise: Docker's devices, mounts, hidden paths.
//!
//! In terms of the [plan](crate::plan), for callers that make one themselves, and as an OCI configuration
//! ([`spec`]) for those that start from there. Capabilities: [`capabilities::DEFAULT`](crate::capabilities::DEFAULT);
//! system calls: [`Profile::docker`](crate::seccomp::Profile::docker).

mod oci;

pub use oci::spec;

use crate::cgroup::{Access, DeviceRule, DeviceType};
use crate::plan::{Device, DeviceKind, Mount, MountSource};
use nix::mount::MsFlags;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// `PATH` where neither image nor user has one.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes of `/dev/shm`.
pub const SHM_SIZE: u64 = 64 * 1024 * 1024;

/// Hidden from containers that are not privileged: hardware state, kernel memory, and side channels (thermal
/// interrupts: GHSA-6fw5-f8r9-fgfm; power: CVE-2020-8694). [`masked_paths`] adds what depends on the machine.
pub const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Shown, but not to be written, to containers that are not privileged.
pub const READONLY_PATHS: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Where v1 hierarchies are put. Its tmpfs must be writable while they are mounted, so on v1 it belongs to the
/// read-only paths of a container that is not privileged.
pub const V1_CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Links in `/dev`: path and what it says.
pub const SYMLINKS: &[(&str, &str)] = &[
    ("/dev/core", "/proc/kcore"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Device nodes: name, major, minor. All are character devices that everybody may use.
const DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// [`MASKED_PATHS`] and, per CPU that there is, its counter of thermal events.
pub fn masked_paths() -> &'static [String] {
    static PATHS: OnceLock<Vec<String>> = OnceLock::new();
    PATHS.get_or_init(|| {
        let cpus = fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
        let mut counters: Vec<String> = cpus
            .map(|cpu| cpu.path().join("thermal_throttle"))
            .filter(|counter| counter.is_dir())
            .filter_map(|counter| counter.to_str().map(str::to_owned))
            .collect();
        counters.sort();
        MASKED_PATHS
            .iter()
            .map(|path| (*path).to_owned())
            .chain(counters)
            .collect()
    })
}

/// The device nodes that every container has.
pub fn devices() -> Vec<Device> {
    DEVICES
        .iter()
        .map(|&(path, major, minor)| Device {
            path: PathBuf::from(path),
            kind: DeviceKind::Char,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect()
}

/// What a container that is not privileged may do with devices: make any node, and use those that it has by default.
pub fn device_rules() -> Vec<DeviceRule> {
    let mut rules = vec![DeviceRule::all(false)];
    rules.extend(always_allowed());
    rules
}

/// Without these no container works; they come behind whatever an OCI configuration denies.
pub(crate) fn always_allowed() -> impl Iterator<Item = DeviceRule> {
    let rule = |kind, major, minor, access| DeviceRule {
        allow: true,
        kind,
        major,
        minor,
        access,
    };
    let node = move |major, minor| rule(DeviceType::Char, Some(major), minor, Access::ALL);
    let make = [
        rule(DeviceType::Char, None, None, Access::MKNOD),
        rule(DeviceType::Block, None, None, Access::MKNOD),
    ];
    let nodes = DEVICES.iter().map(move |&(_, major, minor)| node(major, Some(minor)));
    // The console, the terminal multiplexer and terminals.
    make.into_iter()
        .chain(nodes)
        .chain([node(5, Some(1)), node(5, Some(2)), node(136, None)])
}

/// What the default mounts depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// `/sys` and the cgroups may be written.
    pub privileged: bool,
    /// Bytes of `/dev/shm`; 0 is [`SHM_SIZE`].
    pub shm_size: u64,
    /// [`Cgroups::v1_mounts`](crate::cgroup::Cgroups::v1_mounts); empty on v2.
    pub v1_cgroups: Vec<(PathBuf, String)>,
    /// The container's group, for a container that has no cgroup namespace of its own: on v1 it is shown its own
    /// groups all the same, on v2 it sees the host's tree.
    pub cgroup_path: Option<String>,
}

/// The default mounts, in the order in which they are made.
pub fn mounts(options: &MountOptions) -> Vec<Mount> {
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    let readonly = if options.privileged {
        MsFlags::empty()
    } else {
        MsFlags::MS_RDONLY
    };
    let shm_size = if options.shm_size == 0 {
        SHM_SIZE
    } else {
        options.shm_size
    };
    let mut mounts = vec![
        fs_mount("/proc", "proc", "", safe),
        fs_mount(
            "/dev",
            "tmpfs",
            "mode=755,size=65536k",
            MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME,
        ),
        // Group 5 is `tty` everywhere.
        fs_mount(
            "/dev/pts",
            "devpts",
            "newinstance,ptmxmode=0666,mode=0620,gid=5",
            MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        ),
        fs_mount("/sys", "sysfs", "", safe | readonly),
    ];
    if options.v1_cgroups.is_empty() {
        mounts.push(fs_mount("/sys/fs/cgroup", "cgroup2", "", safe | readonly));
    } else {
        v1_cgroups(options, safe, readonly, &mut mounts);
    }
    let mut mqueue = fs_mount("/dev/mqueue", "mqueue", "", safe);
    // A kernel without POSIX queues is no reason not to start.
    mqueue.optional = true;
    mounts.push(mqueue);
    mounts.push(fs_mount(
        "/dev/shm",
        "tmpfs",
        &format!("mode=1777,size={shm_size}"),
        safe,
    ));
    mounts
}

/// A tmpfs with a folder per controller. Hierarchies of several controllers appear under each name and under their own.
fn v1_cgroups(options: &MountOptions, safe: MsFlags, readonly: MsFlags, mounts: &mut Vec<Mount>) {
    mounts.push(fs_mount(V1_CGROUP_ROOT, "tmpfs", "mode=755,size=64k", safe));
    for (mount_point, controllers) in &options.v1_cgroups {
        let own_name = mount_point
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or(controllers);
        let mut names: Vec<&str> = controllers.split(',').collect();
        if !names.contains(&own_name) {
            names.push(own_name);
        }
        for name in names {
            let target = Path::new(V1_CGROUP_ROOT).join(name);
            mounts.push(match &options.cgroup_path {
                Some(group) => Mount {
                    target,
                    source: MountSource::Bind {
                        path: mount_point.join(group.trim_start_matches('/')),
                        recursive: false,
                    },
                    flags: (safe | readonly).bits(),
                    clear: 0,
                    recursive_set: 0,
                    recursive_clear: 0,
                    propagation: 0,
                    // A hierarchy that this container did not join.
                    optional: true,
                    id_map: None,
                },
                None => fs_mount(target, "cgroup", controllers, safe | readonly),
            });
        }
    }
}

fn fs_mount(target: impl Into<PathBuf>, fstype: &str, data: &str, flags: MsFlags) -> Mount {
    let source = match fstype {
        "tmpfs" if data.contains("1777") => "shm",
        "cgroup2" => "cgroup",
        other => other,
    };
    Mount {
        target: target.into(),
        source: MountSource::Fs {
            fstype: fstype.to_owned(),
            source: source.to_owned(),
            data: data.to_owned(),
            copy_up: false,
        },
        flags: flags.bits(),
        clear: 0,
        recursive_set: 0,
        recursive_clear: 0,
        propagation: 0,
        optional: false,
        id_map: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(options: &MountOptions) -> Vec<String> {
        mounts(options)
            .iter()
            .map(|mount| mount.target.display().to_string())
            .collect()
    }

    #[test]
    fn mounts_follow_the_cgroup_layout() {
        assert_eq!(
            targets(&MountOptions::default()),
            [
                "/proc",
                "/dev",
                "/dev/pts",
                "/sys",
                "/sys/fs/cgroup",
                "/dev/mqueue",
                "/dev/shm"
            ]
        );
        let mut options = MountOptions {
            v1_cgroups: vec![
                ("/sys/fs/cgroup/cpu,cpuacct".into(), "cpu,cpuacct".into()),
                ("/sys/fs/cgroup/memory".into(), "memory".into()),
            ],
            ..MountOptions::default()
        };
        let v1 = targets(&options);
        for name in ["cpu", "cpuacct", "cpu,cpuacct", "memory"] {
            assert!(v1.contains(&format!("/sys/fs/cgroup/{name}")), "{name}");
        }
        options.cgroup_path = Some("/iechor/c1".into());
        let all = mounts(&options);
        let memory = all
            .iter()
            .find(|mount| mount.target == Path::new("/sys/fs/cgroup/memory"));
        assert!(matches!(
            memory.map(|mount| &mount.source),
            Some(MountSource::Bind { path, .. }) if path == Path::new("/sys/fs/cgroup/memory/iechor/c1")
        ));
    }

    #[test]
    fn only_privileged_containers_may_write_to_sysfs() {
        for privileged in [false, true] {
            let all = mounts(&MountOptions {
                privileged,
                ..MountOptions::default()
            });
            let writable = |target: &str| {
                let found = all.iter().find(|mount| mount.target == Path::new(target));
                found.is_some_and(|mount| mount.flags & MsFlags::MS_RDONLY.bits() == 0)
            };
            assert_eq!((writable("/sys"), writable("/sys/fs/cgroup")), (privileged, privileged));
            assert!(writable("/proc") && writable("/dev/shm"));
        }
    }
}
