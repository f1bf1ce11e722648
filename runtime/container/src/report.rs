//! What a child says before its program runs.

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use runtime::plan::Listener;
use runtime::proto::{Failure, Step};
use runtime::wire::Wire;
use runtime_sys::seqpacket;

use crate::failure::{At, failure};

/// The first byte of each message from the child.
pub mod word {
    /// The master of the terminal comes along.
    pub const TERMINAL: u8 = 1;
    /// An encoded `Failure` follows.
    pub const FAILURE: u8 = 2;
    /// The program is about to run: without this word, the end of the socket is the child's death.
    pub const RUNNING: u8 = 3;
    /// The namespaces are there, the root is not changed yet: time for hooks outside.
    pub const HOOKS: u8 = 4;
    /// The process that matters is another one, whose descriptor comes along.
    pub const PROCESS: u8 = 5;
    /// The descriptor on which the kernel asks about system calls comes along.
    pub const LISTENER: u8 = 6;
}

/// The first byte of each message to the child.
pub mod order {
    /// What it waited for is done.
    pub const GO: u8 = 0;
    /// The root comes along, made with the host's rights.
    pub const ROOT: u8 = 1;
    /// The source of the mount with the number that follows comes along.
    pub const MOUNT: u8 = 2;
}

/// What became of a child's set-up.
#[derive(Debug, Default)]
pub struct Report {
    /// The master of its terminal.
    pub terminal: Option<OwnedFd>,
}

/// Reads what a child said, up to the end of the socket: at that moment its program runs, or it never will. Blocks when
/// the socket does. `agent` is whom the kernel asks about the system calls of the child, `state` how the container is
/// described to it.
///
/// # Errors
/// What the child could not do; [`Step::Vanished`] when it went away without a word.
pub fn report(sync: &OwnedFd, agent: Option<&Agent<'_>>) -> Result<Report, Failure> {
    let mut report = Report::default();
    let mut running = false;
    let mut message = [0u8; 8192];
    loop {
        match seqpacket::receive(sync.as_fd(), &mut message) {
            // The child ended without having read what we sent. The kernel says so once; its words come after.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::Interrupted) => {}
            Ok((0, _)) | Err(_) => break,
            Ok((count, mut fds)) => match message.get(..count).and_then(<[u8]>::split_first) {
                Some((&word::RUNNING, _)) => running = true,
                Some((&word::TERMINAL, _)) => report.terminal = fds.pop(),
                Some((&word::LISTENER, _)) => match (agent, fds.pop()) {
                    (Some(agent), Some(listener)) => agent.hand_over(&listener)?,
                    _ => return Err(failure(Step::Listener, "", Errno::EBADF, "nobody is there to take it")),
                },
                Some((&word::FAILURE, rest)) => return Err(decode(rest)),
                _ => {}
            },
        }
    }
    if running {
        Ok(report)
    } else {
        Err(failure(Step::Vanished, "", Errno::UnknownErrno, ""))
    }
}

/// Whoever decides about system calls that the filter hands over (OCI runtime specification, "The Container Process
/// State").
pub struct Agent<'a> {
    /// Where it is.
    pub listener: &'a Listener,
    /// The process' number in our pid namespace.
    pub pid: i32,
    /// The container's, a word of the specification.
    pub status: &'a str,
    /// That of the container's first process.
    pub init: i32,
}

impl Agent<'_> {
    fn hand_over(&self, descriptor: &OwnedFd) -> Result<(), Failure> {
        let Listener { path, metadata, state } = self.listener;
        let text = format!(
            "{{\"ociVersion\":\"1.3.0\",\"fds\":[\"seccompFd\"],\"pid\":{},\"metadata\":{metadata},\"state\":{}}}",
            self.pid,
            state.json(self.status, self.init)
        );
        let stream = std::os::unix::net::UnixStream::connect(path).at(Step::Listener, path)?;
        let parts = [std::io::IoSlice::new(text.as_bytes())];
        let fds = [descriptor.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(stream.as_raw_fd(), &parts, &rights, MsgFlags::MSG_NOSIGNAL, None)
            .map(drop)
            .at(Step::Listener, path)
    }
}

/// A failure in the child's words.
pub fn decode(bytes: &[u8]) -> Failure {
    Failure::decode(bytes).unwrap_or_else(|_| failure(Step::Vanished, "", Errno::UnknownErrno, "spoke nonsense"))
}
