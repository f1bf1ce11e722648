//! `kill -9` at every named point of the shim.
//!
//! ```text
//! each point:  prepare ─▶ a daemon whose shims die there ─▶ the verb ─▶ a shim is dead ─▶ compare
//!                                                                                           ▼
//!                                   it is removed ◀─ it ends ◀─ it starts again ◀─ an ordinary daemon
//! ```
//!
//! A container whose shim dies ends: its processes are killed, the daemon tells an end (with the code if the shim could
//! still say it, else 255), and neither groups, mounts, addresses nor the shim's socket stay. What the container had said is in
//! its log, in whole lines. `tests/tidy` holds that the table below and the names in the code are the same.

use std::path::PathBuf;
use std::time::Instant;

use harness::daemon::Daemon;
use harness::kernel::Process;
use harness::tools::{Folder, eventually};
use harness::{Test, tests};
use serde_json::{Value, json};

use crate::failpoints::{Nothing, agreed, daemon};

pub fn tests() -> Vec<Test<Nothing>> {
    tests![every_point_of_the_shim_ends_the_container]
}

/// What makes a shim come by a point, and the exit code that is told then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// A start that fails over it.
    Start,
    /// A start that was told to be one.
    Run,
    /// The container says something.
    Say,
    /// It says more than one file of its log may hold, with this log driver.
    Rotate(&'static str),
    /// The container ends by itself, with a daemon there.
    Exit(i64),
    /// The same without a daemon.
    Alone(i64),
    /// A further process is started in it; that one's shim dies.
    Exec,
}

const POINTS: &[(&str, Verb)] = &[
    ("shim-cloned", Verb::Start),
    ("shim-prepared", Verb::Start),
    ("shim-running", Verb::Start),
    ("shim-start-told", Verb::Run),
    ("shim-confined", Verb::Run),
    ("shim-output-logged", Verb::Say),
    ("log-oldest-gone", Verb::Rotate("json-file")),
    ("log-oldest-gone", Verb::Rotate("local")),
    ("log-renamed", Verb::Rotate("json-file")),
    ("log-renamed", Verb::Rotate("local")),
    ("log-begun", Verb::Rotate("json-file")),
    ("log-begun", Verb::Rotate("local")),
    ("shim-exit-seen", Verb::Exit(UNSEEN)),
    ("shim-exit-told", Verb::Exit(CODE)),
    ("shim-groups-removed", Verb::Exit(CODE)),
    ("shim-released", Verb::Exit(CODE)),
    ("shim-exit-seen", Verb::Alone(UNSEEN)),
    ("shim-exit-told", Verb::Alone(UNSEEN)),
    ("shim-exit-recorded", Verb::Alone(CODE)),
    ("shim-exec-cloned", Verb::Exec),
];

/// The code of the container that ends by itself.
const CODE: i64 = 42;
/// The code of an end that nobody saw.
const UNSEEN: i64 = 255;
/// What the daemon logs of a shim that did not end by itself.
const KILLED: &str = "a shim was killed";

struct Point<'a> {
    daemon: &'a Daemon,
    control: &'a Folder,
    point: &'static str,
    name: String,
    verb: Verb,
}

impl Point<'_> {
    fn post(&self, target: &str) -> u16 {
        self.daemon.server.call("POST", target, None).status
    }

    fn start(&self) -> u16 {
        self.post(&format!("/containers/{}/start", self.name))
    }

    fn create(&self) {
        let wait = format!("until [ -e /control/{} ]; do sleep 0.02; done; exit {CODE}", self.name);
        let (script, log) = match self.verb {
            // Four files are filled, of which three stay: a run always comes by the oldest one's end.
            Verb::Rotate(driver) => (
                format!(
                    "i=0; while [ $i -lt 300 ]; do echo \"line $i {:060}\"; i=$((i+1)); done; {wait}",
                    0
                ),
                json!({"Type": driver, "Config": {"max-size": "6k", "max-file": "3", "compress": "false"}}),
            ),
            Verb::Say => (format!("echo said; {wait}"), Value::Null),
            _ => (wait, Value::Null),
        };
        let body = json!({
            "Image": "busybox",
            "Cmd": ["sh", "-c", script],
            "ExposedPorts": {"80/tcp": {}},
            "HostConfig": {
                "Binds": [format!("{}:/control", self.control.path().display())],
                "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]},
                "LogConfig": log,
            },
        });
        let target = format!("/containers/create?name={}", self.name);
        self.daemon.server.post(&target, &body).expect(201);
    }

    fn arm(&self) {
        self.daemon.kill9();
        self.daemon.launch_with(&[("IECHOR_FAILPOINT", self.point)]);
    }

    fn state(&self) -> String {
        let state = &self.daemon.inspect(&self.name)["State"];
        state["Status"].as_str().unwrap().to_owned()
    }

    fn ended(&self, code: i64) {
        eventually("the end is known", 10, || self.state() == "exited");
        assert_eq!(self.daemon.inspect(&self.name)["State"]["ExitCode"], code);
    }

    fn let_end(&self) {
        std::fs::write(self.control.at(&self.name), "").unwrap();
    }

    fn socket(&self) -> PathBuf {
        let id = self.daemon.inspect(&self.name)["Id"].as_str().unwrap().to_owned();
        self.daemon.places.exec.join("shim").join(format!("{id}.sock"))
    }

    /// The daemon's own child was killed, and not just the container ended.
    fn shim_was_killed(&self, before: usize) {
        eventually("a shim was killed", 10, || self.killed() > before);
    }

    fn killed(&self) -> usize {
        let log = std::fs::read_to_string(self.daemon.places.data.join("iechord.log"));
        log.unwrap_or_default().matches(KILLED).count()
    }

    /// The numbers of the lines of its log: each run counts from 0 on, and nothing is missing before the end of one.
    fn lines(&self) -> Vec<usize> {
        let text = self.daemon.docker(&["logs", &self.name]).ok();
        let number = |line: &str| -> usize {
            let word = line
                .strip_prefix("line ")
                .and_then(|rest| rest.strip_suffix(&format!(" {:060}", 0)));
            word.and_then(|word| word.parse().ok())
                .unwrap_or_else(|| panic!("a torn line: {line:?}"))
        };
        let numbers: Vec<usize> = text.lines().map(number).collect();
        for pair in numbers.windows(2) {
            assert!(pair[1] == pair[0] + 1 || pair[1] == 0, "lines are lost: {numbers:?}");
        }
        numbers
    }

    /// Nothing of the container but its folders.
    fn nothing_is_left(&self) {
        let mut left = Vec::new();
        let socket = self.socket();
        let end = Instant::now() + harness::tools::patience(10);
        loop {
            left.clear();
            let all = self.daemon.places.left_of_containers();
            left.extend(all.into_iter().filter(|line| !line.starts_with("folder ")));
            if socket.exists() {
                left.push(socket.display().to_string());
            }
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < end, "left:\n    {}", left.join("\n    "));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        agreed(self.daemon);
    }

    /// Comes by the point, and compares.
    fn die(&self) {
        match self.verb {
            Verb::Start => {
                self.arm();
                let before = self.killed();
                let target = format!("/containers/{}/start", self.name);
                let told = self.daemon.server.call("POST", &target, None);
                let words = told.text();
                assert!(
                    told.status == 500 && words.contains("shim ended unexpectedly"),
                    "{words}"
                );
                assert_eq!(self.state(), "created");
                self.shim_was_killed(before);
            }
            Verb::Run | Verb::Say => {
                self.arm();
                let before = self.killed();
                assert_eq!(self.start(), 204);
                self.ended(UNSEEN);
                self.shim_was_killed(before);
                if self.verb == Verb::Say {
                    assert_eq!(self.daemon.docker(&["logs", &self.name]).ok(), "said");
                }
            }
            Verb::Rotate(_) => {
                // The log is full already, so that each rotation takes the oldest file away.
                assert_eq!(self.start(), 204);
                eventually("it has said all", 10, || self.lines().last() == Some(&299));
                self.let_end();
                self.ended(CODE);
                std::fs::remove_file(self.control.at(&self.name)).unwrap();
                self.arm();
                let before = self.killed();
                assert_eq!(self.start(), 204);
                self.ended(UNSEEN);
                self.shim_was_killed(before);
                let lines = self.lines();
                assert!(lines.len() > 80, "{lines:?}");
            }
            Verb::Exit(code) => {
                self.arm();
                assert_eq!(self.start(), 204);
                let (process, before) = (self.daemon.process(&self.name), self.killed());
                self.let_end();
                self.ended(code);
                self.shim_was_killed(before);
                assert!(!process.is_alive());
            }
            Verb::Alone(code) => {
                self.arm();
                assert_eq!(self.start(), 204);
                let (process, socket) = (self.daemon.process(&self.name), self.socket());
                let shim = Process(process.status("PPid").parse().unwrap());
                self.daemon.kill9();
                self.let_end();
                eventually("the shim is dead", 10, || !shim.is_alive());
                assert!(socket.exists(), "the shim has ended by itself");
                self.daemon.launch();
                self.ended(code);
                assert!(!process.is_alive());
            }
            Verb::Exec => self.die_over_an_exec(),
        }
        if self.verb != Verb::Exec {
            self.nothing_is_left();
        }
    }

    /// The container of a further process whose shim dies goes on.
    fn die_over_an_exec(&self) {
        self.arm();
        assert_eq!(self.start(), 204);
        let (process, before) = (self.daemon.process(&self.name), self.killed());
        let body = json!({"Cmd": ["sleep", "1000"], "AttachStdout": true});
        let made = self
            .daemon
            .server
            .post(&format!("/containers/{}/exec", self.name), &body);
        let id = made.expect(201).json()["Id"].as_str().unwrap().to_owned();
        let target = format!("/exec/{id}/start");
        let told = self.daemon.server.post(&target, &json!({"Detach": true}));
        assert!(told.status >= 400, "{}", told.text());
        self.shim_was_killed(before);
        let exec = self.daemon.server.get(&format!("/exec/{id}/json")).expect(200).json();
        assert_eq!(exec["Running"], false, "{exec}");
        eventually("only the first process and its own run", 10, || {
            let listed = self.daemon.docker(&["top", &self.name]).ok();
            !listed.contains("sleep 1000")
        });
        assert!(process.is_alive());
        self.let_end();
        self.ended(CODE);
    }

    /// With a daemon whose shims live it is a container like any other.
    fn starts_again(&self) {
        self.daemon.kill9();
        self.daemon.launch();
        let _ = std::fs::remove_file(self.control.at(&self.name));
        assert_eq!(self.start(), 204, "again");
        assert!(self.daemon.process(&self.name).is_alive());
        if let Verb::Rotate(_) = self.verb {
            eventually("it has said all again", 10, || self.lines().last() == Some(&299));
        }
        self.let_end();
        self.ended(CODE);
        if self.verb == Verb::Say {
            assert_eq!(self.daemon.docker(&["logs", &self.name]).ok(), "said\nsaid");
        }
        let socket = self.socket();
        let target = format!("/containers/{}", self.name);
        self.daemon.server.call("DELETE", &target, None).expect(204);
        eventually("the socket is gone", 10, || !socket.exists());
        let _ = std::fs::remove_file(self.control.at(&self.name));
    }
}

fn every_point_of_the_shim_ends_the_container(_: &Nothing) {
    let control = Folder::new("shims");
    let daemon = daemon();
    let begun = Instant::now();
    for (number, (point, verb)) in POINTS.iter().enumerate() {
        let point = Point {
            daemon: &daemon,
            control: &control,
            point,
            name: format!("{point}-{number}"),
            verb: *verb,
        };
        harness::process::take_transcript();
        harness::process::note(format!("at {} by {verb:?}", point.point));
        point.create();
        point.die();
        point.starts_again();
        agreed(&daemon);
    }
    println!("        {} points in {:?}", POINTS.len(), begun.elapsed());
    daemon.finish();
}
