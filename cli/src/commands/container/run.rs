//! `run`: create, attach, wait, start, stream, exit code.

use agent_api::container::WaitResponse;
use agent_api::create::CreateRequest;
use client::{Attach, Client, Hijacked, Waiting};

use super::create;
use super::options::Options;
use super::request;
use crate::cli::Cli;
use crate::failure::{Failure, NOT_EXECUTABLE, NOT_FOUND, REFUSED, Result};
use crate::help;
use crate::keys;
use crate::output;
use crate::session::{End, Session};
use crate::signals;
use crate::terminal::{self, Raw};

/// Run a command in a new container.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    after_help = "  # A shell, with this terminal; gone afterwards
  iechor run -it --rm ubuntu /bin/bash

  # A server in the background, on port 8080 of this machine
  iechor run -d --name web -p 8080:80 nginx

  # Files of this folder, half a CPU, 256 MiB
  iechor run --rm -v ./src:/src -w /src --cpus 0.5 -m 256m alpine ls -l"
)]
pub struct Args {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    /// Pass signals on to the container
    #[arg(long, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Keys that detach from the container
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    #[command(flatten)]
    options: Options,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let outcome = execute(cli, &args).await;
    outcome.map_err(|failure| {
        let message = match (failure.message.as_str(), failure.code) {
            ("", _) => String::new(),
            (words, REFUSED..=NOT_FOUND) => format!("iechor: {words}\n\n{}", help::hint("iechor run")),
            (words, _) => words.to_owned(),
        };
        Failure { message, ..failure }
    })
}

async fn execute(cli: &Cli, args: &Args) -> Result {
    let options = &args.options;
    let mut request = request::build(options, args.detach, cli.socket()?.as_deref())?;
    let keys = detach_keys(cli, args.detach_keys.as_deref())?;
    let attached = !args.detach;
    if attached && options.interactive && options.tty && !terminal::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY").with_code(1));
    }
    if let (true, Some((rows, columns)), Some(host)) = (options.tty, terminal::size(), &mut request.host_config) {
        host.console_size = [u32::from(rows), u32::from(columns)];
    }
    let client = cli.client()?;
    let id = create::create(cli, options, &request).await?;
    if !attached {
        start(client, &id, None).await?;
        output::line(id);
        return Ok(());
    }
    let proxied = args.sig_proxy.then(|| signals::proxy(client, &id));
    let refused = |error: client::Error| Failure::from(error).with_code(REFUSED);
    let connection = match attach(client, &request, &id, args.detach_keys.as_deref()).await {
        Ok(connection) => connection,
        Err(error) => return Err(refused(error)),
    };
    let condition = if options.rm { "removed" } else { "next-exit" };
    let waiting = client.wait_container(&id, condition).await.map_err(refused)?;
    let raw = if options.tty && request.config.attach_stdin {
        Raw::stdin()?
    } else {
        None
    };
    let guarded = (raw.is_some() && proxied.is_none()).then(signals::guard);
    let detach = (options.tty && request.config.attach_stdin && raw.is_some()).then_some(keys);
    let session = connection.map(|connection| {
        let session = Session {
            tty: options.tty,
            stdin: request.config.attach_stdin,
            stdout: request.config.attach_stdout || options.tty,
            stderr: request.config.attach_stderr,
            detach,
        };
        session.run(connection)
    });
    let finished = follow(client, &id, options, session, waiting).await;
    drop(raw);
    drop((guarded, proxied));
    finished
}

/// Starts what was created, and stays with it until it ends or the user leaves.
async fn follow(
    client: &Client,
    id: &str,
    options: &Options,
    session: Option<impl Future<Output = Result<End>>>,
    waiting: Waiting,
) -> Result {
    if let Err(failure) = start(client, id, None).await {
        // Nothing runs, so nothing removes it.
        if options.rm {
            let _ = waiting.finish().await;
        }
        return Err(failure);
    }
    let resized = (options.tty && terminal::size().is_some()).then(|| {
        let (client, id) = (client.clone(), id.to_owned());
        signals::follow_size(move |rows, columns| {
            let (client, id) = (client.clone(), id.clone());
            async move { client.resize_container(&id, rows, columns).await.is_ok() }
        })
    });
    if let Some(session) = session
        && session.await? == End::Detached
    {
        return Ok(());
    }
    drop(resized);
    exit(
        waiting
            .finish()
            .await
            .map_err(|error| Failure::from(error).with_code(REFUSED))?,
    )
}

/// The container's exit code as ours.
pub fn exit(response: WaitResponse) -> Result {
    if let Some(error) = response.error.filter(|error| !error.message.is_empty()) {
        return Err(Failure::new(error.message).with_code(REFUSED));
    }
    match response.status_code {
        0 => Ok(()),
        // What a shell makes of it.
        code => Err(Failure::code(code as u8)),
    }
}

async fn attach(
    client: &Client,
    request: &CreateRequest,
    id: &str,
    detach_keys: Option<&str>,
) -> client::Result<Option<Hijacked>> {
    let config = &request.config;
    if !(config.attach_stdin || config.attach_stdout || config.attach_stderr) {
        return Ok(None);
    }
    let attach = Attach {
        stdin: config.attach_stdin,
        stdout: config.attach_stdout,
        stderr: config.attach_stderr,
        stream: true,
        logs: false,
        detach_keys: detach_keys.map(str::to_owned),
    };
    client.attach_container(id, &attach).await.map(Some)
}

/// Starts a container; the exit code tells a program that is missing (127) from one that cannot run (126).
pub async fn start(client: &Client, id: &str, detach_keys: Option<&str>) -> Result {
    client.start_container(id, detach_keys).await.map_err(|error| {
        let words = error.message();
        let code = start_code(&words);
        Failure::from(error).with_code(code)
    })
}

fn start_code(words: &str) -> u8 {
    let has = |part: &str| words.contains(part);
    // Other things can be missing, too (a device, a mount's source): only the program makes these codes.
    let program = has("exec:") || has("exec ");
    if has("executable file not found") || program && has("no such file or directory") {
        NOT_FOUND
    } else if program && (has("permission denied") || has("not a directory") || has("is a directory")) {
        NOT_EXECUTABLE
    } else {
        REFUSED
    }
}

/// The bytes to watch for: the flag, else the config file, else the default.
pub fn detach_keys(cli: &Cli, flag: Option<&str>) -> Result<Vec<u8>> {
    let configured = cli.config()?.detach_keys.clone();
    let text = flag.map(str::to_owned).or(configured).filter(|keys| !keys.is_empty());
    keys::parse(text.as_deref().unwrap_or(keys::DEFAULT)).map_err(|words| Failure::new(words).with_code(REFUSED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_failed_start_decide_the_exit_code() {
        for (words, code) in [
            ("exec: \"x\": executable file not found in $PATH", 127),
            ("exec: \"/x\": stat /x: no such file or directory", 127),
            ("exec: \"/etc\": is a directory", 126),
            ("exec: \"/etc/passwd\": permission denied", 126),
            ("port is already allocated", 125),
            ("cannot mount /dev/mqueue: no such file or directory", 125),
        ] {
            assert_eq!(start_code(words), code, "{words}");
        }
    }
}
