//! The one place where failures become HTTP answers: engine error kind → status, text → `{"message": …}`.

use agent_api::ErrorResponse;
use agent_engine::{Error, Kind};
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::reply;

pub type ApiResult<T = Response> = Result<T, ApiError>;

/// A refusal or failure on its way to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub status: StatusCode,
    pub message: String,
}

/// dockerd's answer wherever a swarm is asked for and there is none.
pub const NOT_A_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";

impl ApiError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError {
            status,
            message: message.into(),
        }
    }

    /// 400.
    pub fn bad(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404 for a path or method that nobody serves.
    pub fn page_not_found() -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "page not found")
    }

    /// 501 for what the API has and this daemon has not, by its name.
    pub fn unsupported(what: impl std::fmt::Display) -> ApiError {
        ApiError::new(
            StatusCode::NOT_IMPLEMENTED,
            format!("{what} is not supported by this version of iEchor"),
        )
    }

    /// 503 outside of a swarm.
    pub fn not_a_manager() -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, NOT_A_MANAGER)
    }
}

/// Status of a kind of failure; total, so that a new kind is a decision.
pub fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::InvalidArgument => StatusCode::BAD_REQUEST,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> ApiError {
        let (status, message) = (status(error.kind()), error.chain());
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = %message, "a request failed");
        }
        ApiError { status, message }
    }
}

impl From<agent_api::json::Error> for ApiError {
    fn from(error: agent_api::json::Error) -> ApiError {
        ApiError::bad(error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        reply::json(self.status, &ErrorResponse { message: self.message })
    }
}
