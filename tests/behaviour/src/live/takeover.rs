//! Connections taken over by exec and attach, byte by byte: clients differ in how they read the head of the answer.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use harness::http::frames;
use harness::tools::eventually;
use harness::{Test, tests};
use serde_json::{Value, json};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        output_never_comes_with_the_head,
        an_exec_that_cannot_start_is_told_in_the_stream,
        an_exec_that_may_not_start_has_a_status,
        an_exec_is_there_with_its_stream,
        an_exec_runs_without_an_upgrade,
        an_exec_of_a_client_that_left_runs,
        attach_to_the_past_upgrades_and_ends,
        attach_to_nothing_upgrades_and_ends,
    ]
}

/// Less than the daemon waits for a client that does not read, and more than an exec takes.
const NOT_READING: Duration = Duration::from_millis(200);
/// A client that was held up for longer has seen nothing.
const TIMELY: Duration = Duration::from_millis(600);

fn exec(world: &World, container: &str, request: Value) -> String {
    let target = format!("/containers/{container}/exec");
    let made = world.server.post(&target, &request).expect(201).json();
    made["Id"].as_str().unwrap().to_owned()
}

fn echo(world: &World, container: &str, argv: &[&str]) -> String {
    exec(
        world,
        container,
        json!({"Cmd": argv, "AttachStdout": true, "AttachStderr": true}),
    )
}

fn upgrade(target: &str, body: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends `request`, reads nothing for a while, and gives what the first read has and what comes after it.
fn read_late(world: &World, request: impl Fn() -> String) -> (String, Vec<u8>) {
    for _ in 0..20 {
        let request = request();
        let mut connection = world.server.connect();
        let begin = Instant::now();
        connection.write_all(request.as_bytes()).unwrap();
        std::thread::sleep(NOT_READING);
        let mut buffer = vec![0; 64 * 1024];
        let count = connection.read(&mut buffer).unwrap();
        let took = begin.elapsed();
        let mut rest = Vec::new();
        connection.read_to_end(&mut rest).unwrap();
        if took < TIMELY {
            return (String::from_utf8_lossy(&buffer[..count]).into_owned(), rest);
        }
    }
    panic!("the machine held up twenty clients for more than {TIMELY:?}");
}

fn assert_head(text: &str) {
    assert!(text.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{text}");
    assert_eq!(
        text.find("\r\n\r\n"),
        Some(text.len() - 4),
        "more than the head: {text:?}"
    );
}

fn output_never_comes_with_the_head(world: &World) {
    let (name, _) = world.sleeper(&[]);
    let (head, rest) = read_late(world, || {
        let id = echo(world, &name, &["echo", "quick"]);
        upgrade(&format!("/exec/{id}/start"), "{}")
    });
    assert_head(&head);
    assert_eq!(frames(&rest), [(1, b"quick\n".to_vec())]);

    let logs = world.name("logs");
    world
        .run(&["run", "-d", "--name", &logs, "busybox", "echo", "early"])
        .ok();
    world.run(&["wait", &logs]).ok();
    let target = format!("/containers/{}/attach?logs=1&stdout=1", &*logs);
    let (head, rest) = read_late(world, || upgrade(&target, ""));
    assert_head(&head);
    assert_eq!(frames(&rest), [(1, b"early\n".to_vec())]);
}

fn an_exec_that_cannot_start_is_told_in_the_stream(world: &World) {
    let (name, process) = world.sleeper(&[]);
    let cases = [
        (
            json!({"Cmd": ["no-such-program"], "AttachStdout": true}),
            "executable file not found in $PATH",
            127,
        ),
        (
            json!({"Cmd": ["/etc/passwd"], "AttachStdout": true}),
            "permission denied",
            126,
        ),
        (
            json!({"Cmd": ["true"], "User": "nobody-here", "AttachStdout": true}),
            "unable to find user nobody-here",
            126,
        ),
    ];
    for (request, words, code) in cases {
        let tty = json!({"Tty": true, "AttachStdin": true});
        for more in [json!({}), tty] {
            let mut request = request.clone();
            let plain = more.as_object().unwrap().is_empty();
            request
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            let id = exec(world, &name, request);
            let mut told = Vec::new();
            world
                .server
                .hijack(&format!("/exec/{id}/start"), &json!({}))
                .read_to_end(&mut told)
                .unwrap();
            if plain {
                let told = frames(&told);
                assert_eq!(told.len(), 1, "{told:?}");
                assert_eq!(told[0].0, 1, "where dockerd writes it");
                assert!(String::from_utf8_lossy(&told[0].1).contains(words), "{told:?}");
            } else {
                assert!(String::from_utf8_lossy(&told).contains(words), "{told:?}");
            }
            let shown = world.server.get(&format!("/exec/{id}/json")).expect(200).json();
            assert_eq!((&shown["Running"], &shown["ExitCode"]), (&json!(false), &json!(code)));
        }
    }
    // Who asked for no stream has a status.
    let id = echo(world, &name, &["no-such-program"]);
    let reply = world
        .server
        .post(&format!("/exec/{id}/start"), &json!({"Detach": true}));
    assert!(reply.status >= 400, "{}", reply.status);
    assert!(process.is_alive());
}

fn an_exec_that_may_not_start_has_a_status(world: &World) {
    let (name, _) = world.sleeper(&[]);
    let start = |id: &str| {
        let head = [
            ("Connection", "Upgrade"),
            ("Upgrade", "tcp"),
            ("Content-Type", "application/json"),
        ];
        world.server.send("POST", &format!("/exec/{id}/start"), &head, b"{}")
    };
    let reply = start("0123456789abcdef").expect(404);
    assert!(reply.message().contains("No such exec instance"), "{}", reply.message());

    let id = echo(world, &name, &["true"]);
    world.run(&["pause", &name]).ok();
    let reply = start(&id).expect(409);
    assert!(reply.message().contains("is paused"), "{}", reply.message());
    world.run(&["unpause", &name]).ok();

    // It was not used up by that.
    world
        .server
        .hijack(&format!("/exec/{id}/start"), &json!({}))
        .read_to_end(&mut Vec::new())
        .unwrap();
    let reply = start(&id).expect(409);
    assert!(reply.message().contains("has already run"), "{}", reply.message());

    let id = echo(world, &name, &["sleep", "1000"]);
    let running = world.server.hijack(&format!("/exec/{id}/start"), &json!({}));
    eventually("the exec runs", 20, || {
        world.server.get(&format!("/exec/{id}/json")).json()["Running"] == true
    });
    let reply = start(&id).expect(409);
    assert!(reply.message().contains("is already running"), "{}", reply.message());
    drop(running);

    let id = echo(world, &name, &["true"]);
    world.run(&["kill", &name]).ok();
    world.run(&["wait", &name]).ok();
    let reply = start(&id);
    assert!(matches!(reply.status, 404 | 409), "{}", reply.status);
}

fn an_exec_is_there_with_its_stream(world: &World) {
    let (name, _) = world.sleeper(&[]);
    for _ in 0..10 {
        let request = json!({"Cmd": ["sh", "-c", "read line; stty size"], "Tty": true, "AttachStdin": true, "AttachStdout": true});
        let id = exec(world, &name, request);
        let mut stream = world.server.hijack(&format!("/exec/{id}/start"), &json!({"Tty": true}));
        let shown = world.server.get(&format!("/exec/{id}/json")).expect(200).json();
        assert_eq!(shown["Running"], true);
        let resize = format!("/exec/{id}/resize?h=33&w=99");
        world.server.send("POST", &resize, &[], b"").expect(200);
        stream.get_mut().write_all(b"go\n").unwrap();
        let mut seen = Vec::new();
        stream.read_to_end(&mut seen).unwrap();
        let seen = String::from_utf8_lossy(&seen).into_owned();
        assert!(seen.contains("33 99"), "{seen:?}");
    }
}

fn an_exec_runs_without_an_upgrade(world: &World) {
    let (name, _) = world.sleeper(&[]);
    let id = echo(world, &name, &["echo", "plain"]);
    let reply = world.server.post(&format!("/exec/{id}/start"), &json!({})).expect(200);
    assert_eq!(frames(&reply.body), [(1, b"plain\n".to_vec())]);
    let id = echo(world, &name, &["no-such-program"]);
    let reply = world.server.post(&format!("/exec/{id}/start"), &json!({})).expect(200);
    assert!(reply.text().contains("executable file not found"), "{}", reply.text());
}

fn an_exec_of_a_client_that_left_runs(world: &World) {
    let (name, _) = world.sleeper(&[]);
    let id = echo(world, &name, &["touch", "/came"]);
    let mut connection = world.server.connect();
    let request = upgrade(&format!("/exec/{id}/start"), "{}");
    connection.write_all(request.as_bytes()).unwrap();
    let mut head = [0; 12];
    connection.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    drop(connection);
    eventually("the exec has run", 30, || {
        world.server.get(&format!("/exec/{id}/json")).json()["ExitCode"] == 0
    });
    assert_eq!(world.inside(&name, "ls /came"), "/came");
}

fn attach_to_the_past_upgrades_and_ends(world: &World) {
    let name = world.name("past");
    let line = "echo out; echo err >&2; sleep 1000";
    world
        .run(&["run", "-d", "--name", &name, "busybox", "sh", "-c", line])
        .ok();
    eventually("both lines are there", 20, || {
        let logs = world.run(&["logs", &name]);
        logs.out.contains("out") && logs.err.contains("err")
    });
    let target = format!("/containers/{}/attach?logs=1&stream=0&stdout=1&stderr=1", &*name);
    let mut all = Vec::new();
    let begin = Instant::now();
    // The writing side stays open: it is the daemon that ends this.
    world
        .server
        .hijack(&target, &Value::Null)
        .read_to_end(&mut all)
        .unwrap();
    assert!(begin.elapsed() < Duration::from_secs(25), "{:?}", begin.elapsed());
    let mut told = frames(&all);
    told.sort();
    assert_eq!(told, [(1, b"out\n".to_vec()), (2, b"err\n".to_vec())]);
    // Without an upgrade it is an ordinary answer.
    let reply = world.server.send("POST", &target, &[], b"").expect(200);
    assert_eq!(reply.body.len(), all.len());
    assert_eq!(world.inspect(&name)["State"]["Running"], true);
}

fn attach_to_nothing_upgrades_and_ends(world: &World) {
    let (name, process) = world.sleeper(&["-t"]);
    let mut all = Vec::new();
    world
        .server
        .hijack(&format!("/containers/{}/attach?stdout=1", &*name), &Value::Null)
        .read_to_end(&mut all)
        .unwrap();
    assert!(all.is_empty(), "{all:?}");
    assert!(process.is_alive());
}
