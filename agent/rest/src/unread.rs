//! Bodies that nobody wants are read nevertheless: a client that is still sending when its connection is closed hears of a
//! broken pipe, or is killed by `SIGPIPE`, and not of the refusal.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http::header::EXPECT;
use http::{HeaderMap, Request};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::runtime::Handle;

/// Bytes of a body that are read for nobody. Who sends more than that after a refusal finds the connection closed.
const MOST: usize = 64 * 1024 * 1024;

/// The request, with a body that is read to its end (or for 64 MiB more) when it is dropped before.
pub fn read_to_the_end<B>(request: Request<B>) -> Request<Body>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<axum::BoxError>,
{
    let (parts, body) = request.into_parts();
    let awaited = sent_without_asking(&parts.headers);
    let body = Whole {
        body: Some(body),
        awaited,
    };
    Request::from_parts(parts, Body::new(body))
}

/// Whether the body comes even if nobody reads it: not that of a client that waits for "100 Continue" (RFC 9110, 10.1.1).
fn sent_without_asking(headers: &HeaderMap) -> bool {
    !headers
        .get(EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

struct Whole<B: http_body::Body<Data = Bytes> + Send + Unpin + 'static> {
    /// Nothing once it has ended or failed.
    body: Option<B>,
    /// Whether it is on its way: reading is what asks for it otherwise.
    awaited: bool,
}

impl<B: http_body::Body<Data = Bytes> + Send + Unpin + 'static> http_body::Body for Whole<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.awaited = true;
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or(SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

impl<B: http_body::Body<Data = Bytes> + Send + Unpin + 'static> Drop for Whole<B> {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take() else { return };
        if body.is_end_stream() || !self.awaited {
            return;
        }
        // Without a runtime there is no connection any more either.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            let mut read = 0;
            while let Some(Ok(frame)) = body.frame().await {
                read += frame.data_ref().map_or(0, Bytes::len);
                if read > MOST {
                    return;
                }
            }
        });
    }
}
