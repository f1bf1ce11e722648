//! `kill -9` at every named point of the daemon, one after the other.
//!
//! ```text
//! each point:  prepare ─▶ start, told to die there ─▶ the verb that comes by ─▶ dead ─▶ start ─▶ compare ─▶ the verb again
//! ```
//!
//! What was acknowledged is there; what was not is whole or absent; records and machine agree; a container that ran runs
//! on, and one that ended says how. `tests/tidy` holds that the table below and the names in the code are the same, and a
//! point that the verb does not come by fails here: no point can be forgotten. The shim's points are in
//! `shim_failpoints.rs`, those of images and of what is pruned in `image_failpoints.rs`.

use std::time::Instant;

use harness::daemon::{Daemon, Options};
use harness::image::{Image, Layer, Packing};
use harness::registry::Registry;
use harness::tools::{Folder, eventually, patience};
use harness::{Test, tests};
use serde_json::{Value, json};

pub struct Nothing;

pub fn tests() -> Vec<Test<Nothing>> {
    let mut all: Vec<Test<Nothing>> = tests![every_named_point_leaves_whole_things, an_end_is_known_after_two_deaths];
    all.extend(crate::image_failpoints::tests());
    all.extend(crate::shim_failpoints::tests());
    all
}

/// A daemon of its own with a small image, to be killed.
pub fn daemon() -> Daemon {
    if std::env::var_os("IECHOR_TEST_HOST").is_some() {
        harness::suite::skip("needs a daemon of its own to kill");
    }
    let daemon = Daemon::start(Options::default());
    daemon.load(&Image::busybox(), "busybox:latest");
    daemon
}

/// The daemon dies at the point called `name`, which `drive` makes it come by, and is started again. Returns what `drive`
/// was told.
pub fn die_at<T>(daemon: &Daemon, name: &str, drive: impl FnOnce() -> T) -> T {
    daemon.kill9();
    daemon.launch_with(&[("IECHOR_FAILPOINT", name)]);
    let told = drive();
    assert_eq!(daemon.death(), SIGKILL, "{name}: it did not die there");
    daemon.launch();
    told
}

/// The status of an answer, or nothing if the daemon died over it.
pub fn status(daemon: &Daemon, method: &str, target: &str, kind: &str, body: &[u8]) -> Option<u16> {
    let headers = [("Content-Type", kind)];
    let reply = daemon.server.try_send(method, target, &headers, body).ok()?;
    (!reply.text().contains("errorDetail")).then_some(reply.status)
}

/// What a client asks for when the daemon comes by a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Create,
    Start,
    /// The container ends by itself.
    Exit,
    Stop,
    Kill,
    Restart,
    Remove,
    Rename,
    Update,
    Exec,
    Pull,
    Commit,
    RemoveImage,
    CreateVolume,
    RemoveVolume,
    ImportVolume,
    RenameVolume,
    /// Nothing is asked: it dies while it starts.
    Recover,
}

const POINTS: &[(&str, Verb)] = &[
    ("create-folder-made", Verb::Create),
    ("create-layer-made", Verb::Create),
    ("create-recorded", Verb::Create),
    ("start-connected", Verb::Start),
    ("ports-published", Verb::Start),
    ("start-files-written", Verb::Start),
    ("start-run-recorded", Verb::Start),
    ("start-planned", Verb::Start),
    ("start-running", Verb::Start),
    ("start-told", Verb::Start),
    ("exit-seen", Verb::Exit),
    ("exit-told", Verb::Exit),
    ("ports-unpublished", Verb::Exit),
    ("exit-volumes-released", Verb::Exit),
    ("exit-recorded", Verb::Exit),
    ("exit-shim-released", Verb::Exit),
    ("stop-signalled", Verb::Stop),
    ("stop-ended", Verb::Stop),
    ("stop-recorded", Verb::Stop),
    ("kill-signalled", Verb::Kill),
    ("kill-ended", Verb::Kill),
    ("restart-stopped", Verb::Restart),
    ("remove-killed", Verb::Remove),
    ("remove-recorded", Verb::Remove),
    ("trash-moved", Verb::Remove),
    ("remove-folder-away", Verb::Remove),
    ("rename-claimed", Verb::Rename),
    ("rename-recorded", Verb::Rename),
    ("update-applied", Verb::Update),
    ("exec-started", Verb::Exec),
    ("layer-unpacked", Verb::Pull),
    ("layer-in-place", Verb::Pull),
    ("layer-recorded", Verb::Pull),
    ("image-adopted", Verb::Pull),
    ("image-recording", Verb::Commit),
    ("image-recorded", Verb::Commit),
    ("image-unrecorded", Verb::RemoveImage),
    ("layers-unrecorded", Verb::RemoveImage),
    ("volume-folder-made", Verb::CreateVolume),
    ("volume-recorded", Verb::CreateVolume),
    ("volume-unrecorded", Verb::RemoveVolume),
    ("import-in-place", Verb::ImportVolume),
    ("volume-rename-recorded", Verb::RenameVolume),
    ("volume-folder-renamed", Verb::RenameVolume),
    ("recover-records-read", Verb::Recover),
    ("recover-shims-found", Verb::Recover),
    ("recover-taken-over", Verb::Recover),
    ("recover-network-made", Verb::Recover),
    ("recover-mounts-made", Verb::Recover),
    ("recover-orphans-gone", Verb::Recover),
];

const SIGKILL: i32 = 9;
/// The code of the container that ends by itself.
const CODE: i64 = 42;
const KEPT: &[u8] = b"what the volume keeps";

struct Point<'a> {
    daemon: &'a Daemon,
    registry: &'a Registry,
    control: &'a Folder,
    name: &'static str,
    verb: Verb,
}

impl Point<'_> {
    /// The status of an answer, or nothing if the daemon died over it.
    fn ask(&self, method: &str, target: &str, kind: &str, body: &[u8]) -> Option<u16> {
        status(self.daemon, method, target, kind, body)
    }

    fn json(&self, method: &str, target: &str, body: &Value) -> Option<u16> {
        self.ask(method, target, "application/json", body.to_string().as_bytes())
    }

    fn post(&self, target: &str) -> Option<u16> {
        self.json("POST", target, &Value::Null)
    }

    fn status(&self, target: &str) -> u16 {
        self.daemon.server.get(target).status
    }

    fn body(&self) -> Value {
        // Whoever ends by itself waits for a file; whoever is stopped does not hear SIGTERM.
        let script = format!("until [ -e /control/{} ]; do sleep 0.02; done; exit {CODE}", self.name);
        json!({
            "Image": "busybox",
            "Cmd": ["sh", "-c", script],
            "ExposedPorts": {"80/tcp": {}},
            "HostConfig": {
                "Binds": [format!("{}:/control", self.control.path().display())],
                "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]},
            },
        })
    }

    fn create(&self) -> Option<u16> {
        self.json("POST", &format!("/containers/create?name={}", self.name), &self.body())
    }

    fn image(&self) -> String {
        format!("{}/points/{}:1", self.registry.address, self.name)
    }

    /// What has to be there before.
    fn prepare(&self) {
        let name = self.name;
        match self.verb {
            Verb::Create | Verb::Recover | Verb::CreateVolume | Verb::ImportVolume => {}
            Verb::Start | Verb::Rename | Verb::Commit => assert_eq!(self.create(), Some(201)),
            Verb::Exit | Verb::Stop | Verb::Kill | Verb::Restart | Verb::Remove | Verb::Update | Verb::Exec => {
                assert_eq!(self.create(), Some(201));
                assert_eq!(self.post(&format!("/containers/{name}/start")), Some(204));
            }
            Verb::Pull | Verb::RemoveImage => {
                let layer = Layer::default().file("what", 0o644, name.as_bytes());
                let image = Image::busybox().layer(layer);
                self.registry
                    .push(&format!("points/{name}"), "1", &image, true, Packing::Gzip);
                if self.verb == Verb::RemoveImage {
                    assert_eq!(self.drive(Verb::Pull), Some(200));
                }
            }
            Verb::RemoveVolume | Verb::RenameVolume => {
                assert_eq!(self.drive(Verb::ImportVolume), Some(201));
            }
        }
    }

    fn drive(&self, verb: Verb) -> Option<u16> {
        let name = self.name;
        match verb {
            Verb::Create => self.create(),
            Verb::Start => self.post(&format!("/containers/{name}/start")),
            Verb::Exit => {
                std::fs::write(self.control.at(name), "").unwrap();
                None
            }
            Verb::Stop => self.post(&format!("/containers/{name}/stop?t=0")),
            Verb::Kill => self.post(&format!("/containers/{name}/kill")),
            Verb::Restart => self.post(&format!("/containers/{name}/restart?t=0")),
            Verb::Remove => self.ask("DELETE", &format!("/containers/{name}?force=1"), "", &[]),
            Verb::Rename => self.post(&format!("/containers/{name}/rename?name={name}-new")),
            Verb::Update => self.json("POST", &format!("/containers/{name}/update"), &json!({"PidsLimit": 77})),
            Verb::Exec => {
                let body = json!({"Cmd": ["true"], "AttachStdout": true});
                let made = self.daemon.server.post(&format!("/containers/{name}/exec"), &body);
                let id = made.expect(201).json()["Id"].as_str().unwrap().to_owned();
                self.json("POST", &format!("/exec/{id}/start"), &json!({"Detach": true}))
            }
            Verb::Pull => self.post(&format!(
                "/images/create?fromImage={}/points/{name}&tag=1",
                self.registry.address
            )),
            Verb::Commit => self.post(&format!("/commit?container={name}&repo={name}&tag=1")),
            Verb::RemoveImage => self.ask("DELETE", &format!("/images/{}", self.image()), "", &[]),
            Verb::CreateVolume => self.json("POST", "/volumes/create", &json!({"Name": name})),
            Verb::RemoveVolume => self.ask("DELETE", &format!("/volumes/{name}"), "", &[]),
            Verb::ImportVolume => {
                let tar = Layer::default().file("kept", 0o644, KEPT).bytes();
                self.ask("POST", &format!("/volumes/{name}/import"), "application/x-tar", &tar)
            }
            Verb::RenameVolume => self.post(&format!("/volumes/{name}/rename?name={name}-new")),
            Verb::Recover => None,
        }
    }

    /// What it must look like after the crash, and that the same works now.
    fn judge(&self, acknowledged: Option<u16>) {
        let name = self.name;
        let container = format!("/containers/{name}/json");
        let done = acknowledged.is_some_and(|status| status < 300);
        match self.verb {
            Verb::Create => {
                assert!(
                    !done || self.status(&container) == 200,
                    "an acknowledged create is gone"
                );
                if self.status(&container) == 404 {
                    assert_eq!(self.create(), Some(201), "again");
                }
                assert_eq!(self.drive(Verb::Start), Some(204), "it is whole");
            }
            Verb::Start => {
                let state = self.state();
                assert!(!done || state == "running", "an acknowledged start: {state}");
                assert!(state == "running" || state == "created", "{state}");
                let again = self.drive(Verb::Start);
                assert_eq!(again, Some(if state == "running" { 304 } else { 204 }), "again");
                self.ends();
            }
            Verb::Exit => self.ended(CODE),
            Verb::Stop | Verb::Kill => {
                // What a signal that was on its way did is known in a moment.
                if self.verb == Verb::Kill {
                    self.ended(137);
                }
                if self.state() == "running" {
                    assert_eq!(self.drive(self.verb), Some(204), "again");
                }
                self.ended(137);
                assert_eq!(self.drive(Verb::Start), Some(204), "it starts again");
            }
            Verb::Restart => {
                assert_eq!(self.drive(Verb::Restart), Some(204), "again");
                self.ends();
            }
            Verb::Remove => {
                if self.status(&container) == 200 {
                    assert!(!done, "an acknowledged removal is not done");
                    // It is whole: it starts, and goes.
                    assert!(matches!(self.drive(Verb::Start), Some(204 | 304)), "it is whole");
                    assert_eq!(self.drive(Verb::Remove), Some(204), "again");
                }
                assert_eq!(self.status(&container), 404);
            }
            Verb::Rename => {
                let new = format!("{name}-new");
                if self.status(&container) == 200 {
                    assert!(!done, "an acknowledged name is lost");
                    assert_eq!(self.drive(Verb::Rename), Some(204), "again");
                }
                assert_eq!(self.daemon.inspect(&new)["Name"], format!("/{new}"));
                assert_eq!(self.status(&container), 404, "the old name is free");
                self.daemon.remove(&new);
            }
            Verb::Update => {
                assert_eq!(self.drive(Verb::Update), Some(200), "again");
                assert_eq!(self.daemon.inspect(name)["HostConfig"]["PidsLimit"], 77);
                self.ends();
            }
            Verb::Exec => {
                assert!(matches!(self.drive(Verb::Exec), Some(200 | 204)), "again");
                self.ends();
            }
            Verb::Pull => {
                let image = format!("/images/{}/json", self.image());
                assert!(!done || self.status(&image) == 200, "an acknowledged pull is gone");
                assert_eq!(self.drive(Verb::Pull), Some(200), "again");
                self.image_is_whole();
                assert_eq!(self.drive(Verb::RemoveImage), Some(200));
            }
            Verb::RemoveImage => {
                if self.status(&format!("/images/{}/json", self.image())) == 200 {
                    assert!(!done, "an acknowledged removal is not done");
                    self.image_is_whole();
                    assert_eq!(self.drive(Verb::RemoveImage), Some(200), "again");
                }
                assert_eq!(self.drive(Verb::Pull), Some(200), "it can come back");
                self.image_is_whole();
                assert_eq!(self.drive(Verb::RemoveImage), Some(200));
            }
            Verb::Commit => {
                assert_eq!(self.drive(Verb::Commit), Some(201), "again");
                let image = format!("{name}:1");
                self.daemon
                    .docker(&["run", "--rm", "--network", "none", &image, "true"])
                    .ok();
                self.daemon.docker(&["rmi", &image]).ok();
            }
            Verb::CreateVolume => {
                let volume = format!("/volumes/{name}");
                assert!(!done || self.status(&volume) == 200, "an acknowledged volume is gone");
                assert_eq!(self.drive(Verb::CreateVolume), Some(201), "again");
                assert_eq!(self.drive(Verb::RemoveVolume), Some(204));
            }
            Verb::RemoveVolume => {
                if self.status(&format!("/volumes/{name}")) == 200 {
                    assert!(!done, "an acknowledged removal is not done");
                    self.volume_is_whole(name);
                    assert_eq!(self.drive(Verb::RemoveVolume), Some(204), "again");
                }
            }
            Verb::ImportVolume => {
                if self.status(&format!("/volumes/{name}")) == 404 {
                    assert!(!done, "an acknowledged import is gone");
                    assert_eq!(self.drive(Verb::ImportVolume), Some(201), "again");
                }
                self.volume_is_whole(name);
                assert_eq!(self.drive(Verb::RemoveVolume), Some(204));
            }
            Verb::RenameVolume => {
                let new = format!("{name}-new");
                if self.status(&format!("/volumes/{name}")) == 200 {
                    assert!(!done, "an acknowledged name is lost");
                    self.volume_is_whole(name);
                    assert!(matches!(self.drive(Verb::RenameVolume), Some(200..300)), "again");
                }
                self.volume_is_whole(&new);
                let removed = self.ask("DELETE", &format!("/volumes/{new}"), "", &[]);
                assert_eq!(removed, Some(204));
            }
            Verb::Recover => {}
        }
        if self.status(&container) == 200 {
            self.daemon.remove(name);
        }
    }

    fn state(&self) -> String {
        let state = &self.daemon.inspect(self.name)["State"];
        state["Status"].as_str().unwrap().to_owned()
    }

    /// Its end is told in a moment, with this code.
    fn ended(&self, code: i64) {
        eventually("the end is known", 10, || self.state() == "exited");
        assert_eq!(self.daemon.inspect(self.name)["State"]["ExitCode"], code);
    }

    /// It runs, and its end arrives.
    fn ends(&self) {
        assert!(self.daemon.process(self.name).is_alive());
        self.drive(Verb::Exit);
        self.ended(CODE);
    }

    fn image_is_whole(&self) {
        let image = self.image();
        let run = ["run", "--rm", "--network", "none", &image, "cat", "/what"];
        assert_eq!(self.daemon.docker(&run).ok(), self.name);
    }

    fn volume_is_whole(&self, volume: &str) {
        let mount = format!("{volume}:/data:ro");
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            &mount,
            "busybox",
            "cat",
            "/data/kept",
        ];
        assert_eq!(self.daemon.docker(&run).ok().as_bytes(), KEPT);
    }
}

/// Records and machine agree, and the disk has nothing on the way.
pub fn agreed(daemon: &Daemon) {
    let end = Instant::now() + patience(10);
    loop {
        let found = daemon.server.get("/system/check").expect(200).json()["Differences"].clone();
        let mut left: Vec<String> = found.as_array().unwrap().iter().map(Value::to_string).collect();
        for folder in ["tmp", "trash"] {
            let entries = std::fs::read_dir(daemon.places.data.join("root").join(folder));
            left.extend(
                entries
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|entry| entry.path().display().to_string()),
            );
        }
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "left:\n    {}", left.join("\n    "));
        std::thread::sleep(std::time::Duration::from_millis(30));
    }
}

fn every_named_point_leaves_whole_things(_: &Nothing) {
    if std::env::var_os("IECHOR_TEST_HOST").is_some() {
        harness::suite::skip("needs a daemon of its own to kill");
    }
    let registry = Registry::start();
    let control = Folder::new("points");
    let daemon = Daemon::start(Options::default());
    daemon.load(&Image::busybox(), "busybox:latest");
    let witness = daemon.sleeper("witness", &["--network", "none"]);
    let begun = Instant::now();
    for (name, verb) in POINTS {
        let point = Point {
            daemon: &daemon,
            registry: &registry,
            control: &control,
            name,
            verb: *verb,
        };
        harness::process::take_transcript();
        harness::process::note(format!("at {name}"));
        point.prepare();
        daemon.kill9();
        let armed = [("IECHOR_FAILPOINT", *name)];
        let (signal, acknowledged) = if *verb == Verb::Recover {
            (daemon.launch_to_die(&armed), None)
        } else {
            daemon.launch_with(&armed);
            let acknowledged = point.drive(*verb);
            (daemon.death(), acknowledged)
        };
        assert_eq!(signal, SIGKILL, "{name}: it did not die there");
        daemon.launch();
        assert_eq!(
            daemon.process("witness").0,
            witness.0,
            "{name}: a running container runs on"
        );
        point.judge(acknowledged);
        let _ = std::fs::remove_file(control.at(name));
        agreed(&daemon);
    }
    println!("        {} points in {:?}", POINTS.len(), begun.elapsed());
    daemon.finish();
}

/// One daemon dies before it has recorded a start, the next one when it has found the end.
fn an_end_is_known_after_two_deaths(_: &Nothing) {
    if std::env::var_os("IECHOR_TEST_HOST").is_some() {
        harness::suite::skip("needs a daemon of its own to kill");
    }
    let daemon = Daemon::start(Options::default());
    daemon.load(&Image::busybox(), "busybox:latest");
    daemon.kill9();
    daemon.launch_with(&[("IECHOR_FAILPOINT", "start-running")]);
    let script = format!("sleep 0.3; exit {CODE}");
    let body = json!({"Image": "busybox", "Cmd": ["sh", "-c", script], "HostConfig": {"NetworkMode": "none"}});
    let made = daemon.server.post("/containers/create?name=twice", &body).expect(201);
    let id = made.json()["Id"].as_str().unwrap().to_owned();
    let _ = daemon.server.try_send("POST", "/containers/twice/start", &[], &[]);
    assert_eq!(daemon.death(), SIGKILL);
    let exit = daemon.places.data.join("root/containers").join(id).join("exit");
    eventually("the shim has written the end", 10, || exit.exists());
    assert_eq!(
        daemon.launch_to_die(&[("IECHOR_FAILPOINT", "recover-taken-over")]),
        SIGKILL
    );
    daemon.launch();
    let state = daemon.inspect("twice")["State"].clone();
    assert_eq!(
        (&state["Status"], &state["ExitCode"]),
        (&json!("exited"), &json!(CODE)),
        "{state}"
    );
    daemon.finish();
}
