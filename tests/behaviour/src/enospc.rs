//! A disk without room: every verb says what did not fit, nothing half-made stays, what takes things away works, and what
//! was refused works when there is room again.
//!
//! Each test has a daemon whose data root is a small file system of its own: ext4 in a file without blocks kept for root,
//! for there even a folder takes a block, or a tmpfs with few inodes.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use harness::daemon::{Daemon, Options};
use harness::image::{Image, Layer, Packing};
use harness::process::Run;
use harness::registry::Registry;
use harness::tools::eventually;
use harness::{Test, tests};
use serde_json::{Value, json};

pub struct Nothing;

pub fn tests() -> Vec<Test<Nothing>> {
    let mut all: Vec<Test<Nothing>> = tests![
        what_does_not_fit_is_told_and_fits_later,
        what_is_there_can_be_used_and_removed,
        exits_on_a_full_disk_are_not_lost,
        a_disk_without_inodes_is_a_full_disk,
    ];
    all.extend(crate::enospc_changes::tests());
    all
}

/// What is larger than the room that a test leaves.
const LARGE: usize = 6 << 20;

pub fn host(program: &str, arguments: &[&str]) {
    Run::new(program.as_ref(), arguments).output().ok();
}

/// A daemon on a small disk.
pub struct Small {
    pub daemon: Daemon,
    pub root: PathBuf,
}

impl Small {
    pub fn ext4(megabytes: u64) -> Small {
        Small::on_file(megabytes, &["mkfs.ext4", "-q", "-m", "0"], "loop", &[])
    }

    /// On a file that the command `make` puts a file system into, mounted with these options.
    pub fn on_file(megabytes: u64, make: &[&str], options: &str, arguments: &[&str]) -> Small {
        Small::mounted(arguments, |daemon, root| {
            let image = daemon.places.data.join("disk.img");
            let file = File::create(&image).unwrap();
            file.set_len(megabytes << 20).unwrap();
            let image = image.display().to_string();
            host(make[0], &[&make[1..], &[&image]].concat());
            host("mount", &["-o", options, &image, root]);
        })
    }

    /// The same disk mounted with other options; there may be no daemon and no container on it.
    pub fn mount_again(&self, options: &str) {
        let image = self.daemon.places.data.join("disk.img").display().to_string();
        let root = self.root.display().to_string();
        eventually("nobody uses the disk", 10, || {
            Run::new("umount".as_ref(), &[&root]).output().code == 0
        });
        host("mount", &["-o", options, &image, &root]);
    }

    pub fn few_inodes(count: u64) -> Small {
        Small::mounted(&[], |_, root| {
            let options = format!("size=200m,nr_inodes={count}");
            host("mount", &["-t", "tmpfs", "-o", &options, "none", root]);
        })
    }

    pub fn mounted(arguments: &[&str], mount: impl FnOnce(&Daemon, &str)) -> Small {
        if std::env::var_os("IECHOR_TEST_HOST").is_some() {
            harness::suite::skip("needs a daemon of its own on a disk of its own");
        }
        let daemon = Daemon::start(Options {
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            ..Options::default()
        });
        daemon.stop();
        let root = daemon.places.data.join("root");
        mount(&daemon, &root.display().to_string());
        let small = Small { daemon, root };
        small.daemon.launch();
        small.daemon.load(&Image::busybox(), "busybox:latest");
        small
    }

    /// Takes all the room there is.
    pub fn fill(&self) -> Ballast {
        let path = self.root.join("ballast");
        let mut file = File::create(&path).unwrap();
        // What other writers gave back while we wrote is taken in a second round.
        for portion in [1 << 20, 4096, 1, 4096, 1] {
            while file.write_all(&vec![0x5a; portion]).is_ok() {}
            let _ = file.sync_all();
        }
        Ballast(path)
    }

    fn json(&self, target: &str) -> Value {
        self.daemon.server.get(target).expect(200).json()
    }

    /// Names of all containers, images and volumes.
    fn objects(&self) -> Vec<String> {
        let mut found = Vec::new();
        for container in self.json("/containers/json?all=1").as_array().unwrap() {
            found.push(format!("container {}", container["Names"][0]));
        }
        for image in self.json("/images/json?all=1").as_array().unwrap() {
            found.push(format!("image {} {}", image["Id"], image["RepoTags"]));
        }
        for volume in self.json("/volumes")["Volumes"].as_array().into_iter().flatten() {
            found.push(format!("volume {}", volume["Name"]));
        }
        found.sort();
        found
    }

    /// Nothing half-made, and records and machine agree.
    pub fn is_whole(&self, after: &str) {
        let left = |folder: &str| std::fs::read_dir(self.root.join(folder)).map_or(0, Iterator::count);
        eventually(&format!("nothing is left in tmp and trash after {after}"), 10, || {
            left("tmp") == 0 && left("trash") == 0
        });
        let mut found = Value::Null;
        let end = std::time::Instant::now() + harness::tools::patience(10);
        while std::time::Instant::now() < end {
            found = self.json("/system/check")["Differences"].clone();
            if found == json!([]) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("after {after}: {found}");
    }

    pub fn run(&self, arguments: &[&str]) -> String {
        self.daemon.docker(arguments).ok()
    }

    /// Everything goes, and the daemon with it.
    pub fn finish(self) {
        for container in self.json("/containers/json?all=1").as_array().unwrap() {
            self.daemon.remove(container["Id"].as_str().unwrap());
        }
        self.is_whole("everything");
        self.daemon.stop();
        let (daemon, root) = (self.daemon, self.root.display().to_string());
        host("umount", &["-l", &root]);
        daemon.launch();
        daemon.finish();
    }
}

pub struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Status and text of one try; a stream that ends in an error is a failure whatever its status.
fn failure(status: u16, text: &str) -> Option<&str> {
    (status >= 400 || text.contains("errorDetail")).then_some(text)
}

fn tar_of_a_large_file() -> Vec<u8> {
    Layer::default().file("large", 0o644, &vec![7; LARGE]).bytes()
}

fn what_does_not_fit_is_told_and_fits_later(_: &Nothing) {
    let registry = Registry::start();
    let large = Image::busybox().layer(Layer::default().file("large", 0o644, &vec![1; LARGE]));
    registry.push("large", "1", &large, true, Packing::Gzip);
    let small = Small::ext4(96);
    let other = Image::busybox().layer(Layer::default().file("other", 0o644, &vec![2; LARGE]));
    let archive = other.docker_archive("loaded:1");
    let tar = tar_of_a_large_file();
    small.daemon.sleeper("holder", &["--network", "none"]);
    small.run(&[
        "create",
        "--name",
        "spare",
        "--network",
        "none",
        "busybox",
        "sleep",
        "1000",
    ]);
    let make = "dd if=/dev/zero of=/made bs=1M count=6 2>/dev/null";
    small.run(&[
        "run",
        "--name",
        "source",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        make,
    ]);
    let server = &small.daemon.server;
    let kind = [("Content-Type", "application/x-tar")];
    let pull = format!("/images/create?fromImage={}/large&tag=1", registry.address);
    let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}});
    let verbs: [(&str, &dyn Fn() -> harness::http::Reply); 7] = [
        ("pull", &|| server.call("POST", &pull, None)),
        ("load", &|| server.send("POST", "/images/load?quiet=1", &kind, &archive)),
        ("commit", &|| {
            server.call("POST", "/commit?container=source&repo=made&tag=1", None)
        }),
        ("cp", &|| {
            server.send("PUT", "/containers/holder/archive?path=/", &kind, &tar)
        }),
        ("create", &|| server.post("/containers/create?name=new", &body)),
        ("start", &|| server.call("POST", "/containers/spare/start", None)),
        ("volume import", &|| {
            server.send("POST", "/volumes/filled/import", &kind, &tar)
        }),
    ];
    let before = small.objects();
    let ballast = small.fill();
    for (verb, run) in &verbs {
        let reply = run();
        let text = reply.text();
        let told = failure(reply.status, &text).unwrap_or_else(|| panic!("{verb} fitted on a full disk: {text}"));
        let words = told.to_lowercase();
        assert!(words.contains("no space left on device"), "{verb}: {told}");
        // What and where, not the error's number alone.
        assert!(
            words.contains("cannot "),
            "{verb} does not say what did not fit: {told}"
        );
        server.get("/_ping").expect(200);
        assert_eq!(small.objects(), before, "{verb} left something");
        assert_eq!(
            small.daemon.inspect("spare")["State"]["Status"],
            "created",
            "after {verb}"
        );
    }
    // A program in a container runs on without room, and is told of its own writes by the kernel.
    assert_eq!(small.run(&["exec", "holder", "echo", "there"]), "there");
    let told = small
        .daemon
        .docker(&["exec", "holder", "sh", "-c", "echo text > /file"]);
    assert!(told.code != 0 && told.err.contains("No space left"), "{}", told.err);
    drop(ballast);
    small.run(&["exec", "holder", "rm", "-f", "/file", "/large"]);
    small.is_whole("the full disk");
    for (verb, run) in &verbs {
        let reply = run();
        let text = reply.text();
        assert!(failure(reply.status, &text).is_none(), "{verb} with room: {text}");
    }
    assert_eq!(
        small.run(&["exec", "holder", "wc", "-c", "/large"]),
        format!("{LARGE} /large")
    );
    small.is_whole("the second time");
    small.finish();
}

fn what_is_there_can_be_used_and_removed(_: &Nothing) {
    let small = Small::ext4(64);
    small.daemon.load(&Image::ubuntu(), "extra:1");
    small.daemon.sleeper("runner", &["-v", "kept:/data"]);
    let ended = small
        .daemon
        .docker(&["run", "--name", "ended", "busybox", "sh", "-c", "echo said; exit 3"]);
    assert_eq!(ended.code, 3);
    small.run(&["volume", "create", "free"]);
    let ballast = small.fill();
    // Not only the disk: until the database takes no further record either.
    let mut names = Vec::new();
    let refused = (0..5_000).find_map(|number| {
        let name = format!("more{number}");
        let reply = small.daemon.server.call(
            "POST",
            "/volumes/create",
            Some(&json!({"Name": name, "Labels": {"large": "x".repeat(20_000)}})),
        );
        if reply.status == 201 {
            names.push(name);
            return None;
        }
        Some(reply.message())
    });
    let told = refused.expect("a full disk took 5,000 volumes").to_lowercase();
    assert!(told.contains("no space left on device"), "{told}");
    assert!(small.run(&["ps", "-a"]).contains("runner"));
    assert_eq!(small.run(&["logs", "ended"]), "said");
    assert_eq!(small.daemon.inspect("ended")["State"]["ExitCode"], 3);
    assert_eq!(small.run(&["exec", "runner", "echo", "there"]), "there");
    small.run(&["stop", "-t", "0", "runner"]);
    assert_eq!(small.daemon.inspect("runner")["State"]["ExitCode"], 137);
    // A daemon that starts on the full disk knows all of it.
    small.daemon.kill9();
    small.daemon.launch();
    assert_eq!(small.daemon.inspect("runner")["State"]["ExitCode"], 137);
    small.run(&["rm", "runner", "ended"]);
    small.run(&["rmi", "extra:1"]);
    for name in names.iter().map(String::as_str).chain(["free", "kept"]) {
        small.run(&["volume", "rm", name]);
    }
    drop(ballast);
    small.is_whole("removals on a full disk");
    assert_eq!(small.objects().len(), 1, "{:?}", small.objects());
    assert_eq!(
        small.run(&["run", "--rm", "-v", "kept:/data", "busybox", "echo", "again"]),
        "again"
    );
    small.run(&["volume", "rm", "kept"]);
    small.finish();
}

fn exits_on_a_full_disk_are_not_lost(_: &Nothing) {
    let small = Small::ext4(64);
    let control = harness::tools::Folder::new("exits");
    let mount = format!("{}:/control", control.path().display());
    for code in ["41", "42"] {
        let wait = format!("until [ -e /control/{code} ]; do sleep 0.02; done; exit {code}");
        small.run(&[
            "run",
            "-d",
            "--name",
            code,
            "--network",
            "none",
            "-v",
            &mount,
            "busybox",
            "sh",
            "-c",
            &wait,
        ]);
    }
    let ballast = small.fill();
    // One while the daemon looks, one while there is none.
    std::fs::write(control.at("41"), "").unwrap();
    assert_eq!(small.run(&["wait", "41"]), "41");
    small.daemon.kill9();
    std::fs::write(control.at("42"), "").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    small.daemon.launch();
    for code in ["41", "42"] {
        eventually(&format!("the end of {code} is known"), 10, || {
            small.daemon.inspect(code)["State"]["Status"] == "exited"
        });
        assert_eq!(
            small.daemon.inspect(code)["State"]["ExitCode"],
            code.parse::<i64>().unwrap()
        );
    }
    drop(ballast);
    small.daemon.kill9();
    small.daemon.launch();
    for code in ["41", "42"] {
        assert_eq!(
            small.daemon.inspect(code)["State"]["ExitCode"],
            code.parse::<i64>().unwrap()
        );
    }
    small.finish();
}

fn a_disk_without_inodes_is_a_full_disk(_: &Nothing) {
    let small = Small::few_inodes(3_000);
    small.daemon.sleeper("runner", &["--network", "none"]);
    let before = small.objects();
    let folder = small.root.join("ballast");
    std::fs::create_dir(&folder).unwrap();
    let count = (0..).find(|number| File::create(folder.join(number.to_string())).is_err());
    assert!(
        count.is_some_and(|count| count > 100),
        "the disk had no inodes to begin with"
    );
    let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}});
    let refused = small.daemon.server.post("/containers/create?name=new", &body);
    let told = refused.message().to_lowercase();
    assert!(
        refused.status == 500 && told.contains("no space left on device"),
        "{told}"
    );
    let archive = Image::ubuntu().docker_archive("loaded:1");
    let kind = [("Content-Type", "application/x-tar")];
    let text = small
        .daemon
        .server
        .send("POST", "/images/load?quiet=1", &kind, &archive)
        .text();
    assert!(text.to_lowercase().contains("no space left on device"), "{text}");
    assert_eq!(small.objects(), before);
    small.run(&["stop", "-t", "0", "runner"]);
    small.run(&["rm", "runner"]);
    std::fs::remove_dir_all(&folder).unwrap();
    small.is_whole("a disk without inodes");
    small
        .daemon
        .server
        .post("/containers/create?name=new", &body)
        .expect(201);
    small.finish();
}
