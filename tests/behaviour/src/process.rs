//! The process of a container: what runs, as whom, where, with what, and how it ends.

use std::time::{Duration, Instant};

use harness::tools::{Folder, eventually};
use harness::{Test, tests};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        run_prints_the_output_and_removes,
        run_returns_the_exit_code,
        run_returns_127_for_a_missing_program,
        run_returns_126_for_a_file_that_is_no_program,
        run_returns_125_for_a_refused_request,
        run_returns_137_for_a_killed_process,
        run_keeps_stdout_and_stderr_apart,
        run_passes_stdin_to_its_end,
        run_without_i_has_no_stdin,
        large_output_is_complete,
        large_input_comes_back,
        detached_run_prints_the_id,
        environment_is_passed,
        environment_file_is_read,
        home_is_that_of_the_user,
        workdir_is_made_and_entered,
        user_by_number,
        user_by_name_has_its_groups,
        user_and_group,
        unknown_user_is_refused,
        additional_groups,
        entrypoint_takes_the_command_as_arguments,
        image_entrypoint_and_command_are_joined,
        init_reaps_orphans,
        ulimits_are_set,
        oom_score_is_set,
        restart_on_failure_counts,
        restart_always_comes_back_after_kill,
        stop_signal_of_the_image_is_used,
        labels_are_kept,
        hostname_is_set,
        sysctl_is_set_in_the_namespace,
        umask_is_the_usual_one,
        container_has_only_the_three_descriptors,
        pid_one_is_the_command,
    ]
}

fn run_prints_the_output_and_removes(world: &World) {
    let name = world.name("hello");
    let out = world
        .run(&["run", "--rm", "--name", &name, "busybox", "echo", "hello world"])
        .ok();
    assert_eq!(out, "hello world");
    eventually("the container is removed", 10, || {
        world.server.get(&format!("/containers/{}/json", &*name)).status == 404
    });
}

fn run_returns_the_exit_code(world: &World) {
    world.run(&["run", "--rm", "busybox", "sh", "-c", "exit 3"]).fails(3);
    world.run(&["run", "--rm", "busybox", "true"]).ok();
    world.run(&["run", "--rm", "busybox", "false"]).fails(1);
    world
        .run(&["run", "--rm", "busybox", "sh", "-c", "exit 255"])
        .fails(255);
}

fn run_returns_127_for_a_missing_program(world: &World) {
    let name = world.name("missing");
    let error = world
        .run(&["run", "--name", &name, "busybox", "no-such-program"])
        .fails(127);
    assert!(
        error.contains("no-such-program") && error.contains("executable file not found in $PATH"),
        "{error}"
    );
    let state = world.inspect(&name);
    assert_eq!(
        state["State"]["Status"], "created",
        "a container that could not start is still there, not started"
    );
    assert_eq!(state["State"]["ExitCode"], 127);
    assert!(
        state["State"]["Error"]
            .as_str()
            .unwrap()
            .contains("executable file not found")
    );
}

fn run_returns_126_for_a_file_that_is_no_program(world: &World) {
    let error = world.run(&["run", "--rm", "busybox", "/etc/passwd"]).fails(126);
    assert!(error.contains("permission denied"), "{error}");
}

fn run_returns_125_for_a_refused_request(world: &World) {
    world.run(&["run", "--rm", "-m", "1k", "busybox", "true"]).fails(125);
    world
        .run(&[
            "run",
            "--rm",
            "--network",
            "container:no-such-container",
            "busybox",
            "true",
        ])
        .fails(125);
}

fn run_returns_137_for_a_killed_process(world: &World) {
    world
        .run(&["run", "--rm", "--init", "busybox", "sh", "-c", "kill -9 $$"])
        .fails(137);
}

fn run_keeps_stdout_and_stderr_apart(world: &World) {
    let output = world.run(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(
        (output.out.as_str(), output.err.as_str(), output.code),
        ("out", "err", 0)
    );
}

fn run_passes_stdin_to_its_end(world: &World) {
    let output = world
        .command(&["run", "--rm", "-i", "busybox", "sh", "-c", "wc -c; echo end"])
        .input("four")
        .output();
    assert_eq!(
        output.lines(),
        ["4", "end"],
        "the end of our input is the end of its input"
    );
}

fn run_without_i_has_no_stdin(world: &World) {
    let output = world
        .command(&["run", "--rm", "busybox", "cat"])
        .input("not for you")
        .output();
    assert_eq!(output.ok(), "");
}

fn large_output_is_complete(world: &World) {
    let output = world.run(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "dd if=/dev/zero bs=64k count=320 2>/dev/null; echo done >&2",
    ]);
    assert_eq!(
        (output.bytes.len(), output.code, output.err.as_str()),
        (320 * 65536, 0, "done")
    );
}

fn large_input_comes_back(world: &World) {
    let bytes: Vec<u8> = (0..3_000_000u32)
        .flat_map(|number| (number as u16).to_le_bytes())
        .collect();
    let output = world
        .command(&["run", "--rm", "-i", "busybox", "cat"])
        .input(bytes.clone())
        .output();
    assert!(
        output.bytes == bytes,
        "{} of {} bytes came back",
        output.bytes.len(),
        bytes.len()
    );
}

fn detached_run_prints_the_id(world: &World) {
    let name = world.name("detached");
    let id = world
        .run(&["run", "-d", "--name", &name, "busybox", "sleep", "1000"])
        .ok();
    assert_eq!(id.len(), 64, "{id}");
    assert_eq!(world.inspect(&name)["Id"], id.as_str());
    assert_eq!(world.process(&name).command_line(), ["sleep", "1000"]);
}

fn environment_is_passed(world: &World) {
    let (_name, process) = world.sleeper(&["-e", "WORD=a b", "-e", "EMPTY=", "-h", "box"]);
    let environment = process.environment();
    for wanted in ["WORD=a b", "EMPTY=", "HOME=/root", "HOSTNAME=box"] {
        assert!(
            environment.iter().any(|entry| entry == wanted),
            "{wanted} is not in {environment:?}"
        );
    }
    assert!(
        environment.iter().any(|entry| entry.starts_with("PATH=")),
        "{environment:?}"
    );
    assert!(
        !environment
            .iter()
            .any(|entry| entry.starts_with("IECHOR") || entry.starts_with("DOCKER")),
        "{environment:?}"
    );
}

fn environment_file_is_read(world: &World) {
    let folder = Folder::new("env");
    std::fs::write(folder.at("file"), "# a comment\nONE=1\nTWO=two words\n").unwrap();
    assert_eq!(
        world.shell(&["--env-file", &folder.at("file")], "echo $ONE $TWO"),
        "1 two words"
    );
}

fn home_is_that_of_the_user(world: &World) {
    assert_eq!(world.shell(&["-u", "user"], "echo $HOME"), "/home/user");
    assert_eq!(
        world.shell(&["-u", "user", "-e", "HOME=/elsewhere"], "echo $HOME"),
        "/elsewhere"
    );
}

fn workdir_is_made_and_entered(world: &World) {
    let (name, process) = world.sleeper(&["-w", "/a/new/folder"]);
    assert_eq!(process.cwd(), "/a/new/folder");
    assert_eq!(world.inside(&name, "pwd"), "/a/new/folder");
}

fn user_by_number(world: &World) {
    let (_name, process) = world.sleeper(&["-u", "4242:4243"]);
    assert_eq!(process.status("Uid"), "4242\t4242\t4242\t4242");
    assert_eq!(process.status("Gid"), "4243\t4243\t4243\t4243");
    assert_eq!(
        process.capabilities("CapEff"),
        0,
        "an ordinary user has no capability in effect"
    );
}

fn user_by_name_has_its_groups(world: &World) {
    let (_name, process) = world.sleeper(&["-u", "user"]);
    assert_eq!(process.status("Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(process.status("Gid"), "1000\t1000\t1000\t1000");
    let groups = process.status("Groups");
    let mut groups: Vec<&str> = groups.split_whitespace().filter(|group| *group != "1000").collect();
    groups.sort_unstable();
    assert_eq!(
        groups,
        ["100", "29"],
        "audio and users, of the container's own /etc/group"
    );
}

fn user_and_group(world: &World) {
    assert_eq!(world.shell(&["-u", "user:audio"], "id -u; id -g"), "1000\n29");
    assert_eq!(world.shell(&["-u", "1000"], "id -un"), "user");
}

fn unknown_user_is_refused(world: &World) {
    let output = world.run(&["run", "--rm", "-u", "nobody-here", "busybox", "true"]);
    assert!(matches!(output.code, 125 | 126), "{}", output.code);
    assert!(
        output
            .err
            .contains("unable to find user nobody-here: no matching entries in passwd file"),
        "{}",
        output.err
    );
}

fn additional_groups(world: &World) {
    let (_name, process) = world.sleeper(&["--group-add", "audio", "--group-add", "777"]);
    let groups = process.status("Groups");
    for group in ["29", "777"] {
        assert!(
            groups.split_whitespace().any(|word| word == group),
            "{group} is not in {groups}"
        );
    }
}

fn entrypoint_takes_the_command_as_arguments(world: &World) {
    let out = world
        .run(&["run", "--rm", "--entrypoint", "/bin/echo", "busybox", "one", "two"])
        .ok();
    assert_eq!(out, "one two");
}

fn image_entrypoint_and_command_are_joined(world: &World) {
    use harness::image::Image;
    use serde_json::json;
    let image = Image::busybox()
        .with("Entrypoint", json!(["/bin/echo", "entry"]))
        .with("Cmd", json!(["default"]));
    world.load(&image, "entry:1");
    assert_eq!(world.run(&["run", "--rm", "entry:1"]).ok(), "entry default");
    assert_eq!(world.run(&["run", "--rm", "entry:1", "given"]).ok(), "entry given");
    // Another entrypoint drops the image's command.
    assert_eq!(
        world.run(&["run", "--rm", "--entrypoint", "/bin/echo", "entry:1"]).ok(),
        ""
    );
    world.run(&["rmi", "entry:1"]).ok();
}

fn init_reaps_orphans(world: &World) {
    let name = world.name("init");
    // The inner shell ends at once; its child is an orphan, which pid 1 inherits and must reap.
    let line = "sh -c 'sleep 0.2 & exit 0'; sleep 1000";
    world
        .run(&["run", "-d", "--init", "--name", &name, "busybox", "sh", "-c", line])
        .ok();
    let init = world.process(&name);
    eventually("the orphan ends", 10, || {
        world.inside(&name, "ps -o stat,comm | grep -c sleep || true") == "1"
    });
    let zombies = world.inside(&name, "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l");
    assert_eq!(zombies, "0");
    assert_eq!(init.children().len(), 1, "pid 1 is the init, the command is its child");
    assert_ne!(init.command_line().first().map(String::as_str), Some("sh"));
}

fn ulimits_are_set(world: &World) {
    let (_name, process) = world.sleeper(&["--ulimit", "nofile=512:1024", "--ulimit", "core=0"]);
    assert_eq!(process.limit("Max open files"), ("512".into(), "1024".into()));
    assert_eq!(process.limit("Max core file size"), ("0".into(), "0".into()));
}

fn oom_score_is_set(world: &World) {
    let (_name, process) = world.sleeper(&["--oom-score-adj", "321"]);
    assert_eq!(process.oom_score_adj(), 321);
}

fn restart_on_failure_counts(world: &World) {
    let name = world.name("failing");
    world
        .run(&[
            "run",
            "-d",
            "--restart",
            "on-failure:2",
            "--name",
            &name,
            "busybox",
            "sh",
            "-c",
            "echo try; exit 7",
        ])
        .ok();
    eventually("it was tried three times", 20, || {
        let state = world.inspect(&name);
        state["RestartCount"] == 2 && state["State"]["Status"] == "exited"
    });
    assert_eq!(world.inspect(&name)["State"]["ExitCode"], 7);
    assert_eq!(world.run(&["logs", &name]).ok(), "try\ntry\ntry");
}

fn restart_always_comes_back_after_kill(world: &World) {
    let name = world.name("always");
    world
        .run(&[
            "run",
            "-d",
            "--restart",
            "always",
            "--name",
            &name,
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    let first = world.process(&name);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first.0), nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("a second process runs", 10, || {
        let pid = world.inspect(&name)["State"]["Pid"].as_i64().unwrap_or(0);
        pid > 0 && pid != i64::from(first.0)
    });
    // The user's stop is final.
    world.run(&["stop", "-t", "1", &name]).ok();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(world.inspect(&name)["State"]["Status"], "exited");
}

fn stop_signal_of_the_image_is_used(world: &World) {
    let name = world.name("signal");
    let line = "trap 'echo got USR1; exit 5' USR1; echo ready; while :; do sleep 0.1; done";
    world
        .run(&[
            "run",
            "-d",
            "--stop-signal",
            "SIGUSR1",
            "--name",
            &name,
            "busybox",
            "sh",
            "-c",
            line,
        ])
        .ok();
    eventually("it is ready", 10, || world.run(&["logs", &name]).out.contains("ready"));
    let begun = Instant::now();
    world.run(&["stop", &name]).ok();
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "the grace need not be used up"
    );
    assert_eq!(world.inspect(&name)["State"]["ExitCode"], 5);
    assert!(world.run(&["logs", &name]).out.contains("got USR1"));
}

fn labels_are_kept(world: &World) {
    let (name, _) = world.sleeper(&["-l", "color=blue", "--label", "empty"]);
    let labels = world.inspect(&name)["Config"]["Labels"].clone();
    assert_eq!(labels["color"], "blue");
    assert_eq!(labels["empty"], "");
    let listed = world
        .run(&[
            "ps",
            "-q",
            "--no-trunc",
            "--filter",
            "label=color=blue",
            "--filter",
            &format!("name={}", &*name),
        ])
        .ok();
    assert_eq!(listed, world.inspect(&name)["Id"].as_str().unwrap());
}

fn hostname_is_set(world: &World) {
    assert_eq!(
        world.shell(
            &["-h", "box", "--domainname", "example.test"],
            "hostname; cat /etc/hostname"
        ),
        "box\nbox"
    );
    let (name, _) = world.sleeper(&[]);
    let id = world.inspect(&name)["Id"].as_str().unwrap().to_owned();
    assert_eq!(world.inside(&name, "hostname"), &id[..12]);
    assert!(world.inside(&name, "cat /etc/hosts").contains(&id[..12]));
}

fn sysctl_is_set_in_the_namespace(world: &World) {
    assert_eq!(
        world.shell(
            &["--sysctl", "net.ipv4.ip_unprivileged_port_start=99"],
            "cat /proc/sys/net/ipv4/ip_unprivileged_port_start"
        ),
        "99"
    );
    assert_eq!(
        world.shell(&["--sysctl", "kernel.msgmax=4096"], "cat /proc/sys/kernel/msgmax"),
        "4096"
    );
}

fn umask_is_the_usual_one(world: &World) {
    assert_eq!(world.shell(&[], "umask"), "0022");
}

fn container_has_only_the_three_descriptors(world: &World) {
    let (name, process) = world.sleeper(&[]);
    let mut open: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", process.0))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    open.sort();
    assert_eq!(open, ["0", "1", "2"]);
    // The listing's own descriptor is the fourth.
    assert_eq!(world.run(&["exec", &name, "ls", "/proc/self/fd"]).ok(), "0\n1\n2\n3");
}

fn pid_one_is_the_command(world: &World) {
    let (name, process) = world.sleeper(&[]);
    assert_eq!(world.inside(&name, "cat /proc/1/comm"), "sleep");
    assert_eq!(process.status("NSpid").split_whitespace().last(), Some("1"));
}
