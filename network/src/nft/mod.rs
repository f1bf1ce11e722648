//! Our nftables table, over netlink. What it holds (in nft's words, for bridge `iechor0` with 172.17.0.0/16):
//!
//! ```text
//! table ip iechor {
//!     map published-on  { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
//!     map published-any { type             inet_proto . inet_service : ipv4_addr . inet_service; }
//!     chain guard      { type filter hook prerouting priority raw;
//!         iifname "iechor0" ip daddr 127.0.0.0/8 drop       # route_localnet is on there, for answers only:
//!         iifname "iechor0" ip saddr 127.0.0.0/8 drop }     # no container speaks to or as the host's loopback
//!     chain incoming   { type nat hook prerouting priority dstnat;
//!         ip daddr 127.0.0.0/8 return                       # from a neighbour on the wire: stays a martian
//!         dnat to ip daddr . meta l4proto . th dport map @published-on
//!         fib daddr type local dnat to meta l4proto . th dport map @published-any }
//!     chain local      { type nat hook output priority -100;
//!         (the two dnat rules) }
//!     chain leaving    { type nat hook postrouting priority srcnat;
//!         ip saddr 172.17.0.0/16 oifname != "iechor0" masquerade
//!         oifname "iechor0" ip saddr 127.0.0.0/8 masquerade                    # the host's loopback → container
//!         oifname "iechor0" ip saddr 172.17.0.0/16 ct status dnat masquerade } # container → published → container
//!     chain forwarding { type filter hook forward priority filter;
//!         oifname "iechor0" iifname "iechor0" accept
//!         oifname "iechor0" ct state established,related accept
//!         oifname "iechor0" ct status dnat accept
//!         oifname "iechor0" drop }
//!     chain routing    { type filter hook forward priority filter;             # only if forwarding was off before:
//!         iifkind "bridge" accept; oifkind "bridge" accept; drop }             # the host shall not become a router
//! }
//! ```
//!
//! A published port is an *element* of a map, never a rule: publishing costs the same with one container and with a
//! thousand. Everything is written in transactions, so that there is no moment with half of it. Other tables are
//! never touched; an accept here does not overrule a drop there, which is why [`Table::forward_drops`] looks for one.

mod expr;
mod listing;
mod rules;

pub use listing::words;

use std::net::{Ipv4Addr, SocketAddrV4};

use runtime_sys::netlink::Protocol;

use self::rules::ROUTING;
use crate::address::Cidr;
use crate::error::Result;
use crate::netlink::{ACK, Attributes, Batch, CREATE, Channel, Done, EXCLUSIVE, attribute, string};
use crate::port::Proto;

const SUBSYSTEM: u16 = 10; // NFNL_SUBSYS_NFTABLES
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

// enum nf_tables_msg_types
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;

const PUBLISHED_ON: &str = "published-on";
const PUBLISHED_ANY: &str = "published-any";

/// An attribute's length has 16 bits; an element takes less than 80 bytes.
const ELEMENTS_PER_MESSAGE: usize = 700;

const LOOPBACK_NETWORK: Cidr = Cidr::new(Ipv4Addr::new(127, 0, 0, 0), 8).expect("8 is at most 32");

/// A published port as an element of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// The host's address; the wildcard address stands for all.
    pub host: SocketAddrV4,
    pub proto: Proto,
    pub target: SocketAddrV4,
}

impl Element {
    fn is_exact(&self) -> bool {
        !self.host.ip().is_unspecified()
    }

    fn encode(&self, list: &mut Attributes<'_>, with_target: bool) {
        // Each part of a concatenation begins at a multiple of four bytes.
        let mut key = Vec::with_capacity(12);
        if self.is_exact() {
            key.extend(self.host.ip().octets());
        }
        key.extend([self.proto.number(), 0, 0, 0]);
        key.extend(self.host.port().to_be_bytes());
        key.extend([0, 0]);
        list.nest(1, |element| {
            element.nest(1, |value| value.put(1, &key)); // NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE
            if with_target {
                let mut target = [0; 8];
                target[..4].copy_from_slice(&self.target.ip().octets());
                target[4..6].copy_from_slice(&self.target.port().to_be_bytes());
                element.nest(2, |value| value.put(1, &target)); // NFTA_SET_ELEM_DATA
            }
        });
    }
}

/// A base chain of somebody else's on the forward hook that drops what it does not accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardDrop {
    pub family: &'static str,
    pub table: String,
    pub chain: String,
}

/// Our table.
#[derive(Debug)]
pub struct Table {
    channel: Channel,
    name: String,
    bridge: String,
    subnet: Cidr,
    masquerade: bool,
    /// Keep the host from forwarding what has nothing to do with a bridge.
    guard_routing: bool,
}

impl Table {
    /// Opens what it needs in the calling thread's network namespace. Nothing is written yet.
    pub fn new(name: &str, bridge: &str, subnet: Cidr, masquerade: bool) -> Result<Self> {
        let channel = Channel::open(Protocol::Netfilter)?;
        Ok(Self {
            channel,
            name: name.into(),
            bridge: bridge.into(),
            subnet: subnet.network(),
            masquerade,
            guard_routing: false,
        })
    }

    /// From the next write on, has the table keep the host from being a router between its other interfaces.
    pub fn guard_routing(&mut self) {
        self.guard_routing = true;
    }

    /// Does so too if the table that is there does: this program turned forwarding on in an earlier life.
    pub fn inherit_guard(&mut self) -> Result<()> {
        let mut batch = self.channel.batch();
        batch.message(SUBSYSTEM << 8 | GET_CHAIN, ACK, &IP, |list| {
            list.text(1, &self.name);
            list.text(3, ROUTING);
        });
        match self.channel.exchange(batch) {
            Ok(()) => self.guard_routing = true,
            Err(refusal) if refusal.is(libc::ENOENT) => {}
            Err(refusal) => return Err(refusal.because(format!("look at nftables table {}", self.name))),
        }
        Ok(())
    }

    /// Writes the whole table anew, with these elements, in one transaction.
    pub fn rebuild(&mut self, elements: &[Element]) -> Result<()> {
        let name = self.name.clone();
        self.transaction(|table, batch| {
            // A table that is not there cannot be deleted: so it is made first.
            table.table(batch, NEW_TABLE, CREATE);
            table.table(batch, DELETE_TABLE, 0);
            table.table(batch, NEW_TABLE, CREATE);
            table.write(batch);
            table.elements(batch, NEW_ELEMENTS, CREATE | EXCLUSIVE, elements);
        })
        .map_err(|refusal| refusal.because(format!("write nftables table {name}")))
    }

    /// Writes the table without elements if there is none of this name.
    pub fn ensure(&mut self) -> Result<()> {
        let name = self.name.clone();
        let written = self.transaction(|table, batch| {
            table.table(batch, NEW_TABLE, CREATE | EXCLUSIVE);
            table.write(batch);
        });
        match written {
            Err(refusal) if !refusal.is(libc::EEXIST) => Err(refusal.because(format!("write nftables table {name}"))),
            _ => Ok(()),
        }
    }

    /// Removes the table with everything in it; fine if it is not there.
    pub fn delete(&mut self) -> Result<()> {
        let name = self.name.clone();
        match self.transaction(|table, batch| table.table(batch, DELETE_TABLE, 0)) {
            Err(refusal) if !refusal.is(libc::ENOENT) => Err(refusal.because(format!("delete nftables table {name}"))),
            _ => Ok(()),
        }
    }

    /// Whether there is a table of this name.
    #[cfg(test)]
    pub fn exists(&mut self) -> Result<bool> {
        let mut batch = self.channel.batch();
        batch.message(SUBSYSTEM << 8 | 1, 0, &IP, |table| table.text(1, &self.name));
        match self.channel.exchange(batch) {
            Ok(()) => Ok(true),
            Err(refusal) if refusal.is(libc::ENOENT) => Ok(false),
            Err(refusal) => Err(refusal.because("look for a table")),
        }
    }

    /// Publishes, in one transaction.
    pub fn add(&mut self, elements: &[Element]) -> Done<()> {
        self.transaction(|table, batch| table.elements(batch, NEW_ELEMENTS, CREATE | EXCLUSIVE, elements))
    }

    /// Takes back, in one transaction. All must be there.
    pub fn remove(&mut self, elements: &[Element]) -> Done<()> {
        self.transaction(|table, batch| table.elements(batch, DELETE_ELEMENTS, 0, elements))
    }

    /// Takes some back and adds others, in one transaction.
    pub fn exchange(&mut self, gone: &[Element], new: &[Element]) -> Done<()> {
        self.transaction(|table, batch| {
            table.elements(batch, DELETE_ELEMENTS, 0, gone);
            table.elements(batch, NEW_ELEMENTS, CREATE | EXCLUSIVE, new);
        })
    }

    /// Chains of other tables that may drop what ours accepts.
    pub fn forward_drops(&mut self) -> Result<Vec<ForwardDrop>> {
        const FORWARD: u32 = 2; // NF_INET_FORWARD
        const DROP: u32 = 0; // NF_DROP
        let own = self.name.clone();
        let mut found = Vec::new();
        for (number, family) in [(libc::NFPROTO_IPV4 as u8, "ip"), (libc::NFPROTO_INET as u8, "inet")] {
            let see = |payload: &[u8]| {
                let list = payload.get(4..).unwrap_or_default();
                let number = |bytes: &[u8]| Some(u32::from_be_bytes(bytes.try_into().ok()?));
                // NFTA_CHAIN_TABLE, _NAME, _HOOK (with NFTA_HOOK_HOOKNUM), _POLICY
                let parse = || {
                    let hook = attribute(attribute(list, 4)?, 1).and_then(number)?;
                    let policy = attribute(list, 5).and_then(number)?;
                    let table = string(attribute(list, 1)?).into_owned();
                    let chain = string(attribute(list, 3)?).into_owned();
                    let ours = family == "ip" && table == own;
                    (hook == FORWARD && policy == DROP && !ours).then_some(ForwardDrop { family, table, chain })
                };
                found.extend(parse());
            };
            self.channel
                .dump(SUBSYSTEM << 8 | GET_CHAIN, &[number, 0, 0, 0], see)
                .map_err(|refusal| refusal.because("list the host's nftables chains"))?;
        }
        Ok(found)
    }

    fn transaction(&mut self, fill: impl FnOnce(&Self, &mut Batch)) -> Done<()> {
        // struct nfgenmsg with the subsystem that the whole batch is for.
        let header = [0, 0, 0, SUBSYSTEM as u8];
        let mut batch = self.channel.batch();
        batch.message(BATCH_BEGIN, 0, &header, |_| {});
        fill(self, &mut batch);
        // A refused message is answered anyway; one acknowledgement is enough to see that all went well.
        batch.acknowledge_last();
        batch.message(BATCH_END, 0, &header, |_| {});
        self.channel.exchange(batch)
    }
}

/// `struct nfgenmsg` for the family ip.
const IP: [u8; 4] = [libc::NFPROTO_IPV4 as u8, 0, 0, 0];

impl Table {
    fn table(&self, batch: &mut Batch, operation: u16, flags: u16) {
        batch.message(SUBSYSTEM << 8 | operation, flags, &IP, |table| {
            table.text(1, &self.name)
        });
    }

    fn elements(&self, batch: &mut Batch, operation: u16, flags: u16, elements: &[Element]) {
        for (map, exact) in [(PUBLISHED_ON, true), (PUBLISHED_ANY, false)] {
            let chosen: Vec<_> = elements.iter().filter(|element| element.is_exact() == exact).collect();
            for some in chosen.chunks(ELEMENTS_PER_MESSAGE) {
                batch.message(SUBSYSTEM << 8 | operation, flags, &IP, |list| {
                    list.text(1, &self.name); // NFTA_SET_ELEM_LIST_TABLE
                    list.text(2, map);
                    list.nest(3, |list| {
                        for element in some {
                            element.encode(list, operation == NEW_ELEMENTS);
                        }
                    });
                });
            }
        }
    }
}
