//! A terminal tied to a container or exec: what is typed goes in, what comes out is written, until one side ends.
//!
//! ```text
//! stdin ─ thread ─► Watch (detach keys) ─► hijacked connection ─► frames ─► thread ─ stdout, stderr
//! ```
//!
//! Reading and writing the user's side blocks, so each has a thread of its own; signals are heard even while nobody reads
//! our output.

use std::io::{self, Read, Write};

use bytes::Bytes;
use client::{Frame, Frames, Hijacked, Input, Output};
use tokio::sync::{mpsc, oneshot};

use crate::failure::{Failure, Result};
use crate::keys::Watch;

/// Pieces in flight between the connection and the writer: enough to keep both busy, too few to hide a slow reader.
const QUEUE: usize = 16;
const BUFFER: usize = 64 << 10;

/// What is tied together.
pub struct Session {
    /// Everything is one stream, as a terminal writes it.
    pub tty: bool,
    pub stdin: bool,
    /// Streams to show; the others are dropped.
    pub stdout: bool,
    pub stderr: bool,
    /// Looked for in what is typed, with a terminal on both sides.
    pub detach: Option<Vec<u8>>,
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The other side closed its output.
    Output,
    /// The user typed the detach keys.
    Detached,
}

impl Session {
    /// Runs to the end. All output is written when this returns.
    ///
    /// # Errors
    /// The connection broke, or stdout cannot be written.
    pub async fn run(self, connection: Hijacked) -> Result<End> {
        let Hijacked {
            input,
            output,
            multiplexed,
        } = connection;
        let (detached, detach) = oneshot::channel();
        let feeding = self
            .stdin
            .then(|| tokio::spawn(feed(input, self.detach.clone(), detached)));
        let writer = Writer::start();
        let frames = Frames::new(!self.tty && multiplexed != Some(false));
        let end = tokio::select! {
            biased;
            // The sender is dropped without a word when stdin ends: then only the output decides.
            () = async { if detach.await.is_err() { std::future::pending().await } } => Ok(End::Detached),
            end = copy(output, frames, &writer, self.stdout, self.stderr) => end.map(|()| End::Output),
        };
        if let Some(feeding) = feeding {
            feeding.abort();
        }
        let written = writer.finish().await;
        let end = end?;
        written?;
        Ok(end)
    }
}

/// Typed bytes → the container, then the half-close.
async fn feed(mut input: Input, keys: Option<Vec<u8>>, detached: oneshot::Sender<()>) {
    let mut watch = keys.map(Watch::new);
    let mut typed = stdin();
    while let Some(bytes) = typed.recv().await {
        let sent = match &mut watch {
            None => input.write(&bytes).await,
            Some(watch) => {
                let (bytes, found) = watch.feed(&bytes);
                let sent = if bytes.is_empty() {
                    Ok(())
                } else {
                    input.write(&bytes).await
                };
                if found {
                    let _ = detached.send(());
                    // The connection is closed by whoever ends the session.
                    return std::future::pending().await;
                }
                sent
            }
        };
        if sent.is_err() {
            // The container's end of stdin is gone; its output tells the rest.
            return;
        }
    }
    let _ = input.close().await;
    // Dropping our half early would close the other one on some transports.
    std::future::pending::<()>().await;
}

/// A thread that reads stdin. It cannot be interrupted in a read, and need not be: it ends with the process.
fn stdin() -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = vec![0; BUFFER];
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    if sender.blocking_send(Bytes::copy_from_slice(&buffer[..count])).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    receiver
}

async fn copy(mut output: Output, mut frames: Frames, writer: &Writer, stdout: bool, stderr: bool) -> Result {
    let mut buffer = vec![0; BUFFER];
    let mut pieces: Vec<(Target, Bytes)> = Vec::new();
    loop {
        let count = match output.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            // The daemon may close hard after the last byte.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(Failure::new(format!("error from daemon in stream: {error}"))),
        };
        let fed = frames.feed(&buffer[..count], |frame, bytes| {
            let target = match frame {
                Frame::Stdin | Frame::Stdout if stdout => Target::Stdout,
                Frame::Stderr if stderr => Target::Stderr,
                Frame::Daemon => Target::Daemon,
                _ => return,
            };
            pieces.push((target, Bytes::copy_from_slice(bytes)));
        });
        for (target, bytes) in pieces.drain(..) {
            if target == Target::Daemon {
                let words = String::from_utf8_lossy(&bytes).into_owned();
                return Err(Failure::new(format!("error from daemon in stream: {words}")));
            }
            if !writer.send(target, bytes).await {
                return Ok(());
            }
        }
        fed?;
    }
}

/// Where a piece goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Stdout,
    Stderr,
    /// Not to be shown: a failure.
    Daemon,
}

/// A thread that writes stdout and stderr in the order in which things came.
pub struct Writer {
    queue: mpsc::Sender<(Target, Bytes)>,
    done: oneshot::Receiver<io::Result<()>>,
}

impl Writer {
    pub fn start() -> Writer {
        let (queue, mut pieces) = mpsc::channel::<(Target, Bytes)>(QUEUE);
        let (finished, done) = oneshot::channel();
        std::thread::spawn(move || {
            let mut write = || -> io::Result<()> {
                while let Some((target, bytes)) = pieces.blocking_recv() {
                    match target {
                        Target::Stdout => {
                            let mut out = io::stdout().lock();
                            out.write_all(&bytes)?;
                            out.flush()?;
                        }
                        Target::Stderr | Target::Daemon => io::stderr().write_all(&bytes)?,
                    }
                }
                Ok(())
            };
            let _ = finished.send(write());
        });
        Writer { queue, done }
    }

    /// Whether there is still somebody to write to.
    pub async fn send(&self, target: Target, bytes: Bytes) -> bool {
        self.queue.send((target, bytes)).await.is_ok()
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// stdout or stderr cannot be written; a reader that went away is exit code 141 without words.
    pub async fn finish(self) -> Result {
        drop(self.queue);
        match self.done.await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::code(141)),
            Ok(Err(error)) => Err(Failure::new(format!("cannot write the output: {error}"))),
            _ => Ok(()),
        }
    }
}
