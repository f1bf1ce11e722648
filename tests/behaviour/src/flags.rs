//! Flags of `run`, `create` and other commands that no test by topic asks for, each with what came of it.

use harness::kernel::{Process, is_cgroup_v2};
use harness::suite::skip;
use harness::tools::Folder;
use harness::{Test, tests};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        annotations_are_kept,
        cpu_period_and_quota_are_written,
        cpuset_mems_is_written,
        memory_swappiness_is_written,
        oom_kill_disable_is_written,
        cgroup_parent_is_where_the_group_is,
        cgroup_namespaces_are_as_asked_for,
        every_rate_of_a_device_is_written,
        device_cgroup_rules_let_devices_through,
        dns_options_are_in_resolv_conf,
        label_files_are_read,
        local_is_the_volume_driver,
        addresses_and_aliases_need_a_network_of_ones_own,
        another_platform_is_refused,
        create_takes_the_flags_of_run,
        ps_shows_the_last_ones_and_sizes,
        names_are_filtered_by_expressions,
        inspect_shows_sizes_when_asked,
        restart_and_stop_send_the_signal_asked_for,
        a_container_has_a_grace_of_its_own,
        exec_reads_files_of_variables,
        history_with_whole_numbers,
        network_commands_look_at_the_defaults,
    ]
}

fn annotations_are_kept(world: &World) {
    let (name, _) = world.sleeper(&["--annotation", "org.example.key=a value"]);
    assert_eq!(
        world.inspect(&name)["HostConfig"]["Annotations"]["org.example.key"],
        "a value"
    );
}

fn cpu_period_and_quota_are_written(world: &World) {
    let (_name, process) = world.sleeper(&["--cpu-period", "50000", "--cpu-quota", "25000"]);
    if is_cgroup_v2() {
        assert_eq!(process.control("cpu", &["cpu.max"]), "25000 50000");
    } else {
        assert_eq!(process.control("cpu", &["cpu.cfs_period_us"]), "50000");
        assert_eq!(process.control("cpu", &["cpu.cfs_quota_us"]), "25000");
    }
}

fn cpuset_mems_is_written(world: &World) {
    let (_name, process) = world.sleeper(&["--cpuset-mems", "0"]);
    assert_eq!(process.control("cpuset", &["cpuset.mems"]), "0");
}

fn memory_swappiness_is_written(world: &World) {
    if is_cgroup_v2() {
        skip("cgroup v2 has no swappiness");
    }
    let (_name, process) = world.sleeper(&["--memory-swappiness", "7"]);
    assert_eq!(process.control("memory", &["memory.swappiness"]), "7");
}

fn oom_kill_disable_is_written(world: &World) {
    if is_cgroup_v2() {
        skip("cgroup v2 always kills");
    }
    let (_name, process) = world.sleeper(&["-m", "64m", "--oom-kill-disable"]);
    let control = process.control("memory", &["memory.oom_control"]);
    assert!(control.contains("oom_kill_disable 1"), "{control}");
}

fn cgroup_parent_is_where_the_group_is(world: &World) {
    let parent = format!("{}/flags", world.places.cgroup);
    let (name, process) = world.sleeper(&["--cgroup-parent", &parent]);
    let group = process.cgroup("memory").display().to_string();
    // A parent stays when its container goes, as Docker leaves it: in every hierarchy that there is.
    world.run(&["rm", "-f", &name]).ok();
    let mut parents = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    parents.extend(
        std::fs::read_dir("/sys/fs/cgroup")
            .unwrap()
            .map(|entry| entry.unwrap().path()),
    );
    harness::tools::eventually("the parents are empty and can be removed", 20, || {
        let ours = parents.iter().map(|root| root.join(parent.trim_start_matches('/')));
        ours.filter(|folder| folder.exists() && std::fs::remove_dir(folder).is_err())
            .count()
            == 0
    });
    assert!(
        group.contains(&format!("{}/", parent.trim_start_matches('/'))),
        "{group}"
    );
}

fn cgroup_namespaces_are_as_asked_for(world: &World) {
    let (_name, host) = world.sleeper(&["--cgroupns", "host"]);
    assert_eq!(host.namespace("cgroup"), Process::own().namespace("cgroup"));
    let (_name, private) = world.sleeper(&["--cgroupns", "private"]);
    assert_ne!(private.namespace("cgroup"), Process::own().namespace("cgroup"));
}

fn every_rate_of_a_device_is_written(world: &World) {
    let Some((path, number)) = crate::live::block_device() else {
        skip("this machine has no block device");
    };
    let rate = |value: &str| format!("{path}:{value}");
    let flags = [
        (
            "--device-read-bps",
            rate("1mb"),
            "blkio.throttle.read_bps_device",
            "1048576",
        ),
        (
            "--device-write-bps",
            rate("2mb"),
            "blkio.throttle.write_bps_device",
            "2097152",
        ),
        (
            "--device-read-iops",
            rate("333"),
            "blkio.throttle.read_iops_device",
            "333",
        ),
        (
            "--device-write-iops",
            rate("444"),
            "blkio.throttle.write_iops_device",
            "444",
        ),
    ];
    let words: Vec<&str> = flags
        .iter()
        .flat_map(|(flag, value, ..)| [*flag, value.as_str()])
        .collect();
    let (_name, process) = world.sleeper(&words);
    for (flag, _, file, value) in &flags {
        let written = process.control("blkio", &["io.max", file]);
        assert!(
            written.contains(&number) && written.contains(value),
            "{flag}: {written}"
        );
    }
}

fn device_cgroup_rules_let_devices_through(world: &World) {
    // The kernel's log: 1:11 is no device that every container has. What becomes of the read, once it is allowed, is not ours.
    let line = "mknod /kmsg c 1 11; (head -c 1 </kmsg) 2>&1 >/dev/null | grep -c 'not permitted'; true";
    let opened = |flags: &[&str]| world.shell(&[&["--cap-add", "SYSLOG"], flags].concat(), line);
    assert_eq!(opened(&[]), "1");
    assert_eq!(opened(&["--device-cgroup-rule", "c 1:11 rwm"]), "0");
}

fn dns_options_are_in_resolv_conf(world: &World) {
    let text = world.shell(&["--dns-option", "ndots:3"], "cat /etc/resolv.conf");
    let line = text.lines().find(|line| line.starts_with("options "));
    assert!(line.is_some_and(|line| line.contains("ndots:3")), "{text}");
}

fn label_files_are_read(world: &World) {
    let folder = Folder::new("labels");
    std::fs::write(folder.path().join("labels"), "a=b\n# no label\nc\n").unwrap();
    let (name, _) = world.sleeper(&["--label-file", &folder.at("labels"), "--label", "d=e"]);
    let labels = world.inspect(&name)["Config"]["Labels"].clone();
    // A line without `=` gives no label.
    assert_eq!(labels, serde_json::json!({ "a": "b", "d": "e" }));
}

fn local_is_the_volume_driver(world: &World) {
    let volume = format!("flags-{}", harness::tools::tag());
    let mount = format!("{volume}:/data");
    assert_eq!(
        world.shell(
            &["--volume-driver", "local", "-v", &mount],
            "echo x >/data/x; cat /data/x"
        ),
        "x"
    );
    world.run(&["volume", "rm", &volume]).ok();
}

fn addresses_and_aliases_need_a_network_of_ones_own(world: &World) {
    for (flags, words) in [
        (
            ["--ip", "10.1.2.3"],
            "user specified IP address is supported on user defined networks only",
        ),
        (
            ["--ip6", "fd00::3"],
            "user specified IP address is supported on user defined networks only",
        ),
        (["--link-local-ip", "169.254.3.4"], "LinkLocalIPs is not supported"),
        (
            ["--network-alias", "other"],
            "network-scoped aliases are only supported for user-defined networks",
        ),
    ] {
        let name = world.name("addressed");
        let said = world
            .run(&[&["run", "--name", &name], &flags[..], &["busybox", "true"]].concat())
            .fails(125);
        assert!(said.contains(words), "{flags:?}: {said}");
    }
}

fn another_platform_is_refused(world: &World) {
    let said = world
        .run(&[
            "run",
            "--rm",
            "--pull",
            "never",
            "--platform",
            "linux/s390x",
            "busybox",
            "true",
        ])
        .fails(125);
    assert!(said.contains("platform"), "{said}");
    world
        .run(&[
            "run",
            "--rm",
            "--pull",
            "never",
            "--platform",
            "linux/amd64",
            "busybox",
            "true",
        ])
        .ok();
}

fn create_takes_the_flags_of_run(world: &World) {
    let name = world.name("created");
    world
        .run(&[
            "create",
            "--name",
            &name,
            "--memory",
            "64m",
            "--cpus",
            "0.5",
            "--user",
            "7:8",
            "--workdir",
            "/tmp",
            "--env",
            "A=b",
            "--hostname",
            "made",
            "--init",
            "--read-only",
            "--cap-drop",
            "ALL",
            "--security-opt",
            "no-new-privileges",
            "--ulimit",
            "nofile=99",
            "--stop-signal",
            "KILL",
            "--pids-limit",
            "77",
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    assert_eq!(world.inspect(&name)["State"]["Status"], "created");
    world.run(&["start", &name]).ok();
    let process = world.process(&name);
    assert_eq!(
        process.control("memory", &["memory.max", "memory.limit_in_bytes"]),
        "67108864"
    );
    assert_eq!(process.control("pids", &["pids.max"]), "77");
    assert_eq!(process.limit("Max open files"), ("99".to_owned(), "99".to_owned()));
    assert_eq!(process.status("NoNewPrivs"), "1");
    assert_eq!(process.capabilities("CapBnd"), 0);
    assert_eq!(
        world.inside(&name, "id -u; id -g; pwd; hostname; echo $A"),
        "7\n8\n/tmp\nmade\nb"
    );
}

fn ps_shows_the_last_ones_and_sizes(world: &World) {
    let (name, _) = world.sleeper(&[]);
    world.inside(&name, "head -c 3000000 /dev/zero >/file");
    let filter = format!("name={}", &*name);
    let shown = world
        .run(&["ps", "--size", "--filter", &filter, "--format", "{{.Size}}"])
        .ok();
    assert!(shown.starts_with("3MB (virtual "), "{shown}");
    // Other tests make containers meanwhile: how many are shown is what can be asked.
    let last = world.run(&["ps", "--last", "1", "-q"]).ok();
    assert_eq!(last.lines().count(), 1, "{last}");
}

fn names_are_filtered_by_expressions(world: &World) {
    let name = world.name("web");
    let made: Vec<String> = ["-1", "-22", "-x"]
        .iter()
        .map(|end| format!("{}{end}", &*name))
        .collect();
    for one in &made {
        world.run(&["create", "--name", one, "busybox", "true"]).ok();
        world.run(&["volume", "create", one]).ok();
    }
    let shown = |list: &[&str], format: &str, pattern: &str| {
        let filter = format!("name={pattern}");
        let mut shown: Vec<String> = world
            .run(&[list, &["--filter", &filter, "--format", format]].concat())
            .ok()
            .lines()
            .map(str::to_owned)
            .collect();
        shown.sort();
        shown
    };
    let name = &*name;
    for (pattern, expected) in [
        (format!("^/?{name}-[0-9]+$"), &made[..2]),
        (format!("{name}-(1|x)"), &[made[0].clone(), made[2].clone()]),
        (format!("^{name}-2$"), &[]),
        // No expression: it would have to be the name itself.
        (format!("{name}-["), &[]),
    ] {
        assert_eq!(shown(&["ps", "-a"], "{{.Names}}", &pattern), expected, "{pattern}");
        assert_eq!(shown(&["volume", "ls"], "{{.Name}}", &pattern), expected, "{pattern}");
    }
    for one in &made {
        world.run(&["rm", one]).ok();
        world.run(&["volume", "rm", one]).ok();
    }
}

fn inspect_shows_sizes_when_asked(world: &World) {
    let (name, _) = world.sleeper(&[]);
    world.inside(&name, "head -c 3000000 /dev/zero >/file");
    let size = |flags: &[&str]| world.run(&[&["inspect", "--format", "{{.SizeRw}}"], flags, &[&name]].concat());
    let shown: u64 = size(&["--size"]).ok().parse().unwrap();
    assert!((3_000_000..3_100_000).contains(&shown), "{shown}");
    let without = size(&[]).ok();
    assert!(without.parse::<u64>().is_err(), "{without}");
}

fn restart_and_stop_send_the_signal_asked_for(world: &World) {
    let line = "trap 'echo got USR1; exit' USR1; echo ready; while :; do sleep 0.1; done";
    for command in ["restart", "stop"] {
        let name = world.name("signalled");
        world
            .run(&["run", "-d", "--name", &name, "busybox", "sh", "-c", line])
            .ok();
        harness::tools::eventually("the trap is set", 10, || {
            world.run(&["logs", &name]).ok().contains("ready")
        });
        world.run(&[command, "--signal", "USR1", "--time", "20", &name]).ok();
        assert!(world.run(&["logs", &name]).ok().contains("got USR1"), "{command}");
    }
}

fn a_container_has_a_grace_of_its_own(world: &World) {
    for make in [&["run", "-d"][..], &["create"]] {
        let name = world.name("deaf");
        let line = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
        let words = ["--stop-timeout", "1", "--name", &name, "busybox", "sh", "-c", line];
        world.run(&[make, &words].concat()).ok();
        world.run(&["start", &name]).ok();
        harness::tools::eventually("the trap is set", 10, || {
            world.run(&["logs", &name]).ok().contains("ready")
        });
        let begun = std::time::Instant::now();
        world.run(&["stop", &name]).ok();
        let took = begun.elapsed().as_secs_f32();
        assert!((1.0..9.0).contains(&took), "{took} s, where ten are usual");
        assert_eq!(world.inspect(&name)["State"]["ExitCode"], 137);
    }
}

fn exec_reads_files_of_variables(world: &World) {
    let folder = Folder::new("variables");
    std::fs::write(folder.path().join("variables"), "A=from a file\n").unwrap();
    let (name, _) = world.sleeper(&[]);
    let said = world
        .run(&[
            "exec",
            "--env-file",
            &folder.at("variables"),
            &name,
            "sh",
            "-c",
            "echo $A",
        ])
        .ok();
    assert_eq!(said, "from a file");
}

fn history_with_whole_numbers(world: &World) {
    let shown = |flags: &[&str]| {
        world
            .run(&[&["history", "--format", "{{.Size}}"], flags, &["busybox"]].concat())
            .ok()
    };
    let sum: u64 = shown(&["--human=false"])
        .lines()
        .map(|line| line.parse::<u64>().unwrap())
        .sum();
    assert!(sum > 100_000, "{sum}");
    assert!(shown(&[]).contains('B'));
}

fn network_commands_look_at_the_defaults(world: &World) {
    let names = world
        .run(&[
            "network",
            "ls",
            "--filter",
            "driver=bridge",
            "--format",
            "{{.Name}}",
            "--no-trunc",
        ])
        .ok();
    assert!(
        names.lines().any(|name| name == "bridge") && !names.contains("host"),
        "{names}"
    );
    let id = world
        .run(&["network", "ls", "-q", "--no-trunc", "--filter", "name=host"])
        .ok();
    let shown = world.run(&["network", "inspect", "--format", "{{.Id}}", "host"]).ok();
    assert_eq!(shown, id);
    let (name, _) = world.sleeper(&[]);
    let verbose = world
        .run(&[
            "network",
            "inspect",
            "--verbose",
            "--format",
            "{{range .Containers}}{{.Name}} {{end}}",
            "bridge",
        ])
        .ok();
    assert!(verbose.split(' ').any(|one| one == &*name), "{verbose}");
}
