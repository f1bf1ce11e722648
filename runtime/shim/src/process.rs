//! A process that the shim started: the container's first one, or an exec.

use std::os::fd::{AsFd, OwnedFd};

use runtime::proto::{Failure, Step};
use runtime_container::failure::At;
use runtime_container::{Spawned, report};
use runtime_sys::epoll::Epoll;
use runtime_sys::pidfd;

use crate::foreign::Pending;
use crate::pump::Pump;
use crate::token::Token;

/// How far a process is.
enum Setup {
    /// It is being set up; the socket to the child.
    Child(OwnedFd),
    /// Another runtime sets it up. Until there is a process of the container, `pid` is the runtime's.
    Foreign(Box<Pending>),
    /// Its program runs (or has run).
    Over,
}

pub struct Process {
    /// Its number in the protocol; 0 is the container's first process.
    pub number: u32,
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub pump: Pump,
    setup: Setup,
    /// Which connection and tag asked for it.
    pub asked_by: (u32, u32),
    pub ended: bool,
}

impl Process {
    /// `sync` is watched for its end alone: what the child says meanwhile is read then, so that it wakes nobody.
    pub fn new(
        number: u32,
        spawned: Spawned,
        pump: Pump,
        asked_by: (u32, u32),
        epoll: &Epoll,
    ) -> std::io::Result<Process> {
        let Spawned { pid, pidfd, sync } = spawned;
        epoll.watch(sync.as_fd(), Token::Sync(number).pack(), 0)?;
        Ok(Process {
            number,
            pid,
            pidfd,
            pump,
            setup: Setup::Child(sync),
            asked_by,
            ended: false,
        })
    }

    /// One that another runtime makes; `pid` and `pidfd` are of the runtime's own process for now.
    pub fn foreign(
        number: u32,
        (pid, pidfd): (i32, OwnedFd),
        pump: Pump,
        asked_by: (u32, u32),
        pending: Pending,
    ) -> Process {
        Process {
            number,
            pid,
            pidfd,
            pump,
            setup: Setup::Foreign(Box::new(pending)),
            asked_by,
            ended: false,
        }
    }

    /// What another runtime has still to do for it.
    pub fn pending(&mut self) -> Option<&mut Pending> {
        match &mut self.setup {
            Setup::Foreign(pending) => Some(pending),
            Setup::Child(_) | Setup::Over => None,
        }
    }

    /// Takes the process out of its set-up by another runtime.
    pub fn take_pending(&mut self) -> Option<Box<Pending>> {
        match std::mem::replace(&mut self.setup, Setup::Over) {
            Setup::Foreign(pending) => Some(pending),
            other => {
                self.setup = other;
                None
            }
        }
    }

    pub fn put_pending(&mut self, pending: Box<Pending>) {
        self.setup = Setup::Foreign(pending);
    }

    /// Whether the program runs (or has run).
    pub fn is_starting(&self) -> bool {
        !matches!(self.setup, Setup::Over)
    }

    pub fn signal(&self, signal: i32) -> std::io::Result<()> {
        pidfd::signal(self.pidfd.as_fd(), signal)
    }

    /// The socket to the child is at its end: either the program runs now, or it never will.
    pub fn started(&mut self, epoll: &Epoll) -> Result<(), Failure> {
        let sync = match std::mem::replace(&mut self.setup, Setup::Over) {
            Setup::Child(sync) => sync,
            other => {
                self.setup = other;
                return Ok(());
            }
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
