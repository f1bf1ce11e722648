//! Streams of JSON objects, one after the other with nothing (or white space) between: pull, load, events, stats.

use bytes::BytesMut;
use futures_util::Stream;
use serde::de::DeserializeOwned;

use crate::download::Download;
use crate::error::{Error, Result};

/// One object of a stream is small; a hostile daemon must not make us collect without end.
const MAX_OBJECT: usize = 64 << 20;

/// Reads one object after the other.
pub struct Messages<T> {
    download: Download,
    pieces: Pieces,
    ended: bool,
    kind: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Messages<T> {
    pub(crate) fn new(download: Download) -> Messages<T> {
        Messages {
            download,
            pieces: Pieces::default(),
            ended: false,
            kind: std::marker::PhantomData,
        }
    }

    /// The next object, or `None` at the end.
    ///
    /// # Errors
    /// The connection broke, or what came is not JSON of this shape.
    pub async fn next(&mut self) -> Result<Option<T>> {
        loop {
            let doing = || self.download.doing().to_owned();
            match self.pieces.next() {
                Ok(Some(object)) => return Ok(Some(object)),
                Err(reason) => return Err(Error::Answer { doing: doing(), reason }),
                Ok(None) if self.ended => {
                    if self.pieces.is_empty() {
                        return Ok(None);
                    }
                    return Err(Error::Answer {
                        doing: doing(),
                        reason: "the last object is cut off".to_owned(),
                    });
                }
                Ok(None) => {}
            }
            match self.download.chunk().await? {
                Some(chunk) => self.pieces.buffer.extend_from_slice(&chunk),
                None => self.ended = true,
            }
        }
    }

    pub fn into_stream(self) -> impl Stream<Item = Result<T>> + Send
    where
        T: Send + 'static,
    {
        futures_util::stream::try_unfold(self, |mut messages| async move {
            Ok(messages.next().await?.map(|message| (message, messages)))
        })
    }
}

/// Cuts complete objects off the front of what has arrived.
#[derive(Default)]
struct Pieces {
    buffer: BytesMut,
}

impl Pieces {
    fn next<T: DeserializeOwned>(&mut self) -> std::result::Result<Option<T>, String> {
        if self.is_empty() {
            self.buffer.clear();
            return Ok(None);
        }
        let mut objects = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<serde_json::Value>();
        match objects.next() {
            None => Ok(None),
            Some(Ok(object)) => {
                let used = objects.byte_offset();
                let _ = self.buffer.split_to(used);
                agent_api::json::from_value(object)
                    .map(Some)
                    .map_err(|error| error.to_string())
            }
            Some(Err(error)) if error.is_eof() && self.buffer.len() < MAX_OBJECT => Ok(None),
            Some(Err(error)) => Err(error.to_string()),
        }
    }

    fn is_empty(&self) -> bool {
        self.buffer.iter().all(|byte| byte.is_ascii_whitespace())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn objects_are_cut_where_they_end() {
        let wire = b"{\"a\":1}\r\n{\"a\":\"}{\"} {\"a\":[1,2]}\n";
        for step in 1..wire.len() {
            let mut pieces = Pieces::default();
            let mut got = Vec::new();
            for piece in wire.chunks(step) {
                pieces.buffer.extend_from_slice(piece);
                while let Some(object) = pieces.next::<serde_json::Value>().unwrap() {
                    got.push(object["a"].to_string());
                }
            }
            assert!(pieces.is_empty());
            assert_eq!(got, ["1", "\"}{\"", "[1,2]"], "step {step}");
        }
        let mut pieces = Pieces::default();
        pieces.buffer.extend_from_slice(b"not json");
        assert!(pieces.next::<serde_json::Value>().is_err());
    }
}
