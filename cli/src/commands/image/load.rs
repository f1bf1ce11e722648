//! `load`: images from a tar.

use std::io::{self, Read};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc;

use crate::cli::Cli;
use crate::failure::{Failure, Result, fail};
use crate::progress::{Out, Progress};
use crate::terminal;

/// Load images from a tar archive or stdin.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Read from a file instead of stdin
    #[arg(short, long, value_name = "FILE")]
    input: Option<String>,
    /// Load only this platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Do not show progress
    #[arg(short, long)]
    quiet: bool,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let quiet = args.quiet || !terminal::stdout_is_terminal();
    if args.input.is_none() && terminal::stdin_is_terminal() {
        fail!("requested load from stdin, but stdin is empty");
    }
    let tar = body(args.input.as_deref())?;
    let mut progress = Progress::new(Out::Stdout);
    let platform = args.platform.as_deref().map(platform_json).transpose()?;
    let messages = cli.client()?.load_images(tar, quiet, platform.as_deref()).await?;
    messages.drain(|message| progress.show(&message)).await?;
    Ok(())
}

/// `linux/arm64/v8` in the form that this query value has.
pub fn platform_json(text: &str) -> Result<String> {
    let parts: Vec<&str> = text.split('/').collect();
    let (os, architecture, variant) = match parts.as_slice() {
        [os, architecture] => (*os, *architecture, ""),
        [os, architecture, variant] => (*os, *architecture, *variant),
        _ => fail!("invalid platform {text:?}: expected OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT"),
    };
    let mut value = serde_json::json!({ "os": os, "architecture": architecture });
    if !variant.is_empty() {
        value["variant"] = variant.into();
    }
    Ok(value.to_string())
}

/// Big enough for the disk, small enough for memory.
const CHUNK: usize = 256 << 10;

/// A file, or stdin, as the body of a request. Read by a thread, because neither can be waited for.
pub fn body(path: Option<&str>) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static> {
    let mut source: Box<dyn Read + Send> = match path {
        None => Box::new(io::stdin()),
        Some(path) => {
            let file = std::fs::File::open(path).map_err(|error| Failure::new(format!("open {path}: {error}")))?;
            if file.metadata().is_ok_and(|data| data.is_dir()) {
                fail!("open {path}: it is a folder, not an archive");
            }
            Box::new(file)
        }
    };
    let (sender, mut receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        loop {
            let mut buffer = vec![0; CHUNK];
            let piece = match source.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    buffer.truncate(count);
                    Ok(Bytes::from(buffer))
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = piece.is_err();
            if sender.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    Ok(futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx)))
}
