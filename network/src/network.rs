//! The handle that the engine holds.

use std::collections::{BTreeSet, HashSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runtime_sys::iptables;

use crate::address::Cidr;
use crate::bridge::{self, Bridge};
use crate::config::NetworkConfig;
use crate::endpoint::{Endpoint, EndpointRecord, EndpointSpec};
use crate::error::{Error, Result};
use crate::home::Home;
use crate::ipam::Ipam;
use crate::janitor::{Chore, Janitor};
use crate::names::Names;
use crate::namespace::{Attachment, Maker};
use crate::nft::Table;
use crate::pool::Pool;
use crate::port::{PortBinding, PortRequest, Proto};
use crate::publisher::Publisher;
use crate::rtnl::{Link, LinkKind};
use crate::sysctl;

/// Linux's own default, for a host that does not say.
const EPHEMERAL: RangeInclusive<u16> = 32768..=60999;

/// The default bridge network of one daemon. Clones are handles on the same one.
///
/// [`open`](Self::open), then [`recover`](Self::recover) once (with nothing, the first time), then the rest in any
/// order from any thread.
#[derive(Clone)]
pub struct Network(Arc<Inner>);

struct Inner {
    config: NetworkConfig,
    home: Home,
    bridge: Bridge,
    pool: Pool,
    publisher: Mutex<Publisher>,
    janitor: Janitor,
}

/// What is to be known about a network.
#[derive(Clone, Debug)]
pub struct NetworkInfo {
    pub bridge: String,
    pub subnet: Cidr,
    pub gateway: Ipv4Addr,
    pub mtu: u32,
    pub masquerade: bool,
    /// How many namespaces are ready, with an interface and without.
    pub warm: (usize, usize),
    /// What the user should know, in sentences.
    pub warnings: Vec<String>,
}

/// What could not be had back after a restart. The container runs on; this is for the log.
#[derive(Debug)]
pub struct Problem {
    pub owner: String,
    pub error: Error,
}

/// The outcome of [`Network::recover`].
#[derive(Debug, Default)]
pub struct Recovered {
    pub problems: Vec<Problem>,
    /// The interfaces without an owner, which are being removed.
    pub orphans: Vec<String>,
}

impl Network {
    /// Opens the network in the calling thread's network namespace: the bridge, its address, the host's settings and
    /// the table. What is there already is kept, so that running containers do not notice.
    ///
    /// # Errors
    /// If the configuration makes no sense or the kernel refuses (CAP_NET_ADMIN is needed).
    pub fn open(config: NetworkConfig) -> Result<Self> {
        config.validate()?;
        let home = Home::here()?;
        let janitor = Janitor::start()?;
        let bridge = {
            let config = config.clone();
            janitor.ask(move |rtnl| bridge::ensure(rtnl, &config))?
        };
        let subnet = bridge.gateway.network();
        let ipam = Ipam::new(subnet, bridge.gateway.address()).ok_or(Error::SubnetSize { subnet })?;
        let attachment = Attachment {
            bridge: bridge.index,
            bridge_name: config.bridge.clone(),
            gateway: bridge.gateway,
            mtu: bridge.mtu,
        };
        let maker = Maker::new(attachment)?;
        let pool = Pool::start(maker, ipam, subnet, &config.bridge, config.warm, config.warm_empty)?;
        let mut table = Table::new(&config.table, &config.bridge, subnet, config.masquerade)?;
        match bridge.turned_forwarding_on {
            true => table.guard_routing(),
            false => table.inherit_guard()?,
        }
        let mut publisher = Publisher::new(table, ephemeral());
        // One that is there serves running containers until `recover` has replaced it in one step.
        publisher.ensure_table()?;
        let inner = Inner {
            home,
            bridge,
            pool,
            publisher: Mutex::new(publisher),
            janitor,
            config,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Takes over from the daemon before: `known` are the owners that still have an endpoint or ports. Their addresses
    /// and ports are taken again, the table is written anew in one transaction, and interfaces on our bridge that
    /// nobody owns are removed in the background. After that the stock of namespaces begins to fill.
    ///
    /// # Errors
    /// If the table cannot be written or the interfaces cannot be listed.
    pub fn recover(&self, known: Vec<(String, Option<EndpointRecord>, Vec<PortBinding>)>) -> Result<Recovered> {
        let inner = &*self.0;
        let mut recovered = Recovered::default();
        let mut owned = HashSet::new();
        let mut publisher = inner.publisher();
        for (owner, endpoint, bindings) in known {
            let Some(endpoint) = endpoint else { continue };
            let mut problem = |error| {
                recovered.problems.push(Problem {
                    owner: owner.clone(),
                    error,
                })
            };
            if let Err(error) = inner.pool.reserve(endpoint.ip) {
                problem(error);
            }
            publisher
                .readopt(&inner.home, &owner, endpoint.ip, &bindings)
                .into_iter()
                .for_each(problem);
            owned.insert(endpoint.host_if);
        }
        publisher.rebuild()?;
        drop(publisher);
        let orphans = inner.orphans(&owned)?;
        if !orphans.is_empty() {
            recovered.orphans = orphans.iter().map(|link| link.name.clone()).collect();
            inner.janitor.leave(Chore::Delete(orphans));
        }
        inner.pool.fill();
        Ok(recovered)
    }

    /// A namespace with an interface on the bridge. Ready in microseconds unless something special is asked for or
    /// the stock is empty.
    ///
    /// # Errors
    /// If the address cannot be had, none is free, or the kernel refuses.
    pub fn bridge_endpoint(&self, spec: EndpointSpec) -> Result<Endpoint> {
        self.0.pool.endpoint(&spec)
    }

    /// An endpoint out of stock, in microseconds and without ever waiting: for an async task, which goes to
    /// [`bridge_endpoint`](Self::bridge_endpoint) on a blocking thread when there is none.
    pub fn ready_endpoint(&self) -> Option<Endpoint> {
        self.0.pool.ready()
    }

    /// An empty namespace out of stock, likewise; otherwise see [`empty_netns`](Self::empty_netns).
    pub fn ready_netns(&self) -> Option<OwnedFd> {
        self.0.pool.ready_empty()
    }

    /// A namespace with nothing but a loopback (`--network none`).
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn empty_netns(&self) -> Result<OwnedFd> {
        self.0.pool.empty()
    }

    /// Publishes ports of an endpoint, all of them or none, and returns them in the order of the requests. They can be
    /// reached when this returns: on the host's addresses, from other containers and, with the wildcard address, on
    /// the loopback.
    ///
    /// # Errors
    /// If a request cannot be met (then nothing has changed), or the owner has published already.
    pub fn publish(&self, owner: &str, endpoint: &EndpointRecord, ports: &[PortRequest]) -> Result<Vec<PortBinding>> {
        let inner = &*self.0;
        let bindings = inner.publisher().publish(&inner.home, owner, endpoint.ip, ports)?;
        runtime_sys::failpoint!("ports-published");
        inner.forget_udp(&bindings);
        Ok(bindings)
    }

    /// Changes an owner's ports from what the requests `present` gave, in their order, to what `wanted` asks for: ports of
    /// equal requests stay as they are, everything else goes and comes in one transaction. Returns them in the order of
    /// `wanted`. Connections over ports that go are kept by the kernel until they end.
    ///
    /// # Errors
    /// If a request cannot be met; then nothing has changed.
    pub fn republish(
        &self,
        owner: &str,
        endpoint: &EndpointRecord,
        present: &[PortRequest],
        wanted: &[PortRequest],
    ) -> Result<Vec<PortBinding>> {
        let inner = &*self.0;
        let (gone, bindings) = inner
            .publisher()
            .republish(&inner.home, owner, endpoint.ip, present, wanted)?;
        inner.forget_udp(&gone);
        inner.forget_udp(&bindings);
        Ok(bindings)
    }

    /// What an owner has published.
    pub fn published(&self, owner: &str) -> Vec<PortBinding> {
        self.0.publisher().of(owner)
    }

    /// Takes an owner's ports back; fine if there are none.
    ///
    /// # Errors
    /// If the table could not be changed. The ports are free all the same, and the next change mends the table.
    pub fn unpublish(&self, owner: &str) -> Result<()> {
        let (bindings, result) = self.0.publisher().unpublish(owner);
        runtime_sys::failpoint!("ports-unpublished");
        self.0.forget_udp(&bindings);
        result
    }

    /// Frees an endpoint's address. The interface goes away with the namespace, when its last process and descriptor
    /// are gone: the kernel does that by itself, off everybody's path.
    pub fn release(&self, endpoint: &EndpointRecord) {
        self.0.pool.release(endpoint.ip);
    }

    /// What is to be known, with warnings about the host. Asks the kernel: not for a hot path.
    pub fn info(&self) -> NetworkInfo {
        let Inner {
            config, bridge, pool, ..
        } = &*self.0;
        NetworkInfo {
            bridge: config.bridge.clone(),
            subnet: bridge.gateway.network(),
            gateway: bridge.gateway.address(),
            mtu: bridge.mtu,
            masquerade: config.masquerade,
            warm: pool.stock(),
            warnings: self.0.warnings(),
        }
    }

    pub(crate) fn ports_noted_and_listed(&self) -> Result<(BTreeSet<String>, Option<BTreeSet<String>>)> {
        self.0.publisher().noted_and_listed()
    }

    pub(crate) fn rebuild_table(&self) -> Result<()> {
        self.0.publisher().rebuild()
    }

    pub(crate) fn stock_links(&self) -> BTreeSet<String> {
        self.0.pool.stock_links()
    }

    /// Names of our interfaces that the kernel has.
    pub(crate) fn own_links(&self) -> Result<BTreeSet<String>> {
        Ok(self.links_where(|_| true)?.into_iter().map(|link| link.name).collect())
    }

    pub(crate) fn links_where(&self, wanted: impl Fn(&Link) -> bool) -> Result<Vec<Link>> {
        let mut links = self.0.orphans(&HashSet::new())?;
        links.retain(|link| wanted(link));
        Ok(links)
    }

    pub(crate) fn leave(&self, chore: Chore) {
        self.0.janitor.leave(chore);
    }

    /// Ends the threads and drops the stock. The bridge and the table stay, for the containers that run on.
    pub fn close(&self) {
        self.0.pool.stop();
    }

    /// Closes, and removes the table and the bridge: for tests, and for removing the program.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn purge(&self) -> Result<()> {
        self.close();
        let inner = &*self.0;
        inner.publisher().delete_table()?;
        let index = inner.bridge.index;
        let name = inner.config.bridge.clone();
        inner.janitor.ask(move |rtnl| match rtnl.delete(index) {
            Ok(_) => Ok(()),
            Err(refusal) => Err(refusal.because(format!("delete bridge {name}"))),
        })
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Inner { config, bridge, .. } = &*self.0;
        write!(out, "Network({} {})", config.bridge, bridge.gateway)
    }
}

impl Inner {
    fn publisher(&self) -> MutexGuard<'_, Publisher> {
        self.publisher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_udp(&self, bindings: &[PortBinding]) {
        let udp = bindings.iter().filter(|binding| binding.proto == Proto::Udp);
        let ports: Vec<_> = udp.map(|binding| binding.host_port).collect();
        if !ports.is_empty() {
            self.janitor.leave(Chore::ForgetUdp(ports));
        }
    }

    /// Interfaces that have a name of ours and are on our bridge (or on none, after it was removed by hand).
    fn orphans(&self, owned: &HashSet<String>) -> Result<Vec<Link>> {
        let names = Names::new(&self.config.bridge);
        let mut links = self.janitor.ask(|rtnl| {
            rtnl.links()
                .map_err(|refusal| refusal.because("list the host's interfaces"))
        })?;
        links.retain(|link| {
            let ours = link.master.is_none_or(|master| master == self.bridge.index);
            ours && link.kind == LinkKind::Veth && names.may_own(&link.name) && !owned.contains(&link.name)
        });
        Ok(links)
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match self.publisher().forward_drops() {
            Ok(drops) => {
                for drop in drops {
                    warnings.push(format!(
                        "chain {chain} of nftables table {family} {table} drops forwarded packets that it does not \
                         accept: containers may not reach the outside, nor published ports be reached, until it \
                         accepts packets from and to {bridge}",
                        chain = drop.chain,
                        family = drop.family,
                        table = drop.table,
                        bridge = self.config.bridge,
                    ));
                }
            }
            Err(error) => warnings.push(crate::error::chain(&error)),
        }
        // A kernel without legacy iptables, or a daemon that may not ask, has nothing to say.
        if let Ok(Ok(true)) = self.home.run(iptables::forward_policy_is_drop) {
            warnings.push(format!(
                "chain FORWARD of the legacy iptables has the policy DROP: containers may not reach the outside, nor \
                 published ports be reached, until it accepts packets from and to {}",
                self.config.bridge,
            ));
        }
        let forwarding = self.home.run(|| sysctl::read("net/ipv4/ip_forward"));
        if forwarding.is_ok_and(|value| value.as_deref() == Some("0")) {
            warnings.push("IPv4 forwarding is disabled: containers cannot reach the outside".into());
        }
        warnings
    }
}

/// Where the host takes ports from that nobody chose.
fn ephemeral() -> RangeInclusive<u16> {
    let parse = |text: String| {
        let mut numbers = text.split_whitespace().map(|number| number.parse().ok());
        let (first, last): (u16, u16) = (numbers.next()??, numbers.next()??);
        (first > 0 && first <= last).then_some(first..=last)
    };
    sysctl::read("net/ipv4/ip_local_port_range")
        .and_then(parse)
        .unwrap_or(EPHEMERAL)
}
