//! A call being put together: method, path, query, headers, body.

use std::io;

use bytes::Bytes;
use futures_util::{Stream as FutureStream, StreamExt};
use http::header::{CONTENT_TYPE, HeaderName};
use http::{Method, Request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::error::{Error, Result};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A request being put together. Paths are relative to the version prefix and begin with `/`.
pub struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Option<Body>,
    pub(crate) versioned: bool,
}

impl Call {
    pub fn new(method: Method, path: impl Into<String>) -> Call {
        Call {
            method,
            path: path.into(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            versioned: true,
        }
    }

    pub fn get(path: impl Into<String>) -> Call {
        Call::new(Method::GET, path)
    }

    pub fn post(path: impl Into<String>) -> Call {
        Call::new(Method::POST, path)
    }

    pub fn delete(path: impl Into<String>) -> Call {
        Call::new(Method::DELETE, path)
    }

    /// Leaves the `/vX.Y` prefix out.
    pub fn unversioned(mut self) -> Call {
        self.versioned = false;
        self
    }

    /// Adds one query value (repeatable).
    pub fn query(mut self, key: &str, value: impl ToString) -> Call {
        self.query.push((key.to_owned(), value.to_string()));
        self
    }

    /// Adds `key=1` when `on`: how the API writes a set switch.
    pub fn flag(self, key: &str, on: bool) -> Call {
        if on { self.query(key, 1) } else { self }
    }

    /// Adds the value when there is one and it is not empty.
    pub fn option(self, key: &str, value: Option<impl ToString>) -> Call {
        match value.map(|value| value.to_string()) {
            Some(value) if !value.is_empty() => self.query(key, value),
            _ => self,
        }
    }

    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Call {
        self.headers.push((name, value.into()));
        self
    }

    pub fn json(mut self, value: &impl Serialize) -> Result<Call> {
        let bytes = serde_json::to_vec(value).map_err(|error| Error::Answer {
            doing: self.doing(),
            reason: error.to_string(),
        })?;
        self.headers.push((CONTENT_TYPE, "application/json".to_owned()));
        self.body = Some(
            Full::new(Bytes::from(bytes))
                .map_err(|never| match never {})
                .boxed_unsync(),
        );
        Ok(self)
    }

    /// A body that is sent while it is produced (a tar, say).
    pub fn stream<S>(mut self, content_type: &str, stream: S) -> Call
    where
        S: FutureStream<Item = io::Result<Bytes>> + Send + 'static,
    {
        self.headers.push((CONTENT_TYPE, content_type.to_owned()));
        let frames = stream.map(|chunk| chunk.map(Frame::data).map_err(|error| Box::new(error) as BoxError));
        self.body = Some(StreamBody::new(frames).boxed_unsync());
        self
    }

    /// Registry credentials, where there are some.
    pub fn auth(self, auth: Option<&agent_api::auth::AuthConfig>) -> Call {
        const HEADER: HeaderName = HeaderName::from_static("x-registry-auth");
        match auth {
            Some(auth) => self.header(HEADER, auth.encode()),
            None => self,
        }
    }

    pub(crate) fn doing(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// The head of a request that only reads, and so may be sent twice.
pub(crate) fn repeatable(request: &Request<Body>) -> Option<Request<()>> {
    matches!(*request.method(), Method::GET | Method::HEAD).then(|| {
        let mut head = Request::new(());
        head.method_mut().clone_from(request.method());
        head.uri_mut().clone_from(request.uri());
        head.headers_mut().clone_from(request.headers());
        head
    })
}

pub(crate) fn copy(head: &Request<()>) -> Request<Body> {
    head.clone().map(|()| empty())
}

pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A name as one segment of a path: whatever a user types cannot reach another route.
pub(crate) fn segment(name: &str) -> Result<String> {
    encode(name, SEGMENT)
}

/// An image's name, in which slashes separate.
pub(crate) fn segments(name: &str) -> Result<String> {
    encode(name, SEGMENTS)
}

const SEGMENTS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b':')
    .remove(b'@')
    .remove(b'/');
const SEGMENT: &AsciiSet = &SEGMENTS.add(b'/');

fn encode(name: &str, set: &'static AsciiSet) -> Result<String> {
    // Servers resolve dots before they look for a route.
    if name.is_empty() || name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Error::Name(format!("{name:?}")));
    }
    Ok(utf8_percent_encode(name, set).to_string())
}
