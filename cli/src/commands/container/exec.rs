//! `exec`: one more process in a running container.

use agent_api::exec::{ExecCreate, ExecStart};
use client::Client;

use super::run;
use crate::cli::Cli;
use crate::failure::{Failure, NOT_EXECUTABLE, NOT_FOUND, Result, fail};
use crate::session::{End, Session};
use crate::signals;
use crate::terminal::{self, Raw};
use crate::values::pair;

/// Execute a command in a running container.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "[OPTIONS] CONTAINER COMMAND [ARG...]",
    after_help = "  # A shell in a running container
  iechor exec -it web sh

  # As another user, with an environment of its own
  iechor exec -u postgres -e PGDATA=/data db pg_ctl status"
)]
pub struct Args {
    /// Run in the background
    #[arg(short, long)]
    detach: bool,
    /// Keys that detach from the process
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// Keep stdin open
    #[arg(short, long)]
    interactive: bool,
    /// Give the process all rights
    #[arg(long)]
    privileged: bool,
    /// Allocate a terminal
    #[arg(short, long)]
    tty: bool,
    /// User (and group): names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]", default_value = "")]
    user: String,
    /// Working folder
    #[arg(short, long, value_name = "FOLDER", default_value = "")]
    workdir: String,
    /// The container, the command and its arguments.
    #[arg(value_name = "CONTAINER COMMAND [ARG...]", required = true, num_args = 2.., trailing_var_arg = true)]
    words: Vec<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    let Some((container, command)) = args.words.split_first() else {
        fail!("a container is needed")
    };
    let keys = run::detach_keys(cli, args.detach_keys.as_deref())?;
    let attached = !args.detach;
    if attached && args.interactive && args.tty && !terminal::stdin_is_terminal() {
        fail!("the input device is not a TTY");
    }
    let size = terminal::size()
        .filter(|_| args.tty)
        .map(|(rows, columns)| [u32::from(rows), u32::from(columns)]);
    let request = ExecCreate {
        user: args.user.clone(),
        privileged: args.privileged,
        tty: args.tty,
        console_size: size.filter(|_| attached),
        attach_stdin: attached && args.interactive,
        attach_stderr: attached,
        attach_stdout: attached,
        detach: args.detach,
        detach_keys: args.detach_keys.clone().unwrap_or_default(),
        env: Some(pair::environment(&args.env_file, &args.env).map_err(Failure::new)?),
        working_dir: args.workdir.clone(),
        cmd: Some(command.to_vec()),
    };
    let id = client.create_exec(container, &request).await?;
    if id.is_empty() {
        fail!("exec ID empty");
    }
    let start = ExecStart {
        detach: args.detach,
        tty: args.tty,
        console_size: size,
    };
    if args.detach {
        return Ok(client.start_exec_detached(&id, &start).await?);
    }
    attach(client, &id, &start, &args, keys).await?;
    exit(client, &id).await
}

async fn attach(client: &Client, id: &str, start: &ExecStart, args: &Args, keys: Vec<u8>) -> Result {
    let connection = client.start_exec(id, start).await.map_err(|error| {
        let code = start_code(&error.message());
        Failure::from(error).with_code(code)
    })?;
    let raw = if args.tty && args.interactive {
        Raw::stdin()?
    } else {
        None
    };
    let guarded = raw.is_some().then(signals::guard);
    let resized = (args.tty && terminal::size().is_some()).then(|| {
        let (client, id) = (client.clone(), id.to_owned());
        signals::follow_size(move |rows, columns| {
            let (client, id) = (client.clone(), id.clone());
            async move { client.resize_exec(&id, rows, columns).await.is_ok() }
        })
    });
    let detach = raw.is_some().then_some(keys);
    let session = Session {
        tty: args.tty,
        stdin: args.interactive,
        stdout: true,
        stderr: true,
        detach,
    };
    let end = session.run(connection).await;
    drop((raw, guarded, resized));
    if end? == End::Detached {
        return Err(Failure::new("read escape sequence"));
    }
    Ok(())
}

fn start_code(words: &str) -> u8 {
    if words.contains("executable file not found") || words.contains("no such file or directory") {
        NOT_FOUND
    } else if words.contains("permission denied") {
        NOT_EXECUTABLE
    } else {
        1
    }
}

/// The process's exit code. Its end is recorded a moment after its output has ended.
async fn exit(client: &Client, id: &str) -> Result {
    let mut pause = std::time::Duration::from_millis(1);
    loop {
        let exec = client.inspect_exec(id).await?;
        match exec.exit_code {
            Some(code) if !exec.running => {
                return if code == 0 {
                    Ok(())
                } else {
                    Err(Failure::code(code as u8))
                };
            }
            _ if !exec.running => return Ok(()),
            // It closed its output and lives on: docker's client returns here, with the code that is known.
            _ if pause > std::time::Duration::from_millis(500) => return Ok(()),
            _ => tokio::time::sleep(pause).await,
        }
        pause *= 2;
    }
}
