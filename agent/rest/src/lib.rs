//! The Docker Engine API over HTTP: parse, one engine call, map the answer. No state of its own, no rules.
//!
//! ```text
//! listeners ─► accept loop ─► connection (HTTP/1.1, h2c) ─► service ─► router ─► resources/*.rs ─► engine
//!  unix, TCP + TLS                 version prefix, headers on everything ┘
//! ```
//!
//! - [`Server`] owns the listeners and ends them; [`listen::Address`] says where they are.
//! - `resources` has one file per resource; [`error`] is the only place that knows which failure has which status.
//! - [`hijack`] carries attach and exec.
//!
//! Deliberately absent: defaults and validation of containers (the engine's), and every other adapter.
#![forbid(unsafe_code)]

mod detach;
pub mod error;
mod hijack;
pub mod listen;
mod metrics;
#[cfg(test)]
mod openapi;
mod peer;
mod pieces;
mod pool;
mod records;
mod reply;
mod request;
mod resources;
mod serve;
mod service;
mod tls;
mod transfer;
mod unix_socket;
mod unread;
pub mod version;
mod websocket;

pub use listen::{Address, Listener, Listeners};
pub use metrics::Metrics;
pub use serve::Server;
pub use tls::TlsFiles;
pub use unix_socket::UnixSocket;
