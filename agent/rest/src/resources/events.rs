//! `GET /events`.

use std::time::SystemTime;

use agent_api::event::{Actor, Event as WireEvent};
use agent_engine::Engine;
use agent_engine::events::{Event, EventKind, Reader};
use agent_engine::filters::{EVENT_KEYS, event_matches, point_in_time};
use axum::extract::State;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tracing::warn;

use crate::error::ApiResult;
use crate::peer::Peer;
use crate::records;
use crate::reply::{self, Feeder};
use crate::request::Query;
use crate::version::ApiVersion;

pub async fn events(
    State(engine): State<Engine>,
    version: ApiVersion,
    peer: Peer,
    query: Query,
    headers: HeaderMap,
) -> ApiResult {
    let filters = query.filters()?;
    filters.only(&EVENT_KEYS)?;
    let moment = |key: &str| match query.get(key) {
        "" => Ok(None),
        text => point_in_time(text).map(Some),
    };
    let (since, until) = (moment("since")?, moment("until")?);
    let content = media_type(&headers, version);
    let mut reader = engine.events(since);
    let shutdown = engine.shutdown_token();
    let (feeder, body) = reply::feed(16);
    tokio::spawn(async move {
        let left = async {
            tokio::select! {
                () = peer.gone() => (),
                () = shutdown.cancelled() => (),
            }
        };
        let wanted = |event: &Event| event_matches(&filters, event).then(|| line(event, version, content));
        pass_on(&mut reader, until, left, &feeder, wanted).await;
    });
    Ok(reply::with_type(StatusCode::OK, content, body))
}

/// Sends what `wanted` makes of events, up to the moment `until`: all that is kept by then, however slowly it is read.
/// Ends early when `left` does, the body is given up, or the reader fell behind.
async fn pass_on(
    reader: &mut Reader,
    until: Option<SystemTime>,
    left: impl Future<Output = ()>,
    feeder: &Feeder,
    wanted: impl Fn(&Event) -> Option<Bytes>,
) {
    let mut past = until.is_some_and(|until| until <= SystemTime::now());
    let end = async {
        match until.and_then(|until| until.duration_since(SystemTime::now()).ok()) {
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end, left);
    loop {
        let next = if past {
            // Only what is kept; nothing that comes can be wanted.
            match reader.next_kept().await {
                Ok(Some(event)) => Ok(event),
                Ok(None) => return,
                Err(behind) => Err(behind),
            }
        } else {
            tokio::select! {
                event = reader.next() => event,
                // What is kept may still be on its way.
                () = &mut end => {
                    past = true;
                    continue;
                }
                () = feeder.closed() => return,
                () = &mut left => return,
            }
        };
        match next {
            Ok(event) => {
                if until.is_some_and(|until| event.time > until) {
                    return;
                }
                if let Some(line) = wanted(&event)
                    && feeder.send(Ok(line)).await.is_err()
                {
                    return;
                }
            }
            Err(behind) => {
                // Cut off rather than left with a hole that nobody sees.
                warn!(missed = behind.missed, "a client that reads events was too slow");
                let _ = feeder.send(Err(Box::new(behind))).await;
                return;
            }
        }
    }
}

/// An explicit `Accept` wins, wildcards do not.
fn media_type(headers: &HeaderMap, version: ApiVersion) -> &'static str {
    let usual = if version.since(52) {
        records::JSON_LINES
    } else {
        reply::JSON
    };
    records::named(headers).unwrap_or(usual)
}

fn line(event: &Event, version: ApiVersion, content: &str) -> Bytes {
    let mut bytes = Vec::with_capacity(512);
    records::write(content, &wire(event, version), &mut bytes);
    bytes.into()
}

fn wire(event: &Event, version: ApiVersion) -> WireEvent {
    let since_1970 = event.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut wire = WireEvent {
        kind: event.kind.as_str().to_owned(),
        action: event.action.clone(),
        actor: Actor {
            id: event.actor.clone(),
            attributes: event.attributes.clone(),
        },
        scope: "local".to_owned(),
        time: i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX),
        time_nano: i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX),
        ..WireEvent::default()
    };
    if !version.since(52) && matches!(event.kind, EventKind::Container | EventKind::Image) {
        wire.status.clone_from(&event.action);
        wire.id.clone_from(&event.actor);
        if event.kind == EventKind::Container {
            wire.from = event.attributes.get("image").cloned().unwrap_or_default();
        }
    }
    wire
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use agent_engine::events::Journal;
    use http_body_util::BodyExt;
    use std::collections::BTreeMap;
    use std::time::Duration;

    /// The body is read only after `until`, so that its few places were full when that came.
    #[tokio::test]
    async fn what_is_kept_is_sent_though_it_is_read_after_the_end() {
        let journal = Journal::default();
        let say = |count| {
            for number in 0..count {
                journal.record(EventKind::Daemon, format!("n{number}"), "x", BTreeMap::new());
            }
        };
        say(300);
        let mut reader = journal.subscribe(Some(SystemTime::UNIX_EPOCH));
        let until = SystemTime::now() + Duration::from_millis(50);
        let (feeder, body) = reply::feed(16);
        let sender = tokio::spawn(async move {
            let wanted = |event: &Event| Some(line(event, ApiVersion::v1(52), reply::JSON));
            pass_on(&mut reader, Some(until), std::future::pending(), &feeder, wanted).await;
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        say(1);
        let read = body.collect().await.unwrap().to_bytes();
        assert_eq!(read.iter().filter(|byte| **byte == b'\n').count(), 300);
        sender.await.unwrap();
    }

    #[test]
    fn old_members_go_with_old_versions() {
        let event = Event {
            sequence: 1,
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
            kind: EventKind::Container,
            action: "start".into(),
            actor: "abc".into(),
            attributes: BTreeMap::from([("image".into(), "busybox".into())]),
        };
        let text = |minor| String::from_utf8(line(&event, ApiVersion::v1(minor), reply::JSON).to_vec()).unwrap();
        assert_eq!(
            text(51),
            "{\"status\":\"start\",\"id\":\"abc\",\"from\":\"busybox\",\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"ID\":\"abc\",\"Attributes\":{\"image\":\"busybox\"}},\"scope\":\"local\",\"time\":1,\"timeNano\":1500000000}\n"
        );
        assert!(text(52).starts_with("{\"Type\":\"container\""));
        assert_eq!(line(&event, ApiVersion::v1(52), records::JSON_SEQ)[0], 0x1e);
    }

    #[test]
    fn accept_chooses_the_media_type() {
        let media = |accept: &'static str, minor| {
            let accept = (http::header::ACCEPT, http::HeaderValue::from_static(accept));
            media_type(&HeaderMap::from_iter([accept]), ApiVersion::v1(minor))
        };
        assert_eq!(media("*/*", 51), "application/json");
        assert_eq!(media("*/*", 52), records::JSON_LINES);
        assert_eq!(media("application/x-ndjson", 40), records::ND_JSON);
    }
}
