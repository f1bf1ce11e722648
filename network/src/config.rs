//! What can be chosen about the default network.

use crate::address::Cidr;
use crate::error::{Error, Result};
use crate::subnet::AddressPool;

/// The longest name of an interface, without its zero byte.
const NAME_MAX: usize = 15;

/// The configuration of a [`Network`](crate::Network).
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// The bridge's name. Daemons beside each other need different ones.
    pub bridge: String,
    /// The nftables table's name (family ip). Daemons beside each other need different ones.
    pub table: String,
    /// Where the subnet is taken from when there is no `bip`.
    pub pools: Vec<AddressPool>,
    /// The bridge's address with the subnet's prefix (dockerd's `--bip`).
    pub bip: Option<Cidr>,
    /// `None`: that of the interface with the default route, at most 1500.
    pub mtu: Option<u32>,
    /// Whether containers reach the outside under the host's address (dockerd's `--ip-masq`).
    pub masquerade: bool,
    /// Whether to turn the host's IPv4 forwarding on (dockerd's `--ip-forward`).
    pub ip_forward: bool,
    /// How many namespaces with an interface are kept ready.
    pub warm: usize,
    /// How many namespaces with nothing but a loopback are kept ready.
    pub warm_empty: usize,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            bridge: "iechor0".into(),
            table: "iechor".into(),
            pools: AddressPool::DOCKER.into(),
            bip: None,
            mtu: None,
            masquerade: true,
            ip_forward: true,
            warm: 8,
            warm_empty: 4,
        }
    }
}

impl NetworkConfig {
    /// Refuses names that the kernel would refuse later, or that would mean something else in a path below /proc/sys.
    pub(crate) fn validate(&self) -> Result<()> {
        let name = &self.bridge;
        let character = |c: char| c.is_ascii_graphic() && c != '/' && c != ':' && c != '%';
        if name.is_empty() || name.len() > NAME_MAX || name == "." || name == ".." || !name.chars().all(character) {
            return Err(Error::InvalidBridgeName { name: name.clone() });
        }
        let name = &self.table;
        let character = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.len() > 64 || !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(character) {
            return Err(Error::InvalidTableName { name: name.clone() });
        }
        Ok(())
    }
}
