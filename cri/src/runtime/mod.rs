//! The runtime service.

mod config;
mod status;
mod version;

use agent_engine::Engine;
use tonic::{Request, Response, Status};

use cri_api as api;
use cri_api::runtime_service_server::RuntimeService;

pub struct Runtime {
    engine: Engine,
}

impl Runtime {
    pub fn new(engine: Engine) -> Runtime {
        Runtime { engine }
    }
}

#[tonic::async_trait]
impl RuntimeService for Runtime {
    async fn version(&self, _: Request<api::VersionRequest>) -> Result<Response<api::VersionResponse>, Status> {
        Ok(Response::new(version::version()))
    }

    async fn status(&self, request: Request<api::StatusRequest>) -> Result<Response<api::StatusResponse>, Status> {
        Ok(Response::new(status::status(&self.engine, request.get_ref().verbose)))
    }

    async fn runtime_config(
        &self,
        _: Request<api::RuntimeConfigRequest>,
    ) -> Result<Response<api::RuntimeConfigResponse>, Status> {
        Ok(Response::new(config::of_the_node(&self.engine)))
    }
}
