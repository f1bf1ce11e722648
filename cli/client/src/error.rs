//! What can go wrong between a client and a daemon. A daemon's refusal keeps its HTTP status and its own words, because
//! exit codes and retries are decided by them.

use std::io;
use std::path::PathBuf;

use http::StatusCode;

/// Result of a client call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The daemon answered, and refused. The words are the daemon's.
    #[error("Error response from daemon: {message}")]
    Api { status: StatusCode, message: String },
    /// Nobody answers at the address.
    #[error("cannot connect to the daemon at {host}; is it running?")]
    Connect { host: String, source: io::Error },
    /// The socket exists, but this user may not open it.
    #[error(
        "permission denied while connecting to the daemon at {host}; use an account that may open it, or add yours to the socket's group"
    )]
    Denied { host: String, source: io::Error },
    #[error("invalid host {host:?}: {reason}")]
    Host { host: String, reason: String },
    #[error("cannot use the TLS files for {host}: {reason} ({path})", path = path.display())]
    Tls {
        host: String,
        path: PathBuf,
        reason: String,
    },
    /// The connection broke while a call was under way.
    #[error("the connection to the daemon at {host} broke while {doing}")]
    Broken {
        host: String,
        doing: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The daemon's answer is not what the API says.
    #[error("the daemon sent an answer to {doing} that this client does not understand: {reason}")]
    Answer { doing: String, reason: String },
    /// A stream (pull, load, …) reported a failure after its 200.
    #[error("{message}")]
    Stream { code: Option<i64>, message: String },
    #[error("the daemon speaks API versions {daemon_min} to {daemon_max}, this client {client_min} to {client_max}")]
    Version {
        daemon_min: String,
        daemon_max: String,
        client_min: String,
        client_max: String,
    },
    #[error("{0} is not a name that can be sent to the daemon")]
    Name(String),
    #[error("cannot read the data to send")]
    Input(#[source] io::Error),
}

impl Error {
    /// The HTTP status of the daemon's refusal, if that is what this is.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Error::Api { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The daemon's words without the prefix.
    pub fn message(&self) -> String {
        match self {
            Error::Api { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.status() == Some(StatusCode::NOT_FOUND)
    }

    pub fn is_conflict(&self) -> bool {
        self.status() == Some(StatusCode::CONFLICT)
    }

    /// No daemon could be reached at all (so trying another object is pointless).
    pub fn is_connect(&self) -> bool {
        matches!(
            self,
            Error::Connect { .. } | Error::Denied { .. } | Error::Host { .. } | Error::Tls { .. }
        )
    }
}
