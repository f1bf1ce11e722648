//! Control groups: made before the container, counted at its end, removed after it.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use runtime::plan::{CgroupJoin, CgroupPlan, CgroupWrite};
use runtime::proto::{Failure, Step};
use runtime_sys::{bpf, pidfd};

use crate::failure::{At, Result, failure};

/// Makes the groups and sets their limits. What was made is taken back on failure.
pub fn make(plan: &CgroupPlan) -> Result<()> {
    // The parents are nearly always there already and configured: they are seen to only when something fails.
    if try_make(plan).is_ok() {
        return Ok(());
    }
    remove(plan, Duration::ZERO);
    for parent in &plan.parents {
        match nix::unistd::mkdir(parent, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failure(Step::Cgroup, parent, errno, "")),
        }
    }
    write_all(&plan.parent_writes)?;
    try_make(plan).inspect_err(|_| {
        let _ = remove(plan, Duration::ZERO);
    })
}

fn try_make(plan: &CgroupPlan) -> Result<()> {
    for own in &plan.own {
        nix::unistd::mkdir(own, Mode::from_bits_truncate(0o755)).at(Step::Cgroup, own)?;
    }
    write_all(&plan.writes)?;
    if !plan.devices.is_empty() {
        let folder = folder(plan).ok_or_else(|| failure(Step::Cgroup, "devices", Errno::EINVAL, "no v2 cgroup"))??;
        bpf::load_device_program(&plan.devices)
            .and_then(|program| bpf::attach_device_program(folder.as_fd(), program.as_fd()))
            .at(Step::Cgroup, "device program")?;
    }
    Ok(())
}

/// The v2 folder that processes are cloned into.
pub fn folder(plan: &CgroupPlan) -> Option<Result<OwnedFd>> {
    let (CgroupJoin::Into { dir } | CgroupJoin::Both { dir, .. }) = &plan.join else {
        return None;
    };
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    Some(nix::fcntl::open(dir, flags, Mode::empty()).at(Step::CgroupJoin, dir))
}

/// The v2 folder in which a process is, at or below the container's own, by its list of groups.
pub fn folder_of(plan: &CgroupPlan, groups: impl FnOnce() -> nix::Result<OwnedFd>) -> Result<Option<OwnedFd>> {
    let (CgroupJoin::Into { dir } | CgroupJoin::Both { dir, .. }) = &plan.join else {
        return Ok(None);
    };
    let file = groups().at(Step::CgroupJoin, dir)?;
    let list = io::read_to_string(fs::File::from(file)).at(Step::CgroupJoin, dir)?;
    let below = list.lines().find_map(|line| below(line.strip_prefix("0::")?, dir));
    let folder = below.map_or_else(|| dir.clone(), |below| dir.join(below));
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let opened = nix::fcntl::open(&folder, flags, Mode::empty()).at(Step::CgroupJoin, &folder)?;
    Ok(Some(opened))
}

/// The files by which a further process joins the groups that it is not cloned into: those of the start, and what an
/// update added since.
pub fn files(plan: &CgroupPlan) -> Vec<PathBuf> {
    let start = match &plan.join {
        CgroupJoin::Tasks { files } | CgroupJoin::Both { files, .. } => files.as_slice(),
        CgroupJoin::None | CgroupJoin::Into { .. } => &[],
    };
    // v1 has `tasks`, v2 has not.
    let file = |folder: &PathBuf| {
        let mut files = ["tasks", "cgroup.procs"].iter().map(|name| folder.join(name));
        files.find(|file| file.exists())
    };
    start.iter().cloned().chain(plan.late.iter().filter_map(file)).collect()
}

/// The part of a group's path that follows the name of the container's own folder.
fn below<'a>(group: &'a str, own: &Path) -> Option<&'a Path> {
    let name = own.file_name()?;
    let mut parts = Path::new(group).components();
    parts.by_ref().find(|part| part.as_os_str() == name)?;
    Some(parts.as_path())
}

fn write_all(writes: &[CgroupWrite]) -> Result<()> {
    // Device rules are many writes to two files.
    let mut open: Option<(&Path, fs::File)> = None;
    for CgroupWrite { path, value, optional } in writes {
        let file = match open.take().filter(|(last, _)| last == path) {
            Some((_, file)) => Ok(file),
            None => fs::OpenOptions::new().write(true).open(path),
        };
        let written = file.and_then(|mut file| {
            file.write_all(value.as_bytes())?;
            open = Some((path, file));
            Ok(())
        });
        match written {
            Err(_) if *optional => {}
            other => other.map_err(|error| Failure {
                message: format!("writing {value}"),
                step: Step::Cgroup,
                subject: path.as_os_str().to_owned(),
                errno: error.raw_os_error().unwrap_or(0),
            })?,
        }
    }
    Ok(())
}

/// Whether the kernel killed something in the group for want of memory.
pub fn oom(plan: &CgroupPlan) -> bool {
    let Some(content) = plan.oom.as_ref().and_then(|path| fs::read_to_string(path).ok()) else {
        return false;
    };
    let kills = content.lines().find_map(|line| line.strip_prefix("oom_kill "));
    kills.is_some_and(|count| count.trim() != "0")
}

/// Kills what is left in the groups, where the end of the first process did not do so.
pub fn kill(plan: &CgroupPlan) {
    for own in &plan.own {
        // One word for a whole tree since Linux 5.14 (v2).
        if fs::write(own.join("cgroup.kill"), "1").is_err() {
            kill_listed(own, 0);
        }
    }
}

fn kill_listed(folder: &Path, depth: u32) {
    if let Ok(list) = fs::read_to_string(folder.join("cgroup.procs")) {
        for pid in list.lines().filter_map(|line| line.parse().ok()) {
            // Between reading the number and opening it, it could have become another process': asked again after.
            let Ok(process) = pidfd::open(pid) else { continue };
            let still = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            if still.lines().any(|line| line.parse() == Ok(pid)) {
                let _ = pidfd::signal(process.as_fd(), libc::SIGKILL);
            }
        }
    }
    for child in children(folder).filter(|_| depth < 32) {
        kill_listed(&child, depth + 1);
    }
}

fn children(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
}

/// Removes the container's groups; tries again for `patience` while the kernel still counts a dying process. Groups
/// that were there before the container are left alone by never being in the plan.
pub fn remove(plan: &CgroupPlan, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let mut all = true;
    for own in plan.late.iter().chain(plan.own.iter().rev()) {
        loop {
            match remove_tree(own, 0) {
                Ok(()) => break,
                Err(_) if Instant::now() < deadline => {
                    kill_listed(own, 0);
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(_) => {
                    all = false;
                    break;
                }
            }
        }
    }
    all
}

fn remove_tree(folder: &Path, depth: u32) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A container with a writable cgroup mount may have made groups of its own.
        Err(_) if depth < 32 => {
            for child in children(folder) {
                remove_tree(&child, depth + 1)?;
            }
            fs::remove_dir(folder)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_below_the_containers_own_are_found() {
        let own = Path::new("/sys/fs/cgroup/iechor/c1");
        assert_eq!(below("/iechor/c1/init.scope", own), Some(Path::new("init.scope")));
        assert_eq!(below("/system.slice/iechor/c1/a/b", own), Some(Path::new("a/b")));
        assert_eq!(below("/iechor/c1", own), Some(Path::new("")));
        assert_eq!(below("/elsewhere", own), None);
    }
}
