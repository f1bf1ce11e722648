//! `cp`: files between a container and the local file system.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use client::{Client, Download};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;

use crate::cli::Cli;
use crate::commands::image::load::body;
use crate::copy::pack::pack;
use crate::copy::rules::{self, End, Plan, plan, rebase_name, split_argument, split_entry};
use crate::copy::unpack::unpack;
use crate::failure::{Failure, Result, fail};
use crate::output;
use crate::terminal;
use crate::units;

/// Copy files or folders between a container and the local file system.
///
/// One of SOURCE and TARGET is CONTAINER:PATH; the other is a local path, or - for a tar on stdin or stdout.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Copied files belong to the container's user
    #[arg(short, long)]
    archive: bool,
    /// Follow a symbolic link in SOURCE
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Do not say what was copied
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "SOURCE", required = true)]
    source: String,
    #[arg(value_name = "TARGET", required = true)]
    target: String,
}

/// Pieces of a tar that wait between the two sides.
const DEPTH: usize = 8;
const PIECE: usize = 256 << 10;

pub async fn run(cli: &Cli, args: Args) -> Result {
    // Nobody reads along where no terminal is.
    let quiet = args.quiet || !terminal::stdout_is_terminal();
    let (from, source) = split_argument(&args.source);
    let (to, target) = split_argument(&args.target);
    for path in [source, target] {
        if path.is_empty() {
            fail!("the path of a copy cannot be empty");
        }
    }
    let (count, place) = match (from, to) {
        (Some(_), Some(_)) => fail!("copying between containers is not supported"),
        (None, None) => fail!("must specify at least one container source"),
        (Some(container), None) => from_container(cli.client()?, container, source, target, args.follow_link).await?,
        (None, Some(container)) => to_container(cli.client()?, container, source, target, &args).await?,
    };
    if !quiet && args.target != "-" {
        let size = units::size(i64::try_from(count).unwrap_or(i64::MAX), 3);
        output::warn(format!("Successfully copied {size} to {place}"));
    }
    Ok(())
}

async fn from_container(
    client: &Client,
    container: &str,
    source: &str,
    target: &str,
    follow: bool,
) -> Result<(u64, String)> {
    let local = local(target)?;
    if target != "-" {
        check_output(&local)?;
    }
    let (mut source, mut rebase) = (source.to_owned(), None);
    if follow
        && let Ok(stat) = client.stat_path(container, &source).await
        && stat.is_symlink()
    {
        (source, rebase) = rebase_name(&source, &absolute(&source, &stat.link_target));
    }
    let (stat, mut download) = client.copy_from(container, &source).await?;
    if target == "-" {
        while let Some(chunk) = download.chunk().await? {
            output::print_bytes(&chunk);
        }
        return Ok((0, String::new()));
    }
    let mut end = End {
        path: source,
        exists: true,
        is_dir: stat.is_dir(),
        rebase: None,
    };
    let mut plan = plan(&end, &End::local_target(&local)?)?;
    // The archive has the name of what the link leads to; where the destination gives no name, it is the link's.
    if let (Some(name), None) = (rebase, &plan.rename) {
        end.rebase = None;
        plan.rename = Some((split_entry(&end.path).1, name));
    }
    let (reader, count) = receive(download);
    tokio::task::spawn_blocking(move || unpack(&plan, reader))
        .await
        .map_err(|_| Failure::new("the copy was cut off"))??;
    Ok((count.load(Ordering::Relaxed), local))
}

async fn to_container(
    client: &Client,
    container: &str,
    source: &str,
    target: &str,
    args: &Args,
) -> Result<(u64, String)> {
    let mut end = End {
        path: target.to_owned(),
        ..End::default()
    };
    let mut found = client.stat_path(container, target).await;
    if let Ok(stat) = &found
        && stat.is_symlink()
    {
        end.path = absolute(target, &stat.link_target);
        found = client.stat_path(container, &end.path).await;
    }
    match found {
        Ok(stat) if stat.is_device() => {
            fail!("destination \"{container}:{target}\" must be a directory or a regular file: got a device");
        }
        Ok(stat) => (end.exists, end.is_dir) = (true, stat.is_dir()),
        // Perhaps its folder is there: the daemon will say.
        Err(_) => {}
    }
    let place = format!("{container}:{}", end.path);
    if source == "-" {
        if !end.is_dir {
            fail!("destination \"{container}:{target}\" must be a directory");
        }
        let count = Arc::new(AtomicU64::new(0));
        let tar = counted(body(None)?, count.clone());
        client.copy_to(container, &end.path, tar, args.archive).await?;
        return Ok((count.load(Ordering::Relaxed), place));
    }
    let from = End::local_source(&local(source)?, args.follow_link)?;
    let plan = plan(&from, &end)?;
    let folder = plan.folder.clone();
    let count = Arc::new(AtomicU64::new(0));
    let (tar, outcome) = send(from, plan);
    let sent = client
        .copy_to(container, &folder, counted(tar, count.clone()), args.archive)
        .await;
    // What could not be read here is the cause of what the daemon says of an archive that broke off.
    if let Ok(Err(error)) = outcome.await
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(error.into());
    }
    sent?;
    Ok((count.load(Ordering::Relaxed), place))
}

/// A local path, absolute; its end means something.
fn local(path: &str) -> Result<String> {
    if path == "-" {
        return Ok(path.to_owned());
    }
    let here = std::env::current_dir()?;
    let whole = rules::clean(&here.join(path).to_string_lossy());
    Ok(rules::keep_end(&whole, path))
}

/// Where a link of a container leads: as the daemon says it, or from where the link is.
fn absolute(link: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    rules::clean(&format!("{}/{target}", split_entry(link).0))
}

fn check_output(path: &str) -> Result {
    let (folder, _) = split_entry(&rules::clean(path));
    if !std::path::Path::new(&folder).exists() {
        fail!("invalid output path: directory {folder:?} does not exist");
    }
    if let Ok(found) = std::fs::metadata(path)
        && !found.is_dir()
        && !found.is_file()
    {
        fail!("invalid output path: {path:?} must be a directory or a regular file: got a device");
    }
    Ok(())
}

fn counted<S>(tar: S, count: Arc<AtomicU64>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    tar.inspect(move |piece| {
        let bytes = piece.as_ref().map_or(0, Bytes::len);
        count.fetch_add(bytes as u64, Ordering::Relaxed);
    })
}

type Packed = tokio::task::JoinHandle<io::Result<()>>;

/// Packs on a thread of its own.
fn send(source: End, plan: Plan) -> (impl Stream<Item = io::Result<Bytes>> + Send + 'static, Packed) {
    let (pieces, mut receiver) = mpsc::channel(DEPTH);
    let packed = tokio::task::spawn_blocking(move || {
        let mut out = Pieces {
            pieces,
            gathered: Vec::with_capacity(PIECE),
        };
        match pack(&source, &plan, &mut out).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            Err(error) => {
                // The daemon must not take a part for the whole.
                let _ = out
                    .pieces
                    .blocking_send(Err(io::Error::new(error.kind(), "the archive broke off")));
                Err(error)
            }
        }
    });
    (
        futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)),
        packed,
    )
}

struct Pieces {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    gathered: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.gathered, Vec::with_capacity(PIECE));
        self.pieces
            .blocking_send(Ok(piece.into()))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A download for blocking code, and how much of it has come.
fn receive(mut download: Download) -> (Receive, Arc<AtomicU64>) {
    let (sender, pieces) = mpsc::channel(DEPTH);
    let count = Arc::new(AtomicU64::new(0));
    let seen = count.clone();
    tokio::spawn(async move {
        loop {
            let piece = match download.chunk().await {
                Ok(None) => return,
                Ok(Some(piece)) => Ok(piece),
                Err(error) => Err(io::Error::other(error)),
            };
            let broken = piece.is_err();
            seen.fetch_add(piece.as_ref().map_or(0, Bytes::len) as u64, Ordering::Relaxed);
            if sender.send(piece).await.is_err() || broken {
                return;
            }
        }
    });
    let reader = Receive {
        pieces,
        current: Bytes::new(),
    };
    (reader, count)
}

struct Receive {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for Receive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}
