//! The routes, and one file per resource.

pub(crate) mod absent;
mod attach;
mod check;
mod commit;
mod containers;
mod copy;
mod create;
mod definition;
mod device_limits;
mod events;
mod exec;
mod images;
mod images_stream;
mod inspect;
mod logs;
mod networks;
mod platforms;
mod refused;
mod registries;
mod registry_info;
mod stats;
mod system;
mod units;
mod update;
mod volume_copies;
mod volumes;

use agent_engine::Engine;
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};

use crate::error::ApiError;

/// Every route that is served. Unknown paths and known paths with another method are both 404, as with dockerd.
pub fn router(engine: Engine) -> Router {
    let router = Router::new()
        .route("/_ping", get(system::ping))
        .route("/version", get(system::version))
        .route("/info", get(system::info))
        .route("/openapi.json", get(definition::document))
        .route("/events", get(events::events))
        .route("/system/df", get(system::disk_usage))
        .route("/system/check", get(check::look).post(check::repair))
        .route("/containers/json", get(containers::list))
        .route("/containers/create", post(create::create))
        .route("/containers/prune", post(containers::prune))
        .route("/containers/{id}", delete(containers::remove))
        .route("/containers/{id}/{alias}", delete(containers::remove_link))
        .route("/containers/{id}/json", get(inspect::inspect))
        .route("/containers/{id}/start", post(containers::start))
        .route("/containers/{id}/stop", post(containers::stop))
        .route("/containers/{id}/restart", post(containers::restart))
        .route("/containers/{id}/kill", post(containers::kill))
        .route("/containers/{id}/rename", post(containers::rename))
        .route("/containers/{id}/pause", post(containers::pause))
        .route("/containers/{id}/unpause", post(containers::unpause))
        .route("/containers/{id}/update", post(update::update))
        .route("/containers/{id}/wait", post(containers::wait))
        .route("/containers/{id}/resize", post(attach::resize))
        .route("/containers/{id}/attach", post(attach::attach))
        .route("/containers/{id}/attach/ws", get(attach::websocket))
        .route("/containers/{id}/logs", get(logs::logs))
        .route("/containers/{id}/stats", get(stats::stats))
        .route("/containers/{id}/top", get(stats::top))
        .route("/containers/{id}/export", get(containers::export))
        .route(
            "/containers/{id}/archive",
            get(copy::get).head(copy::head).put(copy::put),
        )
        .route("/containers/{id}/changes", get(copy::changes))
        .route("/commit", post(commit::commit))
        .route("/containers/{id}/exec", post(exec::create))
        .route("/exec/{id}/start", post(exec::start))
        .route("/exec/{id}/resize", post(exec::resize))
        .route("/exec/{id}/json", get(exec::inspect))
        .route("/images/json", get(images::list))
        .route("/images/create", post(images_stream::create))
        .route("/images/load", post(images_stream::load))
        .route("/images/get", get(images_stream::save_several))
        .route("/images/prune", post(images::prune))
        .route("/images/search", get(registries::search))
        .route("/auth", post(registries::auth))
        // Names of images have slashes: what follows the name is taken off by the handler.
        .route(
            "/images/{*name}",
            get(images::get).post(images::post).delete(images::delete),
        )
        .route("/volumes", get(volumes::list))
        .route("/volumes/create", post(volumes::create))
        .route("/volumes/prune", post(volumes::prune))
        .route("/volumes/{name}", get(volumes::inspect).delete(volumes::remove))
        .route("/volumes/{name}/export", get(volume_copies::export))
        .route("/volumes/{name}/import", post(volume_copies::import))
        .route("/volumes/{name}/clone", post(volume_copies::duplicate))
        .route("/volumes/{name}/rename", post(volume_copies::rename))
        .route("/networks", get(networks::list))
        .route("/networks/", get(networks::list))
        .route("/networks/{id}", get(networks::inspect).delete(networks::remove));
    absent::routes(router)
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .with_state(engine)
}

async fn not_found() -> Response {
    ApiError::page_not_found().into_response()
}
