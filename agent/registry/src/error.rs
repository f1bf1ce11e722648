//! Everything that can go wrong with a registry, in the words that Docker's users and scripts know.
//!
//! | variant | words (shortened) | [`Kind`] |
//! | --- | --- | --- |
//! | `Reference` | `invalid reference format`, … | `InvalidReference` |
//! | `Config` | `invalid registry setting …` | `InvalidReference` |
//! | `ManifestUnknown` | `manifest for busybox:2 not found: manifest unknown: …` | `NotFound` |
//! | `RepositoryUnknown` | `repository busybox not found: name unknown: …` | `NotFound` |
//! | `BlobUnknown` | `blob unknown: …` | `NotFound` |
//! | `Denied` | `pull access denied for x/y, repository does not exist or may require 'docker login': denied: …` | `Denied` |
//! | `Unauthorized` | `unauthorized: authentication required` | `Unauthorized` |
//! | `NoCredentials` | `Get "https://…": no basic auth credentials` | `Unauthorized` |
//! | `TooManyRequests` | `toomanyrequests: …` | `TooManyRequests` |
//! | `Refused` | `<code>: <message>` | by status |
//! | `Status` | `received unexpected HTTP status: 500 Internal Server Error` | `Unavailable` |
//! | `Unreachable` | `Get "https://…": dial tcp 127.0.0.1:5000: connect: connection refused` | `Unavailable` |
//! | `Interrupted`, `Stalled` | `Get "https://…": …` | `Unavailable` |
//! | `Protocol` | `Get "https://…": …` | `Corrupt` |
//! | `Manifest` | `cannot use busybox:1 …` | `Unsupported` |
//! | `NoPlatform` | `no matching manifest for linux/arm64 in the manifest list entries …` | `NotFound` |
//! | `BadDigest` | `filesystem layer verification failed for digest sha256:…` | `Corrupt` |
//! | `BadSize` | `… has the wrong size` | `Corrupt` |
//! | `TooLarge` | `… is larger than …` | `Corrupt` |
//! | `Address` | `cannot download from this address: …` | `InvalidReference` |
//! | `Download` | `failed to GET http://… with status 404 Not Found: …` | by status |

use std::time::Duration;

use crate::connect::ConnectError;
use crate::digest::Digest;
use crate::manifest::ManifestError;
use crate::platform::Platform;
use crate::reference::ReferenceError;

/// Result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure, for status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A name or a setting that cannot be.
    InvalidReference,
    /// No such repository, tag, digest or platform.
    NotFound,
    /// The registry hides it: absent, or not for these credentials. Docker's daemon answers 404.
    Denied,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// The registry asks to slow down.
    TooManyRequests,
    /// The registry cannot be reached or does not work at present.
    Unavailable,
    /// What came is not what was promised.
    Corrupt,
    /// It is there and well, but not something that can be run.
    Unsupported,
}

/// A failure of a registry request.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A malformed image name.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A setting that cannot be used.
    #[error("invalid registry setting {setting}: {why}")]
    Config {
        /// Which, with its value.
        setting: String,
        /// Why.
        why: String,
    },
    /// No such tag or digest.
    #[error("manifest for {reference} not found: manifest unknown: {message}")]
    ManifestUnknown {
        /// The familiar form of what was asked for.
        reference: String,
        /// From the registry.
        message: String,
    },
    /// No such repository.
    #[error("repository {name} not found: name unknown: {message}")]
    RepositoryUnknown {
        /// The familiar name.
        name: String,
        /// From the registry.
        message: String,
    },
    /// The registry's manifest names content that the registry does not have.
    #[error("blob unknown: {digest} of {name} is not in the registry; the image is incomplete there")]
    BlobUnknown {
        /// The familiar name.
        name: String,
        /// What is missing.
        digest: Digest,
    },
    /// Absent or private: registries do not tell which.
    #[error(
        "pull access denied for {name}, repository does not exist or may require 'docker login': denied: {message}"
    )]
    Denied {
        /// The familiar name.
        name: String,
        /// From the registry.
        message: String,
    },
    /// Wrong credentials, or none where some are needed.
    #[error("unauthorized: {message}")]
    Unauthorized {
        /// From the registry.
        message: String,
    },
    /// The registry wants a user and a password and there are none.
    #[error("{request}: no basic auth credentials")]
    NoCredentials {
        /// Method and address.
        request: String,
    },
    /// Rate limit.
    #[error("toomanyrequests: {message}")]
    TooManyRequests {
        /// From the registry.
        message: String,
        /// When to come again, if it said so.
        retry_after: Option<Duration>,
    },
    /// Another answer with a code of the distribution specification.
    #[error("{code}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// In lower case, with spaces, as Docker prints it.
        code: String,
        /// From the registry.
        message: String,
    },
    /// An HTTP status without a reason that can be understood.
    #[error("{request}: received unexpected HTTP status: {status} {reason}")]
    Status {
        /// Method and address.
        request: String,
        /// HTTP status.
        status: u16,
        /// The usual words for it.
        reason: &'static str,
        /// When to come again, if it said so.
        retry_after: Option<Duration>,
    },
    /// No connection.
    #[error("{request}: {why}")]
    Unreachable {
        /// Method and address.
        request: String,
        /// At which step.
        why: ConnectError,
    },
    /// A connection that broke.
    #[error("{request}: {why}")]
    Interrupted {
        /// Method and address.
        request: String,
        /// From the connection.
        why: String,
    },
    /// A connection on which nothing comes any more.
    #[error("{request}: nothing received for {} s", .waited.as_secs_f32())]
    Stalled {
        /// Method and address.
        request: String,
        /// How long we waited.
        waited: Duration,
    },
    /// An answer that breaks the rules, or a rule of ours: a redirect to plain HTTP, a token that is none.
    #[error("{request}: {why}")]
    Protocol {
        /// Method and address.
        request: String,
        /// What is wrong.
        why: String,
    },
    /// A document that is there but is no image that we can use.
    #[error("cannot use {reference}: {why}")]
    Manifest {
        /// The familiar form.
        reference: String,
        /// Why.
        why: ManifestError,
    },
    /// The index has nothing for this platform.
    #[error("no matching manifest for {wanted} in the manifest list entries (available: {})", list(.available))]
    NoPlatform {
        /// Asked for.
        wanted: Platform,
        /// What there is.
        available: Vec<Platform>,
    },
    /// The content is not what its digest says.
    #[error("{what} verification failed for digest {expected}: the registry sent {actual}")]
    BadDigest {
        /// `filesystem layer`, `manifest`, `image config`.
        what: &'static str,
        /// Asked for.
        expected: Digest,
        /// Received.
        actual: Digest,
    },
    /// The content is shorter or longer than promised.
    #[error("{what} {digest} has the wrong size: expected {expected} bytes, the registry has {actual}")]
    BadSize {
        /// `filesystem layer`, …
        what: &'static str,
        /// Of the content.
        digest: Digest,
        /// From the manifest.
        expected: u64,
        /// Announced or received; when it is too much, as far as it was read.
        actual: u64,
    },
    /// An address that nothing can be fetched from. Its text may have a password in it and is left out.
    #[error("cannot download from this address: {why}")]
    Address {
        /// What is wrong with it.
        why: String,
    },
    /// A web server that does not give a file.
    #[error("failed to GET {address} with status {status} {reason}{page}")]
    Download {
        /// Without user and password.
        address: String,
        /// HTTP status.
        status: u16,
        /// The usual words for it.
        reason: &'static str,
        /// What it says, behind a colon; may be empty.
        page: String,
    },
    /// The registry serves images and nothing to search them by.
    #[error("registry {registry} cannot be searched: it has no search API (/v1/search)")]
    NoSearch {
        /// Its name.
        registry: String,
    },
    /// More than we take.
    #[error("{what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What and of which image.
        what: String,
        /// In bytes.
        limit: u64,
    },
}

impl Error {
    /// The sort of failure.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Reference(_) | Error::Config { .. } | Error::Address { .. } => Kind::InvalidReference,
            Error::Download { status, .. } => match status {
                400 => Kind::InvalidReference,
                401 => Kind::Unauthorized,
                403 => Kind::Denied,
                404 => Kind::NotFound,
                _ => Kind::Unavailable,
            },
            Error::ManifestUnknown { .. }
            | Error::RepositoryUnknown { .. }
            | Error::BlobUnknown { .. }
            | Error::NoPlatform { .. } => Kind::NotFound,
            Error::Denied { .. } => Kind::Denied,
            Error::Unauthorized { .. } | Error::NoCredentials { .. } => Kind::Unauthorized,
            Error::TooManyRequests { .. } => Kind::TooManyRequests,
            Error::Refused { status, .. } => match status {
                401 => Kind::Unauthorized,
                403 => Kind::Denied,
                404 => Kind::NotFound,
                405 | 415 => Kind::Unsupported,
                _ => Kind::Unavailable,
            },
            Error::Status { status: 404, .. } => Kind::NotFound,
            Error::Status { status: 403, .. } => Kind::Denied,
            Error::Status { .. } | Error::Unreachable { .. } | Error::Interrupted { .. } | Error::Stalled { .. } => {
                Kind::Unavailable
            }
            Error::Manifest {
                why: ManifestError::Json { .. } | ManifestError::Descriptor { .. },
                ..
            } => Kind::Corrupt,
            Error::Manifest { .. } | Error::NoSearch { .. } => Kind::Unsupported,
            Error::Protocol { .. } | Error::BadDigest { .. } | Error::BadSize { .. } | Error::TooLarge { .. } => {
                Kind::Corrupt
            }
        }
    }

    /// Whether the same request may succeed in a moment.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Error::Interrupted { .. } | Error::Stalled { .. } | Error::TooManyRequests { .. } => true,
            Error::Status { status, .. } | Error::Refused { status, .. } => {
                matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
            }
            // Who asks for an image wants to know at once that nobody is there; a download under way decides otherwise.
            _ => false,
        }
    }

    /// What the registry asked us to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::TooManyRequests { retry_after, .. } | Error::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<String> = platforms.iter().map(Platform::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
