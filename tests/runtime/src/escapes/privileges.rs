//! Users, groups and capabilities that a process must not come by.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

use harness::{Test, tests};
use serde_json::json;

use crate::bundle::Bundle;
use crate::config::DOCKER_CAPABILITIES;
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        a_set_user_id_program_gives_nothing_with_no_new_privileges,
        file_capabilities_give_nothing_with_no_new_privileges,
        file_capabilities_do_not_keep_a_users_with_no_new_privileges,
        nothing_is_inheritable_or_ambient_that_was_not_asked_for,
        a_user_has_no_capabilities_in_force,
        processes_of_exec_are_as_confined_as_the_container,
        the_callers_capabilities_are_not_handed_on,
        the_callers_groups_are_not_handed_on,
        groups_are_those_of_the_configuration_not_of_the_rootfs,
        a_passwd_file_does_not_make_a_number_root,
        a_passwd_that_is_a_pipe_does_not_block,
        a_passwd_that_never_ends_is_not_read_for_ever,
        a_passwd_that_is_huge_is_not_waited_for,
        a_passwd_linked_to_the_host_is_not_read,
        limits_of_the_caller_are_not_raised,
        a_chroot_within_the_container_leads_nowhere,
        files_by_handle_are_refused,
        pivoting_back_is_refused,
    ]
}

fn mode(bundle: &Bundle, path: &str, mode: u32) {
    std::fs::set_permissions(bundle.rootfs(path), PermissionsExt::from_mode(mode)).unwrap();
}

/// The lines of its own status that a process has printed.
fn status(text: &str, key: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {key} in {text}"))
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn a_set_user_id_program_gives_nothing_with_no_new_privileges(world: &World) {
    let mut bundle = world.bundle();
    std::fs::copy(bundle.rootfs("bin/busybox"), bundle.rootfs("bin/cat-as-root")).unwrap();
    std::fs::remove_file(bundle.rootfs("bin/cat")).unwrap();
    std::fs::rename(bundle.rootfs("bin/cat-as-root"), bundle.rootfs("bin/cat")).unwrap();
    mode(&bundle, "bin/cat", 0o6755);
    bundle.user(1000, 1000).args(&["cat", "/proc/self/status"]);
    let text = bundle.run().ok();
    assert_eq!(status(&text, "Uid"), "1000 1000 1000 1000");
    assert_eq!(status(&text, "Gid"), "1000 1000 1000 1000");
    // busybox gives such rights up by itself; this one would use them.
    std::fs::write(bundle.rootfs("etc/of-root"), "").unwrap();
    mode(&bundle, "etc/of-root", 0o600);
    mode(&bundle, "bin/probe", 0o6755);
    let attempt = ["probe", "read-open", "/etc/of-root"];
    bundle.args(&attempt);
    assert_eq!(bundle.run().ok(), "/etc/of-root: EACCES");
    assert_eq!(status(&text, "NoNewPrivs"), "1");
    bundle.set("/process/user", json!({"uid": 0, "gid": 0}));
    bundle.sleeper();
    let text = bundle
        .exec_with(&["--user", "1000:1000"], &["cat", "/proc/self/status"])
        .ok();
    assert_eq!(status(&text, "Uid"), "1000 1000 1000 1000");
    let text = bundle.exec_with(&["--user", "1000:1000"], &attempt).ok();
    assert_eq!(text, "/etc/of-root: EACCES");
}

fn with_file_capabilities(world: &World) -> Bundle {
    let mut bundle = world.bundle();
    // `vfs_cap_data` of revision 2: what the bounding set has, permitted and in force. More would not be executed.
    let value = b"\x01\0\0\x02\xfb\x25\x04\xa8\0\0\0\0\0\0\0\0\0\0\0\0";
    let program = std::fs::File::open(bundle.rootfs("bin/busybox")).unwrap();
    runtime_sys::xattr::set(program.as_fd(), b"security.capability", value).unwrap();
    bundle.user(1000, 1000).args(&["cat", "/proc/self/status"]);
    bundle
}

#[track_caller]
fn has_none(text: &str) {
    assert_eq!(status(text, "CapEff"), "0000000000000000");
    assert_eq!(status(text, "CapPrm"), "0000000000000000");
}

fn file_capabilities_give_nothing_with_no_new_privileges(world: &World) {
    let mut bundle = with_file_capabilities(world);
    // In the bounding set alone: what was permitted before the exec would be so after it, too.
    bundle.set("/process/capabilities", json!({"bounding": DOCKER_CAPABILITIES}));
    has_none(&bundle.run().ok());
}

/// The kernel's rule lets such a program keep what its caller was permitted, which is all that the configuration names:
/// runc leaves it at that. A user's other programs have none of it, and this one is to gain nothing.
fn file_capabilities_do_not_keep_a_users_with_no_new_privileges(world: &World) {
    let bundle = with_file_capabilities(world);
    has_none(&bundle.run().ok());
}

/// CVE-2022-29162, CVE-2022-24769: a full inheritable set lets programs with inheritable file capabilities gain.
fn nothing_is_inheritable_or_ambient_that_was_not_asked_for(world: &World) {
    let mut bundle = world.bundle();
    let process = bundle.sleeper();
    assert_eq!((process.capabilities("CapInh"), process.capabilities("CapAmb")), (0, 0));
    for flags in [&[][..], &["--user", "1000:1000"], &["--cap", "CAP_NET_RAW"]] {
        let text = bundle.exec_with(flags, &["cat", "/proc/self/status"]).ok();
        if !flags.contains(&"--cap") {
            assert_eq!(status(&text, "CapAmb"), "0000000000000000", "{flags:?}");
        }
        assert_eq!(status(&text, "CapInh"), "0000000000000000", "{flags:?}");
    }
}

fn a_user_has_no_capabilities_in_force(world: &World) {
    let mut bundle = world.bundle();
    bundle.user(1000, 1000).args(&["cat", "/proc/self/status"]);
    let text = bundle.run().ok();
    assert_eq!(status(&text, "CapAmb"), "0000000000000000");
    assert_eq!(status(&text, "CapInh"), "0000000000000000");
}

fn processes_of_exec_are_as_confined_as_the_container(world: &World) {
    let mut bundle = world.bundle();
    bundle.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["add_key"], "action": "SCMP_ACT_ERRNO"}]}),
    );
    let process = bundle.sleeper();
    let text = bundle.exec(&["cat", "/proc/self/status"]).ok();
    for key in [
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
    ] {
        assert_eq!(status(&text, key), process.status(key), "{key}");
    }
    assert_eq!(status(&text, "Seccomp"), "2");
    assert_eq!(
        bundle.inside("cat /proc/self/cgroup").ok(),
        bundle.inside("cat /proc/1/cgroup").ok()
    );
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts", "time"] {
        let inside = bundle.inside(&format!("readlink /proc/self/ns/{kind}")).ok();
        assert_eq!(inside, process.namespace(kind), "{kind}");
    }
}

/// All that the caller has and the configuration does not name: nothing of it is left, in no set.
fn the_callers_capabilities_are_not_handed_on(world: &World) {
    let mut bundle = world.bundle();
    bundle.capabilities(&[]);
    let process = bundle.sleeper();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(process.capabilities(set), 0, "{set}");
    }
    bundle.delete(&["--force"]).ok();
    // Nothing is said about them: runc takes that for all that the caller has, we for none.
    bundle.remove("/process", "capabilities");
    let process = bundle.sleeper();
    assert_eq!(
        process.capabilities("CapEff") & !docker_mask(),
        0,
        "capabilities without having been asked for"
    );
}

fn docker_mask() -> u64 {
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD,
    // AUDIT_WRITE, SETFCAP
    let numbers = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];
    assert_eq!(numbers.len(), DOCKER_CAPABILITIES.len());
    numbers.iter().fold(0, |mask, number| mask | 1 << number)
}

/// The runtime is called with groups that open files of the host, such as `disk`.
fn the_callers_groups_are_not_handed_on(world: &World) {
    let mut bundle = world.bundle();
    bundle.args(&["grep", "Groups", "/proc/self/status"]);
    bundle.save();
    let (runtime, root) = (
        bundle.runtime.display().to_string(),
        bundle.state_root().display().to_string(),
    );
    let folder = bundle.folder().display().to_string();
    let setpriv = std::path::Path::new("setpriv");
    let words = ["--groups", "6,27,42", &runtime, "--root", &root];
    let run = [&words[..], &["run", "--bundle", &folder, &bundle.id]].concat();
    let text = bundle.program(setpriv, &run).output().ok();
    assert!(["", "0"].contains(&status(&text, "Groups").as_str()), "{text}");
    bundle.sleeper();
    let exec = [&words[..], &["exec", &bundle.id, "grep", "Groups", "/proc/self/status"]].concat();
    let text = bundle.program(setpriv, &exec).output().ok();
    assert!(["", "0"].contains(&status(&text, "Groups").as_str()), "{text}");
}

/// CVE-2022-36109's neighbourhood: `/etc/group` of an image is not asked by a runtime that was given numbers.
fn groups_are_those_of_the_configuration_not_of_the_rootfs(world: &World) {
    let mut bundle = world.bundle();
    bundle.put("/etc/passwd", "user:x:1000:0::/:/bin/sh\n");
    bundle.put("/etc/group", "root:x:0:user,1000\ndisk:x:6:user,1000\n");
    bundle.set(
        "/process/user",
        json!({"uid": 1000, "gid": 1000, "additionalGids": [2000, 3000]}),
    );
    let process = bundle.sleeper();
    assert_eq!(
        process.status("Gid").split_whitespace().collect::<Vec<_>>(),
        ["1000"; 4]
    );
    let groups = process.status("Groups");
    let groups: Vec<&str> = groups.split_whitespace().filter(|group| *group != "1000").collect();
    assert_eq!(groups, ["2000", "3000"]);
}

fn a_passwd_file_does_not_make_a_number_root(world: &World) {
    let mut bundle = world.bundle();
    bundle.put("/etc/passwd", "1000:x:0:0::/:/bin/sh\nuser:x:0:0::/:/bin/sh\n");
    bundle.user(1000, 1000);
    let process = bundle.sleeper();
    assert_eq!(
        process.status("Uid").split_whitespace().collect::<Vec<_>>(),
        ["1000"; 4]
    );
    let text = bundle
        .exec_with(&["--user", "1000:1000"], &["cat", "/proc/self/status"])
        .ok();
    assert_eq!(status(&text, "Uid"), "1000 1000 1000 1000");
}

/// Whatever `/etc/passwd` and `/etc/group` are, `run` and `exec` end in time: as an error or by running.
#[track_caller]
fn in_time(bundle: &mut Bundle) {
    bundle.user(1000, 1000).shell("echo runs");
    bundle.run_call(&[]).seconds(15).output();
    let good = bundle.rootfs("etc/passwd.good");
    std::fs::rename(bundle.rootfs("etc"), bundle.rootfs("etc.bad")).unwrap();
    std::fs::create_dir(bundle.rootfs("etc")).unwrap();
    let _ = good;
    bundle.sleeper();
    std::fs::remove_dir(bundle.rootfs("etc")).unwrap();
    std::fs::rename(bundle.rootfs("etc.bad"), bundle.rootfs("etc")).unwrap();
    bundle
        .exec_call(&["--user", "1000:1000"], &["true"])
        .seconds(15)
        .output();
}

fn a_passwd_that_is_a_pipe_does_not_block(world: &World) {
    let mut bundle = world.bundle();
    for name in ["etc/passwd", "etc/group"] {
        std::fs::remove_file(bundle.rootfs(name)).unwrap();
        nix::unistd::mkfifo(&bundle.rootfs(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    in_time(&mut bundle);
}

fn a_passwd_that_never_ends_is_not_read_for_ever(world: &World) {
    let mut bundle = world.bundle();
    bundle.link("/dev/zero", "/etc/passwd");
    bundle.link("/dev/zero", "/etc/group");
    in_time(&mut bundle);
}

fn a_passwd_that_is_huge_is_not_waited_for(world: &World) {
    let mut bundle = world.bundle();
    for name in ["etc/passwd", "etc/group"] {
        let file = std::fs::File::create(bundle.rootfs(name)).unwrap();
        // A hole: no room on the disk is used.
        file.set_len(64 << 30).unwrap();
    }
    in_time(&mut bundle);
}

/// The home folder of the host's root would show in HOME.
fn a_passwd_linked_to_the_host_is_not_read(world: &World) {
    let mut bundle = world.bundle();
    std::fs::write(bundle.host("passwd"), "user:x:1000:1000::/home-on-the-host:/bin/sh\n").unwrap();
    bundle.link(&bundle.host("passwd"), "/etc/passwd");
    bundle.user(1000, 1000).shell("echo HOME=$HOME");
    let out = bundle.run();
    assert!(!out.out.contains("home-on-the-host"), "{}", out.out);
}

fn limits_of_the_caller_are_not_raised(world: &World) {
    let mut bundle = world.bundle();
    bundle.shell("ulimit -n; ulimit -Hn");
    let out = bundle.run_call_after("ulimit -n 256", &[]).output().ok();
    assert_eq!(out, "256\n256");
}

/// A root that was only `chroot`ed could be left by a second one.
fn a_chroot_within_the_container_leads_nowhere(world: &World) {
    let mut bundle = world.bundle();
    let secret = bundle.secret();
    bundle.args(&["probe", "chroot", &secret]);
    assert_eq!(bundle.run().out, "chroot: ENOENT");
}

/// Shocker (2014): a handle to inode 2 opens the host's root through any file that is bound from there.
fn files_by_handle_are_refused(world: &World) {
    let mut bundle = world.bundle();
    std::fs::write(bundle.volume("file"), "").unwrap();
    let file = bundle.volume("file");
    bundle
        .bind(&file, "/etc/bound")
        .args(&["probe", "handle", "/etc/bound"]);
    let out = bundle.run().ok();
    assert!(!out.contains("opened"), "{out}");
    assert!(out.contains("root of the file system: EPERM"), "{out}");
}

/// The host's root is not merely out of sight below another mount: it is not mounted in here at all.
fn pivoting_back_is_refused(world: &World) {
    let mut bundle = world.bundle();
    bundle.more_capabilities(&["CAP_SYS_ADMIN"]);
    let process = bundle.sleeper();
    let asked = ["/", "/proc", "/dev", "/sys", "/run"];
    for mount in process.mounts() {
        let known = asked
            .iter()
            .any(|path| mount.target == *path || mount.target.starts_with(&format!("{path}/")));
        assert!(known && !mount.target.contains("old"), "an unexpected mount: {mount:?}");
    }
    let line = format!(
        "umount -l / && echo unmounted; cat {0} /../../{0}; probe mount / /mnt '' bind,rec; cat /mnt{0}",
        bundle.secret()
    );
    let out = bundle.inside(&line);
    assert!(out.out.contains("unmounted"), "the attempt was not made: {out:?}");
    assert!(!out.out.contains(crate::bundle::SECRET), "{}", out.out);
    // Below a root that was merely put over another one is that other one, for whoever enters from now on.
    let out = bundle.exec(&["/bin/cat", &bundle.secret()]);
    assert!(!out.out.contains(crate::bundle::SECRET), "{}", out.out);
}
