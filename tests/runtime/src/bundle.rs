//! A bundle, and the runtime's commands on the container made of it.
//!
//! ```text
//! FOLDER/            removed when the value is dropped, also by a test that fails
//!   config.json      written before every create and run
//!   rootfs/          busybox, the probe, /etc
//!   host/            stands for the host: nothing in it is the container's
//!   volume/          what tests bind into containers
//!   N.out, N.err     output of the Nth call
//! ```

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use harness::Output;
use harness::kernel::{Process, cgroups_with, own_mounts};
use harness::tools::{eventually, patience};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::config::Config;
use crate::console::ConsoleSocket;
use crate::invoke::Invocation;
use crate::world::{World, global_flags};

/// What the host keeps to itself in [`Bundle::secret`].
pub const SECRET: &str = "only-the-host-may-read-this";

/// A bundle and its container. Dereferences to its configuration.
pub struct Bundle {
    pub id: String,
    pub runtime: PathBuf,
    pub config: Config,
    folder: PathBuf,
    state_root: PathBuf,
    sockets: PathBuf,
    calls: Cell<usize>,
    /// The call whose files have the container's output.
    container_call: Cell<usize>,
}

impl Deref for Bundle {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.config
    }
}

impl DerefMut for Bundle {
    fn deref_mut(&mut self) -> &mut Config {
        &mut self.config
    }
}

impl Bundle {
    pub fn new(world: &World, number: usize) -> Bundle {
        // Of one length, so that no id is a part of another one; with what `reap` looks for in the names of groups.
        let id = format!("ie{}-{number:04}", world.tag());
        let folder = world.folder().join(&id);
        crate::rootfs::make(&folder.join("rootfs")).expect("a rootfs");
        for name in ["host/victim", "volume"] {
            std::fs::create_dir_all(folder.join(name)).expect("the bundle's folders");
        }
        std::fs::write(folder.join("host/secret"), SECRET).expect("the host's secret");
        Bundle {
            config: Config::docker(&id, world.cgroup()),
            runtime: world.runtime.clone(),
            state_root: world.state_root(),
            sockets: world.short(&format!("s{number}")),
            id,
            folder,
            calls: Cell::new(0),
            container_call: Cell::new(0),
        }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path of the container, as the host sees it before there is a container.
    pub fn rootfs(&self, path: &str) -> PathBuf {
        self.folder.join("rootfs").join(path.trim_start_matches('/'))
    }

    /// A file that only the host may read; it has [`SECRET`] in it.
    pub fn secret(&self) -> String {
        self.host("secret")
    }

    /// A folder of the host in which nothing may appear.
    pub fn victim(&self) -> String {
        self.host("victim")
    }

    /// A path of the host that is not the container's.
    pub fn host(&self, name: &str) -> String {
        self.folder
            .join("host")
            .join(name)
            .to_str()
            .expect("an UTF-8 path")
            .to_owned()
    }

    pub fn volume(&self, name: &str) -> PathBuf {
        self.folder.join("volume").join(name)
    }

    /// The folder that the runtime keeps states in.
    pub fn state_root(&self) -> &Path {
        &self.state_root
    }

    /// Puts an executable file into the rootfs.
    pub fn put(&self, path: &str, text: &str) {
        let path = self.rootfs(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder in the rootfs");
        std::fs::write(&path, text).expect("a file in the rootfs");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("mode 755");
    }

    /// Puts a symlink into the rootfs, in the place of whatever is there.
    pub fn link(&self, target: &str, path: &str) {
        let path = self.rootfs(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder in the rootfs");
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_dir(&path);
        symlink(target, path).expect("a symlink in the rootfs");
    }

    /// Runs a private copy of the runtime's program, for attacks that would change it; the folder that it lies in.
    pub fn with_own_runtime(&mut self) -> PathBuf {
        let folder = self.folder.join("runtime-copy");
        std::fs::create_dir_all(&folder).expect("a folder for the runtime");
        let beside = self.runtime.parent().expect("a program lies in a folder");
        let name = self.runtime.file_name().expect("a program has a name").to_owned();
        // Ours may want its shim beside it.
        for name in [name.as_os_str(), "iechor-shim".as_ref()] {
            let source = beside.join(name);
            if source.is_file() {
                std::fs::copy(source, folder.join(name)).expect("a copy of the runtime");
            }
        }
        self.runtime = folder.join(name);
        folder
    }

    pub fn save(&self) {
        std::fs::write(self.folder.join("config.json"), self.config.0.to_string()).expect("config.json");
    }

    fn outputs(&self, call: usize) -> PathBuf {
        self.folder.join(format!("{call}.out"))
    }

    /// A call of the runtime: `--root` and these arguments.
    pub fn call(&self, arguments: &[&str]) -> Invocation {
        let root = self.state_root.to_str().expect("an UTF-8 path");
        self.program(&self.runtime, &[&["--root", root], global_flags(), arguments].concat())
    }

    /// A call of the runtime by a shell that first does `before`, such as opening descriptors.
    pub fn call_after(&self, before: &str, arguments: &[&str]) -> Invocation {
        let root = self.state_root.to_str().expect("an UTF-8 path");
        let runtime = self.runtime.to_str().expect("an UTF-8 path");
        let line = format!("{before}\nexec \"$@\"");
        let words = [
            &["-c", &line, "bash", runtime, "--root", root],
            global_flags(),
            arguments,
        ]
        .concat();
        self.program(Path::new("bash"), &words)
    }

    /// A call of another program whose output is kept as the runtime's is.
    pub fn program(&self, program: &Path, arguments: &[&str]) -> Invocation {
        let call = self.calls.get() + 1;
        self.calls.set(call);
        Invocation::new(program, arguments, &self.outputs(call))
    }

    fn bundle_arguments<'a>(&'a self, command: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
        let folder = self.folder.to_str().expect("an UTF-8 path");
        let mut arguments = vec![command, "--bundle", folder];
        arguments.extend(flags);
        arguments.push(&self.id);
        arguments
    }

    /// `run` that is being put together.
    pub fn run_call(&self, flags: &[&str]) -> Invocation {
        self.save();
        self.container_call.set(self.calls.get() + 1);
        self.call(&self.bundle_arguments("run", flags))
    }

    /// As [`Bundle::run_call`], by a shell that first does `before`.
    pub fn run_call_after(&self, before: &str, flags: &[&str]) -> Invocation {
        self.save();
        self.container_call.set(self.calls.get() + 1);
        self.call_after(before, &self.bundle_arguments("run", flags))
    }

    /// Runs the container to its end.
    #[track_caller]
    pub fn run(&self) -> Output {
        self.run_call(&[]).output()
    }

    #[track_caller]
    pub fn create(&self) -> Output {
        self.create_with(&[])
    }

    #[track_caller]
    pub fn create_with(&self, flags: &[&str]) -> Output {
        self.save();
        self.container_call.set(self.calls.get() + 1);
        self.call(&self.bundle_arguments("create", flags)).output()
    }

    #[track_caller]
    pub fn start(&self) -> Output {
        self.call(&["start", &self.id]).output()
    }

    /// Creates and starts the container, which goes on in the background.
    #[track_caller]
    pub fn launch(&self) -> Process {
        self.create().ok();
        let process = self.init();
        self.start().ok();
        process
    }

    /// A container that sleeps.
    #[track_caller]
    pub fn sleeper(&mut self) -> Process {
        self.config.args(&["sleep", "1000"]);
        let process = self.launch();
        // `start` may return before the exec.
        eventually("the container sleeps", 5, || {
            process.command_line().first().is_some_and(|word| word == "sleep")
        });
        process
    }

    #[track_caller]
    pub fn exec(&self, words: &[&str]) -> Output {
        self.exec_with(&[], words)
    }

    /// A shell line in the running container.
    #[track_caller]
    pub fn inside(&self, line: &str) -> Output {
        self.exec(&["sh", "-c", line])
    }

    #[track_caller]
    pub fn exec_with(&self, flags: &[&str], words: &[&str]) -> Output {
        self.exec_call(flags, words).output()
    }

    pub fn exec_call(&self, flags: &[&str], words: &[&str]) -> Invocation {
        self.call(&[&["exec"], flags, &[&self.id], words].concat())
    }

    #[track_caller]
    pub fn kill(&self, signal: &str) -> Output {
        self.call(&["kill", &self.id, signal]).output()
    }

    #[track_caller]
    pub fn delete(&self, flags: &[&str]) -> Output {
        self.call(&[&["delete"], flags, &[&self.id]].concat()).output()
    }

    /// What `state` says.
    #[track_caller]
    pub fn state(&self) -> Value {
        let text = self.call(&["state", &self.id]).quiet().output().ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("state printed {text:?}: {error}"))
    }

    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().expect("a status").to_owned()
    }

    /// The container's process 1, as the host sees it.
    #[track_caller]
    pub fn init(&self) -> Process {
        let state = self.state();
        Process(state["pid"].as_i64().unwrap_or_else(|| panic!("no pid in {state}")) as i32)
    }

    #[track_caller]
    pub fn wait_for(&self, status: &str) {
        eventually(&format!("the container is {status}"), 10, || self.status() == status);
    }

    /// What the container has written so far.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.outputs(self.container_call.get())).unwrap_or_default()
    }

    /// Waits for a line of the container's output.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        let end = Instant::now() + patience(10);
        while !self.printed().contains(text) {
            assert!(
                Instant::now() < end,
                "the container never wrote {text:?} but {:?}",
                self.printed()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn console_socket(&self) -> ConsoleSocket {
        let _ = std::fs::remove_file(&self.sockets);
        ConsoleSocket::listen(&self.sockets)
    }

    /// The container's group in a hierarchy that holds `controller`, on the host.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        cgroups_with(&self.id)
    }

    /// Fails if anything has come into the host's folder, onto its mounts, or out of its secret.
    #[track_caller]
    pub fn host_is_untouched(&self) {
        let inside: Vec<_> = std::fs::read_dir(self.victim())
            .expect("the victim's folder")
            .flatten()
            .map(|entry| entry.path())
            .collect();
        assert!(inside.is_empty(), "in the host's folder is now {inside:?}");
        let text = std::fs::read_to_string(self.secret()).expect("the secret");
        assert!(text == SECRET, "the host's file was changed to {text:?}");
        let folder = self.folder.join("host");
        let mounts = own_mounts();
        let over = mounts
            .iter()
            .find(|mount| Path::new(&mount.target).starts_with(&folder));
        assert!(over.is_none(), "mounted on the host: {over:?}");
    }

    fn kill_all(&self) {
        for _ in 0..100 {
            let mut found = false;
            for group in self.cgroups() {
                let _ = std::fs::write(group.join("freezer.state"), "THAWED");
                let _ = std::fs::write(group.join("cgroup.freeze"), "0");
                for line in std::fs::read_to_string(group.join("cgroup.procs"))
                    .unwrap_or_default()
                    .lines()
                {
                    let pid = line.parse().unwrap_or(0);
                    if pid > 0 {
                        found = true;
                        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                    }
                }
            }
            if !found {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let root = self.state_root.as_os_str();
        let states = std::fs::read_dir(&self.state_root).into_iter().flatten().flatten();
        if states
            .into_iter()
            .any(|entry| entry.file_name().to_string_lossy().contains(&self.id))
        {
            // A runtime that hangs must not hang the suite; what it leaves is found at the suite's end.
            let _ = Command::new("timeout")
                .args(["-s", "KILL", "10"])
                .arg(&self.runtime)
                .arg("--root")
                .arg(root)
                .args(global_flags())
                .args(["delete", "--force", &self.id])
                .output();
        }
        self.kill_all();
        // A test that failed has left what it has left; of one that passed, the suite wants to know.
        if std::thread::panicking() {
            for group in self.cgroups() {
                let _ = std::fs::remove_dir(group);
            }
        }
        for mount in own_mounts().into_iter().rev() {
            if mount.target.contains(&self.id) {
                let _ = umount2(mount.target.as_str(), MntFlags::MNT_DETACH);
            }
        }
        let _ = std::fs::remove_file(&self.sockets);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
