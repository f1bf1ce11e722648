//! `RemoveImage`: with all of its names; one that is not there is removed already.

use agent_engine::Engine;
use tonic::Status;

use super::named;
use crate::error::status;
use cri_api::{RemoveImageRequest, RemoveImageResponse};

pub async fn remove(engine: &Engine, request: &RemoveImageRequest) -> Result<RemoveImageResponse, Status> {
    let name = named(request.image.as_ref())?;
    engine.remove_image_for_pods(name).await.map_err(status)?;
    Ok(RemoveImageResponse {})
}
