//! A container's place on the network.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::address::Mac;

/// What is asked of a new endpoint; by default anything is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointSpec {
    /// This address, not just any free one.
    pub ip: Option<Ipv4Addr>,
    /// This hardware address, not a random one.
    pub mac: Option<Mac>,
}

/// A network namespace with an interface on the bridge, ready for a container.
#[derive(Debug)]
pub struct Endpoint {
    /// Keeps the namespace alive until the container's processes do.
    pub netns: OwnedFd,
    /// What is to be remembered of it.
    pub record: EndpointRecord,
}

/// What is to be remembered of an endpoint while its container runs; stored on disk, hence the version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// The version of this record's form: [`EndpointRecord::VERSION`].
    pub version: u16,
    /// The container's address.
    pub ip: Ipv4Addr,
    /// The prefix length of its subnet.
    pub prefix_len: u8,
    /// Where its default route goes.
    pub gateway: Ipv4Addr,
    /// The hardware address of its eth0.
    pub mac: Mac,
    /// The name of the interface's other end, on the host.
    pub host_if: String,
    /// The bridge that it is a port of.
    pub bridge: String,
    /// The MTU of its eth0.
    pub mtu: u32,
}

impl EndpointRecord {
    /// The version that is written today.
    pub const VERSION: u16 = 1;
}
