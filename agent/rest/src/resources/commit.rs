//! `POST /commit`: a container's changes become an image.

use agent_api::create::Config;
use agent_engine::Engine;
use agent_engine::image::commit::CommitRequest;
use axum::body::Body;
use axum::extract::State;
use http::{Request, StatusCode};
use serde_json::json;

use super::create;
use crate::error::ApiResult;
use crate::reply;
use crate::request::{self, Query};
use crate::version::ApiVersion;

/// The body, if there is one, is a configuration that stands in the place of the container's.
pub async fn commit(
    State(engine): State<Engine>,
    version: ApiVersion,
    query: Query,
    request: Request<Body>,
) -> ApiResult {
    let container = engine.container(query.get("container"))?;
    let body = request::json_bytes(request).await?;
    let config: Option<Config> = match body.as_ref() {
        b"" => None,
        body => agent_api::json::from_slice(body)?,
    };
    let request = CommitRequest {
        repository: query.get("repo").to_owned(),
        tag: query.get("tag").to_owned(),
        author: query.get("author").to_owned(),
        comment: query.get("comment").to_owned(),
        pause: query.flag_or("pause", true),
        changes: query.all("changes"),
        config: config.map(|config| create::config(config, version)).transpose()?,
    };
    let id = engine.commit(&container, request).await?;
    Ok(reply::json(StatusCode::CREATED, &json!({ "Id": id.to_string() })))
}
