//! From a plan to a process: what the shim and the OCI command line have in common.
//!
//! ```text
//! caller (one thread)                      child
//!   container(plan) ── clone3 ──────────►  namespaces, root, mounts, devices, masks
//!     groups, maps of users, clocks,  ──►    (waits for what it cannot do by itself)
//!     mounts with the host's rights, hooks
//!                                          identity, limits, filter ──► exec
//!   report() ◄── socket: terminal, failure, or its end: the program runs
//! ```
//!
//! **Invariants:** one thread; what runs between `clone` and `exec` trusts no name inside the container's root; on failure
//! nothing is left. Deliberately absent: decisions (they stand in the plan), JSON, a life after `exec` (the caller's).

#![forbid(unsafe_code)]

pub mod bundle;
pub mod cgroup;
mod child;
pub mod failure;
pub mod hooks;
mod host_mounts;
mod namespaces;
mod net_devices;
pub mod outside;
mod rdt;
mod report;
mod spawn;
mod users;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use runtime_sys::clone::SingleThread;

pub use child::nodes::is_null;
pub use report::{Agent, Report, report};
pub use spawn::{Entered, Exec, Options, Spawned, Start, container, exec};

/// What the process that starts containers has from the beginning.
pub struct Host {
    /// One thread: clones may be made.
    pub single: SingleThread,
    /// The host's procfs, verified.
    pub proc: OwnedFd,
    /// The host's null device, verified.
    pub null: OwnedFd,
    /// This process is protected from the OOM killer; its children must not inherit that.
    pub oom_score_lowered: bool,
}

impl Host {
    /// Opens what is needed.
    ///
    /// # Errors
    /// When `/proc` or `/dev/null` are not what they should be, or the process has more than one thread.
    pub fn open() -> io::Result<Host> {
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        if !is_null(&null) {
            return Err(io::Error::other("/dev/null is not the null device"));
        }
        Ok(Host {
            single: SingleThread::claim()?,
            proc: host_proc()?,
            null,
            oom_score_lowered: false,
        })
    }

    /// Opens a file of procfs by its path there (`123/ns/user`).
    ///
    /// # Errors
    /// As `openat(2)`.
    pub fn open_proc(&self, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        open_proc(self.proc.as_fd(), path, flags)
    }
}

fn open_proc(proc: BorrowedFd<'_>, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    openat(proc, path, flags | OFlag::O_CLOEXEC, Mode::empty())
}

fn host_proc() -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let proc = open("/proc", flags, Mode::empty())?;
    let kind = nix::sys::statfs::fstatfs(&proc)?.filesystem_type();
    if kind == nix::sys::statfs::PROC_SUPER_MAGIC {
        Ok(proc)
    } else {
        Err(Errno::ENOSYS)
    }
}
