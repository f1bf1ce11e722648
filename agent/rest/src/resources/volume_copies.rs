//! Volumes as archives, copies and under other names: extensions.

use std::collections::BTreeMap;

use agent_engine::Engine;
use axum::body::Body;
use axum::extract::State;
use http::{Request, StatusCode};

use super::volumes::wire;
use crate::error::{ApiError, ApiResult};
use crate::reply;
use crate::request::{Query, Target};
use crate::transfer::{BodyReader, BodyWriter};

const TAR: &str = "application/x-tar";

/// Runs blocking work of the engine to its end, whether or not the client waits.
async fn blocking<T: Send + 'static>(
    engine: &Engine,
    work: impl FnOnce(&Engine) -> agent_engine::Result<T> + Send + 'static,
) -> ApiResult<T> {
    let engine = engine.clone();
    let done = tokio::task::spawn_blocking(move || work(&engine)).await;
    Ok(done.unwrap_or(Err(agent_engine::Error::CutOff))?)
}

fn new_name(query: &Query) -> ApiResult<String> {
    match query.get("name") {
        "" => Err(ApiError::bad(
            "the query parameter \"name\" must say the new volume's name",
        )),
        name => Ok(name.to_owned()),
    }
}

/// `GET /volumes/{name}/export`. What can be refused is refused before the first byte; after that a failure cuts the
/// stream off.
pub async fn export(State(engine): State<Engine>, Target(name): Target) -> ApiResult {
    engine.volumes().get(&name)?;
    let (mut writer, body) = BodyWriter::new();
    tokio::task::spawn_blocking(move || {
        let result = engine.export_volume(&name, &mut writer).map_err(Into::into);
        writer.finish(result);
    });
    Ok(reply::with_type(StatusCode::OK, TAR, body))
}

/// `POST /volumes/{name}/import`: the body is a tar.
pub async fn import(
    State(engine): State<Engine>,
    Target(name): Target,
    query: Query,
    request: Request<Body>,
) -> ApiResult {
    let mut labels = BTreeMap::new();
    for text in query.all("label") {
        let (key, value) = text.split_once('=').unwrap_or((&text, ""));
        labels.insert(key.to_owned(), value.to_owned());
    }
    let reader = BodyReader::start(request.into_body());
    let volume = blocking(&engine, move |engine| engine.import_volume(&name, labels, reader)).await?;
    Ok(reply::json(StatusCode::CREATED, &wire(&engine, &volume)))
}

/// `POST /volumes/{name}/clone?name=…`.
pub async fn duplicate(State(engine): State<Engine>, Target(name): Target, query: Query) -> ApiResult {
    let to = new_name(&query)?;
    let volume = blocking(&engine, move |engine| engine.clone_volume(&name, &to)).await?;
    Ok(reply::json(StatusCode::CREATED, &wire(&engine, &volume)))
}

/// `POST /volumes/{name}/rename?name=…`.
pub async fn rename(State(engine): State<Engine>, Target(name): Target, query: Query) -> ApiResult {
    let to = new_name(&query)?;
    blocking(&engine, move |engine| engine.rename_volume(&name, &to)).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
