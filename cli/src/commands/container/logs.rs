//! `logs`: what a container wrote.

use bytes::Bytes;
use client::{Frame, Frames, Logs};

use crate::cli::Cli;
use crate::failure::{Failure, Result};
use crate::session::{Target, Writer};
use crate::values::time;

/// Fetch the logs of a container.
#[derive(Debug, clap::Args)]
#[command(after_help = "  # The last ten lines, and what follows
  iechor logs -f --tail 10 web

  # What was written in the last five minutes, with times
  iechor logs -t --since 5m web")]
pub struct Args {
    /// Show the attributes given to the log driver
    #[arg(long)]
    details: bool,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// Lines since a time, or a duration back from now (10m)
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    since: Option<String>,
    /// Number of lines from the end
    #[arg(short = 'n', long, value_name = "N", default_value = "all")]
    tail: String,
    /// Show times
    #[arg(short, long)]
    timestamps: bool,
    /// Lines before a time, or a duration back from now
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    until: Option<String>,
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    let container = client.inspect_container(&args.container).await?;
    let logs = Logs {
        stdout: true,
        stderr: true,
        follow: args.follow,
        timestamps: args.timestamps,
        details: args.details,
        since: args.since,
        until: args.until,
        tail: Some(args.tail),
    };
    let mut download = client.container_logs(&container.id, &logs).await?;
    let mut frames = Frames::new(!container.config.tty);
    let writer = Writer::start();
    let mut pieces = Vec::new();
    while let Some(chunk) = download.chunk().await? {
        frames.feed(&chunk, |frame, bytes| {
            let target = match frame {
                Frame::Stdin | Frame::Stdout => Target::Stdout,
                Frame::Stderr => Target::Stderr,
                Frame::Daemon => Target::Daemon,
            };
            pieces.push((target, Bytes::copy_from_slice(bytes)));
        })?;
        for (target, bytes) in pieces.drain(..) {
            if target == Target::Daemon {
                writer.finish().await?;
                return Err(Failure::new(format!(
                    "error from daemon in stream: {}",
                    String::from_utf8_lossy(&bytes)
                )));
            }
            if !writer.send(target, bytes).await {
                return writer.finish().await;
            }
        }
    }
    writer.finish().await
}
