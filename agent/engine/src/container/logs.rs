//! Reading logs: the entries of a container's log, formatted by the adapter, in batches, followed while it runs.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use runtime::log::{Entry, LogReader, ReadOptions, Stream};
use runtime::plan::LogTarget;
use tokio::sync::mpsc;

use super::Container;
use super::logging::setup;
use crate::Engine;
use crate::error::{Error, Result};

/// Bytes gathered before a batch is handed on.
const BATCH: usize = 64 * 1024;
/// Batches in flight to a reader; a slow one makes only its own reading wait.
const BATCHES: usize = 4;

/// What is to be read.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    pub stdout: bool,
    pub stderr: bool,
    pub follow: bool,
    pub tail: Option<usize>,
    pub since: Option<SystemTime>,
    pub until: Option<SystemTime>,
}

impl Engine {
    /// Reads a log. `format` appends one entry to the batch that is sent on.
    ///
    /// # Errors
    /// A driver that keeps nothing to read. An error while reading ends the stream with it.
    pub fn logs<F>(
        &self,
        container: &Arc<Container>,
        query: LogQuery,
        format: F,
    ) -> Result<mpsc::Receiver<Result<Bytes>>>
    where
        F: FnMut(&Entry<'_>, &mut Vec<u8>) + Send + 'static,
    {
        let target = {
            let record = &container.lock().record;
            if !setup(&record.host.log)?.readable {
                return Err(Error::NotReadable);
            }
            self.log_target(record)?
        };
        let options = ReadOptions {
            tail: query.tail,
            since: query.since,
            until: query.until,
        };
        let (sender, receiver) = mpsc::channel(BATCHES);
        let (engine, container) = (self.clone(), container.clone());
        tokio::spawn(async move {
            let reading = Reading {
                sender: sender.clone(),
                query,
                format,
                batch: Vec::new(),
            };
            if let Err(source) = reading.run(&engine, &container, &target, options).await {
                let _ = sender
                    .send(Err(Error::Io {
                        doing: "read the log".into(),
                        source,
                    }))
                    .await;
            }
        });
        Ok(receiver)
    }
}

struct Reading<F> {
    sender: mpsc::Sender<Result<Bytes>>,
    query: LogQuery,
    format: F,
    batch: Vec<u8>,
}

impl<F: FnMut(&Entry<'_>, &mut Vec<u8>) + Send + 'static> Reading<F> {
    async fn run(
        mut self,
        engine: &Engine,
        container: &Arc<Container>,
        target: &LogTarget,
        options: ReadOptions,
    ) -> std::io::Result<()> {
        let mut reader = LogReader::open(target, options)?;
        let mut changes = container.changes.subscribe();
        loop {
            // Asked before reading: what was written before the end is then read before it is believed.
            let over = {
                let change = changes.borrow_and_update();
                change.removed || !(change.phase.is_live() || change.phase == super::Phase::Restarting)
            };
            if !self.drain(&mut reader).await? || !self.query.follow || over || reader.ended() {
                return Ok(());
            }
            tokio::select! {
                changed = reader.changed() => changed?,
                _ = changes.changed() => {}
                () = engine.shutdown.cancelled() => return Ok(()),
                () = self.sender.closed() => return Ok(()),
            }
        }
    }

    /// Sends all that is there. `false`: nobody listens any more.
    async fn drain(&mut self, reader: &mut LogReader) -> std::io::Result<bool> {
        loop {
            // The file is almost always in memory; a batch is a few dozen microseconds of work.
            let mut end = true;
            while let Some(entry) = reader.next()? {
                let wanted = match entry.stream {
                    Stream::Stdout => self.query.stdout,
                    Stream::Stderr => self.query.stderr,
                };
                if wanted {
                    (self.format)(&entry, &mut self.batch);
                }
                if self.batch.len() >= BATCH {
                    end = false;
                    break;
                }
            }
            if !self.batch.is_empty() {
                let batch = Bytes::from(std::mem::take(&mut self.batch));
                if self.sender.send(Ok(batch)).await.is_err() {
                    return Ok(false);
                }
            }
            if end {
                return Ok(true);
            }
        }
    }
}
