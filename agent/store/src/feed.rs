//! A bridge from asynchronous bytes (a download) to the blocking reader that unpacking wants.

use bytes::Bytes;
use std::io::{self, Read};
use tokio::sync::mpsc;

/// The asynchronous end.
pub struct Feed {
    chunks: mpsc::Sender<io::Result<Bytes>>,
}

/// The blocking end. Reading ends with an error if the [`Feed`] is dropped without [`Feed::finish`].
pub struct FeedReader {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
    done: bool,
}

/// A bounded channel: `depth` chunks wait at most, so a slow disk slows the download instead of filling memory.
pub fn feed(depth: usize) -> (Feed, FeedReader) {
    let (tx, rx) = mpsc::channel(depth.max(1));
    (
        Feed { chunks: tx },
        FeedReader {
            chunks: rx,
            current: Bytes::new(),
            done: false,
        },
    )
}

impl Feed {
    /// Passes a chunk on; waits while the reader is behind. `false`: nobody reads any more, stop.
    pub async fn send(&self, chunk: Bytes) -> bool {
        // An empty chunk is the end mark.
        chunk.is_empty() || self.chunks.send(Ok(chunk)).await.is_ok()
    }

    /// Ends the stream with an error, which the reader sees.
    pub async fn fail(self, error: io::Error) {
        drop(self.chunks.send(Err(error)).await);
    }

    /// Ends the stream in order.
    pub async fn finish(self) {
        drop(self.chunks.send(Ok(Bytes::new())).await);
    }
}

impl Read for FeedReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() && !self.done {
            match self.chunks.blocking_recv() {
                Some(Ok(chunk)) if chunk.is_empty() => self.done = true,
                Some(Ok(chunk)) => self.current = chunk,
                Some(Err(error)) => {
                    self.done = true;
                    return Err(error);
                }
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the download was given up",
                    ));
                }
            }
        }
        let n = buf.len().min(self.current.len());
        buf[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_dropped_feed_is_not_an_end() {
        let (tx, mut rx) = feed(2);
        assert!(tx.send(Bytes::from_static(b"abc")).await);
        drop(tx);
        let result = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            (rx.read_to_end(&mut all).map_err(|e| e.kind()), all)
        });
        assert_eq!(
            result.await.unwrap(),
            (Err(io::ErrorKind::UnexpectedEof), b"abc".to_vec())
        );

        let (tx, mut rx) = feed(2);
        assert!(tx.send(Bytes::from_static(b"abc")).await);
        tx.finish().await;
        let result = tokio::task::spawn_blocking(move || {
            let mut all = String::new();
            rx.read_to_string(&mut all).unwrap();
            all
        });
        assert_eq!(result.await.unwrap(), "abc");
    }
}
