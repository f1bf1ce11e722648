//! Containers: list and the verbs of their life.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use agent_api::container::{
    PruneReport, Summary, SummaryHealth, SummaryHostConfig, SummaryNetworkSettings, WaitError, WaitResponse,
};
use agent_engine::container::stop::Condition;
use agent_engine::container::{Record, RunNet};
use agent_engine::{Engine, Snapshot};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{Request, StatusCode};
use http_body::Body as _;

use super::{inspect, units};
use crate::error::{ApiError, ApiResult};
use crate::peer::Peer;
use crate::pieces::List;
use crate::reply;
use crate::request::{Query, Target};
use crate::transfer::BodyWriter;
use crate::version::ApiVersion;

/// Longest body that a start may carry; anything more was a host configuration once, long ago.
const START_BODY: u64 = 7;

pub async fn list(State(engine): State<Engine>, version: ApiVersion, query: Query) -> ApiResult {
    let limit = query
        .number("limit")?
        .and_then(|limit| usize::try_from(limit).ok())
        .filter(|limit| *limit > 0);
    let (all, filters) = (query.flag("all"), query.filters()?);
    let mut names = ImageNames::default();
    if query.flag("size") {
        let mut rows = engine.list(all, limit, &filters, |record, net| {
            summary(&engine, record, net, &mut names, version)
        })?;
        engine.all_ends_are_durable().await;
        for row in &mut rows {
            (row.size_rw, row.size_root_fs) = inspect::sizes(&engine, &row.id, &row.image_id).await;
        }
        return Ok(reply::ok(&rows));
    }
    let mut list = List::default();
    engine.list(all, limit, &filters, |record, net| {
        list.push(&summary(&engine, record, net, &mut names, version));
    })?;
    // Behind the look: an end between the two would be told too early.
    engine.all_ends_are_durable().await;
    Ok(list.reply())
}

/// Which image a name stands for now, looked up once per list.
#[derive(Default)]
pub struct ImageNames(BTreeMap<String, Option<String>>);

impl ImageNames {
    /// The name a container was made with, or the id where the name means another image by now.
    fn shown(&mut self, engine: &Engine, name: &str, id: &str) -> String {
        if !self.0.contains_key(name) {
            let now = engine.find_image(name).ok().map(|image| image.id.to_string());
            self.0.insert(name.to_owned(), now);
        }
        match self.0.get(name) {
            Some(Some(now)) if now == id => name.to_owned(),
            _ => id.to_owned(),
        }
    }
}

pub fn summary(engine: &Engine, record: &Record, net: &RunNet, names: &mut ImageNames, version: ApiVersion) -> Summary {
    let words = record.argv();
    let command: Vec<String> = words
        .iter()
        .map(|word| {
            if word.contains(' ') {
                format!("'{word}'")
            } else {
                word.clone()
            }
        })
        .collect();
    let health = record.health.as_ref();
    Summary {
        id: record.id.to_string(),
        names: vec![format!("/{}", record.name)],
        image: names.shown(engine, &record.config.image, &record.image),
        image_id: record.image.clone(),
        command: command.join(" "),
        created: agent_api::time::Time::from(record.created).unix(),
        ports: inspect::port_list(record, net),
        size_rw: 0,
        size_root_fs: 0,
        labels: record.config.labels.clone(),
        state: record.status.phase.as_str().to_owned(),
        status: units::status(&record.status, health.map(|health| health.state), SystemTime::now()),
        host_config: SummaryHostConfig {
            network_mode: inspect::network_mode(&record.host.network_mode),
            annotations: version.since(46).then(|| record.host.annotations.clone()),
        },
        network_settings: SummaryNetworkSettings {
            networks: inspect::networks(engine, record, net),
        },
        mounts: inspect::mounts(record),
        health: version.since(52).then(|| SummaryHealth {
            status: health.map_or("none", |health| health.state.as_str()).to_owned(),
            failing_streak: health.map_or(0, |health| health.failing_streak.into()),
        }),
    }
}

/// 304 when there was nothing to do.
fn changed(changed: bool) -> Response {
    reply::empty(if changed {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::NOT_MODIFIED
    })
}

pub async fn start(
    State(engine): State<Engine>,
    Target(id): Target,
    query: Query,
    request: Request<Body>,
) -> ApiResult {
    // A body of unknown length counts as one that is too long.
    let body = request.body().size_hint();
    if body.upper().is_none_or(|length| length > START_BODY) {
        return Err(ApiError::bad(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    query.refuse(&["checkpoint", "checkpoint-dir"])?;
    if query.has("detachKeys") {
        crate::detach::parse(query.get("detachKeys"))?;
    }
    Ok(changed(engine.start(&engine.container(&id)?).await?))
}

/// `t` in seconds: absent takes the container's own grace, negative waits for ever.
fn grace(query: &Query) -> ApiResult<Option<Option<Duration>>> {
    Ok(query
        .number("t")?
        .map(|seconds| u64::try_from(seconds).ok().map(Duration::from_secs)))
}

/// Below 1.42 the parameter was ignored, and clients counted on it.
fn signal(query: &Query, version: ApiVersion) -> Option<&str> {
    Some(query.get("signal")).filter(|text| version.since(42) && !text.is_empty())
}

pub async fn stop(State(engine): State<Engine>, version: ApiVersion, Target(id): Target, query: Query) -> ApiResult {
    let container = engine.container(&id)?;
    Ok(changed(
        engine.stop(&container, signal(&query, version), grace(&query)?).await?,
    ))
}

pub async fn restart(State(engine): State<Engine>, version: ApiVersion, Target(id): Target, query: Query) -> ApiResult {
    let container = engine.container(&id)?;
    engine
        .restart(&container, signal(&query, version), grace(&query)?)
        .await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub async fn kill(State(engine): State<Engine>, Target(id): Target, query: Query) -> ApiResult {
    let container = engine.container(&id)?;
    engine.kill(&container, query.get("signal")).await.map_err(|error| {
        let error = ApiError::from(error);
        ApiError {
            message: format!("cannot kill container: {id}: {}", error.message),
            ..error
        }
    })?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub async fn rename(State(engine): State<Engine>, Target(id): Target, query: Query) -> ApiResult {
    engine.rename(&engine.container(&id)?, query.get("name")).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub async fn pause(State(engine): State<Engine>, Target(id): Target) -> ApiResult {
    engine.pause(&engine.container(&id)?).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub async fn unpause(State(engine): State<Engine>, Target(id): Target) -> ApiResult {
    engine.unpause(&engine.container(&id)?).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub async fn remove(State(engine): State<Engine>, Target(id): Target, query: Query) -> ApiResult {
    if query.flag("link") {
        return Err(ApiError::bad(
            "Conflict, cannot remove the default link name of the container",
        ));
    }
    engine
        .remove(&engine.container(&id)?, query.flag("force"), query.flag("v"))
        .await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `rm --link OWNER/ALIAS`. Without the flag it is no container's name.
pub async fn remove_link(
    State(engine): State<Engine>,
    Path((owner, alias)): Path<(String, String)>,
    query: Query,
) -> ApiResult {
    if !query.flag("link") {
        engine.container(&format!("{owner}/{alias}"))?;
    }
    engine.remove_link(&owner, &alias).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// The headers go out at once: clients wait first and start then.
pub async fn wait(State(engine): State<Engine>, peer: Peer, Target(id): Target, query: Query) -> ApiResult {
    let condition = match query.get("condition") {
        "" | "not-running" => Condition::NotRunning,
        "next-exit" => Condition::NextExit,
        "removed" => Condition::Removed,
        other => return Err(ApiError::bad(format!("invalid condition: \"{other}\""))),
    };
    let container = engine.container(&id)?;
    // Registered here, before the headers tell the client that it may go on.
    let ended = engine.wait(&container, condition);
    let shutdown = engine.shutdown_token();
    let (feeder, body) = reply::feed(1);
    tokio::spawn(async move {
        let change = tokio::select! {
            change = ended => change,
            () = shutdown.cancelled() => return,
            () = feeder.closed() => return,
            () = peer.gone() => return,
        };
        let answer = WaitResponse {
            status_code: change.exit_code.into(),
            error: None::<WaitError>,
        };
        let _ = feeder.send(Ok(reply::line(&answer))).await;
    });
    Ok(reply::with_type(StatusCode::OK, reply::JSON, body))
}

pub async fn prune(State(engine): State<Engine>, query: Query) -> ApiResult {
    let filters = query.filters()?;
    filters.only(&["label", "label!", "until"])?;
    let until = filters.until()?;
    let wanted = move |snapshot: &Snapshot| {
        filters.labels(&snapshot.record.config.labels) && until.is_none_or(|until| snapshot.record.created < until)
    };
    let (deleted, space_reclaimed) = engine.prune_containers(wanted).await?;
    let containers_deleted = Some(deleted).filter(|list| !list.is_empty());
    Ok(reply::ok(&PruneReport {
        containers_deleted,
        space_reclaimed,
    }))
}

pub async fn export(State(engine): State<Engine>, Target(id): Target) -> ApiResult {
    let container = engine.container(&id)?;
    let (mut writer, body) = BodyWriter::new();
    tokio::task::spawn_blocking(move || {
        let result = engine.export(&container, &mut writer).map_err(Into::into);
        writer.finish(result);
    });
    Ok(reply::with_type(StatusCode::OK, "application/octet-stream", body))
}
