//! The shim's side: raw chunks in, records out.

use super::record::{self, HEAD, Header, MAX_LINE, Parsed, Stream, TAIL};
use super::{json, rotated};
use crate::plan::LogTarget;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Splits what a container writes into lines and appends them to its log.
///
/// An unfinished line waits for its end, at most [`MAX_LINE`] bytes per stream, and is written by [`finish`].
/// An error (a full disk, most often) loses the lines of that call and no more: the file is cut back to its last
/// whole record, and the next call tries again. The container never waits for its log.
///
/// [`finish`]: LogWriter::finish
#[derive(Debug)]
pub struct LogWriter {
    log: Option<Log>,
    /// The unfinished line of each stream. Grows to what a container needs, never above [`MAX_LINE`].
    pending: [Vec<u8>; 2],
}

impl LogWriter {
    /// Opens the log for appending, and cuts off what a crash left half written.
    ///
    /// # Errors
    /// When the file can be neither opened nor created.
    pub fn open(target: &LogTarget) -> io::Result<LogWriter> {
        let log = match target {
            LogTarget::None => None,
            LogTarget::Local {
                path,
                max_size,
                max_files,
            } => Some(Log::open(Format::Local, path, *max_size, *max_files)?),
            LogTarget::JsonFile {
                path,
                max_size,
                max_files,
            } => Some(Log::open(Format::Json(Vec::new()), path, *max_size, *max_files)?),
        };
        Ok(LogWriter {
            log,
            pending: [Vec::new(), Vec::new()],
        })
    }

    /// Logs the next `bytes` of `stream`, read at `time`.
    ///
    /// # Errors
    /// When the log cannot be written; nothing of the container depends on it.
    pub fn write(&mut self, stream: Stream, time: SystemTime, bytes: &[u8]) -> io::Result<()> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        let pending = &mut self.pending[stream as usize - 1];
        let mut batch = Batch::new(log, stream, nanoseconds(time));
        let mut rest = bytes;
        while !rest.is_empty() {
            // A line of exactly MAX_LINE bytes is a full piece and an empty last one: the pieces do not depend
            // on how the pipe cut the stream.
            let room = MAX_LINE - pending.len();
            let window = &rest[..rest.len().min(room)];
            let (piece, used, partial) = match window.iter().position(|&byte| byte == b'\n') {
                Some(at) => (&window[..at], at + 1, false),
                None if window.len() == room => (window, room, true),
                None => {
                    pending.extend_from_slice(window);
                    break;
                }
            };
            rest = &rest[used..];
            if pending.is_empty() {
                batch.push(piece, partial)?;
            } else {
                pending.extend_from_slice(piece);
                let written = batch.push_alone(pending, partial);
                pending.clear();
                written?;
            }
        }
        batch.flush()
    }

    /// Writes the unfinished line of `stream`, flagged partial: the stream has ended.
    ///
    /// # Errors
    /// As [`write`](LogWriter::write).
    pub fn finish(&mut self, stream: Stream, time: SystemTime) -> io::Result<()> {
        let pending = &mut self.pending[stream as usize - 1];
        let (Some(log), false) = (&mut self.log, pending.is_empty()) else {
            return Ok(());
        };
        let written = Batch::new(log, stream, nanoseconds(time)).push_alone(pending, true);
        *pending = Vec::new();
        written
    }
}

fn nanoseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n),
    }
}

#[derive(Debug)]
enum Format {
    Local,
    /// With the buffer in which lines are encoded.
    Json(Vec<u8>),
}

/// Encoded JSON is handed to the kernel in pieces of about this size.
const JSON_BUFFER: usize = 8 * 1024;

#[derive(Debug)]
struct Log {
    format: Format,
    file: File,
    path: PathBuf,
    /// End of the last whole record.
    size: u64,
    /// 0: no bound.
    max_size: u64,
    max_files: u32,
}

impl Log {
    fn open(format: Format, path: &Path, max_size: u64, max_files: u32) -> io::Result<Log> {
        let file = open_file(path)?;
        let length = file.metadata()?.len();
        let size = match format {
            Format::Local => whole_records(&file, length)?,
            Format::Json(_) => whole_lines(&file, length)?,
        };
        if size != length {
            file.set_len(size)?;
        }
        Ok(Log {
            format,
            file,
            path: path.to_owned(),
            size,
            max_size,
            max_files,
        })
    }

    /// Begins a new file when `more` bytes would not fit.
    fn rotate_for(&mut self, more: u64) -> io::Result<()> {
        if self.max_size == 0 || self.size == 0 || self.size + more <= self.max_size {
            return Ok(());
        }
        // Readers recognise files by inode, so the old one is renamed or unlinked, never truncated.
        let missing_is_fine = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        for index in (1..self.max_files).rev() {
            let (from, to) = (rotated(&self.path, index - 1), rotated(&self.path, index));
            missing_is_fine(fs::rename(from, to))?;
        }
        if self.max_files <= 1 {
            missing_is_fine(fs::remove_file(&self.path))?;
        }
        self.file = open_file(&self.path)?;
        self.size = 0;
        Ok(())
    }

    /// Takes back what was written of a record that did not become whole.
    fn undo(&mut self, error: io::Error) -> io::Error {
        // If even this fails, the reader cuts the torn record off.
        let _ = self.file.set_len(self.size);
        error
    }

    fn write_json(&mut self, stream: Stream, time: i64, partial: bool, line: &[u8]) -> io::Result<()> {
        let Format::Json(buffer) = &mut self.format else {
            return Ok(());
        };
        let mut sink = JsonSink {
            file: &mut self.file,
            buffer,
            written: 0,
        };
        let result = json::encode(&mut sink, stream, time, partial, line).and_then(|()| sink.flush());
        let written = sink.written;
        buffer.clear();
        match result {
            Ok(()) => {
                self.size += written;
                Ok(())
            }
            Err(error) => Err(self.undo(error)),
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

/// The encoder makes many small writes; this joins them without holding a whole escaped line.
struct JsonSink<'a> {
    file: &'a mut File,
    buffer: &'a mut Vec<u8>,
    written: u64,
}

impl Write for JsonSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= JSON_BUFFER {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Records of one call that go to the kernel together.
const BATCH: usize = 32;

/// Borrowed lines with their headers, written by one `writev`.
struct Batch<'log, 'line> {
    log: &'log mut Log,
    stream: Stream,
    time: i64,
    heads: [[u8; HEAD]; BATCH],
    lines: [&'line [u8]; BATCH],
    tails: [[u8; TAIL]; BATCH],
    count: usize,
    bytes: u64,
}

impl<'log, 'line> Batch<'log, 'line> {
    fn new(log: &'log mut Log, stream: Stream, time: i64) -> Self {
        Batch {
            log,
            stream,
            time,
            heads: [[0; HEAD]; BATCH],
            lines: [&[]; BATCH],
            tails: [[0; TAIL]; BATCH],
            count: 0,
            bytes: 0,
        }
    }

    fn header(&self, line: &[u8], partial: bool) -> Header {
        Header {
            length: line.len(),
            stream: self.stream,
            partial,
            time: self.time,
        }
    }

    fn push(&mut self, line: &'line [u8], partial: bool) -> io::Result<()> {
        if matches!(self.log.format, Format::Json(_)) {
            // The escaped length is not known beforehand: like Docker, a file ends after the line that fills it.
            self.log.rotate_for(1)?;
            return self.log.write_json(self.stream, self.time, partial, line);
        }
        let header = self.header(line, partial);
        let length = header.record_length() as u64;
        let full = self.log.max_size != 0 && self.log.size + self.bytes + length > self.log.max_size;
        if self.count == BATCH || full {
            self.flush()?;
            self.log.rotate_for(length)?;
        }
        self.heads[self.count] = header.encode();
        self.lines[self.count] = line;
        self.tails[self.count] = (line.len() as u32).to_le_bytes();
        self.count += 1;
        self.bytes += length;
        Ok(())
    }

    /// Like `push`, for a line that does not live as long as the batch: written at once.
    fn push_alone(&mut self, line: &[u8], partial: bool) -> io::Result<()> {
        self.flush()?;
        let mut alone = Batch::new(self.log, self.stream, self.time);
        alone.push(line, partial)?;
        alone.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); BATCH * 3];
        for index in 0..self.count {
            slices[index * 3] = IoSlice::new(&self.heads[index]);
            slices[index * 3 + 1] = IoSlice::new(self.lines[index]);
            slices[index * 3 + 2] = IoSlice::new(&self.tails[index]);
        }
        let mut rest = &mut slices[..self.count * 3];
        while !rest.is_empty() {
            match self.log.file.write_vectored(rest) {
                Ok(0) => return Err(self.log.undo(io::ErrorKind::WriteZero.into())),
                Ok(count) => IoSlice::advance_slices(&mut rest, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.count = 0;
                    self.bytes = 0;
                    return Err(self.log.undo(error));
                }
            }
        }
        self.log.size += self.bytes;
        self.count = 0;
        self.bytes = 0;
        Ok(())
    }
}

/// Where the last whole record of a `local` file ends. Looks at the end first: after a clean stop nothing else is read.
pub(super) fn whole_records(file: &File, length: u64) -> io::Result<u64> {
    if length == 0 || ends_with_record(file, length)? {
        return Ok(length);
    }
    // Torn: walk from the start, record by record.
    let mut reader = io::BufReader::with_capacity(256 * 1024, file);
    reader.seek(SeekFrom::Start(0))?;
    let mut good = 0;
    let mut record = vec![0; HEAD + MAX_LINE + TAIL];
    loop {
        if reader.read_exact(&mut record[..HEAD]).is_err() {
            return Ok(good);
        }
        let Some(header) = Header::decode(&record) else {
            return Ok(good);
        };
        let whole = header.record_length();
        if good + whole as u64 > length
            || reader.read_exact(&mut record[HEAD..whole]).is_err()
            || !matches!(record::parse(&record[..whole]), Parsed::Record(..))
        {
            return Ok(good);
        }
        good += whole as u64;
    }
}

fn ends_with_record(file: &File, length: u64) -> io::Result<bool> {
    let shortest = (HEAD + TAIL) as u64;
    if length < shortest {
        return Ok(false);
    }
    let mut tail = [0; TAIL];
    file.read_exact_at(&mut tail, length - TAIL as u64)?;
    let line = u64::from(u32::from_le_bytes(tail));
    if line > MAX_LINE as u64 || line + shortest > length {
        return Ok(false);
    }
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, length - shortest - line)?;
    Ok(Header::decode(&head).is_some_and(|header| header.length as u64 == line))
}

/// Where the last whole line of a `json-file` ends.
pub(super) fn whole_lines(file: &File, length: u64) -> io::Result<u64> {
    let mut end = length;
    let mut block = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let block = &mut block[..(end - start) as usize];
        file.read_exact_at(block, start)?;
        if let Some(at) = block.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
