//! Requests by chance, made by schemathesis from the definition that the daemon serves.
//!
//! A minute with a fixed seed in `make test`; `tests/fuzz/api` does it for longer. Left out: what goes to registries (the
//! test machine's traffic stays on it).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::daemon::{Daemon, Options};
use harness::image::Image;
use harness::process::{Run, note};
use harness::suite::skip;
use harness::{Test, tests};
use serde_json::json;

pub struct Nothing;

pub fn tests() -> Vec<Test<Nothing>> {
    tests![generated_requests_find_no_fault]
}

/// What one call of schemathesis may take; the seed of each is one more than that of the last.
const ROUND: Duration = Duration::from_secs(50);
/// What the daemon may have more at the end than after the first rounds, in KiB: caches of the allocator come and go.
const GROWTH: u64 = 4096;

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn tool() -> PathBuf {
    let tools = match std::env::var_os("IECHOR_TEST_TOOLS") {
        Some(folder) => PathBuf::from(folder),
        None => harness::tools::binaries().parent().unwrap().join("test-tools"),
    };
    let tool = tools.join("fuzz/bin/schemathesis");
    if !tool.exists() {
        skip("schemathesis is not here: `tests/setup fuzz` gets it, where PyPI can be reached");
    }
    tool
}

/// Private memory of the process, in KiB: what it has for itself, without files that are mapped.
fn private(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// The container that the requests of a round find, in whatever state the last ones left it.
fn furnish(daemon: &Daemon) {
    let server = &daemon.server;
    let body = json!({ "Image": "busybox", "Cmd": ["sleep", "100000"], "HostConfig": { "Init": true } });
    server.post("/containers/create?name=fuzzed", &body);
    server.post("/containers/fuzzed/start", &json!(null));
    server.post("/volumes/create", &json!({ "Name": "fuzzed" }));
    server.post("/images/busybox/tag?repo=fuzzed", &json!(null));
}

/// Everything that requests may have made, so that rounds can be compared.
fn clear(daemon: &Daemon) {
    let server = &daemon.server;
    for container in server
        .get("/containers/json?all=1")
        .expect(200)
        .json()
        .as_array()
        .unwrap()
    {
        let id = container["Id"].as_str().unwrap();
        server
            .call("DELETE", &format!("/containers/{id}?force=1&v=1"), None)
            .expect(204);
    }
    server
        .post(
            "/volumes/prune?filters=%7B%22all%22%3A%5B%22true%22%5D%7D",
            &json!(null),
        )
        .expect(200);
    for image in server.get("/images/json").expect(200).json().as_array().unwrap() {
        for name in image["RepoTags"].as_array().unwrap() {
            let name = name.as_str().unwrap();
            if name != "busybox:latest" {
                server
                    .call("DELETE", &format!("/images/{name}?force=1"), None)
                    .expect(200);
            }
        }
    }
}

fn generated_requests_find_no_fault(_: &Nothing) {
    let tool = tool();
    let settings = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz");
    let (minutes, mut seed) = (number("IECHOR_FUZZ_MINUTES", 1), number("IECHOR_FUZZ_SEED", 20_261_125));
    let address = format!("127.0.0.1:{}", free_port());
    let arguments = ["--host", &format!("tcp://{address}"), "--allow-insecure-tcp"];
    let daemon = Daemon::start(Options {
        arguments: arguments.map(str::to_owned).into(),
        ..Options::default()
    });
    daemon.load(&Image::busybox(), "busybox:latest");
    let begun = Instant::now();
    let mut sizes = Vec::new();
    while begun.elapsed() < Duration::from_secs(minutes * 60) || sizes.is_empty() {
        furnish(&daemon);
        // By turns names by chance, which reach what refuses, and the name of something that is there.
        let config = if sizes.len() % 2 == 0 {
            "random.toml"
        } else {
            "named.toml"
        };
        let run = Run::new(
            &tool,
            &[
                "--config-file",
                &format!("{settings}/{config}"),
                "run",
                &format!("http://{address}/openapi.json"),
                "--seed",
                &seed.to_string(),
                "--max-time",
                &ROUND.as_secs().to_string(),
            ],
        );
        let output = run.seconds(ROUND.as_secs() + 120).output();
        output.ok();
        assert_eq!(daemon.server.get("/_ping").expect(200).text(), "OK");
        clear(&daemon);
        std::thread::sleep(Duration::from_secs(1));
        sizes.push(private(daemon.pid()));
        note(format!(
            "round with seed {seed}: RssAnon {} KiB",
            sizes[sizes.len() - 1]
        ));
        seed += 1;
    }
    // The first rounds fill what is kept for use again.
    let warm = sizes[..sizes.len().div_ceil(4)].iter().max().unwrap();
    let last = sizes[sizes.len() - sizes.len().div_ceil(4)..].iter().min().unwrap();
    println!("  RssAnon after each round, KiB: {sizes:?}");
    assert!(*last <= warm + GROWTH, "the daemon grows: {sizes:?}");
    daemon.finish();
}
