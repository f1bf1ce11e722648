//! The process: who it is, what it may do, its limits, its terminal, how it is scheduled.

use harness::{Test, tests};
use serde_json::json;

use crate::bundle::Bundle;
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        arguments_and_environment_arrive_as_they_are,
        the_program_is_found_by_its_path_variable,
        a_program_that_is_not_there_is_an_error_of_create,
        a_program_that_cannot_be_executed_is_an_error_of_create,
        a_working_directory_is_set_and_made,
        users_groups_and_the_mask,
        each_capability_set_is_its_own,
        ambient_capabilities_reach_a_users_program,
        unknown_capabilities_are_left_out_or_refused,
        no_new_privileges_only_if_asked_for,
        limits_are_set,
        a_limit_listed_twice_or_unknown_is_refused,
        the_score_of_the_out_of_memory_killer,
        a_terminal_has_its_size_and_is_controlled,
        a_terminal_of_exec,
        a_terminal_needs_a_console_socket,
        a_console_socket_needs_a_terminal,
        a_scheduler_is_set,
        priorities_of_input_and_output_are_set,
        a_personality_is_set,
        cpus_of_exec_are_set,
        home_is_that_of_the_user,
    ]
}

fn arguments_and_environment_arrive_as_they_are(world: &World) {
    let mut bundle = world.bundle();
    bundle.args(&[
        "sh",
        "-c",
        "for a; do echo \"<$a>\"; done; env -0 | tr '\\0' '|'",
        "name",
        "",
        "two words",
        "ü",
        "a\nb",
        "$HOME",
    ]);
    bundle.set(
        "/process/env",
        json!(["PATH=/bin", "EMPTY=", "EQUALS=a=b", "LINES=a\nb", "UTF=ü", "HOME=/h"]),
    );
    let out = bundle.run().ok();
    assert!(out.starts_with("<>\n<two words>\n<ü>\n<a\nb>\n<$HOME>\n"), "{out}");
    for pair in ["EMPTY=|", "EQUALS=a=b|", "LINES=a\nb|", "UTF=ü|", "HOME=/h|"] {
        assert!(out.contains(pair), "{pair} is not in {out}");
    }
    assert!(
        !out.contains("IECHOR") && !out.contains("CARGO"),
        "the caller's environment: {out}"
    );
}

fn the_program_is_found_by_its_path_variable(world: &World) {
    let mut bundle = world.bundle();
    bundle.put("/opt/one/tool", "#!/bin/sh\necho one\n");
    bundle.put("/opt/two/tool", "#!/bin/sh\necho two\n");
    bundle
        .set("/process/env", json!(["PATH=/nowhere:/opt/two:/opt/one:/bin"]))
        .args(&["tool"]);
    assert_eq!(bundle.run().ok(), "two");
    bundle.sleeper();
    assert_eq!(bundle.exec(&["tool"]).ok(), "two");
    assert_eq!(
        bundle.exec_with(&["--env", "PATH=/opt/one:/bin"], &["tool"]).ok(),
        "one"
    );
}

fn a_program_that_is_not_there_is_an_error_of_create(world: &World) {
    let mut bundle = world.bundle();
    bundle.args(&["no-such-program"]);
    let out = bundle.create();
    assert!(out.code != 0 && out.err.contains("no-such-program"), "{out:?}");
    assert_ne!(bundle.call(&["state", &bundle.id]).output().code, 0);
    bundle.sleeper();
    let out = bundle.exec(&["no-such-program"]);
    assert!(out.code != 0 && out.err.contains("no-such-program"), "{out:?}");
}

fn a_program_that_cannot_be_executed_is_an_error_of_create(world: &World) {
    let mut bundle = world.bundle();
    std::fs::write(bundle.rootfs("/file"), "text").unwrap();
    for program in ["/file", "/etc"] {
        bundle.args(&[program]);
        assert_ne!(bundle.create().code, 0, "{program}");
    }
}

fn a_working_directory_is_set_and_made(world: &World) {
    let mut bundle = world.bundle();
    bundle.args(&["pwd"]).set("/process/cwd", "/not/there/yet");
    assert_eq!(bundle.run().ok(), "/not/there/yet");
    bundle.set("/process/cwd", "relative");
    assert_ne!(
        bundle.run().code,
        0,
        "a relative directory is against the specification"
    );
}

#[track_caller]
fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn users_groups_and_the_mask(world: &World) {
    let mut bundle = world.bundle();
    bundle.set(
        "/process/user",
        json!({"uid": 1234, "gid": 2345, "additionalGids": [5, 3456], "umask": 0o027}),
    );
    let process = bundle.sleeper();
    assert_eq!(words(&process.status("Uid")), ["1234"; 4]);
    assert_eq!(words(&process.status("Gid")), ["2345"; 4]);
    let groups = process.status("Groups");
    assert_eq!(
        words(&groups)
            .into_iter()
            .filter(|group| *group != "2345")
            .collect::<Vec<_>>(),
        ["5", "3456"]
    );
    assert_eq!(process.status("Umask"), "0027");
    // A process of exec is another user if that is asked for.
    let out = bundle
        .exec_with(&["--user", "7:8", "--additional-gids", "9"], &["id"])
        .ok();
    assert!(out.starts_with("uid=7 gid=8") && out.contains('9'), "{out}");
}

fn mask(numbers: &[u32]) -> u64 {
    numbers.iter().fold(0, |mask, number| mask | 1 << number)
}

fn each_capability_set_is_its_own(world: &World) {
    let mut bundle = world.bundle();
    bundle.set(
        "/process/capabilities",
        json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SYS_CHROOT"],
            "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "effective": ["CAP_KILL", "CAP_CHOWN"],
            "inheritable": ["CAP_KILL", "CAP_NET_RAW"],
            "ambient": ["CAP_NET_RAW"],
        }),
    );
    bundle.user(1000, 1000);
    // Before the exec changes them: those of the process that `create` has left waiting are not meant.
    let process = bundle.sleeper();
    assert_eq!(process.capabilities("CapBnd"), mask(&[0, 5, 13, 18]));
    assert_eq!(process.capabilities("CapInh"), mask(&[5, 13]));
    // What an exec leaves to a user: the ambient ones.
    assert_eq!(process.capabilities("CapAmb"), mask(&[13]));
    assert_eq!(process.capabilities("CapPrm"), mask(&[13]));
    assert_eq!(process.capabilities("CapEff"), mask(&[13]));
}

fn ambient_capabilities_reach_a_users_program(world: &World) {
    let mut bundle = world.bundle();
    let names = json!(["CAP_NET_BIND_SERVICE", "CAP_CHOWN"]);
    for set in ["bounding", "permitted", "effective", "inheritable", "ambient"] {
        bundle.set(&format!("/process/capabilities/{set}"), names.clone());
    }
    bundle
        .user(1000, 1000)
        .shell("touch /tmp/file && chown 1:1 /tmp/file && stat -c %u /tmp/file");
    assert_eq!(bundle.run().ok(), "1");
}

fn unknown_capabilities_are_left_out_or_refused(world: &World) {
    let mut bundle = world.bundle();
    bundle.capabilities(&["CAP_CHOWN", "CAP_NO_SUCH_THING"]);
    bundle.args(&["grep", "CapEff", "/proc/self/status"]);
    let out = bundle.run();
    // The specification wants a warning at least; either way it is named.
    assert!(
        out.code != 0 || words(&out.out) == ["CapEff:", "0000000000000001"],
        "{out:?}"
    );
    assert!(out.err.contains("CAP_NO_SUCH_THING"), "{out:?}");
}

fn no_new_privileges_only_if_asked_for(world: &World) {
    for wanted in [true, false] {
        let mut bundle = world.bundle();
        bundle.set("/process/noNewPrivileges", wanted);
        let process = bundle.sleeper();
        assert_eq!(process.status("NoNewPrivs"), if wanted { "1" } else { "0" });
    }
}

fn limits_are_set(world: &World) {
    let mut bundle = world.bundle();
    let limits = [
        ("RLIMIT_NOFILE", "Max open files", 100u64, 200u64),
        ("RLIMIT_CORE", "Max core file size", 0, 4096),
        ("RLIMIT_CPU", "Max cpu time", 1000, 2000),
        ("RLIMIT_DATA", "Max data size", 100 << 20, 200 << 20),
        ("RLIMIT_FSIZE", "Max file size", 1 << 20, 2 << 20),
        ("RLIMIT_LOCKS", "Max file locks", 10, 20),
        ("RLIMIT_MEMLOCK", "Max locked memory", 4096, 8192),
        ("RLIMIT_MSGQUEUE", "Max msgqueue size", 4096, 8192),
        ("RLIMIT_NICE", "Max nice priority", 0, 0),
        ("RLIMIT_NPROC", "Max processes", 1000, 2000),
        ("RLIMIT_RSS", "Max resident set", 1 << 20, 2 << 20),
        ("RLIMIT_RTPRIO", "Max realtime priority", 0, 0),
        ("RLIMIT_RTTIME", "Max realtime timeout", 1000, 2000),
        ("RLIMIT_SIGPENDING", "Max pending signals", 100, 200),
        ("RLIMIT_STACK", "Max stack size", 1 << 20, 2 << 20),
        ("RLIMIT_AS", "Max address space", 1 << 30, 2 << 30),
    ];
    for (name, _, soft, hard) in limits {
        bundle.push("/process/rlimits", json!({"type": name, "soft": soft, "hard": hard}));
    }
    let process = bundle.sleeper();
    for (name, shown, soft, hard) in limits {
        assert_eq!(process.limit(shown), (soft.to_string(), hard.to_string()), "{name}");
    }
    assert_eq!(bundle.inside("ulimit -n; ulimit -Hn").ok(), "100\n200");
}

fn a_limit_listed_twice_or_unknown_is_refused(world: &World) {
    let one = json!({"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200});
    for list in [
        json!([one, one]),
        json!([{"type": "RLIMIT_NOTHING", "soft": 1, "hard": 1}]),
        json!([{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100}]),
    ] {
        let mut bundle = world.bundle();
        bundle.set("/process/rlimits", list.clone()).shell("true");
        assert_ne!(bundle.run().code, 0, "{list}");
    }
}

fn the_score_of_the_out_of_memory_killer(world: &World) {
    for score in [0, 500, 1000] {
        let mut bundle = world.bundle();
        bundle.set("/process/oomScoreAdj", score);
        assert_eq!(bundle.sleeper().oom_score_adj(), score);
        assert_eq!(
            bundle.exec(&["cat", "/proc/self/oom_score_adj"]).ok(),
            score.to_string()
        );
    }
}

fn a_terminal_has_its_size_and_is_controlled(world: &World) {
    let mut bundle = world.bundle();
    bundle
        .set("/process/terminal", true)
        .set("/process/consoleSize", json!({"height": 33, "width": 111}));
    bundle.shell("stty size; tty; read line; echo \"<$line>\"; sleep 1000");
    let socket = bundle.console_socket();
    bundle.create_with(&["--console-socket", socket.path()]).ok();
    let console = socket.receive();
    bundle.start().ok();
    console.expect("33 111");
    console.expect("/dev/pts/0");
    console.type_line("typed");
    console.expect("<typed>");
    // The interrupt key reaches whoever has the terminal as the controlling one.
    let process = bundle.init();
    console.type_line("\u{3}");
    harness::tools::eventually("the interrupt ended it", 5, || {
        !process.is_alive() || bundle.status() == "stopped" || console.shown().contains("^C")
    });
}

fn a_terminal_of_exec(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    let socket = bundle.console_socket();
    let out = bundle.exec_with(
        &["--tty", "--detach", "--console-socket", socket.path()],
        &["sh", "-c", "tty; test -t 0 && echo terminal; sleep 3"],
    );
    out.ok();
    let console = socket.receive();
    assert!(console.is_pty_master());
    console.expect("/dev/pts/");
    console.expect("terminal");
}

fn a_terminal_needs_a_console_socket(world: &World) {
    let mut bundle = world.bundle();
    bundle.set("/process/terminal", true).shell("true");
    let out = bundle.create();
    assert!(out.code != 0 && !out.err.is_empty(), "{out:?}");
}

fn a_console_socket_needs_a_terminal(world: &World) {
    let mut bundle = world.bundle();
    bundle.shell("true");
    let socket = bundle.console_socket();
    let out = bundle.create_with(&["--console-socket", socket.path()]);
    assert!(out.code != 0 || socket.try_receive().is_none(), "{out:?}");
}

fn stat_field(bundle: &Bundle, number: usize) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", bundle.init().0)).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // proc(5) counts from 1, and two fields are before the parenthesis' end.
    fields[number - 3].to_owned()
}

fn a_scheduler_is_set(world: &World) {
    for (policy, number) in [("SCHED_BATCH", "3"), ("SCHED_IDLE", "5"), ("SCHED_OTHER", "0")] {
        let mut bundle = world.bundle();
        bundle.set("/process/scheduler", json!({"policy": policy, "nice": 7}));
        bundle.sleeper();
        assert_eq!(stat_field(&bundle, 41), number, "{policy}");
        if policy != "SCHED_IDLE" {
            assert_eq!(stat_field(&bundle, 19), "7", "{policy}");
        }
    }
    let mut bundle = world.bundle();
    bundle
        .set("/process/scheduler", json!({"policy": "SCHED_NOTHING"}))
        .shell("true");
    assert_ne!(bundle.run().code, 0);
}

fn priorities_of_input_and_output_are_set(world: &World) {
    for (class, priority, shown) in [
        ("IOPRIO_CLASS_BE", 6, "best-effort: prio 6"),
        ("IOPRIO_CLASS_IDLE", 0, "idle"),
    ] {
        let mut bundle = world.bundle();
        bundle.set("/process/ioPriority", json!({"class": class, "priority": priority}));
        let process = bundle.sleeper();
        let out = std::process::Command::new("ionice")
            .args(["-p", &process.0.to_string()])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), shown);
    }
}

fn a_personality_is_set(world: &World) {
    let mut bundle = world.bundle();
    bundle
        .set("/linux/personality", json!({"domain": "LINUX32"}))
        .args(&["uname", "-m"]);
    assert_eq!(bundle.run().ok(), "i686");
    bundle.sleeper();
    assert_eq!(bundle.exec(&["uname", "-m"]).ok(), "i686");
}

fn cpus_of_exec_are_set(world: &World) {
    let mut bundle = world.bundle();
    bundle.set("/process/execCPUAffinity", json!({"initial": "0", "final": "1"}));
    bundle.sleeper();
    let out = bundle.exec(&["grep", "Cpus_allowed_list", "/proc/self/status"]).ok();
    assert_eq!(words(&out), ["Cpus_allowed_list:", "1"]);
    let own = bundle.init().status("Cpus_allowed_list");
    assert_ne!(own, "1", "it is for processes of exec alone");
}

/// Not in the specification, but what every runtime does for programs that ask for it.
fn home_is_that_of_the_user(world: &World) {
    let mut bundle = world.bundle();
    bundle.user(1000, 1000).shell("echo $HOME");
    assert_eq!(bundle.run().ok(), "/home");
    bundle.env("HOME=/given");
    assert_eq!(bundle.run().ok(), "/given");
}
