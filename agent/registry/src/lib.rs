//! Client of the OCI distribution protocol: names, manifests, and layers from any registry.
//!
//! ```text
//! Reference ──► Client::resolve ──► Resolved (index, manifest, config, layers)
//!                                      │
//!                                      ▼
//!                    PullPlan / Client::blob ──► BlobStream ──► bytes, size and digest checked, resumed when broken
//!
//! client    what can be asked             resolve   tag → index → manifest → config         blob     one download
//! session   one request: challenge, retry auth      credentials, tokens (challenge)         reader   … for a thread
//! transport one exchange: HTTPS or HTTP   redirect  where an answer may lead                plan     a pull, its progress
//! connect   one connection: proxy, TLS    dial      name → TCP                              tls      whom to trust
//! endpoint  where: mirrors, registry      error     all that can go wrong, in Docker's words (answer)
//! download  a file of another web server, to be imported
//! ```
//!
//! Registries are taken for hostile: every document and every wait has a limit, every byte is checked against its digest
//! before anybody can take it for complete, credentials are shown only to whom they belong, and a redirect leads neither
//! to plain HTTP nor to this machine's own ports unless the user's own words did.
//!
//! Absent on purpose: unpacking and storing (the store's), manifest schema 1, foreign layers.

#![forbid(unsafe_code)]

mod answer;
mod auth;
mod blob;
mod challenge;
mod client;
mod config;
mod connect;
mod dial;
mod digest;
mod download;
mod endpoint;
mod error;
mod manifest;
mod plan;
mod platform;
mod proxy;
mod reader;
mod redirect;
mod reference;
mod resolve;
mod search;
mod session;
mod tags;
mod tls;
mod transport;

pub use auth::{BadCredentials, Credentials};
pub use blob::{BlobEvent, BlobStream};
pub use client::Client;
pub use config::{ClientConfig, Mirror};
pub use connect::ConnectError;
pub use digest::{Digest, DigestError};
pub use download::Download;
pub use error::{Error, Kind, Result};
pub use manifest::{Compression, LayerDesc, ManifestError, media};
pub use plan::{Board, LayerState, PullPlan};
pub use platform::{Platform, PlatformError};
pub use proxy::Proxies;
pub use reader::BlobReader;
pub use reference::{DOCKER_IO, Defaults, LATEST, Reference, ReferenceError};
pub use resolve::Resolved;
pub use search::Found;
