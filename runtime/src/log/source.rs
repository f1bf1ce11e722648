//! One log file, read forwards record by record, or positioned at its last lines.

use super::json;
use super::record::{self, HEAD, Header, MAX_LINE, Parsed, Stream, TAIL};
use super::writer::{whole_lines, whole_records};
use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Local,
    Json,
}

/// A record in the buffer of a [`LogFile`].
#[derive(Debug)]
pub(super) struct Found {
    pub stream: Stream,
    pub time: i64,
    pub partial: bool,
    pub text: Text,
}

#[derive(Debug)]
pub(super) enum Text {
    /// In the buffer.
    Raw(Range<usize>),
    /// Decoded out of its escapes.
    Decoded(Vec<u8>),
}

const BLOCK: usize = 64 * 1024;
/// A JSON line longer than this is not ours: the escapes make at most six bytes of one.
const LONGEST_LINE: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    format: Format,
    inode: u64,
    buffer: Vec<u8>,
    /// First byte of the buffer that was not handed out.
    start: usize,
    /// Place in the file of the end of the buffer.
    offset: u64,
}

impl LogFile {
    /// None when there is no such file.
    pub(super) fn open(path: &Path, format: Format) -> io::Result<Option<LogFile>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let inode = file.metadata()?.ino();
        Ok(Some(LogFile {
            file,
            format,
            inode,
            buffer: Vec::new(),
            start: 0,
            offset: 0,
        }))
    }

    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// The next record, or None at the present end. What stands there of a record that is being written is read
    /// again the next time: after a crash the writer cuts it off and puts another in its place.
    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        loop {
            let found = match self.format {
                Format::Local => self.next_local(),
                Format::Json => self.next_json(),
            };
            if found.is_some() {
                return Ok(found);
            }
            if !self.fill()? {
                self.offset -= (self.buffer.len() - self.start) as u64;
                self.buffer.clear();
                self.start = 0;
                return Ok(None);
            }
        }
    }

    fn next_local(&mut self) -> Option<Found> {
        loop {
            match record::parse(&self.buffer[self.start..]) {
                Parsed::Record(header, line) => {
                    let text = Text::Raw(self.start + line.start..self.start + line.end);
                    self.start += header.record_length();
                    return Some(Found {
                        stream: header.stream,
                        time: header.time,
                        partial: header.partial,
                        text,
                    });
                }
                Parsed::Short => return None,
                // A torn record with whole ones behind it: look for the next place where one stands.
                Parsed::Broken => self.start += 1,
            }
        }
    }

    fn next_json(&mut self) -> Option<Found> {
        loop {
            let rest = &self.buffer[self.start..];
            let Some(length) = rest.iter().position(|&byte| byte == b'\n') else {
                if rest.len() > LONGEST_LINE {
                    self.start = self.buffer.len();
                }
                return None;
            };
            let line = self.start..self.start + length;
            self.start = line.end + 1;
            // A line that is not Docker's (torn, or somebody's edit) is left out.
            if let Some(found) = decode_json(&self.buffer[line]) {
                return Some(found);
            }
        }
    }

    /// Reads the next block behind what is buffered; false at the end of the file.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let kept = self.buffer.len();
        self.buffer.resize(kept + BLOCK, 0);
        let read = self.file.read_at(&mut self.buffer[kept..], self.offset);
        self.buffer.truncate(kept + *read.as_ref().unwrap_or(&0));
        let read = read?;
        self.offset += read as u64;
        if read == 0 && self.file.metadata()?.len() < self.offset - kept as u64 {
            // Somebody emptied the file in place (`logrotate` with `copytruncate`).
            self.offset = 0;
            self.buffer.clear();
            return self.fill_from_start();
        }
        Ok(read != 0)
    }

    fn fill_from_start(&mut self) -> io::Result<bool> {
        self.buffer.resize(BLOCK, 0);
        let read = self.file.read_at(&mut self.buffer, 0)?;
        self.buffer.truncate(read);
        self.offset = read as u64;
        Ok(read != 0)
    }

    /// Places the reader in front of the last `count` records; returns how many there are.
    pub(super) fn seek_tail(&mut self, count: usize) -> io::Result<usize> {
        let length = self.file.metadata()?.len();
        let (found, at) = match self.format {
            Format::Local => self.tail_local(length, count)?,
            Format::Json => self.tail_json(length, count)?,
        };
        self.buffer.clear();
        self.start = 0;
        self.offset = at;
        Ok(found)
    }

    fn tail_local(&self, length: u64, count: usize) -> io::Result<(usize, u64)> {
        let mut window = Window::new(&self.file);
        let mut end = whole_records(&self.file, length)?;
        let mut found = 0;
        while found < count && end >= (HEAD + TAIL) as u64 {
            let tail = window.bytes(end - TAIL as u64, TAIL)?;
            let line = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]) as usize;
            let whole = (HEAD + line + TAIL) as u64;
            if line > MAX_LINE || whole > end {
                break;
            }
            let head = Header::decode(window.bytes(end - whole, HEAD)?);
            if head.is_none_or(|head| head.length != line) {
                break;
            }
            end -= whole;
            found += 1;
        }
        Ok((found, end))
    }

    fn tail_json(&self, length: u64, count: usize) -> io::Result<(usize, u64)> {
        let mut end = whole_lines(&self.file, length)?;
        if count == 0 || end == 0 {
            return Ok((0, end));
        }
        let mut found = 0;
        let mut block = vec![0; BLOCK];
        end -= 1; // the newline of the last line
        while end > 0 {
            let from = end.saturating_sub(BLOCK as u64);
            let block = &mut block[..(end - from) as usize];
            self.file.read_exact_at(block, from)?;
            for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                found += 1;
                if found == count {
                    return Ok((found, from + at as u64 + 1));
                }
            }
            end = from;
        }
        Ok((found + 1, 0))
    }

    /// Time of the last record, without moving.
    pub(super) fn last_time(&self, path: &Path) -> io::Result<Option<i64>> {
        let Some(mut other) = LogFile::open(path, self.format)? else {
            return Ok(None);
        };
        if other.inode != self.inode {
            return Ok(None);
        }
        other.seek_tail(1)?;
        Ok(other.next()?.map(|found| found.time))
    }
}

/// Reads small pieces near each other, going backwards, with few system calls.
struct Window<'a> {
    file: &'a File,
    buffer: Vec<u8>,
    from: u64,
}

impl<'a> Window<'a> {
    fn new(file: &'a File) -> Self {
        Window {
            file,
            buffer: Vec::new(),
            from: 0,
        }
    }

    fn bytes(&mut self, from: u64, length: usize) -> io::Result<&[u8]> {
        let end = from + length as u64;
        if from < self.from || end > self.from + self.buffer.len() as u64 {
            let start = end.saturating_sub(BLOCK as u64).min(from);
            self.buffer.resize((end - start) as usize, 0);
            self.file.read_exact_at(&mut self.buffer, start)?;
            self.from = start;
        }
        let at = (from - self.from) as usize;
        Ok(&self.buffer[at..at + length])
    }
}

fn decode_json(line: &[u8]) -> Option<Found> {
    /// Borrowed where nothing is escaped; `attrs` of Docker's files is passed over.
    #[derive(serde::Deserialize)]
    struct Line<'a> {
        #[serde(borrow, default)]
        log: Cow<'a, str>,
        #[serde(borrow)]
        stream: Cow<'a, str>,
        #[serde(borrow)]
        time: Cow<'a, str>,
    }
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let stream = match &*line.stream {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        _ => return None,
    };
    let time = json::parse_time(&line.time)?;
    let mut text = line.log.into_owned().into_bytes();
    let partial = text.pop_if(|last| *last == b'\n').is_none();
    Some(Found {
        stream,
        time,
        partial,
        text: Text::Decoded(text),
    })
}
