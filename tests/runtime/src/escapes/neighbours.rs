//! Processes of the container against the runtime's, and against those of the host.

use std::time::{Duration, Instant};

use harness::kernel::{Process, processes};
use harness::{Test, tests};

use crate::bundle::Bundle;
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        a_process_of_root_cannot_look_into_the_runtime_at_exec,
        a_process_of_the_same_user_cannot_look_into_the_runtime_at_exec,
        environment_and_arguments_of_the_runtime_are_not_visible,
        only_the_containers_processes_are_visible,
        the_root_of_process_1_is_the_containers_own,
        killing_everybody_kills_nobody_outside,
        process_1_does_not_die_by_a_signal_from_inside,
        killing_the_runtime_at_exec_is_survived,
        stopping_the_runtime_at_exec_is_survived,
        processes_that_stop_themselves_are_deleted,
        a_paused_container_is_deleted,
        processes_of_exec_do_not_outlive_the_container,
        a_namespace_full_of_zombies_can_still_be_entered,
    ]
}

const MARK: &str = "IECHOR_SECRET_OF_THE_CALLER";

#[track_caller]
fn spied(bundle: &mut Bundle, flags: &[&str]) {
    bundle.args(&["probe", "spy", "60", MARK]);
    bundle.launch();
    bundle.expect("watching");
    for _ in 0..15 {
        bundle.exec_call(flags, &["true"]).env(MARK, "1").output().ok();
    }
    bundle.put("/stop", "");
    bundle.wait_for("stopped");
    let found = bundle.printed();
    assert!(!found.contains("found: "), "{found}");
    assert!(found.contains("newcomers: "), "the attempt was not made: {found}");
    assert!(!found.contains("newcomers: 0"), "the attempt saw no process: {found}");
}

/// CVE-2016-9962: the runtime's process that joins the container has descriptors and memory of the host.
fn a_process_of_root_cannot_look_into_the_runtime_at_exec(world: &World) {
    spied(&mut world.bundle(), &[]);
}

/// CVE-2016-9962, with nothing but the same user's id.
fn a_process_of_the_same_user_cannot_look_into_the_runtime_at_exec(world: &World) {
    let mut bundle = world.bundle();
    bundle.user(1000, 1000).capabilities(&[]);
    spied(&mut bundle, &["--user", "1000:1000"]);
}

fn environment_and_arguments_of_the_runtime_are_not_visible(world: &World) {
    let mut bundle = world.bundle();
    let line = "env; cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'";
    bundle.shell(line);
    let out = bundle.run_call(&[]).env(MARK, "1").output();
    assert!(out.out.contains("TERM=xterm"), "{out:?}");
    assert!(
        !out.out.contains(MARK) && !out.out.contains(bundle.folder().to_str().unwrap()),
        "{}",
        out.out
    );
    bundle.sleeper();
    let out = bundle.exec_call(&[], &["sh", "-c", line]).env(MARK, "1").output();
    assert!(
        !out.out.contains(MARK) && !out.out.contains(bundle.folder().to_str().unwrap()),
        "{}",
        out.out
    );
}

fn only_the_containers_processes_are_visible(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    let out = bundle.inside("ls -d /proc/[0-9]* | wc -l").ok();
    // sleep, sh, ls, wc
    assert!(out.parse::<usize>().unwrap() <= 4, "{out} processes are visible");
}

fn the_root_of_process_1_is_the_containers_own(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    let line = format!(
        "cat /proc/1/root{0} /proc/1/cwd/../../../../../..{0}; for l in root cwd exe; do readlink /proc/1/$l; done",
        bundle.secret()
    );
    assert_eq!(bundle.inside(&line).out, "/\n/\n/bin/busybox");
}

/// Nobody outside of the container's pid namespace is reached, whatever number is tried.
fn killing_everybody_kills_nobody_outside(world: &World) {
    let mut bystander = world.bundle();
    let process = bystander.sleeper();
    let mut bundle = world.bundle();
    let own = std::process::id();
    // From a session of its own, so that pid 0 and -1 mean whom they mean.
    let line = format!(
        "kill -KILL {} {own}; kill -KILL -1; kill -KILL 0; kill -KILL -{own}",
        process.0
    );
    bundle.args(&["setsid", "sh", "-c", &line]);
    bundle.run();
    assert!(process.is_alive(), "a process of another container was killed");
}

fn process_1_does_not_die_by_a_signal_from_inside(world: &World) {
    let mut bundle = world.bundle();
    let process = bundle.sleeper();
    bundle.inside("kill -KILL 1; kill -STOP 1; kill -TERM 1");
    std::thread::sleep(Duration::from_millis(200));
    assert!(process.is_alive() && bundle.status() == "running");
    assert!(process.status("State").starts_with('S'), "{}", process.status("State"));
}

/// Whoever comes into the pid namespace is hit at once: `exec` must end, and work again when nobody shoots.
fn shot_at(world: &World, signal: &str) {
    let mut bundle = world.bundle();
    bundle.args(&["sh", "-c", &format!("probe assassin 4 {signal}; echo over; sleep 1000")]);
    bundle.launch();
    bundle.expect("watching");
    for _ in 0..6 {
        // A process that is stopped waits for good, as any program may: whoever called ends it.
        let mut call = bundle.exec_call(&[], &["true"]).seconds(15).spawn();
        let end = Instant::now() + Duration::from_millis(900);
        while !call.has_ended() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        if signal == "SIGKILL" {
            call.finish();
        }
    }
    bundle.expect("over");
    assert!(
        !bundle.printed().contains("hits: 0"),
        "the attack hit nobody: {}",
        bundle.printed()
    );
    assert_eq!(bundle.inside("echo works").ok(), "works");
    let begun = Instant::now();
    bundle.delete(&["--force"]).ok();
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "delete took {:?}",
        begun.elapsed()
    );
    // Neither the runtime's calls, which have the id among their arguments, nor what they started.
    let has_id = |process: &Process| {
        let at = |name: &str| std::fs::read(format!("/proc/{}/{name}", process.0)).unwrap_or_default();
        let text = [at("cmdline"), at("cgroup")].concat();
        process.is_alive() && String::from_utf8_lossy(&text).contains(&bundle.id)
    };
    let left = || processes().iter().any(has_id);
    harness::tools::eventually("no process of the container or of the calls is left", 5, || !left());
}

fn killing_the_runtime_at_exec_is_survived(world: &World) {
    shot_at(world, "SIGKILL");
}

fn stopping_the_runtime_at_exec_is_survived(world: &World) {
    shot_at(world, "SIGSTOP");
}

#[track_caller]
fn deleted_in_time(bundle: &Bundle, process: Process) {
    let begun = Instant::now();
    bundle.delete(&["--force"]).ok();
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "delete took {:?}",
        begun.elapsed()
    );
    assert!(!process.is_alive());
    harness::tools::eventually("the groups are gone", 5, || bundle.cgroups().is_empty());
}

fn processes_that_stop_themselves_are_deleted(world: &World) {
    let mut bundle = world.bundle();
    bundle.shell("for i in 1 2 3 4 5; do (while :; do kill -STOP $(sh -c 'echo $PPID'); done) & done; trap '' TERM INT HUP; while :; do sleep 1000; done");
    let process = bundle.launch();
    let _exec = bundle
        .exec_call(&[], &["sh", "-c", "kill -STOP $$; sleep 1000"])
        .spawn();
    std::thread::sleep(Duration::from_millis(500));
    deleted_in_time(&bundle, process);
}

fn a_paused_container_is_deleted(world: &World) {
    let mut bundle = world.bundle();
    let process = bundle.sleeper();
    bundle.call(&["pause", &bundle.id]).output().ok();
    assert_eq!(bundle.status(), "paused");
    deleted_in_time(&bundle, process);
}

/// In the host's pid namespace nobody kills them when process 1 ends, except the runtime.
fn processes_of_exec_do_not_outlive_the_container(world: &World) {
    let mut bundle = world.bundle();
    bundle.without_namespace("pid");
    let process = bundle.sleeper();
    bundle.exec_with(&["--detach"], &["sleep", "1001"]).ok();
    bundle
        .exec_with(
            &["--detach"],
            &["setsid", "sh", "-c", "trap '' TERM; sleep 1002; sleep 1002"],
        )
        .ok();
    deleted_in_time(&bundle, process);
    let mine = |process: &Process| {
        let command = std::fs::read(format!("/proc/{}/cmdline", process.0)).unwrap_or_default();
        command.starts_with(b"sleep\x001001") || command.starts_with(b"sleep\x001002")
    };
    harness::tools::eventually("nobody is left", 5, || !processes().iter().any(mine));
}

fn a_namespace_full_of_zombies_can_still_be_entered(world: &World) {
    let mut bundle = world.bundle();
    bundle
        .args(&["probe", "zombies", "400"])
        .set("/linux/resources/pids", serde_json::json!({"limit": 600}));
    let process = bundle.launch();
    bundle.expect("zombies: 400");
    assert_eq!(bundle.inside("echo works").ok(), "works");
    deleted_in_time(&bundle, process);
}
