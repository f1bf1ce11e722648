//! Requests by chance, made by schemathesis from the definition that the daemon serves.
//!
//! Two short rounds with fixed seeds in `make test`; `tests/fuzz/api` does it for longer. What is left out, and why, is said in
//! `tests/fuzz/common.toml`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::daemon::{Daemon, Options};
use harness::image::Image;
use harness::process::{Run, note};
use harness::suite::skip;
use harness::tools::{Folder, free_port};
use harness::{Test, tests};
use serde_json::json;

pub struct Nothing;

pub fn tests() -> Vec<Test<Nothing>> {
    tests![generated_requests_find_no_fault]
}

/// What one call of schemathesis may take, when there are minutes and when there are none; the seed of each is one more than
/// that of the last.
const ROUND: Duration = Duration::from_secs(50);
const SHORT_ROUND: Duration = Duration::from_secs(20);
/// What the daemon may have more after most of the rounds than before, in KiB; a round is some 4,000 requests.
const GROWTH: i64 = 256;
/// And what it may have at all, in KiB.
const MOST: u64 = 96 << 10;

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

/// The container that the requests of a round find, in whatever state the last ones left it.
fn furnish(daemon: &Daemon) {
    let server = &daemon.server;
    // A round may have taken it away.
    daemon.load(&Image::busybox(), "busybox:latest");
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
    let (minutes, mut seed) = (number("IECHOR_FUZZ_MINUTES", 0), number("IECHOR_FUZZ_SEED", 20_261_125));
    let round = if minutes == 0 { SHORT_ROUND } else { ROUND }.as_secs();
    let address = format!("127.0.0.1:{}", free_port());
    let arguments = ["--host", &format!("tcp://{address}"), "--allow-insecure-tcp"];
    let daemon = Daemon::start(Options {
        arguments: arguments.map(str::to_owned).into(),
        ..Options::default()
    });
    let folder = Folder::new("fuzz");
    let hooks = format!("{settings}/hooks.py");
    let begun = Instant::now();
    let (mut sizes, mut findings) = (Vec::new(), Vec::new());
    while begun.elapsed() < Duration::from_secs(minutes * 60) || sizes.len() < 2 {
        furnish(&daemon);
        // By turns names by chance, which reach what refuses, and the name of something that is there.
        let names = if sizes.len() % 2 == 0 {
            "random.toml"
        } else {
            "named.toml"
        };
        let text = |file: &str| std::fs::read_to_string(format!("{settings}/{file}")).unwrap();
        let config = folder.at("schemathesis.toml");
        std::fs::write(&config, text("common.toml") + &text(names)).unwrap();
        // In a folder of its own, with whatever it leaves there.
        let run = Run::new(
            "env".as_ref(),
            &[
                "-C",
                folder.path().to_str().unwrap(),
                tool.to_str().unwrap(),
                "--config-file",
                &config,
                "run",
                &format!("http://{address}/openapi.json"),
                "--seed",
                &seed.to_string(),
                "--max-time",
                &round.to_string(),
            ],
        );
        let run = run.env("SCHEMATHESIS_HOOKS", &hooks);
        let output = run.seconds(round + 120).output();
        if output.code != 0 {
            findings.push(format!("seed {seed}, {names}:\n{}\n{}", output.out, output.err));
        }
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
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    println!("  RssAnon after each round, KiB: {sizes:?}");
    // What leaks does so in every round; what is kept for use again (8 MiB at a time have been seen) comes in a few steps.
    let mut steps: Vec<i64> = sizes.windows(2).map(|pair| pair[1] as i64 - pair[0] as i64).collect();
    steps.sort_unstable();
    assert!(
        steps.len() < 6 || steps[steps.len() / 2] <= GROWTH,
        "the daemon grows: {sizes:?}"
    );
    assert!(sizes.iter().all(|size| *size < MOST), "the daemon is large: {sizes:?}");
    daemon.finish();
}
