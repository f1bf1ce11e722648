//! Update: limits and restart policy of a container.

use agent_api::container::UpdateResponse;
use agent_api::host_config::HostConfig;
use agent_engine::Engine;
use agent_engine::container::update::UpdateRequest;
use axum::body::Body;
use axum::extract::State;
use http::Request;

use super::{create, refused};
use crate::error::ApiResult;
use crate::reply;
use crate::request::{self, Target};

/// The body has the members of `HostConfig` that are limits, and `RestartPolicy`; what is absent stays.
pub async fn update(State(engine): State<Engine>, Target(id): Target, request: Request<Body>) -> ApiResult {
    let container = engine.container(&id)?;
    let wanted: HostConfig = request::json(request).await?;
    refused::host(&wanted)?;
    refused::update(&wanted)?;
    let restart_policy = match wanted.restart_policy.name.as_str() {
        "" => None,
        _ => Some(create::restart_policy(&wanted.restart_policy)?),
    };
    let mut resources = create::resources(&wanted)?;
    // Here 0 is a wish as well: no limit.
    resources.pids_limit = wanted.pids_limit.map(|limit| if limit <= 0 { -1 } else { limit });
    let warnings = engine
        .update(
            &container,
            UpdateRequest {
                resources,
                restart_policy,
            },
        )
        .await?;
    Ok(reply::ok(&UpdateResponse {
        // Go's nil list.
        warnings: Some(warnings).filter(|list| !list.is_empty()),
    }))
}
