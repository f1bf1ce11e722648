//! `GET /containers/{id}/logs`.

use agent_api::time::log_stamp;
use agent_engine::Engine;
use agent_engine::container::logs::LogQuery;
use agent_engine::filters::point_in_time;
use agent_engine::view::{LogEntry, LogStream};
use axum::body::Body;
use axum::extract::State;
use http::StatusCode;
use tokio::sync::mpsc;

use crate::error::{ApiError, ApiResult};
use crate::hijack::{content_type, push_frame};
use crate::peer::Peer;
use crate::reply;
use crate::request::{Query, Target};
use crate::version::ApiVersion;

/// How entries are written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// No frames, and line ends as they were written.
    pub tty: bool,
    pub timestamps: bool,
    /// Attributes in front of the text. Entries have none here, which leaves dockerd's one blank.
    pub details: bool,
}

impl Style {
    /// Appends one entry to what is sent next.
    pub fn write(self, entry: &LogEntry<'_>, out: &mut Vec<u8>) {
        let stamp = if self.timestamps {
            format!("{} ", log_stamp(entry.time))
        } else {
            String::new()
        };
        let blank: &[u8] = if self.details { b" " } else { b"" };
        let end: &[u8] = if entry.partial { b"" } else { b"\n" };
        let parts: [&[u8]; 4] = [stamp.as_bytes(), blank, entry.bytes, end];
        if self.tty {
            parts.iter().for_each(|part| out.extend_from_slice(part));
        } else {
            let stream = match entry.stream {
                LogStream::Stdout => 1,
                LogStream::Stderr => 2,
            };
            push_frame(stream, &parts, out);
        }
    }
}

pub async fn logs(
    State(engine): State<Engine>,
    version: ApiVersion,
    peer: Peer,
    Target(id): Target,
    query: Query,
) -> ApiResult {
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !(stdout || stderr) {
        return Err(ApiError::bad("Bad parameters: you must choose at least one stream"));
    }
    if !matches!(query.get("format"), "" | "text") {
        return Err(ApiError::unsupported("log records as JSON"));
    }
    let container = engine.container(&id)?;
    let moment = |key: &str| match query.get(key) {
        // Clients send 0 for "from the beginning" and "without end".
        "" | "0" => Ok(None),
        text => point_in_time(text).map(Some),
    };
    let wanted = LogQuery {
        stdout,
        stderr,
        follow: query.flag("follow"),
        // Anything that is no number means everything, as with dockerd.
        tail: query.get("tail").parse().ok(),
        since: moment("since")?,
        until: moment("until")?,
    };
    let tty = container.is_tty();
    let style = Style {
        tty,
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
    };
    let batches = engine.logs(&container, wanted, move |entry, out| style.write(entry, out))?;
    Ok(reply::with_type(
        StatusCode::OK,
        content_type(tty, version),
        stream(batches, peer),
    ))
}

/// Batches as a body; a failure cuts it off, so that nobody takes a part for the whole.
pub fn stream(mut batches: mpsc::Receiver<agent_engine::Result<bytes::Bytes>>, peer: Peer) -> Body {
    let (feeder, body) = reply::feed(1);
    tokio::spawn(async move {
        let gone = peer.gone();
        tokio::pin!(gone);
        while let Some(batch) = tokio::select! {
            batch = batches.recv() => batch,
            () = feeder.closed() => None,
            () = &mut gone => None,
        } {
            if feeder.send(batch.map_err(Into::into)).await.is_err() {
                return;
            }
        }
    });
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn written(style: Style, partial: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let entry = LogEntry {
            stream: LogStream::Stderr,
            time: SystemTime::UNIX_EPOCH,
            partial,
            bytes: b"hi",
        };
        style.write(&entry, &mut out);
        out
    }

    #[test]
    fn entries_are_framed_unless_there_is_a_terminal() {
        assert_eq!(written(Style::default(), false), b"\x02\0\0\0\0\0\0\x03hi\n");
        assert_eq!(written(Style::default(), true), b"\x02\0\0\0\0\0\0\x02hi");
        assert_eq!(
            written(
                Style {
                    tty: true,
                    ..Style::default()
                },
                false
            ),
            b"hi\n"
        );
        let stamped = written(
            Style {
                tty: true,
                timestamps: true,
                details: true,
            },
            false,
        );
        assert_eq!(stamped, b"1970-01-01T00:00:00.000000000Z  hi\n");
    }
}
