//! Terminals: handing one over, and being one for a process in the foreground.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use runtime_sys::pty;

use crate::error::{Context, Result};

/// Sends the master of a terminal to whoever listens at a Unix stream socket (runc's `--console-socket`).
pub fn hand_over(socket: &Path, master: &OwnedFd) -> Result<()> {
    let what = || format!("cannot hand the terminal to {}", socket.display());
    let stream = connect(socket).context(what())?;
    // The content is the terminal's name, which no receiver relies on.
    let name = [IoSlice::new(b"/dev/ptmx")];
    let fds = [master.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(stream.as_raw_fd(), &name, &rights, MsgFlags::MSG_NOSIGNAL, None)
        .map(drop)
        .context(what())
}

/// Paths longer than a socket address go by their folder's descriptor.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(error);
            };
            let folder = std::fs::File::open(folder)?;
            UnixStream::connect(
                Path::new("/proc/self/fd")
                    .join(folder.as_raw_fd().to_string())
                    .join(name),
            )
        }
        other => other,
    }
}

/// Our own terminal in raw mode, until this is dropped.
pub struct Raw {
    before: Option<Termios>,
}

impl Raw {
    /// Standard input need not be a terminal.
    pub fn enter() -> Raw {
        let stdin = io::stdin();
        let Ok(before) = tcgetattr(&stdin) else {
            return Raw { before: None };
        };
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        let _ = tcsetattr(&stdin, SetArg::TCSANOW, &raw);
        Raw { before: Some(before) }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

/// Gives a terminal the size of ours.
pub fn copy_size(master: BorrowedFd<'_>) {
    for ours in [io::stdin().as_fd(), io::stdout().as_fd(), io::stderr().as_fd()] {
        if let Ok((rows, cols)) = pty::size(ours) {
            let _ = pty::resize(master, rows, cols);
            return;
        }
    }
}
