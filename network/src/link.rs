//! rtnetlink(7) requests: links, addresses, routes. Each works in the namespace that its channel was opened in.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use crate::address::{Cidr, Mac};
use crate::netlink::{ACK, Attributes, Batch, CREATE, Channel, EXCLUSIVE, REPLACE, Refusal, attribute, string, u32_at};

type Done<T> = Result<T, Refusal>;

/// The loopback interface has this index in every namespace.
pub const LOOPBACK: u32 = 1;
/// The index we give to eth0 of a container, known before it exists.
pub const ETH0: u32 = 2;

const VETH_PEER: u16 = 1; // VETH_INFO_PEER
const BRIDGE_STP: u16 = 5; // IFLA_BR_STP_STATE
const PORT_HAIRPIN: u16 = 4; // IFLA_BRPORT_MODE
const INET6_ADDRESS_MODE: u16 = 8; // IFLA_INET6_ADDR_GEN_MODE
const ADDRESS_MODE_NONE: u8 = 1; // IN6_ADDR_GEN_MODE_NONE
const UP: u32 = libc::IFF_UP as u32;

/// An interface as the kernel describes it.
#[derive(Clone, Debug)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// The index of the bridge that it is a port of, if any.
    pub master: Option<u32>,
    /// `bridge`, `veth`… Empty for hardware.
    pub kind: String,
    pub mtu: u32,
    pub up: bool,
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// `struct ifaddrmsg`.
fn address_header(prefix: u8, index: u32) -> [u8; 8] {
    let mut header = [0; 8];
    header[0] = libc::AF_INET as u8;
    header[1] = prefix;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header
}

/// A veth pair to be made: one end on a bridge here, the other one as eth0 in a container's namespace.
#[derive(Debug)]
pub struct Veth<'a> {
    pub host_name: &'a str,
    pub bridge: u32,
    pub mtu: u32,
    pub mac: Mac,
    pub has_ipv6: bool,
    pub namespace: BorrowedFd<'a>,
}

/// One message makes the pair, puts the peer into its namespace and makes this end a port of the bridge; a second one
/// sets what can be set only then; a third one brings this end up.
///
/// The peer must stay down: the kernel would open it before the two are paired and answer ENOTCONN.
pub fn add_veth(batch: &mut Batch, veth: &Veth<'_>) {
    batch.message(
        libc::RTM_NEWLINK,
        ACK | CREATE | EXCLUSIVE,
        &link_header(0, 0, 0),
        |link| {
            link.text(libc::IFLA_IFNAME, veth.host_name);
            link.number(libc::IFLA_MTU, veth.mtu);
            link.number(libc::IFLA_MASTER, veth.bridge);
            link.nest(libc::IFLA_LINKINFO, |info| {
                info.text(libc::IFLA_INFO_KIND, "veth");
                info.nest(libc::IFLA_INFO_DATA, |data| {
                    data.nest_after(VETH_PEER, &link_header(ETH0, 0, 0), |peer| {
                        peer.text(libc::IFLA_IFNAME, "eth0");
                        peer.number(libc::IFLA_MTU, veth.mtu);
                        peer.put(libc::IFLA_ADDRESS, &veth.mac.octets());
                        peer.number(libc::IFLA_NET_NS_FD, veth.namespace.as_raw_fd() as u32);
                    });
                });
            });
        },
    );
    batch.message(libc::RTM_NEWLINK, ACK, &link_header(0, 0, 0), |link| {
        link.text(libc::IFLA_IFNAME, veth.host_name);
        if veth.has_ipv6 {
            no_link_local(link);
        }
        link.nest(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_SLAVE_KIND, "bridge");
            // With br_netfilter a container's packet to its own published port is bridged back to where it came from.
            info.nest(libc::IFLA_INFO_SLAVE_DATA, |port| port.put(PORT_HAIRPIN, &[1]));
        });
    });
    batch.message(libc::RTM_NEWLINK, ACK, &link_header(0, UP, UP), |link| {
        link.text(libc::IFLA_IFNAME, veth.host_name)
    });
}

/// Makes a bridge, down, with a hardware address of its own: one that it borrowed from a port would change with the
/// ports, and the containers' ARP entries for their gateway would break.
pub fn add_bridge(batch: &mut Batch, name: &str, mtu: u32, mac: Mac) {
    batch.message(
        libc::RTM_NEWLINK,
        ACK | CREATE | EXCLUSIVE,
        &link_header(0, 0, 0),
        |link| {
            link.text(libc::IFLA_IFNAME, name);
            link.number(libc::IFLA_MTU, mtu);
            link.put(libc::IFLA_ADDRESS, &mac.octets());
            link.nest(libc::IFLA_LINKINFO, |info| {
                info.text(libc::IFLA_INFO_KIND, "bridge");
                // No spanning tree: a port would listen and learn for half a minute before it forwards.
                info.nest(libc::IFLA_INFO_DATA, |data| data.number(BRIDGE_STP, 0));
            });
        },
    );
}

/// Keeps the interface without an IPv6 address of its own making, so that containers do not reach the host (past a
/// firewall that knows IPv4 only) over link-local addresses that nobody asked for. To be done before it goes up.
pub fn set_no_link_local(batch: &mut Batch, index: u32) {
    batch.message(libc::RTM_NEWLINK, ACK, &link_header(index, 0, 0), no_link_local);
}

fn no_link_local(link: &mut Attributes<'_>) {
    link.nest(libc::IFLA_AF_SPEC, |families| {
        families.nest(libc::AF_INET6 as u16, |inet6| {
            inet6.put(INET6_ADDRESS_MODE, &[ADDRESS_MODE_NONE])
        });
    });
}

/// Whether an interface of this MTU has an IPv6 side: a host may be without IPv6, and IPv6 needs 1280 bytes.
pub fn has_ipv6(mtu: u32) -> bool {
    mtu >= 1280 && Path::new("/proc/sys/net/ipv6").exists()
}

/// Brings an interface up.
pub fn set_up(batch: &mut Batch, index: u32) {
    batch.message(libc::RTM_NEWLINK, ACK, &link_header(index, UP, UP), |_| {});
}

/// Changes the MTU.
pub fn set_mtu(batch: &mut Batch, index: u32, mtu: u32) {
    batch.message(libc::RTM_NEWLINK, ACK, &link_header(index, 0, 0), |link| {
        link.number(libc::IFLA_MTU, mtu)
    });
}

/// Changes the hardware address.
pub fn set_mac(batch: &mut Batch, index: u32, mac: Mac) {
    batch.message(libc::RTM_NEWLINK, ACK, &link_header(index, 0, 0), |link| {
        link.put(libc::IFLA_ADDRESS, &mac.octets());
    });
}

/// Gives an interface an address, and with it the route to the subnet once the interface is up.
pub fn add_address(batch: &mut Batch, index: u32, address: Cidr) {
    let header = address_header(address.prefix(), index);
    batch.message(libc::RTM_NEWADDR, ACK | CREATE | REPLACE, &header, |list| {
        list.put(libc::IFA_LOCAL, &address.address().octets());
        list.put(libc::IFA_ADDRESS, &address.address().octets());
        if address.prefix() < 31 {
            list.put(libc::IFA_BROADCAST, &address.last().octets());
        }
    });
}

/// Takes an address from an interface.
pub fn delete_address(batch: &mut Batch, index: u32, address: Cidr) {
    batch.message(
        libc::RTM_DELADDR,
        ACK,
        &address_header(address.prefix(), index),
        |list| {
            list.put(libc::IFA_LOCAL, &address.address().octets());
        },
    );
}

/// Adds the default route.
pub fn add_default_route(batch: &mut Batch, index: u32, gateway: Ipv4Addr) {
    let mut header = [0; 12]; // struct rtmsg
    header[0] = libc::AF_INET as u8;
    header[4] = libc::RT_TABLE_MAIN;
    header[5] = libc::RTPROT_STATIC;
    header[7] = libc::RTN_UNICAST;
    batch.message(libc::RTM_NEWROUTE, ACK | CREATE, &header, |route| {
        route.put(libc::RTA_GATEWAY, &gateway.octets());
        route.number(libc::RTA_OIF, index);
    });
}

/// Removes an interface, and with a veth its peer. Slow (some 15 ms): never on the path of a request.
pub fn delete(batch: &mut Batch, index: u32) {
    batch.message(libc::RTM_DELLINK, ACK, &link_header(index, 0, 0), |_| {});
}

fn parse_link(payload: &[u8]) -> Option<Link> {
    let list = payload.get(16..)?;
    let number = |kind| attribute(list, kind).and_then(|value| u32_at(value, 0));
    Some(Link {
        index: u32_at(payload, 4)?,
        name: string(attribute(list, libc::IFLA_IFNAME)?).into_owned(),
        master: number(libc::IFLA_MASTER),
        kind: attribute(list, libc::IFLA_LINKINFO)
            .and_then(|info| attribute(info, libc::IFLA_INFO_KIND))
            .map(|kind| string(kind).into_owned())
            .unwrap_or_default(),
        mtu: number(libc::IFLA_MTU).unwrap_or(0),
        up: u32_at(payload, 8)? & UP != 0,
    })
}

/// The interface of this name, if there is one.
pub fn find(channel: &mut Channel, name: &str) -> Done<Option<Link>> {
    get(channel, 0, |link| link.text(libc::IFLA_IFNAME, name))
}

/// The interface with this index, if there is one.
pub fn find_index(channel: &mut Channel, index: u32) -> Done<Option<Link>> {
    get(channel, index, |_| {})
}

fn get(channel: &mut Channel, index: u32, which: impl FnOnce(&mut Attributes<'_>)) -> Done<Option<Link>> {
    let mut batch = channel.batch();
    batch.message(libc::RTM_GETLINK, 0, &link_header(index, 0, 0), which);
    let mut found = None;
    match channel.exchange_with(batch, |_, payload| found = parse_link(payload)) {
        Ok(()) => Ok(found),
        Err(refusal) if refusal.is(libc::ENODEV) => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// All interfaces.
pub fn list(channel: &mut Channel) -> Done<Vec<Link>> {
    let mut links = Vec::new();
    channel.dump(libc::RTM_GETLINK, &link_header(0, 0, 0), |payload| {
        links.extend(parse_link(payload))
    })?;
    Ok(links)
}

/// All IPv4 addresses: the interface's index, the address and its prefix.
pub fn addresses(channel: &mut Channel) -> Done<Vec<(u32, Cidr)>> {
    let mut addresses = Vec::new();
    channel.dump(libc::RTM_GETADDR, &address_header(0, 0), |payload| {
        let parse = || {
            let list = payload.get(8..)?;
            let octets: [u8; 4] = attribute(list, libc::IFA_LOCAL)?.try_into().ok()?;
            Some((u32_at(payload, 4)?, Cidr::new(octets.into(), *payload.get(1)?)?))
        };
        addresses.extend(parse());
    })?;
    Ok(addresses)
}

/// An IPv4 route of any table but the one of the host's own addresses.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `0.0.0.0/0` for a default route.
    pub to: Cidr,
    pub interface: Option<u32>,
}

/// All such routes.
pub fn routes(channel: &mut Channel) -> Done<Vec<Route>> {
    let mut header = [0; 12];
    header[0] = libc::AF_INET as u8;
    let mut routes = Vec::new();
    channel.dump(libc::RTM_GETROUTE, &header, |payload| {
        let parse = || {
            let list = payload.get(12..)?;
            let table = attribute(list, libc::RTA_TABLE).and_then(|value| u32_at(value, 0));
            if table.unwrap_or(u32::from(*payload.get(4)?)) == u32::from(libc::RT_TABLE_LOCAL) {
                return None;
            }
            let octets: [u8; 4] = match attribute(list, libc::RTA_DST) {
                Some(octets) => octets.try_into().ok()?,
                None => [0; 4],
            };
            let to = Cidr::new(octets.into(), *payload.get(1)?)?;
            let interface = attribute(list, libc::RTA_OIF).and_then(|value| u32_at(value, 0));
            Some(Route { to, interface })
        };
        routes.extend(parse());
    })?;
    Ok(routes)
}
