//! Tests against the kernel. Each has a host of its own: a network namespace with a neighbour on its wire.
//!
//! ```text
//!   neighbour 203.0.113.2 ── wire ── 203.0.113.1 "host" (the network under test) ── bridge ── containers
//! ```
//!
//! They need root. Nothing of the machine's own network is touched.
#![allow(clippy::unwrap_used)]

mod callers;
mod endpoints;
mod ports;
mod recovery;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use runtime_sys::netlink::Protocol;
use runtime_sys::netns;

use crate::link;
use crate::netlink::{ACK, CREATE, Channel};
use crate::rtnl::Rtnl;
use crate::{Cidr, Endpoint, EndpointSpec, Network, NetworkConfig};

pub const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
pub const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// Long enough for an answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// Long enough to believe that no answer comes.
const SILENCE: Duration = Duration::from_millis(400);

/// The calling thread's namespace is the host.
pub struct World {
    pub host: OwnedFd,
    pub neighbour: OwnedFd,
}

/// Runs a test on a thread whose network namespace is a fresh host.
pub fn world(test: impl FnOnce(&World) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        netns::enter_new().unwrap();
        let host = netns::current().unwrap();
        let neighbour = {
            netns::enter_new().unwrap();
            let namespace = netns::current().unwrap();
            netns::enter(&host).unwrap();
            namespace
        };
        // A new namespace has the machine's setting.
        crate::sysctl::write("net/ipv4/ip_forward", "0").unwrap();
        wire(&host, &neighbour);
        test(&World { host, neighbour });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn wire(host: &OwnedFd, neighbour: &OwnedFd) {
    wire_as(host, neighbour, "wire", [HOST, NEIGHBOUR]);
}

/// Another neighbour, on another wire, whose way to everywhere is the host.
pub fn far_neighbour(world: &World) -> OwnedFd {
    netns::enter_new().unwrap();
    let far = netns::current().unwrap();
    netns::enter(&world.host).unwrap();
    let host = Ipv4Addr::new(198, 51, 100, 1);
    wire_as(&world.host, &far, "wire1", [host, FAR]);
    netns::within(&far, || default_route("wire1", host)).unwrap();
    far
}

fn default_route(interface: &str, gateway: Ipv4Addr) {
    let wire = Rtnl::open().unwrap().find(interface).unwrap().unwrap();
    let mut route = Channel::open(Protocol::Route).unwrap();
    let mut batch = route.batch();
    link::add_default_route(&mut batch, wire.index, gateway);
    route.exchange(batch).unwrap();
}

fn wire_as(host: &OwnedFd, neighbour: &OwnedFd, name: &str, addresses: [Ipv4Addr; 2]) {
    let mut route = Channel::open(Protocol::Route).unwrap();
    let mut batch = route.batch();
    batch.message(libc::RTM_NEWLINK, ACK | CREATE, &[0; 16], |list| {
        list.text(libc::IFLA_IFNAME, name);
        list.nest(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_KIND, "veth");
            info.nest(libc::IFLA_INFO_DATA, |data| {
                data.nest_after(1, &[0; 16], |peer| {
                    peer.text(libc::IFLA_IFNAME, name);
                    peer.number(libc::IFLA_NET_NS_FD, neighbour.as_raw_fd() as u32);
                });
            });
        });
    });
    route.exchange(batch).unwrap();
    for (namespace, address) in [(host, addresses[0]), (neighbour, addresses[1])] {
        netns::within(namespace, || {
            let rtnl = Rtnl::open().unwrap();
            let wire = rtnl.find(name).unwrap().unwrap();
            rtnl.set_up(link::LOOPBACK).unwrap();
            rtnl.add_address(wire.index, Cidr::new(address, 24).unwrap()).unwrap();
            rtnl.set_up(wire.index).unwrap();
        })
        .unwrap();
    }
}

/// The neighbour sends what it does not know over the host.
pub fn route_over_host(world: &World) {
    netns::within(&world.neighbour, || default_route("wire", HOST)).unwrap();
}

pub fn config() -> NetworkConfig {
    NetworkConfig {
        bridge: "test0".into(),
        table: "test-net".into(),
        warm: 2,
        warm_empty: 1,
        ..Default::default()
    }
}

/// A network with nothing before it.
pub fn open() -> Network {
    open_with(config())
}

pub fn open_with(config: NetworkConfig) -> Network {
    let network = Network::open(config).unwrap();
    network.recover(Vec::new()).unwrap();
    network
}

pub fn endpoint(network: &Network) -> Endpoint {
    network.bridge_endpoint(EndpointSpec::default()).unwrap()
}

/// Does this in a namespace.
pub fn inside<T>(namespace: impl AsFd, work: impl FnOnce() -> T) -> T {
    netns::within(namespace, work).unwrap()
}

/// A TCP server that tells each client which address it came from.
pub fn serve_tcp(namespace: impl AsFd, port: u16) {
    let listener = inside(namespace, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut client = client;
            let _ = write!(client, "{}", client.peer_addr().unwrap().ip());
        }
    });
}

/// A UDP server that tells each client which address it came from, with a name for itself.
pub fn serve_udp(namespace: impl AsFd, port: u16, name: &'static str) {
    let socket = inside(namespace, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{name} {}", from.ip()).as_bytes(), from);
        }
    });
}

/// What a server says when it is called from a namespace; `None` if nothing answers.
pub fn call_tcp(namespace: impl AsFd, address: Ipv4Addr, port: u16) -> Option<String> {
    call_tcp_for(namespace, address, port, PATIENCE)
}

/// The same, but quickly convinced that nothing answers.
pub fn is_silent(namespace: impl AsFd, address: Ipv4Addr, port: u16) -> bool {
    call_tcp_for(namespace, address, port, SILENCE).is_none()
}

fn call_tcp_for(namespace: impl AsFd, address: Ipv4Addr, port: u16, patience: Duration) -> Option<String> {
    inside(namespace, || {
        let address = SocketAddr::V4(SocketAddrV4::new(address, port));
        let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
        stream.set_read_timeout(Some(patience)).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    })
}

/// What a UDP server says.
pub fn call_udp(namespace: impl AsFd, address: Ipv4Addr, port: u16) -> Option<String> {
    inside(namespace, || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        ask_udp(&socket, address, port, PATIENCE)
    })
}

/// What a UDP server says to this socket, which is asked again until somebody answers or patience ends.
pub fn ask_udp(socket: &UdpSocket, address: Ipv4Addr, port: u16, patience: Duration) -> Option<String> {
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let end = Instant::now() + patience;
    let mut buffer = [0; 64];
    while Instant::now() < end {
        // An error is an answer to the packet before: nobody listened then.
        let _ = socket.send_to(b"?", (address, port));
        if let Ok(length) = socket.recv(&mut buffer) {
            return Some(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    }
    None
}

/// Waits until it holds, for what the kernel or a thread does in its own time.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The names of the host's interfaces that are ports of a bridge.
pub fn bridge_ports(world: &World) -> Vec<String> {
    inside(&world.host, || {
        let links = Rtnl::open().unwrap().links().unwrap();
        links
            .into_iter()
            .filter(|link| link.master.is_some())
            .map(|link| link.name)
            .collect()
    })
}

/// A table as another firewall would write it, which drops what is forwarded.
pub fn drop_forwarded(table: &str, chain: &str) {
    const NFTABLES: u16 = 10 << 8;
    let mut channel = Channel::open(Protocol::Netfilter).unwrap();
    let mut batch = channel.batch();
    batch.message(16, 0, &[0, 0, 0, 10], |_| {});
    batch.message(NFTABLES, CREATE, &[2, 0, 0, 0], |list| list.text(1, table));
    batch.message(NFTABLES | 3, CREATE | ACK, &[2, 0, 0, 0], |list| {
        list.text(1, table);
        list.text(3, chain);
        list.nest(4, |hook| {
            hook.number_be(1, 2);
            hook.number_be(2, 0);
        });
        list.number_be(5, 0);
        list.text(7, "filter");
    });
    batch.message(17, 0, &[0, 0, 0, 10], |_| {});
    channel.exchange(batch).unwrap();
}
