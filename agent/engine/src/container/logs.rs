//! Reading logs: the entries of a container's log, formatted by the adapter, in batches, followed while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use runtime::log::{Entry, LogReader, ReadOptions, Stream};
use runtime::plan::LogTarget;
use tokio::sync::mpsc;

use super::{Container, Record};
use crate::Engine;
use crate::error::{Error, Result};

const LOCAL_MAX_SIZE: u64 = 20_000_000; // Docker's numbers for its `local` driver
const LOCAL_MAX_FILES: u32 = 5;
/// `json-file` is bounded too, unlike Docker's: an unbounded log has filled many a disk.
const JSON_MAX_SIZE: u64 = 100_000_000;
const JSON_MAX_FILES: u32 = 3;
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

/// A size with a binary unit (`10m`, `1g`, `512k`, `100`).
fn size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (number, unit) = match lower.as_bytes().last()? {
        b'k' => (&lower[..lower.len() - 1], 1_000),
        b'm' => (&lower[..lower.len() - 1], 1_000_000),
        b'g' => (&lower[..lower.len() - 1], 1_000_000_000),
        _ => (lower, 1),
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// `max-size` and `max-file` of a log's options.
pub(crate) fn target_options(options: &BTreeMap<String, String>) -> Result<(Option<u64>, Option<u32>)> {
    let max_size = match options.get("max-size").map(String::as_str) {
        None | Some("-1") => None,
        Some(text) => Some(
            size(text)
                .filter(|bytes| *bytes > 0)
                .ok_or_else(|| Error::invalid(format!("invalid value for max-size: \"{text}\"")))?,
        ),
    };
    let max_files = match options.get("max-file") {
        None => None,
        Some(text) => Some(
            text.parse::<u32>()
                .ok()
                .filter(|count| *count > 0)
                .ok_or_else(|| Error::invalid(format!("invalid value for max-file: \"{text}\"")))?,
        ),
    };
    Ok((max_size, max_files))
}

impl Engine {
    /// Where a container's output goes.
    pub(crate) fn log_target(&self, record: &Record) -> Result<LogTarget> {
        let (max_size, max_files) = target_options(&record.host.log.options)?;
        let path = self.places(&record.id).log(&record.id, &record.host.log.driver);
        Ok(match record.host.log.driver.as_str() {
            "none" => LogTarget::None,
            "json-file" => LogTarget::JsonFile {
                path,
                max_size: max_size.unwrap_or(JSON_MAX_SIZE),
                max_files: max_files.unwrap_or(JSON_MAX_FILES),
            },
            _ => LogTarget::Local {
                path,
                max_size: max_size.unwrap_or(LOCAL_MAX_SIZE),
                max_files: max_files.unwrap_or(LOCAL_MAX_FILES),
            },
        })
    }

    /// Path of the log file, for inspection; empty when there is none.
    pub fn log_path(&self, record: &Record) -> String {
        match self.log_target(record) {
            Ok(LogTarget::Local { path, .. } | LogTarget::JsonFile { path, .. }) => path.display().to_string(),
            _ => String::new(),
        }
    }

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
        let target = self.log_target(&container.lock().record)?;
        if target == LogTarget::None {
            return Err(Error::Unsupported {
                feature: "configured logging driver does not support reading: none".into(),
            });
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_and_counts() {
        assert_eq!(size("10m"), Some(10_000_000));
        assert_eq!(size("1Gb"), Some(1_000_000_000));
        assert_eq!(size("7"), Some(7));
        assert_eq!(size("x"), None);
        let options = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        assert_eq!(target_options(&options("max-size", "1k")).unwrap().0, Some(1000));
        for (key, value) in [
            ("max-size", "0"),
            ("max-size", "abc"),
            ("max-file", "0"),
            ("max-file", "-1"),
        ] {
            assert!(target_options(&options(key, value)).is_err(), "{key}={value}");
        }
    }
}
