//! `GET /openapi.json`, an extension: what this daemon serves, for generators of clients and for people.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;

use crate::reply;

/// Made of the wire types and the table of operations; a test beside them holds it to both.
const DOCUMENT: &str = include_str!("../../../../docs/openapi.json");

pub async fn document() -> Response {
    reply::with_type(StatusCode::OK, reply::JSON, Body::from(DOCUMENT))
}
