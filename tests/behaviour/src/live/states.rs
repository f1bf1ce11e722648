//! What is admitted in which state, and the events that tell of it.

use harness::tools::eventually;
use harness::{Test, tests};
use serde_json::{Value, json};

use super::{actions, events};
use crate::world::{Named, World};

pub fn tests() -> Vec<Test<World>> {
    tests![
        a_paused_container_admits_little,
        a_paused_container_can_be_stopped,
        a_paused_container_can_be_killed,
        waits_end_when_they_should,
        events_tell_the_whole_life,
        events_of_execs_and_signals,
        oom_is_told_while_it_runs,
    ]
}

fn polite<'a>(world: &'a World, flags: &[&str]) -> Named<'a> {
    let name = world.name("polite");
    let line = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    world
        .run(&[&["run", "-d", "--name", &name], flags, &["busybox", "sh", "-c", line]].concat())
        .ok();
    eventually("it listens", 10, || world.run(&["logs", &name]).out.contains("ready"));
    name
}

fn state(world: &World, name: &str) -> Value {
    world.inspect(name)["State"].clone()
}

fn a_paused_container_admits_little(world: &World) {
    let (name, _) = world.sleeper(&[]);
    let post = |action: &str, body: Value| world.server.post(&format!("/containers/{}/{action}", &*name), &body);
    assert!(
        post("unpause", json!(null))
            .expect(409)
            .message()
            .ends_with("is not paused")
    );
    let exec = post("exec", json!({"Cmd": ["true"]})).expect(201).json()["Id"]
        .as_str()
        .unwrap()
        .to_owned();
    post("pause", json!(null)).expect(204);
    assert!(post("pause", json!(null)).expect(409).message().contains("paused"));
    let words = "is paused, unpause the container before exec";
    assert!(
        post("exec", json!({"Cmd": ["true"]}))
            .expect(409)
            .message()
            .contains(words)
    );
    let started = world
        .server
        .post(&format!("/exec/{exec}/start"), &json!({"Detach": true}));
    assert!(started.expect(409).message().contains(words));
    let told = state(world, &name);
    assert_eq!((&told["Running"], &told["Paused"]), (&json!(true), &json!(true)));
    world.server.get(&format!("/containers/{}/top", &*name)).expect(200);
    world
        .server
        .get(&format!("/containers/{}/stats?stream=false&one-shot=1", &*name))
        .expect(200);
    post("unpause", json!(null)).expect(204);
    assert_eq!(
        actions(world, &name)[..],
        ["create", "start", "exec_create: true", "pause", "top", "unpause"]
    );
}

fn a_paused_container_can_be_stopped(world: &World) {
    let name = polite(world, &[]);
    world.run(&["pause", &name]).ok();
    world.run(&["stop", "-t", "5", &name]).ok();
    assert_eq!(state(world, &name)["ExitCode"], 7);
}

fn a_paused_container_can_be_killed(world: &World) {
    let name = polite(world, &[]);
    world.run(&["pause", &name]).ok();
    // What does not end it waits until it runs on.
    world.run(&["kill", "-s", "USR1", &name]).ok();
    assert_eq!(state(world, &name)["Paused"], true);
    world.run(&["kill", "-s", "TERM", &name]).ok();
    eventually("the signal arrived", 10, || state(world, &name)["Status"] == "exited");
    let name = polite(world, &[]);
    world.run(&["pause", &name]).ok();
    world.run(&["kill", &name]).ok();
    assert_eq!(state(world, &name)["ExitCode"], 137);
    assert!(world.run(&["kill", &name]).err.contains("is not running"));
}

fn waits_end_when_they_should(world: &World) {
    let name = world.name("waited");
    world
        .run(&["create", "--name", &name, "busybox", "sh", "-c", "exit 9"])
        .ok();
    let wait = |condition: &str| {
        world.server.call(
            "POST",
            &format!("/containers/{}/wait?condition={condition}", &*name),
            None,
        )
    };
    assert_eq!(wait("not-running").expect(200).json()["StatusCode"], 0);
    wait("sometime").expect(400);
    std::thread::scope(|scope| {
        let next = scope.spawn(|| wait("next-exit").expect(200).json());
        let removed = scope.spawn(|| wait("removed").expect(200).json());
        std::thread::sleep(std::time::Duration::from_millis(300));
        world.run(&["start", &name]).ok();
        assert_eq!(next.join().unwrap()["StatusCode"], 9);
        assert!(!removed.is_finished());
        world.run(&["rm", "-f", &name]).ok();
        assert_eq!(removed.join().unwrap()["StatusCode"], 9);
    });
}

fn events_tell_the_whole_life(world: &World) {
    let name = polite(world, &["-l", "tier=web"]);
    let other = format!("{}-b", &*name);
    world.run(&["rename", &name, &other]).ok();
    world.run(&["restart", &other]).ok();
    eventually("it listens again", 10, || {
        world.run(&["logs", &other]).out.matches("ready").count() == 2
    });
    world.run(&["stop", &other]).ok();
    world.run(&["rename", &other, &name]).ok();
    let id = world.inspect(&name)["Id"].as_str().unwrap().to_owned();
    world.run(&["rm", &name]).ok();
    let told = events(world, &id);
    let actions: Vec<&str> = told.iter().map(|(action, _)| action.as_str()).collect();
    let restarted = ["kill", "die", "stop", "start", "restart"];
    let stopped = ["kill", "die", "stop"];
    let expected = [
        &["create", "start", "rename"][..],
        &restarted,
        &stopped,
        &["rename", "destroy"],
    ]
    .concat();
    assert_eq!(actions, expected);
    let of = |action: &str| &told.iter().find(|(told, _)| told == action).unwrap().1;
    assert_eq!(
        (&of("kill")["signal"], &of("die")["exitCode"]),
        (&json!("15"), &json!("7"))
    );
    assert!(of("die")["execDuration"].as_str().unwrap().parse::<u64>().is_ok());
    assert_eq!(of("rename")["oldName"], format!("/{}", &*name));
    assert!(
        told.iter()
            .all(|(_, attributes)| attributes["tier"] == "web" && attributes["image"] == "busybox")
    );
}

fn events_of_execs_and_signals(world: &World) {
    let (name, _) = world.sleeper(&[]);
    assert_eq!(world.run(&["exec", &name, "sh", "-c", "exit 4"]).code, 4);
    world.run(&["kill", "-s", "USR1", &name]).ok();
    eventually("the exec's end is told", 5, || {
        actions(world, &name).contains(&"exec_die".to_owned())
    });
    let told = events(world, &name);
    let of = |action: &str| {
        &told
            .iter()
            .find(|(told, _)| told.starts_with(action))
            .unwrap_or_else(|| panic!("{action} in {told:?}"))
            .1
    };
    assert_eq!(of("exec_create: sh -c exit 4")["execID"], of("exec_die")["execID"]);
    assert_eq!(
        (&of("exec_start: sh -c exit 4")["execID"], &of("exec_die")["exitCode"]),
        (&of("exec_die")["execID"], &json!("4"))
    );
    assert_eq!(of("kill")["signal"], "10");
}

fn oom_is_told_while_it_runs(world: &World) {
    let name = world.name("oom");
    let line = "while [ ! -e /go ]; do sleep 0.05; done; tail -c 100m /dev/zero >/dev/null; sleep 1000";
    world
        .run(&[
            "run",
            "-d",
            "--name",
            &name,
            "-m",
            "32m",
            "--memory-swap",
            "32m",
            "busybox",
            "sh",
            "-c",
            line,
        ])
        .ok();
    assert_eq!(state(world, &name)["OOMKilled"], false);
    world.inside(&name, "touch /go");
    eventually("the kernel's verdict is told", 10, || {
        actions(world, &name).contains(&"oom".to_owned())
    });
    let told = state(world, &name);
    assert_eq!((&told["OOMKilled"], &told["Running"]), (&json!(true), &json!(true)));
    world.run(&["kill", &name]).ok();
    let told = actions(world, &name);
    assert_eq!(told.iter().filter(|action| *action == "oom").count(), 1, "{told:?}");
    assert_eq!(state(world, &name)["OOMKilled"], true);
}
