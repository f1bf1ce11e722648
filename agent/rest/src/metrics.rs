//! `GET /metrics` on an address of its own, for monitoring: loopback only, for it asks nobody who they are.

use std::net::SocketAddr;

use agent_engine::Engine;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header;
use tokio::net::TcpListener;

use crate::listen::Error;

/// What the answer is written in.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A socket that is open and not served yet.
#[derive(Debug)]
pub struct Metrics(TcpListener);

impl Metrics {
    /// Listens on `HOST:PORT`.
    ///
    /// # Errors
    /// When it is not an address of this machine's loopback, or cannot be listened on.
    pub async fn open(place: &str) -> Result<Metrics, Error> {
        let wrong = |source| Error::Metrics {
            place: place.to_owned(),
            source,
        };
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(place).await.map_err(wrong)?.collect();
        if addresses.is_empty() || !addresses.iter().all(|address| address.ip().is_loopback()) {
            return Err(Error::OpenMetrics(place.to_owned()));
        }
        let listener = TcpListener::bind(&*addresses).await.map_err(wrong)?;
        Ok(Metrics(listener))
    }

    /// Serves it until the engine shuts down.
    pub async fn serve(self, engine: Engine) {
        let stop = engine.shutdown_token();
        let router = axum::Router::new().route("/metrics", get(page)).with_state(engine);
        let served = axum::serve(self.0, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::warn!(%error, "metrics are not served any more");
        }
    }
}

async fn page(State(engine): State<Engine>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], engine.metrics())
}
