//! create, start, kill, delete: what is legal when, and what the state says.

use harness::{Test, tests};
use serde_json::{Value, json};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        a_container_goes_through_its_states,
        the_state_has_all_that_the_specification_wants,
        annotations_are_in_the_state,
        the_process_is_not_run_before_start,
        changes_of_the_configuration_after_create_have_no_effect,
        a_container_without_a_process_is_created_but_not_started,
        start_is_refused_unless_created,
        kill_is_refused_unless_there_is_a_process,
        kill_of_a_created_container,
        kill_sends_each_signal,
        kill_of_everybody,
        delete_is_refused_while_it_runs,
        delete_of_a_created_container,
        delete_with_force_of_what_does_not_exist,
        an_id_is_unique_and_free_again_after_delete,
        two_creates_of_one_id_at_once_make_one_container,
        nothing_is_known_of_what_does_not_exist,
        a_create_that_failed_leaves_nothing,
    ]
}

fn a_container_goes_through_its_states(world: &World) {
    let mut bundle = world.bundle();
    bundle.args(&["sleep", "1000"]);
    bundle.create().ok();
    assert_eq!(bundle.status(), "created");
    bundle.start().ok();
    bundle.wait_for("running");
    bundle.kill("KILL").ok();
    bundle.wait_for("stopped");
    bundle.delete(&[]).ok();
    assert_ne!(bundle.call(&["state", &bundle.id]).output().code, 0);
}

fn the_state_has_all_that_the_specification_wants(world: &World) {
    let mut bundle = world.bundle();
    let process = bundle.sleeper();
    let state = bundle.state();
    assert!(
        state["ociVersion"]
            .as_str()
            .is_some_and(|version| version.starts_with("1.")),
        "{state}"
    );
    assert_eq!(state["id"], bundle.id.as_str());
    assert_eq!(state["status"], "running");
    assert_eq!(state["pid"], process.0);
    assert_eq!(state["bundle"], bundle.folder().to_str().unwrap());
    assert_eq!(process.command_line(), ["sleep", "1000"]);
    bundle.kill("KILL").ok();
    bundle.wait_for("stopped");
    assert!(
        [&Value::Null, &json!(0)].contains(&&bundle.state()["pid"]),
        "{}",
        bundle.state()
    );
}

fn annotations_are_in_the_state(world: &World) {
    let mut bundle = world.bundle();
    bundle.set(
        "/annotations",
        json!({"org.example.one": "1", "org.example.empty": "", "org.example.ü": "ö\n"}),
    );
    bundle.sleeper();
    let annotations = bundle.state()["annotations"].clone();
    assert_eq!(annotations["org.example.one"], "1");
    assert_eq!(annotations["org.example.empty"], "");
    assert_eq!(annotations["org.example.ü"], "ö\n");
}

fn the_process_is_not_run_before_start(world: &World) {
    let mut bundle = world.bundle();
    bundle.shell("touch /ran; sleep 1000");
    bundle.create().ok();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!bundle.rootfs("/ran").exists());
    bundle.start().ok();
    harness::tools::eventually("it runs", 5, || bundle.rootfs("/ran").exists());
}

fn changes_of_the_configuration_after_create_have_no_effect(world: &World) {
    let mut bundle = world.bundle();
    bundle.shell("echo first");
    bundle.create().ok();
    bundle.shell("echo second");
    bundle.save();
    bundle.start().ok();
    bundle.expect("first");
}

fn a_container_without_a_process_is_created_but_not_started(world: &World) {
    let mut bundle = world.bundle();
    bundle.remove("", "process");
    let out = bundle.create();
    // `process` is required for `start` alone; a runtime that refuses it at once must say so.
    if out.code == 0 {
        assert_ne!(bundle.start().code, 0);
    } else {
        assert!(out.err.contains("process"), "{}", out.err);
    }
}

fn start_is_refused_unless_created(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    assert_ne!(bundle.start().code, 0, "started twice");
    assert_eq!(bundle.status(), "running");
    bundle.kill("KILL").ok();
    bundle.wait_for("stopped");
    assert_ne!(bundle.start().code, 0, "started again after its end");
}

fn kill_is_refused_unless_there_is_a_process(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    assert_ne!(bundle.kill("NOSUCHSIGNAL").code, 0);
    assert_ne!(bundle.kill("999").code, 0);
    bundle.kill("KILL").ok();
    bundle.wait_for("stopped");
    assert_ne!(bundle.kill("KILL").code, 0, "killed what has stopped");
}

fn kill_of_a_created_container(world: &World) {
    let mut bundle = world.bundle();
    bundle.args(&["sleep", "1000"]);
    bundle.create().ok();
    bundle.kill("KILL").ok();
    bundle.wait_for("stopped");
    assert_ne!(bundle.start().code, 0);
    bundle.delete(&[]).ok();
}

fn kill_sends_each_signal(world: &World) {
    let mut bundle = world.bundle();
    bundle.shell("for s in HUP INT QUIT USR1 USR2 TERM CONT WINCH; do trap \"echo got $s\" $s; done; echo ready; while :; do sleep 0.1; done");
    bundle.launch();
    bundle.expect("ready");
    for (name, signal) in [
        ("SIGHUP", "HUP"),
        ("usr1", "USR1"),
        ("12", "USR2"),
        ("TERM", "TERM"),
        ("SIGWINCH", "WINCH"),
        ("INT", "INT"),
    ] {
        bundle.kill(name).ok();
        bundle.expect(&format!("got {signal}"));
    }
    // TERM is the default.
    let before = bundle.printed().matches("got TERM").count();
    bundle.call(&["kill", &bundle.id]).output().ok();
    harness::tools::eventually("another TERM has come", 5, || {
        bundle.printed().matches("got TERM").count() > before
    });
}

/// In the host's pid namespace, where they do not die with process 1.
fn kill_of_everybody(world: &World) {
    let mut bundle = world.bundle();
    bundle.without_namespace("pid");
    let process = bundle.sleeper();
    bundle.exec_with(&["--detach"], &["sleep", "1000"]).ok();
    let group = process.cgroup("pids").join("cgroup.procs");
    let count = || std::fs::read_to_string(&group).unwrap_or_default().lines().count();
    assert_eq!(count(), 2);
    bundle.call(&["kill", "--all", &bundle.id, "KILL"]).output().ok();
    harness::tools::eventually("nobody is left", 5, || count() == 0);
}

fn delete_is_refused_while_it_runs(world: &World) {
    let mut bundle = world.bundle();
    let process = bundle.sleeper();
    let out = bundle.delete(&[]);
    assert!(out.code != 0 && !out.err.is_empty());
    assert!(process.is_alive());
    bundle.delete(&["--force"]).ok();
    assert!(!process.is_alive());
}

fn delete_of_a_created_container(world: &World) {
    let mut bundle = world.bundle();
    bundle.args(&["sleep", "1000"]);
    bundle.create().ok();
    let process = bundle.init();
    // The specification wants an error; runc's users rely on it being removed.
    if bundle.delete(&[]).code == 0 {
        harness::tools::eventually("its process is gone", 5, || !process.is_alive());
    } else {
        assert!(process.is_alive());
        bundle.delete(&["--force"]).ok();
    }
}

fn delete_with_force_of_what_does_not_exist(world: &World) {
    let bundle = world.bundle();
    bundle.delete(&["--force"]).ok();
    assert_ne!(bundle.delete(&[]).code, 0);
}

fn an_id_is_unique_and_free_again_after_delete(world: &World) {
    let mut bundle = world.bundle();
    let process = bundle.sleeper();
    let out = bundle.create();
    assert!(out.code != 0 && out.err.contains("exist"), "{out:?}");
    assert!(
        process.is_alive() && bundle.status() == "running",
        "the first one has suffered"
    );
    bundle.delete(&["--force"]).ok();
    bundle.sleeper();
}

fn two_creates_of_one_id_at_once_make_one_container(world: &World) {
    let mut bundle = world.bundle();
    bundle.args(&["sleep", "1000"]);
    bundle.save();
    for _ in 0..5 {
        let folder = bundle.folder().to_str().unwrap();
        let calls: Vec<_> = (0..4)
            .map(|_| bundle.call(&["create", "--bundle", folder, &bundle.id]).spawn())
            .collect();
        let worked = calls
            .into_iter()
            .map(|call| call.finish().code)
            .filter(|code| *code == 0)
            .count();
        assert_eq!(worked, 1);
        assert_eq!(bundle.status(), "created");
        bundle.delete(&["--force"]).ok();
    }
}

fn nothing_is_known_of_what_does_not_exist(world: &World) {
    let bundle = world.bundle();
    for words in [
        &["state"][..],
        &["start"],
        &["kill"],
        &["delete"],
        &["pause"],
        &["resume"],
        &["ps"],
        &["update", "--pids-limit", "5"],
        &["exec"],
    ] {
        let tail: &[&str] = if words[0] == "exec" {
            &["no-such-container", "true"]
        } else {
            &["no-such-container"]
        };
        let out = bundle.call(&[words, tail].concat()).output();
        assert!(out.code != 0 && out.err.contains("not exist"), "{}: {out:?}", words[0]);
    }
}

fn a_create_that_failed_leaves_nothing(world: &World) {
    let mut bundle = world.bundle();
    for breakage in ["/mounts", "/linux/resources/hugepageLimits", "/process/args"] {
        let good = bundle.config.clone();
        match breakage {
            "/mounts" => drop(bundle.bind("/no/such/source", "/mnt")),
            "/process/args" => drop(bundle.args(&["no-such-program"])),
            _ => drop(bundle.set(breakage, json!([{"pageSize": "3MB", "limit": 1}]))),
        }
        assert_ne!(bundle.create().code, 0, "{breakage}");
        assert!(bundle.cgroups().is_empty(), "{breakage}: {:?}", bundle.cgroups());
        assert!(!bundle.state_root().join(&bundle.id).exists(), "{breakage}");
        bundle.config = good;
    }
    // The same id is good for another try.
    bundle.sleeper();
}
