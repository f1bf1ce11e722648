//! `openat2(2)`: the way to open a path inside a root that somebody else controls.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::cvt::{c_path, check_fd};

/// How a path is walked: `RESOLVE_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolve(u64);

impl Resolve {
    /// The directory is `/` for `..` and absolute symlinks; links of `/proc/PID/fd` and the like are refused.
    pub const IN_ROOT: Resolve = Resolve(libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS);
    /// As [`Resolve::IN_ROOT`], and no symlink at all.
    pub const IN_ROOT_NO_SYMLINKS: Resolve =
        Resolve(libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_NO_SYMLINKS);
}

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// The kernel gives up a walk with `..` in it when anything is renamed or mounted anywhere on the machine meanwhile: on a
/// busy one, where dozens of containers start at once, that is often (32 tries were not enough).
const MOST_TRIES: u32 = 4096;

/// Opens `path` as seen from `dir`: `openat2(2)`. Always close-on-exec.
///
/// # Errors
/// As `openat2(2)`. `EAGAIN` (something was renamed during the walk) is tried again, a bounded number of times.
pub fn openat2(dir: BorrowedFd<'_>, path: &Path, flags: i32, mode: u32, resolve: Resolve) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let how = OpenHow {
        flags: (flags | libc::O_CLOEXEC) as u64,
        mode: mode.into(),
        resolve: resolve.0,
    };
    let mut tries = 0;
    loop {
        // SAFETY: `path` and `how` live across the call, and the size given is that of `how`; the result is a new
        // descriptor.
        let opened = unsafe {
            check_fd(libc::syscall(
                libc::SYS_openat2,
                dir.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<OpenHow>(),
            ))
        };
        match opened {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && tries < MOST_TRIES => {
                tries += 1;
                // Whoever renames or mounts may need this very CPU to get done.
                if tries > 16 {
                    std::thread::yield_now();
                }
            }
            other => return other,
        }
    }
}
