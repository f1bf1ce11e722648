//! From a tree and its split record back to the exact tar.

use crate::digest::Hasher;
use crate::error::{Error, Result};
use crate::layers::Layer;
use crate::split::{Moves, Part, SplitReader};
use runtime_sys::openat2::{Resolve, openat2};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// How much is gathered before it is written: large enough that system calls do not count, small enough for the cache.
const BUFFER: usize = 256 << 10;

/// The exact uncompressed tar of a layer, as a reader.
pub struct LayerTar {
    layer: Layer,
    dir: File,
    split: SplitReader,
    moves: Moves,
    /// The file of the current segment, with the path that it was opened by.
    file: Option<(Vec<u8>, File)>,
    part: Current,
    done: u64,
}

enum Current {
    None,
    Raw(u64),
    File { offset: u64, left: u64 },
    End,
}

impl LayerTar {
    pub(crate) fn open(dir: &Path, layer: &Layer) -> Result<LayerTar> {
        let split = dir.join("split");
        let (split, moves) = (
            SplitReader::open(&split).map_err(Error::io("read", &split))?,
            Moves::load(&dir.join("extra").join("moves")).map_err(Error::io("read the moves of", dir))?,
        );
        let dir = File::open(dir).map_err(Error::io("open", dir))?;
        Ok(LayerTar {
            layer: layer.clone(),
            dir,
            split,
            moves,
            file: None,
            part: Current::None,
            done: 0,
        })
    }

    /// Bytes of the whole tar.
    pub fn size(&self) -> u64 {
        self.layer.tar_bytes
    }

    /// Writes all of it; faster than copying through [`Read`].
    ///
    /// # Errors
    /// The writer fails; the layer was changed on disk.
    pub fn write_to(mut self, writer: &mut impl Write) -> Result<u64> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let n = self.fill(&mut buffer)?;
            if n == 0 {
                return Ok(self.done);
            }
            writer.write_all(&buffer[..n]).map_err(|source| Error::Sink {
                what: "a layer's tar",
                source,
            })?;
        }
    }

    /// Fills the buffer as far as the tar goes; 0 at its end.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let rest = &mut buffer[filled..];
            match self.part {
                Current::None => self.advance()?,
                Current::Raw(left) => {
                    let n = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.split.read_raw(&mut rest[..n]).map_err(|e| self.unreadable(e))?;
                    filled += n;
                    let left = left - n as u64;
                    self.part = if left == 0 { Current::None } else { Current::Raw(left) };
                }
                Current::File { offset, left } => {
                    let n = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let n = self.read_file(&mut rest[..n], offset)?;
                    filled += n;
                    let (offset, left) = (offset + n as u64, left - n as u64);
                    self.part = if left == 0 {
                        Current::None
                    } else {
                        Current::File { offset, left }
                    };
                }
                Current::End => break,
            }
        }
        self.done += filled as u64;
        if filled < buffer.len() && self.done != self.layer.tar_bytes {
            return Err(self.damaged("split", "its parts do not add up"));
        }
        Ok(filled)
    }

    fn advance(&mut self) -> Result<()> {
        self.part = match self.split.next().map_err(|e| self.unreadable(e))? {
            Part::Raw(len) => Current::Raw(len),
            Part::End(_) => Current::End,
            Part::File {
                index,
                offset,
                len,
                same,
            } => {
                let path = self.moves.locate(index, self.split.path());
                if !same || self.file.as_ref().is_none_or(|(open, _)| *open != path) {
                    let opened = openat2(
                        self.dir.as_fd(),
                        Path::new(std::ffi::OsStr::from_bytes(&path)),
                        nix::libc::O_RDONLY | nix::libc::O_NOFOLLOW | nix::libc::O_NOATIME,
                        0,
                        Resolve::IN_ROOT_NO_SYMLINKS,
                    );
                    let file = opened.map_err(|_| self.damaged_at(&path, "the file cannot be opened"))?;
                    self.file = Some((path, File::from(file)));
                }
                Current::File { offset, left: len }
            }
        };
        Ok(())
    }

    fn read_file(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let Some((path, file)) = &self.file else {
            return Err(self.damaged("split", "a segment without its file"));
        };
        loop {
            match file.read_at(buffer, offset) {
                Ok(0) => return Err(self.damaged_at(path, "the file is shorter than it was")),
                Ok(n) => return Ok(n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let path = PathBuf::from(std::ffi::OsStr::from_bytes(path));
                    return Err(Error::Io {
                        what: "read",
                        path,
                        source,
                    });
                }
            }
        }
    }

    fn unreadable(&self, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::Other => {
                self.damaged("split", "the record does not read back")
            }
            _ => Error::Io {
                what: "read the split record in",
                path: self.layer.chain.folder().into(),
                source,
            },
        }
    }

    fn damaged_at(&self, path: &[u8], reason: &'static str) -> Error {
        self.damaged(&String::from_utf8_lossy(path), reason)
    }

    fn damaged(&self, path: &str, reason: &'static str) -> Error {
        Error::LayerDamaged {
            chain: self.layer.chain.clone(),
            path: path.to_owned(),
            reason,
        }
    }
}

impl Read for LayerTar {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.fill(buf).map_err(io::Error::other)
    }
}

/// Rebuilds a layer's tar and compares its digest.
pub(crate) fn verify(dir: &Path, layer: &Layer) -> Result<()> {
    let mut hasher = Hasher::like(&layer.diff_id);
    LayerTar::open(dir, layer)?.write_to(&mut hasher)?;
    let actual = hasher.finish();
    if actual != layer.diff_id {
        let what = format!("layer {}", layer.chain);
        return Err(Error::DigestMismatch {
            what,
            expected: layer.diff_id.clone(),
            actual,
        });
    }
    Ok(())
}
