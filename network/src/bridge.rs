//! The bridge in the host's namespace: found or made, with its address, and the host's settings that it needs.

use std::net::Ipv4Addr;

use crate::address::{Cidr, Mac};
use crate::config::NetworkConfig;
use crate::error::{Error, Result};
use crate::link;
use crate::netlink::Channel;
use crate::{subnet, sysctl};

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
pub fn ensure(channel: &mut Channel, config: &NetworkConfig) -> Result<Bridge> {
    let name = config.bridge.as_str();
    let look = || format!("look up interface {name}");
    let found = link::find(channel, name).map_err(|refusal| refusal.because(look()))?;
    if found.as_ref().is_some_and(|link| link.kind != "bridge") {
        return Err(Error::NotABridge { name: name.into() });
    }
    let addresses = link::addresses(channel).map_err(|refusal| refusal.because("list the host's addresses"))?;
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
        _ => link::routes(channel).map_err(|refusal| refusal.because("list the host's routes"))?,
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
        None => default_mtu(channel, &routes)?,
    };
    let index = match &found {
        Some(link) => link.index,
        None => create(channel, name, mtu)?,
    };
    let mut batch = channel.batch();
    let mut nothing = true;
    for stale in present.iter().filter(|address| **address != gateway) {
        link::delete_address(&mut batch, index, *stale);
        nothing = false;
    }
    if !present.contains(&gateway) {
        link::add_address(&mut batch, index, gateway);
        nothing = false;
    }
    if found.as_ref().is_some_and(|link| link.mtu != mtu) {
        link::set_mtu(&mut batch, index, mtu);
        nothing = false;
    }
    if !found.as_ref().is_some_and(|link| link.up) {
        link::set_up(&mut batch, index);
        nothing = false;
    }
    if !nothing {
        let action = || format!("configure bridge {name} with address {gateway} and MTU {mtu}");
        channel.exchange(batch).map_err(|refusal| refusal.because(action()))?;
    }
    let turned_forwarding_on = host_settings(config)?;
    Ok(Bridge {
        index,
        mtu,
        gateway,
        turned_forwarding_on,
    })
}

fn create(channel: &mut Channel, name: &str, mtu: u32) -> Result<u32> {
    let mut batch = channel.batch();
    link::add_bridge(&mut batch, name, mtu, Mac::random());
    match channel.exchange(batch) {
        Ok(()) => {}
        // Somebody was faster; what it is is looked at below.
        Err(refusal) if refusal.is(libc::EEXIST) => {}
        Err(refusal) => return Err(refusal.because(format!("create bridge {name}"))),
    }
    let made = link::find(channel, name).map_err(|refusal| refusal.because(format!("look up interface {name}")))?;
    let Some(made) = made.filter(|link| link.kind == "bridge") else {
        return Err(Error::NotABridge { name: name.into() });
    };
    if link::has_ipv6(mtu) {
        let mut batch = channel.batch();
        link::set_no_link_local(&mut batch, made.index);
        let action = || format!("keep bridge {name} without link-local addresses");
        channel.exchange(batch).map_err(|refusal| refusal.because(action()))?;
    }
    Ok(made.index)
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
fn default_mtu(channel: &mut Channel, routes: &[link::Route]) -> Result<u32> {
    let Some(interface) = routes
        .iter()
        .find(|route| route.to.prefix() == 0)
        .and_then(|route| route.interface)
    else {
        return Ok(MTU_MAX);
    };
    let found = link::find_index(channel, interface).map_err(|refusal| refusal.because("look up an interface"))?;
    Ok(found.map_or(MTU_MAX, |link| link.mtu).clamp(MTU_MIN, MTU_MAX))
}
