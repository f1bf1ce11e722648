//! `iechor`: the command line of the platform. It speaks the REST API and nothing else.

#![forbid(unsafe_code)]

mod cli;
mod commands;
mod complete;
mod config;
mod contexts;
mod copy;
mod credentials;
mod failure;
mod files;
mod format;
mod help;
mod inspected;
mod keys;
mod logins;
mod output;
mod parse;
mod plugins;
mod progress;
mod session;
mod signals;
mod table;
mod template;
mod terminal;
mod units;
mod values;

use std::process::ExitCode;

use crate::cli::Cli;
use crate::failure::Result;
use crate::parse::Asked;

fn main() -> ExitCode {
    restore_terminal_on_panic();
    let outcome = parse::parse(std::env::args_os().skip(1).collect()).and_then(execute);
    terminal::restore();
    // Threads that still read stdin must not hold the process up.
    std::process::exit(match outcome {
        Ok(()) => 0,
        Err(failure) => {
            if !failure.message.is_empty() {
                output::warn(plain(&failure.message));
            }
            i32::from(failure.code)
        }
    })
}

fn execute(asked: Asked) -> Result {
    match asked {
        Asked::Say(text) => {
            output::print(&text);
            Ok(())
        }
        Asked::Plugin { globals, plugin, words } => plugins::run(&Cli::new(*globals)?, &plugin, &words),
        Asked::Run {
            globals,
            entry,
            matches,
        } => {
            let cli = Cli::new(*globals)?;
            // One thread: a client waits, it does not compute; and starting more costs more than most commands.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let outcome = runtime.block_on(entry.run(&cli, &matches));
            runtime.shutdown_background();
            outcome
        }
    }
}

/// Rust adds the number to what the system says; the words are enough.
fn plain(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once(" (os error ") {
        text.push_str(before);
        match after.split_once(')') {
            Some((number, after)) if number.bytes().all(|b| b.is_ascii_digit()) => rest = after,
            _ => {
                text.push_str(" (os error ");
                rest = after;
            }
        }
    }
    text + rest
}

/// A raw terminal after a crash would be useless.
fn restore_terminal_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        terminal::restore();
        report(panic);
    }));
}

/// Shows each call to the daemon on stderr.
fn log_calls() {
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(terminal::stderr_is_terminal())
        .with_env_filter("cli_client=debug")
        .try_init();
}
