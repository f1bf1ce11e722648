//! What the kernel says about a process: status, limits, mounts, namespaces, control groups.

use std::path::{Path, PathBuf};

/// A process as the host sees it.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub i32);

impl Process {
    fn read(self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.0);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn is_alive(self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
    }

    /// One line of `/proc/PID/status`: `CapEff`, `NoNewPrivs`, `Seccomp`, `Uid`, `Groups`, …
    #[track_caller]
    pub fn status(self, key: &str) -> String {
        let text = self.read("status");
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {key} in the status of {}", self.0))
            .trim()
            .to_owned()
    }

    /// A capability mask: `CapEff`, `CapBnd`, …
    pub fn capabilities(self, set: &str) -> u64 {
        u64::from_str_radix(&self.status(set), 16).expect("a mask in hex")
    }

    pub fn environment(self) -> Vec<String> {
        self.read("environ").split_terminator('\0').map(str::to_owned).collect()
    }

    pub fn command_line(self) -> Vec<String> {
        self.read("cmdline").split_terminator('\0').map(str::to_owned).collect()
    }

    pub fn oom_score_adj(self) -> i32 {
        self.read("oom_score_adj").trim().parse().expect("a number")
    }

    /// Soft and hard limit, by the name in `/proc/PID/limits`: "Max open files".
    pub fn limit(self, name: &str) -> (String, String) {
        let text = self.read("limits");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_else(|| panic!("no limit {name}"));
        let mut words = line.split_whitespace().map(str::to_owned);
        (words.next().expect("a soft limit"), words.next().expect("a hard limit"))
    }

    /// The namespace's identity: `net`, `pid`, `mnt`, `uts`, `ipc`, `cgroup`, `user`.
    pub fn namespace(self, kind: &str) -> String {
        let link = std::fs::read_link(format!("/proc/{}/ns/{kind}", self.0));
        link.unwrap_or_else(|error| panic!("namespace {kind} of {}: {error}", self.0))
            .to_string_lossy()
            .into_owned()
    }

    pub fn own() -> Process {
        Process(std::process::id() as i32)
    }

    /// A path inside of its root.
    pub fn root(self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.0))
    }

    pub fn cwd(self) -> String {
        let link = std::fs::read_link(format!("/proc/{}/cwd", self.0)).expect("the working directory");
        link.to_string_lossy().into_owned()
    }

    /// The mount on top at `target` in its namespace.
    pub fn mount(self, target: &str) -> Option<Mount> {
        let mut here: Vec<Mount> = self.mounts();
        here.retain(|mount| mount.target == target);
        // Not the last: since Linux 6.8 they come in the order in which they were made, not in which they were put there.
        let covered: Vec<u64> = here.iter().map(|mount| mount.parent).collect();
        here.into_iter().rfind(|mount| !covered.contains(&mount.id))
    }

    pub fn mounts(self) -> Vec<Mount> {
        mounts(&self.read("mountinfo"))
    }

    /// Its children, by the kernel's list.
    pub fn children(self) -> Vec<Process> {
        let text = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.0)).unwrap_or_default();
        text.split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .map(Process)
            .collect()
    }

    /// Its control group's folder for `controller`, on v1, v2 or the hybrid layout.
    pub fn cgroup(self, controller: &str) -> PathBuf {
        let text = self.read("cgroup");
        for line in text.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (names, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            if names.split(',').any(|name| name == controller) {
                return cgroup_mount(Some(controller)).join(path.trim_start_matches('/'));
            }
        }
        let unified = text
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .expect("a v2 group");
        cgroup_mount(None).join(unified.trim_start_matches('/'))
    }

    /// The value of a control file: the first of `names` (v1's and v2's) that exists.
    #[track_caller]
    pub fn control(self, controller: &str, names: &[&str]) -> String {
        let folder = self.cgroup(controller);
        let found = names
            .iter()
            .find_map(|name| std::fs::read_to_string(folder.join(name)).ok());
        found
            .unwrap_or_else(|| panic!("none of {names:?} in {}", folder.display()))
            .trim()
            .to_owned()
    }
}

/// One line of mountinfo.
#[derive(Debug, Clone)]
pub struct Mount {
    pub id: u64,
    /// The mount that this one is on; one at the same path, if they are stacked.
    pub parent: u64,
    pub root: String,
    pub target: String,
    pub options: String,
    pub optional: String,
    pub kind: String,
    pub source: String,
    pub data: String,
}

impl Mount {
    pub fn has(&self, option: &str) -> bool {
        self.options
            .split(',')
            .chain(self.data.split(','))
            .any(|word| word == option)
    }
}

fn mounts(text: &str) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| {
            let (head, tail) = line.split_once(" - ")?;
            let head: Vec<&str> = head.split(' ').collect();
            let tail: Vec<&str> = tail.split(' ').collect();
            Some(Mount {
                id: head.first()?.parse().ok()?,
                parent: head.get(1)?.parse().ok()?,
                root: (*head.get(3)?).to_owned(),
                target: (*head.get(4)?).to_owned(),
                options: (*head.get(5)?).to_owned(),
                optional: head.get(6..).unwrap_or_default().join(" "),
                kind: (*tail.first()?).to_owned(),
                source: (*tail.get(1)?).to_owned(),
                data: (*tail.get(2)?).to_owned(),
            })
        })
        .collect()
}

/// This process's mounts.
pub fn own_mounts() -> Vec<Mount> {
    Process::own().mounts()
}

/// Where a v1 controller (or the v2 hierarchy) is mounted.
pub fn cgroup_mount(controller: Option<&str>) -> PathBuf {
    let found = own_mounts().into_iter().find(|mount| match controller {
        Some(name) => mount.kind == "cgroup" && mount.data.split(',').any(|word| word == name),
        None => mount.kind == "cgroup2",
    });
    PathBuf::from(
        found
            .unwrap_or_else(|| panic!("cgroup controller {controller:?} is not mounted"))
            .target,
    )
}

/// Whether memory is controlled by the v2 hierarchy.
pub fn is_cgroup_v2() -> bool {
    !own_mounts()
        .iter()
        .any(|mount| mount.kind == "cgroup" && mount.has("memory"))
}

/// All cgroup folders, in any hierarchy, whose path has `part` in it.
pub fn cgroups_with(part: &str) -> Vec<PathBuf> {
    let roots = own_mounts()
        .into_iter()
        .filter(|mount| mount.kind == "cgroup" || mount.kind == "cgroup2");
    let mut found = Vec::new();
    for root in roots {
        collect(Path::new(&root.target), part, 0, &mut found);
    }
    found
}

fn collect(folder: &Path, part: &str, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && depth < 6 {
            let path = entry.path();
            collect(&path, part, depth + 1, found);
            if path.to_string_lossy().contains(part) {
                found.push(path);
            }
        }
    }
}

/// All process ids of the machine.
pub fn processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .map(Process)
        .collect()
}
