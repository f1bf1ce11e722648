//! `kill -9` of the daemon while images get names and lose them, while layers are unpacked, while things are pruned, and
//! while a rotated log is compressed. How it is done: `failpoints.rs`.

use std::time::Instant;

use harness::daemon::Daemon;
use harness::image::{Image, Layer, Packing};
use harness::registry::Registry;
use harness::tools::eventually;
use harness::{Test, tests};
use serde_json::{Value, json};

use crate::failpoints::{Nothing, agreed, daemon, die_at, status};

pub fn tests() -> Vec<Test<Nothing>> {
    tests![points_of_images_and_prunes_leave_whole_things]
}

#[derive(Debug, Clone, Copy)]
enum Verb {
    /// A name that another image has.
    Tag,
    Untag,
    Load,
    Pull,
    PruneContainers,
    PruneImages,
    PruneVolumes,
    /// A log is rotated often enough that the daemon compresses a file of it.
    Compress,
}

const POINTS: &[(&str, Verb)] = &[
    ("image-tagging", Verb::Tag),
    ("image-recording", Verb::Tag),
    ("image-recorded", Verb::Tag),
    ("image-tagged", Verb::Tag),
    ("image-untagging", Verb::Untag),
    ("image-untagged", Verb::Untag),
    ("entry-extracted", Verb::Load),
    ("tree-extracted", Verb::Load),
    ("layer-in-place", Verb::Load),
    ("layer-recorded", Verb::Load),
    ("image-adopted", Verb::Load),
    ("entry-extracted", Verb::Pull),
    ("tree-extracted", Verb::Pull),
    ("prune-container-gone", Verb::PruneContainers),
    ("prune-image-gone", Verb::PruneImages),
    ("prune-volume-gone", Verb::PruneVolumes),
    ("log-compressed", Verb::Compress),
    ("log-exchanged", Verb::Compress),
];

/// How much a container says: five files of 8 kB hold all of it, and four are filled.
const LINES: usize = 400;

struct Point<'a> {
    daemon: &'a Daemon,
    registry: &'a Registry,
    name: &'static str,
}

impl Point<'_> {
    /// The status of an answer, or nothing if the daemon died over it.
    fn ask(&self, method: &str, target: &str) -> Option<u16> {
        status(self.daemon, method, target, "application/json", b"{}")
    }

    fn load(&self, archive: &[u8]) -> Option<u16> {
        status(
            self.daemon,
            "POST",
            "/images/load?quiet=1",
            "application/x-tar",
            archive,
        )
    }

    fn exists(&self, target: &str) -> bool {
        self.daemon.server.get(target).status == 200
    }

    /// An image with a file that no other one has.
    fn image(&self, word: &str) -> Image {
        let content = format!("{} {word}", self.name);
        Image::busybox().layer(Layer::default().file("what", 0o644, content.as_bytes()))
    }

    fn holds(&self, image: &str, word: &str) {
        let run = ["run", "--rm", "--network", "none", image, "cat", "/what"];
        assert_eq!(self.daemon.docker(&run).ok(), format!("{} {word}", self.name));
    }

    fn id_of(&self, image: &str) -> String {
        let shown = self.daemon.server.get(&format!("/images/{image}/json")).expect(200);
        shown.json()["Id"].as_str().unwrap().to_owned()
    }

    /// A name that one image has goes to another: it is never nobody's, and never both's.
    fn tag(&self) {
        let (name, other) = (format!("{}:1", self.name), self.image("other"));
        assert_eq!(self.load(&other.docker_archive(&name)), Some(200));
        let tag = format!("/images/busybox:latest/tag?repo={}&tag=1", self.name);
        let told = die_at(self.daemon, self.name, || self.ask("POST", &tag));
        let busybox = self.id_of("busybox:latest");
        let owner = self.id_of(&name);
        assert!(owner == busybox || owner == other.id(), "{owner}");
        assert!(told != Some(201) || owner == busybox, "an acknowledged name is lost");
        let list = self.daemon.server.get("/images/json").expect(200).json();
        let has = |image: &&Value| image["RepoTags"].to_string().contains(&name);
        assert_eq!(list.as_array().unwrap().iter().filter(has).count(), 1, "{list}");
        self.holds(&other.id(), "other");
        assert_eq!(self.ask("POST", &tag), Some(201), "again");
        assert_eq!(self.id_of(&name), busybox);
        for gone in [&name, &other.id()] {
            assert_eq!(self.ask("DELETE", &format!("/images/{gone}")), Some(200));
        }
    }

    fn untag(&self) {
        let name = format!("{}:1", self.name);
        let tag = format!("/images/busybox:latest/tag?repo={}&tag=1", self.name);
        assert_eq!(self.ask("POST", &tag), Some(201));
        let untag = format!("/images/{name}");
        let told = die_at(self.daemon, self.name, || self.ask("DELETE", &untag));
        if self.exists(&format!("/images/{name}/json")) {
            assert_ne!(told, Some(200), "an acknowledged removal is not done");
            assert_eq!(self.id_of(&name), self.id_of("busybox:latest"));
            assert_eq!(self.ask("DELETE", &untag), Some(200), "again");
        }
        let run = ["run", "--rm", "--network", "none", "busybox", "echo", "whole"];
        assert_eq!(self.daemon.docker(&run).ok(), "whole");
    }

    fn comes(&self, name: &str, bring: &dyn Fn() -> Option<u16>) {
        let told = die_at(self.daemon, self.name, bring);
        if self.exists(&format!("/images/{name}/json")) {
            self.holds(name, "new");
        } else {
            assert_ne!(told, Some(200), "an acknowledged image is gone");
        }
        assert_eq!(bring(), Some(200), "again");
        self.holds(name, "new");
        assert_eq!(self.ask("DELETE", &format!("/images/{name}")), Some(200));
    }

    /// Two things are pruned, and the daemon dies between them: `left` has one of them, and a second prune takes it.
    fn prune(&self, kind: &str, things: [String; 2], is_whole: &dyn Fn(&str)) {
        let prune = format!("/{kind}/prune");
        die_at(self.daemon, self.name, || self.ask("POST", &prune));
        let there = |thing: &&String| match kind {
            "volumes" => self.exists(&format!("/volumes/{thing}")),
            _ => self.exists(&format!("/{kind}/{thing}/json")),
        };
        let left: Vec<&String> = things.iter().filter(there).collect();
        assert_eq!(left.len(), 1, "{things:?}");
        is_whole(left[0]);
        assert_eq!(self.ask("POST", &prune), Some(200), "again");
        assert_eq!(things.iter().filter(there).count(), 0);
    }

    fn prune_containers(&self) {
        let made = ["a", "b"].map(|_| {
            let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}});
            let reply = self.daemon.server.post("/containers/create", &body).expect(201);
            reply.json()["Id"].as_str().unwrap().to_owned()
        });
        self.prune("containers", made, &|left| {
            assert_eq!(self.ask("POST", &format!("/containers/{left}/start")), Some(204));
            let ended = || self.daemon.inspect(left)["State"]["Status"] == "exited";
            eventually("it has run", 10, ended);
        });
    }

    fn prune_images(&self) {
        let name = format!("{}:1", self.name);
        let images = ["1", "2", "3"].map(|word| self.image(word));
        for image in &images {
            // The one before loses its name.
            assert_eq!(self.load(&image.docker_archive(&name)), Some(200));
        }
        let made = [images[0].id(), images[1].id()];
        let words = [(made[0].clone(), "1"), (made[1].clone(), "2")];
        self.prune("images", made, &|left| {
            for (_, word) in words.iter().filter(|(id, _)| id == left) {
                self.holds(left, word);
            }
        });
        self.holds(&name, "3");
        assert_eq!(self.ask("DELETE", &format!("/images/{name}")), Some(200));
    }

    fn prune_volumes(&self) {
        let made = ["a", "b"].map(|_| {
            let reply = self.daemon.server.post("/volumes/create", &json!({})).expect(201);
            reply.json()["Name"].as_str().unwrap().to_owned()
        });
        self.prune("volumes", made, &|left| {
            let mount = format!("{left}:/data");
            let run = [
                "run",
                "--rm",
                "--network",
                "none",
                "-v",
                &mount,
                "busybox",
                "touch",
                "/data/x",
            ];
            self.daemon.docker(&run).ok();
        });
    }

    /// Every line is there, once, whatever became of the file that was being compressed.
    fn compress(&self) {
        let script = format!(
            "read go; i=0; while [ $i -lt {LINES} ]; do echo \"line $i {:060}\"; i=$((i+1)); done; sleep 1000",
            0
        );
        let options = [
            "--log-driver",
            "local",
            "--log-opt",
            "max-size=8k",
            "--log-opt",
            "max-file=6",
        ];
        let rest = ["-i", "--network", "none", "busybox", "sh", "-c", &script];
        let create = [&["create", "--name", self.name][..], &options, &rest].concat();
        self.daemon.docker(&create).ok();
        die_at(self.daemon, self.name, || {
            // The daemon dies under the client.
            let start = self.daemon.command(&["start", "-i", "-a", self.name]);
            start.input(b"go\n").output()
        });
        let numbers = || -> Vec<usize> {
            let text = self.daemon.docker(&["logs", self.name]).ok();
            let second = |line: &str| line.split(' ').nth(1).and_then(|word| word.parse().ok());
            text.lines()
                .map(|line| second(line).unwrap_or_else(|| panic!("{line:?}")))
                .collect()
        };
        let all: Vec<usize> = (0..LINES).collect();
        eventually("all was said", 10, || numbers().last() == Some(&(LINES - 1)));
        assert_eq!(numbers(), all);
        let files = || -> Vec<String> {
            let id = self.daemon.inspect(self.name)["Id"].as_str().unwrap().to_owned();
            let folder = self.daemon.places.data.join("root/containers").join(id);
            let entries = std::fs::read_dir(folder).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
            names.collect()
        };
        eventually("what was begun is finished", 10, || {
            let files = files();
            let twice = |name: &String| files.contains(&format!("{name}.gz"));
            !files.iter().any(|name| twice(name) || name.ends_with(".compressing"))
        });
        assert_eq!(numbers(), all);
        self.daemon.remove(self.name);
    }
}

fn points_of_images_and_prunes_leave_whole_things(_: &Nothing) {
    let registry = Registry::start();
    let daemon = daemon();
    let witness = daemon.sleeper("witness", &["--network", "none"]);
    let begun = Instant::now();
    for (name, verb) in POINTS {
        let point = Point {
            daemon: &daemon,
            registry: &registry,
            name,
        };
        harness::process::take_transcript();
        harness::process::note(format!("at {name} by {verb:?}"));
        match verb {
            Verb::Tag => point.tag(),
            Verb::Untag => point.untag(),
            Verb::Load => {
                let image = format!("{name}:1");
                let archive = point.image("new").docker_archive(&image);
                point.comes(&image, &|| point.load(&archive));
            }
            Verb::Pull => {
                let image = format!("{}/points/{name}:1", point.registry.address);
                let repository = format!("points/{name}");
                registry.push(&repository, "1", &point.image("new"), true, Packing::Gzip);
                let pull = format!("/images/create?fromImage={}/points/{name}&tag=1", registry.address);
                point.comes(&image, &|| point.ask("POST", &pull));
            }
            Verb::PruneContainers => point.prune_containers(),
            Verb::PruneImages => point.prune_images(),
            Verb::PruneVolumes => point.prune_volumes(),
            Verb::Compress => point.compress(),
        }
        assert_eq!(daemon.process("witness").0, witness.0, "a running container runs on");
        agreed(&daemon);
    }
    println!("        {} points in {:?}", POINTS.len(), begun.elapsed());
    daemon.finish();
}
