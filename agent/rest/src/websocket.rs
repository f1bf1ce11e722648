//! Attach over WebSocket (RFC 6455), for browsers.
//!
//! ```text
//! client ── messages ──► bytes ──► [detach keys, on a terminal] ──► engine's stream ──► shim
//! client ◄── binary messages ── payloads of frames, or a terminal's bytes ── engine's stream ◄── shim
//! ```
//!
//! The two outputs are not told apart: what a browser shows is one stream. The protocol is the library's.

use std::io;
use std::time::Duration;

use agent_engine::container::attach::Attachment;
use axum::body::Body;
use axum::response::Response;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::detach::{Scanned, Scanner};
use crate::error::{ApiError, ApiResult};

/// What is typed or pasted; nobody needs more in one message.
const MAX_MESSAGE: usize = 1 << 20;
const CHUNK: usize = 32 * 1024;
/// How long a client may take to answer the closing of the connection.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// A request that asks for a WebSocket.
pub struct Handshake {
    upgrade: OnUpgrade,
    accept: HeaderValue,
}

/// How a session ended, when it was the user who ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Over,
    Detached,
}

impl Handshake {
    /// Checks what RFC 6455 (4.2.1) asks of a client.
    pub fn of(request: &mut Request<Body>) -> ApiResult<Handshake> {
        let accept = accept(request.method(), request.version(), request.headers())?;
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let upgrade = upgrade.ok_or_else(|| ApiError::bad("this connection cannot be upgraded to a WebSocket"))?;
        Ok(Handshake { upgrade, accept })
    }

    /// Answers, and runs the session in the background; `first`, what was logged, comes before everything and may
    /// be all there is.
    pub fn run<D>(self, attachment: Option<Attachment>, first: Option<Body>, keys: Vec<u8>, detached: D) -> Response
    where
        D: FnOnce() + Send + 'static,
    {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        let upgrade = self.upgrade;
        tokio::spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let config = WebSocketConfig::default()
                .max_message_size(Some(MAX_MESSAGE))
                .max_frame_size(Some(MAX_MESSAGE));
            let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
            let ended = session(&mut socket, attachment, first, keys).await;
            // The client may be gone, which is its own affair.
            let _ = tokio::time::timeout(CLOSE_LIMIT, close(&mut socket)).await;
            if matches!(ended, Ok(Ended::Detached)) {
                detached();
            }
        });
        response
    }
}

fn accept(method: &Method, version: Version, headers: &HeaderMap) -> ApiResult<HeaderValue> {
    let has = |name, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    if method != Method::GET || version != Version::HTTP_11 || !has(CONNECTION, "upgrade") || !has(UPGRADE, "websocket")
    {
        return Err(ApiError::bad(
            "this path is for WebSockets: GET with Connection: Upgrade and Upgrade: websocket",
        ));
    }
    if !has(SEC_WEBSOCKET_VERSION, "13") {
        return Err(ApiError::bad("Sec-WebSocket-Version must be 13"));
    }
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .filter(|key| !key.is_empty())
        .ok_or_else(|| ApiError::bad("Sec-WebSocket-Key is missing"))?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|_| ApiError::bad("Sec-WebSocket-Key makes no answer"))
}

type Socket<T> = WebSocketStream<T>;

fn broken<E: std::error::Error + Send + Sync + 'static>(error: E) -> io::Error {
    io::Error::other(error)
}

async fn close<T>(socket: &mut Socket<T>) -> io::Result<()>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    socket.close(None).await.map_err(broken)?;
    // The other side's closing frame; what it says before that is of no use any more.
    while let Some(Ok(_)) = socket.next().await {}
    Ok(())
}

async fn session<T>(
    socket: &mut Socket<T>,
    attachment: Option<Attachment>,
    first: Option<Body>,
    keys: Vec<u8>,
) -> io::Result<Ended>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    if let Some(mut body) = first {
        while let Some(Ok(piece)) = body.frame().await {
            if let Ok(bytes) = piece.into_data() {
                socket.send(Message::Binary(bytes)).await.map_err(broken)?;
            }
        }
    }
    let Some(Attachment { stream, tty, stdin }) = attachment else {
        return Ok(Ended::Over);
    };
    let (from, to) = stream.into_split();
    let to = if stdin {
        Some(to)
    } else {
        // Dropping it would say "end of stdin" where there is none.
        to.forget();
        None
    };
    let (sink, source) = socket.split();
    // Two directions that do not wait for each other: a process may write before it reads on.
    tokio::select! {
        ended = output(from, sink, tty) => ended,
        ended = input(source, to, tty.then(|| Scanner::new(keys))) => ended,
    }
}

async fn output<S>(mut from: OwnedReadHalf, mut sink: S, tty: bool) -> io::Result<Ended>
where
    S: Sink<Message> + Unpin,
    S::Error: std::error::Error + Send + Sync + 'static,
{
    let mut payloads = Payloads::new(tty);
    let mut buffer = vec![0; CHUNK];
    loop {
        // An error: the shim is gone, and so is the output.
        let count = from.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            return Ok(Ended::Over);
        }
        payloads.push(&buffer[..count]);
        let bytes = payloads.take();
        if !bytes.is_empty() {
            sink.send(Message::Binary(bytes)).await.map_err(broken)?;
        }
    }
}

async fn input<S, E>(mut source: S, mut to: Option<OwnedWriteHalf>, mut scanner: Option<Scanner>) -> io::Result<Ended>
where
    S: Stream<Item = Result<Message, E>> + Unpin,
    E: std::error::Error + Send + Sync + 'static,
{
    loop {
        let typed = match source.next().await {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Text(text))) => Bytes::copy_from_slice(text.as_bytes()),
            // The library answers pings.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
            Some(Ok(Message::Close(_))) | None => return Ok(Ended::Over),
            Some(Err(error)) => return Err(broken(error)),
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
            // The process closed its stdin; its output goes on.
            to = None;
        }
        if detach {
            return Ok(Ended::Detached);
        }
    }
}

/// Takes the frames' heads off, wherever the pieces that come are cut.
struct Payloads {
    raw: bool,
    head: BytesMut,
    /// Bytes that the present frame still has.
    left: usize,
    out: BytesMut,
}

impl Payloads {
    fn new(raw: bool) -> Payloads {
        Payloads {
            raw,
            head: BytesMut::new(),
            left: 0,
            out: BytesMut::new(),
        }
    }

    fn push(&mut self, mut bytes: &[u8]) {
        if self.raw {
            self.out.extend_from_slice(bytes);
            return;
        }
        while !bytes.is_empty() {
            if self.left == 0 {
                let wanted = (8 - self.head.len()).min(bytes.len());
                self.head.extend_from_slice(&bytes[..wanted]);
                bytes = &bytes[wanted..];
                if self.head.len() == 8 {
                    self.head.advance(4);
                    self.left = self.head.get_u32() as usize;
                }
            } else {
                let part = self.left.min(bytes.len());
                self.out.extend_from_slice(&bytes[..part]);
                self.left -= part;
                bytes = &bytes[part..];
            }
        }
    }

    fn take(&mut self) -> Bytes {
        self.out.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::hijack::frame;
    use proptest::prelude::*;

    #[test]
    fn the_answer_is_that_of_the_specification() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        assert!(accept(&Method::GET, Version::HTTP_11, &headers).is_err());
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        let answer = accept(&Method::GET, Version::HTTP_11, &headers).unwrap();
        assert_eq!(answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(accept(&Method::GET, Version::HTTP_10, &headers).is_err());
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("8"));
        assert!(accept(&Method::GET, Version::HTTP_11, &headers).is_err());
    }

    proptest! {
        #[test]
        fn payloads_come_out_whole_however_they_are_cut(
            texts in prop::collection::vec("[a-z]{0,20}", 0..8),
            cut in 1usize..30,
        ) {
            let bytes: Vec<u8> = texts.iter().flat_map(|text| frame(1, text.as_bytes())).collect();
            let mut payloads = Payloads::new(false);
            let mut out = Vec::new();
            for piece in bytes.chunks(cut) {
                payloads.push(piece);
                out.extend_from_slice(&payloads.take());
            }
            prop_assert_eq!(out, texts.concat().into_bytes());
        }
    }
}
