//! What stands before the router: the version prefix, answers to OPTIONS, and the headers that every answer has.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;

use agent_api::API_VERSION;
use agent_engine::Engine;
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use hyper::body::Incoming;
use tower_service::Service;

use crate::error::ApiError;
use crate::peer::Peer;
use crate::version::{self, ApiVersion};
use crate::{reply, resources, unread};

/// `Docker/<version> (<os>)`: clients read the system out of the brackets.
const SERVER: &str = concat!("Docker/", env!("CARGO_PKG_VERSION"), " (linux)");

/// One engine's API; cheap to clone, one clone per connection.
#[derive(Clone, Debug)]
pub struct Api {
    router: Router,
    peer: Peer,
}

impl Api {
    pub fn new(engine: Engine) -> Api {
        Api {
            router: resources::router(engine),
            peer: Peer::default(),
        }
    }

    /// The API for one connection.
    pub fn with_peer(&self, peer: Peer) -> Api {
        Api { peer, ..self.clone() }
    }

    async fn answer(mut self, request: Request<Incoming>) -> Response {
        let mut request = unread::read_to_the_end(request);
        request.extensions_mut().insert(self.peer.clone());
        tracing::debug!(method = %request.method(), path = request.uri().path(), "request");
        let routed = match route(&mut request) {
            Err(error) => error.into_response(),
            Ok(()) if request.method() == Method::OPTIONS => reply::empty(StatusCode::OK),
            Ok(()) => match self.router.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
        };
        with_headers(routed)
    }
}

/// Takes the version off the path and puts it into the request's extensions.
fn route(request: &mut Request<Body>) -> Result<(), ApiError> {
    let (version, rest) = version::split(request.uri().path());
    let Some(version) = version else { return Ok(()) };
    let version = version.check()?;
    let rest = match request.uri().query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    // A piece of a legal URI after a slash is one.
    let path = PathAndQuery::try_from(rest).map_err(|_| ApiError::page_not_found())?;
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(path);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| ApiError::page_not_found())?;
    request.extensions_mut().insert::<ApiVersion>(version);
    Ok(())
}

fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (
            HeaderName::from_static("api-version"),
            HeaderValue::from_static(API_VERSION),
        ),
        (
            HeaderName::from_static("docker-experimental"),
            HeaderValue::from_static("false"),
        ),
        (HeaderName::from_static("ostype"), HeaderValue::from_static("linux")),
        (http::header::SERVER, HeaderValue::from_static(SERVER)),
    ] {
        headers.insert(name, value);
    }
    response
}

impl hyper::service::Service<Request<Incoming>> for Api {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move { Ok(api.answer(request).await) })
    }
}
