//! What can go wrong, in words for the user.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use crate::address::Cidr;

/// A `Result` of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What sort of failure it is, for an adapter that must choose a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request cannot be right, or asks for what is not supported.
    Invalid,
    /// Something else has what was asked for.
    Conflict,
    /// Nothing is left of what was asked for.
    Exhausted,
    /// The host refused, or is not in the state that is needed.
    System,
}

/// A failure of the network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A subnet or address with prefix that is none.
    #[error("invalid CIDR {text:?}: write an IPv4 address and a prefix length, like 172.17.0.1/16")]
    InvalidCidr { text: String },
    /// A hardware address that no interface can have.
    #[error("invalid MAC address {text:?}: write six hexadecimal octets of a unicast address, like 02:42:ac:11:00:02")]
    InvalidMac { text: String },
    /// A name that the kernel would not take for an interface.
    #[error("invalid bridge name {name:?}: 1 to 15 characters, without slash, colon and spaces")]
    InvalidBridgeName { name: String },
    /// A name that cannot be an nftables table's.
    #[error("invalid nftables table name {name:?}: letters, digits, '_', '-' and '.', a letter first, at most 64")]
    InvalidTableName { name: String },
    /// The subnet cannot serve containers.
    #[error("subnet {subnet} cannot be used: its prefix must be from /8 to /30")]
    SubnetSize { subnet: Cidr },
    /// The address pools make no sense.
    #[error("address pool {base} cannot be split into subnets of size /{size}")]
    PoolSize { base: Cidr, size: u8 },
    /// The bridge's own address is not a host address.
    #[error("bridge address {bip} is the network's or the broadcast address of its subnet; choose another one")]
    BridgeAddress { bip: Cidr },
    /// Every subnet of the pools overlaps something.
    #[error(
        "no subnet is left: every one of the default address pools overlaps an address or a route of this host; \
         set the bridge address (bip) or other default address pools"
    )]
    NoSubnet,
    /// An interface of this name exists and is something else.
    #[error("interface {name} exists and is not a bridge; remove it or configure another bridge name")]
    NotABridge { name: String },
    /// The kernel's limit is reached.
    #[error("bridge {bridge} has as many ports as a bridge can have (1,023): no more containers fit on it")]
    BridgeFull { bridge: String },
    /// No address is free.
    #[error("no available IPv4 addresses on this network's address pool: {subnet}")]
    NoAddress { subnet: Cidr },
    /// The address is not one of the network's.
    #[error("address {address} does not belong to the network's subnet {subnet}")]
    AddressOutside { address: Ipv4Addr, subnet: Cidr },
    /// The address is the network's, the broadcast or the gateway's address.
    #[error("address {address} is reserved in subnet {subnet}")]
    AddressSpecial { address: Ipv4Addr, subnet: Cidr },
    /// Docker's words.
    #[error("Address already in use: {address}")]
    AddressTaken { address: Ipv4Addr },
    /// Port zero, or a range with its ends exchanged.
    #[error("invalid port in {what}: ports are from 1 to 65535, and a range ends where it began or above")]
    InvalidPort { what: String },
    /// A container's range and a host's range that do not fit together.
    #[error("the ranges {container} and {host} have different sizes")]
    RangeSizes { container: String, host: String },
    /// The protocol is not published.
    #[error("cannot publish {port}/{protocol}: only tcp and udp ports can be published")]
    Protocol { port: u16, protocol: &'static str },
    /// IPv6 is not there yet.
    #[error("cannot publish on {address}: only IPv4 host addresses are supported; use an IPv4 address or 0.0.0.0")]
    Ipv6 { address: IpAddr },
    /// One of our containers has the port. Docker's words.
    #[error("Bind for {address}:{port} failed: port is already allocated")]
    PortAllocated { address: Ipv4Addr, port: u16 },
    /// The host did not let us have the port. Docker's words.
    #[error("failed to bind host port for {address}:{port}: {}", reason(.source))]
    PortBind {
        address: Ipv4Addr,
        port: u16,
        source: io::Error,
    },
    /// No port of the range is free.
    #[error("no free host port between {first} and {last} on {address}; publish on another port or free one")]
    PortsExhausted { address: Ipv4Addr, first: u16, last: u16 },
    /// Ports of this owner are published already.
    #[error("the ports of {owner} are published already")]
    OwnerPublished { owner: String },
    /// The network was closed.
    #[error("the network {bridge} is closed")]
    Closed { bridge: String },
    /// A system call failed.
    #[error("cannot {action}")]
    System { action: String, source: io::Error },
    /// The kernel refused a netlink request.
    #[error("cannot {action}{}", quoted(.said))]
    Kernel {
        action: String,
        said: Option<String>,
        source: io::Error,
    },
}

impl Error {
    /// What sort of failure it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::InvalidCidr { .. }
            | Self::InvalidMac { .. }
            | Self::InvalidBridgeName { .. }
            | Self::InvalidTableName { .. }
            | Self::SubnetSize { .. }
            | Self::PoolSize { .. }
            | Self::BridgeAddress { .. }
            | Self::AddressOutside { .. }
            | Self::AddressSpecial { .. }
            | Self::InvalidPort { .. }
            | Self::RangeSizes { .. }
            | Self::Protocol { .. }
            | Self::Ipv6 { .. } => Kind::Invalid,
            Self::AddressTaken { .. }
            | Self::PortAllocated { .. }
            | Self::PortBind { .. }
            | Self::OwnerPublished { .. }
            | Self::NotABridge { .. } => Kind::Conflict,
            Self::NoSubnet | Self::BridgeFull { .. } | Self::NoAddress { .. } | Self::PortsExhausted { .. } => {
                Kind::Exhausted
            }
            Self::Closed { .. } | Self::System { .. } | Self::Kernel { .. } => Kind::System,
        }
    }

    pub(crate) fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }
}

/// The kernel's own sentence, where it gave one.
fn quoted(sentence: &Option<String>) -> String {
    sentence
        .as_ref()
        .map(|sentence| format!(" (the kernel says: {sentence})"))
        .unwrap_or_default()
}

/// Go's words for the errors of bind(2), which clients know.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".into(),
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
