//! inotify(7): hearing of changes in a folder.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What happened since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Something in the folder was written, made, moved or removed.
    Changed,
    /// The folder itself is gone; nothing more will be heard.
    Gone,
}

/// A non-blocking inotify instance.
#[derive(Debug)]
pub struct Inotify(OwnedFd);

impl Inotify {
    /// inotify_init1(2).
    ///
    /// # Errors
    /// `EMFILE` when the user has no instance left (`fs.inotify.max_user_instances`).
    pub fn new() -> io::Result<Inotify> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor; nobody else has it.
        Ok(Inotify(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Watches the content of `folder`.
    ///
    /// # Errors
    /// Those of inotify_add_watch(2).
    pub fn watch_folder(&self, folder: &Path) -> io::Result<()> {
        let folder = CString::new(folder.as_os_str().as_bytes())?;
        let mask = libc::IN_MODIFY
            | libc::IN_CREATE
            | libc::IN_MOVED_TO
            | libc::IN_DELETE_SELF
            | libc::IN_MOVE_SELF
            | libc::IN_ONLYDIR;
        // SAFETY: the descriptor is open and the path is NUL-terminated; both live through the call.
        let watch = unsafe { libc::inotify_add_watch(self.0.as_raw_fd(), folder.as_ptr(), mask) };
        if watch < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Takes all events that wait.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn drain(&self) -> io::Result<Watch> {
        let mut buffer = [0u8; 4096];
        let mut seen = None;
        loop {
            // SAFETY: the pointer and the length describe `buffer`, which is ours alone.
            let count = unsafe { libc::read(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
            let Ok(count) = usize::try_from(count) else {
                let error = io::Error::last_os_error();
                return match seen {
                    Some(watch) if error.kind() == io::ErrorKind::WouldBlock => Ok(watch),
                    _ => Err(error),
                };
            };
            seen = Some(seen.unwrap_or(Watch::Changed));
            let mut rest = &buffer[..count];
            // struct inotify_event: wd, mask, cookie, len, then `len` bytes of name.
            while let Some((event, behind)) = rest.split_at_checked(16) {
                let word = |at: usize| u32::from_ne_bytes([event[at], event[at + 1], event[at + 2], event[at + 3]]);
                if word(4) & (libc::IN_DELETE_SELF | libc::IN_MOVE_SELF | libc::IN_IGNORED) != 0 {
                    seen = Some(Watch::Gone);
                }
                rest = behind.get(word(12) as usize..).unwrap_or_default();
            }
        }
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Inotify {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
