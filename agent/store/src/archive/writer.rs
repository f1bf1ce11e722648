//! Writing tar.

use crate::error::{Error, Result};
use crate::tar::{BLOCK, Header};
use std::io::Write;

/// Writes entries one after the other; ownership is root's and time is zero, so that equal content makes equal archives.
pub(crate) struct TarWriter<W> {
    out: W,
}

impl<W: Write> TarWriter<W> {
    pub fn new(out: W) -> Self {
        TarWriter { out }
    }

    /// The writer itself, for the content of a file that was begun.
    pub fn raw(&mut self) -> &mut W {
        &mut self.out
    }

    pub fn dir(&mut self, name: &str) -> Result<()> {
        let mut header = Header::new(name.as_bytes(), b'5');
        header.mode = 0o755;
        self.header(&header)
    }

    pub fn file(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.begin_file(name, content.len() as u64)?;
        self.write(content)?;
        self.end_file(content.len() as u64)
    }

    pub fn begin_file(&mut self, name: &str, size: u64) -> Result<()> {
        let mut header = Header::new(name.as_bytes(), b'0');
        header.mode = 0o644;
        header.size = size;
        self.header(&header)
    }

    pub fn end_file(&mut self, size: u64) -> Result<()> {
        let padding = (BLOCK - (size % BLOCK as u64) as usize) % BLOCK;
        self.write(&[0; BLOCK][..padding])
    }

    pub fn header(&mut self, header: &Header) -> Result<()> {
        let bytes = header.encode();
        self.write(&bytes)
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|source| Error::Sink {
            what: "the archive",
            source,
        })
    }

    pub fn finish(mut self) -> Result<()> {
        self.write(&[0; 2 * BLOCK])?;
        self.out.flush().map_err(|source| Error::Sink {
            what: "the archive",
            source,
        })
    }
}
