//! The journal of what happened: one ordered list with a cursor; every stream of events reads from it.
//!
//! The newest events are in memory, in a ring; a task appends them to files a moment later (`history`), and readers
//! that want what the ring has no more read it there. Nobody ever waits for a reader. One that falls behind even the
//! files is cut off and told so.

mod history;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Events in memory.
const RING: usize = 1024;
/// How long an event may wait for others before all are written; one write a moment, however many there are.
const WRITE_DELAY: Duration = Duration::from_millis(50);

/// One fact about one object.
#[derive(Clone, Debug)]
pub struct Event {
    /// Position in the journal, from 1.
    pub sequence: u64,
    pub time: SystemTime,
    pub kind: EventKind,
    /// `create`, `start`, `die`, `exec_create: /bin/sh` …
    pub action: String,
    /// Id of the object (image events: the image's name or id).
    pub actor: String,
    pub attributes: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    Container,
    Image,
    Volume,
    Network,
    Daemon,
}

impl EventKind {
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Container => "container",
            EventKind::Image => "image",
            EventKind::Volume => "volume",
            EventKind::Network => "network",
            EventKind::Daemon => "daemon",
        }
    }
}

#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
    /// Something was recorded since `rested` looked.
    stirred: Notify,
    disk: Option<Disk>,
}

struct Disk {
    folder: PathBuf,
    writer: Mutex<history::Writer>,
    /// So much waits that the writer must not.
    urgent: Notify,
}

#[derive(Default)]
struct Ring {
    events: VecDeque<Arc<Event>>,
    last: u64,
    /// Up to here events are in the files.
    written: u64,
    /// How many there were of each kind and action.
    counts: BTreeMap<(EventKind, String), u64>,
}

impl Ring {
    /// Sequence of the oldest event in the ring, or of the one to come.
    fn first(&self) -> u64 {
        self.last + 1 - self.events.len() as u64
    }
}

/// A journal that is forgotten when the process ends.
impl Default for Journal {
    fn default() -> Self {
        Journal::new(None, 0)
    }
}

impl Journal {
    fn new(disk: Option<Disk>, last: u64) -> Journal {
        let ring = Ring {
            last,
            written: last,
            ..Ring::default()
        };
        Journal {
            inner: Arc::new(Inner {
                ring: Mutex::new(ring),
                newest: watch::Sender::new(last),
                stirred: Notify::new(),
                disk,
            }),
        }
    }

    /// The journal whose files are in `folder`, which is made if it is not there; counts on where they end.
    ///
    /// # Errors
    /// When the folder or the newest file cannot be read or written.
    pub fn open(folder: &Path) -> io::Result<Journal> {
        let writer = history::Writer::open(folder)?;
        let last = writer.last;
        let disk = Disk {
            folder: folder.to_owned(),
            writer: Mutex::new(writer),
            urgent: Notify::new(),
        };
        Ok(Journal::new(Some(disk), last))
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.inner.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends one event; never blocks on readers.
    pub fn record(
        &self,
        kind: EventKind,
        action: impl Into<String>,
        actor: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let mut ring = self.ring();
        ring.last += 1;
        let event = Event {
            sequence: ring.last,
            time: SystemTime::now(),
            kind,
            action: action.into(),
            actor: actor.to_owned(),
            attributes,
        };
        // `exec_create: /bin/sh` is an action with a detail; details are as many as users like.
        let (action, _) = event.action.split_once(':').unwrap_or((&event.action, ""));
        let key = (kind, action.to_owned());
        *ring.counts.entry(key).or_default() += 1;
        if ring.events.len() == RING {
            ring.events.pop_front();
        }
        ring.events.push_back(Arc::new(event));
        let last = ring.last;
        let waiting = last - ring.written;
        drop(ring);
        self.inner.newest.send_replace(last);
        self.inner.stirred.notify_one();
        if let Some(disk) = &self.inner.disk
            && waiting > RING as u64 / 2
        {
            disk.urgent.notify_one();
        }
    }

    /// Writes events to the files as they come, until `end`. What is recorded after that takes a `flush`.
    pub(crate) async fn keep(self, end: CancellationToken) {
        let Some(disk) = &self.inner.disk else { return };
        let mut newest = self.inner.newest.subscribe();
        loop {
            tokio::select! {
                changed = newest.changed() => if changed.is_err() { return },
                () = end.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(WRITE_DELAY) => {}
                () = disk.urgent.notified() => {}
                () = end.cancelled() => return,
            }
            newest.borrow_and_update();
            let journal = self.clone();
            if tokio::task::spawn_blocking(move || journal.flush()).await.is_err() {
                return;
            }
        }
    }

    /// Writes what is not in the files yet. Blocks for as long as the disk does.
    pub(crate) fn flush(&self) {
        let Some(disk) = &self.inner.disk else { return };
        let mut writer = disk.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let pending: Vec<_> = {
            let ring = self.ring();
            let skip = (ring.written + 1).saturating_sub(ring.first());
            let events = ring.events.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX));
            events.cloned().collect()
        };
        let Some(last) = pending.last().map(|event| event.sequence) else {
            return;
        };
        // A full disk costs history, nothing else; what is still in the ring is tried again with the next event.
        match writer.append(pending.iter().map(AsRef::as_ref)) {
            Ok(()) => self.ring().written = last,
            Err(error) => warn!(%error, folder = %disk.folder.display(), "events cannot be written"),
        }
    }

    /// Waits until something is recorded, and after that nothing for as long as `rest`. For one caller at a time, who is
    /// no listener.
    pub async fn rested(&self, rest: Duration) {
        self.inner.stirred.notified().await;
        loop {
            let last = self.ring().last;
            tokio::time::sleep(rest).await;
            if self.ring().last == last {
                break;
            }
        }
        // What stirred meanwhile has come to rest as well.
        let _ = tokio::time::timeout(Duration::ZERO, self.inner.stirred.notified()).await;
    }

    /// How many events there were since the daemon began, by kind and action.
    pub fn counts(&self) -> Vec<((EventKind, String), u64)> {
        let ring = self.ring();
        ring.counts.iter().map(|(key, count)| (key.clone(), *count)).collect()
    }

    /// How many readers there are.
    pub fn listeners(&self) -> usize {
        let writer = usize::from(self.inner.disk.is_some());
        self.inner.newest.receiver_count().saturating_sub(writer)
    }

    /// A reader that first yields what is kept from `since` on, then what comes; without `since` only what comes.
    pub fn subscribe(&self, since: Option<SystemTime>) -> Reader {
        let ring = self.ring();
        let live = ring.last + 1;
        let next = match since {
            None => live,
            // What is older than a ring that reaches back to `since` cannot be wanted.
            Some(since) if ring.events.front().is_some_and(|oldest| oldest.time <= since) => ring.first(),
            Some(_) if self.inner.disk.is_some() => 1,
            Some(_) => ring.first(),
        };
        Reader {
            journal: self.clone(),
            next,
            live,
            since,
            batch: VecDeque::new(),
            cursor: None,
            newest: self.inner.newest.subscribe(),
        }
    }
}

/// Reads a journal at its own pace.
pub struct Reader {
    journal: Journal,
    next: u64,
    /// The first event after the subscription: from here on none may be missing, and `since` has no say.
    live: u64,
    since: Option<SystemTime>,
    /// Read from the files, not yet given.
    batch: VecDeque<Event>,
    cursor: Option<history::Cursor>,
    newest: watch::Receiver<u64>,
}

/// The reader was slower than the journal is long; it must begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reader fell behind: {missed} events were lost")]
pub struct FellBehind {
    pub missed: u64,
}

impl Reader {
    /// The next event that is there already. Cancel-safe.
    pub async fn next_kept(&mut self) -> Result<Option<Arc<Event>>, FellBehind> {
        loop {
            if let Some(event) = self.batch.pop_front() {
                self.move_to(event.sequence)?;
                self.next = event.sequence + 1;
                return Ok(Some(Arc::new(event)));
            }
            let first = {
                let ring = self.journal.ring();
                let first = ring.first();
                if self.next >= first {
                    let place = usize::try_from(self.next - first).unwrap_or(usize::MAX);
                    let Some(event) = ring.events.get(place).cloned() else {
                        return Ok(None);
                    };
                    self.next += 1;
                    if event.sequence < self.live && self.since.is_some_and(|since| event.time < since) {
                        continue;
                    }
                    return Ok(Some(event));
                }
                first
            };
            self.batch = self.read_files(first - 1).await.into();
            if self.batch.is_empty() {
                self.move_to(first)?;
            }
        }
    }

    /// Goes on at `sequence`: what lies between may be missing only where it is older than the subscription.
    fn move_to(&mut self, sequence: u64) -> Result<(), FellBehind> {
        let missed = sequence.saturating_sub(self.next.max(self.live));
        self.next = sequence;
        if missed > 0 { Err(FellBehind { missed }) } else { Ok(()) }
    }

    /// Some events up to `last` that the ring has no more; empty when the files have none either.
    async fn read_files(&mut self, last: u64) -> Vec<Event> {
        let Some(disk) = &self.journal.inner.disk else {
            return Vec::new();
        };
        let (next, live, since) = (self.next, self.live, self.since);
        let mut cursor = self
            .cursor
            .take()
            .unwrap_or_else(|| history::Cursor::new(&disk.folder, since, live));
        let read = tokio::task::spawn_blocking(move || {
            let events = cursor.read(next, last);
            (cursor, events)
        });
        match read.await {
            Ok((cursor, Ok(events))) => {
                self.cursor = Some(cursor);
                events
            }
            Ok((_, Err(error))) => {
                warn!(%error, "the files of events cannot be read");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    /// Waits for the next event. Cancel-safe.
    pub async fn next(&mut self) -> Result<Arc<Event>, FellBehind> {
        loop {
            self.newest.borrow_and_update();
            if let Some(event) = self.next_kept().await? {
                return Ok(event);
            }
            // The sender lives in the journal that this reader holds, so this cannot fail.
            let _ = self.newest.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn say(journal: &Journal, count: usize) {
        for index in 0..count {
            journal.record(EventKind::Daemon, format!("n{index}"), "x", BTreeMap::new());
        }
    }

    async fn all(reader: &mut Reader) -> Vec<u64> {
        let mut seen = Vec::new();
        while let Some(event) = reader.next_kept().await.unwrap() {
            seen.push(event.sequence);
        }
        seen
    }

    #[tokio::test]
    async fn a_reader_sees_each_event_once_and_in_order() {
        let journal = Journal::default();
        let mut reader = journal.subscribe(None);
        say(&journal, 3);
        for expected in ["n0", "n1", "n2"] {
            assert_eq!(reader.next().await.unwrap().action, expected);
        }
        assert!(reader.next_kept().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn without_files_a_slow_reader_is_cut_off() {
        let journal = Journal::default();
        let mut slow = journal.subscribe(None);
        say(&journal, RING + 5);
        assert_eq!(slow.next_kept().await.unwrap_err().missed, 5);
        let mut replay = journal.subscribe(Some(SystemTime::UNIX_EPOCH));
        // The ring moves on before the first event is taken: that is old and may be missing.
        say(&journal, 3);
        assert_eq!(all(&mut replay).await.len(), RING);
    }

    #[tokio::test]
    async fn files_have_what_the_ring_has_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        let mut slow = journal.subscribe(None);
        for _ in 0..10 {
            say(&journal, RING / 2);
            journal.flush();
        }
        let everything: Vec<_> = (1..=5 * RING as u64).collect();
        assert_eq!(all(&mut slow).await, everything);
        let mut replay = journal.subscribe(Some(SystemTime::UNIX_EPOCH));
        assert_eq!(all(&mut replay).await, everything);

        // The next life of the daemon counts on, and reads what was before.
        let journal = Journal::open(folder.path()).unwrap();
        let between = SystemTime::now();
        say(&journal, 2);
        let mut replay = journal.subscribe(Some(SystemTime::UNIX_EPOCH));
        assert_eq!(all(&mut replay).await.len(), 5 * RING + 2);
        assert_eq!(all(&mut journal.subscribe(Some(between))).await.len(), 2);
        assert!(all(&mut journal.subscribe(None)).await.is_empty());
    }

    #[tokio::test]
    async fn rest_comes_after_the_last_event_and_once() {
        const REST: Duration = Duration::from_millis(100);
        let journal = Journal::default();
        let soon = |journal: Journal| tokio::time::timeout(3 * REST, async move { journal.rested(REST).await });
        assert!(soon(journal.clone()).await.is_err(), "nothing has happened");
        let stirring = tokio::spawn({
            let journal = journal.clone();
            async move {
                for _ in 0..8 {
                    say(&journal, 1);
                    tokio::time::sleep(REST / 2).await;
                }
            }
        });
        let begun = tokio::time::Instant::now();
        journal.rested(REST).await;
        assert!(begun.elapsed() >= 7 * (REST / 2) + REST / 2);
        stirring.await.unwrap();
        assert!(soon(journal.clone()).await.is_err(), "nothing has happened since");
        assert_eq!(journal.listeners(), 0);
    }

    #[tokio::test]
    async fn the_task_writes_what_is_recorded() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        let end = CancellationToken::new();
        let task = tokio::spawn(journal.clone().keep(end.clone()));
        let written = || std::fs::read_dir(folder.path()).unwrap().count();
        while written() == 0 {
            say(&journal, 1);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        end.cancel();
        task.await.unwrap();
        say(&journal, 1);
        journal.flush();
        let last = *journal.inner.newest.borrow();
        assert_eq!(history::Writer::open(folder.path()).unwrap().last, last);
    }
}
