//! The typed client of the REST API: what `iechor` speaks, and what the tests drive the daemon with.
//!
//! ```text
//! containers  execs  images  volumes  networks  system      one file per resource: typed calls
//!        └──────┴──────┬─┴───────┴────────┴──────┘
//!            http: Call → Client → answer | Download | Hijacked
//!            transport: unix · tcp · TLS · ssh
//! ```
//!
//! Deliberately absent: HTTP/2 (the API needs upgrades, and one connection per call is cheap on a socket), retries of
//! calls that may have had an effect, and any terminal or file handling, which are the command line's.

#![forbid(unsafe_code)]

mod call;
mod containers;
mod download;
mod endpoint;
mod error;
mod execs;
mod files;
mod filters;
mod hijack;
mod http;
mod images;
mod messages;
mod mux;
mod networks;
mod system;
mod tls;
mod transport;
mod version;
mod volumes;

pub use self::call::Call;
pub use self::containers::{Attach, Logs, Waiting};
pub use self::download::Download;
pub use self::endpoint::Endpoint;
pub use self::error::{Error, Result};
pub use self::files::Commit;
pub use self::filters::Filters;
pub use self::hijack::{Hijacked, Input, Output};
pub use self::http::{Client, Options, Ping};
pub use self::images::Pull;
pub use self::messages::Messages;
pub use self::mux::{Frame, Frames};
pub use self::system::EventQuery;
pub use self::tls::TlsOptions;
pub use self::transport::Stream;
pub use self::version::{ApiVersion, NEWEST, OLDEST};
pub use ::http::StatusCode;
pub use agent_api as api;
pub use agent_api::auth::AuthConfig;
