//! `kill`: a signal to the first process, or to all.

use std::os::fd::AsFd;

use runtime::cgroup::{CgroupPath, Cgroups};
use runtime::plan::Plan;
use runtime_sys::pidfd;

use crate::args::{Global, Kill};
use crate::error::{Context, Error, Result};
use crate::state::{Container, Status};

pub fn run(global: &Global, args: &Kill) -> Result<u8> {
    let container = Container::load(&global.root, &args.id)?;
    let signal = runtime::signal::parse(&args.signal)?;
    if args.all {
        all(&container, signal)?;
        return Ok(0);
    }
    let Some(process) = container.process() else {
        // A first process that has ended may leave others behind, where it had no pid namespace.
        if signal == libc::SIGKILL && !has_own_pids(&container.plan()?) {
            all(&container, signal)?;
            return Ok(0);
        }
        // containerd and podman look for these words.
        return Err(Error::new("container not running"));
    };
    pidfd::signal(process.as_fd(), signal).context(format!("cannot signal container {}", args.id))?;
    if signal == libc::SIGKILL && container.status() == Status::Paused {
        // On v1 a frozen process dies when it is thawed.
        let _ = Cgroups::detect()?.thaw(&CgroupPath::new(&container.record.cgroup)?);
    }
    Ok(0)
}

/// Sends a signal to every process of the container.
pub fn all(container: &Container, signal: i32) -> Result<()> {
    let cgroups = Cgroups::detect()?;
    let path = CgroupPath::new(&container.record.cgroup)?;
    if !cgroups.exists(&path) {
        return Ok(());
    }
    if signal == libc::SIGKILL {
        cgroups.kill_all(&path)?;
        return Ok(());
    }
    for pid in cgroups.pids(&path)? {
        // Opened first and looked for again, so that a number that changed hands meanwhile is nobody's.
        let Ok(process) = pidfd::open(pid) else { continue };
        if cgroups.pids(&path)?.contains(&pid) {
            let _ = pidfd::signal(process.as_fd(), signal);
        }
    }
    Ok(())
}

/// Whether the end of the first process is that of every process: the kernel sees to it in a pid namespace of its own.
pub fn has_own_pids(plan: &Plan) -> bool {
    plan.head.namespaces.new & libc::CLONE_NEWPID as u64 != 0
}
