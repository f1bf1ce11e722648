//! Statistics, processes, and limits that change.

use harness::kernel::is_cgroup_v2;
use harness::process::Run;
use harness::tools::{eventually, patience};
use harness::{Test, tests};
use serde_json::{Value, json};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::{Duration, Instant};

use super::actions;
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        figures_are_those_of_the_kernel,
        figures_of_what_does_not_run_are_zero,
        one_shot_takes_one_sample,
        stream_ends_when_the_container_goes,
        table_of_figures,
        the_table_follows_what_comes_and_goes,
        the_table_is_redrawn_on_a_terminal,
        processes_are_those_of_ps,
        processes_with_other_columns,
        limits_of_devices_change,
        a_cpu_set_can_be_given_later,
        updates_that_clash_are_refused,
    ]
}

fn figures_are_those_of_the_kernel(world: &World) {
    let (name, process) = world.sleeper(&["-m", "64m", "--pids-limit", "50"]);
    let gateway = world.gateway_of(&name);
    world.inside(&name, &format!("ping -c 1 -W 2 {gateway}"));
    let took = Instant::now();
    let stats = world
        .server
        .get(&format!("/containers/{}/stats?stream=false", &*name))
        .expect(200)
        .json();
    assert!(
        took.elapsed() < patience(5) && took.elapsed() > Duration::from_millis(800),
        "{:?}",
        took.elapsed()
    );
    assert_eq!(stats["name"], format!("/{}", &*name));
    assert_eq!(stats["memory_stats"]["limit"], 67_108_864);
    assert_eq!(stats["pids_stats"], json!({"current": 1, "limit": 50}));
    let number = |path: &str| {
        stats
            .pointer(path)
            .and_then(Value::as_u64)
            .unwrap_or_else(|| panic!("{path} in {stats}"))
    };
    let total = number("/cpu_stats/cpu_usage/total_usage");
    assert!(total > 0 && total >= number("/precpu_stats/cpu_usage/total_usage"));
    assert!(number("/cpu_stats/system_cpu_usage") > number("/precpu_stats/system_cpu_usage"));
    let online = std::thread::available_parallelism().unwrap().get() as u64;
    assert!(number("/cpu_stats/online_cpus") >= online);
    if !is_cgroup_v2() {
        let used: u64 = process.control("cpuacct", &["cpuacct.usage"]).parse().unwrap();
        assert!(used >= total && used < total + 1_000_000_000, "{used} {total}");
        assert!(stats["cpu_stats"]["cpu_usage"]["percpu_usage"].is_array());
        assert!(number("/memory_stats/max_usage") >= number("/memory_stats/usage"));
    }
    assert!(number("/memory_stats/usage") < 67_108_864 && stats["memory_stats"]["stats"].is_object());
    let table = std::fs::read_to_string(format!("/proc/{}/net/dev", process.0)).unwrap();
    let line = table
        .lines()
        .find_map(|line| line.trim().strip_prefix("eth0:"))
        .unwrap();
    let received: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
    let seen = number("/networks/eth0/rx_bytes");
    assert!(seen > 0 && seen <= received, "{seen} {received}");
    assert!(stats["networks"].get("lo").is_none());
    assert_eq!((&stats["num_procs"], &stats["storage_stats"]), (&json!(0), &json!({})));
    assert_ne!(stats["preread"], "0001-01-01T00:00:00Z");
}

fn figures_of_what_does_not_run_are_zero(world: &World) {
    let name = world.name("ended");
    world.run(&["run", "--name", &name, "busybox", "true"]).ok();
    let stats = world
        .server
        .get(&format!("/containers/{}/stats?stream=false", &*name))
        .expect(200)
        .json();
    assert_eq!(stats["read"], "0001-01-01T00:00:00Z");
    assert_eq!(stats["memory_stats"], json!({}));
    assert_eq!(stats["cpu_stats"]["cpu_usage"]["total_usage"], 0);
    world
        .server
        .get("/containers/no-such-one/stats?stream=false")
        .expect(404);
}

fn one_shot_takes_one_sample(world: &World) {
    let (name, _) = world.sleeper(&[]);
    let target = format!("/containers/{}/stats?stream=false&one-shot=true", &*name);
    let took = Instant::now();
    let stats = world.server.get(&target).expect(200).json();
    assert!(took.elapsed() < Duration::from_millis(900), "{:?}", took.elapsed());
    assert_eq!(stats["preread"], "0001-01-01T00:00:00Z");
    assert_eq!(stats["precpu_stats"]["cpu_usage"]["total_usage"], 0);
    assert!(stats["cpu_stats"]["cpu_usage"]["total_usage"].as_u64().unwrap() > 0);
    world
        .server
        .get(&format!("/containers/{}/stats?stream=true&one-shot=true", &*name))
        .expect(400);
}

fn stream_ends_when_the_container_goes(world: &World) {
    let (name, _) = world.sleeper(&[]);
    let target = format!("/containers/{}/stats", &*name);
    std::thread::scope(|scope| {
        // Two readers of one container.
        let readers = [0, 1].map(|_| scope.spawn(|| world.server.get(&target).expect(200).text()));
        std::thread::sleep(Duration::from_millis(2500));
        world.run(&["rm", "-f", &name]).ok();
        for reader in readers {
            let text = reader.join().unwrap();
            let samples: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert!(samples.len() >= 2, "{text}");
            assert_eq!(samples[1]["preread"], samples[0]["read"]);
        }
    });
}

fn table_of_figures(world: &World) {
    let (name, _) = world.sleeper(&["-m", "32m"]);
    let text = world.run(&["stats", "--no-stream", &name]).ok();
    let mut lines = text.lines();
    let heading = lines.next().unwrap();
    assert!(
        heading.starts_with("CONTAINER ID   NAME") && heading.ends_with("BLOCK I/O   PIDS"),
        "{heading}"
    );
    let row = lines.next().unwrap();
    assert!(
        row.contains(&*name) && row.contains(" / 32MiB") && row.trim_end().ends_with('1'),
        "{row}"
    );
    let format = ["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", &name];
    assert_eq!(world.run(&format).ok(), format!("{} 1", &*name));
    let rows = world.run(&["stats", "--no-stream", "--format", "json", &name]).ok();
    let row: Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(row["Name"], *name);
    let all = world
        .run(&["stats", "--no-stream", "--no-trunc", "--format", "{{.ID}}"])
        .ok();
    assert!(all.lines().any(|id| id == world.inspect(&name)["Id"]), "{all}");
    assert_ne!(world.run(&["stats", "--no-stream", "no-such-one"]).code, 0);
}

fn the_table_follows_what_comes_and_goes(world: &World) {
    let (first, _) = world.sleeper(&[]);
    let table = world.background(&["stats", "--format", "<{{.Name}}>"]);
    table.expect(&format!("<{}>", &*first));
    let (second, _) = world.sleeper(&[]);
    table.expect(&format!("<{}>", &*second));
    world.run(&["rm", "-f", &second]).ok();
    let times = || table.so_far().matches(&format!("<{}>", &*second)).count();
    eventually("it is gone from the table", 10, || {
        let before = times();
        std::thread::sleep(Duration::from_millis(1500));
        times() == before
    });
    table.signal(nix::sys::signal::Signal::SIGINT);
    let (_, text) = table.finish(5);
    assert!(text.contains(&format!("<{}>", &*first)));
}

fn the_table_is_redrawn_on_a_terminal(world: &World) {
    let (name, _) = world.sleeper(&[]);
    // Of all: with a name, docker's client 28 hears only the third interrupt.
    let mut terminal = world.terminal(&["stats"], 24, 160);
    let tables = || terminal.shown().matches("CPU %").count();
    eventually("it is shown again and again", 10, || tables() > 2);
    let shown = terminal.shown();
    assert!(shown.contains("\x1b[H") && shown.contains(&*name), "{shown:?}");
    terminal.send(b"\x03");
    terminal.finish();
}

fn processes_are_those_of_ps(world: &World) {
    let (name, process) = world.sleeper(&[]);
    world.run(&["exec", "-d", &name, "sleep", "2000"]).ok();
    let top = || {
        world
            .server
            .get(&format!("/containers/{}/top", &*name))
            .expect(200)
            .json()
    };
    eventually("both processes are listed", 5, || {
        top()["Processes"].as_array().unwrap().len() == 2
    });
    let top = top();
    assert_eq!(
        top["Titles"],
        json!(["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"])
    );
    let row = &top["Processes"][0];
    assert_eq!(row[1], process.0.to_string());
    // What the host's ps says of the same process.
    let said = Run::new("ps".as_ref(), &["-ef", "-q", &process.0.to_string()]).output();
    if said.code == 0 {
        let line = said.out.lines().nth(1).unwrap().to_owned();
        let words: Vec<&str> = line.split_whitespace().collect();
        let ours: Vec<&str> = row
            .as_array()
            .unwrap()
            .iter()
            .map(|cell| cell.as_str().unwrap())
            .collect();
        assert_eq!(ours[..7], words[..7]);
        assert_eq!(ours[7], words[7..].join(" "));
    }
    let shown = world.run(&["top", &name]).ok();
    assert!(shown.starts_with("UID") && shown.contains("sleep 2000"), "{shown}");
    assert!(actions(world, &name).contains(&"top".to_owned()));
    world.run(&["stop", "-t", "0", &name]).ok();
    let refused = world.server.get(&format!("/containers/{}/top", &*name)).expect(409);
    assert!(refused.message().ends_with("is not running"), "{}", refused.message());
}

fn processes_with_other_columns(world: &World) {
    let (name, process) = world.sleeper(&[]);
    let shown = world.run(&["top", &name, "-eo", "pid,comm"]).ok();
    let words: Vec<&str> = shown.split_whitespace().collect();
    let pid = process.0.to_string();
    assert_eq!(words, ["PID", "COMMAND", pid.as_str(), "sleep"]);
    for (arguments, status) in [("-eo ppid=PID", 400), ("-eo comm", 400), ("--no-such-option", 400)] {
        let target = format!("/containers/{}/top?ps_args={}", &*name, arguments.replace(' ', "%20"));
        let refused = world.server.get(&target);
        assert!(refused.status >= status, "{arguments}: {}", refused.text());
    }
}

/// A block device of this machine that can be throttled.
pub fn block_device() -> Option<(String, String)> {
    let names = std::fs::read_dir("/sys/block").ok()?.flatten();
    let mut names: Vec<String> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names.into_iter().rev().find_map(|name| {
        let path = format!("/dev/{name}");
        let meta = std::fs::metadata(&path).ok()?;
        let size = std::fs::read_to_string(format!("/sys/block/{name}/size")).ok()?;
        let number = meta.rdev();
        let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
        (meta.file_type().is_block_device() && size.trim() != "0").then(|| (path, format!("{major}:{minor}")))
    })
}

fn limits_of_devices_change(world: &World) {
    let Some((path, number)) = block_device() else {
        harness::suite::skip("this machine has no block device");
    };
    let (name, process) = world.sleeper(&["--device-read-bps", &format!("{path}:1mb")]);
    let rate = || process.control("blkio", &["io.max", "blkio.throttle.read_bps_device"]);
    assert!(rate().contains(&number) && rate().contains("1048576"), "{}", rate());
    let target = format!("/containers/{}/update", &*name);
    let change = json!({"BlkioDeviceReadBps": [{"Path": path, "Rate": 2_097_152}]});
    world.server.post(&target, &change).expect(200);
    assert!(rate().contains("2097152") && !rate().contains("1048576"), "{}", rate());
    assert_eq!(
        world.inspect(&name)["HostConfig"]["BlkioDeviceReadBps"][0]["Rate"],
        2_097_152
    );
    world
        .server
        .post(
            &target,
            &json!({"BlkioDeviceReadBps": [{"Path": "/dev/null", "Rate": 1}]}),
        )
        .expect(400);
}

fn a_cpu_set_can_be_given_later(world: &World) {
    let (name, process) = world.sleeper(&[]);
    world.run(&["update", "--cpuset-cpus", "0", &name]).ok();
    assert_eq!(process.status("Cpus_allowed_list"), "0");
    assert_eq!(process.control("cpuset", &["cpuset.cpus"]), "0");
    // What comes later is under it too.
    assert!(
        world
            .inside(&name, "grep Cpus_allowed_list /proc/self/status")
            .ends_with("\t0")
    );
}

fn updates_that_clash_are_refused(world: &World) {
    let (name, process) = world.sleeper(&["--cpus", "0.5"]);
    let target = format!("/containers/{}/update", &*name);
    let refused = world.server.post(&target, &json!({"CpuQuota": 20_000})).expect(409);
    assert!(
        refused
            .message()
            .contains("CPU Quota cannot be updated as NanoCPUs has already been set"),
        "{}",
        refused.message()
    );
    world.server.post(&target, &json!({"Memory": 1000})).expect(400);
    world
        .server
        .post(&target, &json!({"Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 1}]}))
        .expect(501);
    world.server.post(&target, &json!({"PidsLimit": 40})).expect(200);
    assert_eq!(process.control("pids", &["pids.max"]), "40");
    world.server.post(&target, &json!({"PidsLimit": 0})).expect(200);
    assert_eq!(process.control("pids", &["pids.max"]), "max");
    let (temporary, _) = world.sleeper(&["--rm"]);
    let policy = json!({"RestartPolicy": {"Name": "always"}});
    let refused = world
        .server
        .post(&format!("/containers/{}/update", &*temporary), &policy)
        .expect(409);
    assert!(
        refused.message().contains("AutoRemove is enabled"),
        "{}",
        refused.message()
    );
    assert!(actions(world, &name).contains(&"update".to_owned()));
}
