//! The journal of what happened: one bounded, ordered list with a cursor; every stream of events reads from it.
//!
//! A reader that falls behind the ring is cut off and told so; nobody ever waits for a reader.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

/// Events kept for `since`; Docker keeps 256.
const RING: usize = 4096;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
}

#[derive(Default)]
struct Ring {
    events: VecDeque<Arc<Event>>,
    last: u64,
    /// How many there were of each kind and action.
    counts: BTreeMap<(EventKind, String), u64>,
}

impl Default for Journal {
    fn default() -> Self {
        Journal {
            inner: Arc::new(Inner {
                ring: Mutex::default(),
                newest: watch::Sender::new(0),
            }),
        }
    }
}

impl Journal {
    /// Appends one event; never blocks on readers.
    pub fn record(
        &self,
        kind: EventKind,
        action: impl Into<String>,
        actor: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let mut ring = self.inner.ring.lock().unwrap_or_else(PoisonError::into_inner);
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
        drop(ring);
        self.inner.newest.send_replace(last);
    }

    /// How many events there were since the daemon began, by kind and action.
    pub fn counts(&self) -> Vec<((EventKind, String), u64)> {
        let ring = self.inner.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.counts.iter().map(|(key, count)| (key.clone(), *count)).collect()
    }

    /// How many readers there are.
    pub fn listeners(&self) -> usize {
        self.inner.newest.receiver_count()
    }

    /// A reader that first yields what is kept from `since` on, then what comes; without `since` only what comes.
    pub fn subscribe(&self, since: Option<SystemTime>) -> Reader {
        let ring = self.inner.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let next = match since {
            None => ring.last + 1,
            Some(since) => ring
                .events
                .iter()
                .find(|e| e.time >= since)
                .map_or(ring.last + 1, |e| e.sequence),
        };
        Reader {
            journal: self.clone(),
            next,
            newest: self.inner.newest.subscribe(),
        }
    }
}

/// Reads a journal at its own pace.
pub struct Reader {
    journal: Journal,
    next: u64,
    newest: watch::Receiver<u64>,
}

/// The reader was slower than the ring is long; it must begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reader fell behind: {missed} events were lost")]
pub struct FellBehind {
    pub missed: u64,
}

impl Reader {
    /// The next event that is there already.
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>, FellBehind> {
        let ring = self.journal.inner.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = ring.events.front().map(|e| e.sequence) else {
            return Ok(None);
        };
        if self.next < first {
            return Err(FellBehind {
                missed: first - self.next,
            });
        }
        let event = ring.events.get((self.next - first) as usize).cloned();
        self.next += u64::from(event.is_some());
        Ok(event)
    }

    /// Waits for the next event. Cancel-safe.
    pub async fn next(&mut self) -> Result<Arc<Event>, FellBehind> {
        loop {
            self.newest.borrow_and_update();
            if let Some(event) = self.try_next()? {
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

    #[tokio::test]
    async fn a_reader_sees_each_event_once_and_in_order() {
        let journal = Journal::default();
        let mut reader = journal.subscribe(None);
        say(&journal, 3);
        for expected in ["n0", "n1", "n2"] {
            assert_eq!(reader.next().await.unwrap().action, expected);
        }
        assert!(reader.try_next().unwrap().is_none());
    }

    #[test]
    fn since_replays_what_is_kept_and_a_slow_reader_is_cut_off() {
        let journal = Journal::default();
        let mut slow = journal.subscribe(None);
        say(&journal, RING + 5);
        assert_eq!(slow.try_next().unwrap_err().missed, 5);
        let mut replay = journal.subscribe(Some(SystemTime::UNIX_EPOCH));
        let mut seen = 0;
        while replay.try_next().unwrap().is_some() {
            seen += 1;
        }
        assert_eq!(seen, RING);
    }
}
