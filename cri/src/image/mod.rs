//! The image service: the node's one store, as a kubelet sees it.

mod credentials;
mod fs_info;
mod list;
mod pull;
mod remove;
mod shown;
mod status;

use agent_engine::Engine;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use cri_api as api;
use cri_api::image_service_server::ImageService;

pub struct Images {
    engine: Engine,
}

impl Images {
    pub fn new(engine: Engine) -> Images {
        Images { engine }
    }
}

/// The name in a request.
///
/// # Errors
/// `InvalidArgument` where there is none.
fn named(spec: Option<&api::ImageSpec>) -> Result<&str, Status> {
    match spec.map(|spec| spec.image.as_str()) {
        Some(name) if !name.is_empty() => Ok(name),
        _ => Err(Status::invalid_argument("image: no image is named")),
    }
}

#[tonic::async_trait]
impl ImageService for Images {
    async fn list_images(
        &self,
        request: Request<api::ListImagesRequest>,
    ) -> Result<Response<api::ListImagesResponse>, Status> {
        let images = list::images(&self.engine, request.into_inner().filter)?;
        Ok(Response::new(api::ListImagesResponse { images }))
    }

    async fn stream_images(
        &self,
        request: Request<api::StreamImagesRequest>,
    ) -> Result<Response<BoxStream<api::StreamImagesResponse>>, Status> {
        let images = list::images(&self.engine, request.into_inner().filter)?;
        let batches = list::batches(images).map(|images| Ok(api::StreamImagesResponse { images }));
        Ok(Response::new(Box::pin(tokio_stream::iter(batches.collect::<Vec<_>>()))))
    }

    async fn image_status(
        &self,
        request: Request<api::ImageStatusRequest>,
    ) -> Result<Response<api::ImageStatusResponse>, Status> {
        status::status(&self.engine, request.get_ref()).map(Response::new)
    }

    async fn pull_image(
        &self,
        request: Request<api::PullImageRequest>,
    ) -> Result<Response<api::PullImageResponse>, Status> {
        pull::pull(&self.engine, request.into_inner()).await.map(Response::new)
    }

    async fn remove_image(
        &self,
        request: Request<api::RemoveImageRequest>,
    ) -> Result<Response<api::RemoveImageResponse>, Status> {
        remove::remove(&self.engine, request.get_ref()).await.map(Response::new)
    }

    async fn image_fs_info(
        &self,
        _: Request<api::ImageFsInfoRequest>,
    ) -> Result<Response<api::ImageFsInfoResponse>, Status> {
        Ok(Response::new(fs_info::of(&self.engine)))
    }
}
