//! `POST /containers/{id}/attach` and `/resize`.

use std::future::ready;

use agent_engine::Engine;
use agent_engine::container::attach::Streams;
use agent_engine::container::logs::LogQuery;
use axum::body::Body;
use axum::extract::State;
use http::{Request, StatusCode};

use super::logs::{self, Frame, Style};
use crate::detach;
use crate::error::{ApiError, ApiResult};
use crate::hijack::{Hijack, Opened, Terms};
use crate::peer::Peer;
use crate::reply;
use crate::request::{Query, Target};
use crate::version::ApiVersion;
use crate::websocket::Handshake;

pub async fn attach(
    State(engine): State<Engine>,
    version: ApiVersion,
    peer: Peer,
    Target(id): Target,
    query: Query,
    request: Request<Body>,
) -> ApiResult {
    let keys = detach::parse(query.get("detachKeys"))?;
    let container = engine.container(&id)?;
    let streams = Streams {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
    };
    let replay = query.flag("logs");
    let tty = container.is_tty();
    let past = |engine: &Engine| {
        let wanted = LogQuery {
            stdout: streams.stdout,
            stderr: streams.stderr,
            ..LogQuery::default()
        };
        let style = Style {
            tty,
            ..Style::default()
        };
        engine
            .logs(&container, wanted, move |entry, out| {
                style.write(&mut Frame::default(), entry, out);
            })
            .map(|batches| logs::stream(batches, peer.clone()))
    };
    // Attached before the log is read: what is written in between is then seen, at worst twice. Without a stream there is
    // only the past, if that.
    let opened = match query.flag("stream") {
        true => Opened::Attached(engine.attach(&container, streams).await?),
        false => Opened::Nothing,
    };
    let terms = Terms {
        tty,
        version,
        first: if replay { Some(past(&engine)?) } else { None },
        keys,
    };
    let detached = {
        let (engine, container) = (engine.clone(), container.clone());
        move || engine.note_detach(&container)
    };
    Ok(Hijack::of(request).run(terms, ready(opened), async {}, detached))
}

/// As attach, for browsers. Which streams are wanted can be said from 1.42 on; before that it is all of them.
pub async fn websocket(
    State(engine): State<Engine>,
    version: ApiVersion,
    peer: Peer,
    Target(id): Target,
    query: Query,
    mut request: Request<Body>,
) -> ApiResult {
    let keys = detach::parse(query.get("detachKeys"))?;
    let container = engine.container(&id)?;
    let wanted = |key: &str| !version.since(42) || query.flag(key);
    let streams = Streams {
        stdin: wanted("stdin"),
        stdout: wanted("stdout"),
        stderr: wanted("stderr"),
    };
    let handshake = Handshake::of(&mut request)?;
    let attachment = match query.flag("stream") {
        true => Some(engine.attach(&container, streams).await?),
        false => None,
    };
    let first = match query.flag("logs") {
        true => {
            let wanted = LogQuery {
                stdout: streams.stdout,
                stderr: streams.stderr,
                ..LogQuery::default()
            };
            // Nothing here tells the streams apart.
            let style = Style {
                tty: true,
                ..Style::default()
            };
            let batches = engine.logs(&container, wanted, move |entry, out| {
                style.write(&mut Frame::default(), entry, out);
            })?;
            Some(logs::stream(batches, peer))
        }
        false => None,
    };
    let detached = move || engine.note_detach(&container);
    Ok(handshake.run(attachment, first, keys, detached))
}

/// `h` and `w`, which both must be there.
pub fn size(query: &Query) -> ApiResult<(u16, u16)> {
    let number = |key: &str, what: &str| {
        let text = query.get(key);
        match text.parse::<u16>() {
            Ok(number) => Ok(number),
            Err(_) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => Err(ApiError::bad(format!(
                "invalid resize {what} \"{text}\": value out of range"
            ))),
            Err(_) => Err(ApiError::bad(format!(
                "invalid resize {what} \"{text}\": invalid syntax"
            ))),
        }
    };
    Ok((number("h", "height")?, number("w", "width")?))
}

pub async fn resize(State(engine): State<Engine>, Target(id): Target, query: Query) -> ApiResult {
    let (rows, columns) = size(&query)?;
    engine.resize(&engine.container(&id)?, rows, columns).await?;
    Ok(reply::empty(StatusCode::OK))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_are_checked() {
        assert_eq!(size(&Query::parse("h=24&w=80")).unwrap(), (24, 80));
        let words = |query: &str| size(&Query::parse(query)).unwrap_err().message;
        assert_eq!(words(""), "invalid resize height \"\": invalid syntax");
        assert_eq!(words("h=a&w=b"), "invalid resize height \"a\": invalid syntax");
        assert_eq!(words("h=1&w=-2"), "invalid resize width \"-2\": invalid syntax");
        assert_eq!(
            words("h=1&w=70000"),
            "invalid resize width \"70000\": value out of range"
        );
    }
}
