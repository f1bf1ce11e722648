//! Wrong requests: each has its status and its message, and leaves nothing behind.
//!
//! The table speaks HTTP directly, since no well-behaved client sends most of these. Before and after every
//! request the daemon's objects and what the kernel holds for it are written down; both must be the same.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use harness::http::read_reply;
use harness::image::Image;
use harness::leaks::nft_elements;
use harness::{Test, tests};
use serde_json::{Value, json};

use crate::world::World;

use table::{Wrong, creates, others};

mod table;

/// What the daemon and the kernel hold; equal before and after a wrong request.
#[derive(Debug, PartialEq)]
struct Holdings {
    containers: Vec<String>,
    images: Vec<String>,
    volumes: Vec<String>,
    cgroups: Vec<String>,
    mounts: usize,
    ports: Vec<String>,
    folders: Vec<String>,
}

impl Holdings {
    /// What is here and not there, in a few words.
    fn beyond(&self, before: &Holdings) -> String {
        let mut words = Vec::new();
        let lists = [
            (&self.containers, &before.containers),
            (&self.images, &before.images),
            (&self.cgroups, &before.cgroups),
            (&self.ports, &before.ports),
            (&self.folders, &before.folders),
            (&self.volumes, &before.volumes),
        ];
        for (now, then) in lists {
            words.extend(
                now.iter()
                    .filter(|entry| !then.contains(entry))
                    .map(|entry| format!("+{entry}")),
            );
            words.extend(
                then.iter()
                    .filter(|entry| !now.contains(entry))
                    .map(|entry| format!("-{entry}")),
            );
        }
        if self.mounts != before.mounts {
            words.push(format!("{} mounts instead of {}", self.mounts, before.mounts));
        }
        words.join(" ")
    }
}

/// What there is, once what earlier tests threw away has been deleted: a list taken in the middle of that equals no later one.
fn settled(world: &World) -> Holdings {
    world.places.rest();
    holdings(world)
}

fn holdings(world: &World) -> Holdings {
    let list = |target: &str, key: &str| {
        // Not through the noisy call: these would drown the request that failed in the report.
        let reply = world
            .server
            .try_send("GET", target, &[], &[])
            .expect("a list")
            .expect(200)
            .json();
        let reply = if reply.is_array() {
            reply
        } else {
            reply["Volumes"].clone()
        };
        let empty = Vec::new();
        let mut ids: Vec<String> = reply
            .as_array()
            .unwrap_or(&empty)
            .iter()
            .map(|entry| format!("{} {}", entry[key], entry["State"]))
            .collect();
        ids.sort();
        ids
    };
    let places = &world.places;
    let mut folders = Vec::new();
    for part in ["containers", "snapshots", "layers", "trash", "volumes", "tmp"] {
        for entry in std::fs::read_dir(places.data.join("root").join(part))
            .into_iter()
            .flatten()
            .flatten()
        {
            folders.push(entry.path().display().to_string());
        }
    }
    folders.sort();
    let mut cgroups: Vec<String> = harness::kernel::cgroups_with(&places.cgroup[1..])
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    cgroups.sort();
    Holdings {
        containers: list("/containers/json?all=1", "Id"),
        images: list("/images/json?all=1", "Id"),
        volumes: list("/volumes", "Name"),
        cgroups,
        mounts: harness::kernel::own_mounts().len(),
        ports: nft_elements(&places.table),
        folders,
    }
}

pub fn tests() -> Vec<Test<World>> {
    tests![
        every_wrong_request_is_refused_and_leaves_nothing,
        half_sent_requests,
        who_is_refused_may_send_on,
        broken_http,
        wrong_starts_leave_nothing
    ]
}

fn check(world: &World, request: &Wrong, before: &mut Holdings) -> Result<(), String> {
    let kind = [("Content-Type", "application/json")];
    let send = |method, target: &str, body: &[u8]| {
        world
            .server
            .try_send(method, target, &kind, body)
            .map_err(|error| format!("no answer: {error}"))
    };
    let mut reply = send(request.method, &request.target, &request.body)?;
    let mut accepted = false;
    if request.late && reply.status == 201 {
        accepted = true;
        let id = reply.json()["Id"].as_str().unwrap_or_default().to_owned();
        reply = send("POST", &format!("/containers/{id}/start"), b"")?;
        send("DELETE", &format!("/containers/{id}?force=1&v=1"), b"")?;
    }
    let message = reply.message();
    let lower = message.to_lowercase();
    let said = |part: &String| part.split('|').any(|choice| lower.contains(choice.trim()));
    let mut wrong = Vec::new();
    if accepted && reply.status < 400 {
        wrong.push(format!("it was accepted and started ({})", reply.status));
    } else if !accepted && !request.status.contains(&reply.status) {
        wrong.push(format!("status {}, not {:?}", reply.status, request.status));
    }
    let is_error = reply.status >= 400;
    // Docker answers in plain text where the client asked for a raw stream, and to clients of the oldest versions.
    let in_text = request.target.contains("/attach") || request.target.starts_with("/v1.10/");
    if is_error && !in_text && reply.json_or_null()["message"].is_null() {
        wrong.push("the body is no JSON with a message".to_owned());
    }
    if is_error && message.trim().is_empty() {
        wrong.push("an empty message".to_owned());
    }
    if let Some(part) = request.message.iter().find(|part| !said(part)) {
        wrong.push(format!("{part:?} is not said"));
    }
    // What is undone in the background has a moment; a created container would still be there after it.
    let end = Instant::now() + Duration::from_millis(500);
    let mut after = holdings(world);
    while after != *before && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
        after = holdings(world);
    }
    if after != *before {
        wrong.push(format!("left behind: {}", after.beyond(before)));
        *before = after;
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(format!("{}: {} ({message})", request.what, wrong.join("; ")))
    }
}

fn every_wrong_request_is_refused_and_leaves_nothing(world: &World) {
    let (running, _) = world.sleeper(&[]);
    let stopped = world.name("stopped");
    world.run(&["create", "--name", &stopped, "busybox", "true"]).ok();
    // A port that nobody listens on.
    let unreachable = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let mut table = creates();
    table.extend(others(&running, &stopped, &unreachable));
    assert!(table.len() >= 60, "{} requests", table.len());
    let mut before = settled(world);
    let mut failures = Vec::new();
    for request in &table {
        if let Err(failure) = check(world, request, &mut before) {
            failures.push(failure);
        }
    }
    harness::process::take_transcript();
    assert!(
        failures.is_empty(),
        "{} of {} wrong requests:\n    {}",
        failures.len(),
        table.len(),
        failures.join("\n    ")
    );
    println!("        {} wrong requests refused, nothing left behind", table.len());
    assert!(world.process(&running).is_alive());
}

/// Clients that go away in the middle of a request, at every byte of it.
fn half_sent_requests(world: &World) {
    let before = settled(world);
    let body = json!({"Image": "busybox", "Cmd": ["true"]}).to_string();
    let whole = format!(
        "POST /containers/create?name=half-sent HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for cut in (1..whole.len()).step_by(3) {
        let mut connection = world.server.connect();
        use std::io::Write;
        connection.write_all(&whole.as_bytes()[..cut]).unwrap();
        drop(connection);
    }
    // A body that is said to be longer than it is, with the connection closed politely.
    let long = format!(
        "POST /containers/create HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{body}"
    );
    let answer = world.server.raw(long.as_bytes());
    assert!(
        answer.is_empty() || answer.contains(" 400 ") || answer.contains(" 408 "),
        "{answer}"
    );
    let archive = Image::busybox().docker_archive("half:1");
    let head = format!(
        "POST /images/load HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n",
        archive.len()
    );
    for part in [0, 600, archive.len() / 2, archive.len() - 1] {
        world.server.raw(&[head.as_bytes(), &archive[..part]].concat());
    }
    harness::tools::eventually("nothing is left of the halves", 10, || holdings(world) == before);
}

/// A client that is still sending hears the refusal, and its connection goes on; but not for ever.
fn who_is_refused_may_send_on(world: &World) {
    use std::io::Write;
    let server = &world.server;
    let head = |method: &str, target: &str, length: usize, more: &str| {
        format!(
            "{method} {target} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{more}\r\n"
        )
    };
    let refusals = [
        ("POST", "/networks/create", 501),
        ("POST", "/build", 501),
        ("POST", "/v9.99/containers/create", 400),
        ("POST", "/no/such/page", 404),
        ("POST", "/containers/no-such-one/update", 404),
        ("PUT", "/containers/no-such-one/archive?path=/", 404),
        ("PUT", "/containers/no-such-one/archive", 400),
    ];
    for (method, target, status) in refusals {
        let mut connection = server.connect();
        let body = vec![b'x'; 3 << 20];
        connection
            .write_all(head(method, target, body.len(), "").as_bytes())
            .unwrap();
        // The answer of most is there by now, with nothing of the body on its way.
        std::thread::sleep(Duration::from_millis(50));
        connection
            .write_all(&body)
            .unwrap_or_else(|error| panic!("{target}: {error}"));
        let mut reader = std::io::BufReader::new(connection);
        let reply = read_reply(&mut reader, false).unwrap_or_else(|error| panic!("{target}: {error}"));
        assert_eq!(reply.status, status, "{target}: {}", reply.text());
        reader
            .get_mut()
            .write_all(b"GET /_ping HTTP/1.1\r\nHost: test\r\n\r\n")
            .unwrap();
        let next = read_reply(&mut reader, false).unwrap_or_else(|error| panic!("after {target}: {error}"));
        assert_eq!((next.status, next.text().as_str()), (200, "OK"), "after {target}");
    }
    // Who asks before sending is not asked for it.
    let asking = head("POST", "/networks/create", 3 << 20, "Expect: 100-continue\r\n");
    let answer = server.raw(asking.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 501 "), "{answer}");
    // Nobody sends gigabytes into nothing.
    let mut connection = server.connect();
    connection
        .write_all(head("POST", "/networks/create", 1 << 30, "").as_bytes())
        .unwrap();
    let piece = vec![0; 1 << 20];
    let sent = (0..1024).take_while(|_| connection.write_all(&piece).is_ok()).count();
    assert!((64..100).contains(&sent), "{sent} MiB were taken");
}

/// What is hardly HTTP. The daemon answers or hangs up, and goes on.
fn broken_http(world: &World) {
    let long_header = format!(
        "GET /_ping HTTP/1.1\r\nHost: test\r\nX-Long: {}\r\n\r\n",
        "x".repeat(2_000_000)
    );
    let many = format!(
        "GET /_ping HTTP/1.1\r\nHost: test\r\n{}\r\n",
        "X-Many: 1\r\n".repeat(5000)
    );
    let cases: Vec<Vec<u8>> = vec![
        b"\r\n\r\n".to_vec(),
        b"NONSENSE\r\n\r\n".to_vec(),
        b"GET /_ping HTTP/9.9\r\n\r\n".to_vec(),
        b"GET  HTTP/1.1\r\nHost: test\r\n\r\n".to_vec(),
        b"POST /containers/create HTTP/1.1\r\nHost: test\r\nContent-Length: -1\r\n\r\n{}".to_vec(),
        b"POST /containers/create HTTP/1.1\r\nHost: test\r\nContent-Length: 99999999999999999999\r\n\r\n{}".to_vec(),
        b"POST /containers/create HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n".to_vec(),
        b"GET /containers/%zz/json HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".to_vec(),
        b"GET /containers/%00/json HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".to_vec(),
        b"GET /containers/..%2f..%2fetc/json HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".to_vec(),
        vec![0xff; 4096],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        long_header.into_bytes(),
        many.into_bytes(),
    ];
    for case in cases {
        let answer = world.server.raw(&case);
        let fine = answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.0 4");
        let fine = fine
            || answer.starts_with("HTTP/1.1 505")
            || answer.starts_with("HTTP/1.0 505")
            || answer.starts_with("HTTP/1.1 301");
        assert!(
            fine,
            "{:?} was answered with {answer}",
            String::from_utf8_lossy(&case[..case.len().min(60)])
        );
        world.server.get("/_ping").expect(200);
    }
}

/// Starts that cannot work: the container stays as it was, and can be removed.
fn wrong_starts_leave_nothing(world: &World) {
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let cases = [
        (
            "a program that is not there",
            json!({"Image": "busybox", "Cmd": ["no-such-program"]}),
            "executable file not found",
        ),
        (
            "a program that is no program",
            json!({"Image": "busybox", "Cmd": ["/etc/passwd"]}),
            "permission denied",
        ),
        (
            "a folder as program",
            json!({"Image": "busybox", "Cmd": ["/etc"]}),
            "denied|directory",
        ),
        (
            "an unknown user",
            json!({"Image": "busybox", "Cmd": ["true"], "User": "nobody-here"}),
            "unable to find user nobody-here",
        ),
        (
            "an unknown group",
            json!({"Image": "busybox", "Cmd": ["true"], "User": "root:no-group"}),
            "unable to find group no-group",
        ),
        (
            "a port in use",
            json!({"Image": "busybox", "Cmd": ["true"], "ExposedPorts": {"80/tcp": {}}, "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": port}]}}}),
            "already in use|allocated",
        ),
        (
            "a network of a stopped container",
            json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "container:STOPPED"}}),
            "not running|non running",
        ),
        (
            "a pid namespace of a stopped container",
            json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"PidMode": "container:STOPPED"}}),
            "not running|non running",
        ),
    ];
    let stopped = world.name("stopped");
    world.run(&["create", "--name", &stopped, "busybox", "true"]).ok();
    let mut failures = Vec::new();
    for (what, body, words) in cases {
        let before = settled(world);
        let body: Value = serde_json::from_str(&body.to_string().replace("STOPPED", &stopped)).unwrap();
        let created = world.server.post("/containers/create", &body);
        if created.status != 201 {
            failures.push(format!("{what}: create says {} {}", created.status, created.message()));
            continue;
        }
        let id = created.json()["Id"].as_str().unwrap().to_owned();
        let reply = world.server.call("POST", &format!("/containers/{id}/start"), None);
        let message = reply.message().to_lowercase();
        if reply.status < 400 || !words.split('|').any(|word| message.contains(word)) {
            failures.push(format!("{what}: {} {}", reply.status, reply.message()));
        }
        let state = world.inspect(&id)["State"].clone();
        if state["Running"] != false || state["Pid"] != 0 {
            failures.push(format!("{what}: {state}"));
        }
        world
            .server
            .call("DELETE", &format!("/containers/{id}?v=1"), None)
            .expect(204);
        let end = Instant::now() + Duration::from_secs(5);
        while holdings(world) != before && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        let after = holdings(world);
        if after != before {
            failures.push(format!("{what}: left {}", after.beyond(&before)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n    "));
}
