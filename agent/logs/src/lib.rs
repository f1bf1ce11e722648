//! Log drivers: what their options mean, and how the remote ones speak.
//!
//! ```text
//! options ─► Setup ─┬─ Keep     what the shim writes: nothing, local files, json-file
//!                   ├─ Wanted   which labels and variables go with each line, and the tag
//!                   └─ Remote   syslog · gelf · fluentd · journald ─► Link ─► bytes on a socket
//! ```
//!
//! Nothing here knows containers or reads logs: the engine follows what the shim wrote, and sends it through a [`Link`]
//! (docs/adr/0013).
#![forbid(unsafe_code)]

mod attributes;
mod fluentd;
mod gelf;
mod journald;
mod link;
mod options;
mod setup;
mod syslog;
mod tag;
mod tls;

pub use attributes::Wanted;
pub use link::Link;
pub use setup::{Files, Keep, Remote, Setup};

/// Why a log configuration is refused, in Docker's words where it has them.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    #[error("{0}")]
    Invalid(String),
    #[error("log driver {0}")]
    Unsupported(String),
}

impl Refused {
    fn invalid(text: impl Into<String>) -> Refused {
        Refused::Invalid(text.into())
    }
}

/// The drivers that containers can have.
pub const DRIVERS: &[&str] = &["fluentd", "gelf", "journald", "json-file", "local", "none", "syslog"];

/// What every message of a container has in common.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    pub id: String,
    pub name: String,
    pub image: String,
    pub image_id: String,
    /// Program and arguments.
    pub command: String,
    /// Nanoseconds since 1970.
    pub created: i64,
    /// Of this machine.
    pub hostname: String,
    pub daemon: String,
    pub labels: Vec<(String, String)>,
    pub env: Vec<String>,
}

impl Origin {
    fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    fn short_image_id(&self) -> &str {
        let hex = self.image_id.strip_prefix("sha256:").unwrap_or(&self.image_id);
        hex.get(..12).unwrap_or(hex)
    }
}

/// One line, or a piece of one.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Nanoseconds since 1970.
    pub time: i64,
    pub stderr: bool,
    /// The line goes on in the next message.
    pub partial: bool,
    pub text: &'a [u8],
}
