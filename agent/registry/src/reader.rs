//! A download for a thread that reads: `io::Read` over a [`BlobStream`].

use std::io;

use bytes::{Buf, Bytes};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::blob::BlobStream;
use crate::error::Result;

/// Chunks on the way between the network and the reader; hyper's are up to some 400 KiB.
const QUEUE: usize = 8;

/// A download as [`io::Read`]; see [`BlobStream::into_reader`]. Not to be read on an async thread.
pub struct BlobReader {
    chunks: mpsc::Receiver<Result<Bytes>>,
    current: Bytes,
    task: AbortHandle,
    done: bool,
}

impl BlobReader {
    pub(crate) fn start(mut blob: BlobStream, runtime: &Handle) -> BlobReader {
        let (sender, chunks) = mpsc::channel(QUEUE);
        let task = runtime.spawn(async move {
            while let Some(item) = blob.next().await {
                if sender.send(item).await.is_err() {
                    return;
                }
            }
        });
        BlobReader {
            chunks,
            current: Bytes::new(),
            task: task.abort_handle(),
            done: false,
        }
    }

    /// The next bytes as they came from the network, without copying; `None` at the end.
    ///
    /// # Errors
    /// As for [`BlobStream::next`].
    pub fn chunk(&mut self) -> Result<Option<Bytes>> {
        if !self.current.is_empty() {
            return Ok(Some(std::mem::take(&mut self.current)));
        }
        if self.done {
            return Ok(None);
        }
        match self.chunks.blocking_recv() {
            Some(Ok(bytes)) => Ok(Some(bytes)),
            Some(Err(error)) => {
                self.done = true;
                Err(error)
            }
            None => {
                self.done = true;
                Ok(None)
            }
        }
    }
}

impl io::Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.current.is_empty() {
            match self.chunk() {
                Ok(Some(bytes)) => self.current = bytes,
                Ok(None) => return Ok(0),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

impl Drop for BlobReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}
