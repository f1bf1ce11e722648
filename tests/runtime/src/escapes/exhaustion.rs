//! Too much of everything: the host goes on, and the runtime says what is wrong.

use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Test, tests};
use serde_json::json;

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        a_fork_bomb_is_held_by_the_limit,
        a_fork_bomb_is_held_at_exec,
        memory_is_held_by_the_limit,
        an_argument_that_is_too_long_is_an_error,
        arguments_that_are_too_many_are_an_error,
        an_environment_that_is_too_large_is_an_error,
        a_huge_environment_that_fits_arrives_whole,
        few_descriptors_are_an_error_or_enough,
        a_configuration_of_many_megabytes_is_read_or_refused,
        a_thousand_mounts_are_made_and_gone,
        an_endless_stream_of_output_does_not_stop_the_runtime,
    ]
}

fn a_fork_bomb_is_held_by_the_limit(world: &World) {
    let mut bundle = world.bundle();
    bundle
        .args(&["probe", "forks"])
        .set("/linux/resources/pids", json!({"limit": 64}));
    let process = bundle.launch();
    bundle.expect("EAGAIN");
    let count: usize = process.control("pids", &["pids.current"]).parse().unwrap();
    assert!(count <= 64, "{count} processes");
    let begun = Instant::now();
    assert!(Command::new("true").status().is_ok_and(|status| status.success()));
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "the host needed {:?}",
        begun.elapsed()
    );
    let begun = Instant::now();
    bundle.delete(&["--force"]).ok();
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "delete took {:?}",
        begun.elapsed()
    );
}

/// A limit that is used up is an error of `exec`, and no wait.
fn a_fork_bomb_is_held_at_exec(world: &World) {
    let mut bundle = world.bundle();
    bundle
        .shell("for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 & done; echo full; wait")
        .set("/linux/resources/pids", json!({"limit": 11}));
    bundle.launch();
    bundle.expect("full");
    for _ in 0..3 {
        let out = bundle
            .exec_call(
                &[],
                &["sh", "-c", "echo in; sleep 1 & sleep 1 & sleep 1 & wait; echo out"],
            )
            .seconds(10)
            .output();
        assert!(out.code != 0 || !out.err.is_empty(), "{out:?}");
    }
}

fn memory_is_held_by_the_limit(world: &World) {
    let mut bundle = world.bundle();
    bundle.set("/linux/resources/memory", json!({"limit": 32 << 20, "swap": 32 << 20}));
    // One line that never ends: the shell or tail keeps all of it.
    bundle.shell("tail -c 200000000 /dev/zero > /dev/null; echo $?");
    let out = bundle.run();
    assert!(out.code != 0 || out.out.contains("137"), "{out:?}");
}

fn an_argument_that_is_too_long_is_an_error(world: &World) {
    let mut bundle = world.bundle();
    // MAX_ARG_STRLEN is 128 KiB.
    bundle.args(&["echo", &"x".repeat(200 << 10)]);
    let out = bundle.run();
    assert_ne!(out.code, 0);
    assert!(
        !out.err.is_empty() && out.err.len() < 10_000,
        "{} bytes of error",
        out.err.len()
    );
    assert!(
        bundle.call(&["state", &bundle.id]).output().code != 0,
        "the container is still there"
    );
}

fn arguments_that_are_too_many_are_an_error(world: &World) {
    let mut bundle = world.bundle();
    let word = "x".repeat(64 << 10);
    bundle.args(&["echo"]);
    for _ in 0..200 {
        bundle.push("/process/args", word.as_str());
    }
    let out = bundle.run();
    assert_ne!(out.code, 0);
    assert!(
        !out.err.is_empty() && out.err.len() < 10_000,
        "{} bytes of error",
        out.err.len()
    );
}

fn an_environment_that_is_too_large_is_an_error(world: &World) {
    let mut bundle = world.bundle();
    bundle.env(&format!("LONG={}", "x".repeat(200 << 10))).shell("true");
    let out = bundle.run();
    assert_ne!(out.code, 0);
    assert!(
        !out.err.is_empty() && out.err.len() < 10_000,
        "{} bytes of error",
        out.err.len()
    );
}

fn a_huge_environment_that_fits_arrives_whole(world: &World) {
    let mut bundle = world.bundle();
    for index in 0..10 {
        bundle.env(&format!("LONG{index}={}", "x".repeat(100 << 10)));
    }
    bundle.shell("echo ${#LONG0} ${#LONG9}");
    assert_eq!(bundle.run().ok(), "102400 102400");
}

/// RLIMIT_NOFILE of the caller: whatever does not work is said, nothing hangs, nothing is left.
fn few_descriptors_are_an_error_or_enough(world: &World) {
    for limit in [4, 6, 8, 10, 12, 16, 20, 24, 32] {
        let mut bundle = world.bundle();
        bundle.shell("echo runs");
        let out = bundle
            .run_call_after(&format!("ulimit -n {limit}"), &[])
            .seconds(15)
            .output();
        assert!(out.out == "runs" || out.code != 0, "with {limit}: {out:?}");
        assert!(
            out.code == 0 || !out.err.is_empty(),
            "with {limit} it failed without a word"
        );
    }
}

fn a_configuration_of_many_megabytes_is_read_or_refused(world: &World) {
    let mut bundle = world.bundle();
    bundle.shell("echo runs");
    for index in 0..2000 {
        bundle.at("/annotations")[format!("annotation-{index}")] = json!("x".repeat(4 << 10));
    }
    let out = bundle.run_call(&[]).seconds(20).output();
    assert!(out.out == "runs" || (out.code != 0 && !out.err.is_empty()), "{out:?}");
}

fn a_thousand_mounts_are_made_and_gone(world: &World) {
    let mut bundle = world.bundle();
    for index in 0..1000 {
        bundle.mount(&format!("/mnt/{index}"), "tmpfs", "tmpfs", &["size=4k"]);
    }
    bundle.shell("grep -c /mnt/ /proc/self/mountinfo");
    assert_eq!(bundle.run_call(&[]).seconds(60).output().ok(), "1000");
}

fn an_endless_stream_of_output_does_not_stop_the_runtime(world: &World) {
    let mut bundle = world.bundle();
    bundle.shell("yes | head -c 30000000; echo; echo over");
    let out = bundle.run();
    assert!(out.code == 0 && out.out.ends_with("over"));
    bundle.sleeper();
    let out = bundle.inside("yes | head -c 30000000; echo; echo over");
    assert!(out.code == 0 && out.out.ends_with("over"));
}
