//! What the tests of a suite share: the runtime under test, a tag in every name, and the clean-up by it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::leaks::Places;
use harness::tools::{binary, eventually, tag};

use crate::bundle::Bundle;

static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// The runtime that the command line names.
pub fn choose_runtime(path: PathBuf) {
    CHOSEN.set(path).expect("the runtime is chosen once");
}

fn runtime() -> PathBuf {
    let named = CHOSEN.get().cloned();
    let path = named.or_else(|| std::env::var_os("IECHOR_OCI_RUNTIME").map(PathBuf::from));
    let path = path.unwrap_or_else(|| binary("iechor-runtime"));
    path.canonicalize()
        .unwrap_or_else(|error| panic!("the runtime {}: {error}", path.display()))
}

static SYSTEMD: AtomicBool = AtomicBool::new(false);

/// From here on systemd makes the control groups of every container.
pub fn with_systemd() {
    SYSTEMD.store(true, Ordering::Relaxed);
}

/// Flags of the runtime before the verb.
pub fn global_flags() -> &'static [&'static str] {
    match SYSTEMD.load(Ordering::Relaxed) {
        true => &["--systemd-cgroup"],
        false => &[],
    }
}

/// The place of a container's group: below the suite's own, or a scope in the slice of its name.
pub fn cgroups_path(cgroup: &str, id: &str) -> String {
    match SYSTEMD.load(Ordering::Relaxed) {
        true => format!("system.slice:{}:{id}", cgroup.trim_start_matches('/').replace('/', "_")),
        false => format!("{cgroup}/{id}"),
    }
}

/// One test at a time per core: the tests keep the machine busy themselves, some of them with purpose.
pub fn jobs() -> usize {
    let asked = std::env::var("IECHOR_TEST_JOBS").ok();
    asked
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from))
}

/// Settings of the host that a container must not have changed when all is over.
const HOST_SETTINGS: &[&str] = &[
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/sysrq",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/net/ipv4/ip_forward",
    "/sys/kernel/uevent_helper",
];

fn host_settings() -> Vec<(&'static str, String)> {
    let read = |path| (path, std::fs::read_to_string(path).unwrap_or_default());
    HOST_SETTINGS.iter().copied().map(read).collect()
}

/// The surroundings of one suite.
pub struct World {
    pub runtime: PathBuf,
    places: Places,
    count: AtomicUsize,
    settings: Vec<(&'static str, String)>,
}

impl World {
    pub fn start() -> World {
        let places = Places::new(&tag());
        places.record();
        std::fs::create_dir_all(&places.data).expect("the folder of the bundles");
        std::fs::create_dir_all(places.exec.join("state")).expect("the folder of the states");
        World {
            runtime: runtime(),
            places,
            count: AtomicUsize::new(0),
            settings: host_settings(),
        }
    }

    /// A bundle with busybox in its rootfs and a name that nobody else uses.
    pub fn bundle(&self) -> Bundle {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        Bundle::new(self, number)
    }

    /// A short path (sockets allow 107 bytes) that carries the tag.
    pub fn short(&self, name: &str) -> PathBuf {
        self.places.exec.join(name)
    }

    /// The folder in which bundles lie.
    pub fn folder(&self) -> &Path {
        &self.places.data
    }

    /// The runtime's `--root`.
    pub fn state_root(&self) -> PathBuf {
        self.places.exec.join("state")
    }

    /// The control group below which all of this suite's are.
    pub fn cgroup(&self) -> &str {
        &self.places.cgroup
    }

    pub fn tag(&self) -> &str {
        &self.places.tag
    }

    /// Nothing may be left after the last test, neither states nor groups, mounts, processes, nor a changed host.
    pub fn finish(self) {
        let left = || {
            let mut left = self.places.left_of_containers();
            for entry in std::fs::read_dir(self.state_root()).into_iter().flatten().flatten() {
                // Runtimes keep things of their own there, too; containers have the tag in their names.
                if entry.file_name().to_string_lossy().contains(self.tag()) {
                    left.push(format!("state {}", entry.path().display()));
                }
            }
            for process in self.places.processes() {
                left.push(format!("process {}", process.0));
            }
            left
        };
        let mut found = left();
        for _ in 0..100 {
            if found.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            found = left();
        }
        self.places.reap();
        let changed: Vec<_> = host_settings()
            .into_iter()
            .zip(&self.settings)
            .filter(|(now, before)| now != *before)
            .map(|(now, before)| format!("{} was {:?} and is {:?}", now.0, before.1, now.1))
            .collect();
        // An attack that worked must not go on for whoever uses the machine next.
        for (path, text) in &self.settings {
            if std::fs::read_to_string(path).is_ok_and(|now| now != *text) {
                let _ = std::fs::write(path, text);
            }
        }
        assert!(changed.is_empty(), "the host was changed: {}", changed.join(", "));
        assert!(found.is_empty(), "left behind: {}", found.join(", "));
        eventually("the folder of the bundles is gone", 5, || !self.places.data.exists());
    }
}
