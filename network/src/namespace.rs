//! Makes network namespaces: empty ones, and ones with an interface on the bridge.
//!
//! A maker works on a thread of its own, because the kernel makes a namespace by moving the calling thread into it.
//! The thread goes home after each one: a namespace dies with its last user, and that must be the container.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use runtime_sys::netlink::Protocol;
use runtime_sys::netns;

use crate::address::{Cidr, Mac};
use crate::endpoint::{Endpoint, EndpointRecord};
use crate::error::{Error, Result};
use crate::link::{self, ETH0, LOOPBACK, Veth};
use crate::names::Names;
use crate::netlink::Channel;
use crate::sysctl;

/// What every namespace's interface has in common.
#[derive(Clone, Debug)]
pub struct Attachment {
    pub bridge: u32,
    pub bridge_name: String,
    pub gateway: Cidr,
    pub mtu: u32,
}

/// Makes namespaces.
#[derive(Debug)]
pub struct Maker {
    home: OwnedFd,
    /// Talks to the kernel about the namespace of the bridge.
    host: Channel,
    names: Names,
    attachment: Attachment,
    has_ipv6: bool,
}

impl Maker {
    /// Opens what it needs in the calling thread's namespace, which is the one with the bridge.
    pub fn new(attachment: Attachment) -> Result<Self> {
        let home = netns::current().map_err(Error::system("open the host's network namespace"))?;
        let host = Channel::open(Protocol::Route)?;
        Ok(Self {
            home,
            host,
            names: Names::new(&attachment.bridge_name),
            has_ipv6: link::has_ipv6(attachment.mtu),
            attachment,
        })
    }

    /// A namespace with nothing but its loopback, up.
    pub fn empty(&mut self) -> Result<OwnedFd> {
        self.fresh(|_, namespace| Ok(namespace))
    }

    /// A namespace with an interface on the bridge, with address and default route, ready for a container.
    pub fn endpoint(&mut self, address: Ipv4Addr, mac: Mac) -> Result<Endpoint> {
        self.fresh(|maker, namespace| maker.attach(namespace, address, mac))
    }

    /// Gives an endpoint that is ready another hardware address.
    pub fn change_mac(&mut self, endpoint: &mut Endpoint, mac: Mac) -> Result<()> {
        let action = || format!("set the MAC address of {} to {mac}", endpoint.record.ip);
        netns::within(&endpoint.netns, || {
            let mut inside = Channel::open(Protocol::Route)?;
            let mut batch = inside.batch();
            link::set_mac(&mut batch, ETH0, mac);
            inside.exchange(batch).map_err(|refusal| refusal.because(action()))
        })
        .map_err(Error::system("enter a network namespace"))??;
        endpoint.record.mac = mac;
        Ok(())
    }

    /// Runs `work` in a new namespace. Whatever fails, the thread goes home and the namespace is forgotten.
    fn fresh<T>(&mut self, work: impl FnOnce(&mut Self, OwnedFd) -> Result<T>) -> Result<T> {
        netns::enter_new().map_err(Error::system("create a network namespace"))?;
        let made = prepare().and_then(|namespace| work(self, namespace));
        netns::enter(&self.home).map_err(Error::system("return to the host's network namespace"))?;
        made
    }

    fn attach(&mut self, namespace: OwnedFd, address: Ipv4Addr, mac: Mac) -> Result<Endpoint> {
        let Attachment {
            bridge, gateway, mtu, ..
        } = self.attachment;
        let host_name = loop {
            let host_name = self.names.next();
            let mut batch = self.host.batch();
            let veth = Veth {
                host_name: &host_name,
                bridge,
                mtu,
                mac,
                has_ipv6: self.has_ipv6,
                namespace: namespace.as_fd(),
            };
            link::add_veth(&mut batch, &veth);
            match self.host.exchange(batch) {
                Ok(()) => break host_name,
                // Somebody has the name, against all odds.
                Err(refusal) if refusal.is(libc::EEXIST) => continue,
                Err(refusal) if refusal.is(libc::EXFULL) => {
                    return Err(Error::BridgeFull {
                        bridge: self.attachment.bridge_name.clone(),
                    });
                }
                Err(refusal) => {
                    let action = format!("create an interface on bridge {}", self.attachment.bridge_name);
                    return Err(refusal.because(action));
                }
            }
        };
        if self.has_ipv6 {
            // As in Docker, a container has no IPv6 on a network that has none.
            sysctl::write("net/ipv6/conf/eth0/disable_ipv6", "1").map_err(Error::system("disable IPv6 on eth0"))?;
        }
        let prefix = gateway.prefix();
        let own = Cidr::new(address, prefix).expect("a subnet's prefix is at most 32");
        let mut inside = Channel::open(Protocol::Route)?;
        let mut batch = inside.batch();
        link::add_address(&mut batch, ETH0, own);
        link::set_up(&mut batch, ETH0);
        link::add_default_route(&mut batch, ETH0, gateway.address());
        let action = || format!("configure eth0 with address {own} and gateway {}", gateway.address());
        inside.exchange(batch).map_err(|refusal| refusal.because(action()))?;
        let record = EndpointRecord {
            version: EndpointRecord::VERSION,
            ip: address,
            prefix_len: prefix,
            gateway: gateway.address(),
            mac,
            host_if: host_name,
            bridge: self.attachment.bridge_name.clone(),
            mtu,
        };
        Ok(Endpoint {
            netns: namespace,
            record,
        })
    }
}

/// What every namespace of ours has: a loopback that is up, and Docker's settings for unprivileged containers.
fn prepare() -> Result<OwnedFd> {
    let namespace = netns::current().map_err(Error::system("open a new network namespace"))?;
    let mut inside = Channel::open(Protocol::Route)?;
    let mut batch = inside.batch();
    link::set_up(&mut batch, LOOPBACK);
    inside
        .exchange(batch)
        .map_err(|refusal| refusal.because("bring a loopback interface up"))?;
    // Any port may be bound and ping(8) works without capabilities. Where /proc/sys cannot be written they stay strict.
    let _ = sysctl::write("net/ipv4/ip_unprivileged_port_start", "0");
    let _ = sysctl::write("net/ipv4/ping_group_range", "0 2147483647");
    Ok(namespace)
}
