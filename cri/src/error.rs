//! The one place where failures become gRPC codes.

use agent_engine::{Error, Kind};
use tonic::{Code, Status};

/// Code of a kind of failure; total, so that a new kind is a decision.
fn code(kind: Kind) -> Code {
    match kind {
        Kind::NotFound => Code::NotFound,
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::Conflict => Code::FailedPrecondition,
        Kind::Unauthorized => Code::Unauthenticated,
        Kind::Forbidden => Code::PermissionDenied,
        Kind::Unavailable => Code::Unavailable,
        Kind::NotImplemented => Code::Unimplemented,
        Kind::Internal => Code::Internal,
    }
}

/// What a client is told.
pub fn status(error: Error) -> Status {
    let (code, message) = (code(error.kind()), error.chain());
    if code == Code::Internal {
        tracing::error!(error = %message, "a call of a kubelet failed");
    }
    Status::new(code, message)
}
