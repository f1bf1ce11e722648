//! Parts of a tar on their way between threads. Their memory is used again: fresh memory is dear (about 6 µs a page on
//! virtual machines).

use std::io::{self, BufRead, Read};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

/// Bytes of a chunk: a multiple of the tar block, and three of them fit a usual second-level cache.
pub(crate) const CHUNK: usize = 256 << 10;

/// A part of the tar, shared by the threads that use it; its memory goes back to the pool when the last one is done.
pub(crate) struct Chunk {
    pub bytes: Vec<u8>,
    pool: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Ok(mut free) = self.pool.lock() {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// Free memory for chunks.
#[derive(Default)]
pub(crate) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    pub fn take(&self) -> Chunk {
        let free = self.0.lock().ok().and_then(|mut free| free.pop());
        Chunk {
            bytes: free.unwrap_or_else(|| Vec::with_capacity(CHUNK)),
            pool: self.0.clone(),
        }
    }
}

/// The builder's end of the channel as a buffered reader.
pub(crate) struct ChunkReader {
    chunks: Receiver<Option<Arc<Chunk>>>,
    current: Option<Arc<Chunk>>,
    at: usize,
    ended: bool,
}

impl ChunkReader {
    pub fn new(chunks: Receiver<Option<Arc<Chunk>>>) -> ChunkReader {
        ChunkReader {
            chunks,
            current: None,
            at: 0,
            ended: false,
        }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(buf.len());
        buf[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while !self.ended && self.current.as_ref().is_none_or(|chunk| self.at == chunk.bytes.len()) {
            self.current = None; // back to the pool before we wait
            self.at = 0;
            match self.chunks.recv() {
                Ok(Some(chunk)) => self.current = Some(chunk),
                Ok(None) => self.ended = true,
                Err(_) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream broke off")),
            }
        }
        Ok(self.current.as_ref().map_or(&[], |chunk| &chunk.bytes[self.at..]))
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}
