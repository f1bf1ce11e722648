//! `GET /containers/{id}/logs`.

use agent_api::log::{LogAttribute, LogRecord};
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
use crate::hijack::content_type;
use crate::peer::Peer;
use crate::records;
use crate::reply;
use crate::request::{Query, Target};
use crate::version::ApiVersion;

/// How entries are written.
#[derive(Clone, Debug, Default)]
pub struct Style {
    /// No frames, and line ends as they were written.
    pub tty: bool,
    pub timestamps: bool,
    /// Attributes in front of the text, with the blank behind them.
    pub details: Option<String>,
    /// Lines of one stream go out in frames together: for clients that only copy them, each frame is two system calls.
    pub joined: bool,
}

/// No more in a joined frame than what clients take at once.
const FRAME: usize = 32 * 1024;

/// Where the frame begins to which more can be added.
#[derive(Debug, Default)]
pub struct Frame {
    at: Option<usize>,
}

impl Style {
    /// Appends one entry to what is sent next. `frame` is of the same batch.
    pub fn write(&self, frame: &mut Frame, entry: &LogEntry<'_>, out: &mut Vec<u8>) {
        let stream = match entry.stream {
            LogStream::Stdout => 1,
            LogStream::Stderr => 2,
        };
        let open = frame
            .at
            .filter(|at| self.joined && out.len() > *at && out[*at] == stream && out.len() - *at < FRAME);
        let begin = open.unwrap_or(out.len());
        if !self.tty && open.is_none() {
            out.extend_from_slice(&[stream, 0, 0, 0, 0, 0, 0, 0]);
        }
        if self.timestamps {
            out.extend_from_slice(log_stamp(entry.time).as_bytes());
            out.push(b' ');
        }
        if let Some(details) = &self.details {
            out.extend_from_slice(details.as_bytes());
        }
        out.extend_from_slice(entry.bytes);
        if !entry.partial {
            out.push(b'\n');
        }
        if !self.tty {
            // Entries and frames are far below 4 GiB.
            let length = (out.len() - begin - 8) as u32;
            out[begin + 4..begin + 8].copy_from_slice(&length.to_be_bytes());
            frame.at = Some(begin);
        }
    }
}

/// `key=value` by comma, each escaped as in a query, as clients show it.
fn details(attributes: &[(String, String)]) -> String {
    let pair = |(key, value): &(String, String)| {
        let escape = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        format!("{}={}", escape(key), escape(value))
    };
    let all: Vec<String> = attributes.iter().map(pair).collect();
    format!("{} ", all.join(","))
}

/// The media type of records, for a client that wants them: known from API 1.54 on.
fn records_type(query: &Query, headers: &http::HeaderMap, version: ApiVersion) -> ApiResult<Option<&'static str>> {
    if !version.since(54) {
        return Ok(None);
    }
    match query.get("format") {
        "" => Ok(records::named(headers).map(|_| records::negotiated(headers))),
        "json" => Ok(Some(records::negotiated(headers))),
        _ => Err(ApiError::bad("unsupported log format")),
    }
}

fn record(entry: &LogEntry<'_>, attributes: &[LogAttribute]) -> LogRecord {
    let mut line = String::from_utf8_lossy(entry.bytes).into_owned();
    if !entry.partial {
        line.push('\n');
    }
    let source = match entry.stream {
        LogStream::Stdout => "stdout",
        LogStream::Stderr => "stderr",
    };
    LogRecord {
        line,
        source: source.to_owned(),
        timestamp: entry.time.into(),
        attrs: Some(attributes.to_vec()).filter(|all| !all.is_empty()),
    }
}

/// Whether a client copies what it gets, whatever the frames. Other programs take a frame for a line, as dockerd's are.
fn copies(headers: &http::HeaderMap) -> bool {
    let agent = headers
        .get(http::header::USER_AGENT)
        .and_then(|agent| agent.to_str().ok());
    agent.is_some_and(|agent| agent.starts_with("Docker-Client/") || agent.starts_with("iechor"))
}

pub async fn logs(
    State(engine): State<Engine>,
    version: ApiVersion,
    peer: Peer,
    Target(id): Target,
    query: Query,
    headers: http::HeaderMap,
) -> ApiResult {
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !(stdout || stderr) {
        return Err(ApiError::bad("Bad parameters: you must choose at least one stream"));
    }
    let records = records_type(&query, &headers, version)?;
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
    let attributes = match query.flag("details") {
        true => engine.log_details(&container),
        false => Vec::new(),
    };
    if let Some(media_type) = records {
        let pairs = attributes.into_iter();
        let attributes: Vec<LogAttribute> = pairs.map(|(key, value)| LogAttribute { key, value }).collect();
        let batches = engine.logs(&container, wanted, move |entry, out| {
            records::write(media_type, &record(entry, &attributes), out);
        })?;
        return Ok(reply::with_type(StatusCode::OK, media_type, stream(batches, peer)));
    }
    let tty = container.is_tty();
    let style = Style {
        tty,
        timestamps: query.flag("timestamps"),
        details: query.flag("details").then(|| details(&attributes)),
        joined: copies(&headers),
    };
    let mut frame = Frame::default();
    let batches = engine.logs(&container, wanted, move |entry, out| {
        // A batch that was sent leaves an empty one.
        if out.is_empty() {
            frame = Frame::default();
        }
        style.write(&mut frame, entry, out);
    })?;
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
        style.write(&mut Frame::default(), &entry, &mut out);
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
                details: Some(details(&[])),
                ..Style::default()
            },
            false,
        );
        assert_eq!(stamped, b"1970-01-01T00:00:00.000000000Z  hi\n");
    }

    #[test]
    fn a_record_has_the_line_as_text() {
        let mut entry = LogEntry {
            stream: LogStream::Stderr,
            time: SystemTime::UNIX_EPOCH,
            partial: false,
            bytes: b"h\xffi\r",
        };
        let written = |entry: &LogEntry<'_>, attributes: &[LogAttribute]| {
            let mut out = Vec::new();
            records::write(records::ND_JSON, &record(entry, attributes), &mut out);
            String::from_utf8(out).unwrap_or_default()
        };
        assert_eq!(
            written(&entry, &[]),
            "{\"Line\":\"h\u{fffd}i\\r\\n\",\"Source\":\"stderr\",\"Timestamp\":\"1970-01-01T00:00:00Z\"}\n"
        );
        entry.partial = true;
        let attribute = LogAttribute {
            key: "a".into(),
            value: "b".into(),
        };
        let text = written(&entry, &[attribute]);
        assert!(text.starts_with("{\"Line\":\"h\u{fffd}i\\r\",\"Source\""), "{text}");
        assert!(
            text.ends_with(",\"Attrs\":[{\"Key\":\"a\",\"Value\":\"b\"}]}\n"),
            "{text}"
        );
    }
}
