//! One log file, read forwards line by line, or positioned at its last lines.

use super::compression::Gz;
use super::record::{self, Header, Kind, MAX_BLOCK, Parsed, Stream};
use super::{compressed, json, tail};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Local,
    Json,
}

/// A line in the buffer of a [`LogFile`].
#[derive(Debug)]
pub(super) struct Found {
    pub stream: Stream,
    pub time: i64,
    pub partial: bool,
    /// In the buffer; None: decoded out of its escapes.
    pub text: Option<Range<usize>>,
}

/// Longer than any record, so that each fits with what is in front of it.
pub(super) const BLOCK: usize = 2 * MAX_BLOCK;
/// A JSON line longer than this is not ours: the escapes make at most six bytes of one.
const LONGEST_LINE: usize = 1024 * 1024;

/// Which file it is, whatever its name. Inodes are used again, also by the successor of a file that was compressed; with
/// the time of the first record they are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub inode: u64,
    /// Nanoseconds since 1970.
    pub first: Option<i64>,
}

#[derive(Debug)]
enum Source {
    Plain(File),
    Gz(Box<Gz>),
}

/// A record whose lines are being handed out: the first is at `start`.
#[derive(Debug)]
struct Open {
    header: Header,
    /// Places in the buffer: end of the text, end of the record.
    end: usize,
    after: usize,
    /// Lines handed out.
    line: u64,
    /// Where the record stands in the file.
    at: u64,
}

#[derive(Debug)]
pub(super) struct LogFile {
    source: Source,
    format: Format,
    inode: u64,
    buffer: Vec<u8>,
    /// What of the buffer was read and not handed out.
    start: usize,
    filled: usize,
    /// Place in the file (as it was before compression) of the end of what was read.
    offset: u64,
    open: Option<Open>,
    decoded: Vec<u8>,
    /// Records before this are of no interest.
    pub since: Option<i64>,
}

impl LogFile {
    /// None when there is no such file, plain or compressed.
    pub(super) fn open(path: &Path, format: Format) -> io::Result<Option<LogFile>> {
        let (source, inode) = match File::open(path) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                (Source::Plain(file), inode)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let Some(gz) = Gz::open(&compressed(path))? else {
                    return Ok(None);
                };
                let inode = gz.inode();
                (Source::Gz(Box::new(gz)), inode)
            }
            Err(error) => return Err(error),
        };
        Ok(Some(LogFile {
            source,
            format,
            inode,
            buffer: Vec::new(),
            start: 0,
            filled: 0,
            offset: 0,
            open: None,
            decoded: Vec::new(),
            since: None,
        }))
    }

    /// Of the file that the shim wrote, also when this is the compressed one in its place.
    pub(super) fn identity(&self) -> io::Result<Identity> {
        let first = match &self.source {
            Source::Gz(gz) => gz.first_time(),
            Source::Plain(file) => match self.format {
                Format::Local => first_record(file)?,
                Format::Json => first_line(file)?,
            },
        };
        Ok(Identity {
            inode: self.inode,
            first,
        })
    }

    /// Whether it is written to under the name `path`; `None`: nothing is.
    pub(super) fn is_current(&self, path: &Path) -> io::Result<Option<bool>> {
        match std::fs::metadata(path) {
            // Ours is open, so that nobody else can have its inode.
            Ok(now) => Ok(Some(matches!(self.source, Source::Plain(_)) && now.ino() == self.inode)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn text(&self, found: &Option<Range<usize>>) -> &[u8] {
        match found {
            Some(range) => &self.buffer[range.clone()],
            None => &self.decoded,
        }
    }

    /// Place of the next line: of its record, and how many lines of that were handed out.
    pub(super) fn place(&self) -> (u64, u64) {
        match &self.open {
            Some(open) if self.start < open.end => (open.at, open.line),
            Some(open) => (open.at + open.header.record_length() as u64, 0),
            None => (self.offset - (self.filled - self.start) as u64, 0),
        }
    }

    /// Goes to a place that [`place`](LogFile::place) told.
    pub(super) fn seek(&mut self, at: u64, line: u64) -> io::Result<()> {
        match &mut self.source {
            Source::Plain(_) => self.offset = at,
            Source::Gz(gz) => {
                self.offset = io::copy(&mut gz.take(at), &mut io::sink())?;
            }
        }
        (self.start, self.filled, self.open) = (0, 0, None);
        self.skip(line)
    }

    fn skip(&mut self, lines: u64) -> io::Result<()> {
        for _ in 0..lines {
            if self.next()?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// The next line, or None at the present end. What stands there of a record that is being written is read
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
                if let Source::Plain(_) = self.source {
                    self.offset -= (self.filled - self.start) as u64;
                    (self.start, self.filled) = (0, 0);
                }
                return Ok(None);
            }
        }
    }

    fn next_local(&mut self) -> Option<Found> {
        loop {
            if let Some(open) = &mut self.open {
                if self.start < open.end {
                    open.line += 1;
                    let rest = &self.buffer[self.start..open.end];
                    let (length, used) = match open.header.kind {
                        Kind::Lines => match memchr::memchr(b'\n', rest) {
                            Some(at) => (at, at + 1),
                            None => (rest.len(), rest.len()),
                        },
                        Kind::Line | Kind::Piece => (rest.len(), rest.len()),
                    };
                    let text = self.start..self.start + length;
                    self.start += used;
                    return Some(Found {
                        stream: open.header.stream,
                        time: open.header.time,
                        partial: open.header.kind == Kind::Piece,
                        text: Some(text),
                    });
                }
                self.start = open.after;
                self.open = None;
            }
            match record::parse(&self.buffer[self.start..self.filled]) {
                Parsed::Record(header, text) => {
                    let after = self.start + header.record_length();
                    if self.since.is_some_and(|since| header.time < since) {
                        self.start = after;
                        continue;
                    }
                    let at = self.offset - (self.filled - self.start) as u64;
                    let (end, empty) = (self.start + text.end, text.is_empty());
                    self.start += text.start;
                    self.open = Some(Open {
                        header,
                        end,
                        after,
                        line: 0,
                        at,
                    });
                    if empty && header.kind == Kind::Line {
                        // An empty line, which the loop above takes for none.
                        self.start = after;
                        self.open = None;
                        return Some(Found {
                            stream: header.stream,
                            time: header.time,
                            partial: false,
                            text: Some(after..after),
                        });
                    }
                }
                Parsed::Short => return None,
                // A torn record with whole ones behind it: look for the next place where one stands.
                Parsed::Broken => self.start += 1,
            }
        }
    }

    fn next_json(&mut self) -> Option<Found> {
        loop {
            let rest = &self.buffer[self.start..self.filled];
            let Some(length) = memchr::memchr(b'\n', rest) else {
                if rest.len() > LONGEST_LINE {
                    self.start = self.filled;
                }
                return None;
            };
            let line = self.start..self.start + length;
            self.start = line.end + 1;
            // A line that is not Docker's (torn, or somebody's edit) is left out.
            if let Some(parsed) = json::decode(&self.buffer[line.clone()], &mut self.decoded) {
                return Some(Found {
                    stream: parsed.stream,
                    time: parsed.time,
                    partial: parsed.partial,
                    text: parsed.plain.map(|at| line.start + at.start..line.start + at.end),
                });
            }
        }
    }

    /// Reads the next block behind what is buffered; false at the end of the file.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        if self.buffer.len() < BLOCK || self.filled + BLOCK / 2 > self.buffer.len() {
            self.buffer.resize((self.filled + BLOCK).max(BLOCK), 0);
        }
        let kept = self.filled;
        let read = match &mut self.source {
            Source::Plain(file) => file.read_at(&mut self.buffer[kept..], self.offset)?,
            // A compressed file that ends too early is a file that ends: the rest was lost, not this.
            Source::Gz(gz) => gz.read(&mut self.buffer[kept..]).unwrap_or(0),
        };
        self.filled += read;
        self.offset += read as u64;
        if read == 0
            && let Source::Plain(file) = &self.source
            && file.metadata()?.len() < self.offset - kept as u64
        {
            // Somebody emptied the file in place (`logrotate` with `copytruncate`).
            self.filled = file.read_at(&mut self.buffer, 0)?;
            self.offset = self.filled as u64;
            return Ok(self.filled != 0);
        }
        Ok(read != 0)
    }

    /// Places the reader in front of the last `count` lines; returns how many there are. `path` is where it was opened.
    pub(super) fn seek_tail(&mut self, count: u64, path: &Path) -> io::Result<u64> {
        let place = match (&self.source, self.format) {
            (Source::Plain(file), Format::Local) => tail::local(file, count)?,
            (Source::Plain(file), Format::Json) => tail::json(file, count)?,
            (Source::Gz(_), format) => {
                let mut all = 0;
                while self.next()?.is_some() {
                    all += 1;
                }
                let Some(again) = LogFile::open(path, format)?
                    .filter(|again| matches!((again.identity(), self.identity()), (Ok(a), Ok(b)) if a == b))
                else {
                    return Ok(0);
                };
                *self = again;
                tail::Place {
                    found: all.min(count),
                    at: 0,
                    skip: all.saturating_sub(count),
                }
            }
        };
        self.seek(place.at, place.skip)?;
        Ok(place.found)
    }

    /// Time of the last record, without moving.
    pub(super) fn last_time(&self, path: &Path) -> io::Result<Option<i64>> {
        if let Source::Gz(gz) = &self.source {
            return Ok(gz.last_time());
        }
        let Some(mut other) = LogFile::open(path, self.format)? else {
            return Ok(None);
        };
        if other.inode != self.inode {
            return Ok(None);
        }
        other.seek_tail(1, path)?;
        Ok(other.next()?.map(|found| found.time))
    }
}

fn first_record(file: &File) -> io::Result<Option<i64>> {
    let mut head = [0; record::HEAD];
    match file.read_exact_at(&mut head, 0) {
        Ok(()) => Ok(Header::decode(&head).map(|header| header.time)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn first_line(file: &File) -> io::Result<Option<i64>> {
    let mut line = Vec::new();
    while line.len() < LONGEST_LINE {
        let at = line.len();
        line.resize(at + 4096, 0);
        let read = file.read_at(&mut line[at..], at as u64)?;
        line.truncate(at + read);
        if let Some(end) = memchr::memchr(b'\n', &line[at..]) {
            let parsed = json::decode(&line[..at + end], &mut Vec::new());
            return Ok(parsed.map(|parsed| parsed.time));
        }
        if read == 0 {
            break;
        }
    }
    Ok(None)
}
