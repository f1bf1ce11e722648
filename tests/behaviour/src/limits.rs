//! Resource limits: what the control group's files say, and that the kernel acts on them.

use harness::kernel::is_cgroup_v2;
use harness::suite::skip;
use harness::tools::{Folder, eventually};
use harness::{Test, tests};

use crate::world::World;

/// The files of weights by scheduler, v2's first.
const WEIGHTS: &[&str] = &["io.bfq.weight", "io.weight", "blkio.weight", "blkio.bfq.weight"];

pub fn tests() -> Vec<Test<World>> {
    tests![
        memory_limit_is_written,
        memory_limit_kills,
        memory_reservation_is_written,
        cpus_are_written,
        cpu_shares_are_written,
        cpuset_is_written,
        pids_limit_is_written_and_holds,
        a_limit_of_processes_that_lets_nothing_start,
        pause_freezes_every_process,
        exec_is_in_the_same_cgroup,
        cgroup_is_removed_with_the_container,
        block_weights_are_written,
        block_weights_of_a_device_are_written,
        limits_are_shown_by_inspect,
        update_changes_a_running_container,
    ]
}

fn memory_limit_is_written(world: &World) {
    let (_name, process) = world.sleeper(&["-m", "64m"]);
    assert_eq!(
        process.control("memory", &["memory.max", "memory.limit_in_bytes"]),
        "67108864"
    );
}

fn memory_limit_kills(world: &World) {
    let name = world.name("oom");
    // Anonymous memory through tail, which keeps what it reads: more than the limit.
    let line = "tail -c 100m /dev/zero";
    world
        .run(&[
            "run",
            "--name",
            &name,
            "-m",
            "32m",
            "--memory-swap",
            "32m",
            "busybox",
            "sh",
            "-c",
            line,
        ])
        .fails(137);
    eventually("the kernel's verdict is known", 5, || {
        world.inspect(&name)["State"]["OOMKilled"] == true
    });
}

fn memory_reservation_is_written(world: &World) {
    let (_name, process) = world.sleeper(&["-m", "64m", "--memory-reservation", "32m"]);
    assert_eq!(
        process.control("memory", &["memory.low", "memory.soft_limit_in_bytes"]),
        "33554432"
    );
}

fn cpus_are_written(world: &World) {
    let (_name, process) = world.sleeper(&["--cpus", "0.5"]);
    if is_cgroup_v2() {
        assert_eq!(process.control("cpu", &["cpu.max"]), "50000 100000");
    } else {
        assert_eq!(process.control("cpu", &["cpu.cfs_quota_us"]), "50000");
        assert_eq!(process.control("cpu", &["cpu.cfs_period_us"]), "100000");
    }
}

fn cpu_shares_are_written(world: &World) {
    let (_name, process) = world.sleeper(&["--cpu-shares", "512"]);
    if is_cgroup_v2() {
        let weight: u64 = process.control("cpu", &["cpu.weight"]).parse().unwrap();
        // Runtimes convert 512 of 1024 shares differently: 20 in the older formula, 59 in the newer.
        assert!((15..=70).contains(&weight), "{weight}");
    } else {
        assert_eq!(process.control("cpu", &["cpu.shares"]), "512");
    }
}

fn cpuset_is_written(world: &World) {
    let (_name, process) = world.sleeper(&["--cpuset-cpus", "0"]);
    assert_eq!(process.control("cpuset", &["cpuset.cpus"]), "0");
    assert_eq!(process.status("Cpus_allowed_list"), "0");
}

fn pids_limit_is_written_and_holds(world: &World) {
    let (name, process) = world.sleeper(&["--pids-limit", "7"]);
    assert_eq!(process.control("pids", &["pids.max"]), "7");
    let refused = world.run(&[
        "exec",
        &name,
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done",
    ]);
    assert!(refused.err.contains("can't fork"), "{} {}", refused.out, refused.err);
}

/// An init and its child are two: with one allowed the start is refused with the reason, as what was asked for.
fn a_limit_of_processes_that_lets_nothing_start(world: &World) {
    let name = world.name("narrow");
    world
        .run(&[
            "create",
            "--init",
            "--pids-limit",
            "1",
            "--name",
            &name,
            "busybox",
            "true",
        ])
        .ok();
    let reply = world
        .server
        .call("POST", &format!("/containers/{}/start", &*name), None);
    if world.is_foreign() {
        assert!(reply.status >= 400, "{}", reply.status);
        return;
    }
    let message = reply.expect(409).message();
    assert!(message.contains("a limit of processes is reached"), "{message}");
    world.run(&["update", "--pids-limit", "10", &name]).ok();
    world.run(&["start", &name]).ok();
    assert_eq!(world.run(&["wait", &name]).ok(), "0");
}

fn pause_freezes_every_process(world: &World) {
    let name = world.name("paused");
    world
        .run(&[
            "run",
            "-d",
            "--name",
            &name,
            "busybox",
            "sh",
            "-c",
            "while :; do echo x; sleep 0.02; done",
        ])
        .ok();
    let lines = || world.run(&["logs", &name]).lines().len();
    eventually("it writes", 10, || lines() > 2);
    let pause = world
        .server
        .call("POST", &format!("/containers/{}/pause", &*name), None);
    if pause.status == 404 && pause.message().contains("page not found") {
        skip("pausing is not served yet");
    }
    pause.expect(204);
    let process = world.process(&name);
    assert_eq!(
        process
            .control("freezer", &["cgroup.freeze", "freezer.state"])
            .replace("FROZEN", "1"),
        "1"
    );
    assert_eq!(world.inspect(&name)["State"]["Status"], "paused");
    let before = lines();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(lines(), before, "a frozen process writes nothing");
    world
        .server
        .call("POST", &format!("/containers/{}/unpause", &*name), None)
        .expect(204);
    eventually("it writes again", 10, || lines() > before);
}

fn exec_is_in_the_same_cgroup(world: &World) {
    let (name, process) = world.sleeper(&[]);
    let mut exec = world.background(&["exec", "-i", &name, "cat"]);
    exec.send(b"x\n");
    exec.expect("x");
    let folder = process.cgroup("memory");
    let pids = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap();
    assert!(
        pids.lines().count() >= 2,
        "the command and the exec: {pids:?} in {}",
        folder.display()
    );
    exec.close_input();
    assert_eq!(exec.finish(10).0, 0);
}

fn cgroup_is_removed_with_the_container(world: &World) {
    let (name, process) = world.sleeper(&[]);
    let folders: Vec<_> = ["memory", "pids", "cpu", "devices"]
        .iter()
        .map(|controller| process.cgroup(controller))
        .collect();
    assert!(folders.iter().all(|folder| folder.exists()));
    world.run(&["rm", "-f", &name]).ok();
    eventually("no cgroup is left", 5, || folders.iter().all(|folder| !folder.exists()));
}

fn block_weights_are_written(world: &World) {
    let (plain, process) = world.sleeper(&[]);
    if !is_cgroup_v2() {
        let folder = process.cgroup("blkio");
        if !WEIGHTS.iter().any(|file| folder.join(file).exists()) {
            skip("this kernel has no weights of block IO");
        }
    }
    let name = world.name("weighed");
    let words = ["--blkio-weight", "300", "--name", &name, "busybox", "sleep", "1000"];
    let made = world.run(&[&["run", "-d"], &words[..]].concat());
    if is_cgroup_v2() && made.code != 0 && made.err.contains("weight") {
        skip("this kernel has no weights of block IO");
    }
    made.ok();
    // v2's own scale goes to 10,000.
    let weight = |name: &str| {
        let text = world.process(name).control("blkio", WEIGHTS);
        text.lines().next().unwrap().trim_start_matches("default ").to_owned()
    };
    let is = |name: &str, small: &str, big: &str| {
        let found = weight(name);
        assert!(found == small || is_cgroup_v2() && found == big, "{name}: {found}");
    };
    is(&name, "300", "2930");
    for one in [&name, &plain] {
        world.run(&["update", "--blkio-weight", "700", one]).ok();
        is(one, "700", "6970");
        assert_eq!(world.inspect(one)["HostConfig"]["BlkioWeight"], 700);
    }
    let created = world.name("weighed");
    world
        .run(&[
            "create",
            "--blkio-weight",
            "400",
            "--name",
            &created,
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    world.run(&["start", &created]).ok();
    is(&created, "400", "3940");
    let words = ["run", "--rm", "--blkio-weight", "5", "busybox", "true"];
    let said = world.run(&words).fails(125);
    assert!(said.contains("Range of blkio weight is from 10 to 1000"), "{said}");
}

/// A block device of this test alone, with the one scheduler that knows weights of devices.
struct Scheduled {
    path: String,
    scheduler: String,
    _file: Folder,
}

impl Scheduled {
    fn new() -> Scheduled {
        let folder = Folder::new("device");
        let file = folder.at("disk");
        std::fs::File::create(&file).unwrap().set_len(16 << 20).unwrap();
        let made = std::process::Command::new("losetup")
            .args(["--find", "--show", &file])
            .output();
        let path = match made {
            Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap().trim().to_owned(),
            _ => skip("this machine makes no loop device"),
        };
        let name = path.trim_start_matches("/dev/").to_owned();
        let device = Scheduled {
            path,
            scheduler: format!("/sys/block/{name}/queue/scheduler"),
            _file: folder,
        };
        if std::fs::write(&device.scheduler, "bfq").is_err() {
            skip("this kernel has no scheduler with weights of devices");
        }
        device
    }

    fn number(&self) -> String {
        use std::os::unix::fs::MetadataExt;
        let number = std::fs::metadata(&self.path).unwrap().rdev();
        format!("{}:{}", nix::sys::stat::major(number), nix::sys::stat::minor(number))
    }
}

impl Drop for Scheduled {
    fn drop(&mut self) {
        let _ = std::fs::write(&self.scheduler, "none");
        let _ = std::process::Command::new("losetup")
            .args(["--detach", &self.path])
            .status();
    }
}

fn block_weights_of_a_device_are_written(world: &World) {
    let device = Scheduled::new();
    let (path, number) = (&device.path, device.number());
    let is = |name: &str, weight: &str| {
        let text = world.process(name).control(
            "blkio",
            &["io.bfq.weight", "blkio.weight_device", "blkio.bfq.weight_device"],
        );
        let line = format!("{number} {weight}");
        assert!(text.lines().any(|found| found == line), "{line:?} is not in {text:?}");
    };
    let words = ["--blkio-weight-device", &format!("{path}:250")];
    let (name, _) = world.sleeper(&words);
    is(&name, "250");
    let created = world.name("weighed");
    let words = [
        &["create"],
        &words[..],
        &["--name", &created, "busybox", "sleep", "1000"],
    ]
    .concat();
    world.run(&words).ok();
    world.run(&["start", &created]).ok();
    is(&created, "250");
    // A flag of ours; docker's client changes no devices.
    world
        .iechor(&["update", "--blkio-weight-device", &format!("{path}:350"), &name])
        .ok();
    is(&name, "350");
    let shown = world.inspect(&name)["HostConfig"]["BlkioWeightDevice"].clone();
    assert_eq!(shown, serde_json::json!([{ "Path": path, "Weight": 350 }]));
    // Nothing may hold the device when it goes.
    world.run(&["rm", "-f", &name, &created]).ok();
}

fn limits_are_shown_by_inspect(world: &World) {
    let (name, _) = world.sleeper(&["-m", "64m", "--cpus", "1.5", "--pids-limit", "99"]);
    let host = world.inspect(&name)["HostConfig"].clone();
    assert_eq!(host["Memory"], 67_108_864);
    assert_eq!(
        host["MemorySwap"], 134_217_728i64,
        "twice the memory, unless asked otherwise"
    );
    assert_eq!(host["NanoCpus"], 1_500_000_000i64);
    assert_eq!(host["PidsLimit"], 99);
}

fn update_changes_a_running_container(world: &World) {
    // A set from the start; `live::figures` gives one later.
    let all = format!(
        "0-{}",
        std::thread::available_parallelism().map_or(0, |count| count.get() - 1)
    );
    let limits = [
        "-m",
        "64m",
        "--memory-swap",
        "64m",
        "--pids-limit",
        "50",
        "--cpus",
        "1",
        "--cpuset-cpus",
        &all,
    ];
    let (name, process) = world.sleeper(&limits);
    let output = world.run(&[
        "update",
        "-m",
        "96m",
        "--memory-swap",
        "96m",
        "--pids-limit",
        "60",
        "--cpus",
        "0.5",
        "--cpuset-cpus",
        "0",
        &name,
    ]);
    output.ok();
    assert_eq!(
        process.control("memory", &["memory.max", "memory.limit_in_bytes"]),
        "100663296"
    );
    assert_eq!(process.control("pids", &["pids.max"]), "60");
    if is_cgroup_v2() {
        assert_eq!(process.control("cpu", &["cpu.max"]), "50000 100000");
    } else {
        assert_eq!(process.control("cpu", &["cpu.cfs_quota_us"]), "50000");
    }
    assert_eq!(process.status("Cpus_allowed_list"), "0");
    let host = world.inspect(&name)["HostConfig"].clone();
    assert_eq!(
        (host["Memory"].as_i64(), host["PidsLimit"].as_i64()),
        (Some(100_663_296), Some(60))
    );
    // What cannot be is refused, and nothing is changed.
    let refused = world.run(&["update", "-m", "1k", &name]);
    assert!(refused.code == 1 && !refused.err.is_empty(), "{}", refused.code);
    assert_eq!(
        process.control("memory", &["memory.max", "memory.limit_in_bytes"]),
        "100663296"
    );
    // The new limits are those of the next run too.
    world.run(&["restart", "-t", "0", &name]).ok();
    assert_eq!(world.process(&name).control("pids", &["pids.max"]), "60");
}
