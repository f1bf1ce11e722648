//! The built-in init (`--init`): process 1 that reaps, forwards signals, and exits with its child's code.

use std::convert::Infallible;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::unistd::{Pid, getpid, getppid, setpgid, tcsetpgrp};
use runtime::proto::Step;
use runtime_sys::clone::{Ended, SingleThread, exit_now, fork, reap};
use runtime_sys::memory::Mark;
use runtime_sys::{fd, pidfd, privilege, signals};

use crate::failure::{At, Result};

/// How soon the child asks again whether process 1 has confined itself, which takes a tenth of a millisecond. (Process 1
/// could not wake it up: a filter may refuse that.)
const LOOK_AGAIN: Duration = Duration::from_micros(10);

/// Splits into process 1, which stays here for ever, and its child, which goes on. `confine` gives up what no process of
/// the container may have: one with `CAP_SYS_PTRACE` could take it from process 1 otherwise. So the child goes on only when
/// that is done.
pub fn split(
    single: &SingleThread,
    terminal: Option<BorrowedFd<'_>>,
    confine: impl FnOnce() -> Result<()>,
) -> Result<()> {
    // Blocked before the split, so that neither side misses one; the child lets them through before it runs its program.
    signals::block_all(true).at(Step::Exec, "init")?;
    let confined = Mark::new().at(Step::Exec, "init")?;
    let parent = getpid();
    match fork(single).at(Step::Exec, "init")? {
        Some(child) => {
            privilege::set_name(c"init");
            confine()?;
            confined.set();
            fd::close_all_then(move || serve(child))
        }
        None => {
            // A group of its own, in the foreground: what is typed to interrupt must not reach process 1.
            setpgid(Pid::from_raw(0), Pid::from_raw(0)).at(Step::Exec, "init")?;
            if let Some(terminal) = terminal {
                tcsetpgrp(terminal, getpid()).at(Step::Terminal, "foreground")?;
            }
            while !confined.is_set() {
                // It has told why.
                if getppid() != parent {
                    exit_now(126);
                }
                std::thread::sleep(LOOK_AGAIN);
            }
            Ok(())
        }
    }
}

fn serve(child: i32) -> Infallible {
    loop {
        match signals::wait() {
            Ok(libc::SIGCHLD) => {
                while let Ok(Some(ended)) = reap(-1, false) {
                    end_with(child, &ended);
                }
            }
            // Stops and continues come from the terminal as well; the child gets what process 1 got.
            Ok(signal) => {
                let _ = pidfd::kill(child, signal);
            }
            // A filter may refuse it. Then no signal is forwarded, but the end is still waited for.
            Err(error) if error.raw_os_error() != Some(libc::EINTR) => match reap(-1, true) {
                Ok(Some(ended)) => end_with(child, &ended),
                _ => exit_now(126),
            },
            Err(_) => {}
        }
    }
}

fn end_with(child: i32, ended: &Ended) {
    if ended.pid == child {
        exit_now(ended.code);
    }
}
