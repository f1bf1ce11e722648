//! Waiting for a process in the foreground: signals are passed on, a terminal is pumped, its end is ours.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{read, write};
use runtime_sys::clone::{Ended, reap};
use runtime_sys::{fd, pidfd, signals};

use crate::console::{self, Raw};
use crate::error::{Context, Error, Result};

/// Blocks every signal, so that none is lost between now and [`wait`].
pub fn prepare() -> Result<()> {
    signals::block_all(true).context("cannot block signals")
}

/// Waits until the child `pid` has ended, and returns how. Other children (orphans of the container, for a sub-reaper) are
/// reaped on the way.
pub fn wait(pid: i32, process: &OwnedFd, master: Option<OwnedFd>) -> Result<Ended> {
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("cannot wait for signals")?;
    let mut terminal = master.map(Terminal::new).transpose()?;
    loop {
        // A child that ended before we looked has left no signal.
        if let Some(ended) = reap_all(pid)? {
            if let Some(terminal) = &mut terminal {
                terminal.drain();
            }
            return Ok(ended);
        }
        let mut watched = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if let Some(terminal) = &terminal {
            terminal.watch(&mut watched);
        }
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::from(errno)),
        }
        while let Ok(Some(signal)) = signals.read_signal() {
            let number = signal.ssi_signo as i32;
            match (number, &terminal) {
                (libc::SIGCHLD, _) => {}
                (libc::SIGWINCH, Some(terminal)) => console::copy_size(terminal.master.as_fd()),
                // What a terminal makes of keys reaches the process' own terminal as keys; and we are not to stop.
                (libc::SIGURG | libc::SIGTTIN | libc::SIGTTOU | libc::SIGTSTP | libc::SIGPIPE, _) => {}
                _ => drop(pidfd::signal(process.as_fd(), number)),
            }
        }
        if let Some(terminal) = &mut terminal {
            terminal.pump();
        }
    }
}

fn reap_all(pid: i32) -> Result<Option<Ended>> {
    loop {
        match reap(-1, false) {
            Ok(Some(ended)) if ended.pid == pid => return Ok(Some(ended)),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) => return Err(Error::new(format!("cannot wait for the process: {error}"))),
        }
    }
}

/// Our terminal and that of the process, one for the other.
struct Terminal {
    master: OwnedFd,
    _raw: Raw,
    /// Typed, and not taken yet.
    typed: Vec<u8>,
    input_open: bool,
    output_open: bool,
}

const CHUNK: usize = 16 * 1024;

impl Terminal {
    fn new(master: OwnedFd) -> Result<Terminal> {
        fd::set_nonblocking(master.as_fd(), true).context("terminal")?;
        console::copy_size(master.as_fd());
        Ok(Terminal {
            master,
            _raw: Raw::enter(),
            typed: Vec::new(),
            input_open: true,
            output_open: true,
        })
    }

    fn watch<'a>(&'a self, list: &mut Vec<PollFd<'a>>) {
        let mut wanted = PollFlags::empty();
        if self.output_open {
            wanted |= PollFlags::POLLIN;
        }
        if !self.typed.is_empty() {
            wanted |= PollFlags::POLLOUT;
        }
        if self.output_open {
            list.push(PollFd::new(self.master.as_fd(), wanted));
        }
        if self.input_open && self.typed.is_empty() {
            list.push(PollFd::new(STDIN.as_fd(), PollFlags::POLLIN));
        }
    }

    fn pump(&mut self) {
        let mut buffer = [0; CHUNK];
        while self.output_open {
            match read(&self.master, &mut buffer) {
                Ok(count @ 1..) => write_all(&buffer[..count]),
                // EIO: nobody has the other end open.
                Ok(_) | Err(Errno::EIO) => self.output_open = false,
                Err(_) => break,
            }
        }
        if self.input_open && self.typed.is_empty() && readable(STDIN.as_fd()) {
            match read(STDIN.as_fd(), &mut buffer) {
                Ok(count @ 1..) => self.typed.extend_from_slice(&buffer[..count]),
                Ok(_) => self.input_open = false,
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(_) => self.input_open = false,
            }
        }
        if !self.typed.is_empty()
            && let Ok(count) = write(&self.master, &self.typed)
        {
            self.typed.drain(..count);
        }
    }

    /// What is left when the process has ended.
    fn drain(&mut self) {
        self.input_open = false;
        self.typed.clear();
        self.pump();
    }
}

static STDIN: std::sync::LazyLock<io::Stdin> = std::sync::LazyLock::new(io::stdin);

fn readable(file: std::os::fd::BorrowedFd<'_>) -> bool {
    let mut list = [PollFd::new(file, PollFlags::POLLIN)];
    matches!(poll(&mut list, PollTimeout::ZERO), Ok(1..))
}

fn write_all(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match write(io::stdout(), bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EAGAIN) => {
                let out = io::stdout();
                let _ = poll(&mut [PollFd::new(out.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE);
            }
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
