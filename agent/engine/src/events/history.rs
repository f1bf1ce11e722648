//! The journal on disk: lines of JSON in a few files of bounded size, so that `since` reaches back further than what
//! is in memory, and over restarts.
//!
//! A file is named after its first event's sequence. Nothing is synced: after a power loss the newest events may be
//! gone, a torn last line is cut off, and everything before it is read.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Event, EventKind};

/// Bytes after which a new file is begun.
const FILE_BYTES: u64 = 4 << 20;
/// Files kept; with events of 400 bytes these are some 40,000 events.
const FILES: usize = 4;
/// Events read from disk at a time.
const BATCH: usize = 256;
/// Where the last event is looked for before the whole file is read.
const END_BYTES: u64 = 64 << 10;
/// No event is longer; a longer line is damage.
const LINE_BYTES: u64 = 1 << 20;

/// An event as a line. Short names, for they are in each of them.
#[derive(Serialize, Deserialize)]
struct Line {
    n: u64,
    /// Nanoseconds since 1970.
    t: u64,
    k: EventKind,
    a: String,
    id: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    at: BTreeMap<String, String>,
}

impl From<&Event> for Line {
    fn from(event: &Event) -> Line {
        let since_1970 = event.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Line {
            n: event.sequence,
            t: u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX),
            k: event.kind,
            a: event.action.clone(),
            id: event.actor.clone(),
            at: event.attributes.clone(),
        }
    }
}

impl From<Line> for Event {
    fn from(line: Line) -> Event {
        Event {
            sequence: line.n,
            time: SystemTime::UNIX_EPOCH + Duration::from_nanos(line.t),
            kind: line.k,
            action: line.a,
            actor: line.id,
            attributes: line.at,
        }
    }
}

/// The files, oldest first, as (sequence of the first event, path).
fn files(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let first = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".jsonl")?.parse().ok());
        if let Some(first) = first {
            files.push((first, path));
        }
    }
    files.sort();
    Ok(files)
}

/// The next line, without its end; `None` at the end of what is whole.
fn line(reader: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<Option<Event>> {
    loop {
        buffer.clear();
        reader.by_ref().take(LINE_BYTES).read_until(b'\n', buffer)?;
        if buffer.pop() != Some(b'\n') {
            return Ok(None);
        }
        // What cannot be read is damage of one event, and no reason to lose those after it.
        if let Ok(line) = serde_json::from_slice::<Line>(buffer) {
            return Ok(Some(line.into()));
        }
    }
}

/// Where events are appended.
pub(super) struct Writer {
    folder: PathBuf,
    /// The newest file and its length; none before the first event.
    newest: Option<(File, u64)>,
    /// Sequence of the last event on disk, 0 without one.
    pub last: u64,
}

impl Writer {
    /// Opens the folder, makes it if it is not there, and cuts off a last line that is not whole.
    pub fn open(folder: &Path) -> io::Result<Writer> {
        fs::create_dir_all(folder)?;
        let mut writer = Writer {
            folder: folder.to_owned(),
            newest: None,
            last: 0,
        };
        let Some((first, path)) = files(folder)?.pop() else {
            return Ok(writer);
        };
        let file = OpenOptions::new().read(true).append(true).open(&path)?;
        let whole = whole_length(&file)?;
        file.set_len(whole)?;
        // Even without a whole line in it, the file says how far the count had come.
        writer.last = match last_sequence(&file, whole.saturating_sub(END_BYTES))? {
            0 => last_sequence(&file, 0)?.max(first.saturating_sub(1)),
            last => last,
        };
        writer.newest = Some((file, whole));
        Ok(writer)
    }

    /// Appends events in their order. After an error nothing of them counts as written; they may be given again.
    pub fn append<'a>(&mut self, events: impl IntoIterator<Item = &'a Event>) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut last = self.last;
        let mut first = None;
        for event in events {
            first.get_or_insert(event.sequence);
            last = event.sequence;
            serde_json::to_writer(&mut bytes, &Line::from(event))?;
            bytes.push(b'\n');
        }
        let Some(first) = first else { return Ok(()) };
        let (file, length) = self.file_for(first)?;
        if let Err(error) = file.write_all(&bytes) {
            // A part of a line must not be the beginning of the next one.
            file.set_len(*length)?;
            return Err(error);
        }
        *length += bytes.len() as u64;
        self.last = last;
        Ok(())
    }

    fn file_for(&mut self, first: u64) -> io::Result<&mut (File, u64)> {
        if self.newest.as_ref().is_none_or(|(_, length)| *length >= FILE_BYTES) {
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(self.folder.join(format!("{first:020}.jsonl")))?;
            let length = file.metadata()?.len();
            self.newest = Some((file, length));
            let files = files(&self.folder)?;
            for (_, path) in &files[..files.len().saturating_sub(FILES)] {
                fs::remove_file(path)?;
            }
        }
        self.newest.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// The greatest sequence in the lines after `from`; 0 where there is none.
fn last_sequence(mut file: &File, from: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::new(file);
    // From the middle of a line the rest of it is no event, and skipped as damage.
    let (mut last, mut buffer) = (0, Vec::new());
    while let Some(event) = line(&mut reader, &mut buffer)? {
        last = last.max(event.sequence);
    }
    Ok(last)
}

/// Length up to and with the last newline.
fn whole_length(mut file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut block = vec![0; 4096];
    while end > 0 {
        let begin = end.saturating_sub(block.len() as u64);
        let part = &mut block[..usize::try_from(end - begin).unwrap_or_default()];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(part)?;
        if let Some(newline) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(begin + newline as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

/// Reads from a sequence on, file after file. Files that are removed in the meantime were the oldest and are left out.
pub(super) struct Cursor {
    folder: PathBuf,
    since: Option<SystemTime>,
    live: u64,
    open: Option<(u64, BufReader<File>)>,
    /// Read from the file when it was beyond what was asked for.
    ahead: Option<Event>,
}

impl Cursor {
    /// Leaves out what was before `since`, except from the sequence `live` on.
    pub fn new(folder: &Path, since: Option<SystemTime>, live: u64) -> Cursor {
        Cursor {
            folder: folder.to_owned(),
            since,
            live,
            open: None,
            ahead: None,
        }
    }

    /// Some events from `next` on, up to `last`. Empty when there are none.
    pub fn read(&mut self, mut next: u64, last: u64) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        let mut buffer = Vec::new();
        while events.len() < BATCH && next <= last {
            let event = match self.ahead.take() {
                Some(event) => Some(event),
                None => {
                    if self.open.is_none() && !self.open_at(next)? {
                        break;
                    }
                    let Some((_, reader)) = &mut self.open else { break };
                    line(reader, &mut buffer)?
                }
            };
            match event {
                Some(event) if event.sequence > last => {
                    self.ahead = Some(event);
                    break;
                }
                Some(event) => {
                    let late = event.sequence >= self.live || self.since.is_none_or(|since| event.time >= since);
                    let wanted = event.sequence >= next && late;
                    next = next.max(event.sequence + 1);
                    if wanted {
                        events.push(event);
                    }
                }
                None if !self.step()? => break,
                None => {}
            }
        }
        Ok(events)
    }

    /// Opens the file that has `next`, or the oldest there is.
    fn open_at(&mut self, next: u64) -> io::Result<bool> {
        let files = files(&self.folder)?;
        let place = files.partition_point(|(first, _)| *first <= next).saturating_sub(1);
        self.open_file(files.get(place))
    }

    /// Goes on to the file after the open one.
    fn step(&mut self) -> io::Result<bool> {
        let Some((open, _)) = self.open.take() else {
            return Ok(false);
        };
        let files = files(&self.folder)?;
        self.open_file(files.iter().find(|(first, _)| *first > open))
    }

    fn open_file(&mut self, file: Option<&(u64, PathBuf)>) -> io::Result<bool> {
        let Some((first, path)) = file else {
            return Ok(false);
        };
        match File::open(path) {
            Ok(file) => self.open = Some((*first, BufReader::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event(sequence: u64) -> Event {
        Event {
            sequence,
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(sequence),
            kind: EventKind::Container,
            action: format!("exec_create: {}", "x".repeat(1000)),
            actor: "line\nend".into(),
            attributes: BTreeMap::from([("a".into(), "\u{1}".into())]),
        }
    }

    fn sequences(folder: &Path, next: u64, since: Option<SystemTime>, last: u64) -> Vec<u64> {
        let mut cursor = Cursor::new(folder, since, u64::MAX);
        let mut read = Vec::new();
        loop {
            let from = read.last().map_or(next, |last| last + 1);
            let batch = cursor.read(from, last).unwrap();
            if batch.is_empty() {
                return read;
            }
            read.extend(batch.iter().map(|event| event.sequence));
        }
    }

    #[test]
    fn what_was_written_is_read_again_and_files_stay_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(folder.path()).unwrap();
        let all: Vec<_> = (1..=40_000).map(event).collect();
        for events in all.chunks(100) {
            writer.append(events).unwrap();
        }
        let kept = files(folder.path()).unwrap();
        assert_eq!(kept.len(), FILES);
        let bytes: u64 = kept.iter().map(|(_, path)| path.metadata().unwrap().len()).sum();
        assert!(bytes < (FILES as u64) * FILE_BYTES + (1 << 20), "{bytes}");
        let read = sequences(folder.path(), 1, None, u64::MAX);
        assert_eq!(read, (kept[0].0..=40_000).collect::<Vec<_>>());
        let since = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(39_990));
        assert_eq!(
            sequences(folder.path(), 1, since, 39_995),
            (39_990..=39_995).collect::<Vec<_>>()
        );
        assert_eq!(sequences(folder.path(), 39_999, None, u64::MAX), [39_999, 40_000]);
        // What one call reads too far is the next one's.
        let mut cursor = Cursor::new(folder.path(), None, u64::MAX);
        assert!(cursor.read(kept[0].0 - 1, kept[0].0 - 1).unwrap().is_empty());
        let next = cursor.read(kept[0].0, kept[0].0 + 2).unwrap();
        assert_eq!(
            next.iter().map(|event| event.sequence).collect::<Vec<_>>(),
            [kept[0].0, kept[0].0 + 1, kept[0].0 + 2]
        );
        let first = Cursor::new(folder.path(), None, 1)
            .read(40_000, u64::MAX)
            .unwrap()
            .remove(0);
        assert_eq!((first.action, first.actor, first.attributes), {
            let event = event(40_000);
            (event.action, event.actor, event.attributes)
        });
        assert_eq!(Writer::open(folder.path()).unwrap().last, 40_000);
    }

    proptest::proptest! {
        /// Wherever a file is cut off, the whole lines are read and new ones come after them.
        #[test]
        fn a_torn_end_costs_what_was_torn(cut in 0usize..4000) {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = Writer::open(folder.path()).unwrap();
            writer.append(&[event(1), event(2), event(3)]).unwrap();
            drop(writer);
            let (_, path) = files(folder.path()).unwrap().remove(0);
            let whole = fs::read(&path).unwrap();
            let cut = cut.min(whole.len());
            fs::write(&path, &whole[..cut]).unwrap();
            let lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count() as u64;
            let mut writer = Writer::open(folder.path()).unwrap();
            proptest::prop_assert_eq!(writer.last, lines);
            writer.append(&[event(lines + 1)]).unwrap();
            proptest::prop_assert_eq!(
                sequences(folder.path(), 1, None, u64::MAX),
                (1..=lines + 1).collect::<Vec<_>>()
            );
        }
    }
}
