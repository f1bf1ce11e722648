//! Update: limits and restart policy of a container.

use agent_api::container::{Change, UpdateChange, UpdateResponse};
use agent_api::host_config::HostConfig;
use agent_engine::Engine;
use agent_engine::container::change;
use agent_engine::container::update::UpdateRequest;
use axum::body::Body;
use axum::extract::State;
use http::Request;

use super::{create, refused};
use crate::error::ApiResult;
use crate::reply;
use crate::request::{self, Target};

fn change(wanted: Change) -> change::Change {
    let ports = wanted.publish_add.unwrap_or_default().into_iter();
    change::Change {
        env_add: wanted.env_add.unwrap_or_default(),
        env_remove: wanted.env_rm.unwrap_or_default(),
        mount_add: wanted
            .mount_add
            .unwrap_or_default()
            .into_iter()
            .map(create::mount)
            .collect(),
        mount_remove: wanted.mount_rm.unwrap_or_default(),
        publish_add: ports.map(|(port, list)| (port, create::bindings(list))).collect(),
        publish_remove: wanted.publish_rm.unwrap_or_default(),
        now: wanted.now,
    }
}

/// The body has the members of `HostConfig` that are limits, and `RestartPolicy`; what is absent stays.
/// `Change` is ours.
pub async fn update(State(engine): State<Engine>, Target(id): Target, request: Request<Body>) -> ApiResult {
    let container = engine.container(&id)?;
    let body = request::json_bytes(request).await?;
    let (wanted, ours) = match body.is_empty() {
        true => (HostConfig::default(), UpdateChange::default()),
        false => (agent_api::json::from_slice(&body)?, agent_api::json::from_slice(&body)?),
    };
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
                change: ours.change.map(change).unwrap_or_default(),
            },
        )
        .await?;
    Ok(reply::ok(&UpdateResponse {
        // Go's nil list.
        warnings: Some(warnings).filter(|list| !list.is_empty()),
    }))
}
