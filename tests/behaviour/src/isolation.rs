//! What keeps a container from the host: namespaces, capabilities, seccomp, devices, masked paths.

use harness::kernel::Process;
use harness::suite::skip;
use harness::tools::Folder;
use harness::{Test, tests};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        namespaces_are_its_own,
        pid_host_shares_the_pids,
        ipc_host_shares_the_ipc,
        uts_host_shares_the_name,
        pid_namespace_of_another_container,
        ipc_namespace_of_another_container,
        default_capabilities_are_dockers,
        cap_add_and_drop,
        cap_drop_all_and_add_one,
        privileged_has_all_the_host_allows,
        no_new_privileges_is_set,
        seccomp_is_on_by_default,
        seccomp_unconfined_is_off,
        seccomp_profile_from_a_file,
        seccomp_refuses_what_docker_refuses,
        read_only_root_refuses_writes,
        masked_and_read_only_paths,
        systempaths_unconfined,
        default_devices,
        device_is_passed_with_its_rights,
        devices_are_denied_by_the_cgroup,
        privileged_sees_the_host_devices,
        root_is_not_reachable_by_dot_dot,
        shm_has_the_size_asked_for,
    ]
}

/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD,
/// AUDIT_WRITE, SETFCAP.
const DOCKER_DEFAULT: u64 = 0xa804_25fb;
const CHOWN: u64 = 1;
const NET_BIND_SERVICE: u64 = 1 << 10;
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;

fn namespaces_are_its_own(world: &World) {
    let (_name, process) = world.sleeper(&[]);
    let own = Process::own();
    let kinds = if harness::kernel::is_cgroup_v2() {
        &["mnt", "pid", "uts", "ipc", "net", "cgroup"][..]
    } else {
        &["mnt", "pid", "uts", "ipc", "net"]
    };
    for kind in kinds {
        assert_ne!(process.namespace(kind), own.namespace(kind), "{kind}");
    }
    assert_eq!(process.namespace("user"), own.namespace("user"));
}

fn pid_host_shares_the_pids(world: &World) {
    let (name, process) = world.sleeper(&["--pid", "host"]);
    assert_eq!(process.namespace("pid"), Process::own().namespace("pid"));
    assert_eq!(world.inspect(&name)["HostConfig"]["PidMode"], "host");
    let seen = world.inside(&name, &format!("cat /proc/{}/comm", process.0));
    assert_eq!(seen, "sleep", "the host's /proc, with the host's numbers");
}

fn ipc_host_shares_the_ipc(world: &World) {
    let (_name, process) = world.sleeper(&["--ipc", "host"]);
    assert_eq!(process.namespace("ipc"), Process::own().namespace("ipc"));
}

fn uts_host_shares_the_name(world: &World) {
    let (name, process) = world.sleeper(&["--uts", "host"]);
    assert_eq!(process.namespace("uts"), Process::own().namespace("uts"));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(world.inside(&name, "hostname"), host.trim());
}

fn pid_namespace_of_another_container(world: &World) {
    let (first, process) = world.sleeper(&[]);
    let (_second, other) = world.sleeper(&["--pid", &format!("container:{}", &*first)]);
    assert_eq!(process.namespace("pid"), other.namespace("pid"));
    assert_ne!(process.namespace("mnt"), other.namespace("mnt"));
}

fn ipc_namespace_of_another_container(world: &World) {
    let (first, process) = world.sleeper(&["--ipc", "shareable"]);
    let (_second, other) = world.sleeper(&["--ipc", &format!("container:{}", &*first)]);
    assert_eq!(process.namespace("ipc"), other.namespace("ipc"));
}

fn default_capabilities_are_dockers(world: &World) {
    let (_name, process) = world.sleeper(&[]);
    assert_eq!(process.capabilities("CapEff"), DOCKER_DEFAULT);
    assert_eq!(process.capabilities("CapPrm"), DOCKER_DEFAULT);
    assert_eq!(process.capabilities("CapBnd"), DOCKER_DEFAULT);
    assert_eq!(process.capabilities("CapInh"), 0);
    assert_eq!(process.capabilities("CapAmb"), 0);
    assert_eq!(process.status("NoNewPrivs"), "0");
}

fn cap_add_and_drop(world: &World) {
    let (_name, process) = world.sleeper(&["--cap-add", "NET_ADMIN", "--cap-drop", "CAP_CHOWN"]);
    assert_eq!(process.capabilities("CapEff"), (DOCKER_DEFAULT | NET_ADMIN) & !CHOWN);
    assert_eq!(process.capabilities("CapBnd"), (DOCKER_DEFAULT | NET_ADMIN) & !CHOWN);
}

fn cap_drop_all_and_add_one(world: &World) {
    let (_name, process) = world.sleeper(&["--cap-drop", "ALL", "--cap-add", "net_bind_service"]);
    assert_eq!(process.capabilities("CapEff"), NET_BIND_SERVICE);
    let (_name, process) = world.sleeper(&["--cap-drop", "ALL", "--cap-add", "NET_RAW", "-u", "1000"]);
    assert_eq!(process.capabilities("CapEff"), 0);
    assert_eq!(process.capabilities("CapBnd"), NET_RAW);
}

fn privileged_has_all_the_host_allows(world: &World) {
    let (name, process) = world.sleeper(&["--privileged"]);
    let all = Process::own().capabilities("CapBnd");
    assert_eq!(process.capabilities("CapEff"), all);
    assert_eq!(process.status("Seccomp"), "0");
    assert_eq!(world.inspect(&name)["HostConfig"]["Privileged"], true);
    // Nothing of /proc/sys is read-only, and mounting is allowed.
    assert_eq!(
        world.inside(
            &name,
            "mount -t tmpfs none /mnt 2>/dev/null || mkdir /mnt && mount -t tmpfs none /mnt && echo mounted"
        ),
        "mounted"
    );
    assert!(process.mount("/proc/sys").is_none());
}

fn no_new_privileges_is_set(world: &World) {
    let (_name, process) = world.sleeper(&["--security-opt", "no-new-privileges"]);
    assert_eq!(process.status("NoNewPrivs"), "1");
}

fn seccomp_is_on_by_default(world: &World) {
    let (name, process) = world.sleeper(&[]);
    assert_eq!(process.status("Seccomp"), "2");
    assert_eq!(
        world.inside(&name, "grep ^Seccomp: /proc/self/status | cut -f2"),
        "2",
        "exec has it too"
    );
}

fn seccomp_unconfined_is_off(world: &World) {
    let (_name, process) = world.sleeper(&["--security-opt", "seccomp=unconfined"]);
    assert_eq!(process.status("Seccomp"), "0");
}

fn seccomp_profile_from_a_file(world: &World) {
    let folder = Folder::new("seccomp");
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"#;
    std::fs::write(folder.at("profile.json"), profile).unwrap();
    let option = format!("seccomp={}", folder.at("profile.json"));
    let output = world.run(&["run", "--rm", "--security-opt", &option, "busybox", "mkdir", "/new"]);
    assert!(
        output.code == 1 && output.err.contains("Operation not permitted"),
        "{} {}",
        output.code,
        output.err
    );
    assert_eq!(
        world.shell(&["--security-opt", &option], "touch /new && echo allowed"),
        "allowed"
    );
}

fn seccomp_refuses_what_docker_refuses(world: &World) {
    // unshare(2) needs CAP_SYS_ADMIN in the profile, even for a user namespace that the kernel would allow.
    let output = world.run(&["run", "--rm", "busybox", "unshare", "-U", "true"]);
    assert_ne!(output.code, 0);
    assert!(output.err.contains("Operation not permitted"), "{}", output.err);
}

fn read_only_root_refuses_writes(world: &World) {
    let output = world.run(&["run", "--rm", "--read-only", "busybox", "touch", "/file"]);
    assert!(output.err.contains("Read-only file system"), "{}", output.err);
    assert_eq!(
        world.shell(&["--read-only", "--tmpfs", "/tmp"], "touch /tmp/file && echo written"),
        "written"
    );
    let (_name, process) = world.sleeper(&["--read-only"]);
    assert!(process.mount("/").unwrap().has("ro"));
    assert!(!process.mount("/dev/shm").unwrap().has("ro"), "/dev/shm stays writable");
}

fn masked_and_read_only_paths(world: &World) {
    let (name, process) = world.sleeper(&[]);
    let there = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
    for path in there.into_iter().filter(|path| std::path::Path::new(path).exists()) {
        assert!(
            process
                .mount(path)
                .unwrap_or_else(|| panic!("{path} is no mount"))
                .has("ro"),
            "{path}"
        );
    }
    assert_eq!(
        world.inside(&name, "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c"),
        "0"
    );
    assert_eq!(
        world.inside(
            &name,
            "ls /proc/acpi /sys/firmware /proc/scsi 2>/dev/null | grep -v : | grep -c . || true"
        ),
        "0"
    );
    assert!(process.mount("/sys").unwrap().has("ro"));
}

fn systempaths_unconfined(world: &World) {
    let (_name, process) = world.sleeper(&["--security-opt", "systempaths=unconfined"]);
    assert!(process.mount("/proc/sys").is_none());
    assert!(process.mount("/proc/kcore").is_none());
}

fn default_devices(world: &World) {
    let (name, _) = world.sleeper(&[]);
    let found = world.inside(
        &name,
        "cd /dev; ls -d full null random tty urandom zero fd ptmx pts shm mqueue stdin stdout stderr",
    );
    assert_eq!(found.lines().count(), 14, "{found}");
    assert_eq!(
        world.inside(&name, "stat -c '%t:%T %a' /dev/null /dev/zero /dev/full /dev/tty"),
        "1:3 666\n1:5 666\n1:7 666\n5:0 666"
    );
    assert_eq!(
        world.inside(&name, "readlink /dev/fd; readlink /dev/ptmx"),
        "/proc/self/fd\npts/ptmx"
    );
    assert_eq!(
        world.inside(
            &name,
            "head -c 8 /dev/urandom | wc -c; echo x > /dev/null; head -c 3 /dev/zero | wc -c"
        ),
        "8\n3"
    );
}

fn device_is_passed_with_its_rights(world: &World) {
    // /dev/fuse is on every machine of the tests that has it at all; /dev/loop-control otherwise.
    let Some(device) = ["/dev/fuse", "/dev/loop-control", "/dev/net/tun"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
    else {
        skip("the host has none of the devices that this test can pass on");
    };
    let (name, _) = world.sleeper(&["--device", &format!("{device}:/dev/passed:r")]);
    use std::os::unix::fs::MetadataExt;
    let number = std::fs::metadata(device).unwrap().rdev();
    let wanted = format!(
        "{:x}:{:x}",
        nix::sys::stat::major(number),
        nix::sys::stat::minor(number)
    );
    assert_eq!(world.inside(&name, "stat -c %t:%T /dev/passed"), wanted);
    assert_eq!(world.inside(&name, "exec 3< /dev/passed && echo readable"), "readable");
    let refused = world.run(&["exec", &name, "sh", "-c", "exec 3> /dev/passed"]);
    assert!(
        refused.code != 0 && refused.err.contains("Operation not permitted"),
        "{}",
        refused.err
    );
}

fn devices_are_denied_by_the_cgroup(world: &World) {
    // mknod is allowed, opening is not: /dev/mem by number, which nobody passed in.
    let output = world.run(&["run", "--rm", "busybox", "sh", "-c", "mknod /mem c 1 1 && cat /mem"]);
    assert!(output.err.contains("Operation not permitted"), "{}", output.err);
    assert_eq!(
        world.shell(&[], "mknod /null c 1 3 && echo x > /null && echo allowed"),
        "allowed"
    );
}

fn privileged_sees_the_host_devices(world: &World) {
    let (name, _) = world.sleeper(&["--privileged"]);
    let host = std::fs::read_dir("/dev").unwrap().flatten();
    use std::os::unix::fs::FileTypeExt;
    let character = host.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_char_device()));
    let skipped = ["console", "ptmx", "tty"];
    for entry in character.take(20) {
        let device = entry.file_name().into_string().unwrap();
        if !skipped.contains(&device.as_str()) {
            assert_eq!(
                world.inside(&name, &format!("test -c /dev/{device} && echo there")),
                "there",
                "{device}"
            );
        }
    }
}

fn root_is_not_reachable_by_dot_dot(world: &World) {
    assert_eq!(world.shell(&[], "cd /; cd ../../..; pwd; ls | grep -c bin"), "/\n1");
    let (_name, process) = world.sleeper(&[]);
    // The old root is gone from the mount table: nothing of the host but what was asked for.
    let sources: Vec<_> = process
        .mounts()
        .into_iter()
        .filter(|mount| mount.target == "/")
        .collect();
    assert_eq!(sources.len(), 1, "{sources:?}");
    assert_eq!(sources[0].kind, "overlay");
}

fn shm_has_the_size_asked_for(world: &World) {
    assert_eq!(
        world.shell(&["--shm-size", "8m"], "df -k /dev/shm | tail -1 | awk '{print $2}'"),
        "8192"
    );
    assert_eq!(world.shell(&[], "df -k /dev/shm | tail -1 | awk '{print $2}'"), "65536");
}
