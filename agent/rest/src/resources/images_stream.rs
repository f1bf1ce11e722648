//! Images on the move: pull, import, load (JSON message streams out), save (an archive out).

use agent_api::message::{Message, ProgressDetail};
use agent_engine::Engine;
use agent_engine::image::instructions;
use agent_engine::image::pull::{LayerStep, PullEvent, Pulled};
use agent_engine::image::transfer::ImportRequest;
use agent_engine::view::{Download, LoadEvent, Platform, RunConfig};
use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http::{HeaderMap, Request, StatusCode};
use tokio::sync::mpsc;

use super::platforms;
use super::registries::credentials;
use crate::error::{ApiError, ApiResult};
use crate::peer::Peer;
use crate::reply::{self, Broken, Feeder};
use crate::request::Query;
use crate::transfer::{BodyReader, BodyWriter};
use crate::version::ApiVersion;

/// Records that wait for a slow client; then the work waits.
const DEPTH: usize = 64;
/// Bytes between two lines of progress of a download.
const STEP: u64 = 512 * 1024;
const TAR: &str = "application/x-tar";

/// `POST /images/create`: `fromImage` pulls, `fromSrc` imports what an address has, or with `-` the body.
pub async fn create(State(engine): State<Engine>, peer: Peer, query: Query, request: Request<Body>) -> ApiResult {
    let (parts, body) = request.into_parts();
    match (query.get("fromImage"), query.get("fromSrc")) {
        ("", "") => Err(ApiError::bad(
            "images/create needs fromImage (to pull) or fromSrc (to import)",
        )),
        ("", "-") => {
            let request = import_request(&engine, &query, "-")?;
            let (feeder, out) = reply::feed(DEPTH);
            import(engine, request, BodyReader::start(body), feeder);
            Ok(reply::with_type(StatusCode::OK, reply::JSON, out))
        }
        ("", address) => import_from(engine, peer, &query, address).await,
        (image, _) => pull(&engine, peer, image, &query, &parts.headers).await,
    }
}

async fn pull(engine: &Engine, peer: Peer, image: &str, query: &Query, headers: &HeaderMap) -> ApiResult {
    let tag = query.get("tag");
    let text = match tag {
        // Some clients leave the colon of the tag that they do not send.
        "" => image.strip_suffix(':').unwrap_or(image).to_owned(),
        // A digest in place of a tag.
        digest if digest.contains(':') => format!("{image}@{digest}"),
        tag => format!("{image}:{tag}"),
    };
    let reference = engine.reference(&text)?;
    let platform = match query.get("platform") {
        "" => None,
        text => Some(Platform::parse(text).map_err(|error| ApiError::bad(error.to_string()))?),
    };
    // Without a tag it is all of them, as `docker pull --all-tags` asks for; the clients' own default is their affair.
    let mut events = engine.pull_all(reference, platform, credentials(headers));
    // What goes wrong before anything was said has a status of its own. Dropping the receiver cancels the pull.
    let first = tokio::select! {
        event = events.recv() => event,
        () = peer.clone().gone() => None,
    };
    let first = match first {
        Some(PullEvent::Done(Err(error))) => return Err(error.into()),
        Some(event) => event,
        None => return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the pull was cut off")),
    };
    let (feeder, body) = reply::feed(DEPTH);
    tokio::spawn(tell_pull(first, events, feeder, peer));
    Ok(reply::with_type(StatusCode::OK, reply::JSON, body))
}

async fn tell_pull(first: PullEvent, mut events: mpsc::Receiver<PullEvent>, feeder: Feeder, peer: Peer) {
    let gone = peer.gone();
    tokio::pin!(gone);
    let mut next = Some(first);
    while let Some(event) = next {
        for message in pull_messages(event) {
            // Dropping the receiver on the way out cancels the pull.
            if feeder.send(Ok(reply::line(&message))).await.is_err() {
                return;
            }
        }
        next = tokio::select! {
            event = events.recv() => event,
            () = feeder.closed() => return,
            () = &mut gone => return,
        };
    }
}

/// What dockerd would print for an event.
fn pull_messages(event: PullEvent) -> Vec<Message> {
    let plain = |id: String, status: &str| {
        vec![Message {
            progress_detail: Some(ProgressDetail::default()),
            ..Message::status(id, status)
        }]
    };
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    match event {
        PullEvent::Pulling { tag, repository } => vec![Message::status(tag, format!("Pulling from {repository}"))],
        PullEvent::Layer { id, step } => match step {
            LayerStep::Waiting => {
                let mut messages = plain(id.clone(), "Pulling fs layer");
                messages.extend(plain(id, "Waiting"));
                messages
            }
            LayerStep::Downloading { current, total } => {
                vec![Message::progress(id, "Downloading", signed(current), signed(total))]
            }
            LayerStep::Downloaded => plain(id, "Download complete"),
            LayerStep::Extracting => plain(id, "Extracting"),
            LayerStep::Done => plain(id, "Pull complete"),
            LayerStep::AlreadyExists => plain(id, "Already exists"),
        },
        PullEvent::Digest(digest) => vec![Message::status("", format!("Digest: {digest}"))],
        PullEvent::Done(Ok(Pulled { name, new, .. })) => {
            let what = if new {
                "Downloaded newer image"
            } else {
                "Image is up to date"
            };
            vec![Message::status("", format!("Status: {what} for {name}"))]
        }
        PullEvent::Done(Err(error)) => vec![Message::failure(error.chain())],
    }
}

/// What the image is to be. What is wrong with it is the client's to mend, before the archive is read.
fn import_request(engine: &Engine, query: &Query, source: &str) -> ApiResult<ImportRequest> {
    let changes = query.all("changes");
    instructions::apply(RunConfig::default(), &changes)?;
    let repository = query.get("repo").to_owned();
    if !repository.is_empty() {
        engine.reference(&repository)?;
    }
    let message = match query.get("message") {
        "" => format!("Imported from {source}"),
        message => message.to_owned(),
    };
    Ok(ImportRequest {
        repository,
        tag: query.get("tag").to_owned(),
        message,
        changes,
        platform: query.get("platform").to_owned(),
    })
}

fn import(engine: Engine, request: ImportRequest, reader: BodyReader, feeder: Feeder) {
    tokio::task::spawn_blocking(move || {
        let message = match engine.import(reader, request) {
            Ok(image) => Message::status("", image.id.to_string()),
            Err(error) => Message::failure(error.chain()),
        };
        let _ = feeder.blocking_send(Ok(reply::line(&message)));
    });
}

/// Imports what a web server has. Its refusal is ours, with a status of its own.
async fn import_from(engine: Engine, peer: Peer, query: &Query, address: &str) -> ApiResult {
    import_request(&engine, query, "")?;
    let download = tokio::select! {
        download = engine.download(address) => download?,
        () = peer.clone().gone() => {
            return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the client hung up"));
        }
    };
    let request = import_request(&engine, query, download.address())?;
    let (feeder, out) = reply::feed(DEPTH);
    let first = Message::status("", format!("Downloading from {}", download.address()));
    let _ = feeder.send(Ok(reply::line(&first))).await;
    let body = Body::from_stream(watched(download, feeder.clone(), peer));
    import(engine, request, BodyReader::start(body), feeder);
    Ok(reply::with_type(StatusCode::OK, reply::JSON, out))
}

/// What is downloaded, told to the client as it comes; ends with a failure when the client leaves.
fn watched(download: Download, feeder: Feeder, peer: Peer) -> impl Stream<Item = Result<Bytes, Broken>> + Send {
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let total = download.length().map_or(0, signed);
    let gone = Box::pin(peer.gone());
    let begin = (download, gone, 0_u64, 0_u64);
    stream::unfold(begin, move |(mut download, mut gone, mut done, mut told)| {
        let feeder = feeder.clone();
        async move {
            let item = tokio::select! {
                item = download.next() => item.map(|item| item.map_err(Broken::from)),
                () = feeder.closed() => Some(Err("the client hung up".into())),
                () = &mut gone => Some(Err("the client hung up".into())),
            };
            let end = item.is_none();
            if let Some(Ok(bytes)) = &item {
                done += Bytes::len(bytes) as u64;
            }
            if done - told >= STEP || (end && done > told) {
                told = done;
                let message = Message::progress("", "Importing", signed(done), total);
                // That it cannot be sent is seen at the next turn.
                let _ = feeder.send(Ok(reply::line(&message))).await;
            }
            item.map(|item| (item, (download, gone, done, told)))
        }
    })
}

/// `POST /images/load`.
pub async fn load(
    State(engine): State<Engine>,
    version: ApiVersion,
    query: Query,
    request: Request<Body>,
) -> ApiResult {
    let reader = BodyReader::start(request.into_body());
    let only = match version.since(48) {
        true => platforms::one(&query.all("platform"))?,
        false => None,
    };
    let quiet = query.flag_or("quiet", true);
    let (feeder, body) = reply::feed(DEPTH);
    tokio::task::spawn_blocking(move || {
        let say = |message: &Message| {
            // A client that hung up misses the words; what it sent whole is loaded whole.
            let _ = feeder.blocking_send(Ok(reply::line(message)));
        };
        let loaded = engine.load(reader, only.as_ref(), |event| {
            if quiet {
                return;
            }
            let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            say(&match event {
                LoadEvent::Layer { id, current, total } => {
                    Message::progress(id, "Loading layer", count(current), count(total))
                }
                LoadEvent::LayerDone { id } => Message {
                    progress_detail: Some(ProgressDetail::default()),
                    ..Message::status(id, "Loading layer")
                },
            });
        });
        match loaded {
            Err(error) => say(&Message::failure(error.chain())),
            Ok(images) => {
                for image in images {
                    for (name, old) in &image.renamed {
                        say(&Message::stream(format!(
                            "The image {name} already exists, renaming the old one with ID {old} to empty string\n"
                        )));
                    }
                    if image.names.is_empty() {
                        say(&Message::stream(format!("Loaded image ID: {}\n", image.image.id)));
                    }
                    for name in &image.names {
                        say(&Message::stream(format!("Loaded image: {name}\n")));
                    }
                }
            }
        }
    });
    Ok(reply::with_type(StatusCode::OK, reply::JSON, body))
}

/// `GET /images/get?names=…`.
pub async fn save_several(State(engine): State<Engine>, query: Query) -> ApiResult {
    let names = query.all("names");
    save(engine, names, &query)
}

/// Everything that can be refused is refused before the first byte; after that a failure cuts the stream off.
pub fn save(engine: Engine, names: Vec<String>, query: &Query) -> ApiResult {
    let selection = engine.save_selection(&names)?;
    for one in &selection {
        platforms::check(one.image.id.as_str(), &one.image, &query.all("platform"))?;
    }
    let (mut writer, body) = BodyWriter::new();
    tokio::task::spawn_blocking(move || {
        let result = engine.save(&selection, &mut writer).map_err(Into::into);
        writer.finish(result);
    });
    Ok(reply::with_type(StatusCode::OK, TAR, body))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pull_is_told_in_dockerds_words() {
        let told = |event| -> Vec<String> {
            let messages = pull_messages(event);
            messages
                .iter()
                .map(|message| serde_json::to_string(message).unwrap())
                .collect()
        };
        assert_eq!(
            told(PullEvent::Pulling {
                tag: "1".into(),
                repository: "library/busybox".into()
            }),
            [r#"{"status":"Pulling from library/busybox","id":"1"}"#]
        );
        assert_eq!(
            told(PullEvent::Layer {
                id: "abc".into(),
                step: LayerStep::Downloading { current: 1, total: 2 }
            }),
            [r#"{"status":"Downloading","progressDetail":{"current":1,"total":2},"id":"abc"}"#]
        );
        assert_eq!(
            told(PullEvent::Layer {
                id: "abc".into(),
                step: LayerStep::Done
            }),
            [r#"{"status":"Pull complete","progressDetail":{},"id":"abc"}"#]
        );
    }
}
