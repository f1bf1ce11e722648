//! A process that the shim started: the container's first one, or an exec.

use std::os::fd::{AsFd, OwnedFd};

use runtime::proto::{Failure, Step};
use runtime::wire::Wire;
use runtime_sys::epoll::Epoll;
use runtime_sys::{pidfd, seqpacket};

use crate::child::failure::failure;
use crate::child::report;
use crate::pump::Pump;
use crate::token::Token;
use nix::errno::Errno;

pub struct Process {
    /// Its number in the protocol; 0 is the container's first process.
    pub number: u32,
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub pump: Pump,
    /// The socket to the child while it is being set up.
    sync: Option<OwnedFd>,
    /// Which connection and tag asked for it.
    pub asked_by: (u32, u32),
    pub ended: bool,
}

impl Process {
    /// `sync` is watched for its end alone: what the child says meanwhile is read then, so that it wakes nobody.
    pub fn new(
        number: u32,
        pid: i32,
        pidfd: OwnedFd,
        pump: Pump,
        sync: OwnedFd,
        asked_by: (u32, u32),
        epoll: &Epoll,
    ) -> std::io::Result<Process> {
        epoll.watch(sync.as_fd(), Token::Sync(number).pack(), 0)?;
        Ok(Process {
            number,
            pid,
            pidfd,
            pump,
            sync: Some(sync),
            asked_by,
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

    /// Lets a child that waits for its cgroups go on.
    pub fn cgroups_are_ready(&self) {
        if let Some(sync) = &self.sync {
            let _ = seqpacket::send(sync.as_fd(), &[0], &[]);
        }
    }

    /// The socket to the child is at its end: either the program runs now, or it never will.
    pub fn started(&mut self, epoll: &Epoll) -> Result<(), Failure> {
        let Some(sync) = self.sync.take() else {
            return Ok(());
        };
        // A child in its set-up may still share our end, which would keep it watched.
        epoll.forget(sync.as_fd());
        let mut running = false;
        let mut message = [0u8; 8192];
        loop {
            match seqpacket::receive(sync.as_fd(), &mut message) {
                // The child ended without having read what we sent. The kernel says so once; its words come after.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
                Ok((0, _)) | Err(_) => break,
                Ok((count, mut fds)) => match message.get(..count).and_then(<[u8]>::split_first) {
                    Some((&report::RUNNING, _)) => running = true,
                    Some((&report::TERMINAL, _)) => {
                        let adopted = fds.pop().map(|master| self.pump.set_terminal(master, epoll));
                        if let Some(Err(error)) = adopted {
                            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
                            return Err(failure(Step::Terminal, "", errno, ""));
                        }
                    }
                    Some((&report::FAILURE, rest)) => {
                        return Err(Failure::decode(rest)
                            .unwrap_or_else(|_| failure(Step::Vanished, "", Errno::UnknownErrno, "spoke nonsense")));
                    }
                    _ => {}
                },
            }
        }
        if running {
            Ok(())
        } else {
            Err(failure(Step::Vanished, "", Errno::UnknownErrno, ""))
        }
    }
}
