//! Attach and exec: after `101 UPGRADED` the connection is a raw stream in both directions.
//!
//! ```text
//! client ── stdin ──► [detach keys, on a terminal] ──► engine's stream ──► shim
//! client ◄───────────── frames or raw bytes ────────── engine's stream ◄── shim
//! ```
//!
//! The client may close its writing side at the end of stdin and go on reading. The process's end closes both.
//!
//! Nothing is started or sent before the answer's head is out, and nothing is sent before the client has read it, where
//! the kernel tells: clients read heads through a buffer, and some drop what the buffer holds besides.

use std::future::Future;
use std::io;

use agent_engine::container::attach::Attachment;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::ext::ReasonPhrase;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::detach::{Scanned, Scanner};
use crate::peer::Peer;
use crate::reply;
use crate::version::ApiVersion;

/// Bytes moved at once; a pipe's worth.
const CHUNK: usize = 32 * 1024;
/// Buffer of a session without an upgrade.
const PLAIN_BUFFER: usize = 8 * 1024;

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The process closed its output.
    Output,
    /// The detach keys were typed.
    Detached,
    /// The client went away.
    Client,
}

/// What a stream is made of, known once the answer is out.
#[derive(Debug)]
pub enum Opened {
    Attached(Attachment),
    /// Nothing runs; this is told instead, on standard output.
    Said(String),
    /// Nothing but what goes before.
    Nothing,
}

/// What a session is about besides its stream.
pub struct Terms {
    pub tty: bool,
    pub version: ApiVersion,
    /// Goes out before the stream's bytes.
    pub first: Option<Body>,
    /// Those that end the session on a terminal.
    pub keys: Vec<u8>,
}

/// A request taken apart: how it wants to go on, and the bytes it may bring without an upgrade.
pub struct Hijack {
    upgrade: Option<OnUpgrade>,
    body: Body,
    peer: Peer,
}

impl Hijack {
    pub fn of(request: Request<Body>) -> Hijack {
        let wanted = wants_upgrade(request.headers());
        let (mut parts, body) = request.into_parts();
        Hijack {
            upgrade: parts.extensions.remove::<OnUpgrade>().filter(|_| wanted),
            body,
            peer: parts.extensions.remove::<Peer>().unwrap_or_default(),
        }
    }

    /// Answers, and runs the session in the background. `open` makes its stream and runs when the answer is out, also for
    /// a client that is gone by then; `finished` runs when the output is over and before the connection is closed, so that
    /// the client finds what it asks for next.
    pub fn run<O, F, D>(self, terms: Terms, open: O, finished: F, detached: D) -> Response
    where
        O: Future<Output = Opened> + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
        D: FnOnce() + Send + 'static,
    {
        let content = content_type(terms.tty, terms.version);
        match self.upgrade {
            Some(upgrade) => {
                tokio::spawn(async move {
                    // The head is written by then.
                    let upgraded = upgrade.await;
                    let session = Session::new(terms, open.await);
                    let Ok(upgraded) = upgraded else { return };
                    self.peer.caught_up().await;
                    let gone = self.peer.hung_up();
                    // The plain socket, where there is one, needs no lock between its two directions.
                    let ended = match downcast::<TokioIo<UnixStream>>(upgraded) {
                        Ok(parts) => {
                            let (read, write) = parts.io.into_inner().into_split();
                            session.run(parts.read_buf, read, write, gone, finished).await
                        }
                        Err(upgraded) => {
                            let (read, write) = tokio::io::split(TokioIo::new(upgraded));
                            session.run(Bytes::new(), read, write, gone, finished).await
                        }
                    };
                    if ended == Ended::Detached {
                        detached();
                    }
                });
                upgraded(content)
            }
            None => {
                // An old client, or one that only wants to look: a plain answer with the output, stdin from the body.
                let (feeder, out) = reply::feed(4);
                tokio::spawn(async move {
                    let session = Session::new(terms, open.await);
                    let gone = {
                        let (feeder, peer) = (feeder.clone(), self.peer);
                        async move {
                            tokio::select! {
                                () = feeder.closed() => {}
                                () = peer.gone() => {}
                            }
                        }
                    };
                    let (reader, writer) = (body_reader(self.body), feed_writer(feeder));
                    if session.run(Bytes::new(), reader, writer, gone, finished).await == Ended::Detached {
                        detached();
                    }
                });
                reply::with_type(StatusCode::OK, content, out)
            }
        }
    }
}

/// `Connection: Upgrade` with `Upgrade: tcp`; other protocols are not what these paths speak.
fn wants_upgrade(headers: &HeaderMap) -> bool {
    let has = |name, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, "tcp")
}

fn upgraded(content: &'static str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    response
}

/// Media type of a stream: raw for a terminal and for everybody below 1.42.
pub fn content_type(tty: bool, version: ApiVersion) -> &'static str {
    if tty || !version.since(42) {
        reply::RAW_STREAM
    } else {
        reply::MULTIPLEXED
    }
}

/// One frame: stream byte, three zeros, big-endian length, payload.
pub fn frame(stream: u8, payload: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(payload.len() + 8);
    push_frame(stream, &[payload], &mut bytes);
    Bytes::from(bytes)
}

/// Appends one frame whose payload is `parts` put together.
pub fn push_frame(stream: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&[stream, 0, 0, 0]);
    // Log entries and messages are far below 4 GiB.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// How long a client may take to close a connection whose output has ended. Clients do so at once.
const LINGER: std::time::Duration = std::time::Duration::from_secs(1);

struct Session {
    /// `None`: there is nothing but `first`.
    stream: Option<UnixStream>,
    stdin: bool,
    scanner: Option<Scanner>,
    first: Option<Body>,
}

impl Session {
    fn new(terms: Terms, opened: Opened) -> Session {
        let mut session = Session {
            stream: None,
            stdin: false,
            scanner: Some(terms.keys).filter(|_| terms.tty).map(Scanner::new),
            first: terms.first,
        };
        match opened {
            Opened::Attached(attachment) => {
                session.stdin = attachment.stdin;
                session.stream = Some(attachment.stream);
            }
            Opened::Said(text) if terms.tty => session.first = Some(Body::from(text)),
            Opened::Said(text) => session.first = Some(Body::from(frame(1, text.as_bytes()))),
            Opened::Nothing => {}
        }
        session
    }

    async fn run<R, W, G, F>(self, early: Bytes, client_read: R, client_write: W, gone: G, finished: F) -> Ended
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
        G: Future<Output = ()>,
        F: Future<Output = ()>,
    {
        let (engine_read, engine_write) = self.stream.map(UnixStream::into_split).unzip();
        let engine_write = match engine_write {
            Some(write) if !self.stdin => {
                // Dropping it would close that direction, and say "end of stdin" where there is none.
                write.forget();
                None
            }
            write => write,
        };
        let input = input(early, client_read, engine_write, self.scanner);
        tokio::pin!(input);
        let mut typing = true;
        let mut client_write = client_write;
        let ended = {
            let output = output(self.first, engine_read, &mut client_write);
            tokio::pin!(output);
            let over = |result: io::Result<()>| if result.is_ok() { Ended::Output } else { Ended::Client };
            tokio::select! {
                result = &mut output => over(result),
                ended = &mut input => {
                    typing = false;
                    match ended {
                        Some(ended) => ended,
                        // Stdin is over; the rest of the output is still wanted, while there is somebody who wants it.
                        None => tokio::select! {
                            result = &mut output => over(result),
                            () = gone => Ended::Client,
                        },
                    }
                }
            }
        };
        if ended == Ended::Output {
            finished.await;
        }
        let _ = client_write.shutdown().await;
        if ended == Ended::Output && typing {
            // A socket that is closed with unread input resets the connection, and what the client has not read yet is
            // lost to it: of a process that ended before the client's first key came.
            let _ = tokio::time::timeout(LINGER, &mut input).await;
        }
        ended
    }
}

async fn output<W: AsyncWrite + Unpin>(first: Option<Body>, from: Option<OwnedReadHalf>, to: &mut W) -> io::Result<()> {
    if let Some(mut body) = first {
        while let Some(Ok(piece)) = body.frame().await {
            if let Some(bytes) = piece.data_ref() {
                to.write_all(bytes).await?;
            }
        }
    }
    let Some(from) = from else {
        return to.flush().await;
    };
    let mut buffer = Vec::new();
    loop {
        // Memory only while there is something to move: a thousand idle terminals hold no buffers.
        from.readable().await?;
        buffer.reserve(CHUNK);
        match from.try_read_buf(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {
                to.write_all(&buffer).await?;
                to.flush().await?;
                buffer.clear();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => buffer = Vec::new(),
            // The shim is gone: so is the output.
            Err(_) => return Ok(()),
        }
    }
}

/// Moves what the client types. `None`: it closed its writing side.
async fn input<R: AsyncRead + Unpin>(
    early: Bytes,
    mut from: R,
    mut to: Option<OwnedWriteHalf>,
    mut scanner: Option<Scanner>,
) -> Option<Ended> {
    let mut early = Some(early).filter(|bytes| !bytes.is_empty());
    let mut buffer = vec![0; 4096];
    loop {
        let typed = match early.take() {
            Some(bytes) => bytes,
            None => match from.read(&mut buffer).await {
                Ok(0) => break,
                Ok(count) => {
                    let bytes = Bytes::copy_from_slice(&buffer[..count]);
                    // Somebody pipes a file in: take larger bites.
                    if count == buffer.len() && count < CHUNK {
                        buffer.resize(CHUNK, 0);
                    }
                    bytes
                }
                Err(_) => return Some(Ended::Client),
            },
        };
        let (pass, detach) = match &mut scanner {
            None => (typed, false),
            Some(scanner) => match scanner.scan(&typed) {
                Scanned::Pass(bytes) => (Bytes::from(bytes), false),
                Scanned::Detach(bytes) => (Bytes::from(bytes), true),
            },
        };
        if let Some(open) = &mut to
            && open.write_all(&pass).await.is_err()
        {
            // The process closed its stdin; what is still typed goes nowhere, its output goes on.
            to = None;
        }
        if detach {
            return Some(Ended::Detached);
        }
    }
    if let Some(mut open) = to {
        let _ = open.shutdown().await;
    }
    None
}

/// A request body as a reader, fed by a task.
fn body_reader(mut body: Body) -> DuplexStream {
    let (mut write, read) = tokio::io::duplex(PLAIN_BUFFER);
    tokio::spawn(async move {
        while let Some(Ok(piece)) = body.frame().await {
            if let Some(bytes) = piece.data_ref()
                && write.write_all(bytes).await.is_err()
            {
                return;
            }
        }
    });
    read
}

/// A streamed answer as a writer, drained by a task that ends when either side does.
fn feed_writer(feeder: reply::Feeder) -> DuplexStream {
    let (write, mut read) = tokio::io::duplex(PLAIN_BUFFER);
    tokio::spawn(async move {
        let mut buffer = vec![0; PLAIN_BUFFER];
        loop {
            let count = tokio::select! {
                count = read.read(&mut buffer) => count.unwrap_or(0),
                () = feeder.closed() => return,
            };
            if count == 0 || feeder.send(Ok(Bytes::copy_from_slice(&buffer[..count]))).await.is_err() {
                return;
            }
        }
    });
    write
}
