//! Descriptors as such: ranges, standard streams, memory files.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::cvt::{check, check_fd};

/// Marks every descriptor from `first` on as close-on-exec: `close_range(2)`.
///
/// # Errors
/// As `close_range(2)`.
pub fn cloexec_from(first: u32) -> io::Result<()> {
    // SAFETY: only sets a flag on descriptors; none is closed now.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Makes `source` the descriptor 0, 1 or 2 too, kept through exec: `dup2(2)`.
///
/// # Errors
/// As `dup2(2)`; `EINVAL` for another number.
pub fn set_standard(number: i32, source: BorrowedFd<'_>) -> io::Result<()> {
    if !(0..=2).contains(&number) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: 0 to 2 are owned by nobody (the standard library only borrows them), so replacing them invalidates no
    // OwnedFd.
    check(unsafe { libc::dup2(source.as_raw_fd(), number) }.into()).map(drop)
}

/// Takes over descriptor 0 as an owned one numbered 3 or higher, leaving `/dev/null` in its place.
///
/// # Errors
/// As `fcntl(2)`, `open(2)`.
pub fn take_stdin(null: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: duplicates a number; the result is a new descriptor.
    let taken = unsafe { check_fd(libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 3).into()) }?;
    set_standard(0, null)?;
    Ok(taken)
}

/// An empty file in memory that can be sealed: `memfd_create(2)`.
///
/// # Errors
/// As `memfd_create(2)`.
pub fn memory_file(name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name lives across the call; the result is a new descriptor.
    unsafe { check_fd(libc::memfd_create(name.as_ptr(), flags).into()) }
}

/// Seals a memory file for good against writing, shrinking and growing: `F_ADD_SEALS`.
///
/// # Errors
/// As `fcntl(2)`.
pub fn seal(file: BorrowedFd<'_>) -> io::Result<()> {
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: takes numbers.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }.into()).map(drop)
}

/// Sets whether reads and writes return instead of waiting: `O_NONBLOCK`.
///
/// # Errors
/// As `fcntl(2)`.
pub fn set_nonblocking(file: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
    // SAFETY: takes numbers.
    let flags = check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) }.into())? as i32;
    let wanted = if nonblocking {
        flags | libc::O_NONBLOCK
    } else {
        flags & !libc::O_NONBLOCK
    };
    // SAFETY: takes numbers.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, wanted) }.into()).map(drop)
}

/// Closes every descriptor from 3 on and ends as process 1 of a container would: never returns to code that owns any
/// of them. `close_range(2)`.
pub fn close_all_then(forever: impl FnOnce() -> std::convert::Infallible) -> ! {
    // SAFETY: owners of the closed descriptors still exist on the stack, but are never used or dropped again, since
    // `forever` cannot return and cannot have captured them usefully; the process ends by `_exit`, or by a panic that
    // aborts it.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0) };
    match forever() {}
}
