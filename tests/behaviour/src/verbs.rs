//! What one does with containers and images: exec, attach, logs, lists, stop, kill, rename, events, save, load.

use std::time::{Duration, Instant};

use harness::image::{Image, Layer, Packing, entries};
use harness::tools::{Folder, eventually};
use harness::{Test, tests};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        exec_runs_in_all_namespaces,
        exec_returns_the_exit_code,
        exec_passes_stdin,
        exec_takes_user_workdir_and_environment,
        exec_detached_goes_on,
        exec_refuses_a_stopped_container,
        exec_privileged_has_capabilities,
        exec_missing_program_is_127,
        exec_is_inspected,
        attach_sees_output_and_sends_input,
        two_attached_clients_see_the_same,
        logs_show_both_streams,
        logs_tail_since_and_timestamps,
        logs_follow_to_the_end,
        logs_of_long_lines,
        logs_survive_the_exit,
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
        images_lists_names_and_sizes,
        image_tag_and_rmi,
        rmi_refuses_an_image_in_use,
        image_history_and_inspect,
        save_then_load_gives_the_same_image,
        load_takes_the_oci_layout,
        load_takes_zstd_layers,
        import_and_export,
        export_has_the_changes,
        info_and_version,
        deep_layers_with_whiteouts,
    ]
}

fn exec_runs_in_all_namespaces(world: &World) {
    let (name, process) = world.sleeper(&[]);
    let shown = world.inside(
        &name,
        "for n in mnt pid uts ipc net; do readlink /proc/self/ns/$n; done",
    );
    let wanted: Vec<String> = ["mnt", "pid", "uts", "ipc", "net"]
        .iter()
        .map(|kind| process.namespace(kind))
        .collect();
    assert_eq!(shown.lines().collect::<Vec<_>>(), wanted);
    assert_eq!(
        world.inside(&name, "grep ^CapEff /proc/self/status | cut -f2"),
        "00000000a80425fb"
    );
}

fn exec_returns_the_exit_code(world: &World) {
    let (name, _) = world.sleeper(&[]);
    world.run(&["exec", &name, "sh", "-c", "exit 4"]).fails(4);
    world.run(&["exec", &name, "sh", "-c", "kill -9 $$"]).fails(137);
    world.run(&["exec", &name, "true"]).ok();
}

fn exec_passes_stdin(world: &World) {
    let (name, _) = world.sleeper(&[]);
    let output = world
        .command(&["exec", "-i", &name, "sh", "-c", "cat; echo end >&2"])
        .input("some text")
        .output();
    assert_eq!(
        (output.out.as_str(), output.err.as_str(), output.code),
        ("some text", "end", 0)
    );
}

fn exec_takes_user_workdir_and_environment(world: &World) {
    let (name, _) = world.sleeper(&["-e", "OLD=1"]);
    let out = world.run(&[
        "exec",
        "-u",
        "user",
        "-w",
        "/tmp",
        "-e",
        "NEW=2",
        &name,
        "sh",
        "-c",
        "id -u; pwd; echo $OLD $NEW $HOME",
    ]);
    assert_eq!(out.ok(), "1000\n/tmp\n1 2 /home/user");
}

fn exec_detached_goes_on(world: &World) {
    let (name, _) = world.sleeper(&[]);
    world
        .run(&["exec", "-d", &name, "sh", "-c", "sleep 0.3; echo done > /tmp/done"])
        .ok();
    eventually("the detached command has ended", 10, || {
        world.run(&["exec", &name, "cat", "/tmp/done"]).out == "done"
    });
}

fn exec_refuses_a_stopped_container(world: &World) {
    let name = world.name("stopped");
    world.run(&["run", "--name", &name, "busybox", "true"]).ok();
    let output = world.run(&["exec", &name, "true"]);
    assert_eq!(output.code, 1);
    assert!(output.err.contains("is not running"), "{}", output.err);
}

fn exec_privileged_has_capabilities(world: &World) {
    let (name, _) = world.sleeper(&[]);
    let shown = world
        .run(&["exec", "--privileged", &name, "grep", "^CapEff", "/proc/self/status"])
        .ok();
    let mask = u64::from_str_radix(shown.split_whitespace().last().unwrap(), 16).unwrap();
    assert_eq!(mask, harness::kernel::Process::own().capabilities("CapBnd"));
}

fn exec_missing_program_is_127(world: &World) {
    let (name, process) = world.sleeper(&[]);
    let output = world.run(&["exec", &name, "no-such-program"]);
    assert_eq!(output.code, 127, "{} {}", output.out, output.err);
    assert!(
        format!("{} {}", output.out, output.err).contains("executable file not found in $PATH"),
        "{} {}",
        output.out,
        output.err
    );
    assert!(process.is_alive());
}

fn exec_is_inspected(world: &World) {
    let (name, process) = world.sleeper(&[]);
    let body = serde_json::json!({"Cmd": ["sleep", "1000"], "Detach": true});
    let id = world
        .server
        .post(&format!("/containers/{}/exec", &*name), &body)
        .expect(201)
        .json()["Id"]
        .as_str()
        .unwrap()
        .to_owned();
    let before = world.server.get(&format!("/exec/{id}/json")).expect(200).json();
    assert_eq!(
        (before["Running"].as_bool(), before["ExitCode"].is_null()),
        (Some(false), true)
    );
    world
        .server
        .post(&format!("/exec/{id}/start"), &serde_json::json!({"Detach": true}))
        .expect(200);
    let shown = world.server.get(&format!("/exec/{id}/json")).expect(200).json();
    assert_eq!(shown["Running"], true);
    let exec = harness::kernel::Process(shown["Pid"].as_i64().unwrap() as i32);
    assert_eq!(exec.command_line(), ["sleep", "1000"]);
    assert_eq!(exec.namespace("pid"), process.namespace("pid"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(exec.0), nix::sys::signal::Signal::SIGTERM).unwrap();
    eventually("its end is known", 10, || {
        world.server.get(&format!("/exec/{id}/json")).json()["ExitCode"] == 143
    });
}

fn attach_sees_output_and_sends_input(world: &World) {
    let name = world.name("attached");
    world
        .run(&[
            "run",
            "-d",
            "-i",
            "--name",
            &name,
            "busybox",
            "sh",
            "-c",
            "while read line; do echo got $line; done; echo bye",
        ])
        .ok();
    let mut client = world.background(&["attach", &name]);
    // The client attaches in its own time; what is sent before would go nowhere only if the daemon lost it.
    client.send(b"one\n");
    client.expect("got one");
    client.send(b"two\n");
    client.expect("got two");
    client.signal(nix::sys::signal::Signal::SIGKILL);
    drop(client);
    assert_eq!(
        world.inspect(&name)["State"]["Running"],
        true,
        "a client that goes away takes nothing with it"
    );
    let mut again = world.background(&["attach", &name]);
    again.send(b"three\n");
    again.expect("got three");
}

fn two_attached_clients_see_the_same(world: &World) {
    let name = world.name("shared");
    world.run(&["run", "-d", "-i", "--name", &name, "busybox", "cat"]).ok();
    let first = world.background(&["attach", "--no-stdin", &name]);
    let mut second = world.background(&["attach", &name]);
    eventually("both see what one of them types", 10, || {
        second.send(b"line\n");
        std::thread::sleep(Duration::from_millis(50));
        first.so_far().contains("line") && second.so_far().contains("line")
    });
}

fn logs_show_both_streams(world: &World) {
    let name = world.name("logs");
    world
        .run(&["run", "--name", &name, "busybox", "sh", "-c", "echo out; echo err >&2"])
        .ok();
    let output = world.run(&["logs", &name]);
    assert_eq!((output.out.as_str(), output.err.as_str()), ("out", "err"));
}

fn logs_tail_since_and_timestamps(world: &World) {
    let name = world.name("logs");
    world
        .run(&[
            "run",
            "--name",
            &name,
            "busybox",
            "sh",
            "-c",
            "for i in 1 2 3; do echo early $i; done; sleep 1.2; for i in 1 2 3; do echo late $i; done",
        ])
        .ok();
    assert_eq!(world.run(&["logs", "--tail", "2", &name]).ok(), "late 2\nlate 3");
    assert_eq!(world.run(&["logs", "--tail", "0", &name]).ok(), "");
    assert_eq!(world.run(&["logs", "-n", "all", &name]).ok().lines().count(), 6);
    let stamped = world.run(&["logs", "-t", &name]).ok();
    let times: Vec<&str> = stamped.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert!(
        times.iter().all(|time| time.len() >= 20 && time.ends_with('Z')),
        "{times:?}"
    );
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]), "{times:?}");
    let late = world.run(&["logs", "--since", times[3], &name]).ok();
    assert_eq!(late, "late 1\nlate 2\nlate 3");
    let early = world.run(&["logs", "--until", times[2], &name]).ok();
    assert_eq!(early.lines().last(), Some("early 3"));
}

fn logs_follow_to_the_end(world: &World) {
    let name = world.name("logs");
    world
        .run(&[
            "run",
            "-d",
            "--name",
            &name,
            "busybox",
            "sh",
            "-c",
            "for i in 1 2 3 4 5; do echo line $i; sleep 0.1; done",
        ])
        .ok();
    let client = world.background(&["logs", "-f", &name]);
    let (code, text) = client.finish(20);
    assert_eq!((code, text.trim()), (0, "line 1\nline 2\nline 3\nline 4\nline 5"));
}

fn logs_of_long_lines(world: &World) {
    let name = world.name("logs");
    // Longer than the 16 KiB at which log drivers cut a line into records.
    world
        .run(&[
            "run",
            "--name",
            &name,
            "busybox",
            "sh",
            "-c",
            "head -c 50000 /dev/zero | tr '\\0' x; echo; echo after; printf unfinished",
        ])
        .ok();
    let text = world.run(&["logs", &name]).ok();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.iter().map(|line| line.len()).collect::<Vec<_>>(), [50000, 5, 10]);
    assert_eq!(lines[2], "unfinished");
}

fn logs_survive_the_exit(world: &World) {
    let name = world.name("logs");
    world
        .run(&[
            "run",
            "-d",
            "--name",
            &name,
            "busybox",
            "sh",
            "-c",
            "echo the last words; exit 9",
        ])
        .ok();
    assert_eq!(world.run(&["wait", &name]).ok(), "9");
    assert_eq!(world.run(&["logs", &name]).ok(), "the last words");
    world.run(&["start", &name]).ok();
    world.run(&["wait", &name]).ok();
    assert_eq!(world.run(&["logs", &name]).ok(), "the last words\nthe last words");
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

fn images_lists_names_and_sizes(world: &World) {
    let shown = world.run(&["images", "busybox"]).ok();
    assert!(shown.starts_with("REPOSITORY"), "{shown}");
    assert!(shown.lines().nth(1).unwrap().contains("MB"), "{shown}");
    let listed = world
        .run(&[
            "images",
            "--format",
            "{{.Repository}}:{{.Tag}}",
            "--filter",
            "reference=busybox",
        ])
        .ok();
    assert!(listed.lines().any(|line| line == "busybox:latest"), "{listed}");
    let id = world.run(&["images", "-q", "--no-trunc", "busybox:latest"]).ok();
    assert_eq!(id.lines().next().unwrap(), Image::busybox().id());
}

fn image_tag_and_rmi(world: &World) {
    let tag = format!("example.test:5000/some/name:{}", harness::tools::tag());
    world.run(&["tag", "busybox", &tag]).ok();
    assert_eq!(world.run(&["run", "--rm", &tag, "echo", "tagged"]).ok(), "tagged");
    let out = world.run(&["rmi", &tag]).ok();
    assert_eq!(out, format!("Untagged: {tag}"), "the image has another name and stays");
    world.run(&["image", "inspect", "busybox"]).ok();
    world.run(&["image", "inspect", &tag]).fails(1);
}

fn rmi_refuses_an_image_in_use(world: &World) {
    let image = format!("used:{}", harness::tools::tag());
    world.load(
        &Image::busybox().with("Labels", serde_json::json!({"own": image})),
        &image,
    );
    let name = world.name("user");
    world.run(&["create", "--name", &name, &image, "true"]).ok();
    let error = world.run(&["rmi", &image]).fails(1);
    assert!(error.contains("conflict") && error.contains("is using"), "{error}");
    world.run(&["rm", &name]).ok();
    let out = world.run(&["rmi", &image]).ok();
    assert!(out.contains("Untagged:") && out.contains("Deleted: sha256:"), "{out}");
}

fn image_history_and_inspect(world: &World) {
    let image = format!("layered:{}", harness::tools::tag());
    world.load(&Image::ubuntu(), &image);
    let shown = world.run(&["history", &image]).ok();
    assert_eq!(shown.lines().count(), 4, "a head and three layers: {shown}");
    let inspected = world.run(&["image", "inspect", &image]).ok();
    let parsed: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(parsed[0]["Id"], Image::ubuntu().id());
    assert_eq!(parsed[0]["RootFS"]["Layers"].as_array().unwrap().len(), 3);
    assert_eq!(parsed[0]["Architecture"], "amd64");
    assert_eq!(parsed[0]["Config"]["Cmd"][0], "/bin/bash");
    world.run(&["rmi", &image]).ok();
}

fn save_then_load_gives_the_same_image(world: &World) {
    let folder = Folder::new("save");
    let image = format!("saved:{}", harness::tools::tag());
    world.load(&Image::ubuntu(), &image);
    let file = folder.at("image.tar");
    world.run(&["save", "-o", &file, &image]).ok();
    let archive = std::fs::read(&file).unwrap();
    let names = entries(&archive);
    for needed in ["manifest.json", "index.json", "oci-layout"] {
        assert!(
            names.iter().any(|(name, _)| name == needed),
            "{needed} is not in the archive"
        );
    }
    world.run(&["rmi", "-f", &image]).ok();
    world.run(&["image", "inspect", &image]).fails(1);
    let out = world.run(&["load", "-i", &file]).ok();
    assert!(out.contains(&format!("Loaded image: {image}")), "{out}");
    assert_eq!(
        world
            .run(&["run", "--rm", &image, "/bin/bash", "-c", "echo $BASH"])
            .ok(),
        "/bin/bash"
    );
    let id = world.run(&["image", "inspect", "-f", "{{.Id}}", &image]).ok();
    assert_eq!(id, Image::ubuntu().id());
    world.run(&["rmi", "-f", &image]).ok();
}

fn plain_layouts_are_ours(world: &World) {
    if world.is_foreign() {
        harness::suite::skip(
            "Docker without the containerd store loads only archives that have Docker's manifest.json",
        );
    }
}

fn load_archive(world: &World, archive: &[u8]) -> String {
    world.command(&["load"]).input(archive.to_vec()).output().ok()
}

fn load_takes_the_oci_layout(world: &World) {
    plain_layouts_are_ours(world);
    for (packing, word) in [(Packing::Gzip, "gzip"), (Packing::Plain, "plain")] {
        let name = format!("docker.io/library/oci-{word}:{}", harness::tools::tag());
        let image = Image::busybox().with("Labels", serde_json::json!({"packing": word}));
        let out = load_archive(world, &image.oci_archive(&name, packing));
        assert!(out.contains("Loaded image"), "{out}");
        assert_eq!(world.run(&["run", "--rm", &name, "echo", word]).ok(), word);
        world.run(&["rmi", &name]).ok();
    }
}

fn load_takes_zstd_layers(world: &World) {
    plain_layouts_are_ours(world);
    let name = format!("docker.io/library/oci-zstd:{}", harness::tools::tag());
    load_archive(
        world,
        &Image::busybox()
            .with("Labels", serde_json::json!({"z": "1"}))
            .oci_archive(&name, Packing::Zstd),
    );
    assert_eq!(world.run(&["run", "--rm", &name, "echo", "zstd"]).ok(), "zstd");
    world.run(&["rmi", &name]).ok();
}

fn import_and_export(world: &World) {
    let name = format!("imported:{}", harness::tools::tag());
    let layer = Image::busybox().layers[0].clone();
    let out = world
        .command(&["import", "-c", "CMD [\"echo\", \"imported\"]", "-", &name])
        .input(layer)
        .output()
        .ok();
    assert!(out.starts_with("sha256:"), "{out}");
    assert_eq!(world.run(&["run", "--rm", &name]).ok(), "imported");
    world.run(&["rmi", &name]).ok();
}

fn export_has_the_changes(world: &World) {
    let name = world.name("exported");
    world.run(&["run", "--name", &name, "busybox", "sh", "-c", "mkdir -p /new/dir; echo text > /new/dir/file; ln -s file /new/dir/link; chmod 640 /new/dir/file; chown 1000:29 /new/dir/file"]).ok();
    let folder = Folder::new("export");
    let file = folder.at("tree.tar");
    world.run(&["export", "-o", &file, &name]).ok();
    let bytes = std::fs::read(&file).unwrap();
    assert!(
        entries(&bytes)
            .iter()
            .any(|(path, content)| path == "new/dir/file" && content == b"text\n")
    );
    let listing = harness::process::Run::new(
        "tar".as_ref(),
        &["--numeric-owner", "-tvf", &file, "new/dir/file", "new/dir/link"],
    )
    .output()
    .ok();
    assert!(
        listing.contains("-rw-r----- 1000/29") && listing.contains("link -> file"),
        "{listing}"
    );
}

fn info_and_version(world: &World) {
    let shown = world
        .run(&[
            "version",
            "--format",
            "{{.Server.APIVersion}} {{.Server.Os}}/{{.Server.Arch}}",
        ])
        .ok();
    assert!(shown.ends_with("linux/amd64"), "{shown}");
    let info = world.server.get("/info").expect(200).json();
    assert!(info["NCPU"].as_i64().unwrap() >= 1);
    assert!(info["MemTotal"].as_i64().unwrap() > 1 << 28);
    assert_eq!(info["OSType"], "linux");
    assert_eq!(
        info["CgroupVersion"],
        if harness::kernel::is_cgroup_v2() { "2" } else { "1" }
    );
    let (_name, _) = world.sleeper(&[]);
    let shown = world.run(&["info", "--format", "{{.ContainersRunning}}"]).ok();
    assert!(shown.parse::<i64>().unwrap() >= 1);
    world.run(&["info"]).ok();
    world.run(&["version"]).ok();
}

fn deep_layers_with_whiteouts(world: &World) {
    let mut image = Image::busybox();
    for number in 0..40 {
        let layer = Layer::default().folder("deep", 0o755).file(
            &format!("deep/{number}"),
            0o644,
            format!("{number}").as_bytes(),
        );
        image = image.layer(layer);
    }
    let image = image
        .layer(
            Layer::default()
                .file("deep/.wh.7", 0o644, b"")
                .file("deep/late", 0o644, b"late"),
        )
        .layer(Layer::default().folder("gone", 0o755).file("gone/old", 0o644, b""))
        .layer(
            Layer::default()
                .folder("gone", 0o755)
                .file("gone/.wh..wh..opq", 0o644, b"")
                .file("gone/new", 0o644, b""),
        );
    let name = format!("deep:{}", harness::tools::tag());
    world.load(&image, &name);
    let out = world
        .run(&[
            "run",
            "--rm",
            &name,
            "sh",
            "-c",
            "ls /deep | wc -l; ls /deep/7 2>/dev/null; cat /deep/39; ls /gone",
        ])
        .ok();
    assert_eq!(out, "40\n39new");
    world.run(&["rmi", &name]).ok();
}
