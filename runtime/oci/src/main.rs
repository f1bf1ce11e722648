//! `iechor-runtime`: an OCI runtime as a command line (OCI runtime specification 1.3, runc's verbs and flags), for whoever
//! wants our containers without our daemon.
//!
//! ```text
//! create ──► created (waits at a FIFO) ──start──► running ──► stopped ──delete──► gone
//! run = create + start (+ wait + delete)           exec, kill, pause, resume, update, ps, events: of a running one
//! ```
//!
//! Each call is one short-lived process with one thread; what there is to know of a container between calls is in its
//! folder ([`state`]). Deliberately absent: checkpoints (refused by name).

#![forbid(unsafe_code)]

mod args;
mod commands;
mod console;
mod error;
mod foreground;
mod launch;
mod log;
mod own_binary;
mod state;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: what is done here is done again in the protected program.
    if let Err(error) = own_binary::protect() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let log = log::Log::open(&args.global);
    match commands::run(args, &log) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            log.error(&error);
            ExitCode::from(error.code)
        }
    }
}
