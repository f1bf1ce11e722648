//! Archives between HTTP bodies and the engine's blocking readers and writers, through short bounded channels.

use std::io::{self, Read, Write};
use std::sync::Arc;

use axum::body::Body;
use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use crate::pool::Pool;
use crate::reply::{self, Feeder};

/// Pieces that wait between the two sides.
const DEPTH: usize = 8;
/// Bytes gathered before they are handed to the connection.
const PIECE: usize = 256 * 1024;

/// A request body for blocking code. A body that breaks off is an error, never a short file.
pub struct BodyReader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
    /// How the body broke off, behind what was read of it.
    broken: Option<io::Error>,
}

impl BodyReader {
    pub fn start(mut body: Body) -> BodyReader {
        let (sender, pieces) = mpsc::channel(DEPTH);
        tokio::spawn(async move {
            // Who stopped reading waits for no more of a body that may stall.
            while let Some(piece) = tokio::select! {
                piece = body.frame() => piece,
                () = sender.closed() => None,
            } {
                let piece = match piece {
                    Ok(frame) => match frame.into_data() {
                        Ok(bytes) => Ok(bytes),
                        Err(_) => continue,
                    },
                    Err(error) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)),
                };
                let broken = piece.is_err();
                if sender.send(piece).await.is_err() || broken {
                    return;
                }
            }
        });
        BodyReader {
            pieces,
            current: Bytes::new(),
            broken: None,
        }
    }
}

impl Read for BodyReader {
    /// Waits for something, and takes along what else is there: files are written in blocks as large as these.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        while filled < buffer.len() {
            if self.current.is_empty() {
                let next = if filled == 0 {
                    self.pieces.blocking_recv()
                } else {
                    self.pieces.try_recv().ok()
                };
                match next {
                    Some(Ok(piece)) => self.current = piece,
                    Some(Err(error)) if filled == 0 => return Err(error),
                    Some(Err(error)) => {
                        self.broken = Some(error);
                        return Ok(filled);
                    }
                    None => return Ok(filled),
                }
                continue;
            }
            let count = self.current.len().min(buffer.len() - filled);
            self.current.copy_to_slice(&mut buffer[filled..filled + count]);
            filled += count;
        }
        Ok(filled)
    }
}

/// A response body for blocking code.
pub struct BodyWriter {
    feeder: Feeder,
    gathered: Vec<u8>,
    pool: Arc<Pool>,
}

impl BodyWriter {
    /// The writer, and the body that yields what is written.
    pub fn new() -> (BodyWriter, Body) {
        let (feeder, body) = reply::feed(DEPTH);
        (
            BodyWriter {
                feeder,
                gathered: Vec::new(),
                // What waits, what is being sent, and what is written.
                pool: Pool::new(2 * PIECE, DEPTH + 2),
            },
            body,
        )
    }

    /// Ends the body: whole, or cut off so that the client cannot take a part for the whole.
    pub fn finish(mut self, result: Result<(), reply::Broken>) {
        let result = result.and_then(|()| self.flush().map_err(Into::into));
        if let Err(error) = result {
            let _ = self.feeder.blocking_send(Err(error));
        }
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.gathered.capacity() == 0 {
            self.gathered = self.pool.take();
        }
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
        let piece = self.pool.lend(std::mem::take(&mut self.gathered));
        // The client is gone: there is nobody to write for.
        self.feeder
            .blocking_send(Ok(piece))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_body_that_breaks_off_is_read_to_there_and_is_an_error() {
        for broken in [false, true] {
            let (feeder, body) = reply::feed(DEPTH);
            let reading = tokio::task::spawn_blocking(move || {
                let mut reader = BodyReader::start(body);
                let mut bytes = Vec::new();
                let result = reader.read_to_end(&mut bytes);
                (bytes, result)
            });
            for piece in ["a", "bcd", "", "ef"] {
                feeder.send(Ok(piece.into())).await.unwrap();
            }
            if broken {
                feeder.send(Err("gone".into())).await.unwrap();
            }
            drop(feeder);
            let (bytes, result) = reading.await.unwrap();
            assert_eq!(bytes, b"abcdef");
            assert_eq!(result.is_err(), broken);
        }
    }
}
