//! `start`: lets the program of a created container run.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use runtime::plan::Plan;
use runtime::proto::Failure;
use runtime::wire::Wire;
use runtime_container::hooks;

use crate::args::Global;
use crate::error::{Context, Error, Result, of_failure};
use crate::log::Log;
use crate::state::{Container, Status};

pub fn run(global: &Global, id: &str, log: &Log) -> Result<u8> {
    let container = Container::load(&global.root, id)?;
    match container.status() {
        Status::Created => {}
        Status::Stopped => return Err(Error::new("cannot start a container that has stopped")),
        Status::Running | Status::Paused => return Err(Error::new("cannot start an already running container")),
    }
    let plan = container.plan()?;
    open_gate(&container)?;
    if let Err(error) = after(&container, &plan) {
        // The specification: an error, the container stopped, its life gone on to its end.
        let _ = super::kill::all(&container, libc::SIGKILL);
        log.warning("a poststart hook failed: the container is stopped");
        return Err(error);
    }
    Ok(0)
}

/// Lets the process go on, and learns whether it became its program.
fn open_gate(container: &Container) -> Result<()> {
    let process = container
        .process()
        .ok_or_else(|| Error::new("cannot start a container that has stopped"))?;
    // Whoever renames it starts it: two calls at once must not both think that they did.
    let (gate, mine) = (container.gate(), container.folder.join("starting"));
    fs::rename(&gate, &mine).map_err(|_| Error::new("cannot start an already running container"))?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let opened = open(&mine, flags, Mode::empty()).context(format!("cannot open {}", mine.display()));
    let _ = fs::remove_file(&mine);
    let mut fifo = fs::File::from(opened?);
    loop {
        let mut watched = [
            PollFd::new(fifo.as_fd(), PollFlags::POLLIN),
            PollFd::new(process.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(Error::from(errno)),
        }
        let ready = |index: usize| watched.get(index).and_then(PollFd::any).unwrap_or(false);
        let (said, ended) = (ready(0), ready(1));
        if said {
            let mut failure = Vec::new();
            match fifo.read_to_end(&mut failure) {
                // The end without a word: close-on-exec has closed it.
                Ok(0) => return Ok(()),
                Ok(_) => return Err(of_failure(Failure::decode(&failure)?)),
                // A writer is there and has said nothing yet.
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && failure.is_empty() => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Err(of_failure(Failure::decode(&failure)?));
                }
                Err(error) => return Err(Error::from(error)),
            }
        }
        if ended && !said {
            return Err(Error::new("the container's process ended before its program ran"));
        }
    }
}

/// What follows when the program runs.
pub fn after(container: &Container, plan: &Plan) -> Result<()> {
    let outside = &plan.head.hooks;
    if outside.poststart.is_empty() {
        return Ok(());
    }
    let state = outside.state.json("running", container.record.pid);
    hooks::run_all(&outside.poststart, &state).map_err(of_failure)
}
