//! `iechor-shim`: one small process per container. It starts the container, owns its streams and its log, serves
//! attach, exec, resize and signals on a socket, and records the exit; the daemon may come and go.
//!
//! ```text
//! warm ──Start──► starting ──exec seen──► running ──exit──► exited ──Release──► gone
//!  │└─ end of the daemon: gone                                └─ no daemon: exit record on disk, gone
//!  └─Bear─► another one that is warm
//! ```
//!
//! One thread, one `epoll`, no allocation in the steady state. What is deliberately absent: decisions. Whatever can be
//! decided beforehand stands in the plan.

#![forbid(unsafe_code)]

mod client;
mod connection;
mod container;
mod filter;
mod foreign;
mod job;
mod process;
mod pump;
mod requests;
mod rights;
mod serve;
mod spawn;
mod token;

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::stat::Mode;
use runtime_container::Host;
use runtime_sys::{fd, privilege, signals};

/// What a shim has before it is told what to run.
pub struct Shim {
    /// What containers are made with.
    pub host: Host,
    /// Readable when a child has ended.
    pub child_events: OwnedFd,
    /// The daemon that started us.
    pub daemon: OwnedFd,
}

fn main() {
    match prepare() {
        Ok(shim) => {
            let mut next = Some(shim);
            while let Some(shim) = next {
                // Its socket tells the daemon when a copy cannot be prepared.
                next = serve::serve(shim).and_then(|(host, daemon)| born(host, daemon).ok());
            }
        }
        Err(error) => {
            // The only moment at which somebody may look: a shim run by hand, or on a machine without /proc.
            eprintln!("iechor-shim: cannot start: {error}; it is run by iechord, with a socket as standard input");
            std::process::exit(1);
        }
    }
}

fn prepare() -> std::io::Result<Shim> {
    // Nobody in a container may look into this process or its children while they hold the host's rights.
    privilege::set_dumpable(false)?;
    // Ignored signals would stay ignored in containers; blocked ones only wait. Nothing but SIGKILL ends a shim.
    signals::reset_all();
    signals::block_all(true)?;
    nix::unistd::chdir("/")?;
    // Modes in the plan are meant as they stand.
    nix::sys::stat::umask(Mode::empty());
    let mut host = Host::open()?;
    let daemon = fd::take_stdin(host.null.as_fd())?;
    // What starts containers must not be the first to go when memory is short. Best effort: lowering takes a right.
    host.oom_score_lowered = std::fs::write("/proc/self/oom_score_adj", "-999").is_ok();
    born(host, daemon)
}

/// What every copy does for itself: the rest it has from whom it is a copy of.
fn born(host: Host, daemon: OwnedFd) -> std::io::Result<Shim> {
    privilege::become_subreaper()?;
    // Run from a memory file, the kernel names it after the descriptor.
    privilege::set_name(c"iechor-shim");
    // Away from the daemon's session and terminal; fails where the daemon's launcher has done so.
    let _ = nix::unistd::setsid();
    fd::set_nonblocking(daemon.as_fd(), true)?;
    let child_events = signals::child_events()?;
    Ok(Shim {
        host,
        child_events,
        daemon,
    })
}
