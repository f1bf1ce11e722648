//! The rtnetlink(7) messages that a start may wait for: an interface for a container, and what is set inside.
//!
//! Each is appended to a batch and works in the namespace that the batch's channel was opened in. Everything else that
//! has to do with links, addresses and routes is in `rtnl`.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use crate::address::{Cidr, Mac};
use crate::netlink::{ACK, Attributes, Batch, CREATE, EXCLUSIVE, REPLACE};

/// The loopback interface has this index in every namespace.
pub const LOOPBACK: u32 = 1;
/// The index we give to eth0 of a container, known before it exists.
pub const ETH0: u32 = 2;

const VETH_PEER: u16 = 1; // VETH_INFO_PEER
const PORT_HAIRPIN: u16 = 4; // IFLA_BRPORT_MODE
const INET6_ADDRESS_MODE: u16 = 8; // IFLA_INET6_ADDR_GEN_MODE
const ADDRESS_MODE_NONE: u8 = 1; // IN6_ADDR_GEN_MODE_NONE
const UP: u32 = libc::IFF_UP as u32;

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

/// Keeps the interface without an IPv6 address of its own making, so that containers do not reach the host (past a
/// firewall that knows IPv4 only) over link-local addresses that nobody asked for. To be done before it goes up.
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
