//! Volumes.

use agent_api::volume::{PruneReport, Volume as WireVolume, VolumeCreate, VolumeList};
use agent_engine::Engine;
use agent_engine::volumes::{Volume, VolumeRequest};
use axum::body::Body;
use axum::extract::State;
use http::{Request, StatusCode};

use super::inspect::seconds;
use crate::error::{ApiError, ApiResult};
use crate::reply;
use crate::request::{self, Query, Target};
use crate::version::ApiVersion;

pub fn wire(engine: &Engine, volume: &Volume) -> WireVolume {
    WireVolume {
        created_at: seconds(volume.created),
        driver: "local".to_owned(),
        labels: Some(volume.labels.clone()).filter(|map| !map.is_empty()),
        mountpoint: engine.volumes().mountpoint(&volume.name).display().to_string(),
        name: volume.name.clone(),
        options: Some(volume.options.clone()).filter(|map| !map.is_empty()),
        scope: "local".to_owned(),
        status: None,
        usage_data: None,
    }
}

pub async fn list(State(engine): State<Engine>, query: Query) -> ApiResult {
    let filters = query.filters()?;
    filters.only(&["dangling", "driver", "label", "name"])?;
    let (dangling, names) = (filters.flag("dangling")?, filters.names());
    let volumes = engine.volumes().all();
    let wanted = volumes.iter().filter(|volume| {
        dangling.is_none_or(|wanted| wanted == engine.volume_users(&volume.name).is_empty())
            && filters.any("driver", |driver| driver == "local")
            && names.fit(&volume.name)
            && filters.labels(&volume.labels)
    });
    Ok(reply::ok(&VolumeList {
        volumes: wanted.map(|volume| wire(&engine, volume)).collect(),
        warnings: None,
    }))
}

pub async fn create(State(engine): State<Engine>, request: Request<Body>) -> ApiResult {
    let wanted: VolumeCreate = request::json(request).await?;
    if wanted.cluster_volume_spec.is_some() {
        return Err(ApiError::unsupported("ClusterVolumeSpec"));
    }
    let volume = engine
        .create_volume(VolumeRequest {
            name: wanted.name,
            driver: wanted.driver,
            options: wanted.driver_opts.unwrap_or_default(),
            labels: wanted.labels.unwrap_or_default(),
        })
        .await?;
    Ok(reply::json(StatusCode::CREATED, &wire(&engine, &volume)))
}

pub async fn inspect(State(engine): State<Engine>, Target(name): Target) -> ApiResult {
    Ok(reply::ok(&wire(&engine, &engine.volumes().get(&name)?)))
}

pub async fn remove(State(engine): State<Engine>, Target(name): Target, query: Query) -> ApiResult {
    engine.remove_volume(&name, query.flag("force")).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub async fn prune(State(engine): State<Engine>, version: ApiVersion, query: Query) -> ApiResult {
    let filters = query.filters()?;
    filters.only(&["label", "label!", "all"])?;
    // Before 1.42 named volumes went as well.
    let all = filters.flag("all")?.unwrap_or(!version.since(42));
    let (deleted, space_reclaimed) = engine
        .prune_volumes(all, move |volume| filters.labels(&volume.labels))
        .await?;
    let volumes_deleted = Some(deleted).filter(|list| !list.is_empty());
    Ok(reply::ok(&PruneReport {
        volumes_deleted,
        space_reclaimed,
    }))
}
