//! Limits and device rules of a container that runs.
//!
//! ```text
//! check everything ─► enable controllers ─► make groups it lacks ─► write ─► move processes ─► device rules
//!                                              └──────────── undone when a later step fails ────────┘
//! ```

use super::control::read;
use super::detect::{Place, Tree};
use super::devices::{Pause, Policy, program};
use super::limits::limits;
use super::{CgroupError, CgroupPath, Cgroups, Freeze, Resources, Result, io_error, make_group, v1};
use crate::plan::CgroupWrite;
use nix::errno::Errno;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Rounds of moving processes: those forked in one go in the next, and after so many somebody forks without end.
const MOVE_ROUNDS: usize = 100;

impl Cgroups {
    /// Changes limits of a running container, and its device rules where `resources` has some. Either all change or (as
    /// far as the kernel lets us) none.
    ///
    /// A container that has no group in a hierarchy which holds something now asked for (a CPU set, say) gets one. Its
    /// processes are moved there. Its shim knows of it by the plan's `late` folders; elsewhere [`joined`](Cgroups::joined)
    /// tells where further processes belong.
    ///
    /// # Errors
    /// As for [`plan`](Cgroups::plan); what the kernel refuses, such as a memory limit below what is in use on v1.
    pub fn update(&self, path: &CgroupPath, resources: &Resources) -> Result<()> {
        let resources = self.checked(path, resources)?;
        let devices = self.device_change(path, &resources)?;
        let mut writes = limits(&self.tree, path, &resources)?;
        if let (Some(parent), _) = path.split() {
            self.prepare_for(&parent, path, &resources)?;
            // Which files there are is certain only now that the controllers are enabled.
            writes = limits(&self.tree, path, &resources)?;
        }
        let mut undo = Undo::default();
        let done = self
            .add_groups(path, &resources, &mut undo)
            .and_then(|added| {
                write_all(&writes, &mut undo)?;
                added
                    .iter()
                    .try_for_each(|group| self.move_into(path, group, &mut undo))
            })
            .and_then(|()| devices.map_or(Ok(()), |change| self.change_devices(path, change)));
        if done.is_err() {
            undo.run();
        }
        done
    }

    /// What an update asks for, completed by what it is judged with, and checked.
    pub(super) fn checked(&self, path: &CgroupPath, resources: &Resources) -> Result<Resources> {
        let mut resources = resources.clone();
        let asks = |value: Option<i64>| value.is_some_and(|value| value != 0);
        if asks(resources.memory_swap) && !asks(resources.memory) {
            // The sum is judged with the part that is in force.
            resources.memory = self.memory_limit(path)?;
        }
        resources.validate()?;
        if resources.check_before_update {
            self.check_usage(path, &resources)?;
        }
        Ok(resources)
    }

    /// -1: none.
    fn memory_limit(&self, path: &CgroupPath) -> Result<Option<i64>> {
        let text = match self.tree.place("memory", path) {
            Some(Place::V1(folder)) => read(&folder, "memory.limit_in_bytes")?,
            Some(Place::V2(folder)) => read(&folder, "memory.max")?,
            None => return Ok(None),
        };
        // v1 says «unlimited» as the largest multiple of a page.
        Ok(Some(
            text.trim()
                .parse()
                .ok()
                .filter(|limit| *limit < i64::MAX - 0xffff)
                .unwrap_or(-1),
        ))
    }

    fn check_usage(&self, path: &CgroupPath, resources: &Resources) -> Result<()> {
        let number = |folder: &Path, file: &str| -> Option<i64> {
            fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
        };
        // A group whose usage cannot be read has no controller, and the limit itself will fail.
        let (memory, both) = match self.tree.place("memory", path) {
            Some(Place::V1(folder)) => (
                number(&folder, "memory.usage_in_bytes"),
                number(&folder, "memory.memsw.usage_in_bytes"),
            ),
            Some(Place::V2(folder)) => {
                let memory = number(&folder, "memory.current");
                let swap = number(&folder, "memory.swap.current").unwrap_or(0);
                (memory, memory.map(|memory| memory + swap))
            }
            None => (None, None),
        };
        for (what, limit, usage) in [
            ("linux.resources.memory.limit", resources.memory, memory),
            ("linux.resources.memory.swap", resources.memory_swap, both),
        ] {
            if let (Some(limit @ 1..), Some(usage)) = (limit, usage)
                && limit < usage
            {
                return Err(CgroupError::Invalid {
                    what,
                    why: format!("{limit} is less than the {usage} bytes in use"),
                });
            }
        }
        Ok(())
    }

    /// Makes groups for what is asked for and held where the container is not yet.
    fn add_groups(&self, path: &CgroupPath, resources: &Resources, undo: &mut Undo) -> Result<Vec<PathBuf>> {
        let mut folders: Vec<PathBuf> = resources
            .controllers()
            .into_iter()
            .filter_map(|controller| self.tree.place(controller, path))
            .map(|place| place.folder().to_owned())
            .collect();
        if !resources.unified.is_empty() || !resources.devices.is_empty() {
            let devices = self
                .tree
                .place("devices", path)
                .filter(|_| !resources.devices.is_empty());
            folders.extend(devices.map(|place| place.folder().to_owned()));
            folders.extend(self.tree.v2_group(path).filter(|_| !resources.unified.is_empty()));
        }
        folders.retain(|folder| !folder.is_dir());
        folders.sort();
        folders.dedup();
        if !folders.is_empty() && !self.exists(path) {
            let gone = std::io::ErrorKind::NotFound.into();
            return Err(io_error("update cgroup", &folders[0], gone));
        }
        for folder in &folders {
            make_group(folder)?;
            undo.made.push(folder.clone());
            if folder.join("cpuset.cpus").exists()
                && self.tree.v1_group("cpuset", path).as_ref() == Some(folder)
                && let Some(parent) = folder.parent()
            {
                // An empty set lets nobody in.
                v1::inherit(parent, folder)?;
            }
        }
        Ok(folders)
    }

    /// Moves all processes of the container into a group that it did not have.
    fn move_into(&self, path: &CgroupPath, group: &Path, undo: &mut Undo) -> Result<()> {
        let procs = group.join("cgroup.procs");
        for _ in 0..MOVE_ROUNDS {
            let there = fs::read_to_string(&procs).map_err(|error| io_error("read", &procs, error))?;
            let there: Vec<i32> = there.lines().filter_map(|line| line.parse().ok()).collect();
            // A 0 stands for a process outside our pid namespace: it cannot be moved from here.
            let mut left = self.pids(path)?;
            left.retain(|pid| *pid > 0 && !there.contains(pid));
            if left.is_empty() {
                return Ok(());
            }
            for pid in left {
                let before = group_of(&self.tree, pid, group);
                match fs::write(&procs, pid.to_string()) {
                    Ok(()) => undo.moved.extend(before.map(|before| (pid, before))),
                    Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => {}
                    Err(source) => {
                        return Err(CgroupError::Write {
                            value: pid.to_string(),
                            path: procs,
                            source,
                        });
                    }
                }
            }
        }
        Err(CgroupError::Invalid {
            what: "update",
            why: format!(
                "the processes of {path} fork faster than they can be moved to {}",
                group.display()
            ),
        })
    }

    fn device_change(&self, path: &CgroupPath, resources: &Resources) -> Result<Option<DeviceChange>> {
        if resources.devices.is_empty() {
            return Ok(None);
        }
        match self.tree.place("devices", path) {
            Some(Place::V1(folder)) => Ok(Some(DeviceChange::V1(folder, Policy::of(&resources.devices)?))),
            Some(Place::V2(folder)) => Ok(Some(DeviceChange::V2(folder, program(&resources.devices)))),
            None => Err(CgroupError::NoController {
                what: "linux.resources.devices".into(),
                controller: "devices".into(),
            }),
        }
    }

    fn change_devices(&self, path: &CgroupPath, change: DeviceChange) -> Result<()> {
        match change {
            DeviceChange::V1(folder, policy) => self.change_devices_v1(path, &folder, &policy),
            DeviceChange::V2(folder, program) => replace_program(&folder, &program)
                .map_err(|error| io_error("replace the device program of cgroup", &folder, error)),
        }
    }

    fn change_devices_v1(&self, path: &CgroupPath, folder: &Path, policy: &Policy) -> Result<()> {
        let (pause, writes) = policy.writes_after(&read(folder, "devices.list")?);
        let mut stopped = false;
        if pause != Pause::Needless && self.freeze_state(path).is_ok_and(|state| state == Freeze::Thawed) {
            match self.freeze(path) {
                Ok(()) => stopped = true,
                Err(error) if pause == Pause::Needed => return Err(error),
                Err(_) => {}
            }
        } else if pause == Pause::Needed {
            // Frozen by somebody else, for as long as we are here; without a freezer the window would be open.
            self.freeze_state(path)?;
        }
        let mut done = Ok(());
        for (index, (file, value)) in writes.iter().enumerate() {
            let file = folder.join(file);
            if let Err(source) = fs::write(&file, value) {
                let value = value.clone();
                done = Err(CgroupError::Write {
                    value,
                    path: file,
                    source,
                });
                take_back(folder, pause, &writes[..index]);
                break;
            }
        }
        if stopped {
            self.thaw(path)?;
        }
        done
    }
}

/// After a failed write: small changes are turned round; half of a great one leaves the group closed, not open.
fn take_back(folder: &Path, pause: Pause, done: &[(&'static str, String)]) {
    if pause == Pause::Needless {
        for (file, value) in done.iter().rev() {
            let other = if *file == "devices.allow" {
                "devices.deny"
            } else {
                "devices.allow"
            };
            let _ = fs::write(folder.join(other), value);
        }
    } else if !done.is_empty() {
        let _ = fs::write(folder.join("devices.deny"), "a");
    }
}

/// Device rules, checked and compiled.
enum DeviceChange {
    V1(PathBuf, Policy),
    V2(PathBuf, Vec<u8>),
}

/// An empty program allows everything: none stays attached.
fn replace_program(folder: &Path, program: &[u8]) -> std::io::Result<()> {
    let group = fs::File::open(folder)?;
    let program = match program {
        [] => None,
        code => Some(runtime_sys::bpf::load_device_program(code)?),
    };
    runtime_sys::bpf::replace_device_programs(group.as_fd(), program.as_ref().map(AsFd::as_fd))
}

/// The group that a process has now in the hierarchy that `group` is in.
fn group_of(tree: &Tree, pid: i32, group: &Path) -> Option<PathBuf> {
    let list = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let v1 = tree.v1.iter().find(|hierarchy| group.starts_with(&hierarchy.mount));
    let mount = v1.map(|hierarchy| &hierarchy.mount).or(tree.v2.as_ref())?;
    let path = list.lines().find_map(|line| {
        let (names, path) = line.split_once(':')?.1.split_once(':')?;
        match v1 {
            Some(hierarchy) => names.split(',').any(|name| hierarchy.controllers[0] == name),
            None => names.is_empty(),
        }
        .then_some(path)
    })?;
    let folder = mount.join(path.trim_start_matches('/'));
    Some(if folder.is_dir() { folder } else { mount.clone() })
}

/// What was done, to be taken back.
#[derive(Default)]
struct Undo {
    made: Vec<PathBuf>,
    writes: Vec<(PathBuf, String)>,
    moved: Vec<(i32, PathBuf)>,
}

impl Undo {
    fn run(self) {
        for (pid, group) in self.moved.iter().rev() {
            let _ = fs::write(group.join("cgroup.procs"), pid.to_string());
        }
        for (path, old) in self.writes.iter().rev() {
            let _ = fs::write(path, old);
        }
        for group in self.made.iter().rev() {
            let _ = fs::remove_dir(group);
        }
    }
}

fn write_all(writes: &[CgroupWrite], undo: &mut Undo) -> Result<()> {
    for write in writes {
        let old = before(write);
        match fs::write(&write.path, &write.value) {
            Ok(()) => undo.writes.extend(old.map(|old| (write.path.clone(), old))),
            Err(_) if write.optional => {}
            Err(source) => {
                return Err(CgroupError::Write {
                    value: write.value.clone(),
                    path: write.path.clone(),
                    source,
                });
            }
        }
    }
    Ok(())
}

/// What to write to put back what a write is about to change.
fn before(write: &CgroupWrite) -> Option<String> {
    let text = fs::read_to_string(&write.path).ok()?;
    let file = write.path.file_name()?.to_str()?;
    let Some(none) = no_entry(file) else {
        return (text.lines().count() == 1).then(|| text.trim().to_owned());
    };
    // A line per device: that of the same one, or what a device without a line has.
    let device = write.value.split(' ').next()?;
    let line = text.lines().find(|line| line.split(' ').next() == Some(device));
    Some(line.map_or_else(|| format!("{device} {none}"), str::to_owned))
}

/// For files with a line per device, what stands for no line.
fn no_entry(file: &str) -> Option<&'static str> {
    match file {
        "io.max" => Some("rbps=max wbps=max riops=max wiops=max"),
        "io.weight" | "io.bfq.weight" => Some("default"),
        "rdma.max" => Some("hca_handle=max hca_object=max"),
        "misc.max" => Some("max"),
        "net_prio.ifpriomap" => Some("0"),
        _ if file.starts_with("blkio.") && file.ends_with("_device") => Some("0"),
        _ => None,
    }
}
