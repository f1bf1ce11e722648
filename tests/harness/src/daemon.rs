//! A private `iechord`: nothing it makes collides with another daemon's, and nothing of it stays.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::http::Server;
use crate::image::Image;
use crate::kernel::Process;
use crate::leaks::Places;
use crate::process::{Background, Output, Run, note};
use crate::pty::Terminal;
use crate::registry::Registry;
use crate::tools::{binary, docker, eventually, patience, scratch, tag};

/// What a test wants of its daemon beyond the defaults.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The registry that names without one mean.
    pub default_registry: Option<String>,
    /// Further arguments of `iechord`.
    pub arguments: Vec<String>,
    /// A program with its arguments that becomes `iechord` in the end.
    pub wrapper: Vec<String>,
}

/// Which client `cli` runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cli {
    Docker,
    Iechor,
}

/// A running daemon; dropping it ends it and removes what it made, whatever state it is in.
pub struct Daemon {
    pub places: Places,
    pub server: Server,
    pub cli: Cli,
    host: String,
    child: Mutex<Option<Child>>,
    options: Options,
    /// The number of our subnet, held by a lock as long as we run.
    _subnet: Option<File>,
    subnet: usize,
}

impl Daemon {
    /// Starts `iechord` and waits until it answers.
    #[track_caller]
    pub fn start(options: Options) -> Daemon {
        let (number, lock) = reserve_subnet();
        let places = Places::new(&tag());
        places.record();
        let socket = places.exec.join("api.sock");
        let daemon = Daemon {
            host: format!("unix://{}", socket.display()),
            server: Server::Unix(socket),
            cli: Cli::Docker,
            places,
            child: Mutex::new(None),
            options,
            _subnet: Some(lock),
            subnet: number,
        };
        std::fs::create_dir_all(daemon.places.data.join("cli")).expect("the client's configuration folder");
        std::fs::create_dir_all(&daemon.places.exec).expect("the folder of the socket");
        daemon.launch();
        daemon
    }

    /// The engine that `IECHOR_TEST_HOST` names, to check the tests themselves against.
    pub fn foreign() -> Option<Daemon> {
        let host = std::env::var("IECHOR_TEST_HOST").ok()?;
        let socket = host
            .strip_prefix("unix://")
            .expect("IECHOR_TEST_HOST starts with unix://")
            .to_owned();
        let places = Places::new(&tag());
        std::fs::create_dir_all(places.data.join("cli")).expect("the client's configuration folder");
        Some(Daemon {
            places,
            server: Server::Unix(socket.into()),
            cli: Cli::Docker,
            host,
            child: Mutex::new(None),
            options: Options::default(),
            _subnet: None,
            subnet: 0,
        })
    }

    /// Whether this is another engine than ours.
    pub fn is_foreign(&self) -> bool {
        self._subnet.is_none()
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    /// The bridge's own address.
    pub fn gateway(&self) -> String {
        format!("10.199.{}.1", self.subnet * 2)
    }

    /// The arguments it is started with, but listening elsewhere.
    pub fn arguments_with_host(&self, host: &str) -> Vec<String> {
        let places = &self.places;
        let mut arguments: Vec<String> = [
            ("--host", host.to_owned()),
            ("--data-root", places.data.join("root").display().to_string()),
            ("--exec-root", places.exec.display().to_string()),
            ("--pidfile", places.exec.join("iechord.pid").display().to_string()),
            ("--bridge", places.bridge.clone()),
            ("--nft-table", places.table.clone()),
            ("--bip", format!("{}/23", self.gateway())),
            ("--cgroup-parent", places.cgroup.clone()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect();
        if let Some(registry) = &self.options.default_registry {
            arguments.extend(["--default-registry".to_owned(), registry.clone()]);
        }
        arguments.extend(self.options.arguments.iter().cloned());
        arguments
    }

    /// Starts the process again after `kill9` or `stop`; returns how long it took to answer.
    #[track_caller]
    pub fn launch(&self) -> Duration {
        self.launch_with(&[])
    }

    /// The same with further environment variables.
    #[track_caller]
    pub fn launch_with(&self, environment: &[(&str, &str)]) -> Duration {
        let begun = Instant::now();
        *self.child.lock().unwrap() = Some(self.spawn(environment));
        let end = Instant::now() + patience(20);
        loop {
            if self
                .server
                .try_send("GET", "/_ping", &[], &[])
                .is_ok_and(|reply| reply.status == 200)
            {
                return begun.elapsed();
            }
            let ended = self
                .child
                .lock()
                .unwrap()
                .as_mut()
                .and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "iechord ended with {ended:?}: {}", self.log_tail());
            assert!(Instant::now() < end, "iechord does not answer: {}", self.log_tail());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Starts it and kills it again after `delay`, in the middle of its recovery if that is short.
    pub fn launch_and_kill9(&self, delay: Duration) {
        let mut child = self.spawn(&[]);
        std::thread::sleep(delay);
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Starts it with an environment in which it dies by itself; returns the signal it died by, or 0.
    #[track_caller]
    pub fn launch_to_die(&self, environment: &[(&str, &str)]) -> i32 {
        *self.child.lock().unwrap() = Some(self.spawn(environment));
        self.death()
    }

    /// Waits until it has died by itself; returns the signal it died by, or 0.
    #[track_caller]
    pub fn death(&self) -> i32 {
        let mut child = self.child.lock().unwrap().take().expect("a running daemon");
        let end = Instant::now() + patience(20);
        loop {
            if let Some(status) = child.try_wait().expect("the daemon's state") {
                return std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0);
            }
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                panic!("iechord did not die: {}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn spawn(&self, environment: &[(&str, &str)]) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the daemon's log");
        // A test program that is killed takes its daemon with it; its containers are the reaper's.
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(&self.options.wrapper)
            .arg(binary("iechord"))
            .args(self.arguments_with_host(&self.host))
            .env("IECHOR_TEST_TAG", &self.places.tag)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn()
            .expect("iechord starts")
    }

    fn log_path(&self) -> PathBuf {
        self.places.data.join("iechord.log")
    }

    /// The end of what the daemon wrote.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    pub fn pid(&self) -> i32 {
        self.child.lock().unwrap().as_ref().expect("a running daemon").id() as i32
    }

    /// Ends it without warning.
    pub fn kill9(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to end; panics if it does not within its grace.
    #[track_caller]
    pub fn stop(&self) {
        let Some(mut child) = self.child.lock().unwrap().take() else {
            return;
        };
        let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
        let end = Instant::now() + patience(20);
        while child.try_wait().expect("the daemon's state").is_none() {
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                panic!("iechord did not end on SIGTERM: {}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn client(&self, program: &Path, arguments: &[&str]) -> Run {
        let config = self.places.data.join("cli");
        Run::new(program, arguments)
            .env("DOCKER_HOST", &self.host)
            .env("IECHOR_HOST", &self.host)
            .env("DOCKER_CONFIG", config.to_str().expect("an UTF-8 path"))
            .env("IECHOR_CONFIG", config.to_str().expect("an UTF-8 path"))
    }

    fn program(&self, cli: Cli) -> PathBuf {
        match cli {
            Cli::Docker => docker(),
            Cli::Iechor => binary("iechor"),
        }
    }

    /// The unmodified docker client.
    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> Output {
        self.client(&docker(), arguments).output()
    }

    /// Our own client.
    #[track_caller]
    pub fn iechor(&self, arguments: &[&str]) -> Output {
        self.client(&binary("iechor"), arguments).output()
    }

    /// The client that this suite is about.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output()
    }

    /// The same, for a command that needs input or more time.
    pub fn command(&self, arguments: &[&str]) -> Run {
        self.client(&self.program(self.cli), arguments)
    }

    fn with_host<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [&["-H", self.host.as_str()], arguments].concat()
    }

    /// A client on a terminal.
    #[track_caller]
    pub fn terminal(&self, arguments: &[&str], rows: u16, columns: u16) -> Terminal {
        Terminal::start(&self.program(self.cli), &self.with_host(arguments), rows, columns)
    }

    /// A client beside the test.
    #[track_caller]
    pub fn background(&self, arguments: &[&str]) -> Background {
        Background::start(&self.program(self.cli), &self.with_host(arguments))
    }

    /// Loads an image under a name, through the bare socket.
    #[track_caller]
    pub fn load(&self, image: &Image, name: &str) {
        let archive = image.docker_archive(name);
        let kind = [("Content-Type", "application/x-tar")];
        let reply = self
            .server
            .send("POST", "/images/load?quiet=1", &kind, &archive)
            .expect(200);
        assert!(!reply.text().contains("\"error"), "load {name}: {}", reply.text());
    }

    /// Makes the registry hold the image "ubuntu" under the names that a short name may mean.
    pub fn stock(registry: &Registry) {
        for repository in ["ubuntu", "library/ubuntu"] {
            registry.push(
                repository,
                "latest",
                &Image::ubuntu(),
                true,
                crate::image::Packing::Gzip,
            );
        }
    }

    #[track_caller]
    pub fn inspect(&self, container: &str) -> Value {
        self.server
            .get(&format!("/containers/{container}/json"))
            .expect(200)
            .json()
    }

    /// The container's first process.
    #[track_caller]
    pub fn process(&self, container: &str) -> Process {
        let state = self.inspect(container);
        let pid = state["State"]["Pid"].as_i64().unwrap_or(0);
        assert!(pid > 0, "{container} does not run: {}", state["State"]);
        Process(pid as i32)
    }

    /// Starts a container in the background with `arguments` before the image; returns its process.
    #[track_caller]
    pub fn sleeper(&self, name: &str, arguments: &[&str]) -> Process {
        let all = [&["run", "-d", "--name", name], arguments, &["busybox", "sleep", "1000"]].concat();
        self.run(&all).ok();
        self.process(name)
    }

    #[track_caller]
    pub fn remove(&self, container: &str) {
        self.server
            .call("DELETE", &format!("/containers/{container}?force=1&v=1"), None);
    }

    /// Removes every container and image, stops, and panics with the list of what is left.
    #[track_caller]
    pub fn finish(self) {
        if self.is_foreign() {
            return;
        }
        let list = self.server.get("/containers/json?all=1").expect(200).json();
        for container in list.as_array().expect("a list of containers") {
            let id = container["Id"].as_str().expect("an id");
            self.server
                .call("DELETE", &format!("/containers/{id}?force=1&v=1"), None)
                .expect(204);
        }
        let mut left = Vec::new();
        let places = &self.places;
        // Work off the path of an answer may still be on its way.
        let clean = |left: &mut Vec<String>| {
            *left = places.left_of_containers();
            left.is_empty()
        };
        let end = Instant::now() + patience(10);
        while !clean(&mut left) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(left.is_empty(), "left by removed containers:\n{}", left.join("\n"));
        self.stop();
        let end = Instant::now() + patience(10);
        while Instant::now() < end {
            left = places.left_of_daemon();
            if left.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(
            left.is_empty(),
            "left by a daemon that was stopped:\n{}",
            left.join("\n")
        );
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            note(format!("the daemon's log:\n{}", self.log_tail()));
        }
        self.kill9();
        if self.is_foreign() {
            let _ = std::fs::remove_dir_all(&self.places.data);
            return;
        }
        if std::env::var_os("IECHOR_TEST_KEEP").is_some() {
            return;
        }
        self.places.reap();
    }
}

/// One of 128 subnets, locked against other test programs.
fn reserve_subnet() -> (usize, File) {
    let folder = scratch().join("subnets");
    std::fs::create_dir_all(&folder).expect("the folder of subnet locks");
    let mut found = None;
    eventually("one of 128 test subnets is free", 60, || {
        found = (0..128).find_map(|number| {
            let file = File::create(folder.join(number.to_string())).ok()?;
            file.try_lock().ok()?;
            Some((number, file))
        });
        found.is_some()
    });
    found.expect("a subnet")
}
