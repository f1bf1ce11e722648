//! Process descriptors: a handle that never means another process.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::cvt::{check, check_fd};

/// A descriptor of a process: `pidfd_open(2)`.
///
/// # Errors
/// As `pidfd_open(2)`; `ESRCH` when there is no such process.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers; the result is a new descriptor (close-on-exec by definition).
    unsafe { check_fd(libc::syscall(libc::SYS_pidfd_open, pid, 0)) }
}

/// Sends a signal: `pidfd_send_signal(2)`. Signal 0 only asks whether that is possible.
///
/// # Errors
/// As `pidfd_send_signal(2)`; `ESRCH` when the process has ended.
pub fn signal(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and means what kill(2) would send.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, no_info, 0) }).map(drop)
}

/// Sends a signal to every process of a process group or a single number: `kill(2)`. Only for numbers that cannot have
/// been reused: the caller's own unreaped children.
///
/// # Errors
/// As `kill(2)`.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}
