//! Namespaces: new ones, the host's, those of others; users and their maps; offsets of clocks.

use harness::kernel::Process;
use harness::{Test, tests};
use serde_json::json;

use crate::bundle::Bundle;
use crate::escapes::chown_rootfs;
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        namespaces_that_are_listed_are_new,
        namespaces_that_are_not_listed_are_the_callers,
        a_user_namespace_has_the_maps_that_were_asked_for,
        a_user_namespace_of_several_ranges,
        namespaces_are_joined_by_path,
        a_pid_namespace_is_joined_by_path,
        a_user_namespace_is_joined_by_path,
        a_time_namespace_is_joined_by_path,
        a_mount_namespace_is_joined_by_path,
        a_path_of_another_kind_is_refused,
        a_path_that_does_not_exist_is_refused,
        a_namespace_listed_twice_is_refused,
        hostname_and_domainname_are_set,
        a_domainname_without_a_namespace_is_refused,
        offsets_of_the_clocks_are_set,
        offsets_without_a_time_namespace_are_refused,
        exec_joins_all_namespaces,
    ]
}

/// The specification's name and the one below `/proc/PID/ns`.
const KINDS: &[(&str, &str)] = &[
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

fn namespaces_that_are_listed_are_new(world: &World) {
    let mut bundle = world.bundle();
    bundle.push("/linux/namespaces", json!({"type": "time"}));
    let process = bundle.sleeper();
    for (kind, name) in KINDS {
        assert_ne!(process.namespace(name), Process::own().namespace(name), "{kind}");
    }
    assert_eq!(process.namespace("user"), Process::own().namespace("user"));
}

fn namespaces_that_are_not_listed_are_the_callers(world: &World) {
    for (kind, name) in KINDS.iter().filter(|(kind, _)| *kind != "mount") {
        let mut bundle = world.bundle();
        bundle.without_namespace(kind);
        match *kind {
            "network" => drop(bundle.without_mount("/sys")),
            "ipc" => drop(bundle.without_mount("/dev/mqueue")),
            "uts" => drop(bundle.remove("", "hostname")),
            _ => {}
        }
        if *kind == "network" {
            bundle.without_mount("/sys/fs/cgroup");
        }
        let process = bundle.sleeper();
        assert_eq!(process.namespace(name), Process::own().namespace(name), "{kind}");
    }
}

#[track_caller]
fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn a_user_namespace_has_the_maps_that_were_asked_for(world: &World) {
    let mut bundle = world.bundle();
    bundle.user_namespace(100_000, 65_536);
    bundle.set(
        "/linux/gidMappings",
        json!([{"containerID": 0, "hostID": 200_000, "size": 1000}]),
    );
    let status = std::process::Command::new("chown")
        .args(["-hR", "100000:200000"])
        .arg(bundle.rootfs(""))
        .status();
    assert!(status.is_ok_and(|status| status.success()));
    let process = bundle.sleeper();
    let map = |name: &str| words(&std::fs::read_to_string(format!("/proc/{}/{name}", process.0)).unwrap());
    assert_eq!(map("uid_map"), ["0", "100000", "65536"]);
    assert_eq!(map("gid_map"), ["0", "200000", "1000"]);
    assert_eq!(words(&process.status("Uid")), ["100000"; 4]);
    assert_eq!(words(&process.status("Gid")), ["200000"; 4]);
    assert_eq!(bundle.inside("stat -c %u:%g /bin/busybox /proc/self/").ok(), "0:0\n0:0");
    // Sysctls, devices and terminals of such a container work as well.
    assert_eq!(
        bundle.inside("echo text > /dev/null; head -c 3 /dev/zero | wc -c").ok(),
        "3"
    );
}

fn a_user_namespace_of_several_ranges(world: &World) {
    let mut bundle = world.bundle();
    bundle.user_namespace(100_000, 1000);
    let map = json!([
        {"containerID": 0, "hostID": 100_000, "size": 1000},
        {"containerID": 1000, "hostID": 300_000, "size": 1},
        {"containerID": 5000, "hostID": 400_000, "size": 10}
    ]);
    bundle
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map);
    bundle.set(
        "/process/user",
        json!({"uid": 1000, "gid": 1000, "additionalGids": [5003]}),
    );
    chown_rootfs(&bundle);
    let process = bundle.sleeper();
    assert_eq!(words(&process.status("Uid")), ["300000"; 4]);
    assert_eq!(words(&process.status("Groups")), ["400003"]);
}

fn namespaces_are_joined_by_path(world: &World) {
    let mut first = world.bundle();
    let process = first.sleeper();
    for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("cgroup", "cgroup")] {
        let mut bundle = world.bundle();
        bundle.join_namespace(kind, &format!("/proc/{}/ns/{name}", process.0));
        if kind == "uts" {
            bundle.remove("", "hostname");
        }
        let second = bundle.sleeper();
        assert_eq!(second.namespace(name), process.namespace(name), "{kind}");
        for (_, other) in KINDS.iter().filter(|(_, other)| *other != name && *other != "time") {
            assert_ne!(
                second.namespace(other),
                process.namespace(other),
                "{other} with {kind} joined"
            );
        }
    }
}

fn a_pid_namespace_is_joined_by_path(world: &World) {
    let mut first = world.bundle();
    let process = first.sleeper();
    let mut bundle = world.bundle();
    bundle.join_namespace("pid", &format!("/proc/{}/ns/pid", process.0));
    let second = bundle.sleeper();
    assert_eq!(second.namespace("pid"), process.namespace("pid"));
    assert_ne!(words(&second.status("NSpid")).last().map(String::as_str), Some("1"));
    // It ends alone, and its processes with it, although nobody's process 1 has died.
    bundle.exec_with(&["--detach"], &["sleep", "1000"]).ok();
    bundle.delete(&["--force"]).ok();
    harness::tools::eventually("the second container is gone", 5, || !second.is_alive());
    assert!(process.is_alive());
    // Process 1 there reaps nobody; dead ones do not count. Its own sleep is left.
    let living = "for p in /proc/[0-9]*; do grep -q 'Name:.sleep' $p/status && grep -q 'State:.[RSD]' $p/status && echo x; \
        done | grep -c x";
    assert_eq!(first.inside(living).ok(), "1");
}

fn a_user_namespace_is_joined_by_path(world: &World) {
    let mut first = world.bundle();
    first.user_namespace(100_000, 65_536);
    chown_rootfs(&first);
    let process = first.sleeper();
    let mut bundle = world.bundle();
    bundle.join_namespace("user", &format!("/proc/{}/ns/user", process.0));
    chown_rootfs(&bundle);
    let second = bundle.sleeper();
    assert_eq!(second.namespace("user"), process.namespace("user"));
    assert_eq!(words(&second.status("Uid")), ["100000"; 4]);
}

fn a_time_namespace_is_joined_by_path(world: &World) {
    let mut first = world.bundle();
    first
        .push("/linux/namespaces", json!({"type": "time"}))
        .set("/linux/timeOffsets", json!({"boottime": {"secs": 7_000_000}}));
    let process = first.sleeper();
    let mut bundle = world.bundle();
    bundle.join_namespace("time", &format!("/proc/{}/ns/time", process.0));
    let second = bundle.sleeper();
    assert_eq!(second.namespace("time"), process.namespace("time"));
}

/// Where another program has made the mount namespace, the mounts of the configuration are made in there.
fn a_mount_namespace_is_joined_by_path(world: &World) {
    let mut first = world.bundle();
    let process = first.sleeper();
    let mut bundle = world.bundle();
    bundle.join_namespace("mount", &format!("/proc/{}/ns/mnt", process.0));
    bundle.args(&["sleep", "1000"]);
    let out = bundle.create();
    if out.code != 0 {
        assert!(
            out.err.contains("mount") || out.err.contains("namespace") || out.err.contains("root"),
            "{}",
            out.err
        );
        return;
    }
    bundle.start().ok();
    assert_eq!(bundle.init().namespace("mnt"), process.namespace("mnt"));
}

#[track_caller]
fn refused(bundle: &Bundle) {
    let out = bundle.run();
    assert_ne!(out.code, 0, "it ran");
    assert!(!out.err.is_empty());
}

fn a_path_of_another_kind_is_refused(world: &World) {
    let mut first = world.bundle();
    let process = first.sleeper();
    for (kind, wrong) in [
        ("network", "ipc"),
        ("ipc", "net"),
        ("uts", "pid"),
        ("pid", "uts"),
        ("cgroup", "net"),
    ] {
        let mut bundle = world.bundle();
        bundle
            .join_namespace(kind, &format!("/proc/{}/ns/{wrong}", process.0))
            .shell("true");
        refused(&bundle);
    }
}

fn a_path_that_does_not_exist_is_refused(world: &World) {
    for kind in ["network", "ipc", "uts", "pid", "user", "mount", "cgroup"] {
        let mut bundle = world.bundle();
        bundle.join_namespace(kind, "/no/such/namespace").shell("true");
        refused(&bundle);
    }
}

fn a_namespace_listed_twice_is_refused(world: &World) {
    let mut bundle = world.bundle();
    bundle.push("/linux/namespaces", json!({"type": "ipc"})).shell("true");
    refused(&bundle);
}

fn hostname_and_domainname_are_set(world: &World) {
    let mut bundle = world.bundle();
    bundle.set("/hostname", "a-name").set("/domainname", "a-domain");
    bundle.shell("hostname; cat /proc/sys/kernel/domainname");
    assert_eq!(bundle.run().ok(), "a-name\na-domain");
}

fn a_domainname_without_a_namespace_is_refused(world: &World) {
    let mut bundle = world.bundle();
    bundle
        .without_namespace("uts")
        .remove("", "hostname")
        .set("/domainname", "a-domain")
        .shell("true");
    refused(&bundle);
}

fn offsets_of_the_clocks_are_set(world: &World) {
    let mut bundle = world.bundle();
    bundle.push("/linux/namespaces", json!({"type": "time"}));
    bundle.set(
        "/linux/timeOffsets",
        json!({"boottime": {"secs": 5_000_000, "nanosecs": 5}, "monotonic": {"secs": 1000}}),
    );
    bundle.shell("cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets");
    let out = bundle.run().ok();
    let own: u64 = std::fs::read_to_string("/proc/uptime")
        .unwrap()
        .split('.')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let inside: u64 = out.lines().next().unwrap().parse().unwrap();
    assert!(
        (own + 4_999_000..own + 5_001_000).contains(&inside),
        "{inside} and {own}"
    );
    let rows: Vec<Vec<&str>> = out
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows, [vec!["monotonic", "1000", "0"], vec!["boottime", "5000000", "5"]]);
}

fn offsets_without_a_time_namespace_are_refused(world: &World) {
    let mut bundle = world.bundle();
    bundle
        .set("/linux/timeOffsets", json!({"boottime": {"secs": 1000}}))
        .shell("true");
    refused(&bundle);
}

fn exec_joins_all_namespaces(world: &World) {
    let mut bundle = world.bundle();
    bundle
        .user_namespace(100_000, 65_536)
        .push("/linux/namespaces", json!({"type": "time"}));
    chown_rootfs(&bundle);
    let process = bundle.sleeper();
    for name in ["pid", "net", "ipc", "uts", "mnt", "cgroup", "time", "user"] {
        let inside = bundle.exec(&["readlink", &format!("/proc/self/ns/{name}")]).ok();
        assert_eq!(inside, process.namespace(name));
    }
}
