//! Sends what a container writes to its remote log driver (docs/adr/0013).
//!
//! ```text
//! container ─► shim ─► local files ─► LogReader ─► Link ─► server
//!                                         └──► position, in the container's folder
//! ```
//!
//! The container never waits for a server, and neither does its shim: what is not sent yet is on disk, also while no
//! daemon runs. A batch is taken for sent when the server's socket (or acknowledgement) has it; only then does the
//! position move. So a line is sent at least once, unless the files were rotated away before, or too much of it waited
//! in `mode=non-blocking`; both are said.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, UNIX_EPOCH};

use agent_logs::{Link, Message, Origin, Remote, Setup};
use runtime::log::{LogReader, Position, ReadOptions, Stream};
use runtime::plan::LogTarget;

use super::logging::{origin, setup};
use super::{Container, Phase};
use crate::Engine;

/// How often the position is written while lines come one by one: as many may be sent twice after a crash of the daemon.
const SAVE_EVERY: Duration = Duration::from_millis(200);

impl Engine {
    /// Begins to forward, unless that is going on already.
    pub(crate) fn forward(&self, container: &Arc<Container>) {
        let (setup, target, origin) = {
            let record = &container.lock().record;
            let (Ok(setup), Ok(target)) = (setup(&record.host.log), self.log_target(record)) else {
                return;
            };
            (setup, target, origin(record))
        };
        let Some(remote) = setup.remote.clone() else { return };
        if container.forwarding.swap(true, Ordering::AcqRel) {
            return;
        }
        let (engine, container) = (self.clone(), container.clone());
        let place = self.places(&container.id).data.join("forwarded");
        // In `tasks`, so that the position is kept at an orderly end; all its waits hear of the shutdown.
        self.tasks.spawn(async move {
            let mut forwarding = Forwarding {
                setup,
                remote,
                target,
                origin,
                sent: load(&place),
                place,
                saved: Instant::now(),
                unsaved: false,
                link: None,
            };
            loop {
                if let Err(error) = forwarding.run(&engine, &container).await {
                    tracing::warn!(container = %container.id, %error, "its log is not forwarded any more");
                }
                forwarding.save();
                container.forwarding.store(false, Ordering::Release);
                // It may have been started again in between, by somebody who took us for running.
                let again = container.phase().is_live() && !engine.is_shutting_down();
                if !again || container.forwarding.swap(true, Ordering::AcqRel) {
                    return;
                }
                tokio::time::sleep(SAVE_EVERY).await;
            }
        });
    }
}

struct Forwarding {
    setup: Setup,
    remote: Remote,
    target: LogTarget,
    origin: Origin,
    /// Everything before this was sent.
    sent: Option<Position>,
    place: PathBuf,
    saved: Instant,
    unsaved: bool,
    link: Option<Link>,
}

impl Forwarding {
    /// Until everything of a container that has ended is sent, it is removed, or the daemon ends.
    async fn run(&mut self, engine: &Engine, container: &Arc<Container>) -> io::Result<()> {
        let mut changes = container.changes.subscribe();
        let mut failures = 0;
        let mut reader = self.reader(&container.id.to_string())?;
        loop {
            // Asked before reading: what was written before the end is then read before it is believed.
            let (removed, over) = {
                let change = changes.borrow_and_update();
                (
                    change.removed,
                    !(change.phase.is_live() || change.phase == Phase::Restarting),
                )
            };
            if removed || engine.is_shutting_down() {
                return Ok(());
            }
            if let Some(most) = self.setup.backlog {
                self.shorten(&mut reader, most)?;
            }
            let batch = read_batch(&mut reader, self.remote.batch())?;
            if batch.is_empty() {
                if over {
                    return Ok(());
                }
                tokio::select! {
                    () = tokio::time::sleep(SAVE_EVERY), if self.unsaved => self.save(),
                    changed = reader.changed() => match changed {
                        // Its folder is gone: it was removed, and the news is on its way.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                        other => other?,
                    },
                    _ = changes.changed() => {}
                    () = engine.shutdown.cancelled() => {}
                }
                continue;
            }
            let sent = tokio::select! {
                sent = self.send(&batch) => sent,
                () = engine.shutdown.cancelled() => return Ok(()),
            };
            match sent {
                Ok(()) => {
                    if failures > 0 {
                        tracing::info!(container = %container.id, "its log is forwarded again");
                    }
                    failures = 0;
                    self.sent = reader.position();
                    self.unsaved = true;
                    if self.saved.elapsed() >= SAVE_EVERY {
                        self.save();
                    }
                }
                Err(error) => {
                    self.link = None;
                    failures += 1;
                    if failures == 1 {
                        tracing::warn!(container = %container.id, %error, "its log cannot be forwarded; it waits on disk");
                    }
                    let Some(wait) = self.remote.patience(failures) else {
                        tracing::warn!(container = %container.id, lines = batch.len(), "lines are not forwarded: too many attempts failed");
                        self.sent = reader.position();
                        failures = 0;
                        continue;
                    };
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = engine.shutdown.cancelled() => {}
                        // A removal ends the waiting.
                        _ = changes.wait_for(|change| change.removed) => {}
                    }
                    reader = self.reader(container.id.as_str())?;
                }
            }
        }
    }

    fn reader(&self, id: &str) -> io::Result<LogReader> {
        let Some(sent) = self.sent else {
            return LogReader::open(&self.target, ReadOptions::default());
        };
        let (reader, lost) = LogReader::resume(&self.target, sent)?;
        if lost {
            tracing::warn!(
                container = id,
                "a part of its log was rotated away before it was forwarded"
            );
        }
        Ok(reader)
    }

    /// Passes over the oldest lines when more than `most` bytes wait.
    fn shorten(&mut self, reader: &mut LogReader, most: u64) -> io::Result<()> {
        let mut lines = 0;
        while reader.behind()? > most {
            for _ in 0..64 {
                if reader.next()?.is_some() {
                    lines += 1;
                }
            }
        }
        if lines > 0 {
            self.sent = reader.position();
            tracing::warn!(container = %self.origin.id, lines, "lines are not forwarded: more than max-buffer-size waited");
        }
        Ok(())
    }

    async fn send(&mut self, batch: &[Line]) -> io::Result<()> {
        let link = match &mut self.link {
            Some(link) => link,
            None => {
                let link = self.remote.connect(&self.origin, &self.setup.wanted).await?;
                self.link.insert(link)
            }
        };
        for line in batch {
            link.add(&Message {
                time: line.time,
                stderr: line.stderr,
                partial: line.partial,
                text: &line.text,
            });
        }
        link.flush().await
    }

    fn save(&mut self) {
        self.saved = Instant::now();
        self.unsaved = false;
        if let Some(sent) = &self.sent
            && let Err(error) = store(&self.place, sent)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(container = %self.origin.id, %error, "how far its log was forwarded cannot be kept");
        }
    }
}

struct Line {
    time: i64,
    stderr: bool,
    partial: bool,
    text: Vec<u8>,
}

fn read_batch(reader: &mut LogReader, most: usize) -> io::Result<Vec<Line>> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while bytes < most {
        let Some(entry) = reader.next()? else { break };
        bytes += entry.bytes.len() + 1;
        let time = entry.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        batch.push(Line {
            time: i64::try_from(time.as_nanos()).unwrap_or(i64::MAX),
            stderr: entry.stream == Stream::Stderr,
            partial: entry.partial,
            text: entry.bytes.to_vec(),
        });
    }
    Ok(batch)
}

fn load(place: &Path) -> Option<Position> {
    let text = std::fs::read(place).ok()?;
    // One that cannot be read: everything is sent again.
    serde_json::from_slice(&text).ok()
}

fn store(place: &Path, position: &Position) -> io::Result<()> {
    let temporary = place.with_extension("new");
    std::fs::write(&temporary, serde_json::to_vec(position)?)?;
    std::fs::rename(temporary, place)
}
