//! `kill -9` of the daemon at random moments, two hundred times and more, while clients create, start, stop,
//! remove, pull and run things.
//!
//! ```text
//! round:  clients work ─▶ kill -9 after 0…max ms ─▶ start ─▶ ready ─▶ compare
//!                                                                       │
//!     what was acknowledged  ◄──────────────────────────────────────────┤ each container whole or gone
//!     what the kernel holds  ◄──────────────────────────────────────────┘ cgroups, mounts, veths, nft, folders,
//!                                                                         processes: all have an owner
//! ```
//!
//! Two containers live through all rounds: one writes numbers, whose log must have no hole at the end; the other's
//! published port must answer after every start.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use harness::daemon::{Daemon, Options};
use harness::image::{Image, Layer, Packing};
use harness::registry::Registry;
use harness::tools::eventually;
use harness::{Test, tests};
use serde_json::{Value, json};

/// How many kills; `IECHOR_TEST_KILLS` for more.
const KILLS: usize = 200;
/// How many clients work at once.
const CLIENTS: usize = 3;

pub struct Nothing;

pub fn tests() -> Vec<Test<Nothing>> {
    tests![kill_nine_at_random_moments]
}

/// What a client knows of a container, by the answers that it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fact {
    /// The create was acknowledged, and nothing asked for after it.
    Created,
    /// The start was acknowledged.
    Started,
    /// The stop was acknowledged.
    Stopped,
    /// A request was on its way when the daemon died: either state is right.
    Unknown,
    /// The removal was acknowledged.
    Removed,
}

#[derive(Default)]
struct Ledger {
    containers: HashMap<String, Fact>,
    /// Containers that end by themselves with code 42 after saying "said".
    leavers: HashSet<String>,
    /// Pulls that were acknowledged, and images whose removal was.
    images: HashMap<String, bool>,
}

struct Round<'a> {
    daemon: &'a Daemon,
    ledger: &'a Mutex<Ledger>,
    registry: &'a Registry,
    number: usize,
}

impl Round<'_> {
    /// The status of an answer, or nothing if the daemon died over it.
    fn ask(&self, method: &str, target: &str, body: Option<&Value>) -> Option<u16> {
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let reply = self
            .daemon
            .server
            .try_send(method, target, &[("Content-Type", "application/json")], &bytes)
            .ok()?;
        // A stream that breaks off is no acknowledgement, even with a good status.
        (!reply.text().contains("errorDetail")).then_some(reply.status)
    }

    fn note(&self, name: &str, fact: Fact) {
        self.ledger.lock().unwrap().containers.insert(name.to_owned(), fact);
    }

    /// One client: whole lives of containers, until the daemon is gone.
    fn work(&self, client: usize) {
        for turn in 0.. {
            let name = format!("r{}c{client}t{turn}", self.number);
            let alive = match (turn + client + self.number) % 4 {
                0 => self.leaver(&name),
                1 => self.pull(&name),
                _ => self.life(&name),
            };
            if alive.is_none() {
                return;
            }
        }
    }

    fn life(&self, name: &str) -> Option<()> {
        let network = ["bridge", "none"][rand::random_range(0..2)];
        let mut body = json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": network}});
        if network == "bridge" && rand::random_bool(0.5) {
            body["ExposedPorts"] = json!({"80/tcp": {}});
            body["HostConfig"]["PortBindings"] = json!({"80/tcp": [{"HostPort": "0"}]});
        }
        self.note(name, Fact::Unknown);
        (self.ask("POST", &format!("/containers/create?name={name}"), Some(&body))? == 201).then_some(())?;
        self.note(name, Fact::Created);
        self.note(name, Fact::Unknown);
        (self.ask("POST", &format!("/containers/{name}/start"), None)? == 204).then_some(())?;
        self.note(name, Fact::Started);
        if rand::random_bool(0.3) {
            return Some(());
        }
        self.note(name, Fact::Unknown);
        (self.ask("POST", &format!("/containers/{name}/stop?t=0"), None)? == 204).then_some(())?;
        self.note(name, Fact::Stopped);
        if rand::random_bool(0.3) {
            return Some(());
        }
        self.note(name, Fact::Unknown);
        (self.ask("DELETE", &format!("/containers/{name}?force=1&v=1"), None)? == 204).then_some(())?;
        self.note(name, Fact::Removed);
        Some(())
    }

    /// A container whose end may fall into the time without a daemon.
    fn leaver(&self, name: &str) -> Option<()> {
        let line = format!("sleep 0.{:02}; echo said; exit 42", rand::random_range(0..30));
        let body = json!({"Image": "busybox", "Cmd": ["sh", "-c", line], "HostConfig": {"NetworkMode": "none"}});
        self.note(name, Fact::Unknown);
        (self.ask("POST", &format!("/containers/create?name={name}"), Some(&body))? == 201).then_some(())?;
        (self.ask("POST", &format!("/containers/{name}/start"), None)? == 204).then_some(())?;
        self.ledger.lock().unwrap().leavers.insert(name.to_owned());
        Some(())
    }

    fn pull(&self, name: &str) -> Option<()> {
        let number = rand::random_range(0..4);
        let image = format!("{}/pulled/{number}:1", self.registry.address);
        // Two clients may pull and remove the same image: then nothing is certain about it.
        let certain = self
            .ledger
            .lock()
            .unwrap()
            .images
            .insert(image.clone(), false)
            .is_none();
        let target = format!(
            "/images/create?fromImage={}/pulled/{number}&tag=1",
            self.registry.address
        );
        let pulled = self.ask("POST", &target, None)?;
        if pulled == 200 && certain && name.contains("c0") {
            self.ledger.lock().unwrap().images.insert(image.clone(), true);
        }
        if rand::random_bool(0.5) {
            self.ledger.lock().unwrap().images.insert(image.clone(), false);
            self.ask("DELETE", &format!("/images/{image}?force=1"), None)?;
        }
        Some(())
    }
}

fn kill_nine_at_random_moments(_: &Nothing) {
    if std::env::var_os("IECHOR_TEST_HOST").is_some() {
        harness::suite::skip("needs a daemon of its own to kill");
    }
    let kills = std::env::var("IECHOR_TEST_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(KILLS);
    let registry = Registry::start();
    for number in 0..4 {
        let layer = Layer::default()
            .file("what", 0o644, format!("{number}").as_bytes())
            .file("much", 0o644, &vec![number; 400_000]);
        registry.push(
            &format!("pulled/{number}"),
            "1",
            &Image::busybox().layer(layer),
            true,
            Packing::Gzip,
        );
    }
    let daemon = Daemon::start(Options::default());
    daemon.load(&Image::busybox(), "busybox:latest");
    let count = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done";
    daemon
        .docker(&[
            "run",
            "-d",
            "--name",
            "witness",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            count,
        ])
        .ok();
    let port = std::net::TcpListener::bind("0.0.0.0:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let serve = "while :; do echo served | nc -l -p 80 >/dev/null; done";
    daemon
        .docker(&[
            "run",
            "-d",
            "--name",
            "server",
            "-p",
            &format!("{port}:80"),
            "busybox",
            "sh",
            "-c",
            serve,
        ])
        .ok();
    let pids = [daemon.process("witness").0, daemon.process("server").0];
    let (mut slowest, mut checked) = (Duration::ZERO, 0);
    for number in 0..kills {
        let ledger = Mutex::new(Ledger::default());
        let round = Round {
            daemon: &daemon,
            ledger: &ledger,
            registry: &registry,
            number,
        };
        // Short rounds die in the first request, long ones in the middle of many lives.
        let delay = Duration::from_micros(rand::random_range(0..[5_000, 40_000, 150_000, 400_000][number % 4]));
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let round = &round;
                scope.spawn(move || round.work(client));
            }
            std::thread::sleep(delay);
            daemon.kill9();
        });
        harness::process::take_transcript();
        if number % 5 == 4 {
            // And again while it recovers from the first time.
            daemon.launch_and_kill9(Duration::from_micros(rand::random_range(0..120_000)));
        }
        slowest = slowest.max(daemon.launch());
        for (name, pid) in ["witness", "server"].iter().zip(pids) {
            assert_eq!(daemon.process(name).0, pid, "round {number}: {name} runs on");
        }
        checked += check_facts(&daemon, &ledger.into_inner().unwrap(), number);
        eventually(&format!("round {number}: the published port answers"), 5, || {
            answers(port)
        });
        check_owners(&daemon, number);
        if number % 10 == 9 {
            remove_all_but(&daemon, &["witness", "server"]);
            check_owners(&daemon, number);
        }
    }
    remove_all_but(&daemon, &["witness"]);
    daemon.docker(&["stop", "-t", "0", "witness"]).ok();
    let log = daemon.command(&["logs", "witness"]).output().ok();
    let numbers: Vec<usize> = log.lines().filter_map(|line| line.parse().ok()).collect();
    let hole = numbers.iter().enumerate().find(|(index, number)| **number != index + 1);
    assert!(
        hole.is_none(),
        "the witness's log has a hole near line {hole:?} of {}",
        numbers.len()
    );
    println!(
        "        {kills} kills, {checked} containers checked, slowest start {slowest:?}, {} lines of log without a hole",
        numbers.len()
    );
    daemon.finish();
}

fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut text = String::new();
    stream.read_to_string(&mut text).is_ok() && text.trim() == "served"
}

/// Compares what clients were told with what the daemon says now; returns how many containers were looked at.
fn check_facts(daemon: &Daemon, ledger: &Ledger, number: usize) -> usize {
    for (name, fact) in &ledger.containers {
        let reply = daemon
            .server
            .try_send("GET", &format!("/containers/{name}/json"), &[], &[])
            .expect("an answer");
        let gone = reply.status == 404;
        let context = || {
            format!(
                "round {number}: {name} was {fact:?}, and now: {} {}",
                reply.status,
                reply.text()
            )
        };
        match fact {
            Fact::Removed => assert!(gone, "{}", context()),
            Fact::Unknown if gone => continue,
            _ => assert_eq!(reply.status, 200, "{}", context()),
        }
        if gone {
            continue;
        }
        let state = reply.json()["State"].clone();
        let status = state["Status"].as_str().unwrap_or_default().to_owned();
        match fact {
            Fact::Created => assert_eq!(status, "created", "{}", context()),
            Fact::Started => assert_eq!(status, "running", "{}", context()),
            Fact::Stopped => assert_eq!(status, "exited", "{}", context()),
            _ => assert!(
                matches!(status.as_str(), "created" | "running" | "exited"),
                "{}",
                context()
            ),
        }
        if status == "running" {
            let process = harness::kernel::Process(state["Pid"].as_i64().unwrap_or(0) as i32);
            assert!(process.0 > 0, "{}", context());
            if !process.is_alive() {
                // One that ends by itself may have done so since; its end is known in a moment.
                ended(daemon, name, number);
            }
        }
    }
    for name in &ledger.leavers {
        let shown = ended(daemon, name, number);
        assert_eq!(
            shown["State"]["ExitCode"], 42,
            "round {number}: {name}: {}",
            shown["State"]
        );
        let log = daemon
            .server
            .get(&format!("/containers/{name}/logs?stdout=1"))
            .expect(200);
        let frames = harness::http::frames(&log.body);
        assert_eq!(
            frames.iter().flat_map(|frame| frame.1.clone()).collect::<Vec<u8>>(),
            b"said\n",
            "round {number}: the log of {name}"
        );
    }
    for (image, pulled) in &ledger.images {
        let status = daemon
            .server
            .try_send("GET", &format!("/images/{image}/json"), &[], &[])
            .expect("an answer")
            .status;
        assert!(matches!(status, 200 | 404), "round {number}: {image}: {status}");
        assert!(
            !pulled || status == 200,
            "round {number}: {image} was pulled and is gone"
        );
        if status == 200 && number.is_multiple_of(8) {
            // Whole: it runs, and its layers have what was pushed.
            let said = daemon
                .docker(&[
                    "run",
                    "--rm",
                    "--network",
                    "none",
                    image,
                    "sh",
                    "-c",
                    "cat /what; wc -c < /much",
                ])
                .ok();
            assert!(said.ends_with("400000"), "round {number}: {image}: {said}");
        }
    }
    harness::process::take_transcript();
    ledger.containers.len()
}

/// Waits for the end of a container; its description then. Panics with all there is to know if it does not come.
fn ended(daemon: &Daemon, name: &str, number: usize) -> Value {
    let end = Instant::now() + harness::tools::patience(10);
    loop {
        let shown = daemon.inspect(name);
        if shown["State"]["Status"] == "exited" {
            return shown;
        }
        if Instant::now() > end {
            let process = harness::kernel::Process(shown["State"]["Pid"].as_i64().unwrap_or(0) as i32);
            let life = if process.0 > 0 && process.is_alive() {
                "alive"
            } else {
                "dead"
            };
            let folder = daemon
                .places
                .data
                .join("root/containers")
                .join(shown["Id"].as_str().unwrap_or_default());
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let files: Vec<_> = entries.map(|entry| entry.file_name()).collect();
            let sockets = std::fs::read_dir(daemon.places.exec.join("shim"))
                .into_iter()
                .flatten()
                .flatten();
            let shim = sockets
                .map(|entry| entry.path())
                .find(|path| path.to_string_lossy().contains(shown["Id"].as_str().unwrap_or("-")));
            let shim = shim.map(|path| {
                format!(
                    "{}, connect: {:?}",
                    path.display(),
                    std::os::unix::net::UnixStream::connect(&path).err()
                )
            });
            panic!(
                "round {number}: the end of {name} is not known; its process is {life}, its shim {shim:?}, its folder has {files:?}: {}\n{}",
                shown["State"],
                daemon.log_tail()
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Everything that the kernel and the disk hold belongs to a container that the daemon knows.
fn check_owners(daemon: &Daemon, number: usize) {
    let end = Instant::now() + harness::tools::patience(5);
    loop {
        let ownerless = ownerless(daemon);
        if ownerless.is_empty() {
            return;
        }
        assert!(
            Instant::now() < end,
            "round {number}: without an owner:\n    {}",
            ownerless.join("\n    ")
        );
        std::thread::sleep(Duration::from_millis(30));
    }
}

fn ownerless(daemon: &Daemon) -> Vec<String> {
    let list = daemon
        .server
        .try_send("GET", "/containers/json?all=1", &[], &[])
        .expect("a list")
        .json();
    let containers = list.as_array().expect("a list");
    let known: HashSet<&str> = containers
        .iter()
        .filter_map(|container| container["Id"].as_str())
        .collect();
    let running: HashSet<&str> = containers
        .iter()
        .filter(|container| container["State"] == "running")
        .filter_map(|container| container["Id"].as_str())
        .collect();
    let places = &daemon.places;
    let mut found = Vec::new();
    for folder in harness::kernel::cgroups_with(&places.cgroup[1..]) {
        let path = folder.display().to_string();
        let below = path
            .split_once(&places.cgroup[1..])
            .map(|(_, rest)| rest.trim_matches('/'))
            .unwrap_or_default();
        if !below.is_empty() && !running.iter().any(|id| below.starts_with(id)) {
            found.push(format!("cgroup {path}"));
        }
    }
    for mount in harness::kernel::own_mounts() {
        if mount.target.contains(&places.tag) && !known.iter().any(|id| mount.target.contains(id)) {
            found.push(format!("mount {}", mount.target));
        }
    }
    let root = places.data.join("root");
    for part in ["containers", "rw", "snapshots", "trash"] {
        for entry in std::fs::read_dir(root.join(part)).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            if !known.contains(name.as_str()) {
                found.push(format!("folder {}", entry.path().display()));
            }
        }
    }
    for entry in std::fs::read_dir(places.exec.join("shim"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().into_string().unwrap_or_default();
        let id = name.split('.').next().unwrap_or_default();
        if id.len() == 64 && !running.contains(id) {
            found.push(format!("shim {name}"));
        }
    }
    // Each published port of a running container is in the maps at most a few times; a port of nobody is in none.
    let published: HashSet<String> = containers
        .iter()
        .filter(|container| container["State"] == "running")
        .flat_map(|container| container["Ports"].as_array().cloned().unwrap_or_default())
        .filter_map(|port| port["PublicPort"].as_u64())
        .map(|port| port.to_string())
        .collect();
    for element in harness::leaks::nft_elements(&places.table) {
        let numbers: Vec<&str> = element
            .split(|letter: char| !letter.is_ascii_digit())
            .filter(|word| !word.is_empty())
            .collect();
        if !numbers.iter().any(|number| published.contains(*number)) {
            found.push(format!("nft element {element}"));
        }
    }
    // The bridge, one link per running container on it, and the few that are kept warm.
    let links = places.links().len();
    if links > 1 + running.len() + WARM_AT_MOST {
        found.push(format!(
            "{links} links on the bridge for {} running containers",
            running.len()
        ));
    }
    found
}

/// Namespaces that the daemon keeps ready, and those of a killed daemon that the kernel is still taking down.
const WARM_AT_MOST: usize = 24;

fn remove_all_but(daemon: &Daemon, kept: &[&str]) {
    let list = daemon.server.get("/containers/json?all=1").expect(200).json();
    for container in list.as_array().expect("a list") {
        let name = container["Names"][0]
            .as_str()
            .unwrap_or_default()
            .trim_start_matches('/')
            .to_owned();
        if !kept.contains(&name.as_str()) {
            daemon
                .server
                .call("DELETE", &format!("/containers/{name}?force=1&v=1"), None)
                .expect(204);
        }
    }
    harness::process::take_transcript();
}
