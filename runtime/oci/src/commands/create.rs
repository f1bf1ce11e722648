//! `create`: a container whose program waits for `start`.

use std::io;
use std::os::fd::AsFd;

use crate::args::{Create, Global};
use crate::error::{Error, Result};
use crate::launch::{Until, launch, read_bundle};
use crate::log::Log;

pub fn run(global: &Global, args: &Create, log: &Log) -> Result<u8> {
    let making = &args.making;
    let bundle = read_bundle(global, making, &args.id, log)?;
    let terminal = bundle.compiled.plan.head.terminal.is_some();
    match (terminal, &making.console_socket) {
        (true, None) => {
            return Err(Error::new(
                "process.terminal needs --console-socket: nobody stays to be the terminal",
            ));
        }
        (false, Some(_)) => {
            return Err(Error::new("--console-socket is for a process with process.terminal"));
        }
        _ => {}
    }
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let streams = [Some(stdin.as_fd()), Some(stdout.as_fd()), Some(stderr.as_fd())];
    launch(global, making, &args.id, bundle, Until::Started, streams, log)?;
    Ok(0)
}
