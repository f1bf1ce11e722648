//! What is done to the groups of a container that runs: freeze, kill, count, remove.

use super::detect::Place;
use super::{CgroupError, CgroupPath, Cgroups, Result, io_error, start};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Whether the processes of a group run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freeze {
    /// They run.
    Thawed,
    /// Some are still on their way to stand still.
    Freezing,
    /// All stand still.
    Frozen,
}

/// What would not go away.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove {} cgroup folder(s), the first is {}", left.len(), left.first().map(|(path, _)| path.display().to_string()).unwrap_or_default())]
pub struct RemoveError {
    /// Folders and why.
    pub left: Vec<(PathBuf, io::Error)>,
}

/// A task deep in the kernel (NFS, a hung disk) cannot be frozen before it comes back.
const FREEZE_LIMIT: Duration = Duration::from_secs(10);
/// How long a group with dying processes may stay busy.
const REMOVE_LIMIT: Duration = Duration::from_millis(500);
/// How long killed processes may take to go.
const KILL_LIMIT: Duration = Duration::from_secs(10);

impl Cgroups {
    /// Whether the group exists in any hierarchy.
    pub fn exists(&self, path: &CgroupPath) -> bool {
        self.tree.groups(path).iter().any(|folder| folder.is_dir())
    }

    /// Stops every process of the group where it is. Blocks until they stand still.
    ///
    /// # Errors
    /// [`CgroupError::Timeout`], after which the group is thawed again.
    pub fn freeze(&self, path: &CgroupPath) -> Result<()> {
        let started = Instant::now();
        self.write_freeze(path, true)?;
        let mut pause = Duration::from_micros(200);
        while self.freeze_state(path)? != Freeze::Frozen {
            if started.elapsed() > FREEZE_LIMIT {
                let _ = self.write_freeze(path, false);
                return Err(CgroupError::Timeout {
                    path: path.clone(),
                    state: "frozen",
                    seconds: FREEZE_LIMIT.as_secs(),
                });
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
            // v1 can stay FREEZING for good when a task was forked meanwhile; writing again makes it look again.
            self.write_freeze(path, true)?;
        }
        Ok(())
    }

    /// Lets the processes run on.
    ///
    /// # Errors
    /// When the group is gone.
    pub fn thaw(&self, path: &CgroupPath) -> Result<()> {
        self.write_freeze(path, false)
    }

    fn write_freeze(&self, path: &CgroupPath, frozen: bool) -> Result<()> {
        let (file, value) = match self.freezer(path)? {
            Place::V1(folder) => (folder.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" }),
            Place::V2(folder) => (folder.join("cgroup.freeze"), if frozen { "1" } else { "0" }),
        };
        fs::write(&file, value).map_err(|source| CgroupError::Write {
            value: value.into(),
            path: file,
            source,
        })
    }

    fn freezer(&self, path: &CgroupPath) -> Result<Place> {
        self.tree
            .place("freezer", path)
            .ok_or_else(|| CgroupError::NoController {
                what: "pausing".into(),
                controller: "freezer".into(),
            })
    }

    /// Whether the group is frozen.
    ///
    /// # Errors
    /// When the group is gone.
    pub fn freeze_state(&self, path: &CgroupPath) -> Result<Freeze> {
        Ok(match self.freezer(path)? {
            Place::V1(folder) => match read(&folder, "freezer.state")?.trim() {
                "FROZEN" => Freeze::Frozen,
                "FREEZING" => Freeze::Freezing,
                _ => Freeze::Thawed,
            },
            Place::V2(folder) => {
                let frozen = keyed(&read(&folder, "cgroup.events")?, "frozen");
                match (read(&folder, "cgroup.freeze")?.trim(), frozen) {
                    (_, Some(1)) => Freeze::Frozen,
                    ("1", _) => Freeze::Freezing,
                    _ => Freeze::Thawed,
                }
            }
        })
    }

    /// How many processes of the group the kernel has killed for want of memory; 0 where nobody counts.
    ///
    /// # Errors
    /// When the group is gone.
    pub fn oom_kills(&self, path: &CgroupPath) -> Result<u64> {
        let Some(memory) = self.tree.place("memory", path) else {
            return Ok(0);
        };
        let file = start::oom_file(&memory);
        let text = fs::read_to_string(&file).map_err(|error| io_error("read", &file, error))?;
        Ok(keyed(&text, "oom_kill").unwrap_or(0))
    }

    /// Processes in the group and in groups below it, as seen from our pid namespace.
    ///
    /// # Errors
    /// When the group is gone.
    pub fn pids(&self, path: &CgroupPath) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        collect_pids(&self.members(path)?, &mut pids, 0)?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// The group that is asked for members.
    fn members(&self, path: &CgroupPath) -> Result<PathBuf> {
        let v1 = ["freezer", "pids", "memory", "cpu"]
            .iter()
            .find_map(|controller| self.tree.v1_group(controller, path));
        v1.or_else(|| self.tree.v2_group(path)).ok_or(CgroupError::NoneMounted)
    }

    /// Sends SIGKILL to every process in the group, in a way that none can escape by forking, and waits until they are
    /// gone. A group that does not exist is done. A frozen group is thawed.
    ///
    /// # Errors
    /// [`CgroupError::Timeout`] when a process does not die (it hangs in the kernel).
    pub fn kill_all(&self, path: &CgroupPath) -> Result<()> {
        if !self.members(path)?.is_dir() {
            return Ok(());
        }
        let started = Instant::now();
        let mut pause = Duration::from_micros(500);
        while self.kill_round(path)? {
            if started.elapsed() > KILL_LIMIT {
                return Err(CgroupError::Timeout {
                    path: path.clone(),
                    state: "empty",
                    seconds: KILL_LIMIT.as_secs(),
                });
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        Ok(())
    }

    /// True when there was somebody to kill.
    fn kill_round(&self, path: &CgroupPath) -> Result<bool> {
        if self.tree.v1.is_empty() {
            let folder = self.members(path)?;
            let populated = match fs::read_to_string(folder.join("cgroup.events")) {
                Ok(events) => keyed(&events, "populated") == Some(1),
                Err(error) if gone(&error) => return Ok(false),
                Err(error) => return Err(io_error("read", &folder.join("cgroup.events"), error)),
            };
            if !populated {
                return Ok(false);
            }
            // Kills frozen processes too, and those being forked. Since Linux 5.14.
            match fs::write(folder.join("cgroup.kill"), "1") {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if gone(&error) => return Ok(false),
                Err(error) => return Err(io_error("write", &folder.join("cgroup.kill"), error)),
            }
        }
        // Frozen processes fork nothing and leave no number behind that somebody else could get meanwhile.
        let frozen = self.write_freeze(path, true).is_ok();
        let pids = match self.pids(path) {
            Err(CgroupError::Io { source, .. }) if gone(&source) => return Ok(false),
            other => other?,
        };
        for pid in &pids {
            // 0 would be our own process group: a process outside our pid namespace is shown as 0.
            if *pid > 1 && *pid != std::process::id() as i32 {
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
        }
        if frozen {
            let _ = self.write_freeze(path, false);
        }
        Ok(!pids.is_empty())
    }

    /// Removes the groups and all below them in every hierarchy, waiting a moment for dying processes. What is
    /// already gone is fine.
    ///
    /// # Errors
    /// With every folder that is left.
    pub fn remove(&self, path: &CgroupPath) -> Result<(), RemoveError> {
        let deadline = Instant::now() + REMOVE_LIMIT;
        let mut left = Vec::new();
        for folder in self.tree.groups(path) {
            if let Err((folder, error)) = remove_tree(&folder, deadline, 0) {
                left.push((folder, error));
            }
        }
        if left.is_empty() {
            Ok(())
        } else {
            Err(RemoveError { left })
        }
    }
}

pub(super) fn read(folder: &Path, file: &str) -> Result<String> {
    let path = folder.join(file);
    fs::read_to_string(&path).map_err(|error| io_error("read", &path, error))
}

/// The number behind `key` in a file of `key value` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// ENODEV is what an open file of a removed group answers.
fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ENODEV as i32)
}

/// Groups directly below `folder`; none when it does not exist.
pub(super) fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if gone(&error) => return Ok(Vec::new()),
        Err(error) => return Err(io_error("read", folder, error)),
    };
    Ok(entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect())
}

/// A container can make groups in groups without end; beyond this depth we do not follow on our stack.
const DEPTH_LIMIT: u32 = 64;

fn collect_pids(folder: &Path, pids: &mut Vec<i32>, depth: u32) -> Result<()> {
    let file = folder.join("cgroup.procs");
    match fs::read_to_string(&file) {
        Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
        // EOPNOTSUPP: a threaded group; its processes are listed by the group above.
        Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {}
        Err(error) if depth > 0 && gone(&error) => {}
        Err(error) => return Err(io_error("read", &file, error)),
    }
    if depth < DEPTH_LIMIT {
        for child in children(folder)? {
            collect_pids(&child, pids, depth + 1)?;
        }
    }
    Ok(())
}

fn remove_tree(folder: &Path, deadline: Instant, depth: u32) -> Result<(), (PathBuf, io::Error)> {
    let mut pause = Duration::from_micros(500);
    loop {
        let error = match fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(error) if gone(&error) => return Ok(()),
            Err(error) => error,
        };
        let busy = matches!(
            error.raw_os_error().map(Errno::from_raw),
            Some(Errno::EBUSY | Errno::ENOTEMPTY)
        );
        if !busy || Instant::now() >= deadline {
            return Err((folder.to_owned(), error));
        }
        let below = children(folder).unwrap_or_default();
        if below.is_empty() || depth == DEPTH_LIMIT {
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        for child in below.iter().filter(|_| depth < DEPTH_LIMIT) {
            remove_tree(child, deadline, depth + 1)?;
        }
    }
}
