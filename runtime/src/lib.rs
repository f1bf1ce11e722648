//! OCI configuration and a root file system → a process with namespaces, limits and streams.
//!
//! ```text
//! spec ──► plan ──(SEQPACKET)──► iechor-shim ──clone3──► container
//!            launcher (host)       proto, log
//! ```
//!
//! Without features this crate is what the shim needs and no more: the plan, the protocol, the log writer.
//! The feature `spec` adds what makes plans: OCI types, profiles, cgroup planning. The feature `host` adds the
//! daemon's side: the launcher of shims, the reader of logs.

#![forbid(unsafe_code)]

#[cfg(feature = "spec")]
pub mod capabilities;
#[cfg(feature = "spec")]
pub mod cgroup;
#[cfg(feature = "spec")]
pub mod defaults;
pub mod exit;
#[cfg(feature = "spec")]
pub mod features;
#[cfg(feature = "host")]
pub mod launcher;
pub mod log;
pub mod plan;
pub mod proto;
#[cfg(feature = "spec")]
pub mod seccomp;
pub mod signal;
#[cfg(feature = "spec")]
pub mod spec;
pub mod start_error;
pub mod systemd;
pub mod wire;
