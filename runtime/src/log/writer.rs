//! The shim's side: raw chunks in, records out.

use super::file::OpenLog;
use super::record::{Kind, MAX_BLOCK, MAX_LINE, Stream};
use crate::plan::LogTarget;
use std::io;
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
    log: Option<OpenLog>,
    /// The unfinished line of each stream. Grows to what a container needs, never above [`MAX_LINE`].
    pending: [Vec<u8>; 2],
    /// The errno of the last write; 0: it went well.
    errno: i32,
}

/// What a daemon may want to know of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Why it cannot be written; 0: it can.
    pub errno: i32,
    /// How often it was rotated.
    pub rotations: u32,
}

impl LogWriter {
    /// Opens the log for appending, and cuts off what a crash left half written.
    ///
    /// # Errors
    /// When the file can be neither opened nor created.
    pub fn open(target: &LogTarget) -> io::Result<LogWriter> {
        Ok(LogWriter {
            log: OpenLog::open(target)?,
            pending: [Vec::new(), Vec::new()],
            errno: 0,
        })
    }

    /// How the log fares.
    pub fn state(&self) -> LogState {
        LogState {
            errno: self.errno,
            rotations: self.log.as_ref().map_or(0, OpenLog::rotations),
        }
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
        let written = append(log, stream, nanoseconds(time), pending, bytes);
        self.judge(written)
    }

    /// Writes the unfinished line of `stream`, flagged partial: the stream has ended.
    ///
    /// # Errors
    /// As [`write`](LogWriter::write).
    pub fn finish(&mut self, stream: Stream, time: SystemTime) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending[stream as usize - 1]);
        let (Some(log), false) = (&mut self.log, pending.is_empty()) else {
            return Ok(());
        };
        let written = log.append(stream, nanoseconds(time), Kind::Piece, &pending);
        self.judge(written)
    }

    /// Nothing was written for a while: gives back memory that only writing needs.
    pub fn rest(&mut self) {
        if let Some(log) = &mut self.log {
            log.rest();
        }
        self.pending.iter_mut().for_each(Vec::shrink_to_fit);
    }

    fn judge(&mut self, written: io::Result<()>) -> io::Result<()> {
        self.errno = match &written {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(nix::libc::EIO),
        };
        written
    }
}

fn append(log: &mut OpenLog, stream: Stream, time: i64, pending: &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    if !pending.is_empty() {
        // A line of exactly MAX_LINE bytes is a full piece and an empty last one: the pieces do not depend on how the
        // pipe cut the stream.
        let room = MAX_LINE - pending.len();
        let window = &rest[..rest.len().min(room)];
        let (used, kind) = match window.iter().position(|&byte| byte == b'\n') {
            Some(at) => (at + 1, Kind::Lines),
            None if window.len() == room => (room, Kind::Piece),
            None => {
                pending.extend_from_slice(window);
                return Ok(());
            }
        };
        pending.extend_from_slice(&rest[..used]);
        rest = &rest[used..];
        let written = log.append(stream, time, kind, pending);
        pending.clear();
        written?;
    }
    while !rest.is_empty() {
        let lines = whole_lines(rest);
        if lines > 0 {
            log.append(stream, time, Kind::Lines, &rest[..lines])?;
            rest = &rest[lines..];
        } else if rest.len() >= MAX_LINE {
            log.append(stream, time, Kind::Piece, &rest[..MAX_LINE])?;
            rest = &rest[MAX_LINE..];
        } else {
            pending.extend_from_slice(rest);
            break;
        }
    }
    Ok(())
}

/// Length of the whole lines at the front, none longer than a piece, together no longer than a record. Lines are short
/// and windows are long: most bytes are never looked at.
fn whole_lines(bytes: &[u8]) -> usize {
    let bytes = &bytes[..bytes.len().min(MAX_BLOCK)];
    let mut end = 0;
    loop {
        let window = &bytes[end..bytes.len().min(end + MAX_LINE)];
        match window.iter().rposition(|&byte| byte == b'\n') {
            Some(at) => end += at + 1,
            None => return end,
        }
    }
}

pub(super) fn nanoseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n),
    }
}
