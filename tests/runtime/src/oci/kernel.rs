//! What of the kernel a container sees and gets: settings, devices, masks, control groups, links, memory.

use harness::kernel::is_cgroup_v2;
use harness::{Test, tests};
use serde_json::json;

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        settings_of_its_namespaces_are_set,
        devices_are_made_with_type_mode_and_owner,
        devices_are_there_in_a_user_namespace,
        a_device_that_contradicts_a_file_is_an_error_or_replaced,
        devices_are_allowed_by_rule,
        masked_and_read_only_paths,
        paths_that_are_not_there_are_no_error,
        the_group_is_where_the_configuration_says,
        a_relative_group_is_below_the_runtimes_own,
        no_group_path_gives_one_of_its_own,
        limits_of_memory,
        limits_of_processors,
        limits_of_processes,
        limits_of_block_devices,
        limits_of_huge_pages_that_the_kernel_has_not,
        unified_settings_are_for_version_2,
        processes_of_exec_are_in_the_group,
        groups_are_gone_after_delete,
        a_network_device_is_moved_in,
        a_memory_policy_is_set,
        intel_rdt_without_the_hardware_is_refused,
    ]
}

fn settings_of_its_namespaces_are_set(world: &World) {
    let mut bundle = world.bundle();
    bundle.set(
        "/linux/sysctl",
        json!({"net.ipv4.ip_forward": "1", "net/ipv4/ip_default_ttl": "77", "kernel.shmmax": "12345678", "fs.mqueue.msg_max": "17",
            "kernel.domainname": "by-sysctl"}),
    );
    bundle.shell("cd /proc/sys; cat net/ipv4/ip_forward net/ipv4/ip_default_ttl kernel/shmmax fs/mqueue/msg_max kernel/domainname");
    assert_eq!(bundle.run().ok(), "1\n77\n12345678\n17\nby-sysctl");
}

fn devices_are_made_with_type_mode_and_owner(world: &World) {
    let mut bundle = world.bundle();
    bundle.set(
        "/linux/devices",
        json!([
            {"path": "/dev/made", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 12, "gid": 34},
            {"path": "/dev/folder/block", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600},
            {"path": "/outside-of-dev", "type": "u", "major": 1, "minor": 3},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o622},
        ]),
    );
    bundle.shell(
        "stat -c '%n %F %t:%T %a %u:%g' /dev/made /dev/folder/block /dev/pipe; stat -c '%F %t:%T' /outside-of-dev",
    );
    let out = bundle.run().ok();
    let expected = [
        "/dev/made character special file 1:5 640 12:34",
        "/dev/folder/block block special file 7:c8 600 0:0",
        "/dev/pipe fifo 0:0 622 0:0",
        "character special file 1:3",
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
}

/// Where `mknod` is not allowed, the host's node is bound.
fn devices_are_there_in_a_user_namespace(world: &World) {
    let mut bundle = world.bundle();
    bundle.user_namespace(100_000, 65_536);
    bundle.set(
        "/linux/devices",
        json!([{"path": "/dev/zero2", "type": "c", "major": 1, "minor": 5}]),
    );
    bundle.shell("for n in null zero full random urandom tty; do stat -c '%n %t:%T' /dev/$n; done; echo x > /dev/null; head -c 2 /dev/zero | wc -c");
    crate::escapes::chown_rootfs(&bundle);
    let out = bundle.run();
    if out.err.contains("zero2") {
        // The host has no such node to bind: that is said by name.
        bundle.remove("/linux", "devices");
        assert_eq!(bundle.run().ok().lines().last(), Some("2"));
        return;
    }
    assert_eq!(out.ok().lines().last(), Some("2"));
}

fn a_device_that_contradicts_a_file_is_an_error_or_replaced(world: &World) {
    let mut bundle = world.bundle();
    bundle.put("/node", "a file of the image");
    bundle
        .set(
            "/linux/devices",
            json!([{"path": "/node", "type": "c", "major": 1, "minor": 3}]),
        )
        .shell("stat -c %t:%T /node");
    let out = bundle.run();
    assert!(out.code != 0 || out.out == "1:3", "{out:?}");
    let text = std::fs::symlink_metadata(bundle.rootfs("/node")).unwrap();
    assert!(out.code != 0 || !text.is_file());
}

fn devices_are_allowed_by_rule(world: &World) {
    let mut bundle = world.bundle();
    bundle.set(
        "/linux/resources/devices",
        json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"},
            {"allow": true, "type": "b", "major": 7, "access": "rwm"},
        ]),
    );
    // Loop devices without a file behind them open all the same, if the kernel has any.
    bundle.shell("mknod /kmsg c 1 11; probe read-open /kmsg; probe write-open /kmsg; mknod /mem c 1 1; mknod /loop b 7 0 && echo made; mknod /disk b 8 0 || echo not made; probe read-open /mem");
    let out = bundle.run().out;
    assert!(
        out.contains("/kmsg: EPERM") && out.contains("made") && out.contains("/mem: E"),
        "{out}"
    );
    assert!(!out.contains("/mem: opened"), "{out}");
}

fn masked_and_read_only_paths(world: &World) {
    let mut bundle = world.bundle();
    bundle.put("/file", "text");
    bundle.put("/folder/file", "text");
    bundle.put("/locked/file", "text");
    bundle
        .set("/linux/maskedPaths", json!(["/file", "/folder"]))
        .set("/linux/readonlyPaths", json!(["/locked", "/proc/sys"]));
    bundle.shell("cat /file; ls /folder; touch /folder/x || echo ro; cat /locked/file; echo x > /locked/file || echo ro; echo 1 > /proc/sys/net/ipv4/ip_forward || echo ro");
    assert_eq!(bundle.run().out, "ro\ntextro\nro");
}

fn paths_that_are_not_there_are_no_error(world: &World) {
    let mut bundle = world.bundle();
    bundle
        .set("/linux/maskedPaths", json!(["/no/such/path"]))
        .set("/linux/readonlyPaths", json!(["/no/such/path"]));
    bundle.shell("ls /no");
    let out = bundle.run();
    assert!(out.code == 1 && out.err.contains("No such file"), "{out:?}");
}

fn the_group_is_where_the_configuration_says(world: &World) {
    let mut bundle = world.bundle();
    let path = format!("{}/nested/{}", world.cgroup(), bundle.id);
    bundle.set("/linux/cgroupsPath", path.as_str());
    let process = bundle.sleeper();
    for controller in ["memory", "pids", "freezer"] {
        assert!(
            process.cgroup(controller).to_string_lossy().ends_with(&path),
            "{controller}"
        );
    }
    bundle.delete(&["--force"]).ok();
    // What was made above it stays for others; here there are none.
    for group in harness::kernel::cgroups_with(&format!("{}/nested", &world.cgroup()[1..])) {
        let _ = std::fs::remove_dir(group);
    }
}

fn a_relative_group_is_below_the_runtimes_own(world: &World) {
    let mut bundle = world.bundle();
    let path = format!("{}-relative", bundle.id);
    bundle.set("/linux/cgroupsPath", path.as_str());
    let process = bundle.sleeper();
    assert!(process.cgroup("memory").to_string_lossy().contains(&path));
}

fn no_group_path_gives_one_of_its_own(world: &World) {
    let mut bundle = world.bundle();
    bundle.remove("/linux", "cgroupsPath");
    let process = bundle.sleeper();
    let group = process.cgroup("pids");
    assert!(group.to_string_lossy().contains(&bundle.id), "{}", group.display());
}

fn limits_of_memory(world: &World) {
    let mut bundle = world.bundle();
    bundle.set(
        "/linux/resources/memory",
        json!({"limit": 64 << 20, "reservation": 32 << 20, "swap": 128 << 20}),
    );
    let process = bundle.sleeper();
    assert_eq!(
        process.control("memory", &["memory.limit_in_bytes", "memory.max"]),
        (64 << 20).to_string()
    );
    assert_eq!(
        process.control("memory", &["memory.soft_limit_in_bytes", "memory.low"]),
        (32 << 20).to_string()
    );
    let swap = process.control("memory", &["memory.memsw.limit_in_bytes", "memory.swap.max"]);
    assert!(
        [(128 << 20).to_string(), (64 << 20).to_string()].contains(&swap),
        "{swap}"
    );
}

fn limits_of_processors(world: &World) {
    let mut bundle = world.bundle();
    bundle.set(
        "/linux/resources/cpu",
        json!({"shares": 512, "quota": 20_000, "period": 100_000, "cpus": "0"}),
    );
    let process = bundle.sleeper();
    if is_cgroup_v2() {
        assert_eq!(process.control("cpu", &["cpu.max"]), "20000 100000");
    } else {
        assert_eq!(process.control("cpu", &["cpu.shares"]), "512");
        assert_eq!(process.control("cpu", &["cpu.cfs_quota_us"]), "20000");
        assert_eq!(process.control("cpu", &["cpu.cfs_period_us"]), "100000");
    }
    assert_eq!(process.control("cpuset", &["cpuset.cpus"]), "0");
    assert_eq!(process.status("Cpus_allowed_list"), "0");
}

fn limits_of_processes(world: &World) {
    for (limit, shown) in [(17, "17"), (-1, "max")] {
        let mut bundle = world.bundle();
        bundle.set("/linux/resources/pids", json!({"limit": limit}));
        assert_eq!(bundle.sleeper().control("pids", &["pids.max"]), shown);
    }
}

fn limits_of_block_devices(world: &World) {
    use std::os::unix::fs::MetadataExt;
    let disk = std::fs::metadata("/").unwrap().dev();
    let (major, minor) = (nix::sys::stat::major(disk), nix::sys::stat::minor(disk));
    let mut bundle = world.bundle();
    bundle.set(
        "/linux/resources/blockIO",
        json!({"throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": 1_048_576}],
            "throttleWriteIOPSDevice": [{"major": major, "minor": minor, "rate": 100}]}),
    );
    let process = bundle.sleeper();
    let read = process.control("blkio", &["blkio.throttle.read_bps_device", "io.max"]);
    assert!(
        read.contains(&format!("{major}:{minor}")) && read.contains("1048576"),
        "{read}"
    );
    let write = process.control("blkio", &["blkio.throttle.write_iops_device", "io.max"]);
    assert!(write.contains("100"), "{write}");
}

/// A limit that cannot be set is an error: who asks for one relies on it.
fn limits_of_huge_pages_that_the_kernel_has_not(world: &World) {
    let mut bundle = world.bundle();
    bundle
        .set(
            "/linux/resources/hugepageLimits",
            json!([{"pageSize": "3MB", "limit": 1 << 20}]),
        )
        .shell("true");
    assert_ne!(bundle.run().code, 0);
}

fn unified_settings_are_for_version_2(world: &World) {
    let mut bundle = world.bundle();
    bundle
        .set("/linux/resources/unified", json!({"pids.max": "33"}))
        .args(&["sleep", "1000"]);
    let out = bundle.create();
    if is_cgroup_v2() {
        out.ok();
        assert_eq!(bundle.init().control("pids", &["pids.max"]), "33");
    } else {
        assert!(out.code != 0 && !out.err.is_empty(), "they were ignored on version 1");
    }
}

fn processes_of_exec_are_in_the_group(world: &World) {
    let mut bundle = world.bundle();
    let process = bundle.sleeper();
    bundle.exec_with(&["--detach"], &["sleep", "1000"]).ok();
    for controller in ["memory", "pids", "cpu", "freezer", "devices"] {
        if is_cgroup_v2() && controller != "pids" {
            continue;
        }
        let text = std::fs::read_to_string(process.cgroup(controller).join("cgroup.procs")).unwrap();
        assert_eq!(text.lines().count(), 2, "{controller}: {text}");
    }
}

fn groups_are_gone_after_delete(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    assert!(!bundle.cgroups().is_empty());
    bundle.delete(&["--force"]).ok();
    assert!(bundle.cgroups().is_empty(), "{:?}", bundle.cgroups());
}

/// `linux.netDevices` of the specification's version 1.3.
fn a_network_device_is_moved_in(world: &World) {
    let mut bundle = world.bundle();
    // The name of a test daemon's bridge, so that `reap` removes it.
    let name = format!("ie{}", world.tag());
    let ip = |words: &[&str]| std::process::Command::new("ip").args(words).output().unwrap();
    // Half of a pair, for not every kernel has dummy devices; the other half goes with it.
    if !ip(&[
        "link",
        "add",
        &name,
        "type",
        "veth",
        "peer",
        "name",
        &format!("{name}p"),
    ])
    .status
    .success()
    {
        harness::suite::skip("this kernel has no veth devices");
    }
    ip(&["address", "add", "10.99.0.7/24", "dev", &name]);
    bundle.at("/linux/netDevices")[&name] = json!({"name": "inside0"});
    bundle.shell("ip -o address show dev inside0");
    let out = bundle.run();
    ip(&["link", "delete", &name]);
    assert!(out.out.contains("10.99.0.7/24"), "{out:?}");
}

/// `linux.memoryPolicy` of the specification's version 1.3.
fn a_memory_policy_is_set(world: &World) {
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        harness::suite::skip("this kernel knows no NUMA");
    }
    let mut bundle = world.bundle();
    bundle.set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"}));
    let process = bundle.sleeper();
    let text = std::fs::read_to_string(format!("/proc/{}/numa_maps", process.0)).unwrap();
    assert!(text.contains("bind:0"), "{text}");
}

fn intel_rdt_without_the_hardware_is_refused(world: &World) {
    if harness::kernel::own_mounts()
        .iter()
        .any(|mount| mount.kind == "resctrl")
    {
        harness::suite::skip("this machine has the hardware");
    }
    let mut bundle = world.bundle();
    bundle
        .set(
            "/linux/intelRdt",
            json!({"closID": "ietest", "l3CacheSchema": "L3:0=f"}),
        )
        .shell("true");
    assert_ne!(bundle.run().code, 0, "a wish that cannot be met was ignored");
}
