//! Client of the OCI distribution protocol: names, manifests, and layers from any registry.
//!
//! ```text
//! Reference ──► Client::resolve ──► Resolved (index, manifest, config, layers)
//!                                      │
//!                                      ▼
//!                    PullPlan / Client::blob ──► BlobStream ──► bytes, size and digest checked, resumed when broken
//!
//! client    what to ask: manifests by platform            blob       one download        plan   a pull and its progress
//! session   one request: challenge, token, retry          auth       credentials, tokens
//! transport one exchange: redirects, HTTPS or HTTP        connect    one connection: proxy, TLS (tls)
//! endpoint  where: mirrors, then the registry             error      everything that can go wrong, in Docker's words
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
mod digest;
mod endpoint;
mod error;
mod manifest;
mod plan;
mod platform;
mod proxy;
mod reference;
mod session;
mod tags;
mod tls;
mod transport;

pub use auth::{BadCredentials, Credentials};
pub use blob::{BlobEvent, BlobReader, BlobStream};
pub use client::{Client, Resolved};
pub use config::{ClientConfig, Mirror};
pub use connect::ConnectError;
pub use digest::{Digest, DigestError};
pub use error::{Error, Kind, Result};
pub use manifest::{Compression, LayerDesc, ManifestError, media};
pub use plan::{Board, LayerState, PullPlan};
pub use platform::{Platform, PlatformError};
pub use proxy::Proxies;
pub use reference::{DOCKER_IO, Defaults, LATEST, Reference, ReferenceError};
