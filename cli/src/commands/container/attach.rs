//! `attach`: this terminal becomes the container's.

use client::Attach;

use super::run::{self, exit};
use crate::cli::Cli;
use crate::failure::{Failure, Result, fail};
use crate::output;
use crate::session::{End, Session};
use crate::signals;
use crate::terminal::{self, Raw};

/// Attach to a running container.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keys that detach from the container
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Do not attach stdin
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the container
    #[arg(long, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    let keys = run::detach_keys(cli, args.detach_keys.as_deref())?;
    let container = client.inspect_container(&args.container).await?;
    if !container.state.running {
        fail!("You cannot attach to a stopped container, start it first");
    }
    if container.state.paused {
        fail!("You cannot attach to a paused container, unpause it first");
    }
    if container.state.restarting {
        fail!("You cannot attach to a restarting container, wait until it is running");
    }
    let tty = container.config.tty;
    let stdin = !args.no_stdin && container.config.open_stdin;
    if tty && stdin && !terminal::stdin_is_terminal() {
        fail!("the input device is not a TTY");
    }
    // A container that ends while we attach must not leave us waiting for its next exit.
    let waiting = client.wait_container(&container.id, "").await?;
    let attach = Attach {
        stdin,
        stdout: true,
        stderr: true,
        stream: true,
        logs: false,
        detach_keys: args.detach_keys.clone(),
    };
    let proxied = args.sig_proxy.then(|| signals::proxy(client, &container.id));
    let connection = client.attach_container(&container.id, &attach).await?;
    let raw = if tty && stdin { Raw::stdin()? } else { None };
    let guarded = (raw.is_some() && proxied.is_none()).then(signals::guard);
    let resized = (tty && terminal::size().is_some()).then(|| {
        let (client, id) = (client.clone(), container.id.clone());
        signals::follow_size(move |rows, columns| {
            let (client, id) = (client.clone(), id.clone());
            // A size that is already set would draw nothing: full-screen programs redraw only on a change.
            async move {
                if rows > 1 {
                    let _ = client.resize_container(&id, rows - 1, columns).await;
                }
                client.resize_container(&id, rows, columns).await.is_ok()
            }
        })
    });
    let detach = raw.is_some().then_some(keys);
    let end = Session {
        tty,
        stdin,
        stdout: true,
        stderr: true,
        detach,
    }
    .run(connection)
    .await;
    drop((raw, guarded, proxied, resized));
    if end? == End::Detached {
        output::warn("read escape sequence");
        return Err(Failure::code(1));
    }
    exit(waiting.finish().await?)
}
