//! The daemon's side: entries in order, over rotated files, to the end and beyond.

use super::compression::Gz;
use super::record::Stream;
use super::source::{Format, Found, Identity, LogFile};
use super::writer::nanoseconds;
use super::{compressed, rotated};
use crate::plan::LogTarget;
use runtime_sys::inotify::{Inotify, Watch};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::unix::AsyncFd;

/// One piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where it was written to.
    pub stream: Stream,
    /// When the shim read its end.
    pub time: SystemTime,
    /// The line goes on in the next entry of this stream (or ended without a newline).
    pub partial: bool,
    /// The text, without the newline that ended it.
    pub bytes: &'a [u8],
}

/// Which entries are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOptions {
    /// Only the last so many, counted before `since` and `until`, as Docker does.
    pub tail: Option<usize>,
    /// None older than this.
    pub since: Option<SystemTime>,
    /// None younger than this.
    pub until: Option<SystemTime>,
}

/// A place in a `local` log that outlives the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    inode: u64,
    /// Time of the file's first record, nanoseconds since 1970.
    first: i64,
    /// Of a record, in the file as it was before compression.
    offset: u64,
    /// Lines of that record that were read.
    line: u64,
}

/// Reads a log while it is being written.
///
/// [`next`](LogReader::next) gives `None` at the present end; to follow, wait for [`changed`](LogReader::changed) and go on:
///
/// ```no_run
/// # use runtime::log::{LogReader, ReadOptions};
/// # async fn follow(target: &runtime::plan::LogTarget) -> std::io::Result<()> {
/// let mut reader = LogReader::open(target, ReadOptions::default())?;
/// loop {
///     while let Some(entry) = reader.next()? {
///         println!("{:?}", entry.bytes);
///     }
///     reader.changed().await?;
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    format: Format,
    max_files: u32,
    since: Option<i64>,
    until: Option<i64>,
    current: Option<LogFile>,
    /// The current file was seen to be rotated away: it has its last lines, which may still be unread.
    rotated_away: bool,
    /// An entry after `until` was seen.
    done: bool,
    watch: Watching,
}

#[derive(Debug)]
enum Watching {
    Not,
    Inotify(AsyncFd<Inotify>),
    /// The system has no inotify instance left (128 per user by default).
    Polling,
}

/// How often a log is looked at where inotify cannot be had.
const POLL: Duration = Duration::from_millis(100);

impl LogReader {
    /// Opens a log at the place that `options` ask for. A log that does not exist yet is empty.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] for [`LogTarget::None`]; errors of the file system.
    pub fn open(target: &LogTarget, options: ReadOptions) -> io::Result<LogReader> {
        let (path, format, max_files) = match target {
            LogTarget::None => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "configured logging driver does not support reading",
                ));
            }
            LogTarget::Local { path, max_files, .. } => (path, Format::Local, *max_files),
            LogTarget::JsonFile { path, max_files, .. } => (path, Format::Json, *max_files),
        };
        let mut reader = LogReader::before(path, format, max_files, options);
        match options.tail {
            Some(count) => reader.start_at_tail(count as u64)?,
            None => reader.start_at_oldest()?,
        }
        Ok(reader)
    }

    /// Opens a `local` log where an earlier reader's [`position`](LogReader::position) was. When what stood there is gone,
    /// at the oldest line that is left; the second value says so.
    ///
    /// # Errors
    /// As [`open`](LogReader::open).
    pub fn resume(target: &LogTarget, position: Position) -> io::Result<(LogReader, bool)> {
        let LogTarget::Local { path, max_files, .. } = target else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let mut reader = LogReader::before(path, Format::Local, *max_files, ReadOptions::default());
        for index in 0..reader.max_files {
            let path = rotated(&reader.path, index);
            let Some(mut file) = LogFile::open(&path, Format::Local)? else {
                continue;
            };
            let wanted = Identity {
                inode: position.inode,
                first: Some(position.first),
            };
            if file.identity()? != wanted {
                continue;
            }
            file.seek(position.offset, position.line)?;
            reader.current = Some(file);
            return Ok((reader, false));
        }
        reader.start_at_oldest()?;
        Ok((reader, true))
    }

    /// Where the next line is, to be found again by a later reader. None before the first.
    pub fn position(&self) -> Option<Position> {
        let file = self.current.as_ref()?;
        let Identity { inode, first } = file.identity().ok()?;
        let first = first?;
        let (offset, line) = file.place();
        Some(Position {
            inode,
            first,
            offset,
            line,
        })
    }

    /// Bytes of text and records that were written and not read.
    ///
    /// # Errors
    /// Errors of the file system.
    pub fn behind(&self) -> io::Result<u64> {
        let mut behind = 0;
        for index in 0..self.max_files {
            let path = rotated(&self.path, index);
            let length = match std::fs::metadata(&path) {
                Ok(metadata) => metadata.len(),
                Err(_) => match Gz::open(&compressed(&path))? {
                    Some(gz) => gz.length()?,
                    None => continue,
                },
            };
            behind += length;
            if let Some(file) = &self.current
                && LogFile::open(&path, self.format)?
                    .map(|file| file.identity())
                    .transpose()?
                    == Some(file.identity()?)
            {
                return Ok(behind.saturating_sub(file.place().0));
            }
        }
        Ok(behind)
    }

    fn before(path: &Path, format: Format, max_files: u32, options: ReadOptions) -> LogReader {
        LogReader {
            path: path.to_owned(),
            format,
            max_files: max_files.max(1),
            since: options.since.map(nanoseconds),
            until: options.until.map(nanoseconds),
            current: None,
            rotated_away: false,
            done: false,
            watch: Watching::Not,
        }
    }

    fn start_at_tail(&mut self, count: u64) -> io::Result<()> {
        let mut missing = count;
        for index in 0..self.max_files {
            let path = rotated(&self.path, index);
            let Some(mut file) = LogFile::open(&path, self.format)? else {
                continue;
            };
            // The writer rotated meanwhile, and this is the file that was just looked at.
            if let Some(seen) = &self.current
                && seen.identity()? == file.identity()?
            {
                continue;
            }
            missing -= file.seek_tail(missing, &path)?.min(missing);
            self.current = Some(file);
            if missing == 0 {
                break;
            }
        }
        Ok(())
    }

    fn start_at_oldest(&mut self) -> io::Result<()> {
        for index in (0..self.max_files).rev() {
            let path = rotated(&self.path, index);
            let Some(file) = LogFile::open(&path, self.format)? else {
                continue;
            };
            if let (Some(since), true) = (self.since, index > 0)
                && file.last_time(&path)?.is_some_and(|last| last < since)
            {
                continue;
            }
            self.current = Some(file);
            break;
        }
        Ok(())
    }

    /// The next entry, or `None` at the present end (for good, once an entry after `until` was seen).
    ///
    /// # Errors
    /// When the files cannot be read.
    #[allow(clippy::should_implement_trait)] // an entry borrows from its reader
    pub fn next(&mut self) -> io::Result<Option<Entry<'_>>> {
        let (Some(found), Some(file)) = (self.find()?, &self.current) else {
            return Ok(None);
        };
        Ok(Some(Entry {
            stream: found.stream,
            time: moment(found.time),
            partial: found.partial,
            bytes: file.text(&found.text),
        }))
    }

    /// Whether an entry after `until` was seen: there is nothing more to wait for.
    pub fn ended(&self) -> bool {
        self.done
    }

    fn find(&mut self) -> io::Result<Option<Found>> {
        while !self.done {
            let Some(file) = &mut self.current else {
                self.start_at_oldest()?;
                if self.current.is_none() {
                    return Ok(None);
                }
                continue;
            };
            file.since = self.since;
            match file.next()? {
                Some(found) if self.until.is_some_and(|until| found.time > until) => {
                    self.done = true;
                }
                Some(found) if self.since.is_some_and(|since| found.time < since) => {}
                Some(found) => return Ok(Some(found)),
                None if self.rotated_away => {
                    let Some(next) = self.newer_file()? else {
                        return Ok(None);
                    };
                    self.current = Some(next);
                    self.rotated_away = false;
                }
                None => {
                    // Only once the name belongs to another file is the old one complete; lines may have come
                    // between our last read and the rename, so it is read to its end once more.
                    match file.is_current(&self.path)? {
                        Some(false) => self.rotated_away = true,
                        // The writer is between the rename and the next file; for long, if it was killed there or the
                        // disk is full.
                        None if self.has_older_name()? => self.rotated_away = true,
                        Some(true) | None => return Ok(None),
                    }
                }
            }
        }
        Ok(None)
    }

    /// Whether the current file stands under a name of rotated ones.
    fn has_older_name(&self) -> io::Result<bool> {
        let Some(ours) = self.current.as_ref().map(LogFile::identity).transpose()? else {
            return Ok(false);
        };
        for index in 1..self.max_files {
            if let Some(file) = LogFile::open(&rotated(&self.path, index), self.format)?
                && file.identity()? == ours
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Opens the file that was begun after the current one.
    fn newer_file(&self) -> io::Result<Option<LogFile>> {
        let Some(ours) = &self.current else {
            return Ok(None);
        };
        let ours = ours.identity()?;
        let open = |index| LogFile::open(&rotated(&self.path, index), self.format);
        let is_ours = |index| -> io::Result<bool> {
            match open(index)? {
                Some(file) => Ok(file.identity()? == ours),
                None => Ok(false),
            }
        };
        // Names move while we look: an answer counts only if our file still has the same name afterwards.
        for _ in 0..16 {
            let mut place = None;
            for index in 1..self.max_files {
                if is_ours(index)? {
                    place = Some(index);
                    break;
                }
            }
            let Some(index) = place else {
                // Ours is gone (or about to get its new name): the oldest that is left comes next.
                for index in (0..self.max_files).rev() {
                    if let Some(file) = open(index)?
                        && file.identity()? != ours
                    {
                        return Ok(Some(file));
                    }
                }
                return Ok(None);
            };
            let next = open(index - 1)?;
            if is_ours(index)? {
                return match next {
                    Some(next) if next.identity()? != ours => Ok(Some(next)),
                    _ => Ok(None),
                };
            }
        }
        Ok(None)
    }

    /// Waits until there may be more to read. The first call returns at once, after it has begun to watch. Cancel safe.
    ///
    /// # Errors
    /// When the folder of the log cannot be watched, for instance because it is gone.
    pub async fn changed(&mut self) -> io::Result<()> {
        match &self.watch {
            Watching::Not => {
                self.watch = self.begin_watch()?;
                Ok(())
            }
            Watching::Inotify(inotify) => loop {
                let mut ready = inotify.readable().await?;
                let gone = ready.try_io(|inotify| inotify.get_ref().drain());
                match gone {
                    Ok(Ok(Watch::Changed)) => return Ok(()),
                    Ok(Ok(Watch::Gone)) => return Err(io::ErrorKind::NotFound.into()),
                    Ok(Err(error)) => return Err(error),
                    Err(_would_block) => {}
                }
            },
            Watching::Polling => {
                tokio::time::sleep(POLL).await;
                Ok(())
            }
        }
    }

    fn begin_watch(&self) -> io::Result<Watching> {
        let Ok(inotify) = Inotify::new() else {
            return Ok(Watching::Polling);
        };
        // The folder, not the file: a rotation puts another file under the name.
        let folder = self.path.parent().unwrap_or(&self.path);
        match inotify.watch_folder(folder) {
            // The successor of `new` is unsafe, for types whose descriptor can change; `Inotify` owns the one it has.
            #[allow(deprecated)]
            Ok(()) => Ok(Watching::Inotify(AsyncFd::new(inotify)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
            Err(_) => Ok(Watching::Polling),
        }
    }
}

fn moment(nanoseconds: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanoseconds.unsigned_abs());
    if nanoseconds < 0 {
        UNIX_EPOCH - distance
    } else {
        UNIX_EPOCH + distance
    }
}
