//! A disk without room under what changes things that are there: `update`, `rename`, `tag`, `prune`, a log that is rotated. Each
//! happens or is refused by name, and what is told is so: in the kernel, for this daemon and for the next one.

use std::fs::File;

use harness::tools::{Folder, eventually};
use harness::{Test, tests};
use serde_json::{Value, json};

use crate::enospc::{Nothing, Small};

pub fn tests() -> Vec<Test<Nothing>> {
    tests![
        changes_happen_or_are_refused,
        a_log_is_rotated_on_a_full_disk,
        a_log_whose_next_file_cannot_be_made_is_whole,
    ]
}

/// So large that its record is more than what a full database has room for.
const LABEL: usize = 1_000_000;
/// Containers whose records take the database's room.
const FILLERS: usize = 20;

/// What a client can see of the container and what the kernel has of it.
fn seen(small: &Small, name: &str) -> Value {
    let shown = small.daemon.inspect(name);
    let pids = small.daemon.process(name).control("pids", &["pids.max"]);
    let elements = small.daemon.places.left_of_containers();
    let ports = elements.iter().filter(|line| line.starts_with("nft element")).count();
    json!([
        shown["Id"],
        shown["Name"],
        shown["HostConfig"],
        shown["Config"]["Env"],
        shown["NetworkSettings"]["Ports"],
        pids,
        ports,
    ])
}

/// Takes the room on the disk, and then in the database: the fillers' environments grow until they may not.
fn fill(small: &Small) -> impl Drop + use<> {
    let ballast = small.fill();
    let refused = (0..50 * FILLERS).any(|number| {
        let target = format!("/containers/filler{}/update", number % FILLERS);
        let value = format!("FILL{number}={}", "x".repeat(100_000));
        let reply = small
            .daemon
            .server
            .post(&target, &json!({"Change": {"EnvAdd": [value]}}));
        if reply.status == 200 {
            return false;
        }
        let told = reply.message().to_lowercase();
        assert!(told.contains("no space left on device"), "{told}");
        true
    });
    assert!(refused, "the database of a full disk took everything");
    ballast
}

fn changes_happen_or_are_refused(_: &Nothing) {
    let small = Small::ext4(64);
    let server = &small.daemon.server;
    let body = json!({
        "Image": "busybox", "Cmd": ["sleep", "1000"], "Labels": {"large": "x".repeat(LABEL)},
    });
    server.post("/containers/create?name=changed", &body).expect(201);
    server.call("POST", "/containers/changed/start", None).expect(204);
    let fillers: Vec<String> = (0..FILLERS).map(|number| format!("filler{number}")).collect();
    for name in &fillers {
        let idle = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}});
        server
            .post(&format!("/containers/create?name={name}"), &idle)
            .expect(201);
    }
    let id = small.daemon.inspect("changed")["Id"].as_str().unwrap().to_owned();
    let update = format!("/containers/{id}/update");
    let port = json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]});
    let verbs: [(&str, String, Value); 6] = [
        ("update of a limit", update.clone(), json!({"PidsLimit": 77})),
        (
            "update of ports",
            update.clone(),
            json!({"Change": {"PublishAdd": port}}),
        ),
        (
            "update of the environment",
            update,
            json!({"Change": {"EnvAdd": ["WORD=said"]}}),
        ),
        ("rename", format!("/containers/{id}/rename?name=renamed"), Value::Null),
        (
            "tag",
            "/images/busybox:latest/tag?repo=tagged&tag=1".to_owned(),
            Value::Null,
        ),
        ("volume create", "/volumes/create".to_owned(), json!({"Name": "made"})),
    ];
    let ballast = fill(&small);
    let mut refused = Vec::new();
    for (verb, target, body) in &verbs {
        let before = seen(&small, &id);
        let reply = server.post(target, body);
        if reply.status < 300 {
            continue;
        }
        let told = reply.message();
        assert_eq!(reply.status, 500, "{verb}: {told}");
        assert!(
            told.to_lowercase().contains("no space left on device"),
            "{verb}: {told}"
        );
        assert_eq!(seen(&small, &id), before, "{verb} was refused");
        refused.push(*verb);
    }
    assert!(refused.contains(&"rename"), "the database had room: {refused:?}");
    assert_eq!(server.get("/containers/renamed/json").status, 404);
    let made = server.get("/volumes/made").status;
    assert_eq!(made == 404, refused.contains(&"volume create"), "{made}");
    // What takes things away needs no room.
    let pruned = server.call("POST", "/containers/prune", None).expect(200).json();
    assert_eq!(
        pruned["ContainersDeleted"].as_array().map(Vec::len),
        Some(FILLERS),
        "{pruned}"
    );
    // The next daemon finds what this one has told.
    let told = seen(&small, &id);
    let tagged = server.get("/images/tagged:1/json").status;
    small.daemon.kill9();
    small.daemon.launch();
    assert_eq!(seen(&small, &id), told);
    assert_eq!(server.get("/images/tagged:1/json").status, tagged);
    assert_eq!(server.get("/containers/filler0/json").status, 404);
    assert!(small.daemon.process(&id).is_alive());
    drop(ballast);
    small.is_whole("changes on a full disk");
    for (verb, target, body) in &verbs {
        if refused.contains(verb) {
            let reply = server.post(target, body);
            assert!(reply.status < 300, "{verb} with room: {}", reply.text());
        }
    }
    server
        .call("POST", &format!("/containers/{id}/restart?t=0"), None)
        .expect(204);
    let shown = small.daemon.inspect("renamed");
    assert_eq!(
        (&shown["Id"], &shown["HostConfig"]["PidsLimit"]),
        (&json!(id), &json!(77))
    );
    assert_eq!(small.daemon.process(&id).control("pids", &["pids.max"]), "77");
    assert_eq!(small.run(&["exec", "renamed", "sh", "-c", "echo $WORD"]), "said");
    assert!(small.run(&["port", "renamed"]).starts_with("80/tcp -> 127.0.0.1:"));
    small.run(&["volume", "rm", "made"]);
    small.run(&["rmi", "tagged:1"]);
    small.finish();
}

/// The numbers of the lines in a container's log: whole lines, in order, each once; some may be missing.
fn numbers(small: &Small, name: &str) -> Vec<usize> {
    let text = small.run(&["logs", name]);
    let end = format!(" {:060}", 0);
    let numbers: Vec<usize> = text
        .lines()
        .map(|line| {
            let word = line.strip_prefix("line ").and_then(|rest| rest.strip_suffix(&end));
            let number = word.and_then(|word| word.parse().ok());
            number.unwrap_or_else(|| panic!("{name}: a torn line: {line:?}"))
        })
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{name}: {numbers:?}");
    numbers
}

fn speaker(small: &Small, driver: &str, folder: &Folder) {
    // Says a hundred lines for each file that it finds.
    let script = format!(
        "i=0; n=0; while :; do until [ -e /control/{driver}$n ]; do sleep 0.02; done; n=$((n+1)); e=$((i+100)); \
         while [ $i -lt $e ]; do echo \"line $i {:060}\"; i=$((i+1)); done; : > /control/said-{driver}$n; done",
        0
    );
    let control = format!("{}:/control", folder.path().display());
    let options = ["--log-opt", "max-size=6k", "--log-opt", "max-file=4"];
    let rest = ["--network", "none", "-v", &control, "busybox", "sh", "-c", &script];
    let run = [
        &["run", "-d", "--name", driver, "--log-driver", driver][..],
        &options,
        &rest,
    ]
    .concat();
    small.run(&run);
}

fn says(driver: &str, round: usize, folder: &Folder) {
    File::create(folder.at(&format!("{driver}{round}"))).unwrap();
    eventually("it has said its lines", 10, || {
        std::path::Path::new(&folder.at(&format!("said-{driver}{}", round + 1))).exists()
    });
}

fn a_log_is_rotated_on_a_full_disk(_: &Nothing) {
    let small = Small::ext4(64);
    let control = Folder::new("rotations");
    let drivers = ["json-file", "local"];
    for driver in drivers {
        speaker(&small, driver, &control);
        says(driver, 0, &control);
    }
    let ballast = small.fill();
    for driver in drivers {
        let before = numbers(&small, driver);
        for round in 1..4 {
            says(driver, round, &control);
        }
        let during = numbers(&small, driver);
        assert!(during.last() >= before.last(), "{driver}: {before:?}, then {during:?}");
        assert!(small.daemon.process(driver).is_alive());
    }
    drop(ballast);
    for driver in drivers {
        says(driver, 4, &control);
        eventually("lines are kept again", 10, || {
            numbers(&small, driver).last() == Some(&499)
        });
        let kept = numbers(&small, driver);
        assert!(kept.contains(&450) && kept.len() > 100, "{driver}: {kept:?}");
    }
    small.finish();
}

fn a_log_whose_next_file_cannot_be_made_is_whole(_: &Nothing) {
    let small = Small::few_inodes(3_000);
    let control = Folder::new("successors");
    let drivers = ["json-file", "local"];
    for driver in drivers {
        speaker(&small, driver, &control);
    }
    let folder = small.root.join("ballast");
    std::fs::create_dir(&folder).unwrap();
    let full = (0..).any(|number| File::create(folder.join(number.to_string())).is_err());
    assert!(full);
    for driver in drivers {
        says(driver, 0, &control);
        says(driver, 1, &control);
        // What fits into the one file that there is, from the first line on: it has another name by now.
        eventually("the first lines are kept", 10, || numbers(&small, driver).len() >= 20);
        let kept = numbers(&small, driver);
        let count = kept.len();
        assert!(count < 150, "{driver}: {kept:?}");
        assert_eq!(kept, (0..count).collect::<Vec<_>>(), "{driver}");
        assert!(small.daemon.process(driver).is_alive());
    }
    std::fs::remove_dir_all(&folder).unwrap();
    for driver in drivers {
        says(driver, 2, &control);
        eventually("lines are kept again", 10, || {
            numbers(&small, driver).last() == Some(&299)
        });
        let kept = numbers(&small, driver);
        assert!(kept.contains(&0) && kept.contains(&200), "{driver}: {kept:?}");
    }
    small.finish();
}
