//! The Kubernetes CRI, through its socket, beside the REST API of the same daemon.

mod images;
mod node;

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use cri_api::image_service_client::ImageServiceClient;
use cri_api::runtime_service_client::RuntimeServiceClient;
use harness::Test;
use harness::daemon::{Daemon, Options};
use harness::image::Image;
use harness::registry::Registry;
use harness::tools::Folder;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

pub fn tests() -> Vec<Test<Node>> {
    let mut tests = node::tests();
    tests.extend(images::tests());
    tests
}

/// A daemon that serves kubelets too, and a registry.
pub struct Node {
    daemon: Daemon,
    registry: Registry,
    /// Carries the calls.
    runtime: Runtime,
    channel: Channel,
    socket: String,
    _folder: Folder,
}

/// No call here takes that long.
const DEADLINE: Duration = Duration::from_secs(60);

impl Node {
    pub fn start() -> Node {
        let folder = Folder::new("cri");
        let socket = folder.at("cri.sock");
        let daemon = Daemon::start(Options {
            arguments: vec!["--cri-socket".to_owned(), socket.clone()],
            ..Options::default()
        });
        daemon.load(&Image::busybox(), "busybox:latest");
        let mode = std::fs::metadata(&socket).expect("the socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let runtime = Runtime::new().expect("threads");
        let channel = {
            let _within = runtime.enter();
            connect(&socket)
        };
        Node {
            daemon,
            registry: Registry::start(),
            runtime,
            channel,
            socket,
            _folder: folder,
        }
    }

    pub fn finish(self) {
        self.daemon.finish();
        assert!(
            !std::path::Path::new(&self.socket).exists(),
            "the socket goes with the daemon"
        );
    }

    /// A name in the registry.
    fn name(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.registry.address)
    }

    fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone())
    }

    fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone())
    }

    fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        let within = async { tokio::time::timeout(DEADLINE, call).await };
        self.runtime.block_on(within).expect("an answer in time")
    }

    /// The answer of a call.
    #[track_caller]
    fn ok<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> T {
        self.wait(call).expect("success").into_inner()
    }

    /// Code and message of a call that fails.
    #[track_caller]
    fn failed<T: std::fmt::Debug>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> (Code, String) {
        let status = self.wait(call).expect_err("a failure");
        (status.code(), status.message().to_owned())
    }
}

/// Connects with the first call, and again when the daemon has gone and come.
fn connect(socket: &str) -> Channel {
    Endpoint::from_shared(format!("unix://{socket}"))
        .expect("an address")
        .connect_lazy()
}
