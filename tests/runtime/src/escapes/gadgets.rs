//! Files of the kernel that would let a container run programs on the host, read its memory or stop it.

use harness::{Test, tests};

use crate::bundle::Bundle;
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        settings_of_the_kernel_are_read_only,
        settings_of_devices_are_read_only,
        binfmt_misc_takes_no_interpreter,
        settings_stay_read_only_for_root_of_a_user_namespace_that_may_mount,
        proc_sys_cannot_be_made_writable_without_the_capability,
        a_read_only_root_cannot_be_made_writable_without_the_capability,
        release_agent_is_not_writable,
        release_agent_in_a_namespace_of_ones_own,
        control_groups_are_read_only,
        the_disk_of_the_host_cannot_be_opened,
        memory_and_ports_of_the_host_cannot_be_opened,
        devices_are_denied_to_processes_of_exec,
        devices_are_denied_without_a_rule_about_them,
        calls_that_change_the_machine_are_refused,
        the_log_of_the_kernel_is_not_readable,
        keys_of_the_caller_are_not_visible,
        keys_of_the_caller_are_not_visible_at_exec,
    ]
}

#[track_caller]
fn none_opens(bundle: &Bundle, paths: &[&str]) {
    let out = bundle.exec(&[&["probe", "write-open"], paths].concat());
    for line in out.out.lines() {
        assert!(!line.ends_with(": opened"), "writable in the container: {line}");
    }
    assert_eq!(out.out.lines().count(), paths.len(), "{}", out.out);
}

const SETTINGS: &[&str] = &[
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hotplug",
    "/proc/sys/kernel/sysrq",
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/usermodehelper/bset",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/drop_caches",
    "/proc/sys/fs/suid_dumpable",
    "/proc/sys/fs/binfmt_misc/register",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sysrq-trigger",
    "/proc/irq/default_smp_affinity",
    "/proc/bus/pci",
    "/proc/fs/ext4",
    "/proc/timer_stats",
];

fn settings_of_the_kernel_are_read_only(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    none_opens(&bundle, SETTINGS);
}

fn settings_of_devices_are_read_only(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    none_opens(
        &bundle,
        &[
            "/sys/kernel/uevent_helper",
            "/sys/kernel/uevent_seqnum",
            "/sys/kernel/mm/transparent_hugepage/enabled",
            "/sys/kernel/mm/ksm/run",
            "/sys/kernel/profiling",
            "/sys/kernel/kexec_crash_size",
            "/sys/power/state",
            "/sys/power/disk",
            "/sys/module/kernel/parameters/panic",
            "/sys/devices/virtual/mem/null/uevent",
            "/sys/class/mem/null/uevent",
            "/sys/fs/cgroup/release_agent",
        ],
    );
}

fn binfmt_misc_takes_no_interpreter(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    let out = bundle.exec(&[
        "probe",
        "mount",
        "binfmt_misc",
        "/proc/sys/fs/binfmt_misc",
        "binfmt_misc",
    ]);
    assert!(!out.out.contains("mounted"), "{}", out.out);
    let words = [
        "probe",
        "unshare",
        "user,mount",
        "--",
        "probe",
        "mount",
        "binfmt_misc",
        "/mnt",
        "binfmt_misc",
    ];
    let out = bundle.exec(&words);
    // Since Linux 6.7 each user namespace has handlers of its own, which are not the host's.
    if out.out.contains("mounted") {
        assert!(
            bundle.inside("ls /mnt").ok().is_empty(),
            "the mount has left its namespace"
        );
    }
}

/// With CAP_SYS_ADMIN in its own user namespace a container may remount what is its own, but root there is nobody here.
fn settings_stay_read_only_for_root_of_a_user_namespace_that_may_mount(world: &World) {
    let mut bundle = world.bundle();
    bundle
        .more_capabilities(&["CAP_SYS_ADMIN"])
        .user_namespace(100_000, 65_536);
    chown_rootfs(&bundle);
    bundle.sleeper();
    bundle.inside("probe mount '' /proc/sys '' bind,remount; probe mount '' /proc/sysrq-trigger '' bind,remount; umount /proc/sys");
    none_opens(
        &bundle,
        &[
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/modprobe",
            "/proc/sysrq-trigger",
            "/proc/sys/vm/drop_caches",
        ],
    );
}

/// The ids of a rootfs for `user_namespace(100000, …)`.
pub fn chown_rootfs(bundle: &Bundle) {
    let status = std::process::Command::new("chown")
        .args(["-hR", "100000:100000"])
        .arg(bundle.rootfs(""))
        .status();
    assert!(status.is_ok_and(|status| status.success()), "chown");
}

fn proc_sys_cannot_be_made_writable_without_the_capability(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    bundle.inside("mount -o remount,rw /proc/sys; mount -o remount,rw,bind /proc/sys; mount -o remount,rw /proc; umount /proc/sys; mount -t proc proc /mnt");
    none_opens(&bundle, SETTINGS);
    assert_eq!(bundle.inside("ls /mnt").ok(), "");
}

fn a_read_only_root_cannot_be_made_writable_without_the_capability(world: &World) {
    let mut bundle = world.bundle();
    bundle.set("/root/readonly", true);
    let process = bundle.sleeper();
    bundle.inside("mount -o remount,rw /; mount -o remount,rw,bind /; touch /made");
    assert!(!bundle.rootfs("/made").exists(), "a read-only root was written to");
    let words = [
        "probe",
        "unshare",
        "user,mount",
        "--",
        "sh",
        "-c",
        "mount -o remount,rw,bind /; touch /made",
    ];
    bundle.exec(&words);
    assert!(!bundle.rootfs("/made").exists(), "a read-only root was written to");
    assert!(process.mount("/").unwrap().has("ro"));
}

/// CVE-2022-0492, where the control groups are mounted.
fn release_agent_is_not_writable(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    let line = "for f in /sys/fs/cgroup/*/ /sys/fs/cgroup/; do \
        probe mount '' ${f%/} '' bind,remount; probe write-open ${f}release_agent ${f}notify_on_release ${f}cgroup.procs; done";
    let out = bundle.inside(line);
    assert!(
        !out.out.contains("opened") && !out.out.contains("mounted"),
        "{}",
        out.out
    );
    // A hierarchy of one's own.
    for name in ["memory", "rdma", "perf_event", "net_cls", "none,name=ietest"] {
        let out = bundle.exec(&["probe", "mount", "cgroup", "/mnt", "cgroup", "", name]);
        assert!(out.out.contains("EPERM"), "{name}: {}", out.out);
    }
}

/// CVE-2022-0492: `unshare -UrmC`, then mount a hierarchy and set its agent.
fn release_agent_in_a_namespace_of_ones_own(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    let line = "for c in memory rdma perf_event net_cls pids devices none,name=ietest; do \
        probe mount cgroup /mnt cgroup '' $c && probe write-open /mnt/release_agent; umount /mnt; done; \
        for f in /sys/fs/cgroup/*/ /sys/fs/cgroup/; do probe mount '' ${f%/} '' bind,remount; probe write-open ${f}release_agent; done";
    let out = bundle.exec(&["probe", "unshare", "user,mount,cgroup", "--", "sh", "-c", line]);
    assert!(!out.out.contains("opened"), "{}", out.out);
    assert!(
        out.out.contains("mount: E"),
        "the attempt was not made: {}{}",
        out.out,
        out.err
    );
}

/// Not even its own group: the limits in there are the host's word.
fn control_groups_are_read_only(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    let line = "for f in $(find /sys/fs/cgroup -name cgroup.procs -o -name devices.allow -o -name '*limit_in_bytes' -o -name memory.max); \
        do probe write-open $f; done; mkdir /sys/fs/cgroup/*/made /sys/fs/cgroup/made";
    let out = bundle.inside(line);
    assert!(out.out.contains("EROFS"), "no control file was found: {}", out.out);
    assert!(!out.out.contains("opened"), "{}", out.out);
    assert!(bundle.cgroups().iter().all(|group| !group.ends_with("made")));
}

/// With CAP_MKNOD a node is made, and the device group denies it.
fn the_disk_of_the_host_cannot_be_opened(world: &World) {
    use std::os::unix::fs::MetadataExt;
    let disk = std::fs::metadata("/").unwrap().dev();
    let (major, minor) = (nix::sys::stat::major(disk), nix::sys::stat::minor(disk));
    let mut bundle = world.bundle();
    bundle.sleeper();
    let line =
        format!("mknod /disk b {major} {minor} && probe read-open /disk; probe write-open /disk; head -c 16 /disk");
    let out = bundle.inside(&line);
    assert!(out.out.contains("/disk: EPERM"), "{}{}", out.out, out.err);
    assert!(!out.out.contains("opened"), "{}", out.out);
}

fn memory_and_ports_of_the_host_cannot_be_opened(world: &World) {
    let mut bundle = world.bundle();
    bundle.args(&[
        "sh",
        "-c",
        "for n in 1:1 1:2 1:4 1:11  10:229 10:232 108:0 4:0 4:1 5:1 13:0 226:0; do mknod /$n c ${n%:*} ${n#*:}; probe read-open /$n; probe write-open /$n; done",
    ]);
    let out = bundle.run();
    assert_eq!(out.lines().len(), 24, "{}{}", out.out, out.err);
    assert!(out.out.contains("EPERM"));
    // 5:1 is the console that a container with a terminal is given.
    let opened = |line: &&str| line.ends_with("opened") && !line.starts_with("/5:1:");
    let opened: Vec<&str> = out.out.lines().filter(opened).collect();
    assert!(opened.is_empty(), "{opened:?}");
}

fn devices_are_denied_to_processes_of_exec(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    let out = bundle.inside("mknod /node c 1 1; probe read-open /node; mknod /block b 8 0; probe write-open /block");
    assert_eq!(out.lines(), ["/node: EPERM", "/block: EPERM"]);
}

/// A configuration that says nothing about devices allows none but those that every container has. These two nodes are
/// opened by whoever the group lets: no capability is asked for.
fn devices_are_denied_without_a_rule_about_them(world: &World) {
    let mut bundle = world.bundle();
    bundle.remove("/linux/resources", "devices");
    bundle.shell("mknod /log c 1 11; probe write-open /log; mknod /fuse c 10 229; probe read-open /fuse; probe read-open /dev/zero");
    let out = bundle.run();
    assert_eq!(out.lines(), ["/log: EPERM", "/fuse: EPERM", "/dev/zero: opened"]);
}

fn calls_that_change_the_machine_are_refused(world: &World) {
    let mut bundle = world.bundle();
    bundle.args(&["probe", "kernel"]);
    let out = bundle.run().ok();
    assert!(!out.contains("worked"), "{out}");
    assert_eq!(out.matches("EPERM").count(), out.lines().count(), "{out}");
}

fn the_log_of_the_kernel_is_not_readable(world: &World) {
    let mut bundle = world.bundle();
    bundle.shell("dmesg; cat /proc/kmsg & sleep 0.3; kill %1");
    assert_eq!(bundle.run().out, "");
}

const KEY: &str = "a-key-of-the-caller";

/// The session keyring of who calls the runtime is not the container's.
fn keys_of_the_caller_are_not_visible(world: &World) {
    let mut bundle = world.bundle();
    bundle.shell(&format!("probe key-find {KEY}; cat /proc/keys"));
    bundle.save();
    let probe = harness::tools::binary("runtime-probe");
    let (runtime, root) = (
        bundle.runtime.display().to_string(),
        bundle.state_root().display().to_string(),
    );
    let folder = bundle.folder().display().to_string();
    // The attempt works for a program that the runtime does not stand before.
    let control = bundle
        .program(
            &probe,
            &[
                "key-with",
                KEY,
                "payload",
                "--",
                probe.to_str().unwrap(),
                "key-find",
                KEY,
            ],
        )
        .output();
    if control.out.contains("ENOSYS") {
        harness::suite::skip("this kernel has no keyrings");
    }
    assert!(control.ok().contains("payload"));
    let words = [
        "key-with", KEY, "payload", "--", &runtime, "--root", &root, "run", "--bundle", &folder, &bundle.id,
    ];
    let out = bundle.program(&probe, &words).output();
    assert!(out.out.contains("key-find: E"), "{}{}", out.out, out.err);
    assert!(
        !out.out.contains("payload") && !out.out.contains(&format!("{KEY}:")),
        "{}",
        out.out
    );
}

fn keys_of_the_caller_are_not_visible_at_exec(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    let probe = harness::tools::binary("runtime-probe");
    let (runtime, root) = (
        bundle.runtime.display().to_string(),
        bundle.state_root().display().to_string(),
    );
    let words = [
        "key-with", KEY, "payload", "--", &runtime, "--root", &root, "exec", &bundle.id, "probe", "key-find", KEY,
    ];
    let out = bundle.program(&probe, &words).output();
    if out.out.contains("ENOSYS") {
        harness::suite::skip("this kernel has no keyrings");
    }
    assert!(out.out.contains("key-find: E"), "{}{}", out.out, out.err);
}
