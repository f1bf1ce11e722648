//! The chains, maps and rules of our table; the module above shows them in nft's words.

use super::expr::{Address, Expressions, Interface, Tracked, Verdict};
use super::{IP, LOOPBACK_NETWORK, NEW_CHAIN, NEW_RULE, NEW_SET, PUBLISHED_ANY, PUBLISHED_ON, SUBSYSTEM, Table};
use crate::netlink::{APPEND, Batch, CREATE};

/// What a chain is for; the priorities are nft's names for the usual places.
struct Chain {
    name: &'static str,
    kind: &'static str,
    hook: u32,
    priority: i32,
}

const GUARD: Chain = Chain {
    name: "guard",
    kind: "filter",
    hook: 0,
    priority: -300,
};
const INCOMING: Chain = Chain {
    name: "incoming",
    kind: "nat",
    hook: 0,
    priority: -100,
};
const LOCAL: Chain = Chain {
    name: "local",
    kind: "nat",
    hook: 3,
    priority: -100,
};
const LEAVING: Chain = Chain {
    name: "leaving",
    kind: "nat",
    hook: 4,
    priority: 100,
};
const FORWARDING: Chain = Chain {
    name: "forwarding",
    kind: "filter",
    hook: 2,
    priority: 0,
};

/// The chain that tells a later life of this program that it turned forwarding on.
pub(super) const ROUTING: &str = "routing";
const ROUTING_CHAIN: Chain = Chain {
    name: ROUTING,
    kind: "filter",
    hook: 2,
    priority: 0,
};

impl Table {
    /// All that the table holds, but for the elements.
    pub(super) fn write(&self, batch: &mut Batch) {
        use Address::{Destination, Source};
        use Interface::{In, Out};
        let bridge = self.bridge.as_str();
        let subnet = self.subnet;
        for chain in [&GUARD, &INCOMING, &LOCAL, &LEAVING, &FORWARDING] {
            self.chain(batch, chain);
        }
        // The numbers of nft's types, so that `nft list` shows the maps readably: ipv4_addr 7, inet_proto 12,
        // inet_service 13, six bits each.
        self.map(batch, PUBLISHED_ON, 1, (7 << 12) | (12 << 6) | 13, 12);
        self.map(batch, PUBLISHED_ANY, 2, (12 << 6) | 13, 8);

        for address in [Destination, Source] {
            self.rule(batch, &GUARD, |rule| {
                rule.interface(In, bridge, true)
                    .address_in(address, LOOPBACK_NETWORK)
                    .verdict(Verdict::Drop);
            });
        }
        self.rule(batch, &INCOMING, |rule| {
            rule.address_in(Destination, LOOPBACK_NETWORK).verdict(Verdict::Return);
        });
        for chain in [&INCOMING, &LOCAL] {
            self.rule(batch, chain, |rule| {
                rule.translate_destination(PUBLISHED_ON, true);
            });
            self.rule(batch, chain, |rule| {
                rule.destination_is_local().translate_destination(PUBLISHED_ANY, false);
            });
        }
        if self.masquerade {
            self.rule(batch, &LEAVING, |rule| {
                rule.address_in(Source, subnet)
                    .interface(Out, bridge, false)
                    .masquerade();
            });
        }
        self.rule(batch, &LEAVING, |rule| {
            rule.interface(Out, bridge, true)
                .address_in(Source, LOOPBACK_NETWORK)
                .masquerade();
        });
        // Otherwise the answer would go from container to container directly, and come from an unknown address.
        self.rule(batch, &LEAVING, |rule| {
            rule.interface(Out, bridge, true)
                .address_in(Source, subnet)
                .tracked(Tracked::DestinationTranslated)
                .masquerade();
        });
        // With br_netfilter packets between ports of the bridge come here too.
        self.rule(batch, &FORWARDING, |rule| {
            rule.interface(Out, bridge, true)
                .interface(In, bridge, true)
                .verdict(Verdict::Accept);
        });
        for what in [Tracked::Established, Tracked::DestinationTranslated] {
            self.rule(batch, &FORWARDING, |rule| {
                rule.interface(Out, bridge, true).tracked(what).verdict(Verdict::Accept);
            });
        }
        self.rule(batch, &FORWARDING, |rule| {
            rule.interface(Out, bridge, true).verdict(Verdict::Drop);
        });
        if self.guard_routing {
            self.chain(batch, &ROUTING_CHAIN);
            // Other daemons' bridges, and other programs', are their own business.
            for which in [In, Out] {
                self.rule(batch, &ROUTING_CHAIN, |rule| {
                    rule.is_bridge(which).verdict(Verdict::Accept);
                });
            }
            self.rule(batch, &ROUTING_CHAIN, |rule| {
                rule.verdict(Verdict::Drop);
            });
        }
    }

    fn chain(&self, batch: &mut Batch, chain: &Chain) {
        batch.message(SUBSYSTEM << 8 | NEW_CHAIN, CREATE, &IP, |list| {
            list.text(1, &self.name); // NFTA_CHAIN_TABLE
            list.text(3, chain.name);
            list.nest(4, |hook| {
                hook.number_be(1, chain.hook);
                hook.number_be(2, chain.priority as u32);
            });
            list.number_be(5, 1); // NFTA_CHAIN_POLICY: NF_ACCEPT
            list.text(7, chain.kind);
        });
    }

    fn map(&self, batch: &mut Batch, name: &str, id: u32, key_type: u32, key_length: u32) {
        const MAP: u32 = 8; // NFT_SET_MAP
        batch.message(SUBSYSTEM << 8 | NEW_SET, CREATE, &IP, |list| {
            list.text(1, &self.name); // NFTA_SET_TABLE
            list.text(2, name);
            list.number_be(3, MAP);
            list.number_be(4, key_type);
            list.number_be(5, key_length);
            list.number_be(6, (7 << 6) | 13); // NFTA_SET_DATA_TYPE: ipv4_addr . inet_service
            list.number_be(7, 8);
            list.number_be(10, id);
        });
    }

    fn rule(&self, batch: &mut Batch, chain: &Chain, fill: impl FnOnce(&mut Expressions<'_, '_>)) {
        batch.message(SUBSYSTEM << 8 | NEW_RULE, CREATE | APPEND, &IP, |list| {
            list.text(1, &self.name); // NFTA_RULE_TABLE
            list.text(2, chain.name);
            list.nest(4, |expressions| fill(&mut Expressions::new(expressions)));
        });
    }
}
