//! Talking to a running container: exec, attach, logs.

use std::time::Duration;

use harness::tools::eventually;
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
        signals_go_to_the_container_unless_told_not_to,
        logs_show_both_streams,
        logs_tail_since_and_timestamps,
        logs_follow_to_the_end,
        logs_of_long_lines,
        logs_survive_the_exit,
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
    eventually("the program runs", 5, || exec.command_line() == ["sleep", "1000"]);
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

fn signals_go_to_the_container_unless_told_not_to(world: &World) {
    let line = "trap 'echo got it; exit 12' TERM; while :; do echo tick; sleep 0.05; done";
    let name = world.name("signalled");
    let run = ["run", "--sig-proxy=false", "--name", &name, "busybox", "sh", "-c", line];
    let attach = ["attach", "--no-stdin", "--sig-proxy=false", &name];
    let lines = || world.run(&["logs", &name]).ok().lines().count();
    for words in [&run[..], &attach] {
        let client = world.background(words);
        client.expect("tick");
        client.signal(nix::sys::signal::Signal::SIGTERM);
        // Ours ends by it; docker's stays, and tells nobody.
        if world.cli == harness::daemon::Cli::Iechor {
            assert_ne!(client.finish(20).0, 12);
        }
        let before = lines();
        eventually("it goes on", 20, || lines() > before + 10);
        assert_eq!(world.inspect(&name)["State"]["Running"], true);
    }
    let client = world.background(&["attach", "--no-stdin", "--sig-proxy", &name]);
    client.expect("tick");
    client.signal(nix::sys::signal::Signal::SIGTERM);
    let (code, shown) = client.finish(20);
    assert!(code == 12 && shown.contains("got it"), "{code}: {shown}");
    assert_eq!(world.run(&["logs", &name]).ok().matches("got it").count(), 1);
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
