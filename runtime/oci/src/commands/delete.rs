//! `delete`: takes away what a container that has ended left.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runtime::plan::Plan;
use runtime_container::{cgroup, outside};
use runtime_sys::pidfd;

use super::kill::has_own_pids;
use crate::args::{Delete, Global};
use crate::error::{Error, Result};
use crate::launch::{CGROUP_PATIENCE, stopped};
use crate::log::Log;
use crate::state::{self, Container, Status};

/// How long a killed process may take to go.
const KILLED: Duration = Duration::from_secs(10);

pub fn run(global: &Global, args: &Delete, log: &Log) -> Result<u8> {
    let container = match Container::load(&global.root, &args.id) {
        Err(_) if args.force && state::check_id(&args.id).is_ok() => {
            // A call that was killed may have left a folder without a record.
            let _ = std::fs::remove_dir_all(global.root.join(&args.id));
            return Ok(0);
        }
        other => other?,
    };
    match container.status() {
        Status::Stopped => {}
        Status::Created => kill(&container)?,
        _ if args.force => kill(&container)?,
        status => {
            return Err(Error::new(format!(
                "cannot delete container {} that is not stopped: {}",
                args.id,
                status.word()
            )));
        }
    }
    match container.plan() {
        Ok(plan) => destroy(&container, &plan, log)?,
        // Made by another version: what can go goes.
        Err(error) if args.force => {
            log.warning(&error.to_string());
            container.remove()?;
        }
        Err(error) => return Err(error),
    }
    Ok(0)
}

fn kill(container: &Container) -> Result<()> {
    let Some(process) = container.process() else {
        return Ok(());
    };
    let _ = pidfd::signal(process.as_fd(), libc::SIGKILL);
    let _ = super::kill::all(container, libc::SIGKILL);
    let deadline = Instant::now() + KILLED;
    // The parent reaps it, and is not us; a zombie has ended all the same, which its descriptor tells.
    while container.is_alive() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::new(format!(
                "cannot delete container {}: its process does not end",
                container.record.id
            )));
        }
        let mut watched = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut watched, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
    }
    Ok(())
}

/// Removes the groups and the folder, and runs the hooks for the end.
pub fn destroy(container: &Container, plan: &Plan, log: &Log) -> Result<()> {
    let groups = &plan.head.cgroup;
    if !has_own_pids(plan) {
        cgroup::kill(groups);
    }
    if !outside::remove(&plan.head, CGROUP_PATIENCE) {
        return Err(Error::new(format!(
            "cannot delete container {}: its control groups are still busy",
            container.record.id
        )));
    }
    container.remove()?;
    stopped(plan, log);
    Ok(())
}
