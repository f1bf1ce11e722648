//! The life of containers: create, start, stop, kill, wait, rename, remove, and what lists and events say of it.

use std::time::{Duration, Instant};

use harness::image::entries;
use harness::tools::eventually;
use harness::{Test, tests};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        ps_lists_running_and_all,
        ps_filters_and_formats,
        inspect_by_prefix_and_name,
        inspect_shows_what_was_asked_for,
        stop_kills_after_the_grace,
        stop_of_a_stopped_container_changes_nothing,
        kill_sends_the_signal,
        restart_starts_again,
        start_runs_a_stopped_container_again,
        start_attached_returns_the_code,
        rm_refuses_a_running_container,
        rm_force_leaves_nothing,
        rename_changes_the_name,
        wait_returns_the_code,
        create_then_start,
        container_files_stay_until_removal,
        events_tell_the_life_of_a_container,
        prune_removes_stopped_containers,
    ]
}

fn ps_lists_running_and_all(world: &World) {
    let (running, _) = world.sleeper(&[]);
    let stopped = world.name("stopped");
    world
        .run(&["run", "--name", &stopped, "busybox", "sh", "-c", "exit 2"])
        .fails(2);
    let shown = world.run(&["ps"]).ok();
    assert!(shown.contains(&*running) && !shown.contains(&*stopped), "{shown}");
    assert!(shown.starts_with("CONTAINER ID"), "{shown}");
    let shown = world.run(&["ps", "-a"]).ok();
    let line = shown.lines().find(|line| line.contains(&*stopped)).unwrap();
    assert!(line.contains("Exited (2)"), "{line}");
    assert!(
        shown
            .lines()
            .find(|line| line.contains(&*running))
            .unwrap()
            .contains("Up ")
    );
}

fn ps_filters_and_formats(world: &World) {
    let name = world.name("filtered");
    world
        .run(&[
            "run",
            "--name",
            &name,
            "-l",
            &format!("mark={}", &*name),
            "busybox",
            "sh",
            "-c",
            "exit 6",
        ])
        .fails(6);
    let mark = format!("label=mark={}", &*name);
    let format = "{{.Names}} {{.Image}} {{.State}}";
    assert_eq!(
        world.run(&["ps", "-a", "-f", &mark, "--format", format]).ok(),
        format!("{} busybox exited", &*name)
    );
    assert_eq!(
        world
            .run(&["ps", "-aq", "-f", &mark, "-f", "status=exited", "-f", "exited=6"])
            .ok()
            .len(),
        12
    );
    assert_eq!(world.run(&["ps", "-aq", "-f", &mark, "-f", "status=running"]).ok(), "");
    let json = world.run(&["ps", "-a", "-f", &mark, "--format", "json"]).ok();
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(parsed["Names"], *name);
    world.run(&["ps", "-f", "no-such-filter=1"]).fails(1);
}

fn inspect_by_prefix_and_name(world: &World) {
    let (name, process) = world.sleeper(&[]);
    let id = world.inspect(&name)["Id"].as_str().unwrap().to_owned();
    for handle in [&*name, &id, &id[..12], &format!("/{}", &*name)] {
        let pid = world.run(&["inspect", "--format", "{{.State.Pid}}", handle]).ok();
        assert_eq!(pid, process.0.to_string(), "{handle}");
    }
    let error = world.run(&["inspect", "no-such-thing"]).fails(1);
    assert!(error.contains("no-such-thing"), "{error}");
    assert_eq!(
        world
            .run(&["inspect", "-f", "{{.Name}} {{json .Config.Cmd}}", &name])
            .ok(),
        format!("/{} [\"sleep\",\"1000\"]", &*name)
    );
}

fn inspect_shows_what_was_asked_for(world: &World) {
    let (name, process) = world.sleeper(&[
        "-e",
        "A=1",
        "-w",
        "/tmp",
        "-u",
        "1000",
        "--restart",
        "on-failure:3",
        "-h",
        "box",
    ]);
    let shown = world.inspect(&name);
    assert_eq!(shown["Config"]["WorkingDir"], "/tmp");
    assert_eq!(shown["Config"]["User"], "1000");
    assert_eq!(shown["Config"]["Hostname"], "box");
    assert_eq!(shown["HostConfig"]["RestartPolicy"]["MaximumRetryCount"], 3);
    assert!(
        shown["Config"]["Env"]
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry == "A=1")
    );
    assert_eq!(shown["Path"], "sleep");
    assert_eq!(shown["Args"][0], "1000");
    assert_eq!(shown["State"]["Pid"], process.0);
    assert!(shown["State"]["StartedAt"].as_str().unwrap().starts_with("20"));
    assert!(shown["State"]["FinishedAt"].as_str().unwrap().starts_with("0001-01-01"));
    assert!(shown["Image"].as_str().unwrap().starts_with("sha256:"));
}

fn stop_kills_after_the_grace(world: &World) {
    let name = world.name("stubborn");
    world
        .run(&[
            "run",
            "-d",
            "--name",
            &name,
            "busybox",
            "sh",
            "-c",
            "trap '' TERM; echo ready; while :; do sleep 0.1; done",
        ])
        .ok();
    eventually("it is ready", 10, || world.run(&["logs", &name]).out == "ready");
    let process = world.process(&name);
    let begun = Instant::now();
    world.run(&["stop", "-t", "1", &name]).ok();
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(950) && took < harness::tools::patience(6),
        "{took:?}"
    );
    assert!(!process.is_alive());
    assert_eq!(world.inspect(&name)["State"]["ExitCode"], 137);
}

fn stop_of_a_stopped_container_changes_nothing(world: &World) {
    let name = world.name("stopped");
    world
        .run(&["run", "--name", &name, "busybox", "sh", "-c", "exit 5"])
        .fails(5);
    world
        .server
        .call("POST", &format!("/containers/{}/stop", &*name), None)
        .expect(304);
    world.run(&["stop", &name]).ok();
    assert_eq!(world.inspect(&name)["State"]["ExitCode"], 5);
}

fn kill_sends_the_signal(world: &World) {
    let name = world.name("trap");
    world
        .run(&[
            "run",
            "-d",
            "--name",
            &name,
            "busybox",
            "sh",
            "-c",
            "trap 'echo HUP' HUP; echo ready; while :; do sleep 0.05; done",
        ])
        .ok();
    eventually("it is ready", 10, || world.run(&["logs", &name]).out == "ready");
    world.run(&["kill", "-s", "HUP", &name]).ok();
    eventually("the signal arrived", 10, || {
        world.run(&["logs", &name]).out.contains("HUP")
    });
    assert_eq!(world.inspect(&name)["State"]["Running"], true);
    world.run(&["kill", &name]).ok();
    eventually("it is dead", 10, || world.inspect(&name)["State"]["ExitCode"] == 137);
    let error = world.run(&["kill", &name]).fails(1);
    assert!(error.contains("is not running"), "{error}");
}

fn restart_starts_again(world: &World) {
    let (name, process) = world.sleeper(&[]);
    world.run(&["restart", "-t", "1", &name]).ok();
    assert!(!process.is_alive());
    assert_ne!(world.process(&name).0, process.0);
    assert_eq!(
        world.inspect(&name)["RestartCount"],
        0,
        "only the restart policy counts"
    );
}

fn start_runs_a_stopped_container_again(world: &World) {
    let name = world.name("again");
    world
        .run(&[
            "run",
            "--name",
            &name,
            "busybox",
            "sh",
            "-c",
            "echo run >> /runs; wc -l < /runs",
        ])
        .ok();
    world.run(&["start", &name]).ok();
    assert_eq!(world.run(&["wait", &name]).ok(), "0");
    assert_eq!(
        world.run(&["logs", &name]).ok(),
        "1\n2",
        "the writable layer is kept between the runs"
    );
}

fn start_attached_returns_the_code(world: &World) {
    let name = world.name("again");
    world
        .run(&["create", "--name", &name, "-i", "busybox", "sh", "-c", "cat; exit 8"])
        .ok();
    let output = world.command(&["start", "-a", "-i", &name]).input("typed").output();
    assert_eq!((output.out.as_str(), output.code), ("typed", 8));
}

fn rm_refuses_a_running_container(world: &World) {
    let (name, process) = world.sleeper(&[]);
    let error = world.run(&["rm", &name]).fails(1);
    assert!(error.contains("container is running"), "{error}");
    assert!(process.is_alive());
}

fn rm_force_leaves_nothing(world: &World) {
    let (name, process) = world.sleeper(&["--tmpfs", "/scratch"]);
    let id = world.inspect(&name)["Id"].as_str().unwrap().to_owned();
    world.run(&["rm", "-f", &name]).ok();
    assert!(!process.is_alive());
    world.server.get(&format!("/containers/{id}/json")).expect(404);
    eventually("no cgroup has its name", 5, || {
        harness::kernel::cgroups_with(&id).is_empty()
    });
    assert!(
        !harness::kernel::own_mounts()
            .iter()
            .any(|mount| mount.target.contains(&id))
    );
}

fn rename_changes_the_name(world: &World) {
    let (old, process) = world.sleeper(&[]);
    let new = world.name("renamed");
    world.run(&["rename", &old, &new]).ok();
    assert_eq!(world.process(&new).0, process.0);
    world.server.get(&format!("/containers/{}/json", &*old)).expect(404);
    let other = world.name("other");
    world.run(&["create", "--name", &other, "busybox", "true"]).ok();
    let error = world.run(&["rename", &other, &new]).fails(1);
    assert!(error.contains("already in use by container"), "{error}");
}

fn wait_returns_the_code(world: &World) {
    let name = world.name("waited");
    world
        .run(&[
            "run",
            "-d",
            "--name",
            &name,
            "busybox",
            "sh",
            "-c",
            "sleep 0.5; exit 11",
        ])
        .ok();
    let begun = Instant::now();
    assert_eq!(world.run(&["wait", &name]).ok(), "11");
    assert!(begun.elapsed() > Duration::from_millis(100));
    assert_eq!(
        world.run(&["wait", &name]).ok(),
        "11",
        "also when it has ended long ago"
    );
}

fn create_then_start(world: &World) {
    let name = world.name("created");
    let id = world.run(&["create", "--name", &name, "busybox", "sleep", "1000"]).ok();
    let shown = world.inspect(&name);
    assert_eq!(
        (
            shown["Id"].as_str(),
            shown["State"]["Status"].as_str(),
            shown["State"]["Pid"].as_i64()
        ),
        (Some(id.as_str()), Some("created"), Some(0))
    );
    world.run(&["start", &name]).ok();
    assert!(world.process(&name).is_alive());
    world
        .server
        .call("POST", &format!("/containers/{}/start", &*name), None)
        .expect(304);
}

fn container_files_stay_until_removal(world: &World) {
    let name = world.name("files");
    world
        .run(&[
            "run",
            "--name",
            &name,
            "busybox",
            "sh",
            "-c",
            "echo kept > /kept; rm /etc/group",
        ])
        .ok();
    let archive = world.run(&["export", &name]);
    assert_eq!(archive.code, 0, "{}", archive.err);
    let names = entries(&archive.bytes);
    assert!(names.iter().any(|(name, bytes)| name == "kept" && bytes == b"kept\n"));
    assert!(!names.iter().any(|(name, _)| name == "etc/group"));
}

fn events_tell_the_life_of_a_container(world: &World) {
    let name = world.name("events");
    let filter = format!("container={}", &*name);
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let client = world.background(&["events", "--filter", &filter, "--format", "{{.Action}}"]);
    std::thread::sleep(Duration::from_millis(300));
    world
        .run(&["run", "--name", &name, "busybox", "sh", "-c", "exit 3"])
        .fails(3);
    world.run(&["rm", &name]).ok();
    client.expect("destroy");
    let live: Vec<String> = client.so_far().lines().map(str::to_owned).collect();
    let order: Vec<&str> = live
        .iter()
        .map(String::as_str)
        .filter(|action| matches!(*action, "create" | "start" | "die" | "destroy"))
        .collect();
    assert_eq!(order, ["create", "start", "die", "destroy"]);
    // The same from the journal.
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let filters = format!(
        "%7B%22container%22%3A%5B%22{}%22%5D%2C%22event%22%3A%5B%22die%22%5D%7D",
        &*name
    );
    let past = world
        .server
        .get(&format!("/events?since={since}&until={}&filters={filters}", now + 1));
    let past = past.expect(200);
    let die: serde_json::Value = serde_json::from_str(past.text().lines().next().expect("one event")).unwrap();
    assert_eq!(die["Actor"]["Attributes"]["exitCode"], "3");
    assert_eq!(die["Actor"]["Attributes"]["image"], "busybox");
}

fn prune_removes_stopped_containers(world: &World) {
    let name = world.name("pruned");
    let mark = format!("mark={}", &*name);
    world
        .run(&["run", "--name", &name, "-l", &mark, "busybox", "true"])
        .ok();
    let (running, _) = world.sleeper(&["-l", &mark]);
    let out = world
        .run(&["container", "prune", "-f", "--filter", &format!("label={mark}")])
        .ok();
    assert!(out.contains("Total reclaimed space"), "{out}");
    world.server.get(&format!("/containers/{}/json", &*name)).expect(404);
    assert_eq!(world.inspect(&running)["State"]["Running"], true);
}
