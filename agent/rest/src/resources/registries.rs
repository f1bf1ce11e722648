//! Registries: logins and searches.

use agent_api::auth::{AuthConfig, AuthResponse, REGISTRY_AUTH};
use agent_api::image::SearchResult;
use agent_engine::Engine;
use agent_engine::view::Credentials;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, Request};

use crate::error::{ApiError, ApiResult};
use crate::reply;
use crate::request::{self, Query};

/// A header that cannot be read counts as no login, as with dockerd; the registry will say what it thinks of that.
pub fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    let header = headers.get(REGISTRY_AUTH)?.to_str().ok()?;
    AuthConfig::decode(header)?;
    Credentials::from_header(header)
        .ok()
        .flatten()
        .filter(|credentials| !credentials.is_empty())
}

/// `POST /auth`.
pub async fn auth(State(engine): State<Engine>, request: Request<Body>) -> ApiResult {
    let wanted: AuthConfig = request::json(request).await?;
    let server = wanted.serveraddress.clone();
    let read = Credentials::from_header(&wanted.encode()).map_err(|error| ApiError::bad(error.to_string()))?;
    let mut credentials = read.unwrap_or_default();
    credentials.server = Some(server).filter(|server| !server.is_empty());
    engine.login(credentials).await?;
    Ok(reply::ok(&AuthResponse {
        status: "Login Succeeded".to_owned(),
        ..AuthResponse::default()
    }))
}

/// `GET /images/search`.
pub async fn search(State(engine): State<Engine>, query: Query, headers: HeaderMap) -> ApiResult {
    let found = engine
        .search(
            query.get("term"),
            query.number("limit")?,
            &query.filters()?,
            credentials(&headers),
        )
        .await?;
    let rows: Vec<SearchResult> = found
        .into_iter()
        .map(|one| SearchResult {
            star_count: one.star_count,
            is_official: one.is_official,
            name: one.name,
            is_automated: false,
            description: one.description,
        })
        .collect();
    Ok(reply::ok(&rows))
}
