//! The default network: a bridge, an address and an interface for each container, published ports.
//!
//! ```text
//!                    host                                     container's namespace
//!   other hosts ── eth0 ─┐                                 ┌── eth0 172.17.0.2, default via 172.17.0.1
//!                        │ nft table "iechor":             │
//!   host programs ── lo ─┼─ DNAT by map, masquerade, ── iechor0 (172.17.0.1/16)
//!                        │ nothing unasked for goes in     │
//!                        └─                                └── eth0 172.17.0.3 …
//! ```
//!
//! - [`Network`] is the handle: endpoints, published ports, recovery after a crash.
//! - `pool` keeps namespaces ready, made by `namespace`; an endpoint is popped in microseconds.
//! - `rtnl` is rtnetlink, for what no start waits for: the bridge, lists, removals. The `janitor`'s thread has it.
//! - `netlink` is an own encoder, for what a start may wait for: `link` (veth pairs, the inside of a namespace) and
//!   `nft` (nftables) say what is in its messages.
//! - `ipam` gives addresses, `port` gives ports: pure, tried by property tests against models.
//!
//! Deliberately absent: processes (`ip`, `nft`, `iptables` are never run), a proxy for published ports, rules per
//! port or per container, and every trace of a container in here after [`Network::release`].
//!
//! All methods block, for microseconds to milliseconds; call them where blocking is allowed. They need no runtime and
//! mind none. They work in the network namespace of the thread that called [`Network::open`], whichever thread calls
//! them.
#![forbid(unsafe_code)]

mod address;
mod audit;
mod bridge;
mod config;
mod conntrack;
mod endpoint;
mod error;
mod home;
mod ipam;
mod janitor;
mod link;
#[cfg(test)]
mod live;
mod names;
mod namespace;
mod netlink;
mod network;
mod nft;
mod pool;
mod port;
mod publisher;
mod rtnl;
mod subnet;
mod sysctl;

pub use address::{Cidr, Mac};
pub use audit::Audit;
pub use config::NetworkConfig;
pub use endpoint::{Endpoint, EndpointRecord, EndpointSpec};
pub use error::{Error, Kind, Result};
pub use network::{Network, NetworkInfo, Problem, Recovered};
pub use port::{HostPort, PortBinding, PortRequest, Proto};
pub use subnet::AddressPool;
