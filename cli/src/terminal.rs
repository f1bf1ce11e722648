//! The user's terminal: is it one, how big is it, and raw mode that is undone however the program ends.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;

use nix::sys::termios::{self, SetArg, Termios};

/// The settings to go back to. One slot is enough: only the controlling terminal is ever made raw.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

pub fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Rows and columns of the terminal on stdout, if it is one and knows its size.
pub fn size() -> Option<(u16, u16)> {
    size_of(io::stdout().as_fd())
}

fn size_of(fd: BorrowedFd<'_>) -> Option<(u16, u16)> {
    terminal_size::terminal_size_of(fd).map(|(width, height)| (height.0, width.0))
}

/// The same for stderr, where progress goes when stdout carries data.
pub fn stderr_size() -> Option<(u16, u16)> {
    size_of(io::stderr().as_fd())
}

/// The terminal passes every key on. Dropping it goes back.
pub struct Raw(());

impl Raw {
    /// Makes the terminal on stdin raw, if stdin is one.
    pub fn stdin() -> io::Result<Option<Raw>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = termios::tcgetattr(&stdin)?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        *slot() = Some(before);
        termios::tcsetattr(&stdin, SetArg::TCSANOW, &raw)?;
        Ok(Some(Raw(())))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// The terminal does not show what is typed: for passwords. Dropping it goes back.
pub struct Silent(());

impl Silent {
    /// Makes the terminal on stdin silent, if stdin is one.
    pub fn stdin() -> io::Result<Option<Silent>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = termios::tcgetattr(&stdin)?;
        let mut silent = before.clone();
        silent.local_flags.remove(termios::LocalFlags::ECHO);
        *slot() = Some(before);
        termios::tcsetattr(&stdin, SetArg::TCSANOW, &silent)?;
        Ok(Some(Silent(())))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        restore();
    }
}

/// Goes back to the settings before [`Raw`] or [`Silent`]. Does nothing when the terminal is not raw; may be called from a panic
/// hook and on every way out.
pub fn restore() {
    if let Some(before) = slot().take() {
        // TCSADRAIN would hang where nobody reads the terminal any more.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &before);
    }
}

fn slot() -> std::sync::MutexGuard<'static, Option<Termios>> {
    SAVED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
