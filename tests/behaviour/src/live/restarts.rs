//! Restart policies, and what a container that waits for one admits.

use harness::tools::eventually;
use harness::{Test, tests};
use serde_json::json;

use super::actions;
use crate::world::{Named, World};

pub fn tests() -> Vec<Test<World>> {
    tests![
        delays_double,
        a_waiting_container_counts_as_running,
        a_waiting_container_can_be_stopped_and_killed,
        a_policy_can_be_changed_while_it_runs,
        a_start_by_hand_counts_anew,
    ]
}

/// A container that fails again and again, in a wait of some length.
fn failing<'a>(world: &'a World, flags: &[&str]) -> Named<'a> {
    let name = world.name("failing");
    let base = ["run", "-d", "--name", &name, "--restart", "always"];
    world
        .run(&[&base, flags, &["busybox", "sh", "-c", "exit 3"]].concat())
        .ok();
    // A long wait that has just begun: of one that is seen first, the end may be near.
    let mut seen = None;
    eventually("it begins to wait for some time", 30, || {
        let container = world.inspect(&name);
        let long = container["State"]["Status"] == "restarting" && container["RestartCount"].as_u64().unwrap() >= 4;
        let run = container["State"]["StartedAt"].clone();
        long && seen.get_or_insert(run.clone()) != &run
    });
    name
}

fn delays_double(world: &World) {
    let name = world.name("doubling");
    world
        .run(&[
            "run",
            "-d",
            "--name",
            &name,
            "--restart",
            "on-failure:4",
            "busybox",
            "sh",
            "-c",
            "date +%s.%N >&2; exit 1",
        ])
        .ok();
    eventually("all restarts are used up", 20, || {
        let container = world.inspect(&name);
        container["State"]["Status"] == "exited" && container["RestartCount"] == 4
    });
    // 100 ms + 200 ms + 400 ms + 800 ms between the first start and the last.
    let finished = world.inspect(&name);
    let second = |text: &serde_json::Value| {
        let text = text.as_str().unwrap();
        let clock = text.split('T').nth(1).unwrap().trim_end_matches('Z');
        clock
            .split(':')
            .fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
    };
    let passed = (second(&finished["State"]["FinishedAt"]) - second(&finished["Created"])).rem_euclid(86_400.0);
    assert!(passed > 1.5 && passed < 12.0, "{passed}");
    assert_eq!(
        actions(world, &name).iter().filter(|action| *action == "start").count(),
        5
    );
}

fn a_waiting_container_counts_as_running(world: &World) {
    let name = failing(world, &[]);
    let state = world.inspect(&name)["State"].clone();
    assert_eq!(
        (&state["Running"], &state["Restarting"], &state["Pid"]),
        (&json!(true), &json!(true), &json!(0))
    );
    let post = |action: &str, body| world.server.post(&format!("/containers/{}/{action}", &*name), &body);
    let waits = || {
        let container = world.inspect(&name);
        // (Not the count: it goes up a moment before the start.)
        (container["State"]["Restarting"] == true).then(|| container["State"]["StartedAt"].clone())
    };
    // It may be started again between two looks; what is asked within one wait is refused.
    eventually("an exec is refused while it waits", 20, || {
        let before = waits();
        let exec = post("exec", json!({"Cmd": ["true"]}));
        let within = before.is_some() && before == waits();
        assert!(!within || exec.status == 409, "{}", exec.text());
        within
            && exec
                .message()
                .contains("is restarting, wait until the container is running")
    });
    assert!(matches!(post("start", json!(null)).status, 304 | 400));
    let refused = world
        .server
        .call("DELETE", &format!("/containers/{}", &*name), None)
        .expect(409);
    assert!(
        refused
            .message()
            .contains("stop the container before removing or force remove"),
        "{}",
        refused.message()
    );
    world.run(&["rm", "-f", &name]).ok();
}

fn a_waiting_container_can_be_stopped_and_killed(world: &World) {
    for command in [&["stop"][..], &["kill"], &["kill", "-s", "TERM"]] {
        let name = failing(world, &[]);
        world.run(&[command, &[&name]].concat()).ok();
        let count = world.inspect(&name)["RestartCount"].clone();
        std::thread::sleep(std::time::Duration::from_millis(1800));
        let state = world.inspect(&name);
        assert_eq!(
            (&state["State"]["Status"], &state["RestartCount"]),
            (&json!("exited"), &count),
            "{command:?}"
        );
    }
}

fn a_policy_can_be_changed_while_it_runs(world: &World) {
    let name = world.name("changed");
    world
        .run(&[
            "run",
            "-d",
            "--name",
            &name,
            "busybox",
            "sh",
            "-c",
            "while [ ! -e /end ]; do sleep 0.05; done; exit 1",
        ])
        .ok();
    world.run(&["update", "--restart", "on-failure:1", &name]).ok();
    let host = world.inspect(&name)["HostConfig"].clone();
    assert_eq!(
        host["RestartPolicy"],
        json!({"Name": "on-failure", "MaximumRetryCount": 1})
    );
    world.inside(&name, "touch /end");
    eventually("it was restarted once", 10, || {
        let container = world.inspect(&name);
        container["State"]["Status"] == "exited" && container["RestartCount"] == 1
    });
}

fn a_start_by_hand_counts_anew(world: &World) {
    let name = world.name("again");
    world
        .run(&[
            "run",
            "-d",
            "--name",
            &name,
            "--restart",
            "on-failure:1",
            "busybox",
            "sh",
            "-c",
            "exit 1",
        ])
        .ok();
    let spent = || {
        let container = world.inspect(&name);
        container["State"]["Status"] == "exited" && container["RestartCount"] == 1
    };
    eventually("its restarts are used up", 10, spent);
    let before = actions(world, &name).len();
    world.run(&["start", &name]).ok();
    eventually("and so they are again", 10, || {
        spent() && actions(world, &name).len() >= before + 4
    });
}
