//! Published ports in the kernel: sockets that hold them, elements of the table's maps.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;

use runtime_sys::port::{hold_tcp, hold_udp};

use crate::error::{Error, Result};
use crate::home::Home;
use crate::nft::{Element, ForwardDrop, Table, words};
use crate::port::{Held, PortBinding, PortRequest, Ports, Proto};

/// Keeps ports and table in step.
#[derive(Debug)]
pub struct Publisher {
    ports: Ports<OwnedFd>,
    table: Table,
}

impl Publisher {
    pub fn new(table: Table, ephemeral: RangeInclusive<u16>) -> Self {
        Self {
            ports: Ports::new(ephemeral),
            table,
        }
    }

    /// Writes the table if there is none.
    pub fn ensure_table(&mut self) -> Result<()> {
        self.table.ensure()
    }

    /// Removes the table.
    pub fn delete_table(&mut self) -> Result<()> {
        self.table.delete()
    }

    /// Chains of others that may drop what is forwarded.
    pub fn forward_drops(&mut self) -> Result<Vec<ForwardDrop>> {
        self.table.forward_drops()
    }

    /// Publishes all of them or none. A conflict is found before anything is changed.
    pub fn publish(
        &mut self,
        home: &Home,
        owner: &str,
        target: Ipv4Addr,
        requests: &[PortRequest],
    ) -> Result<Vec<PortBinding>> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let held = home.run(|| self.ports.choose(owner, target, requests, &mut hold))??;
        let elements: Vec<_> = held.iter().map(element).collect();
        if let Err(refusal) = self.table.add(&elements) {
            // Somebody flushed the host's tables: ours is written anew, with everything that belongs in it. An element
            // that is there although we know nothing of it goes away with that too.
            tracing::warn!(error = %refusal.source, "the nftables table is not as it was left; writing it anew");
            let all: Vec<_> = self.ports.all().map(element).chain(elements).collect();
            self.table.rebuild(&all)?;
        }
        let bindings = held.iter().map(|held| held.binding).collect();
        self.ports.commit(owner, held);
        Ok(bindings)
    }

    /// Takes an owner's ports back, and says which they were.
    pub fn unpublish(&mut self, owner: &str) -> (Vec<PortBinding>, Result<()>) {
        // The sockets let go at the end, after the table has.
        let held = self.ports.remove(owner);
        let bindings = held.iter().map(|held| held.binding).collect();
        if held.is_empty() {
            return (bindings, Ok(()));
        }
        let elements: Vec<_> = held.iter().map(element).collect();
        let mut result = Ok(());
        if let Err(refusal) = self.table.remove(&elements) {
            tracing::warn!(error = %refusal.source, "the nftables table is not as it was left; writing it anew");
            let all: Vec<_> = self.ports.all().map(element).collect();
            result = self.table.rebuild(&all);
        }
        (bindings, result)
    }

    /// Changes what an owner has published from what `present` asked for, in that order, to `wanted`, in one
    /// transaction: what both ask for is not touched. Returns what went, and all that is published now.
    pub fn republish(
        &mut self,
        home: &Home,
        owner: &str,
        target: Ipv4Addr,
        present: &[PortRequest],
        wanted: &[PortRequest],
    ) -> Result<(Vec<PortBinding>, Vec<PortBinding>)> {
        let mut old: Vec<_> = self.ports.remove(owner).into_iter().map(Some).collect();
        // For each wish the place of what meets it already.
        let mut places = Vec::with_capacity(wanted.len());
        let mut kept = Vec::new();
        for wish in wanted {
            let place = (0..old.len().min(present.len())).find(|&n| present[n] == *wish && old[n].is_some());
            places.push(place);
            kept.extend(place.and_then(|n| old[n].take()));
        }
        // Noted while others are chosen, for they must not collide.
        self.ports.commit(owner, kept);
        let open = wanted.iter().zip(&places).filter(|(_, place)| place.is_none());
        let open: Vec<_> = open.map(|(wish, _)| *wish).collect();
        let changed = self.exchange(home, target, &old, &open);
        let mut kept = self.ports.remove(owner).into_iter();
        match changed {
            Ok(new) => {
                let mut new = new.into_iter();
                let next = |place: &Option<usize>| if place.is_some() { kept.next() } else { new.next() };
                let held: Vec<_> = places.iter().filter_map(next).collect();
                let bindings = held.iter().map(|held| held.binding).collect();
                self.ports.commit(owner, held);
                Ok((old.iter().flatten().map(|held| held.binding).collect(), bindings))
            }
            Err(error) => {
                for (n, held) in places.iter().flatten().zip(kept) {
                    old[*n] = Some(held);
                }
                self.ports.commit(owner, old.into_iter().flatten().collect());
                Err(error)
            }
        }
    }

    /// Takes `gone` out of the table and puts what is chosen for `requests` in, in one transaction.
    fn exchange(
        &mut self,
        home: &Home,
        target: Ipv4Addr,
        gone: &[Option<Held<OwnedFd>>],
        requests: &[PortRequest],
    ) -> Result<Vec<Held<OwnedFd>>> {
        // A port that is to lead elsewhere is held already, by us.
        let mut hold_or_have = |proto, address: SocketAddrV4| {
            let here = |held: &&Held<OwnedFd>| {
                let PortBinding { host_ip, host_port, .. } = held.binding;
                held.binding.proto == proto && SocketAddrV4::new(host_ip, host_port) == address
            };
            match gone.iter().flatten().find(here).and_then(|held| held.holder.as_ref()) {
                Some(holder) => holder.try_clone(),
                None => hold(proto, address),
            }
        };
        let held = home.run(|| self.ports.choose_more(target, requests, &mut hold_or_have))??;
        let new: Vec<_> = held.iter().map(element).collect();
        let gone: Vec<_> = gone.iter().flatten().map(element).collect();
        if let Err(refusal) = self.table.exchange(&gone, &new) {
            tracing::warn!(error = %refusal.source, "the nftables table is not as it was left; writing it anew");
            let all: Vec<_> = self.ports.all().map(element).chain(new).collect();
            self.table.rebuild(&all)?;
        }
        Ok(held)
    }

    /// What an owner has published.
    pub fn of(&self, owner: &str) -> Vec<PortBinding> {
        self.ports.of(owner).iter().map(|held| held.binding).collect()
    }

    /// Notes a port that was published before this process began. It stays published even if another program has
    /// taken the port in the meantime; that is returned.
    pub fn readopt(&mut self, home: &Home, owner: &str, target: Ipv4Addr, bindings: &[PortBinding]) -> Vec<Error> {
        let mut problems = Vec::new();
        let mut held = Vec::with_capacity(bindings.len());
        for binding in bindings {
            let PortBinding {
                host_ip: address,
                host_port: port,
                proto,
                ..
            } = *binding;
            let twice = held.iter().any(|other: &Held<_>| other.binding == *binding);
            if twice || !self.ports.is_free(binding) {
                problems.push(Error::PortAllocated { address, port });
                continue;
            }
            let holder = match home.run(|| hold(proto, SocketAddrV4::new(address, port))) {
                Ok(Ok(holder)) => Some(holder),
                Ok(Err(source)) => {
                    problems.push(Error::PortBind { address, port, source });
                    None
                }
                Err(error) => {
                    problems.push(error);
                    None
                }
            };
            held.push(Held {
                binding: *binding,
                target,
                holder,
            });
        }
        self.ports.commit(owner, held);
        problems
    }

    /// What is published, as it is noted and as the kernel has it (`None` without our table), in the same words.
    pub fn noted_and_listed(&mut self) -> Result<(BTreeSet<String>, Option<BTreeSet<String>>)> {
        let noted = self.ports.all().map(|held| words(&element(held))).collect();
        Ok((noted, self.table.listing()?))
    }

    /// Writes the table anew with what is noted.
    pub fn rebuild(&mut self) -> Result<()> {
        let all: Vec<_> = self.ports.all().map(element).collect();
        self.table.rebuild(&all)
    }
}

fn hold(proto: Proto, address: SocketAddrV4) -> io::Result<OwnedFd> {
    match proto {
        Proto::Tcp => hold_tcp(address),
        Proto::Udp => hold_udp(address),
        Proto::Sctp => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn element<H>(held: &Held<H>) -> Element {
    let Held { binding, target, .. } = held;
    Element {
        host: SocketAddrV4::new(binding.host_ip, binding.host_port),
        proto: binding.proto,
        target: SocketAddrV4::new(*target, binding.container_port),
    }
}
