//! The daemon's own log, on standard error.

use std::io;

use anyhow::bail;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, reload};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

impl Format {
    pub fn parse(text: &str) -> anyhow::Result<Format> {
        match text {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            other => bail!("invalid log format \"{other}\": expected text or json"),
        }
    }
}

/// dockerd's names of levels.
pub fn level(text: &str) -> anyhow::Result<LevelFilter> {
    Ok(match text {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warn" => LevelFilter::WARN,
        "error" | "fatal" => LevelFilter::ERROR,
        other => bail!("invalid log level \"{other}\": expected debug, info, warn, error or fatal"),
    })
}

/// The level of the log that was started; it can be changed.
pub struct Level(Box<dyn Fn(LevelFilter) + Send + Sync>);

impl Level {
    pub fn set(&self, level: LevelFilter) {
        (self.0)(level);
    }
}

pub fn start(level: LevelFilter, format: Format) -> Level {
    let (filter, handle) = reload::Layer::new(level);
    let writer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_target(false);
    let writer = match format {
        Format::Text => writer.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).boxed(),
        Format::Json => writer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(writer).init();
    // The subscriber lives as long as the process: changing its level cannot fail.
    Level(Box::new(move |level| drop(handle.reload(level))))
}
