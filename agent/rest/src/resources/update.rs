//! Update: limits and restart policy of a container.

use agent_api::host_config::HostConfig;
use agent_engine::Engine;
use agent_engine::container::update::UpdateRequest;
use axum::body::Body;
use axum::extract::State;
use http::Request;
use serde_json::json;

use super::{create, refused};
use crate::error::ApiResult;
use crate::reply;
use crate::request::{self, Target};

/// The body has the members of `HostConfig` that are limits, and `RestartPolicy`; what is absent stays.
pub async fn update(State(engine): State<Engine>, Target(id): Target, request: Request<Body>) -> ApiResult {
    let container = engine.container(&id)?;
    let wanted: HostConfig = request::json(request).await?;
    refused::host(&wanted)?;
    let restart_policy = match wanted.restart_policy.name.as_str() {
        "" => None,
        _ => Some(create::restart_policy(&wanted.restart_policy)?),
    };
    let resources = create::resources(&wanted)?;
    let warnings = engine
        .update(
            &container,
            UpdateRequest {
                resources,
                restart_policy,
            },
        )
        .await?;
    Ok(reply::ok(&json!({ "Warnings": warnings })))
}
