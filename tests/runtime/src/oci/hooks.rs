//! The six kinds of hooks: when, where, in which order, with what on standard input, and what their failure does.

use harness::{Test, tests};
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        all_kinds_run_in_their_order,
        hooks_of_one_kind_run_in_the_order_of_the_list,
        hooks_start_with_no_signal_blocked,
        the_state_is_on_standard_input,
        arguments_and_environment_of_a_hook,
        namespaces_of_the_hooks,
        a_failure_before_the_start_ends_the_container,
        a_failure_of_start_container_ends_the_container,
        a_failure_after_the_start_stops_the_container,
        a_failure_after_the_end_is_only_a_warning,
        a_hook_that_takes_too_long_is_killed,
        a_hook_with_a_relative_path_is_refused,
        poststop_runs_when_create_has_failed,
    ]
}

const KINDS: &[&str] = &[
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// A hook that appends a line to the log; `startContainer` runs where the host's log is `/log`.
fn logging(bundle: &Bundle, kind: &str, word: &str) -> Value {
    let log = if kind == "startContainer" {
        "/vol/log".to_owned()
    } else {
        log(bundle)
    };
    json!({"path": "/bin/sh", "args": ["sh", "-c", format!("echo {word} >> {log}")]})
}

fn log(bundle: &Bundle) -> String {
    bundle.volume("log").to_str().unwrap().to_owned()
}

fn logged(bundle: &Bundle) -> Vec<String> {
    let text = std::fs::read_to_string(log(bundle)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn hooked(world: &World) -> Bundle {
    let mut bundle = world.bundle();
    let volume = bundle.volume("");
    bundle.bind(&volume, "/vol");
    bundle
}

fn all_kinds_run_in_their_order(world: &World) {
    let mut bundle = hooked(world);
    for kind in KINDS {
        let hook = logging(&bundle, kind, kind);
        bundle.push(&format!("/hooks/{kind}"), hook);
    }
    bundle.shell("echo process >> /vol/log; sleep 1000");
    bundle.create().ok();
    assert_eq!(logged(&bundle), ["prestart", "createRuntime", "createContainer"]);
    bundle.start().ok();
    harness::tools::eventually("it runs", 5, || logged(&bundle).len() >= 6);
    let mut lines = logged(&bundle);
    // poststart and the process itself run at the same time.
    lines[4..].sort();
    assert_eq!(lines[3..], ["startContainer", "poststart", "process"]);
    bundle.kill("KILL").ok();
    bundle.wait_for("stopped");
    assert_eq!(logged(&bundle).len(), 6, "poststop belongs to delete");
    bundle.delete(&[]).ok();
    assert_eq!(logged(&bundle)[6..], ["poststop"]);
}

fn hooks_of_one_kind_run_in_the_order_of_the_list(world: &World) {
    let mut bundle = hooked(world);
    for kind in KINDS {
        for word in ["1", "2", "3"] {
            let hook = logging(&bundle, kind, &format!("{kind}{word}"));
            bundle.push(&format!("/hooks/{kind}"), hook);
        }
    }
    bundle.shell("true");
    bundle.run().ok();
    for kind in KINDS {
        let own: Vec<String> = logged(&bundle)
            .into_iter()
            .filter(|line| line.starts_with(kind))
            .collect();
        assert_eq!(own, [format!("{kind}1"), format!("{kind}2"), format!("{kind}3")]);
    }
}

fn hooks_start_with_no_signal_blocked(world: &World) {
    let mut bundle = hooked(world);
    for kind in KINDS {
        let hook = logging(&bundle, kind, "$(grep SigBlk /proc/self/status)");
        bundle.push(&format!("/hooks/{kind}"), hook);
    }
    bundle.shell("true");
    bundle.run().ok();
    // One line each, and a shell's own child is not in its way: what it blocks it has from the hook.
    let lines = logged(&bundle);
    assert_eq!(lines.len(), KINDS.len(), "{lines:?}");
    for line in lines {
        assert!(line.ends_with("0000000000000000"), "{line}");
    }
}

fn the_state_is_on_standard_input(world: &World) {
    let mut bundle = hooked(world);
    for kind in KINDS {
        let folder = if *kind == "startContainer" {
            "/vol".to_owned()
        } else {
            bundle.volume("").display().to_string()
        };
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", format!("cat > {folder}/{kind}.json")]});
        bundle.push(&format!("/hooks/{kind}"), hook);
    }
    bundle.set("/annotations", json!({"org.example.key": "value"}));
    bundle.shell("sleep 1000");
    bundle.launch();
    let pid = bundle.init().0;
    harness::tools::eventually("poststart has run", 5, || bundle.volume("poststart.json").exists());
    bundle.delete(&["--force"]).ok();
    for (kind, status) in [
        ("prestart", &["creating", "created"][..]),
        ("createRuntime", &["creating", "created"]),
        ("createContainer", &["creating", "created"]),
        ("startContainer", &["created", "starting"]),
        ("poststart", &["running"]),
        ("poststop", &["stopped"]),
    ] {
        let text = std::fs::read_to_string(bundle.volume(&format!("{kind}.json"))).unwrap();
        let state: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{kind}: {error} in {text:?}"));
        assert_eq!(state["id"], bundle.id.as_str(), "{kind}");
        assert_eq!(state["bundle"], bundle.folder().to_str().unwrap(), "{kind}");
        assert_eq!(state["annotations"]["org.example.key"], "value", "{kind}");
        assert!(state["ociVersion"].is_string(), "{kind}");
        assert!(
            status.contains(&state["status"].as_str().unwrap_or_default()),
            "{kind}: {}",
            state["status"]
        );
        if !["startContainer", "createContainer", "poststop"].contains(&kind) {
            assert_eq!(state["pid"], pid, "{kind}");
        }
    }
}

fn arguments_and_environment_of_a_hook(world: &World) {
    let mut bundle = hooked(world);
    let line = format!("(echo \"$0 $1\"; env) > {}", log(&bundle));
    bundle.push(
        "/hooks/createRuntime",
        json!({"path": "/bin/sh", "args": ["name", "-c", line, "zero", "one"], "env": ["ONLY=this"]}),
    );
    bundle.shell("true");
    bundle.run_call(&[]).env("CALLER", "1").output().ok();
    let lines = logged(&bundle);
    assert_eq!(lines[0], "zero one");
    assert!(
        lines.contains(&"ONLY=this".to_owned()) && !lines.iter().any(|line| line.starts_with("CALLER")),
        "{lines:?}"
    );
}

/// prestart, createRuntime, poststart and poststop see the runtime's namespaces, createContainer and startContainer the
/// container's; the root of createContainer is still the host's.
fn namespaces_of_the_hooks(world: &World) {
    let mut bundle = hooked(world);
    for kind in KINDS {
        let folder = if *kind == "startContainer" {
            "/vol".to_owned()
        } else {
            bundle.volume("").display().to_string()
        };
        let line =
            format!("readlink /proc/self/ns/mnt > {folder}/{kind}; readlink /proc/self/ns/net >> {folder}/{kind}");
        bundle.push(
            &format!("/hooks/{kind}"),
            json!({"path": "/bin/sh", "args": ["sh", "-c", line]}),
        );
    }
    let process = bundle.sleeper();
    harness::tools::eventually("poststart has run", 5, || bundle.volume("poststart").exists());
    let inside = format!("{}\n{}\n", process.namespace("mnt"), process.namespace("net"));
    let own = harness::kernel::Process::own();
    let outside = format!("{}\n{}\n", own.namespace("mnt"), own.namespace("net"));
    bundle.delete(&["--force"]).ok();
    for kind in KINDS {
        let expected = if ["createContainer", "startContainer"].contains(kind) {
            &inside
        } else {
            &outside
        };
        let found = std::fs::read_to_string(bundle.volume(kind)).unwrap();
        assert_eq!(&found, expected, "{kind}");
    }
}

fn failing(bundle: &mut Bundle, kind: &str) {
    bundle.push(
        &format!("/hooks/{kind}"),
        json!({"path": "/bin/sh", "args": ["sh", "-c", "echo the reason >&2; exit 7"]}),
    );
    let hook = logging(bundle, kind, "second");
    bundle.push(&format!("/hooks/{kind}"), hook);
    bundle.shell("echo process >> /vol/log; sleep 1000");
}

fn a_failure_before_the_start_ends_the_container(world: &World) {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let mut bundle = hooked(world);
        failing(&mut bundle, kind);
        let out = bundle.create();
        assert!(out.code != 0 && !out.err.is_empty(), "{kind}: {out:?}");
        assert_eq!(logged(&bundle), [""; 0], "{kind}");
        assert_ne!(
            bundle.call(&["state", &bundle.id]).output().code,
            0,
            "{kind}: the container is still there"
        );
    }
}

fn a_failure_of_start_container_ends_the_container(world: &World) {
    let mut bundle = hooked(world);
    failing(&mut bundle, "startContainer");
    bundle.create().ok();
    // The runtime may learn of it only as an end of the process.
    bundle.start();
    bundle.wait_for("stopped");
    assert_eq!(logged(&bundle), [""; 0]);
}

/// Since 1.3.0 of the specification an error, and the container is stopped; before it was a warning.
fn a_failure_after_the_start_stops_the_container(world: &World) {
    let mut bundle = hooked(world);
    failing(&mut bundle, "poststart");
    bundle.create().ok();
    let out = bundle.start();
    assert!(out.code != 0 && out.err.contains("the reason"), "{out:?}");
    bundle.wait_for("stopped");
}

fn a_failure_after_the_end_is_only_a_warning(world: &World) {
    let mut bundle = hooked(world);
    failing(&mut bundle, "poststop");
    bundle.launch();
    bundle.delete(&["--force"]).ok();
    assert!(logged(&bundle).contains(&"second".to_owned()));
    assert_ne!(bundle.call(&["state", &bundle.id]).output().code, 0);
}

fn a_hook_that_takes_too_long_is_killed(world: &World) {
    let mut bundle = hooked(world);
    let line = format!("echo begun >> {0}; sleep 3; echo late >> {0}", log(&bundle));
    bundle.push(
        "/hooks/createRuntime",
        json!({"path": "/bin/sh", "args": ["sh", "-c", line], "timeout": 1}),
    );
    bundle.shell("true");
    let begun = std::time::Instant::now();
    assert_ne!(bundle.run().code, 0);
    assert!(begun.elapsed() < harness::tools::patience(3), "{:?}", begun.elapsed());
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(logged(&bundle), ["begun"]);
}

fn a_hook_with_a_relative_path_is_refused(world: &World) {
    let mut bundle = hooked(world);
    bundle
        .push(
            "/hooks/createRuntime",
            json!({"path": "bin/sh", "args": ["sh", "-c", "true"]}),
        )
        .shell("true");
    assert_ne!(bundle.run().code, 0);
}

/// What createRuntime has begun, somebody must end.
fn poststop_runs_when_create_has_failed(world: &World) {
    let mut bundle = hooked(world);
    let (first, last) = (
        logging(&bundle, "createRuntime", "begun"),
        logging(&bundle, "poststop", "ended"),
    );
    bundle.push("/hooks/createRuntime", first).push("/hooks/poststop", last);
    bundle
        .push("/hooks/createContainer", json!({"path": "/bin/false"}))
        .shell("true");
    assert_ne!(bundle.create().code, 0);
    assert_eq!(logged(&bundle), ["begun", "ended"]);
}
