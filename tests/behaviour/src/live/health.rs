//! Health checks, and restarts because of them.

use harness::tools::eventually;
use harness::{Test, tests};
use serde_json::Value;

use super::{actions, events};
use crate::world::{Named, World};

pub fn tests() -> Vec<Test<World>> {
    tests![
        health_follows_the_test,
        results_are_kept,
        a_probe_that_hangs_is_cut_off,
        a_paused_container_is_not_probed,
        failures_do_not_count_while_it_starts,
        no_check_when_none_is_wanted,
        restart_on_unhealthy_by_policy,
        restart_on_unhealthy_by_label,
    ]
}

fn checked<'a>(world: &'a World, command: &str, flags: &[&str]) -> Named<'a> {
    let name = world.name("checked");
    let base = [
        "run",
        "-d",
        "--name",
        &name,
        "--health-cmd",
        command,
        "--health-interval",
        "200ms",
    ];
    world.run(&[&base, flags, &["busybox", "sleep", "1000"]].concat()).ok();
    name
}

fn health(world: &World, name: &str) -> Value {
    world.inspect(name)["State"]["Health"].clone()
}

fn is(world: &World, name: &str, status: &str) -> bool {
    health(world, name)["Status"] == status
}

fn health_follows_the_test(world: &World) {
    let name = checked(world, "test -e /ok", &["--health-retries", "2"]);
    assert!(is(world, &name, "starting"));
    eventually("it is unhealthy", 10, || is(world, &name, "unhealthy"));
    assert!(health(world, &name)["FailingStreak"].as_u64().unwrap() >= 2);
    world.inside(&name, "touch /ok");
    eventually("it is healthy", 10, || is(world, &name, "healthy"));
    assert_eq!(health(world, &name)["FailingStreak"], 0);
    let told: Vec<String> = actions(world, &name)
        .into_iter()
        .filter(|action| action.starts_with("health_status"))
        .collect();
    assert_eq!(told, ["health_status: unhealthy", "health_status: healthy"]);
    assert!(
        world
            .run(&["ps", "--filter", &format!("name={}", &*name)])
            .ok()
            .contains("(healthy)")
    );
}

fn results_are_kept(world: &World) {
    let name = checked(world, "head -c 6000 /dev/zero | tr '\\0' x; exit 3", &[]);
    eventually("five results are there", 15, || {
        health(world, &name)["Log"].as_array().unwrap().len() == 5
    });
    let first = health(world, &name)["Log"][0].clone();
    assert_eq!(first["ExitCode"], 3);
    let output = first["Output"].as_str().unwrap();
    assert_eq!((output.len(), output.ends_with("x...")), (4096 + 3, true));
    std::thread::sleep(std::time::Duration::from_millis(700));
    let log = health(world, &name)["Log"].clone();
    assert_eq!(log.as_array().unwrap().len(), 5);
    assert_ne!(log[0], first);
}

fn a_probe_that_hangs_is_cut_off(world: &World) {
    let name = checked(
        world,
        "echo begun; sleep 77",
        &["--health-timeout", "300ms", "--health-retries", "1"],
    );
    eventually("it is unhealthy", 10, || is(world, &name, "unhealthy"));
    let result = health(world, &name)["Log"][0].clone();
    assert_eq!(result["ExitCode"], -1);
    assert_eq!(result["Output"], "Health check exceeded timeout (300ms): begun\n");
}

fn a_paused_container_is_not_probed(world: &World) {
    let name = checked(world, "true", &["--health-retries", "1"]);
    eventually("it is healthy", 10, || is(world, &name, "healthy"));
    world.run(&["pause", &name]).ok();
    std::thread::sleep(std::time::Duration::from_millis(900));
    assert!(is(world, &name, "healthy"), "{}", health(world, &name));
    world.run(&["unpause", &name]).ok();
    let ended = |index: usize| health(world, &name)["Log"][index]["End"].clone();
    let last = ended(0);
    eventually("it is probed again", 10, || {
        health(world, &name)["Log"].as_array().unwrap().len() == 5 && ended(0) != last
    });
    assert!(is(world, &name, "healthy"));
}

fn failures_do_not_count_while_it_starts(world: &World) {
    let flags = [
        "--health-retries",
        "1",
        "--health-start-period",
        "3s",
        "--health-start-interval",
        "100ms",
    ];
    let name = checked(world, "exit 1", &flags);
    eventually("it was probed some times", 10, || {
        health(world, &name)["Log"].as_array().is_some_and(|log| log.len() >= 3)
    });
    assert!(is(world, &name, "starting"));
    assert_eq!(health(world, &name)["FailingStreak"], 0);
    eventually("the start is over", 15, || is(world, &name, "unhealthy"));
}

fn no_check_when_none_is_wanted(world: &World) {
    let (name, _) = world.sleeper(&["--no-healthcheck"]);
    assert!(health(world, &name).is_null());
}

fn restart_on_unhealthy_by_policy(world: &World) {
    let flags = [
        "--health-retries",
        "1",
        "--restart",
        "on-unhealthy:2",
        "--stop-timeout",
        "0",
    ];
    let name = checked(world, "exit 1", &flags);
    assert_eq!(
        world.inspect(&name)["HostConfig"]["RestartPolicy"]["Name"],
        "on-unhealthy"
    );
    let count = || world.inspect(&name)["RestartCount"].as_u64().unwrap();
    eventually("it was restarted twice", 20, || count() == 2);
    // No third time: it runs on as it is.
    eventually("it is unhealthy", 10, || is(world, &name, "unhealthy"));
    std::thread::sleep(std::time::Duration::from_millis(800));
    assert_eq!(count(), 2);
    assert_eq!(world.inspect(&name)["State"]["Running"], true);
    let told = actions(world, &name);
    let times = |action: &str| told.iter().filter(|told| *told == action).count();
    assert_eq!((times("start"), times("die"), times("stop")), (3, 2, 0), "{told:?}");
    let signals: Vec<Value> = events(world, &name)
        .into_iter()
        .filter(|(action, _)| action == "kill")
        .map(|(_, attributes)| attributes["signal"].clone())
        .collect();
    assert!(signals.contains(&Value::from("15")), "{signals:?}");
}

fn restart_on_unhealthy_by_label(world: &World) {
    let label = "iechor.restart-on-unhealthy=true";
    // It ends well when it is asked to, and is started again nevertheless.
    let name = world.name("labelled");
    let line = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
    world
        .run(&[
            "run",
            "-d",
            "--name",
            &name,
            "--label",
            label,
            "--restart",
            "on-failure",
            "--health-cmd",
            "exit 1",
            "--health-interval",
            "200ms",
            "--health-retries",
            "1",
            "busybox",
            "sh",
            "-c",
            line,
        ])
        .ok();
    eventually("it was restarted", 20, || {
        world.inspect(&name)["RestartCount"].as_u64().unwrap() >= 1
    });
    // What somebody stops stays stopped.
    world.run(&["stop", &name]).ok();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(world.inspect(&name)["State"]["Status"], "exited");
    let without = world.name("without");
    let made = world.run(&["create", "--name", &without, "--label", label, "busybox", "true"]);
    assert!(made.err.contains("no effect"), "{}", made.err);
}
