//! The bridge in the host's namespace: found or made, with its address, and the host's settings that it needs.

use std::net::Ipv4Addr;

use crate::address::{Cidr, Mac};
use crate::config::NetworkConfig;
use crate::error::{Error, Result};
use crate::netlink::Done;
use crate::rtnl::{Link, LinkKind, Route, Rtnl};
use crate::{link, subnet, sysctl};

/// The usual Ethernet MTU: more than this only when it is configured, because what is behind the host need not take it.
const MTU_MAX: u32 = 1500;
const FORWARDING: &str = "net/ipv4/ip_forward";
/// IPv4's least.
const MTU_MIN: u32 = 68;

/// The bridge as it is.
#[derive(Clone, Debug)]
pub struct Bridge {
    pub index: u32,
    pub mtu: u32,
    /// The gateway's address and the subnet's prefix.
    pub gateway: Cidr,
    /// Whether the host did not forward packets before.
    pub turned_forwarding_on: bool,
}

/// Brings the bridge into the state that the configuration wants. One that is there keeps its subnet (containers may
/// be on it) unless a bridge address is configured.
pub fn ensure(rtnl: &Rtnl, config: &NetworkConfig) -> Result<Bridge> {
    let name = config.bridge.as_str();
    let look = || format!("look up interface {name}");
    let found = rtnl.find(name).map_err(|refusal| refusal.because(look()))?;
    if found.as_ref().is_some_and(|link| link.kind != LinkKind::Bridge) {
        return Err(Error::NotABridge { name: name.into() });
    }
    let addresses = rtnl
        .addresses()
        .map_err(|refusal| refusal.because("list the host's addresses"))?;
    let own = found.as_ref().map(|link| link.index);
    let present: Vec<Cidr> = addresses
        .iter()
        .filter(|(index, _)| Some(*index) == own)
        .map(|(_, address)| *address)
        .collect();
    let routes = match (config.bip, present.first(), config.mtu) {
        // Nothing to choose: save the dump, which is long on a router.
        (Some(_), _, Some(_)) => Vec::new(),
        (None, Some(_), Some(_)) => Vec::new(),
        _ => rtnl
            .routes()
            .map_err(|refusal| refusal.because("list the host's routes"))?,
    };
    let gateway = match (
        config.bip,
        present.iter().find(|address| (8..=30).contains(&address.prefix())),
    ) {
        (Some(bip), _) => check_bip(bip)?,
        (None, Some(present)) => *present,
        (None, None) => {
            let foreign = |index: Option<u32>| index.is_none() || index != own;
            let in_use: Vec<Cidr> = addresses
                .iter()
                .filter(|(index, _)| foreign(Some(*index)))
                .map(|(_, address)| *address)
                .chain(
                    routes
                        .iter()
                        .filter(|route| foreign(route.interface))
                        .map(|route| route.to),
                )
                .collect();
            first_address(subnet::choose(&config.pools, &in_use)?)
        }
    };
    let mtu = match config.mtu {
        Some(mtu) => mtu,
        None => default_mtu(rtnl, &routes),
    };
    let index = match &found {
        Some(link) => link.index,
        None => create(rtnl, name, mtu)?,
    };
    configure(rtnl, index, found.as_ref(), &present, gateway, mtu)
        .map_err(|refusal| refusal.because(format!("configure bridge {name} with address {gateway} and MTU {mtu}")))?;
    let turned_forwarding_on = host_settings(config)?;
    Ok(Bridge {
        index,
        mtu,
        gateway,
        turned_forwarding_on,
    })
}

fn create(rtnl: &Rtnl, name: &str, mtu: u32) -> Result<u32> {
    match rtnl.add_bridge(name, mtu, Mac::random()) {
        Ok(()) => {}
        // Somebody was faster; what it is is looked at below.
        Err(refusal) if refusal.is(libc::EEXIST) => {}
        Err(refusal) => return Err(refusal.because(format!("create bridge {name}"))),
    }
    let made = rtnl
        .find(name)
        .map_err(|refusal| refusal.because(format!("look up interface {name}")))?;
    let Some(made) = made.filter(|link| link.kind == LinkKind::Bridge) else {
        return Err(Error::NotABridge { name: name.into() });
    };
    if link::has_ipv6(mtu) {
        rtnl.set_no_link_local(made.index)
            .map_err(|refusal| refusal.because(format!("keep bridge {name} without link-local addresses")))?;
    }
    Ok(made.index)
}

/// Changes what is not as it should be; `found` is the bridge as it was, if it was there.
fn configure(rtnl: &Rtnl, index: u32, found: Option<&Link>, present: &[Cidr], gateway: Cidr, mtu: u32) -> Done<()> {
    for stale in present.iter().filter(|address| **address != gateway) {
        rtnl.delete_address(index, *stale)?;
    }
    if !present.contains(&gateway) {
        rtnl.add_address(index, gateway)?;
    }
    if found.is_some_and(|link| link.mtu != mtu) {
        rtnl.set_mtu(index, mtu)?;
    }
    if !found.is_some_and(|link| link.up) {
        rtnl.set_up(index)?;
    }
    Ok(())
}

/// Returns whether the host did not forward before.
fn host_settings(config: &NetworkConfig) -> Result<bool> {
    // A packet to a published port on 127.0.0.1 leaves over the bridge, and its answer comes back that way: to the
    // kernel a martian, unless the interface may route the loopback network. The table drops what abuses this.
    sysctl::ensure(&format!("net/ipv4/conf/{}/route_localnet", config.bridge), "1")?;
    if !config.ip_forward || sysctl::read(FORWARDING).as_deref() == Some("1") {
        return Ok(false);
    }
    sysctl::ensure(FORWARDING, "1")?;
    Ok(true)
}

fn check_bip(bip: Cidr) -> Result<Cidr> {
    if !(8..=30).contains(&bip.prefix()) {
        return Err(Error::SubnetSize { subnet: bip.network() });
    }
    if bip == bip.network() || bip.address() == bip.last() {
        return Err(Error::BridgeAddress { bip });
    }
    Ok(bip)
}

fn first_address(subnet: Cidr) -> Cidr {
    let first = Ipv4Addr::from_bits(subnet.network().address().to_bits() + 1);
    Cidr::new(first, subnet.prefix()).expect("a subnet's prefix is at most 32")
}

/// That of the interface with the default route, or the usual one where that is smaller or there is none.
fn default_mtu(rtnl: &Rtnl, routes: &[Route]) -> u32 {
    let default = routes.iter().find(|route| route.to.prefix() == 0);
    let Some(interface) = default.and_then(|route| route.interface) else {
        return MTU_MAX;
    };
    let found = rtnl.find_index(interface).unwrap_or_else(|refusal| {
        // No reason to be without a network: most interfaces have the usual one.
        tracing::warn!(interface, error = %refusal.source, "cannot look up the interface of the default route");
        None
    });
    found.map_or(MTU_MAX, |link| link.mtu).clamp(MTU_MIN, MTU_MAX)
}
