//! nftables expressions: the instructions that rules are made of. A rule runs them in order on a packet and ends at
//! the first comparison that does not hold.
//!
//! Register 1 is the first of sixteen words of four bytes; concatenations lie in words behind each other.

use crate::netlink::Attributes;

/// `enum nft_registers`: the first word under its old name, and the words that follow it.
const R1: u32 = 1;
const WORD_1: u32 = 9;
const WORD_2: u32 = 10;

const EXPRESSION: u16 = 1; // NFTA_LIST_ELEM
const NAME: u16 = 1; // NFTA_EXPR_NAME
const DATA: u16 = 2; // NFTA_EXPR_DATA
const VALUE: u16 = 1; // NFTA_DATA_VALUE

const PROTOCOL: u32 = 16; // NFT_META_L4PROTO
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

/// Which address of a packet; the number is its offset in the IPv4 header.
#[derive(Clone, Copy, Debug)]
pub enum Address {
    Source = 12,
    Destination = 16,
}

/// Which interface of a packet; the number is the meta key.
#[derive(Clone, Copy, Debug)]
pub enum Interface {
    In = 6,
    Out = 7,
}

/// What a rule ends with.
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    Drop = 0,
    Accept = 1,
    Return = -5,
}

/// What connection tracking knows of a packet: the key, and the bits one of which must be set.
#[derive(Clone, Copy, Debug)]
pub enum Tracked {
    /// It belongs to a connection that was let through, or is about one.
    Established,
    /// Its destination was translated.
    DestinationTranslated,
}

/// The expressions of a rule.
#[derive(Debug)]
pub struct Expressions<'a, 'b> {
    list: &'a mut Attributes<'b>,
}

impl<'a, 'b> Expressions<'a, 'b> {
    pub fn new(list: &'a mut Attributes<'b>) -> Self {
        Self { list }
    }

    fn push(&mut self, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        self.list.nest(EXPRESSION, |expression| {
            expression.text(NAME, name);
            expression.nest(DATA, fill);
        });
        self
    }

    fn load_meta(&mut self, key: u32, register: u32) -> &mut Self {
        self.push("meta", |data| {
            data.number_be(1, register); // NFTA_META_DREG
            data.number_be(2, key); // NFTA_META_KEY
        })
    }

    fn load_payload(&mut self, base: u32, offset: u32, length: u32, register: u32) -> &mut Self {
        self.push("payload", |data| {
            data.number_be(1, register); // NFTA_PAYLOAD_DREG
            data.number_be(2, base);
            data.number_be(3, offset);
            data.number_be(4, length);
        })
    }

    fn compare(&mut self, operator: u32, value: &[u8]) -> &mut Self {
        self.push("cmp", |data| {
            data.number_be(1, R1); // NFTA_CMP_SREG
            data.number_be(2, operator);
            data.nest(3, |inner| inner.put(VALUE, value));
        })
    }

    fn mask(&mut self, mask: &[u8]) -> &mut Self {
        self.push("bitwise", |data| {
            data.number_be(1, R1); // NFTA_BITWISE_SREG
            data.number_be(2, R1); // NFTA_BITWISE_DREG
            data.number_be(3, mask.len() as u32);
            data.nest(4, |inner| inner.put(VALUE, mask));
            data.nest(5, |inner| inner.put(VALUE, &[0; 4][..mask.len()]));
        })
    }

    /// The packet comes in, or goes out, over this interface (or over another one).
    pub fn interface(&mut self, which: Interface, name: &str, same: bool) -> &mut Self {
        let mut padded = [0; 16]; // IFNAMSIZ
        padded[..name.len()].copy_from_slice(name.as_bytes());
        self.load_meta(which as u32, R1)
            .compare(if same { EQUAL } else { NOT_EQUAL }, &padded)
    }

    /// The interface is a bridge. One without a kind, such as a network card, ends the rule as another kind does.
    pub fn is_bridge(&mut self, which: Interface) -> &mut Self {
        let mut padded = [0; 16]; // IFNAMSIZ, for kinds too
        padded[..6].copy_from_slice(b"bridge");
        let key = match which {
            Interface::In => 26,  // NFT_META_IIFKIND
            Interface::Out => 27, // NFT_META_OIFKIND
        };
        self.load_meta(key, R1).compare(EQUAL, &padded)
    }

    /// The address is in this network.
    pub fn address_in(&mut self, which: Address, network: crate::Cidr) -> &mut Self {
        self.load_payload(NETWORK_HEADER, which as u32, 4, R1)
            .mask(&network.mask().to_be_bytes())
            .compare(EQUAL, &network.network().address().octets())
    }

    /// The destination is an address of this host, whichever.
    pub fn destination_is_local(&mut self) -> &mut Self {
        self.push("fib", |data| {
            data.number_be(1, R1); // NFTA_FIB_DREG
            data.number_be(2, 3); // NFT_FIB_RESULT_ADDRTYPE
            data.number_be(3, 2); // NFTA_FIB_F_DADDR
        })
        .compare(EQUAL, &u32::from(libc::RTN_LOCAL).to_ne_bytes())
    }

    /// Connection tracking says so.
    pub fn tracked(&mut self, what: Tracked) -> &mut Self {
        let (key, bits): (u32, u32) = match what {
            Tracked::Established => (0, 1 << 1 | 1 << 2), // NFT_CT_STATE: established, related
            Tracked::DestinationTranslated => (2, 1 << 5), // NFT_CT_STATUS: IPS_DST_NAT
        };
        self.push("ct", |data| {
            data.number_be(1, R1); // NFTA_CT_DREG
            data.number_be(2, key);
        })
        .mask(&bits.to_ne_bytes())
        .compare(NOT_EQUAL, &[0; 4])
    }

    /// Looks the packet's protocol and port (and, `exact`, its destination address before them) up in a map, and
    /// sends it to the address and port found there. A packet that is not in the map goes on to the next rule.
    pub fn translate_destination(&mut self, map: &str, exact: bool) -> &mut Self {
        if exact {
            self.load_payload(NETWORK_HEADER, Address::Destination as u32, 4, R1)
                .load_meta(PROTOCOL, WORD_1)
                .load_payload(TRANSPORT_HEADER, 2, 2, WORD_2);
        } else {
            self.load_meta(PROTOCOL, R1)
                .load_payload(TRANSPORT_HEADER, 2, 2, WORD_1);
        }
        self.push("lookup", |data| {
            data.text(1, map); // NFTA_LOOKUP_SET
            data.number_be(2, R1); // NFTA_LOOKUP_SREG
            data.number_be(3, R1); // NFTA_LOOKUP_DREG
        })
        .push("nat", |data| {
            data.number_be(1, 1); // NFT_NAT_DNAT
            data.number_be(2, libc::NFPROTO_IPV4 as u32);
            data.number_be(3, R1); // NFTA_NAT_REG_ADDR_MIN
            data.number_be(5, WORD_1); // NFTA_NAT_REG_PROTO_MIN
        })
    }

    /// Gives the packet the address of the interface that it leaves by.
    pub fn masquerade(&mut self) -> &mut Self {
        self.push("masq", |_| {})
    }

    /// Ends the rule.
    pub fn verdict(&mut self, verdict: Verdict) -> &mut Self {
        self.push("immediate", |data| {
            data.number_be(1, 0); // NFT_REG_VERDICT
            data.nest(2, |inner| {
                // NFTA_DATA_VERDICT, NFTA_VERDICT_CODE
                inner.nest(2, |code| code.number_be(1, verdict as i32 as u32));
            });
        })
    }
}
