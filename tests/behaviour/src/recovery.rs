//! The daemon goes away and comes back: containers do not notice, nothing that happened meanwhile is lost.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use harness::daemon::{Cli, Daemon, Options};
use harness::image::Image;
use harness::tools::{eventually, free_port};
use harness::{Test, tests};

/// Each test kills its own daemon.
pub struct Nothing;

pub fn tests() -> Vec<Test<Nothing>> {
    tests![
        containers_run_on_and_lose_no_output,
        exit_while_the_daemon_is_away_is_known,
        exec_attach_and_stop_after_a_restart,
        published_port_stays,
        addresses_are_not_given_again,
        auto_removed_container_goes_even_if_it_ended_meanwhile,
        restart_policies_are_kept,
        stopped_by_the_user_stays_stopped,
        objects_are_all_there_again,
        graceful_stop_leaves_the_containers,
        second_daemon_on_the_same_root_is_refused,
        orphans_are_found_and_removed,
        killed_shim_is_noticed,
        paused_container_stays_paused,
        restart_is_fast_with_many_containers,
        follower_of_logs_sees_the_rest_after_a_restart,
        events_outlive_the_daemon,
        changes_outlive_the_daemon,
    ]
}

fn daemon() -> Daemon {
    if std::env::var_os("IECHOR_TEST_HOST").is_some() {
        harness::suite::skip("needs a daemon of its own to kill");
    }
    let mut daemon = Daemon::start(Options::default());
    daemon.cli = Cli::Docker;
    daemon.load(&Image::busybox(), "busybox:latest");
    daemon
}

fn counted(text: &str) -> usize {
    let numbers: Vec<usize> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    for (index, number) in numbers.iter().enumerate() {
        assert_eq!(*number, index + 1, "a line is missing or doubled near {number}");
    }
    numbers.len()
}

/// A container that writes 1, 2, 3, …
fn counter(daemon: &Daemon, name: &str) {
    let line = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done";
    daemon
        .docker(&["run", "-d", "--name", name, "busybox", "sh", "-c", line])
        .ok();
}

fn containers_run_on_and_lose_no_output(_: &Nothing) {
    let daemon = daemon();
    counter(&daemon, "counter");
    let process = daemon.process("counter");
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(200));
        daemon.kill9();
        std::thread::sleep(Duration::from_millis(400));
        assert!(process.is_alive(), "it runs without the daemon");
        daemon.launch();
        assert_eq!(daemon.process("counter").0, process.0);
        assert_eq!(daemon.inspect("counter")["RestartCount"], 0);
    }
    std::thread::sleep(Duration::from_millis(100));
    daemon.docker(&["stop", "-t", "1", "counter"]).ok();
    let lines = counted(&daemon.docker(&["logs", "counter"]).ok());
    assert!(lines > 60, "only {lines} lines in two seconds");
    daemon.finish();
}

fn exit_while_the_daemon_is_away_is_known(_: &Nothing) {
    let daemon = daemon();
    daemon
        .docker(&[
            "run",
            "-d",
            "--name",
            "leaver",
            "busybox",
            "sh",
            "-c",
            "sleep 0.7; echo the last words; exit 7",
        ])
        .ok();
    let process = daemon.process("leaver");
    daemon.kill9();
    eventually("it has ended", 10, || !process.is_alive());
    std::thread::sleep(Duration::from_millis(1100));
    daemon.launch();
    let state = daemon.inspect("leaver")["State"].clone();
    assert_eq!(
        (
            state["Status"].as_str(),
            state["ExitCode"].as_i64(),
            state["Pid"].as_i64()
        ),
        (Some("exited"), Some(7), Some(0))
    );
    assert_eq!(daemon.docker(&["logs", "leaver"]).ok(), "the last words");
    assert_eq!(daemon.docker(&["wait", "leaver"]).ok(), "7");
    // When it ended, not when that was found out.
    let (started, finished) = (
        state["StartedAt"].as_str().unwrap(),
        state["FinishedAt"].as_str().unwrap(),
    );
    let seconds = |time: &str| time[17..19].parse::<i64>().unwrap() + 60 * time[14..16].parse::<i64>().unwrap();
    let ran = (seconds(finished) - seconds(started)).rem_euclid(3600);
    assert!(ran <= 1, "from {started} to {finished}");
    daemon.docker(&["start", "leaver"]).ok();
    daemon.finish();
}

fn exec_attach_and_stop_after_a_restart(_: &Nothing) {
    let daemon = daemon();
    daemon
        .docker(&[
            "run",
            "-d",
            "-i",
            "--name",
            "shell",
            "busybox",
            "sh",
            "-c",
            "while read line; do echo got $line; done",
        ])
        .ok();
    daemon.kill9();
    daemon.launch();
    assert_eq!(daemon.docker(&["exec", "shell", "echo", "inside"]).ok(), "inside");
    let mut client = daemon.background(&["attach", "shell"]);
    client.send(b"word\n");
    client.expect("got word");
    drop(client);
    daemon.docker(&["stop", "-t", "1", "shell"]).ok();
    assert_eq!(daemon.inspect("shell")["State"]["ExitCode"], 137);
    daemon.docker(&["start", "shell"]).ok();
    assert_eq!(daemon.inspect("shell")["State"]["Running"], true);
    daemon.finish();
}

fn answer(port: u16) -> String {
    let mut text = String::new();
    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_string(&mut text);
    }
    text.trim().to_owned()
}

fn published_port_stays(_: &Nothing) {
    let daemon = daemon();
    let port = free_port();
    let line = "while :; do echo served | nc -l -p 80 >/dev/null; done";
    daemon
        .docker(&[
            "run",
            "-d",
            "--name",
            "server",
            "-p",
            &format!("{port}:80"),
            "busybox",
            "sh",
            "-c",
            line,
        ])
        .ok();
    eventually("it answers", 10, || answer(port) == "served");
    daemon.kill9();
    eventually("it answers without the daemon", 10, || answer(port) == "served");
    daemon.launch();
    eventually("it answers after the restart", 10, || answer(port) == "served");
    // The port is still taken, and free after the removal.
    let refused = daemon.docker(&[
        "run",
        "-d",
        "--name",
        "other",
        "-p",
        &format!("{port}:80"),
        "busybox",
        "true",
    ]);
    assert_eq!(refused.code, 125);
    daemon.docker(&["rm", "-f", "server", "other"]).ok();
    std::net::TcpListener::bind(("0.0.0.0", port)).expect("the port is free");
    daemon.finish();
}

fn addresses_are_not_given_again(_: &Nothing) {
    let daemon = daemon();
    let address = |name: &str| {
        daemon.inspect(name)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    for name in ["one", "two", "three"] {
        daemon.sleeper(name, &[]);
    }
    daemon.kill9();
    daemon.launch();
    for name in ["four", "five", "six"] {
        daemon.sleeper(name, &[]);
    }
    let mut all: Vec<String> = ["one", "two", "three", "four", "five", "six"]
        .iter()
        .map(|name| address(name))
        .collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 6, "{all:?}");
    daemon
        .docker(&["exec", "one", "ping", "-c", "1", "-W", "3", &address("six")])
        .ok();
    daemon.finish();
}

fn auto_removed_container_goes_even_if_it_ended_meanwhile(_: &Nothing) {
    let daemon = daemon();
    daemon
        .docker(&["run", "-d", "--rm", "--name", "fleeting", "busybox", "sleep", "0.3"])
        .ok();
    let process = daemon.process("fleeting");
    daemon.kill9();
    eventually("it has ended", 10, || !process.is_alive());
    daemon.launch();
    eventually("it is removed", 5, || {
        daemon.server.get("/containers/fleeting/json").status == 404
    });
    daemon.finish();
}

fn restart_policies_are_kept(_: &Nothing) {
    let daemon = daemon();
    for (name, policy) in [
        ("always", "always"),
        ("unless", "unless-stopped"),
        ("failure", "on-failure"),
    ] {
        daemon.sleeper(name, &["--restart", policy]);
    }
    daemon.sleeper("never", &[]);
    let processes: Vec<_> = ["always", "unless", "failure", "never"]
        .iter()
        .map(|name| daemon.process(name))
        .collect();
    daemon.kill9();
    for process in &processes {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(process.0), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    eventually("all have ended", 10, || {
        !processes.iter().any(|process| process.is_alive())
    });
    daemon.launch();
    for name in ["always", "unless", "failure"] {
        eventually(&format!("{name} runs again"), 10, || {
            daemon.inspect(name)["State"]["Running"] == true
        });
    }
    assert_eq!(daemon.inspect("never")["State"]["ExitCode"], 137);
    daemon.finish();
}

fn stopped_by_the_user_stays_stopped(_: &Nothing) {
    let daemon = daemon();
    for (name, policy) in [("always", "always"), ("unless", "unless-stopped")] {
        daemon.sleeper(name, &["--restart", policy]);
        daemon.docker(&["stop", "-t", "0", name]).ok();
    }
    daemon.kill9();
    daemon.launch();
    // Docker: "always" comes back with the daemon, "unless-stopped" does not.
    eventually("always runs again", 10, || {
        daemon.inspect("always")["State"]["Running"] == true
    });
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(daemon.inspect("unless")["State"]["Running"], false);
    daemon.finish();
}

fn objects_are_all_there_again(_: &Nothing) {
    let daemon = daemon();
    daemon.docker(&["tag", "busybox", "other/name:2"]).ok();
    daemon
        .docker(&[
            "create",
            "--name",
            "created",
            "-e",
            "A=b",
            "-v",
            "kept:/data",
            "busybox",
            "true",
        ])
        .ok();
    daemon
        .docker(&[
            "run",
            "--name",
            "ended",
            "busybox",
            "sh",
            "-c",
            "echo words > /file; echo said; exit 5",
        ])
        .fails(5);
    daemon.docker(&["rename", "ended", "renamed"]).ok();
    let before: Vec<_> = ["created", "renamed"].iter().map(|name| daemon.inspect(name)).collect();
    let images = daemon.server.get("/images/json").json();
    daemon.kill9();
    daemon.launch();
    for (name, old) in ["created", "renamed"].iter().zip(&before) {
        let new = daemon.inspect(name);
        for key in ["Id", "Created", "Name", "Image", "Config", "Mounts", "RestartCount"] {
            assert_eq!(new[key], old[key], "{key} of {name}");
        }
        assert_eq!(new["State"]["ExitCode"], old["State"]["ExitCode"]);
        assert_eq!(new["State"]["FinishedAt"], old["State"]["FinishedAt"]);
    }
    assert_eq!(daemon.server.get("/images/json").json(), images);
    assert_eq!(daemon.docker(&["logs", "renamed"]).ok(), "said");
    daemon.docker(&["start", "-a", "renamed"]).fails(5);
    daemon.finish();
}

fn graceful_stop_leaves_the_containers(_: &Nothing) {
    let daemon = daemon();
    counter(&daemon, "counter");
    let process = daemon.process("counter");
    daemon.stop();
    assert!(process.is_alive());
    std::thread::sleep(Duration::from_millis(300));
    daemon.launch();
    assert_eq!(daemon.process("counter").0, process.0);
    daemon.docker(&["stop", "-t", "0", "counter"]).ok();
    assert!(counted(&daemon.docker(&["logs", "counter"]).ok()) > 10);
    daemon.finish();
}

fn second_daemon_on_the_same_root_is_refused(_: &Nothing) {
    let daemon = daemon();
    let root = daemon.places.data.join("root");
    let exec = daemon.places.exec.join("second");
    let output = harness::process::Run::new(
        &harness::tools::binary("iechord"),
        &[
            "--data-root",
            root.to_str().unwrap(),
            "--exec-root",
            exec.to_str().unwrap(),
            "--host",
            &format!("unix://{}/second.sock", exec.display()),
        ],
    );
    let output = output.env("IECHOR_TEST_TAG", &daemon.places.tag).seconds(10).output();
    assert_ne!(output.code, 0);
    let said = format!("{}{}", output.out, output.err);
    assert!(said.contains(root.to_str().unwrap()), "it says what is taken: {said}");
    assert_eq!(daemon.docker(&["run", "--rm", "busybox", "echo", "fine"]).ok(), "fine");
    daemon.finish();
}

fn orphans_are_found_and_removed(_: &Nothing) {
    let daemon = daemon();
    daemon.sleeper("kept", &[]);
    daemon.kill9();
    let root = daemon.places.data.join("root");
    let orphan = "0123456789abcdef".repeat(4);
    let mut planted = vec![root.join("containers").join(&orphan)];
    for entry in std::fs::read_dir(&root).unwrap().flatten() {
        // The folders of writable layers and unpacked layers, whatever they are called.
        if matches!(entry.file_name().to_str(), Some("rw" | "snapshots" | "layers")) {
            planted.push(entry.path().join(&orphan));
        }
    }
    for folder in &planted {
        std::fs::create_dir_all(folder.join("upper/deep")).unwrap();
        std::fs::write(folder.join("upper/deep/file"), "orphan").unwrap();
    }
    let group = harness::kernel::cgroup_mount(if harness::kernel::is_cgroup_v2() {
        None
    } else {
        Some("memory")
    });
    let group = group.join(&daemon.places.cgroup[1..]).join(&orphan);
    std::fs::create_dir_all(&group).unwrap();
    daemon.launch();
    eventually("the orphans are gone", 10, || {
        !group.exists() && planted.iter().all(|folder| !folder.exists())
    });
    assert!(daemon.process("kept").is_alive());
    daemon.finish();
}

fn killed_shim_is_noticed(_: &Nothing) {
    let daemon = daemon();
    let process = daemon.sleeper("victim", &[]);
    let shim: i32 = process.status("PPid").parse().unwrap();
    assert!(shim > 1, "a shim is its parent");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("the container is not said to run any more", 10, || {
        daemon.inspect("victim")["State"]["Running"] == false
    });
    eventually("its processes are gone", 10, || !process.is_alive());
    daemon.docker(&["start", "victim"]).ok();
    assert!(daemon.process("victim").is_alive());
    daemon.finish();
}

fn paused_container_stays_paused(_: &Nothing) {
    let daemon = daemon();
    daemon.sleeper("frozen", &[]);
    let reply = daemon.server.call("POST", "/containers/frozen/pause", None);
    if reply.status == 404 && reply.message().contains("page not found") {
        daemon.finish();
        harness::suite::skip("pausing is not served yet");
    }
    daemon.kill9();
    daemon.launch();
    assert_eq!(daemon.inspect("frozen")["State"]["Status"], "paused");
    daemon.docker(&["unpause", "frozen"]).ok();
    assert_eq!(daemon.docker(&["exec", "frozen", "echo", "thawed"]).ok(), "thawed");
    daemon.finish();
}

fn restart_is_fast_with_many_containers(_: &Nothing) {
    let daemon = daemon();
    let body = serde_json::json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}});
    for number in 0..40 {
        let id = daemon
            .server
            .post(&format!("/containers/create?name=many-{number}"), &body)
            .expect(201)
            .json()["Id"]
            .as_str()
            .unwrap()
            .to_owned();
        daemon
            .server
            .call("POST", &format!("/containers/{id}/start"), None)
            .expect(204);
    }
    daemon.kill9();
    let took = daemon.launch();
    // A generous bound for a debug build on a busy machine; the figure of the release build is the bench's.
    assert!(took < harness::tools::patience(3), "{took:?}");
    let running = daemon.server.get("/info").json()["ContainersRunning"].as_i64();
    assert_eq!(running, Some(40));
    println!("        ready with 40 running containers after {took:?}");
    daemon.finish();
}

fn follower_of_logs_sees_the_rest_after_a_restart(_: &Nothing) {
    let daemon = daemon();
    daemon
        .docker(&[
            "run",
            "-d",
            "--name",
            "slow",
            "busybox",
            "sh",
            "-c",
            "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.2; done",
        ])
        .ok();
    std::thread::sleep(Duration::from_millis(300));
    daemon.kill9();
    daemon.launch();
    let (code, text) = daemon.background(&["logs", "-f", "slow"]).finish(20);
    assert_eq!((code, counted(&text)), (0, 8));
    daemon.finish();
}

fn events_outlive_the_daemon(_: &Nothing) {
    let daemon = daemon();
    daemon.docker(&["volume", "create", "before"]).ok();
    daemon.docker(&["run", "--name", "passing", "busybox", "true"]).ok();
    let actions = || {
        let until = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let until = format!("{}.{:09}", until.as_secs(), until.subsec_nanos());
        let format = "{{.Type}} {{.Action}}";
        let events = ["events", "--since", "0", "--until", &until, "--format", format];
        let told = daemon.docker(&events).ok();
        told.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let before = actions();
    assert!(before.contains(&"volume create".to_owned()), "{before:?}");
    assert!(before.contains(&"container die".to_owned()), "{before:?}");
    daemon.stop();
    daemon.launch();
    assert_eq!(actions()[..before.len()], before[..]);

    // A daemon that is killed may lose what it had no moment to write, nothing older.
    daemon.docker(&["volume", "rm", "before"]).ok();
    let folder = daemon.places.data.join("root/events");
    eventually("it is in the journal's file", 10, || {
        let entries = std::fs::read_dir(&folder).unwrap();
        let mut texts = entries.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
        texts.any(|text| text.contains("\"destroy\""))
    });
    let before = actions();
    daemon.kill9();
    daemon.launch();
    assert_eq!(actions()[..before.len()], before[..]);
    daemon.docker(&["rm", "passing"]).ok();
    assert_eq!(actions().last().map(String::as_str), Some("container destroy"));
    daemon.finish();
}

fn changes_outlive_the_daemon(_: &Nothing) {
    let daemon = daemon();
    let port = free_port();
    let line = "while :; do echo there | nc -l -p 80 >/dev/null; done";
    daemon
        .docker(&["run", "-d", "--name", "changed", "busybox", "sh", "-c", line])
        .ok();
    let change = serde_json::json!({"Change": {
        "PublishAdd": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": port.to_string()}]},
        "EnvAdd": ["LATER=1"],
    }});
    daemon.server.post("/containers/changed/update", &change).expect(200);
    let process = daemon.process("changed").0;
    daemon.kill9();
    daemon.launch();
    assert_eq!(daemon.process("changed").0, process);
    crate::networks::answers(&format!("127.0.0.1:{port}"), "there");
    let unpublish = serde_json::json!({"Change": {"PublishRm": ["80"]}});
    daemon.server.post("/containers/changed/update", &unpublish).expect(200);
    assert_eq!(crate::networks::ask(&format!("127.0.0.1:{port}")), None);
    daemon.docker(&["restart", "-t", "0", "changed"]).ok();
    assert_eq!(daemon.docker(&["exec", "changed", "sh", "-c", "echo $LATER"]).ok(), "1");
    daemon.finish();
}
