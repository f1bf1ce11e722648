//! Memory of what was sent, for what is written next: fresh memory comes page by page from the kernel, which takes longer than
//! filling it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Blocks of one size.
#[derive(Debug)]
pub struct Pool {
    free: Mutex<Vec<Vec<u8>>>,
    size: usize,
    kept: usize,
}

impl Pool {
    /// Of blocks of `size` bytes, of which at most `kept` are kept while nobody needs them.
    pub fn new(size: usize, kept: usize) -> Arc<Pool> {
        Arc::new(Pool {
            free: Mutex::default(),
            size,
            kept,
        })
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty block.
    pub fn take(&self) -> Vec<u8> {
        let used = self.free().pop();
        used.unwrap_or_else(|| Vec::with_capacity(self.size))
    }

    /// Bytes whose memory comes back when the connection has sent them.
    pub fn lend(self: &Arc<Pool>, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Piece {
            bytes,
            pool: Arc::clone(self),
        })
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.free().len()
    }
}

struct Piece {
    bytes: Vec<u8>,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut free = self.pool.free();
        if free.len() < self.pool.kept {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            free.push(bytes);
        }
    }
}
