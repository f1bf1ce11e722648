//! Paths of the API that this daemon does not serve yet: a clear answer that names each, instead of "page not found". Where
//! "there are none" is the whole truth, that is the answer, so that `system prune` and the like work.

use agent_api::network::NetworksPruned;
use agent_api::system::CachePruned;
use agent_engine::Engine;
use axum::Router;
use axum::response::Response;
use axum::routing::{MethodRouter, any, delete, get, post, put};

use crate::error::{ApiError, ApiResult};
use crate::reply;
use crate::request::Query;

/// A route that answers 501 with the name of what is missing.
macro_rules! missing {
    ($method:ident, $what:literal) => {
        $method(|| async { ApiError::unsupported($what) })
    };
}

/// A route of the swarm: 503, as from every daemon outside of one.
fn swarm() -> MethodRouter<Engine> {
    any(|| async { ApiError::not_a_manager() })
}

pub fn routes(router: Router<Engine>) -> Router<Engine> {
    router
        .route("/containers/{id}/checkpoints", missing!(any, "checkpointing"))
        .route(
            "/containers/{id}/checkpoints/{checkpoint}",
            missing!(delete, "checkpointing"),
        )
        .route("/build", missing!(post, "building images"))
        .route("/build/prune", post(nothing_cached))
        .route("/build/cancel", missing!(post, "building images"))
        .route("/grpc", missing!(post, "BuildKit"))
        .route("/session", missing!(post, "BuildKit sessions"))
        .route(
            "/distribution/{*name}",
            missing!(get, "inspecting an image at its registry"),
        )
        .route("/networks/create", missing!(post, "creating networks"))
        .route("/networks/prune", post(no_networks))
        .route(
            "/networks/{id}/connect",
            missing!(post, "connecting a container to a further network"),
        )
        .route(
            "/networks/{id}/disconnect",
            missing!(post, "disconnecting a container from a network"),
        )
        .route("/plugins", get(no_plugins))
        .route("/plugins/{*name}", missing!(any, "managing plugins"))
        .route("/volumes/{name}", missing!(put, "updating cluster volumes"))
        .route("/swarm", swarm())
        .route("/swarm/{*action}", missing_swarm_action())
        .route("/nodes", swarm())
        .route("/nodes/{*rest}", swarm())
        .route("/services", swarm())
        .route("/services/{*rest}", swarm())
        .route("/tasks", swarm())
        .route("/tasks/{*rest}", swarm())
        .route("/secrets", swarm())
        .route("/secrets/{*rest}", swarm())
        .route("/configs", swarm())
        .route("/configs/{*rest}", swarm())
}

/// What `GET /plugins` can be asked to leave out.
pub const PLUGIN_KEYS: [&str; 2] = ["capability", "enable"];

/// There are no plugins, and saying so is the whole truth, whatever is left out of them.
async fn no_plugins(query: Query) -> ApiResult {
    let filters = query.filters()?;
    filters.only(&PLUGIN_KEYS)?;
    filters.flag("enable")?;
    Ok(reply::ok(&serde_json::json!([])))
}

/// The default networks cannot be removed, and there are no others.
async fn no_networks() -> Response {
    reply::ok(&NetworksPruned::default())
}

/// Nothing builds, so nothing is cached.
async fn nothing_cached() -> Response {
    reply::ok(&CachePruned::default())
}

/// Making or joining a swarm is what is missing; the rest of `/swarm` asks for one that is not there.
fn missing_swarm_action() -> MethodRouter<Engine> {
    any(|uri: http::Uri| async move {
        match uri.path() {
            "/swarm/init" | "/swarm/join" => ApiError::unsupported("swarm mode"),
            _ => ApiError::not_a_manager(),
        }
    })
}
