//! What every test of the user's view needs: a private `iechord`, clients, images made here, a registry, a
//! terminal, and eyes on the kernel.
//!
//! ```text
//! suite    runs tests in parallel, prints the closing line
//!   └─ daemon   a private iechord: own root, socket, bridge, nft table, cgroup parent, subnet
//!        ├─ process  docker / iechor as child processes, with a transcript for the failure report
//!        ├─ http     the bare socket, also for requests no well-behaved client sends
//!        ├─ pty      a real terminal
//!        ├─ image, registry   images from Debian's packages; a registry on loopback
//!        └─ kernel, leaks     what /proc, cgroupfs and nft say; what was left behind
//! ```
//!
//! Tests fail by panicking; so do these helpers, with what they were doing. Nothing here knows the insides of
//! the daemon: the same tests run against another engine's socket (`IECHOR_TEST_HOST`), which is how the tests
//! themselves are checked.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

pub mod daemon;
pub mod definition;
pub mod http;
pub mod image;
pub mod kernel;
pub mod leaks;
pub mod process;
pub mod pty;
pub mod registry;
pub mod suite;
pub mod tools;

pub use daemon::{Daemon, Options};
pub use process::Output;
pub use suite::{Suite, Test};
