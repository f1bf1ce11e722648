//! The process that the shim started: a container's first one, or an exec.

use std::os::fd::{AsFd, OwnedFd};

use runtime::proto::{Failure, Step};
use runtime_container::failure::At;
use runtime_container::{Spawned, report};
use runtime_sys::epoll::Epoll;
use runtime_sys::pidfd;

use crate::pump::Pump;
use crate::token::Token;

pub struct Process {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub pump: Pump,
    /// The socket to the child while it is being set up.
    sync: Option<OwnedFd>,
    pub ended: bool,
}

impl Process {
    /// `sync` is watched for its end alone: what the child says meanwhile is read then, so that it wakes nobody.
    pub fn new(spawned: Spawned, pump: Pump, epoll: &Epoll) -> std::io::Result<Process> {
        let Spawned { pid, pidfd, sync } = spawned;
        epoll.watch(sync.as_fd(), Token::Sync.pack(), 0)?;
        Ok(Process {
            pid,
            pidfd,
            pump,
            sync: Some(sync),
            ended: false,
        })
    }

    /// Whether the program runs (or has run).
    pub fn is_starting(&self) -> bool {
        self.sync.is_some()
    }

    pub fn signal(&self, signal: i32) -> std::io::Result<()> {
        pidfd::signal(self.pidfd.as_fd(), signal)
    }

    /// The socket to the child is at its end: either the program runs now, or it never will.
    pub fn started(&mut self, epoll: &Epoll) -> Result<(), Failure> {
        let Some(sync) = self.sync.take() else {
            return Ok(());
        };
        // A child in its set-up may still share our end, which would keep it watched.
        epoll.forget(sync.as_fd());
        let report = report(&sync, None)?;
        if let Some(master) = report.terminal {
            self.pump.set_terminal(master, epoll).at(Step::Terminal, "")?;
        }
        Ok(())
    }
}
