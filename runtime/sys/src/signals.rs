//! Signal dispositions, masks and waiting, for processes that handle every signal by reading it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::cvt::{check, check_fd};

/// Gives every signal its default effect (a parent may have left some ignored, which `exec` keeps).
pub fn reset_all() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL installs no handler. The kernel refuses SIGKILL, SIGSTOP and the C library its own two
        // signals; those have the default anyway.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Blocks every signal, so that it waits to be read; or lets all through: `sigprocmask(2)`.
///
/// # Errors
/// As `sigprocmask(2)`.
pub fn block_all(block: bool) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is filled or emptied before it is used; the old mask is not asked for.
    check(
        unsafe {
            if block {
                libc::sigfillset(set.as_mut_ptr())
            } else {
                libc::sigemptyset(set.as_mut_ptr())
            };
            libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut())
        }
        .into(),
    )
    .map(drop)
}

/// Lets a program start with no signal blocked, whatever this process blocks: the mask outlives `exec`, and the standard
/// library leaves it as it is.
pub fn unblock_in(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: what runs between fork and exec is sigprocmask(2) alone, which is async-signal-safe; it allocates nothing.
    unsafe { command.pre_exec(|| block_all(false)) };
}

/// A non-blocking descriptor that is readable when a child has ended: `signalfd(2)` for `SIGCHLD`, which must be
/// blocked.
///
/// # Errors
/// As `signalfd(2)`.
pub fn child_events() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is emptied before it is used; the result is a new descriptor.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        check_fd(libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into())
    }
}

/// Takes what is queued in [`child_events`]; the news itself is to be asked from `waitpid`.
pub fn clear_child_events(events: BorrowedFd<'_>) {
    let mut room = MaybeUninit::<libc::signalfd_siginfo>::uninit();
    // SAFETY: the kernel writes at most the given size. Standard signals queue once, so that one read empties it.
    unsafe {
        libc::read(
            events.as_raw_fd(),
            room.as_mut_ptr().cast(),
            size_of::<libc::signalfd_siginfo>(),
        )
    };
}

/// Waits for the next blocked signal: `sigwaitinfo(2)`.
///
/// # Errors
/// As `sigwaitinfo(2)`.
pub fn wait() -> io::Result<i32> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is filled before it is used; no details of the signal are asked for.
    check(
        unsafe {
            libc::sigfillset(set.as_mut_ptr());
            libc::sigwaitinfo(set.as_ptr(), std::ptr::null_mut())
        }
        .into(),
    )
    .map(|signal| signal as i32)
}
