//! Published ports: which port of the host leads to which port of a container.
//!
//! [`Ports`] decides; it knows nothing of the kernel. A port is *held* by a socket that is bound to it (so that no
//! other program takes it, and one that has it is found before anything is changed); what holds it is a parameter, so
//! that the rules can be tried without a kernel.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    Tcp,
    Udp,
    /// Known, so that it can be refused by name.
    Sctp,
}

impl Proto {
    /// The name in `80/tcp`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The protocol's number in an IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// Which port of the host is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostPort {
    /// Any free one out of the host's range for such purposes.
    #[default]
    Any,
    /// This one.
    Exactly(u16),
    /// The first free one from the first to the second.
    OneOf(u16, u16),
}

/// One port to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRequest {
    pub container_port: u16,
    pub proto: Proto,
    /// `None`: all of the host's addresses.
    pub host_ip: Option<IpAddr>,
    pub host_port: HostPort,
}

impl PortRequest {
    /// The requests for a range of container ports (`-p 8000-8002:80-82`, or with no host ports). One container port
    /// with a host range is one request, for a free port of the range.
    ///
    /// # Errors
    /// If a range is none, or the two have different sizes.
    pub fn range(
        container: RangeInclusive<u16>,
        proto: Proto,
        host_ip: Option<IpAddr>,
        host: Option<RangeInclusive<u16>>,
    ) -> Result<Vec<Self>> {
        let text = |range: &RangeInclusive<u16>| format!("{}-{}", range.start(), range.end());
        for range in std::iter::once(&container).chain(host.as_ref()) {
            if *range.start() == 0 || range.is_empty() {
                return Err(Error::InvalidPort { what: text(range) });
            }
        }
        let make = |container_port, host_port| Self {
            container_port,
            proto,
            host_ip,
            host_port,
        };
        match host {
            None => Ok(container.map(|port| make(port, HostPort::Any)).collect()),
            Some(host) if container.len() == host.len() => Ok(container
                .zip(host)
                .map(|(port, host)| make(port, HostPort::Exactly(host)))
                .collect()),
            Some(host) if container.len() == 1 => Ok(vec![make(
                *container.start(),
                HostPort::OneOf(*host.start(), *host.end()),
            )]),
            Some(host) => Err(Error::RangeSizes {
                container: text(&container),
                host: text(&host),
            }),
        }
    }
}

/// A published port; stored on disk with the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortBinding {
    pub container_port: u16,
    pub proto: Proto,
    /// `0.0.0.0`: all of the host's addresses.
    pub host_ip: Ipv4Addr,
    pub host_port: u16,
}

/// Takes hold of a port of the host.
pub type Hold<'a, H> = dyn FnMut(Proto, SocketAddrV4) -> io::Result<H> + 'a;

/// A published port and what holds it.
#[derive(Debug)]
pub struct Held<H> {
    pub binding: PortBinding,
    pub target: Ipv4Addr,
    /// Only kept. `None`: after a restart another program had it.
    #[allow(dead_code)]
    pub holder: Option<H>,
}

/// All published ports, by the owner's name.
#[derive(Debug)]
pub struct Ports<H> {
    owners: HashMap<String, Vec<Held<H>>>,
    /// Who uses a port on which addresses: with a wildcard there is nobody else.
    taken: HashMap<(Proto, u16), Vec<Ipv4Addr>>,
    ephemeral: RangeInclusive<u16>,
    /// Where the search for a free port begins, so that a freed one is not given again at once.
    next: u16,
}

impl<H> Ports<H> {
    /// Nothing is published; ports that nobody chose come from `ephemeral`.
    pub fn new(ephemeral: RangeInclusive<u16>) -> Self {
        let next = *ephemeral.start();
        Self {
            owners: HashMap::new(),
            taken: HashMap::new(),
            ephemeral,
            next,
        }
    }

    /// Chooses and holds a port for each request, all or none. Nothing is noted yet: see [`commit`](Self::commit).
    ///
    /// # Errors
    /// The first request that cannot be met.
    pub fn choose(
        &mut self,
        owner: &str,
        target: Ipv4Addr,
        requests: &[PortRequest],
        hold: &mut Hold<'_, H>,
    ) -> Result<Vec<Held<H>>> {
        if self.owners.contains_key(owner) {
            return Err(Error::OwnerPublished { owner: owner.into() });
        }
        self.choose_more(target, requests, hold)
    }

    /// As [`choose`](Self::choose), for an owner that may have others.
    pub fn choose_more(
        &mut self,
        target: Ipv4Addr,
        requests: &[PortRequest],
        hold: &mut Hold<'_, H>,
    ) -> Result<Vec<Held<H>>> {
        for request in requests {
            check(request)?;
        }
        let mut chosen: Vec<Held<H>> = Vec::with_capacity(requests.len());
        // What leaves no choice comes first: `-p 80 -p 32768:81` must not give 32768 to port 80.
        let (fixed, open): (Vec<_>, Vec<_>) =
            (0..requests.len()).partition(|&n| matches!(requests[n].host_port, HostPort::Exactly(_)));
        let mut order = Vec::with_capacity(requests.len());
        for n in fixed.into_iter().chain(open) {
            chosen.push(self.choose_one(&requests[n], target, &chosen, hold)?);
            order.push(n);
        }
        let mut sorted: Vec<_> = order.into_iter().zip(chosen).collect();
        sorted.sort_by_key(|(n, _)| *n);
        Ok(sorted.into_iter().map(|(_, held)| held).collect())
    }

    fn choose_one(
        &mut self,
        request: &PortRequest,
        target: Ipv4Addr,
        chosen: &[Held<H>],
        hold: &mut Hold<'_, H>,
    ) -> Result<Held<H>> {
        let PortRequest {
            container_port, proto, ..
        } = *request;
        let host_ip = match request.host_ip {
            Some(IpAddr::V4(address)) => address,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let is_free = |port| {
            let ours = chosen.iter().map(|held| &held.binding);
            let ours = ours
                .filter(|one| one.proto == proto && one.host_port == port)
                .map(|one| one.host_ip);
            let others = self.taken.get(&(proto, port)).into_iter().flatten().copied();
            !ours.chain(others).any(|taken| collide(taken, host_ip))
        };
        let held = |host_port, holder| Held {
            binding: PortBinding {
                container_port,
                proto,
                host_ip,
                host_port,
            },
            target,
            holder: Some(holder),
        };
        let (first, last, start) = match request.host_port {
            HostPort::Exactly(port) => {
                if !is_free(port) {
                    return Err(Error::PortAllocated { address: host_ip, port });
                }
                let holder = hold(proto, SocketAddrV4::new(host_ip, port));
                let failed = |source| Error::PortBind {
                    address: host_ip,
                    port,
                    source,
                };
                return Ok(held(port, holder.map_err(failed)?));
            }
            HostPort::OneOf(first, last) => (first, last, first),
            HostPort::Any => {
                let (first, last) = (*self.ephemeral.start(), *self.ephemeral.end());
                (
                    first,
                    last,
                    if (first..=last).contains(&self.next) {
                        self.next
                    } else {
                        first
                    },
                )
            }
        };
        for port in (start..=last).chain(first..start).filter(|&port| is_free(port)) {
            match hold(proto, SocketAddrV4::new(host_ip, port)) {
                Ok(holder) => {
                    if request.host_port == HostPort::Any {
                        self.next = port.checked_add(1).unwrap_or(first);
                    }
                    return Ok(held(port, holder));
                }
                // Another program has it, or it is a privileged one: the next may do.
                Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {}
                Err(source) => {
                    return Err(Error::PortBind {
                        address: host_ip,
                        port,
                        source,
                    });
                }
            }
        }
        Err(Error::PortsExhausted {
            address: host_ip,
            first,
            last,
        })
    }

    /// Notes what was chosen.
    pub fn commit(&mut self, owner: &str, held: Vec<Held<H>>) {
        if held.is_empty() {
            return;
        }
        for one in &held {
            self.taken
                .entry((one.binding.proto, one.binding.host_port))
                .or_default()
                .push(one.binding.host_ip);
        }
        self.owners.insert(owner.into(), held);
    }

    /// Whether a port that was published before can be noted as it was.
    pub fn is_free(&self, binding: &PortBinding) -> bool {
        let taken = self.taken.get(&(binding.proto, binding.host_port));
        !taken
            .into_iter()
            .flatten()
            .any(|taken| collide(*taken, binding.host_ip))
    }

    /// Forgets an owner's ports and returns them; their holders let go when dropped.
    pub fn remove(&mut self, owner: &str) -> Vec<Held<H>> {
        let held = self.owners.remove(owner).unwrap_or_default();
        for one in &held {
            let key = (one.binding.proto, one.binding.host_port);
            if let Some(taken) = self.taken.get_mut(&key) {
                if let Some(at) = taken.iter().position(|address| *address == one.binding.host_ip) {
                    taken.swap_remove(at);
                }
                if taken.is_empty() {
                    self.taken.remove(&key);
                }
            }
        }
        held
    }

    /// An owner's ports.
    pub fn of(&self, owner: &str) -> &[Held<H>] {
        self.owners.get(owner).map_or(&[], Vec::as_slice)
    }

    /// Everything that is published.
    pub fn all(&self) -> impl Iterator<Item = &Held<H>> {
        self.owners.values().flatten()
    }
}

fn check(request: &PortRequest) -> Result<()> {
    let PortRequest {
        container_port,
        proto,
        host_ip,
        host_port,
    } = *request;
    let invalid = |what: String| Err(Error::InvalidPort { what });
    if container_port == 0 {
        return invalid(format!("{container_port}/{proto}"));
    }
    match host_port {
        HostPort::Exactly(0) => return invalid(format!("0:{container_port}/{proto}")),
        HostPort::OneOf(first, last) if first == 0 || first > last => {
            return invalid(format!("{first}-{last}:{container_port}/{proto}"));
        }
        _ => {}
    }
    match (proto, host_ip) {
        (Proto::Sctp, _) => Err(Error::Protocol {
            port: container_port,
            protocol: proto.name(),
        }),
        (_, Some(address @ IpAddr::V6(_))) => Err(Error::Ipv6 { address }),
        _ => Ok(()),
    }
}

fn collide(a: Ipv4Addr, b: Ipv4Addr) -> bool {
    a == b || a.is_unspecified() || b.is_unspecified()
}

#[cfg(test)]
mod tests;
