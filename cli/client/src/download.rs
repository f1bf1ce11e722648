//! Answers that are read as they arrive.

use bytes::Bytes;
use futures_util::Stream as FutureStream;
use futures_util::TryStreamExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;

use crate::call::Body;
use crate::error::{Error, Result};

/// A body that is read as it arrives.
pub struct Download {
    pub(crate) parts: http::response::Parts,
    pub(crate) body: Incoming,
    pub(crate) doing: String,
    pub(crate) host: String,
    // The connection lives as long as its sender.
    pub(crate) _sender: SendRequest<Body>,
}

impl Download {
    pub fn headers(&self) -> &http::HeaderMap {
        &self.parts.headers
    }

    /// The next piece, or `None` at the end.
    ///
    /// # Errors
    /// The connection broke before the body's end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                // Trailers are of no interest.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Ok(Some(data)),
                    Err(_) => {}
                },
                Some(Err(source)) => {
                    return Err(Error::Broken {
                        host: self.host.clone(),
                        doing: self.doing.clone(),
                        source: Box::new(source),
                    });
                }
            }
        }
    }

    pub(crate) fn doing(&self) -> &str {
        &self.doing
    }

    /// The pieces as a stream.
    pub fn into_stream(self) -> impl FutureStream<Item = Result<Bytes>> + Send {
        futures_util::stream::try_unfold(self, |mut download| async move {
            Ok(download.chunk().await?.map(|chunk| (chunk, download)))
        })
        .into_stream()
    }
}
