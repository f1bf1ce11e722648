//! Errors of the launcher, in Docker's words where a user sees them.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

/// The launcher itself cannot work.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    /// The state folder.
    #[error("cannot use {} as the shims' state folder", path.display())]
    State {
        /// The folder.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The shim's program.
    #[error("cannot read the shim's program {}; it is built with the daemon and belongs beside it", path.display())]
    Program {
        /// The program.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A live shim does not answer.
    #[error("cannot talk to the shim at {}", path.display())]
    Connect {
        /// Its socket.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// An id that cannot be a file name.
    #[error("{id:?} is no container id")]
    BadId {
        /// What was given.
        id: String,
    },
}

/// A request to a shim failed.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// The process has ended (or never was).
    #[error("no such process")]
    NoProcess,
    /// The process is still being set up.
    #[error("the process has not started yet")]
    Starting,
    /// The shim is gone.
    #[error("the container's shim is gone")]
    Gone,
    /// The kernel refused.
    #[error("the shim could not do it")]
    Refused(#[source] io::Error),
}

impl ShimError {
    pub(super) fn of(errno: i32) -> ShimError {
        match Errno::from_raw(errno) {
            Errno::ESRCH => ShimError::NoProcess,
            Errno::EAGAIN => ShimError::Starting,
            errno => ShimError::Refused(errno.into()),
        }
    }
}
