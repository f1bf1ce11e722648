//! Links, addresses and routes off the path of a start, by rtnetlink: the bridge, lists, removals.
//!
//! rtnetlink is asynchronous and this crate is not: here is its one home. A netlink socket belongs to the network
//! namespace of the thread that opened it, so that a connection is opened where it shall work, with a runtime of its
//! own on that thread. The runtime runs only while a request waits for its answer.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt, future};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, BridgeStpState, In6AddrGenMode, InfoKind, LinkAttribute, LinkExtentMask, LinkFlags,
    LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::sys::AsyncSocket;
use rtnetlink::{Handle, LinkBridge, LinkGetRequest, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use tokio::runtime::{Builder, Runtime};

use crate::address::{Cidr, Mac};
use crate::error::{Error, Result};
use crate::netlink::{Done, Refusal, sentence};

/// No answer takes this long. One that rtnetlink cannot read never comes, as far as its caller can see.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What an interface is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    Bridge,
    Veth,
    Other,
}

/// An interface as the kernel describes it.
#[derive(Clone, Debug)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// The index of the bridge that it is a port of, if any.
    pub master: Option<u32>,
    pub kind: LinkKind,
    pub mtu: u32,
    pub up: bool,
}

/// An IPv4 route of any table but the one of the host's own addresses.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `0.0.0.0/0` for a default route.
    pub to: Cidr,
    /// Where it leads; of several ways the first.
    pub interface: Option<u32>,
}

/// A connection to the kernel.
///
/// To be used and dropped on a thread that drives no other runtime: a wait within a wait is a panic.
#[derive(Debug)]
pub struct Rtnl {
    runtime: Runtime,
    handle: Handle,
}

impl Rtnl {
    /// Opens a connection in the calling thread's network namespace.
    ///
    /// # Errors
    /// If the socket cannot be had.
    pub fn open() -> Result<Self> {
        let open = || {
            let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
            let handle = {
                let _reactor = runtime.enter();
                let (mut connection, handle, _) = rtnetlink::new_connection()?;
                // Errors with the kernel's own sentence, and without a copy of the whole request in them.
                let socket = connection.socket_mut().socket_ref();
                socket.set_ext_ack(true)?;
                socket.set_cap_ack(true)?;
                runtime.spawn(connection);
                handle
            };
            Ok(Self { runtime, handle })
        };
        open().map_err(Error::system("open an rtnetlink connection"))
    }

    /// The interface of this name, if there is one.
    pub fn find(&self, name: &str) -> Done<Option<Link>> {
        self.get(self.handle.link().get().match_name(name))
    }

    /// The interface with this index, if there is one.
    pub fn find_index(&self, index: u32) -> Done<Option<Link>> {
        self.get(self.handle.link().get().match_index(index))
    }

    fn get(&self, request: LinkGetRequest) -> Done<Option<Link>> {
        let answer = self.wait(async { pin!(brief(request).execute()).try_next().await });
        match answer {
            Ok(message) => Ok(message.and_then(read_link)),
            Err(refusal) if refusal.is(libc::ENODEV) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// All interfaces.
    pub fn links(&self) -> Done<Vec<Link>> {
        self.gather(brief(self.handle.link().get()).execute(), read_link)
    }

    /// All IPv4 addresses: the interface's index, the address and its prefix.
    pub fn addresses(&self) -> Done<Vec<(u32, Cidr)>> {
        let mut request = self.handle.address().get();
        request.message_mut().header.family = AddressFamily::Inet;
        self.gather(request.execute(), read_address)
    }

    /// All IPv4 routes, but for those to the host's own addresses.
    pub fn routes(&self) -> Done<Vec<Route>> {
        let ipv4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
        self.gather(self.handle.route().get(ipv4).execute(), read_route)
    }

    /// Makes a bridge, down, with a hardware address of its own: one that it borrowed from a port would change with
    /// the ports, and the containers' ARP entries for their gateway would break.
    pub fn add_bridge(&self, name: &str, mtu: u32, mac: Mac) -> Done<()> {
        let bridge = LinkMessageBuilder::<LinkBridge>::new(name)
            .mtu(mtu)
            .address(mac.octets().to_vec())
            // No spanning tree: a port would listen and learn for half a minute before it forwards.
            .stp_state(BridgeStpState::Disabled);
        self.wait(self.handle.link().add(bridge.build()).execute())
    }

    /// Keeps the interface without an IPv6 address of its own making, as [`link::add_veth`](crate::link::add_veth)
    /// does with the containers' interfaces. To be done before it goes up.
    pub fn set_no_link_local(&self, index: u32) -> Done<()> {
        let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let link = LinkUnspec::new_with_index(index);
        self.change(link.append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![none])))
    }

    /// Changes the MTU.
    pub fn set_mtu(&self, index: u32, mtu: u32) -> Done<()> {
        self.change(LinkUnspec::new_with_index(index).mtu(mtu))
    }

    /// Brings an interface up.
    pub fn set_up(&self, index: u32) -> Done<()> {
        self.change(LinkUnspec::new_with_index(index).up())
    }

    fn change(&self, link: LinkMessageBuilder<LinkUnspec>) -> Done<()> {
        self.wait(self.handle.link().set(link.build()).execute())
    }

    /// Removes an interface, and with a veth its peer. Slow (some 15 ms): never on the path of a request. Returns
    /// whether it was there.
    pub fn delete(&self, index: u32) -> Done<bool> {
        match self.wait(self.handle.link().del(index).execute()) {
            Ok(()) => Ok(true),
            Err(refusal) if refusal.is(libc::ENODEV) => Ok(false),
            Err(refusal) => Err(refusal),
        }
    }

    /// Gives an interface an address, and with it the route to the subnet once the interface is up.
    pub fn add_address(&self, index: u32, address: Cidr) -> Done<()> {
        let addresses = self.handle.address();
        let request = addresses.add(index, address.address().into(), address.prefix());
        self.wait(request.replace().execute())
    }

    /// Takes an address from an interface; fine if it is not there (the kernel removes others with a primary one).
    pub fn delete_address(&self, index: u32, address: Cidr) -> Done<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.index = index;
        message.header.prefix_len = address.prefix();
        message
            .attributes
            .push(AddressAttribute::Local(address.address().into()));
        match self.wait(self.handle.address().del(message).execute()) {
            Err(refusal) if !refusal.is(libc::EADDRNOTAVAIL) => Err(refusal),
            _ => Ok(()),
        }
    }

    fn gather<M, T>(
        &self,
        answers: impl Stream<Item = std::result::Result<M, rtnetlink::Error>>,
        read: impl Fn(M) -> Option<T>,
    ) -> Done<Vec<T>> {
        self.wait(
            answers
                .try_filter_map(|message| future::ok(read(message)))
                .try_collect(),
        )
    }

    fn wait<T>(&self, answer: impl Future<Output = std::result::Result<T, rtnetlink::Error>>) -> Done<T> {
        let limited = async { tokio::time::timeout(ANSWER_LIMIT, answer).await };
        match self.runtime.block_on(limited) {
            Ok(answer) => answer.map_err(refusal),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer from the kernel").into()),
        }
    }
}

/// Counters of packets are most of what the kernel says about an interface.
fn brief(request: LinkGetRequest) -> LinkGetRequest {
    request.set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats])
}

fn refusal(error: rtnetlink::Error) -> Refusal {
    match error {
        rtnetlink::Error::NetlinkError(answer) => Refusal {
            source: answer.to_io(),
            said: sentence(&answer.header),
        },
        other => io::Error::other(other).into(),
    }
}

fn read_link(message: LinkMessage) -> Option<Link> {
    let mut name = None;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        master: None,
        kind: LinkKind::Other,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text),
            LinkAttribute::Controller(index) => link.master = Some(index),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::LinkInfo(list) => {
                link.kind = match list.iter().find(|info| matches!(info, LinkInfo::Kind(_))) {
                    Some(LinkInfo::Kind(InfoKind::Bridge)) => LinkKind::Bridge,
                    Some(LinkInfo::Kind(InfoKind::Veth)) => LinkKind::Veth,
                    _ => LinkKind::Other,
                }
            }
            _ => {}
        }
    }
    link.name = name?;
    Some(link)
}

fn read_address(message: AddressMessage) -> Option<(u32, Cidr)> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })?;
    Some((message.header.index, Cidr::new(local, message.header.prefix_len)?))
}

fn read_route(message: RouteMessage) -> Option<Route> {
    let mut table = u32::from(message.header.table);
    let mut to = Ipv4Addr::UNSPECIFIED;
    let mut interface = None;
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = number,
            RouteAttribute::Destination(RouteAddress::Inet(address)) => to = address,
            // One that is not understood must not pass for a default route.
            RouteAttribute::Destination(_) => return None,
            RouteAttribute::Oif(index) => interface = Some(index),
            RouteAttribute::MultiPath(ways) => interface = ways.first().map(|way| way.interface_index),
            _ => {}
        }
    }
    let to = Cidr::new(to, message.header.destination_prefix_length)?;
    (table != u32::from(libc::RT_TABLE_LOCAL)).then_some(Route { to, interface })
}
