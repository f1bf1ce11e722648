//! What the first life does, and what it was told.

use std::time::Duration;

use harness::daemon::Daemon;
use harness::image::{Image, Layer, Packing};
use harness::registry::Registry;
use harness::tools::patience;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::disk::Recorder;

/// What an object is after a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    Nothing,
    Created,
    /// Until it ends by itself with this code, if it does.
    Started(Option<i64>),
    Ended(i64),
    /// By somebody's wish; its policy would start it at boot otherwise.
    Stopped,
    Volume,
    /// A volume with this in it.
    Filled(String),
    /// An image with this in it.
    Image(String),
}

/// A request and its answer, with the disk's positions before the one and after the other.
#[derive(Debug, Clone)]
pub struct Act {
    pub key: String,
    pub begun: usize,
    pub told: usize,
    pub after: After,
}

/// One client; its objects are its own.
pub struct Worker<'a> {
    pub name: &'a str,
    pub daemon: &'a Daemon,
    pub registry: &'a Registry,
    pub recorder: &'a Recorder,
    pub random: StdRng,
    pub acts: Vec<Act>,
}

/// What `/what` of an image says.
pub fn image_with(what: &str) -> Image {
    // Not of one block only, and not to be compressed away.
    let large: Vec<u8> = (0..200_000u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    Image::busybox().layer(
        Layer::default()
            .file("what", 0o644, what.as_bytes())
            .file("large", 0o644, &large),
    )
}

impl Worker<'_> {
    fn act<T>(&mut self, key: &str, after: After, request: impl FnOnce(&Daemon) -> T) -> T {
        let begun = self.recorder.position();
        let answer = request(self.daemon);
        self.note(key, after, begun);
        answer
    }

    fn note(&mut self, key: &str, after: After, begun: usize) {
        self.acts.push(Act {
            key: key.to_owned(),
            begun,
            told: self.recorder.position(),
            after,
        });
    }

    /// Everything it does, in an order that its numbers decide.
    pub fn live(mut self, rounds: usize) -> Vec<Act> {
        for round in 0..rounds {
            let name = format!("{}-{round}", self.name);
            match self.random.random_range(0..10) {
                0..6 => self.container(&name),
                6..8 => self.volume(&name),
                _ => self.image(&name),
            }
        }
        self.acts
    }

    fn container(&mut self, name: &str) {
        let code = self.random.random_range(1..100);
        let kind = self.random.random_range(0..8);
        let long = kind == 1 || kind == 2;
        let script = if long {
            "exec sleep 1000".to_owned()
        } else {
            format!("exit {code}")
        };
        let network = if self.random.random_bool(0.3) { "bridge" } else { "none" };
        let policy = if long { "unless-stopped" } else { "no" };
        let body = json!({
            "Image": "busybox",
            "Cmd": ["sh", "-c", script],
            "Labels": {"name": name},
            "StopSignal": "SIGKILL",
            "HostConfig": {"NetworkMode": network, "RestartPolicy": {"Name": policy}},
        });
        let key = format!("container {name}");
        self.act(&key, After::Created, |daemon| {
            let target = format!("/containers/create?name={name}");
            daemon.server.post(&target, &body).expect(201);
        });
        if kind == 0 {
            return;
        }
        let begun = self.recorder.position();
        self.act(&key, After::Started((!long).then_some(code)), |daemon| {
            let target = format!("/containers/{name}/start");
            daemon.server.call("POST", &target, None).expect(204);
        });
        match kind {
            1 => return,
            2 => self.act(&key, After::Stopped, |daemon| {
                let target = format!("/containers/{name}/stop");
                daemon.server.call("POST", &target, None).expect(204);
            }),
            // Told by the answer to a wait, or by a look or a list at the right moment.
            3..6 => {
                let reply = self
                    .daemon
                    .server
                    .call("POST", &format!("/containers/{name}/wait"), None);
                assert_eq!(reply.expect(200).json()["StatusCode"], code, "{name}");
                self.note(&key, After::Ended(code), begun);
            }
            _ => {
                let list = format!(r#"/containers/json?all=1&filters={{"name":["^/{name}$"]}}"#);
                let list = list
                    .replace('^', "%5E")
                    .replace('"', "%22")
                    .replace('{', "%7B")
                    .replace('}', "%7D");
                let told = |daemon: &Daemon| match kind {
                    6 => {
                        let state = daemon.inspect(name)["State"].clone();
                        (state["Status"] == "exited").then(|| state["ExitCode"] == code)
                    }
                    _ => {
                        let status = daemon.server.get(&list).expect(200).json()[0]["Status"].clone();
                        let status = status.as_str().expect("a status").to_owned();
                        status
                            .starts_with("Exited")
                            .then(|| status.starts_with(&format!("Exited ({code})")))
                    }
                };
                let end = std::time::Instant::now() + patience(20);
                while std::time::Instant::now() < end {
                    if let Some(right) = told(self.daemon) {
                        assert!(right, "{name} is told to have ended with another code than {code}");
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                self.note(&key, After::Ended(code), begun);
            }
        }
        if self.random.random_bool(0.3) {
            self.act(&key, After::Nothing, |daemon| {
                let target = format!("/containers/{name}?force=1");
                daemon.server.call("DELETE", &target, None).expect(204);
            });
        }
    }

    fn volume(&mut self, name: &str) {
        let key = format!("volume {name}");
        if self.random.random_bool(0.5) {
            self.act(&key, After::Volume, |daemon| {
                let body = json!({"Name": name});
                daemon.server.post("/volumes/create", &body).expect(201);
            });
        } else {
            self.act(&key, After::Filled(name.to_owned()), |daemon| {
                let tar = Layer::default().file("what", 0o644, name.as_bytes()).bytes();
                let kind = [("Content-Type", "application/x-tar")];
                let target = format!("/volumes/{name}/import");
                daemon.server.send("POST", &target, &kind, &tar).expect(201);
            });
        }
        match self.random.random_range(0..6) {
            0 | 1 => self.act(&key, After::Nothing, |daemon| {
                let target = format!("/volumes/{name}");
                daemon.server.call("DELETE", &target, None).expect(204);
            }),
            2 | 3 => {
                let whole = self.acts.last().expect("it was made").after.clone();
                let begun = self.recorder.position();
                self.act(&key, After::Nothing, |daemon| {
                    let target = format!("/volumes/{name}/rename?name={name}-new");
                    let reply = daemon.server.call("POST", &target, None);
                    assert!(reply.status < 300, "{}", reply.text());
                });
                self.note(&format!("{key}-new"), whole, begun);
            }
            _ => {}
        }
    }

    fn image(&mut self, name: &str) {
        let image = image_with(name);
        let reference = if self.random.random_bool(0.5) {
            let reference = format!("{name}:1");
            self.act(&format!("image {reference}"), After::Image(name.to_owned()), |daemon| {
                daemon.load(&image, &reference);
            });
            reference
        } else {
            self.registry.push(name, "1", &image, true, Packing::Gzip);
            let repository = format!("{}/{name}", self.registry.address);
            let reference = format!("{repository}:1");
            self.act(&format!("image {reference}"), After::Image(name.to_owned()), |daemon| {
                let target = format!("/images/create?fromImage={repository}&tag=1");
                let reply = daemon.server.call("POST", &target, None).expect(200);
                assert!(!reply.text().contains("errorDetail"), "{}", reply.text());
            });
            reference
        };
        if self.random.random_bool(0.3) {
            self.act(&format!("image {reference}"), After::Nothing, |daemon| {
                let target = format!("/images/{reference}");
                daemon.server.call("DELETE", &target, None).expect(200);
            });
        }
    }
}

/// Whether the object is one of what it may be; else what it is. `named` is what the daemon's start said of losses.
pub fn judge(daemon: &Daemon, key: &str, allowed: &[After], named: &str) -> Result<(), String> {
    let (kind, name) = key.split_once(' ').expect("a kind and a name");
    let target = match kind {
        "container" => format!("/containers/{name}/json"),
        "volume" => format!("/volumes/{name}"),
        _ => format!("/images/{name}/json"),
    };
    let look = || {
        let reply = daemon.server.get(&target);
        (reply.status == 200).then(|| reply.json())
    };
    let mut found = look();
    // What its policy starts again is on its way.
    let end = std::time::Instant::now() + patience(10);
    while allowed.contains(&After::Started(None))
        && found.as_ref().is_some_and(|found| found["State"]["Status"] == "exited")
        && std::time::Instant::now() < end
    {
        std::thread::sleep(Duration::from_millis(10));
        found = look();
    }
    let fits = |after: &After| match (after, &found) {
        (After::Nothing, None) => true,
        // Its layers reach the disk some seconds after the answer; a start without them says so.
        (After::Image(_), None) => named.contains(name),
        (After::Nothing, Some(_)) | (_, None) => false,
        (After::Volume, Some(_)) => true,
        (After::Filled(what), Some(found)) => {
            let path = std::path::Path::new(found["Mountpoint"].as_str().unwrap()).join("what");
            std::fs::read_to_string(path).is_ok_and(|text| text == *what)
        }
        (After::Image(what), Some(_)) => said(daemon, name, &["cat", "/what"]) == *what,
        (container, Some(found)) => container_fits(name, container, found),
    };
    if allowed.iter().any(fits) {
        return Ok(());
    }
    let state = found.map_or_else(
        || "is not there".to_owned(),
        |found| format!("is there: {}", found.get("State").unwrap_or(&Value::Null)),
    );
    Err(format!("{key} is to be one of {allowed:?} and {state}"))
}

fn container_fits(name: &str, after: &After, found: &Value) -> bool {
    let state = &found["State"];
    let status = state["Status"].as_str().unwrap_or_default();
    if found["Config"]["Labels"]["name"] != name {
        return false;
    }
    match after {
        After::Created => status == "created",
        After::Ended(code) => status == "exited" && state["ExitCode"] == *code,
        After::Stopped => status == "exited",
        // A start need not be on the disk before its answer; what ran died with the machine.
        After::Started(None) => status == "created" || status == "running",
        After::Started(Some(code)) => {
            status == "created" || status == "exited" && (state["ExitCode"] == 255 || state["ExitCode"] == *code)
        }
        _ => false,
    }
}

/// What a command in a new container of this image says.
pub fn said(daemon: &Daemon, image: &str, command: &[&str]) -> String {
    let run = [&["run", "--rm", "--network", "none", image], command].concat();
    daemon.iechor(&run).out.trim().to_owned()
}
