//! `start`: containers that were created or have stopped; with `-a` or `-i` one of them in this terminal.

use client::Attach;

use super::run::{self, exit};
use crate::cli::Cli;
use crate::failure::{Failure, Result, Tally, fail};
use crate::output;
use crate::session::{End, Session};
use crate::signals;
use crate::terminal::{self, Raw};

/// Start stopped containers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Attach stdout and stderr, and pass signals on
    #[arg(short, long)]
    attach: bool,
    /// Keys that detach from the container
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Attach stdin
    #[arg(short, long)]
    interactive: bool,
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    if args.attach || args.interactive {
        return match args.containers.as_slice() {
            [one] => attached(cli, &args, one).await,
            _ => fail!("you cannot start and attach multiple containers at once"),
        };
    }
    let mut tally = Tally::default();
    let mut failed = Vec::new();
    for name in &args.containers {
        match tally.note(client.start_container(name, None).await) {
            Some(()) => output::line(name),
            None => failed.push(name.as_str()),
        }
    }
    tally.end().map_err(|failure| {
        Failure::new(format!(
            "{}\nError: failed to start containers: {}",
            failure.message,
            failed.join(", ")
        ))
    })
}

async fn attached(cli: &Cli, args: &Args, name: &str) -> Result {
    let client = cli.client()?;
    let keys = run::detach_keys(cli, args.detach_keys.as_deref())?;
    let container = client.inspect_container(name).await?;
    let id = container.id.as_str();
    let tty = container.config.tty;
    let stdin = args.interactive && container.config.open_stdin;
    if tty && stdin && !terminal::stdin_is_terminal() {
        fail!("the input device is not a TTY");
    }
    // With a terminal the container's own shell takes the keys; without one signals must reach it through us.
    let proxied = (!tty).then(|| signals::proxy(client, id));
    let attach = Attach {
        stdin,
        stdout: true,
        stderr: true,
        stream: true,
        logs: false,
        detach_keys: args.detach_keys.clone(),
    };
    let connection = client.attach_container(id, &attach).await?;
    let condition = if container.host_config.auto_remove {
        "removed"
    } else {
        "next-exit"
    };
    let waiting = client.wait_container(id, condition).await?;
    let raw = if tty && stdin { Raw::stdin()? } else { None };
    let guarded = (raw.is_some() && proxied.is_none()).then(signals::guard);
    run::start(client, id, args.detach_keys.as_deref())
        .await
        .map_err(|failure| failure.with_code(1))?;
    let resized = (tty && terminal::size().is_some()).then(|| {
        let (client, id) = (client.clone(), id.to_owned());
        signals::follow_size(move |rows, columns| {
            let (client, id) = (client.clone(), id.clone());
            async move { client.resize_container(&id, rows, columns).await.is_ok() }
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
        return Ok(());
    }
    exit(waiting.finish().await?)
}
