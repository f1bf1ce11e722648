//! Answers: JSON, empty, and streams that begin before there is anything to say.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderName, StatusCode};
use http_body::{Body as HttpBody, Frame};
use serde::Serialize;
use tokio::sync::mpsc;

pub const JSON: &str = "application/json";
/// A terminal's bytes, or a stream below API 1.42.
pub const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Frames with an 8-byte header.
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// `value` with a final newline, as Go's encoder writes it.
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let mut bytes = Vec::with_capacity(256);
    if let Err(error) = serde_json::to_writer(&mut bytes, value) {
        // Only a map with keys that are no strings could do this, and there is none.
        tracing::error!(%error, "an answer could not be written as JSON");
        return empty(StatusCode::INTERNAL_SERVER_ERROR);
    }
    bytes.push(b'\n');
    with_type(status, JSON, Body::from(bytes))
}

/// 200 with JSON.
pub fn ok<T: Serialize>(value: &T) -> Response {
    json(StatusCode::OK, value)
}

pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

pub fn with_type(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Adds one header whose value is known to be legal.
pub fn header(mut response: Response, name: &'static str, value: &'static str) -> Response {
    response
        .headers_mut()
        .insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    response
}

/// Why a stream broke off after its headers were out; all that is left then is to cut the connection.
pub type Broken = Box<dyn std::error::Error + Send + Sync>;

/// A body fed through a channel. The headers go out at once, whatever the channel holds.
pub struct Feed(mpsc::Receiver<Result<Bytes, Broken>>);

impl HttpBody for Feed {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.0
            .poll_recv(context)
            .map(|item| item.map(|chunk| chunk.map(Frame::data)))
    }
}

/// The writing end of a [`Feed`]; dropping it ends the answer.
pub type Feeder = mpsc::Sender<Result<Bytes, Broken>>;

/// A streamed body, and where to write it. `depth` chunks wait at most; then the writer does.
pub fn feed(depth: usize) -> (Feeder, Body) {
    let (sender, receiver) = mpsc::channel(depth);
    (sender, Body::new(Feed(receiver)))
}

/// One JSON value and a newline, for streams of JSON.
pub fn line<T: Serialize>(value: &T) -> Bytes {
    let mut bytes = Vec::with_capacity(128);
    if serde_json::to_writer(&mut bytes, value).is_err() {
        bytes.clear();
    }
    bytes.extend_from_slice(b"\r\n");
    Bytes::from(bytes)
}
