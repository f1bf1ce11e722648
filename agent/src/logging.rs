//! The daemon's own log, on standard error.

use std::io;

use anyhow::bail;
use tracing::level_filters::LevelFilter;

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

pub fn start(level: LevelFilter, format: Format) {
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_target(false);
    match format {
        Format::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
        Format::Json => builder.json().flatten_event(true).init(),
    }
}
