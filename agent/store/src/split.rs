//! The split record: what, together with the tree, gives back the exact bytes of a layer's tar.
//!
//! ```text
//! "iechor split 1\n"  zstd( segment* end )
//! raw   0  <length> <bytes>            headers, padding, end marks, payloads that are in no file
//! file  1  <length> <path> <offset> <length>   bytes of a file of the tree
//! same  2  <offset> <length>           more bytes of the file before
//! end   3  <total>                     size of the tar
//! ```
//!
//! Numbers are LEB128. The zstd frame has a checksum. Paths are real paths below `tree/`, without symbolic links.
//!
//! When a later entry of the same layer replaces an earlier one, what was there moves to `extra/<n>`, and a line in
//! `extra/moves` says so: `<first file segment that sees the new state> <n> <path>\0`.

use crate::error::{Error, Result};
use crate::tar::Raw;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8] = b"iechor split 1\n";
/// zstd level: headers shrink to a twentieth at any level; 1 is the fastest.
const LEVEL: i32 = 1;
/// A raw segment is written out when it is this long.
const RAW_LIMIT: usize = 64 << 10;
/// A path in a segment may have this many bytes (the kernel's own limit).
const PATH_LIMIT: u64 = 4096;

const RAW: u8 = 0;
const FILE: u8 = 1;
const SAME: u8 = 2;
const END: u8 = 3;

/// Writes a split record.
pub(crate) struct SplitWriter {
    path: PathBuf,
    out: zstd::stream::write::Encoder<'static, BufWriter<File>>,
    raw: Vec<u8>,
    last: Vec<u8>,
    total: u64,
    files: u64,
}

impl SplitWriter {
    pub fn create(path: PathBuf) -> Result<SplitWriter> {
        let fail = |e| Error::io("write", &path)(e);
        let file = private(&path).map_err(fail)?;
        let mut file = BufWriter::with_capacity(128 << 10, file);
        file.write_all(MAGIC).map_err(fail)?;
        let mut out = zstd::stream::write::Encoder::new(file, LEVEL).map_err(fail)?;
        out.include_checksum(true).map_err(fail)?;
        Ok(SplitWriter {
            out,
            raw: Vec::with_capacity(RAW_LIMIT + 1024),
            last: Vec::new(),
            total: 0,
            files: 0,
            path,
        })
    }

    /// How many file segments were written so far.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// Refers to bytes of a file of the tree.
    pub fn file(&mut self, path: &[u8], offset: u64, len: u64) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        self.flush_raw()?;
        let mut segment = Vec::with_capacity(path.len() + 32);
        if path == self.last {
            segment.push(SAME);
        } else {
            segment.push(FILE);
            put_number(&mut segment, path.len() as u64);
            segment.extend_from_slice(path);
            self.last = path.to_vec();
        }
        put_number(&mut segment, offset);
        put_number(&mut segment, len);
        self.out
            .write_all(&segment)
            .map_err(|e| Error::io("write", &self.path)(e))?;
        self.files += 1;
        self.total += len;
        Ok(())
    }

    /// After an entry was replaced, "the file before" may be another one.
    pub fn forget_last(&mut self) {
        self.last.clear();
    }

    fn flush_raw(&mut self) -> Result<()> {
        if self.raw.is_empty() {
            return Ok(());
        }
        let mut head = Vec::with_capacity(12);
        head.push(RAW);
        put_number(&mut head, self.raw.len() as u64);
        let written = self.out.write_all(&head).and_then(|()| self.out.write_all(&self.raw));
        written.map_err(|e| Error::io("write", &self.path)(e))?;
        self.raw.clear();
        Ok(())
    }

    /// Ends the record; the size of the tar is returned.
    pub fn finish(mut self) -> Result<u64> {
        self.flush_raw()?;
        let mut end = vec![END];
        put_number(&mut end, self.total);
        let (path, total) = (self.path, self.total);
        let done = self
            .out
            .write_all(&end)
            .and_then(|()| self.out.finish())
            .and_then(|mut file| file.flush());
        done.map_err(|e| Error::io("write", path)(e))?;
        Ok(total)
    }
}

impl Raw for SplitWriter {
    fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.total += bytes.len() as u64;
        for part in bytes.chunks(RAW_LIMIT) {
            if self.raw.len() + part.len() > RAW_LIMIT {
                self.flush_raw()?;
            }
            self.raw.extend_from_slice(part);
        }
        Ok(())
    }
}

/// One segment as it is read back. The path of a file segment is in [`SplitReader::path`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// So many bytes follow in the record: take them with [`SplitReader::read_raw`].
    Raw(u64),
    /// Bytes of the file at [`SplitReader::path`]; `index` counts file segments.
    File {
        index: u64,
        offset: u64,
        len: u64,
        same: bool,
    },
    /// The end, with the size of the tar.
    End(u64),
}

/// Reads a split record.
pub(crate) struct SplitReader {
    input: BufReader<zstd::stream::read::Decoder<'static, BufReader<File>>>,
    path: Vec<u8>,
    files: u64,
}

impl SplitReader {
    pub fn open(path: &Path) -> io::Result<SplitReader> {
        let mut file = BufReader::with_capacity(64 << 10, File::open(path)?);
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(damaged("it is not a split record of this version"));
        }
        let input = BufReader::with_capacity(64 << 10, zstd::stream::read::Decoder::with_buffer(file)?);
        Ok(SplitReader {
            input,
            path: Vec::new(),
            files: 0,
        })
    }

    /// The path of the last file segment.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    pub fn next(&mut self) -> io::Result<Part> {
        let mut tag = [0];
        self.input.read_exact(&mut tag)?;
        match tag[0] {
            RAW => Ok(Part::Raw(self.number()?)),
            FILE => {
                let len = self.number()?;
                if len == 0 || len > PATH_LIMIT {
                    return Err(damaged("a path of an impossible length"));
                }
                self.path.resize(len as usize, 0);
                self.input.read_exact(&mut self.path)?;
                self.file(false)
            }
            SAME => self.file(true),
            END => Ok(Part::End(self.number()?)),
            _ => Err(damaged("a segment of an unknown kind")),
        }
    }

    fn file(&mut self, same: bool) -> io::Result<Part> {
        let index = self.files;
        self.files += 1;
        Ok(Part::File {
            index,
            offset: self.number()?,
            len: self.number()?,
            same,
        })
    }

    pub fn read_raw(&mut self, buf: &mut [u8]) -> io::Result<()> {
        self.input.read_exact(buf)
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.input.read_exact(&mut byte)?;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged("a number that is too long"))
    }
}

/// A new file for root alone, whatever the umask (which is 0 where trees are built).
fn private(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

fn damaged(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Entries that were replaced inside their own layer.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// path → (file segments below this index mean what was there before, its number in `extra/`), ascending
    by_path: HashMap<Vec<u8>, Vec<(u64, u64)>>,
}

impl Moves {
    /// Notes that `path` went to `extra/<number>` after `before` file segments. In the order in which it happens.
    pub fn add(&mut self, before: u64, number: u64, path: &[u8]) {
        self.by_path.entry(path.to_vec()).or_default().push((before, number));
    }

    /// Where the file of segment `index` is now, relative to the layer's folder.
    pub fn locate(&self, index: u64, path: &[u8]) -> Vec<u8> {
        if self.by_path.is_empty() {
            return [b"tree/", path].concat();
        }
        // The first move after the segment, of the path itself or of a folder above it, is where the file went.
        let ends = path
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'/')
            .map(|(at, _)| at)
            .chain([path.len()]);
        let first = ends.filter_map(|end| {
            let moves = self.by_path.get(&path[..end])?;
            let (before, number) = moves.get(moves.partition_point(|(before, _)| *before <= index))?;
            // At equal index the lower number happened first.
            Some((*before, *number, end))
        });
        match first.min() {
            Some((_, number, end)) => [format!("extra/{number}").as_bytes(), &path[end..]].concat(),
            None => [b"tree/", path].concat(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        let mut text = Vec::new();
        for (moved, list) in &self.by_path {
            for (before, number) in list {
                text.extend_from_slice(format!("{before} {number} ").as_bytes());
                text.extend_from_slice(moved);
                text.push(0);
            }
        }
        private(path)
            .and_then(|mut file| file.write_all(&text))
            .map_err(Error::io("write", path))
    }

    pub fn load(path: &Path) -> io::Result<Moves> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Moves::default()),
            Err(e) => return Err(e),
        };
        let mut moves = Moves::default();
        for line in text.split(|b| *b == 0).filter(|line| !line.is_empty()) {
            let mut parts = line.splitn(3, |b| *b == b' ');
            let mut number = || std::str::from_utf8(parts.next()?).ok()?.parse::<u64>().ok();
            let (before, to) = (number(), number());
            match (before, to, parts.next()) {
                (Some(before), Some(to), Some(path)) => moves.add(before, to, path),
                _ => return Err(damaged("a line of moves that does not parse")),
            }
        }
        Ok(moves)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn segments_come_back_and_damage_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("split");
        let mut writer = SplitWriter::create(path.clone()).unwrap();
        writer.raw(b"head").unwrap();
        writer.file(b"a/b", 0, 300).unwrap();
        writer.file(b"a/b", 4096, 5).unwrap();
        writer.raw(&vec![7; RAW_LIMIT * 2 + 3]).unwrap();
        writer.file(b"c", 0, 0).unwrap();
        let total = writer.finish().unwrap();
        assert_eq!(total, 4 + 305 + RAW_LIMIT as u64 * 2 + 3);

        let mut reader = SplitReader::open(&path).unwrap();
        assert_eq!(reader.next().unwrap(), Part::Raw(4));
        let mut raw = [0; 4];
        reader.read_raw(&mut raw).unwrap();
        assert_eq!(&raw, b"head");
        assert_eq!(
            reader.next().unwrap(),
            Part::File {
                index: 0,
                offset: 0,
                len: 300,
                same: false
            }
        );
        assert_eq!(reader.path(), b"a/b");
        assert_eq!(
            reader.next().unwrap(),
            Part::File {
                index: 1,
                offset: 4096,
                len: 5,
                same: true
            }
        );

        let mut bytes = std::fs::read(&path).unwrap();
        let end = bytes.len();
        bytes[end - 6] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let all = || -> io::Result<()> {
            let mut reader = SplitReader::open(&path)?;
            loop {
                match reader.next()? {
                    Part::Raw(n) => reader.read_raw(&mut vec![0; n as usize])?,
                    Part::File { .. } => {}
                    Part::End(_) => return Ok(()),
                }
            }
        };
        assert!(all().is_err());
    }

    #[test]
    fn moves_are_found_by_time_and_prefix() {
        let mut moves = Moves::default();
        moves.add(3, 0, b"a/b");
        moves.add(5, 1, b"a/b");
        moves.add(9, 2, b"a");
        let dir = tempfile::tempdir().unwrap();
        moves.save(&dir.path().join("moves")).unwrap();
        let moves = Moves::load(&dir.path().join("moves")).unwrap();
        assert_eq!(moves.locate(2, b"a/b"), b"extra/0");
        assert_eq!(moves.locate(3, b"a/b"), b"extra/1");
        assert_eq!(moves.locate(4, b"a/b/c"), b"extra/1/c");
        assert_eq!(moves.locate(5, b"a/b"), b"extra/2/b");
        assert_eq!(moves.locate(2, b"a/bc"), b"extra/2/bc");
        assert_eq!(moves.locate(9, b"a/b"), b"tree/a/b");
    }
}
