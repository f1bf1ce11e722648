//! Logs as JSON: which clients get records, and what is in them.

use std::io::{BufRead, BufReader};

use harness::http::Reply;
use harness::{Test, tests};
use serde_json::{Value, json};

use crate::world::World;

pub fn everyday() -> Vec<Test<World>> {
    tests![
        log_lines_come_as_records,
        records_are_for_who_asks_for_them,
        records_follow_to_the_end,
    ]
}

fn records(reply: &Reply) -> Vec<Value> {
    let lines = reply.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn log_lines_come_as_records(world: &World) {
    for driver in ["local", "json-file"] {
        let name = world.name("records");
        let options = [
            "--log-driver",
            driver,
            "--log-opt",
            "labels=colour",
            "-l",
            "colour=deep blue",
        ];
        // A byte that is no UTF-8, and an end without a newline.
        let line = "echo a; sleep 0.1; printf 'b<\\377>\\n' >&2; sleep 0.1; printf c";
        let run = [&["run", "--name", &name], &options[..], &["busybox", "sh", "-c", line]].concat();
        world.run(&run).ok();
        let target = format!("/v1.54/containers/{}/logs?format=json", &*name);
        let reply = world.server.get(&format!("{target}&stdout=1&stderr=1")).expect(200);
        assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
        let found = records(&reply);
        let texts: Vec<_> = found.iter().map(|one| (&one["Source"], &one["Line"])).collect();
        assert_eq!(
            json!(texts),
            json!([["stdout", "a\n"], ["stderr", "b<\u{fffd}>\n"], ["stdout", "c"]]),
            "{driver}"
        );
        // The times are those of `docker logs -t`, which has them in another form.
        let stamped = world.run(&["logs", "-t", &name]).ok();
        let (first, _) = stamped.split_once(' ').unwrap();
        let time = found[0]["Timestamp"].as_str().unwrap();
        assert_eq!(
            time.trim_end_matches('Z'),
            first.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.')
        );
        assert!(found[0].get("Attrs").is_none());
        let detailed = world
            .server
            .get(&format!("{target}&stderr=1&details=1&tail=2"))
            .expect(200);
        let detailed = records(&detailed);
        assert_eq!(detailed[0]["Attrs"], json!([{ "Key": "colour", "Value": "deep blue" }]));
        assert_eq!(detailed.len(), 1, "{detailed:?}");
    }
}

fn records_are_for_who_asks_for_them(world: &World) {
    let name = world.name("asking");
    world.run(&["run", "--name", &name, "busybox", "echo", "a"]).ok();
    let ask = |version: &str, query: &str, accept: &str| {
        let target = format!("/{version}/containers/{}/logs?stdout=1{query}", &*name);
        let headers = [("Accept", accept)];
        let headers = if accept.is_empty() { &[][..] } else { &headers[..] };
        world.server.send("GET", &target, headers, &[])
    };
    let framed = "application/vnd.docker.multiplexed-stream";
    let ndjson = "application/x-ndjson";
    let sequence = "application/json-seq";
    for (version, query, accept, expected) in [
        ("v1.54", "", "", framed),
        ("v1.54", "", "*/*", framed),
        ("v1.54", "", ndjson, ndjson),
        ("v1.55", "", sequence, sequence),
        ("v1.54", "&format=json", "*/*", "application/jsonl"),
        ("v1.54", "&format=json", "text/html", ndjson),
        // Not known there, and so ignored.
        ("v1.53", "&format=json", ndjson, framed),
        ("v1.53", "&format=yaml", "", framed),
    ] {
        let reply = ask(version, query, accept).expect(200);
        assert_eq!(
            reply.header("content-type"),
            Some(expected),
            "{version} {query} {accept}"
        );
        match expected {
            _ if expected == framed => assert_eq!(harness::http::frames(&reply.body), [(1, b"a\n".to_vec())]),
            _ if expected == sequence => assert!(reply.body.starts_with(b"\x1e{\"Line\":\"a\\n\""), "{}", reply.text()),
            _ => assert_eq!(records(&reply)[0]["Line"], "a\n"),
        }
    }
    let refused = ask("v1.54", "&format=yaml", "").expect(400).message();
    assert!(refused.contains("unsupported log format"), "{refused}");
}

fn records_follow_to_the_end(world: &World) {
    let name = world.name("following");
    let line = "echo first; read word; echo $word";
    world
        .run(&["run", "-di", "--name", &name, "busybox", "sh", "-c", line])
        .ok();
    let target = format!("/v1.55/containers/{}/logs?stdout=1&follow=1", &*name);
    let mut stream = world.server.connect();
    let request = format!("GET {target} HTTP/1.0\r\nHost: x\r\nAccept: application/jsonl\r\n\r\n");
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(|line| line.unwrap());
    let mut record = || {
        let line = lines.by_ref().find(|line| line.starts_with('{'))?;
        Some(serde_json::from_str::<Value>(&line).unwrap()["Line"].clone())
    };
    assert_eq!(record(), Some(json!("first\n")));
    // The second line is only written now that the first one was read.
    world
        .run(&["exec", &name, "sh", "-c", "echo second > /proc/1/fd/1"])
        .ok();
    assert_eq!(record(), Some(json!("second\n")));
    world.run(&["kill", &name]).ok();
    assert_eq!(record(), None);
}
