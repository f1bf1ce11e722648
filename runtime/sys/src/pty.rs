//! Pseudo terminals.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::cvt::{check, check_fd};

/// Lets the other end of a master be opened: `TIOCSPTLCK` with 0.
///
/// # Errors
/// As `ioctl_tty(2)`.
pub fn unlock(master: BorrowedFd<'_>) -> io::Result<()> {
    let zero: libc::c_int = 0;
    // SAFETY: the request reads one int, which lives across the call.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const zero) }.into()).map(drop)
}

/// Opens the other end of a master without a path (which the container could have covered): `TIOCGPTPEER`.
///
/// # Errors
/// As `ioctl_tty(2)`.
pub fn peer(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes flags by value and returns a new descriptor.
    unsafe { check_fd(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags).into()) }
}

/// Tells the terminal its size in character cells: `TIOCSWINSZ`. The foreground processes get `SIGWINCH`.
///
/// # Errors
/// As `ioctl_tty(2)`.
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, cols: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the request reads one winsize, which lives across the call.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }.into()).map(drop)
}

/// Makes the terminal that of the calling session leader: `TIOCSCTTY`.
///
/// # Errors
/// As `ioctl_tty(2)`.
pub fn take_control(terminal: impl AsFd) -> io::Result<()> {
    // SAFETY: the request takes a number.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) }.into()).map(drop)
}

/// Size of a terminal in rows and columns: `TIOCGWINSZ`.
///
/// # Errors
/// `ENOTTY` when it is none.
pub fn size(terminal: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the request writes one winsize, which lives across the call.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) }.into())?;
    Ok((size.ws_row, size.ws_col))
}

/// Puts a byte into the terminal's input as if it had been typed: `TIOCSTI`. For tests that this is refused.
///
/// # Errors
/// As `ioctl_tty(2)`: `EPERM` when it is not the caller's controlling terminal, `EIO` where the kernel has it off.
pub fn inject(terminal: BorrowedFd<'_>, byte: u8) -> io::Result<()> {
    // SAFETY: the request reads one byte, which lives across the call.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSTI, &raw const byte) }.into()).map(drop)
}
