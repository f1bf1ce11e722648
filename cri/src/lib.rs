//! The Kubernetes Container Runtime Interface, v1: a kubelet uses the node through it.
//!
//! ```text
//! unix socket ─► gRPC ─► runtime/*.rs, image/*.rs: one file for each call ─► engine
//! ```
//!
//! Nothing is kept here: containers and images are the engine's, and the same that the REST API shows. The definition in
//! `api/proto/` has the messages and numbers of Kubernetes 1.37. Served today are the image service whole, and of the runtime
//! service `Version`, `Status` and `RuntimeConfig`; every other call answers `Unimplemented`, and `Status` tells that no pod
//! can be run yet.
#![forbid(unsafe_code)]

mod error;
mod image;
mod runtime;

use std::time::Duration;

use agent_engine::Engine;
use cri_api as api;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

/// Bytes of the largest message either way: what a kubelet takes.
pub const LARGEST_MESSAGE: usize = 16 << 20;

/// The only version of the API that kubelets speak (`VersionResponse.version` is another number, of a protocol long ago).
pub const API_VERSION: &str = "v1";

/// Serves until it is stopped.
pub struct Server {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    /// Begins to serve on a socket that listens.
    pub fn start(engine: Engine, listener: UnixListener) -> Server {
        let stop = CancellationToken::new();
        let images = api::image_service_server::ImageServiceServer::new(image::Images::new(engine.clone()))
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        let runtime = api::runtime_service_server::RuntimeServiceServer::new(runtime::Runtime::new(engine))
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        let routes = tonic::transport::Server::builder()
            .add_service(runtime)
            .add_service(images);
        let asked = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            let served = routes.serve_with_incoming_shutdown(UnixListenerStream::new(listener), asked);
            if let Err(error) = served.await {
                tracing::error!(%error, "the socket for kubelets is not served any more");
            }
        });
        Server { stop, task }
    }

    /// Takes no more connections, and waits for calls that run, for as long as `grace`: a watch has no end of its own.
    pub async fn stop(mut self, grace: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(grace, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}
