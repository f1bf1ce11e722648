//! `epoll(7)` with a number of the caller's per descriptor.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::cvt::{check, check_fd};

/// Readable, or at its end.
pub const READ: u32 = libc::EPOLLIN as u32;
/// Writable.
pub const WRITE: u32 = libc::EPOLLOUT as u32;
/// The other side has ended its direction.
pub const HALF_CLOSED: u32 = libc::EPOLLRDHUP as u32;
/// Gone: reported without being asked for.
pub const GONE: u32 = (libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// A set of watched descriptors.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

/// One descriptor's news: the number it was added with, and what it is ready for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Event {
    /// As given to [`Epoll::watch`].
    pub token: u64,
    /// [`READ`], [`WRITE`], [`HALF_CLOSED`], [`GONE`].
    pub ready: u32,
}

impl Epoll {
    /// An empty set: `epoll_create1(2)`.
    ///
    /// # Errors
    /// As `epoll_create1(2)`.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: takes a number; the result is a new descriptor.
        unsafe { check_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC).into()) }.map(Epoll)
    }

    /// Adds a descriptor.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`; `EPERM` for what is always ready (regular files).
    pub fn watch(&self, fd: BorrowedFd<'_>, token: u64, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    /// Changes what is waited for.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn change(&self, fd: BorrowedFd<'_>, token: u64, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    /// Takes a descriptor out. Needed before closing only where another process shares the open file.
    pub fn forget(&self, fd: BorrowedFd<'_>) {
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
    }

    fn control(&self, operation: i32, fd: BorrowedFd<'_>, token: u64, interest: u32) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: interest,
            u64: token,
        };
        // SAFETY: the event lives across the call.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event) }.into())
            .map(drop)
    }

    /// Waits for news, at most `timeout` milliseconds (-1: for ever). An interrupted wait is an empty one.
    ///
    /// # Errors
    /// As `epoll_wait(2)`.
    pub fn wait(&self, events: &mut [Event; 16], timeout: i32) -> io::Result<usize> {
        let mut raw = [libc::epoll_event { events: 0, u64: 0 }; 16];
        // SAFETY: room for as many events as the count says.
        let count = match check(
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), raw.as_mut_ptr(), raw.len() as i32, timeout) }.into(),
        ) {
            Ok(count) => count as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        for (to, from) in events.iter_mut().zip(raw.iter().take(count)) {
            *to = Event {
                token: from.u64,
                ready: from.events,
            };
        }
        Ok(count)
    }
}
