//! `PullImage`. There is no progress in this API, and no deadline: a registry that sends nothing for too long ends the pull.

use agent_engine::Engine;
use tonic::Status;

use super::{credentials, named};
use crate::error::status;
use cri_api::{PullImageRequest, PullImageResponse};

pub async fn pull(engine: &Engine, request: PullImageRequest) -> Result<PullImageResponse, Status> {
    let reference = engine.reference(named(request.image.as_ref())?).map_err(status)?;
    let credentials = request.auth.map(credentials::read).transpose()?.flatten();
    let image = engine.pull_for_pod(reference, credentials).await.map_err(status)?;
    Ok(PullImageResponse {
        image_ref: image.id.to_string(),
    })
}
