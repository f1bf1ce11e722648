//! The defaults as an OCI configuration.

use super::{PATH, READONLY_PATHS, masked_paths};
use crate::capabilities;
use oci_spec::runtime::{
    Capabilities, Linux, LinuxCapabilities, LinuxDeviceCgroup, LinuxNamespace, LinuxNamespaceType, LinuxResources,
    Process, Root, Spec,
};

/// Docker's default configuration for a container that runs `args`, to be changed by the caller: own namespaces of every
/// kind but user and time, the default mounts, 14 capabilities, the hidden paths. The system call filter is not in it;
/// it goes with [`Host::filter`](crate::spec::Host::filter), compiled.
pub fn spec(args: Vec<String>) -> Spec {
    let mut root = Root::default();
    root.set_path("rootfs".into()).set_readonly(None);
    let mut spec = Spec::default();
    spec.set_root(Some(root))
        .set_mounts(Some(oci_mounts()))
        .set_process(Some(oci_process(args)))
        .set_hostname(None)
        .set_annotations(None)
        .set_linux(Some(oci_linux()));
    spec
}

fn oci_process(args: Vec<String>) -> Process {
    // The type reads names without `CAP_`.
    let default: Capabilities = (0..64)
        .filter(|bit| capabilities::DEFAULT & 1 << bit != 0)
        .filter_map(|bit| capabilities::name(bit)?.parse().ok())
        .collect();
    let mut caps = LinuxCapabilities::default();
    caps.set_bounding(Some(default.clone()))
        .set_effective(Some(default.clone()))
        .set_permitted(Some(default))
        .set_inheritable(None)
        .set_ambient(None);
    let mut process = Process::default();
    process
        .set_args(Some(args))
        .set_env(Some(vec![format!("PATH={PATH}")]))
        .set_cwd("/".into())
        .set_capabilities(Some(caps))
        .set_rlimits(None)
        .set_no_new_privileges(None)
        .set_terminal(None);
    process
}

fn oci_linux() -> Linux {
    let kinds = [
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Network,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Cgroup,
    ];
    let namespace = |kind| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind).set_path(None);
        namespace
    };
    let mut deny = LinuxDeviceCgroup::default();
    deny.set_allow(false)
        .set_typ(None)
        .set_major(None)
        .set_minor(None)
        .set_access(Some("rwm".into()));
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(vec![deny]));
    let owned = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(kinds.into_iter().map(namespace).collect()))
        .set_masked_paths(Some(masked_paths().to_vec()))
        .set_readonly_paths(Some(owned(READONLY_PATHS)))
        .set_resources(Some(resources))
        .set_devices(None)
        .set_seccomp(None);
    linux
}

fn oci_mounts() -> Vec<oci_spec::runtime::Mount> {
    let mount = |target: &str, kind: &str, source: &str, options: &str| {
        let mut mount = oci_spec::runtime::Mount::default();
        mount
            .set_destination(target.into())
            .set_typ(Some(kind.into()))
            .set_source(Some(source.into()))
            .set_options(Some(options.split(',').map(str::to_owned).collect()));
        mount
    };
    vec![
        mount("/proc", "proc", "proc", "nosuid,noexec,nodev"),
        mount("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
        ),
        mount("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro,nosuid,noexec,nodev"),
        mount("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            "nosuid,noexec,nodev,mode=1777,size=67108864",
        ),
    ]
}
