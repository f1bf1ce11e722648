//! OCI configuration and a root file system → a process with namespaces, limits and streams.
//!
//! ```text
//! spec ──► plan ──(SEQPACKET)──► iechor-shim ──clone3──► container
//!            launcher (host)       proto, log
//! ```
//!
//! Without the feature `host` this crate is what the shim needs and no more: the plan, the protocol, the log writer.
//! The feature `host` adds the daemon's side: OCI types, profiles, cgroup planning, the launcher of shims.

#![forbid(unsafe_code)]

#[cfg(feature = "host")]
pub mod capabilities;
#[cfg(feature = "host")]
pub mod cgroup;
#[cfg(feature = "host")]
pub mod defaults;
pub mod exit;
#[cfg(feature = "host")]
pub mod launcher;
pub mod log;
pub mod plan;
pub mod proto;
#[cfg(feature = "host")]
pub mod seccomp;
#[cfg(feature = "host")]
pub mod signal;
#[cfg(feature = "host")]
pub mod spec;
pub mod wire;
