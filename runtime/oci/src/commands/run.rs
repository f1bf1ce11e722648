//! `run`: create and start in one, and wait for the end.

use std::io;
use std::os::fd::AsFd;

use runtime_sys::{pidfd, privilege};

use super::{delete, start};
use crate::args::{Global, Run};
use crate::error::{Context, Error, Result};
use crate::foreground;
use crate::launch::{Until, launch, read_bundle};
use crate::log::Log;

pub fn run(global: &Global, args: &Run, log: &Log) -> Result<u8> {
    let making = &args.making;
    let bundle = read_bundle(global, making, &args.id, log)?;
    let terminal = bundle.compiled.plan.head.terminal.is_some();
    if making.console_socket.is_some() && !(terminal && args.detach) {
        return Err(Error::new(
            "--console-socket is for a detached process with process.terminal",
        ));
    }
    if terminal && args.detach && making.console_socket.is_none() {
        return Err(Error::new(
            "process.terminal and --detach need --console-socket: nobody stays to be the terminal",
        ));
    }
    if !args.detach {
        foreground::prepare()?;
        if !args.no_subreaper {
            privilege::become_subreaper().context("cannot adopt orphans")?;
        }
    }
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let streams = [Some(stdin.as_fd()), Some(stdout.as_fd()), Some(stderr.as_fd())];
    let launched = launch(global, making, &args.id, bundle, Until::Now, streams, log)?;
    if let Err(error) = start::after(&launched.container, &launched.plan) {
        let _ = pidfd::signal(launched.spawned.pidfd.as_fd(), libc::SIGKILL);
        let _ = runtime_sys::clone::reap(launched.spawned.pid, true);
        delete::destroy(&launched.container, &launched.plan, log)?;
        return Err(error);
    }
    if args.detach {
        return Ok(0);
    }
    let ended = foreground::wait(launched.spawned.pid, &launched.spawned.pidfd, launched.report.terminal)?;
    if !args.keep {
        delete::destroy(&launched.container, &launched.plan, log)?;
    }
    Ok(u8::try_from(ended.code).unwrap_or(255))
}
