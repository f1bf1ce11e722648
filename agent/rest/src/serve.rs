//! The accept loops and connections, and how they end.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use agent_engine::Engine;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::listen::{Listener, Listeners, Socket};
use crate::peer::Peer;
use crate::service::Api;

/// How long a client may take to send the head of a request. It counts between two requests too, and clients keep connections
/// for minutes: closed under them, the next request of one that does not look first fails. Docker's time for the head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Rest after an accept that failed for want of file descriptors or memory, so that the loop does not spin.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// The API on its listeners.
#[derive(Debug)]
pub struct Server {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    /// Begins to serve `engine` on every listener.
    pub fn start(engine: Engine, listeners: Listeners) -> Server {
        let api = Api::new(engine);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        for listener in listeners.into_list() {
            tasks.spawn(accept(listener, api.clone(), tasks.clone(), stop.clone()));
        }
        Server { tasks, stop }
    }

    /// Stops accepting, lets requests that are under way end within `grace`, then cuts the rest off. Hijacked sessions
    /// and endless streams are cut at once by the engine's own shutdown.
    pub async fn stop(self, grace: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            warn!(?grace, "connections cut off");
        }
    }
}

async fn accept(listener: Listener, api: Api, tasks: TaskTracker, stop: CancellationToken) {
    loop {
        let socket = tokio::select! {
            socket = listener.accept() => socket,
            () = stop.cancelled() => return,
        };
        let (api, stop) = (api.clone(), stop.clone());
        match socket {
            Ok(Socket::Unix(stream)) => {
                let api = api.with_peer(Peer::unix(stream.as_fd()));
                drop(tasks.spawn(serve(stream, api, stop)));
            }
            Ok(Socket::Tcp(stream)) => {
                let api = api.with_peer(Peer::tcp(stream.as_fd()));
                drop(tasks.spawn(serve(stream, api, stop)));
            }
            Ok(Socket::Tls(stream, acceptor)) => drop(tasks.spawn(async move {
                let api = api.with_peer(Peer::tcp(stream.as_fd()));
                match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => serve(stream, api, stop).await,
                    Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
                    Err(_) => debug!("a TLS handshake took too long"),
                }
            })),
            // A client that went away before it was accepted is nothing; running out of descriptors passes.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

/// Bytes that are read of a connection at once, and the longest head of a request. Larger blocks the allocator has from the
/// kernel each time and gives back: of an archive copied in, more time went into those pages than into the bytes.
const READ_AT_ONCE: usize = 60 * 1024;

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        // A client that hijacks closes its writing side at the end of stdin and reads on.
        .half_close(true)
        // As Go writes them: `Api-Version`, not `api-version`. Some scripts look for that.
        .title_case_headers(true)
        .max_buf_size(READ_AT_ONCE)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    builder
}

/// One connection to its end; when the server stops, the request that is under way is still answered.
async fn serve<S>(stream: S, api: Api, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let builder = builder();
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), api);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients come and go; what they break off is their affair.
        debug!(%error, "a connection ended");
    }
}
