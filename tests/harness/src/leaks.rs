//! Where a test daemon leaves things, what of it is still there, and how to remove it.
//!
//! Each daemon has a tag of six letters that is part of every name it gives: folders, bridge, nft table, cgroup
//! parent. So whatever carries the tag is its own, and nothing else is ever touched.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::kernel::{Process, cgroups_with, own_mounts, processes};
use crate::tools::scratch;

/// The names of one test daemon.
#[derive(Debug, Clone)]
pub struct Places {
    pub tag: String,
    pub data: PathBuf,
    /// Short, because socket paths end at 107 bytes.
    pub exec: PathBuf,
    pub bridge: String,
    pub table: String,
    pub cgroup: String,
}

impl Places {
    /// Waits until what was removed is deleted and nothing is in the making: a look before that is no look at a store at rest.
    pub fn rest(&self) {
        crate::tools::eventually("the trash is empty", 10, || {
            ["trash", "tmp"]
                .iter()
                .filter_map(|part| std::fs::read_dir(self.data.join("root").join(part)).ok())
                .all(|mut entries| entries.next().is_none())
        });
    }

    pub fn new(tag: &str) -> Places {
        Places {
            tag: tag.to_owned(),
            data: scratch().join(tag),
            exec: PathBuf::from("/run/ietest").join(tag),
            bridge: format!("ie{tag}"),
            table: format!("ie{tag}"),
            cgroup: format!("/ie{tag}"),
        }
    }

    fn record_path(&self) -> PathBuf {
        scratch().join("daemons").join(&self.tag)
    }

    /// Notes the daemon for the reaper, with the program that answers for it.
    pub fn record(&self) {
        let path = self.record_path();
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder of daemons");
        let owner = std::process::id();
        std::fs::write(
            path,
            json!({"owner": owner, "started": start_time(owner as i32)}).to_string(),
        )
        .expect("a record");
    }

    /// What removed containers left although the daemon still runs.
    pub fn left_of_containers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for folder in cgroups_with(&self.cgroup[1..]) {
            if !folder.ends_with(&self.cgroup[1..]) {
                left.push(format!("cgroup {}", folder.display()));
            }
        }
        for mount in own_mounts() {
            if mount.target.contains(&self.tag) {
                left.push(format!("mount {} on {}", mount.kind, mount.target));
            }
        }
        for element in nft_elements(&self.table) {
            left.push(format!("nft element {element}"));
        }
        for folder in ["containers", "snapshots", "trash"] {
            for entry in std::fs::read_dir(self.data.join("root").join(folder))
                .into_iter()
                .flatten()
                .flatten()
            {
                left.push(format!("folder {}", entry.path().display()));
            }
        }
        left
    }

    /// What is left although nothing runs any more. The daemon's own fixtures are no leak: its data root, its bridge
    /// and nft table, which running containers would need, and the empty cgroup that containers go below. As Docker
    /// does, it keeps them; `reap` removes them.
    pub fn left_of_daemon(&self) -> Vec<String> {
        let mut left = self.left_of_containers();
        for process in self.processes() {
            left.push(format!("process {} {:?}", process.0, command_name(process)));
        }
        for link in self.links() {
            if link != self.bridge {
                left.push(format!("link {link}"));
            }
        }
        left
    }

    /// Processes that were started below this daemon: by the tag in their command line, environment or cgroup, or in
    /// the path of a socket that they listen on, for a shim has neither arguments nor an environment.
    pub fn processes(&self) -> Vec<Process> {
        let own = std::process::id() as i32;
        let sockets = self.sockets();
        let has_tag = |process: &Process| {
            let contains = |name: &str| {
                let bytes = std::fs::read(format!("/proc/{}/{name}", process.0)).unwrap_or_default();
                bytes
                    .windows(self.tag.len())
                    .any(|window| window == self.tag.as_bytes())
            };
            let listens = || {
                let open = std::fs::read_dir(format!("/proc/{}/fd", process.0))
                    .into_iter()
                    .flatten()
                    .flatten();
                !sockets.is_empty()
                    && open
                        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
                        .any(|link| sockets.contains(&link))
            };
            process.is_alive() && (contains("cgroup") || contains("cmdline") || contains("environ") || listens())
        };
        processes()
            .into_iter()
            .filter(|process| process.0 != own && has_tag(process))
            .collect()
    }

    /// What the open sockets below our folders look like in `/proc/PID/fd`.
    fn sockets(&self) -> Vec<PathBuf> {
        let table = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
        let ours = table.lines().filter(|line| line.contains(&self.tag));
        ours.filter_map(|line| Some(format!("socket:[{}]", line.split_whitespace().nth(6)?).into()))
            .collect()
    }

    /// Names of our bridge and of the links on it.
    pub fn links(&self) -> Vec<String> {
        let out = Command::new("ip").args(["-j", "link"]).output();
        let links: Value = out
            .ok()
            .and_then(|out| serde_json::from_slice(&out.stdout).ok())
            .unwrap_or_default();
        let ours = |link: &&Value| link["ifname"] == self.bridge.as_str() || link["master"] == self.bridge.as_str();
        let links = links.as_array().cloned().unwrap_or_default();
        links
            .iter()
            .filter(ours)
            .filter_map(|link| Some(link["ifname"].as_str()?.to_owned()))
            .collect()
    }

    /// Removes everything that carries the tag. Errors are ignored: what stays is found by the next check.
    pub fn reap(&self) {
        self.power_off(None);
        let _ = std::fs::remove_dir_all(&self.exec);
        let _ = std::fs::remove_dir_all(&self.data);
        let _ = std::fs::remove_file(self.record_path());
    }

    /// Takes away what no machine has after a reboot: all but files, and mounts below `spared`.
    pub fn power_off(&self, spared: Option<&Path>) {
        for _ in 0..50 {
            let left = self.processes();
            for process in &left {
                let _ = kill(Pid::from_raw(process.0), Signal::SIGKILL);
            }
            if left.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        for mount in own_mounts()
            .into_iter()
            .rev()
            .filter(|mount| mount.target.contains(&self.tag))
            .filter(|mount| spared.is_none_or(|spared| !Path::new(&mount.target).starts_with(spared)))
        {
            let _ = nix::mount::umount2(mount.target.as_str(), nix::mount::MntFlags::MNT_DETACH);
        }
        // Deepest first, as they were collected; a group empties some time after its last process.
        for _ in 0..50 {
            let folders = cgroups_with(&self.cgroup[1..]);
            if folders.is_empty() {
                break;
            }
            for folder in folders {
                let _ = std::fs::write(folder.join("freezer.state"), "THAWED");
                let _ = std::fs::remove_dir(folder);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        if self.links().contains(&self.bridge) {
            let _ = Command::new("ip").args(["link", "delete", &self.bridge]).output();
        }
        for family in ["inet", "ip", "ip6", "bridge"] {
            let _ = Command::new("nft")
                .args(["delete", "table", family, &self.table])
                .output();
        }
    }
}

/// Removes what the daemons of dead test programs left; returns their tags.
pub fn reap_orphans() -> Vec<String> {
    let mut reaped = Vec::new();
    for entry in std::fs::read_dir(scratch().join("daemons"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let record: Value = std::fs::read(entry.path())
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let owner = record["owner"].as_i64().unwrap_or(0) as i32;
        let lives = Process(owner).is_alive() && start_time(owner) == record["started"].as_str().unwrap_or_default();
        if let (false, Some(tag)) = (lives, entry.file_name().to_str()) {
            Places::new(tag).reap();
            reaped.push(tag.to_owned());
        }
    }
    reaped
}

/// When a process started, in the kernel's ticks: tells a process from a later one with its number.
fn start_time(pid: i32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    after_name.split(' ').nth(19).unwrap_or_default().to_owned()
}

fn command_name(process: Process) -> String {
    std::fs::read_to_string(format!("/proc/{}/comm", process.0))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn nft_json(arguments: &[&str]) -> Vec<Value> {
    let out = Command::new("nft").arg("-j").args(arguments).output();
    let parsed: Value = out
        .ok()
        .and_then(|out| serde_json::from_slice(&out.stdout).ok())
        .unwrap_or_default();
    parsed["nftables"].as_array().cloned().unwrap_or_default()
}

/// The elements of the maps and sets of a table that stand for published ports: all but those of the pool of
/// warm endpoints, which has none.
pub fn nft_elements(table: &str) -> Vec<String> {
    let mut elements = Vec::new();
    for entry in nft_json(&["list", "ruleset"]) {
        for kind in ["map", "set"] {
            let object = &entry[kind];
            if object["table"] == table {
                for element in object["elem"].as_array().into_iter().flatten() {
                    elements.push(format!("{} {element}", object["name"].as_str().unwrap_or_default()));
                }
            }
        }
    }
    elements
}

/// Whether a folder exists and has something in it.
pub fn is_filled(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}
