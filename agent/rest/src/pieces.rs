//! Long JSON answers, written in pieces of memory that is used again.
//!
//! A list of thousands of containers is megabytes of text. In one block of fresh memory, which grows by being copied and
//! goes back to the kernel afterwards, more time goes into the kernel's giving and taking of pages than into the text.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};
use serde::Serialize;

use crate::pool::Pool;
use crate::reply;

/// Small enough for the allocator to keep it, large enough for a hundred rows.
const PIECE: usize = 64 * 1024;
/// Pieces kept from one answer to the next.
const KEPT: usize = 4;

static POOL: LazyLock<Arc<Pool>> = LazyLock::new(|| Pool::new(PIECE, KEPT));

/// What has been written so far.
#[derive(Default)]
struct Pieces {
    full: VecDeque<Bytes>,
    open: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            let room = self.open.capacity() - self.open.len();
            if bytes.len() <= room {
                self.open.extend_from_slice(bytes);
                return Ok(());
            }
            let (now, later) = bytes.split_at(room);
            self.open.extend_from_slice(now);
            self.close();
            self.open = POOL.take();
            bytes = later;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pieces {
    fn close(&mut self) {
        if !self.open.is_empty() {
            self.full.push_back(POOL.lend(std::mem::take(&mut self.open)));
        }
    }

    /// A body of known length.
    fn into_body(mut self) -> Body {
        self.close();
        Body::new(Whole(self.full))
    }
}

/// A list, row by row.
#[derive(Default)]
pub struct List {
    pieces: Pieces,
    /// Of one row, and used again: JSON is written in a great many parts of a few bytes.
    row: Vec<u8>,
    begun: bool,
    failed: Option<serde_json::Error>,
}

impl List {
    pub fn push(&mut self, row: &impl Serialize) {
        self.row.clear();
        self.row.push(if self.begun { b',' } else { b'[' });
        self.begun = true;
        let written = serde_json::to_writer(&mut self.row, row);
        let written = written.and_then(|()| self.pieces.write_all(&self.row).map_err(serde_json::Error::io));
        self.failed = self.failed.take().or(written.err());
    }

    /// 200 with what was pushed, and a final newline.
    pub fn reply(mut self) -> Response {
        let end: &[u8] = if self.begun { b"]\n" } else { b"[]\n" };
        let written = self.pieces.write_all(end).map_err(serde_json::Error::io);
        if let Some(error) = self.failed.or(written.err()) {
            // Only a map with keys that are no strings could do this, and there is none.
            tracing::error!(%error, "an answer could not be written as JSON");
            return reply::empty(StatusCode::INTERNAL_SERVER_ERROR);
        }
        reply::with_type(StatusCode::OK, reply::JSON, self.pieces.into_body())
    }
}

struct Whole(VecDeque<Bytes>);

impl HttpBody for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn what_is_written_comes_out_whole_and_its_length_is_known() {
        for (count, size) in [(0, 1), (1, 1), (3, PIECE), (1, 5 * PIECE + 7), (9_000, 100)] {
            let mut pieces = Pieces::default();
            let mut expected = Vec::new();
            for number in 0..count {
                let part = vec![number as u8; size];
                pieces.write_all(&part).unwrap();
                expected.extend(part);
            }
            let body = pieces.into_body();
            assert_eq!(body.size_hint().exact(), Some(expected.len() as u64));
            assert!(
                body.collect().await.unwrap().to_bytes() == expected,
                "{count} times {size}"
            );
            assert!(POOL.len() <= KEPT);
        }
    }

    #[tokio::test]
    async fn lists_are_lists() {
        for count in 0..3 {
            let mut list = List::default();
            let rows: Vec<_> = (0..count).collect();
            rows.iter().for_each(|row| list.push(row));
            let body = list.reply().into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body.strip_suffix(b"\n"), Some(&serde_json::to_vec(&rows).unwrap()[..]));
        }
    }
}
