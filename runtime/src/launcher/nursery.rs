//! Where shims come from: one process that was started like a shim and is told to copy itself.
//!
//! A copy shares its memory until one of them writes, and has all behind it that a program does before `main`: a static one
//! asks the processor for its caches (`cpuid`), which in a virtual machine is an exit each time. Measured: 0.25 ms of a core
//! instead of 1.0 ms.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;
use runtime_sys::clone::{Ended, reap};
use runtime_sys::seqpacket;

use super::pool::Warm;
use crate::proto::{Event, Request};
use crate::wire::Wire;

/// How long a copy may take on a machine that is busy.
const PATIENCE: i64 = 5;

/// A child of this process, to be waited for.
#[derive(Debug)]
pub(super) struct Child {
    pid: i32,
    ended: bool,
}

impl Child {
    fn new(pid: i32) -> Child {
        Child { pid, ended: false }
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it has ended; if so, it was waited for.
    pub fn has_ended(&mut self) -> bool {
        // Asked again after its end, the number could mean another child.
        if !self.ended {
            let outcome = reap(self.pid, false);
            if let Ok(Some(Ended {
                pid,
                signal: Some(signal),
                ..
            })) = &outcome
            {
                tracing::warn!(pid, signal, "a shim was killed");
            }
            self.ended = !matches!(outcome, Ok(None));
        }
        self.ended
    }

    /// Waits for a process that is about to end, so that it does not stay as a zombie.
    pub fn wait_later(mut self) {
        if self.has_ended() {
            return;
        }
        // Where there is no runtime the daemon ends: whoever inherits the process waits for it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // A shim ends when everybody has their output; nothing else tells us when that is.
                let mut pause = Duration::from_millis(2);
                while !self.has_ended() {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
            });
        }
    }
}

/// The process that copies itself.
#[derive(Debug)]
pub(super) struct Nursery {
    socket: OwnedFd,
    child: Option<Child>,
}

impl Nursery {
    /// Starts it. It ends with its socket.
    pub fn start(program: &OwnedFd) -> io::Result<Nursery> {
        let Warm { socket, child } = exec(program)?;
        runtime_sys::fd::set_nonblocking(socket.as_fd(), false)?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
        Ok(Nursery {
            socket,
            child: Some(child),
        })
    }

    /// A new shim. After a failure the nursery is of no further use.
    pub fn bear(&self) -> io::Result<Warm> {
        let (ours, theirs) = seqpacket::pair()?;
        runtime_sys::fd::set_nonblocking(ours.as_fd(), true)?;
        seqpacket::send(
            self.socket.as_fd(),
            &Request::Bear { tag: 0 }.encode(),
            &[theirs.as_fd()],
        )?;
        let mut buffer = [0; 64];
        let (count, _) = seqpacket::receive(self.socket.as_fd(), &mut buffer)?;
        match Event::decode(buffer.get(..count).unwrap_or_default()) {
            Ok(Event::Born { pid, .. }) => Ok(Warm {
                socket: ours,
                child: Child::new(pid),
            }),
            Ok(Event::Done { errno, .. }) => Err(io::Error::from_raw_os_error(errno)),
            other => Err(io::Error::other(format!("the nursery answers {other:?}"))),
        }
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        let _ = nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        if let Some(child) = self.child.take() {
            child.wait_later();
        }
    }
}

/// Runs the shim's program, with its socket as standard input.
pub(super) fn exec(program: &OwnedFd) -> io::Result<Warm> {
    let (ours, theirs) = seqpacket::pair()?;
    runtime_sys::fd::set_nonblocking(ours.as_fd(), true)?;
    // Resolved in the child before its descriptors are closed. Only arguments that posix_spawn can do are used: no
    // `pre_exec`, no user, no working folder.
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command
        .arg0("iechor-shim")
        .stdin(theirs)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .env_clear();
    runtime_sys::failpoint::hand_on(&mut command);
    let child = command.spawn()?;
    Ok(Warm {
        socket: ours,
        child: Child::new(child.id().cast_signed()),
    })
}
