//! What a container's log configuration means for it.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use agent_logs::{Files, Keep, Origin, Refused, Setup};
use runtime::launcher::Shim;
use runtime::log::{LogState, compress};
use runtime::plan::LogTarget;

use super::spec::LogConfig;
use super::{Container, Record};
use crate::Engine;
use crate::error::{Error, Result};

const LOCAL_MAX_SIZE: u64 = 20 << 20; // Docker's numbers for its `local` driver
const LOCAL_MAX_FILES: u32 = 5;
/// `json-file` is bounded too, unlike Docker's: an unbounded log has filled many a disk.
const JSON_MAX_SIZE: u64 = 100_000_000;
const JSON_MAX_FILES: u32 = 3;

/// The drivers that containers can have.
pub use agent_logs::DRIVERS;

/// Checks a driver and its options.
///
/// # Errors
/// One that is not known, or a value that makes no sense.
pub fn check(config: &LogConfig) -> Result<()> {
    setup(config).map(drop)
}

pub(crate) fn setup(config: &LogConfig) -> Result<Setup> {
    Setup::parse(&config.driver, &config.options).map_err(|refused| match refused {
        Refused::Invalid(text) => Error::Invalid(text),
        Refused::Unsupported(_) => Error::unsupported(refused.to_string()),
    })
}

impl Engine {
    /// What a request's log configuration becomes: the daemon's driver where it names none, and the daemon's options for
    /// that driver where it does not give others.
    pub(crate) fn effective_log(&self, asked: &LogConfig) -> LogConfig {
        let mut log = asked.clone();
        if log.driver.is_empty() {
            log.driver.clone_from(&self.config.default_log_driver);
        }
        if log.driver == self.config.default_log_driver {
            for (key, value) in &self.config.default_log_opts {
                log.options.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        log
    }

    /// Refuses a log whose certificates cannot be read: lines would wait for a connection that never comes.
    pub(crate) async fn log_can_be_sent(&self, record: &Record) -> Result<()> {
        let Some(remote) = setup(&record.host.log)?.remote else {
            return Ok(());
        };
        let checked = tokio::task::spawn_blocking(move || remote.check()).await;
        let checked = checked.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        checked.map_err(|error| Error::invalid(format!("failed to initialize logging driver: {error}")))
    }

    /// Where a container's output goes.
    pub(crate) fn log_target(&self, record: &Record) -> Result<LogTarget> {
        let setup = setup(&record.host.log)?;
        let path = self.places(&record.id).log(&record.id, &record.host.log.driver);
        let bounds =
            |files: Files, size: u64, count: u32| (files.max_size.unwrap_or(size), files.max_files.unwrap_or(count));
        Ok(match setup.keep {
            Keep::Nothing => LogTarget::None,
            Keep::JsonFile(files) => {
                let (max_size, max_files) = bounds(files, JSON_MAX_SIZE, JSON_MAX_FILES);
                LogTarget::JsonFile {
                    path,
                    max_size,
                    max_files,
                    attrs: json_attributes(&setup.wanted.details(&origin(record))).into(),
                }
            }
            Keep::Local(files) => {
                let (max_size, max_files) = bounds(files, LOCAL_MAX_SIZE, LOCAL_MAX_FILES);
                LogTarget::Local {
                    path,
                    max_size,
                    max_files,
                }
            }
        })
    }

    /// Path of the log file, for inspection. Only of `json-file`: the other formats are nobody's but ours.
    pub fn log_path(&self, record: &Record) -> String {
        match self.log_target(record) {
            Ok(LogTarget::JsonFile { path, .. }) => path.display().to_string(),
            _ => String::new(),
        }
    }

    /// The attributes that go with each line of a container.
    pub fn log_details(&self, container: &Container) -> Vec<(String, String)> {
        let record = &container.lock().record;
        setup(&record.host.log).map_or_else(|_| Vec::new(), |setup| setup.wanted.details(&origin(record)))
    }

    /// Sees to a log for as long as its shim lives: says when it cannot be written, and compresses what was rotated.
    pub(crate) fn watch_log(&self, container: &Arc<Container>, shim: &Shim) {
        let (target, setup) = {
            let record = &container.lock().record;
            match (self.log_target(record), setup(&record.host.log)) {
                (Ok(target), Ok(setup)) if target != LogTarget::None => (target, setup),
                _ => return,
            }
        };
        let compresses = match setup.keep {
            Keep::Local(files) => files.compress.unwrap_or(true),
            Keep::JsonFile(files) => files.compress.unwrap_or(false),
            Keep::Nothing => false,
        };
        let (engine, id) = (self.clone(), container.id.clone());
        let mut news = shim.log();
        if setup.remote.is_some() {
            self.forward(container);
        }
        // Ends with the connection to the shim. Not in `tasks`: a shutdown does not wait for containers to end.
        tokio::spawn(async move {
            let mut known = LogState::default();
            loop {
                let now = *news.borrow_and_update();
                match (known.errno, now.errno) {
                    (0, 0) => {}
                    (_, 0) => tracing::info!(container = %id, "the log can be written again"),
                    (before, errno) if before != errno => {
                        let error = std::io::Error::from_raw_os_error(errno);
                        tracing::warn!(container = %id, %error, "the log cannot be written; the container goes on, its output is lost until it can");
                    }
                    _ => {}
                }
                if compresses && now.rotations != known.rotations {
                    let target = target.clone();
                    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || compress(&target)).await {
                        tracing::warn!(container = %id, %error, "a rotated log file stays uncompressed");
                    }
                }
                known = now;
                tokio::select! {
                    changed = news.changed() => if changed.is_err() { return },
                    () = engine.shutdown.cancelled() => return,
                }
            }
        });
    }
}

/// What the drivers may say of a container.
pub(crate) fn origin(record: &Record) -> Origin {
    let created = record.created.duration_since(UNIX_EPOCH).unwrap_or_default();
    Origin {
        id: record.id.to_string(),
        name: record.name.clone(),
        image: record.config.image.clone(),
        image_id: record.image.clone(),
        command: record.argv().join(" "),
        created: i64::try_from(created.as_nanos()).unwrap_or(i64::MAX),
        hostname: nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
            .unwrap_or_default(),
        daemon: "iechor".into(),
        labels: record.config.labels.clone().into_iter().collect(),
        env: record.config.env.clone(),
    }
}

/// `"attrs":{…},` with the escapes of Go's encoder, or nothing.
fn json_attributes(attributes: &[(String, String)]) -> Vec<u8> {
    if attributes.is_empty() {
        return Vec::new();
    }
    let map: serde_json::Map<String, serde_json::Value> = attributes
        .iter()
        .map(|(key, value)| (key.clone(), value.clone().into()))
        .collect();
    let mut text = format!("\"attrs\":{},", serde_json::Value::Object(map));
    for letter in ['<', '>', '&', '\u{2028}', '\u{2029}'] {
        text = text.replace(letter, &format!("\\u{:04x}", u32::from(letter)));
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_look_like_dockers() {
        assert_eq!(json_attributes(&[]), b"");
        let all = [("a".to_owned(), "<1>".to_owned()), ("tag".to_owned(), "x".to_owned())];
        assert_eq!(
            json_attributes(&all),
            b"\"attrs\":{\"a\":\"\\u003c1\\u003e\",\"tag\":\"x\"},"
        );
    }
}
