//! A running container, looked at from outside and by its own words.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use harness::kernel::{Mount, Process};
use nix::sys::statvfs::{FsFlags, statvfs};

pub struct Seen<'a> {
    pub process: Process,
    /// What the process has said.
    pub report: &'a str,
    /// What `start` and `create` were told to keep: the state as `state` prints it, if it was asked for.
    pub state: &'a dyn Fn() -> String,
}

impl Seen<'_> {
    /// The answer to a question.
    pub fn said(&self, question: &str) -> String {
        let line = self
            .report
            .lines()
            .find_map(|line| line.strip_prefix(question)?.strip_prefix(' '));
        line.unwrap_or("(nothing)").to_owned()
    }

    pub fn words(&self, key: &str) -> Vec<String> {
        self.process.status(key).split_whitespace().map(str::to_owned).collect()
    }

    /// A file of `/proc/PID`.
    pub fn proc(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.process.0);
        std::fs::read_to_string(&path).unwrap_or_else(|error| format!("({path}: {error})"))
    }

    /// The namespace's identity; `(shared)` when it is that of the tests.
    pub fn namespace(&self, kind: &str) -> String {
        let kind = proc_name(kind);
        let found = self.process.namespace(kind);
        if found == Process::own().namespace(kind) {
            "(shared)".to_owned()
        } else {
            found
        }
    }

    /// A path inside of its root. Only the last part of it may be a symlink, since the kernel would follow one for us.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.process.root(path)
    }

    /// `/proc/PID/stat`, counted as proc(5) does.
    pub fn stat(&self, number: usize) -> String {
        let text = self.proc("stat");
        let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        fields.get(number - 3).copied().unwrap_or_default().to_owned()
    }

    /// The mount on top at `target`; none where the container has no mount namespace of its own.
    pub fn mount(&self, target: &str) -> Option<Mount> {
        self.process.mount(target)
    }
}

/// What the kernel calls it in `/proc/PID/ns`.
pub fn proc_name(kind: &str) -> &str {
    match kind {
        "network" => "net",
        "mount" => "mnt",
        other => other,
    }
}

/// How the mount at a path of the host is mounted, in mountinfo's words.
pub fn flags_at(path: &Path) -> Result<BTreeSet<&'static str>, String> {
    let about = statvfs(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let words = [
        (FsFlags::ST_RDONLY, "ro"),
        (FsFlags::ST_NOSUID, "nosuid"),
        (FsFlags::ST_NODEV, "nodev"),
        (FsFlags::ST_NOEXEC, "noexec"),
        (FsFlags::ST_NOATIME, "noatime"),
        (FsFlags::ST_NODIRATIME, "nodiratime"),
        (FsFlags::ST_RELATIME, "relatime"),
    ];
    let set = words.into_iter().filter(|(flag, _)| about.flags().contains(*flag));
    Ok(set.map(|(_, word)| word).collect())
}
