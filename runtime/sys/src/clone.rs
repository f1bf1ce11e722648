//! `clone3(2)` for a process with one thread, and what goes with it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::cvt::check;

/// Proof that the process had one thread when it was asked. A child of a threaded process may only make
/// async-signal-safe calls (another thread may hold the allocator's lock at the moment of the clone); with this token
/// the child is a full copy and may do as it likes. Whoever holds one must not start threads: the shim has none.
#[derive(Debug)]
pub struct SingleThread(());

impl SingleThread {
    /// Counts the threads of this process.
    ///
    /// # Errors
    /// When `/proc` cannot be read, or there is more than one thread.
    pub fn claim() -> io::Result<SingleThread> {
        if std::fs::read_dir("/proc/self/task")?.count() == 1 {
            Ok(SingleThread(()))
        } else {
            Err(io::Error::other("the process has more than one thread"))
        }
    }
}

/// In which of the two processes a clone returned.
#[derive(Debug)]
pub enum Cloned {
    /// The new process.
    Child,
    /// The calling one.
    Parent {
        /// The child's number in the caller's pid namespace.
        pid: i32,
        /// A handle that never means another process.
        pidfd: OwnedFd,
    },
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Copies the process into new namespaces (`CLONE_NEW*` in `namespaces`), with default signal handlers, optionally
/// straight into a v2 cgroup: `clone3(2)`.
///
/// # Errors
/// As `clone3(2)`.
pub fn clone3(_: &SingleThread, namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    clone_with(namespaces & NAMESPACES, libc::SIGCHLD as u64, cgroup)
}

/// As [`clone3`], but the new process is a child of our parent, like ourselves: `CLONE_PARENT`.
///
/// # Errors
/// As `clone3(2)`.
pub fn clone3_sibling(_: &SingleThread, namespaces: u64) -> io::Result<Cloned> {
    // The parent is told as it wanted to be told of us.
    clone_with((namespaces & NAMESPACES) | libc::CLONE_PARENT as u64, 0, None)
}

fn clone_with(flags: u64, exit_signal: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: flags | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND,
        pidfd: &raw mut pidfd as u64,
        exit_signal,
        ..CloneArgs::default()
    };
    if let Some(dir) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = dir.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM and without a stack this is fork(2): the child gets a copy of the memory. `args` and
    // `pidfd` live across the call. The callers' token says that there is one thread, so no lock is held by a thread that
    // the child lacks. The C library remembers the thread's number, which is the parent's in the child; it uses it for
    // `abort` (which then ends the process by its next means) and for kinds of locks that nobody here has.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: the call succeeded with CLONE_PIDFD, so the kernel stored a new descriptor there.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid: pid as i32, pidfd })
}

/// Flags that stand for namespaces.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u64;

/// Ends the process at once, without running anything registered for its end: `_exit(2)`.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// A process that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its number.
    pub pid: i32,
    /// Exit code, or 128 + the signal that killed it.
    pub code: i32,
    /// The signal that killed it.
    pub signal: Option<i32>,
}

/// Takes the next child that ended, whichever (`pid` -1) or a given one: `waitpid(2)`. Unlike nix, knows real-time
/// signals.
///
/// # Errors
/// As `waitpid(2)`; `ECHILD` when there is no child at all.
pub fn reap(pid: i32, block: bool) -> io::Result<Option<Ended>> {
    let mut status = 0;
    let options = if block { 0 } else { libc::WNOHANG };
    // SAFETY: `status` lives across the call.
    let pid = check(unsafe { libc::waitpid(pid, &raw mut status, options) }.into())? as i32;
    if pid == 0 {
        return Ok(None);
    }
    if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        return Ok(Some(Ended {
            pid,
            code: 128 + signal,
            signal: Some(signal),
        }));
    }
    Ok(Some(Ended {
        pid,
        code: libc::WEXITSTATUS(status),
        signal: None,
    }))
}

/// Copies the process within its namespaces, where a filter may refuse `clone3`: `fork(2)`. `Some` in the parent, with
/// the child's number.
///
/// # Errors
/// As `fork(2)`.
pub fn fork(_: &SingleThread) -> io::Result<Option<i32>> {
    // SAFETY: the token says that there is one thread, so that the child may do as it likes.
    let pid = check(unsafe { libc::fork() }.into())? as i32;
    Ok(if pid == 0 { None } else { Some(pid) })
}
