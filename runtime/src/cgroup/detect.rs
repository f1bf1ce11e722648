//! Which hierarchies are mounted where, and what they can do.

use super::{CgroupError, CgroupPath, Mode, Result, io_error};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Controllers whose v1 hierarchies a container joins only when it asks for what they hold.
const V1_ON_DEMAND: [&str; 4] = ["cpuset", "net_cls", "net_prio", "rdma"];
/// Controllers whose v1 hierarchies every container joins.
const V1_ALWAYS: [&str; 8] = [
    "cpu", "cpuacct", "memory", "devices", "freezer", "blkio", "pids", "hugetlb",
];
/// Controllers enabled for containers on v2; others (`rdma`, `misc`) only when one asks.
pub(super) const V2_WANTED: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];
/// What every v2 group has without a controller.
const V2_CORE: [&str; 3] = ["cpuacct", "devices", "freezer"];
/// Controllers that a container needs for its statistics and its OOM kills. Where a mixed layout has one of them on v2,
/// every container joins v2 too.
const V2_ALWAYS: [&str; 4] = ["cpu", "memory", "io", "pids"];

/// A group in the hierarchy that holds a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the v1 hierarchy of the controller.
    V1(PathBuf),
    /// In the unified hierarchy.
    V2(PathBuf),
}

impl Place {
    pub(super) fn folder(&self) -> &Path {
        match self {
            Place::V1(folder) | Place::V2(folder) => folder,
        }
    }
}

/// A mounted v1 hierarchy.
#[derive(Clone, Debug)]
pub(super) struct Hierarchy {
    pub mount: PathBuf,
    pub controllers: Vec<String>,
}

/// The mounted file systems.
#[derive(Debug)]
pub(super) struct Tree {
    pub v1: Vec<Hierarchy>,
    pub v2: Option<PathBuf>,
    /// Controllers that the root of the v2 tree offers.
    pub v2_controllers: HashSet<String>,
    /// Whether v1 accounts memory and swap together.
    pub v1_swap: bool,
}

/// Which limits can be held here: the fields of `docker info`, and what decides between an error and a warning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Support {
    /// `--memory`
    pub memory: bool,
    /// `--memory-swap`
    pub swap: bool,
    /// `--memory-reservation`
    pub memory_reservation: bool,
    /// `--memory-swappiness`
    pub swappiness: bool,
    /// `--oom-kill-disable`
    pub oom_kill_disable: bool,
    /// `--cpu-shares`
    pub cpu_shares: bool,
    /// `--cpus`, `--cpu-quota`, `--cpu-period`
    pub cpu_cfs: bool,
    /// `--cpu-rt-runtime`, `--cpu-rt-period`
    pub cpu_realtime: bool,
    /// `--cpuset-cpus`, `--cpuset-mems`
    pub cpuset: bool,
    /// `--pids-limit`
    pub pids: bool,
    /// `--blkio-weight`
    pub blkio_weight: bool,
    /// `--device-read-bps` and the like
    pub blkio_throttle: bool,
    /// `pause`
    pub freezer: bool,
    /// Device rules
    pub devices: bool,
}

impl Tree {
    pub(super) fn detect() -> Result<Tree> {
        let mountinfo = Path::new("/proc/self/mountinfo");
        let text = fs::read_to_string(mountinfo).map_err(|error| io_error("read", mountinfo, error))?;
        Tree::parse(&text)
    }

    /// Reads the format of proc_pid_mountinfo(5).
    pub(super) fn parse(mountinfo: &str) -> Result<Tree> {
        let mut tree = Tree {
            v1: Vec::new(),
            v2: None,
            v2_controllers: HashSet::new(),
            v1_swap: false,
        };
        for line in mountinfo.lines() {
            let Some((mount, fs)) = line.split_once(" - ") else {
                continue;
            };
            let (Some(place), mut fs) = (mount.split(' ').nth(4), fs.split(' ')) else {
                continue;
            };
            let place = unescape(place);
            match (fs.next(), fs.nth(1)) {
                // The first one wins: it is the one at /sys/fs/cgroup; later ones are somebody's second view.
                (Some("cgroup2"), _) if tree.v2.is_none() => tree.v2 = Some(place),
                (Some("cgroup"), Some(options)) => {
                    let controllers: Vec<String> = options
                        .split(',')
                        .filter(|name| V1_ALWAYS.contains(name) || V1_ON_DEMAND.contains(name))
                        .map(str::to_owned)
                        .collect();
                    let known = |name: &String| tree.v1.iter().any(|other| other.controllers.contains(name));
                    if !controllers.is_empty() && !controllers.iter().any(known) {
                        tree.v1.push(Hierarchy {
                            mount: place,
                            controllers,
                        });
                    }
                }
                _ => {}
            }
        }
        if let Some(root) = &tree.v2 {
            let file = root.join("cgroup.controllers");
            let text = fs::read_to_string(&file).unwrap_or_default();
            tree.v2_controllers = text.split_whitespace().map(str::to_owned).collect();
        }
        tree.v1_swap = tree
            .hierarchy("memory")
            .is_some_and(|memory| memory.mount.join("memory.memsw.limit_in_bytes").exists());
        if tree.v1.is_empty() && tree.v2.is_none() {
            return Err(CgroupError::NoneMounted);
        }
        Ok(tree)
    }

    pub(super) fn mode(&self) -> Mode {
        match (self.v1.is_empty(), self.v2.is_some()) {
            (true, _) => Mode::V2,
            (false, true) => Mode::Hybrid,
            (false, false) => Mode::V1,
        }
    }

    /// The v1 hierarchy of a controller.
    pub(super) fn hierarchy(&self, controller: &str) -> Option<&Hierarchy> {
        self.v1
            .iter()
            .find(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
    }

    /// The folder of a group for a controller, on v1.
    pub(super) fn v1_group(&self, controller: &str, path: &CgroupPath) -> Option<PathBuf> {
        self.hierarchy(controller).map(|hierarchy| path.under(&hierarchy.mount))
    }

    /// The group in the hierarchy that holds a controller, by the controller's name on v2. The kernel binds a controller
    /// to one v1 hierarchy or to v2, so in a mixed layout this is decided for each by itself.
    pub(super) fn place(&self, controller: &str, path: &CgroupPath) -> Option<Place> {
        let name = if controller == "io" { "blkio" } else { controller };
        if let Some(folder) = self.v1_group(name, path) {
            return Some(Place::V1(folder));
        }
        let on_v2 = V2_CORE.contains(&controller) || self.v2_controllers.contains(controller);
        self.v2_group(path).filter(|_| on_v2).map(Place::V2)
    }

    /// The folder of a group on v2.
    pub(super) fn v2_group(&self, path: &CgroupPath) -> Option<PathBuf> {
        self.v2.as_ref().map(|root| path.under(root))
    }

    /// v1 hierarchies that a container joins which asks for `controllers`.
    pub(super) fn joined<'a>(&'a self, controllers: &'a [&str]) -> impl Iterator<Item = &'a Hierarchy> {
        self.v1.iter().filter(|hierarchy| {
            hierarchy
                .controllers
                .iter()
                .any(|name| V1_ALWAYS.contains(&name.as_str()) || controllers.contains(&name.as_str()))
        })
    }

    /// Whether every container joins v2, asked or not.
    pub(super) fn joins_v2(&self) -> bool {
        let core = ["freezer", "cpuacct"].iter().any(|name| self.hierarchy(name).is_none());
        let holds = V2_ALWAYS.iter().any(|name| self.v2_controllers.contains(*name));
        self.v2.is_some() && (self.v1.is_empty() || core || holds)
    }

    /// Folders that a group has or may have.
    pub(super) fn groups(&self, path: &CgroupPath) -> Vec<PathBuf> {
        let v1 = self.v1.iter().map(|hierarchy| path.under(&hierarchy.mount));
        v1.chain(self.v2_group(path)).collect()
    }

    pub(super) fn v1_mounts(&self) -> Vec<(PathBuf, String)> {
        self.joined(&[])
            .map(|h| (h.mount.clone(), h.controllers.join(",")))
            .collect()
    }

    pub(super) fn support(&self) -> Support {
        // On v1 a file tells that the kernel was built with it; on v2 the controller does.
        let file = |controller: &str, name: &str| {
            self.hierarchy(controller)
                .is_some_and(|hierarchy| hierarchy.mount.join(name).exists())
        };
        let v2 = |controller: &str| self.hierarchy(controller).is_none() && self.v2_controllers.contains(controller);
        let io_on_v2 = self.hierarchy("blkio").is_none() && self.v2_controllers.contains("io");
        let core = |controller: &str| self.hierarchy(controller).is_none() && self.v2.is_some();
        Support {
            memory: v2("memory") || file("memory", "memory.limit_in_bytes"),
            swap: self.v1_swap || v2("memory") && self.v2.as_deref().is_some_and(swap_on_v2),
            memory_reservation: v2("memory") || file("memory", "memory.soft_limit_in_bytes"),
            swappiness: file("memory", "memory.swappiness"),
            oom_kill_disable: file("memory", "memory.oom_control"),
            cpu_shares: v2("cpu") || file("cpu", "cpu.shares"),
            cpu_cfs: v2("cpu") || file("cpu", "cpu.cfs_quota_us"),
            cpu_realtime: file("cpu", "cpu.rt_runtime_us"),
            cpuset: v2("cpuset") || file("cpuset", "cpuset.cpus"),
            pids: v2("pids") || self.hierarchy("pids").is_some(),
            blkio_weight: io_on_v2 || file("blkio", "blkio.weight") || file("blkio", "blkio.bfq.weight"),
            blkio_throttle: io_on_v2 || file("blkio", "blkio.throttle.read_bps_device"),
            freezer: core("freezer") || self.hierarchy("freezer").is_some(),
            devices: core("devices") || file("devices", "devices.deny"),
        }
    }
}

/// The root group has no `memory.swap.max`; any group below it with the memory controller tells.
fn swap_on_v2(root: &Path) -> bool {
    let Ok(children) = fs::read_dir(root) else { return false };
    let mut seen = false;
    for child in children.flatten().map(|entry| entry.path()) {
        if child.join("memory.max").exists() {
            if child.join("memory.swap.max").exists() {
                return true;
            }
            seen = true;
        }
    }
    // No group yet to ask: kernels with swap have had the file since 4.5, without a switch since 6.1.
    !seen && Path::new("/proc/swaps").exists()
}

/// The kernel writes blanks, tabs, newlines and backslashes as three octal digits.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        let code = (byte == b'\\')
            .then(|| behind.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(code) => {
                out.push(code);
                rest = &behind[3..];
            }
            None => out.push(byte),
        }
    }
    std::ffi::OsString::from_vec(out).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_layouts_are_told_apart() {
        let v1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                  35 31 0:32 / /sys/fs/cgroup/mem\\040ory rw shared:3 - cgroup cgroup rw,memory\n\
                  36 31 0:32 / /second rw - cgroup cgroup rw,memory\n\
                  40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
        let v2 = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let tree = Tree::parse(v1).unwrap();
        assert_eq!(tree.mode(), Mode::V1);
        assert_eq!(tree.v1.len(), 2);
        assert_eq!(
            tree.hierarchy("cpuacct").unwrap().mount,
            Path::new("/sys/fs/cgroup/cpu,cpuacct")
        );
        assert_eq!(
            tree.hierarchy("memory").unwrap().mount,
            Path::new("/sys/fs/cgroup/mem ory")
        );
        assert_eq!(Tree::parse(&format!("{v1}{v2}")).unwrap().mode(), Mode::Hybrid);
        assert_eq!(Tree::parse(v2).unwrap().mode(), Mode::V2);
        assert!(matches!(Tree::parse("garbage\n - \n"), Err(CgroupError::NoneMounted)));
    }

    proptest::proptest! {
        #[test]
        fn any_mountinfo_is_read_or_refused(
            text in r"([0-9]{1,3} |/|\\040|\\|rw|é| - |cgroup2? |cgroup |memory|,|\n| ){0,30}|.{0,80}",
        ) {
            let _ = Tree::parse(&text);
        }

        #[test]
        fn what_the_kernel_escapes_comes_back(name: String) {
            use std::os::unix::ffi::OsStrExt;
            let mut escaped = String::new();
            for letter in name.chars() {
                match letter {
                    ' ' | '\t' | '\n' | '\\' => escaped.push_str(&format!("\\{:03o}", letter as u32)),
                    other => escaped.push(other),
                }
            }
            let back = unescape(&escaped);
            proptest::prop_assert_eq!(back.as_os_str().as_bytes(), name.as_bytes());
        }
    }
}
