//! Addresses as types that cannot be wrong: an IPv4 address with its prefix length, a hardware address.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// An IPv4 address and the length of its network prefix, as in `172.17.0.1/16`. Host bits are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: Ipv4Addr,
    prefix: u8,
}

impl Cidr {
    /// `None` if `prefix` is more than 32.
    pub const fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        if prefix <= 32 {
            Some(Self { address, prefix })
        } else {
            None
        }
    }

    /// The address as it was given, host bits included.
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// The number of leading bits that name the network.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The network's own form: host bits zero.
    pub fn network(self) -> Self {
        Self {
            address: Ipv4Addr::from_bits(self.address.to_bits() & self.mask()),
            prefix: self.prefix,
        }
    }

    /// The last address, which a subnet uses for broadcasts.
    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !self.mask())
    }

    /// The netmask as a number.
    pub const fn mask(self) -> u32 {
        // A shift by 32 would overflow; /0 has no network bits at all.
        if self.prefix == 0 {
            0
        } else {
            u32::MAX << (32 - self.prefix)
        }
    }

    /// Whether `address` is one of this network's.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & self.mask() == 0
    }

    /// Whether the two networks share an address.
    pub fn overlaps(self, other: Self) -> bool {
        if self.prefix <= other.prefix {
            self.contains(other.address)
        } else {
            other.contains(self.address)
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::InvalidCidr { text: text.into() };
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        // "+8" and "08" are numbers to `parse`, and mistakes to a reader.
        if prefix.len() > 2 || !prefix.bytes().all(|c| c.is_ascii_digit()) || (prefix.len() == 2 && prefix < "10") {
            return Err(invalid());
        }
        let address = address.parse().map_err(|_| invalid())?;
        prefix
            .parse()
            .ok()
            .and_then(|prefix| Self::new(address, prefix))
            .ok_or_else(invalid)
    }
}

impl TryFrom<String> for Cidr {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

/// The hardware address of one interface: unicast and not zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

impl Mac {
    /// `None` for the zero address and for group addresses, which no interface may have.
    pub fn new(octets: [u8; 6]) -> Option<Self> {
        (octets[0] & 1 == 0 && octets != [0; 6]).then_some(Self(octets))
    }

    /// A random unicast address out of the range for local administration.
    pub fn random() -> Self {
        let mut octets: [u8; 6] = rand::random();
        octets[0] = (octets[0] & !1) | 2;
        Self(octets)
    }

    /// The six octets in the order of the wire.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for Mac {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::InvalidMac { text: text.into() };
        let mut octets = [0; 6];
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut parts = text.split(separator);
        for octet in &mut octets {
            let part = parts.next().ok_or_else(invalid)?;
            if part.len() != 2 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(invalid());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() {
            return Err(invalid());
        }
        Self::new(octets).ok_or_else(invalid)
    }
}

impl TryFrom<String> for Mac {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cidrs_are_parsed_strictly() {
        let cidr: Cidr = "172.17.3.1/16".parse().unwrap();
        assert_eq!(cidr.network().to_string(), "172.17.0.0/16");
        assert_eq!(cidr.last(), Ipv4Addr::new(172, 17, 255, 255));
        assert_eq!("0.0.0.0/0".parse::<Cidr>().unwrap().mask(), 0);
        for wrong in [
            "",
            "/",
            "1.2.3.4",
            "1.2.3/8",
            "1.2.3.4/33",
            "1.2.3.4/-1",
            "1.2.3.4/+8",
            "1.2.3.4/08",
            "1.2.3.4/ 8",
            "::1/64",
        ] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn networks_overlap_when_one_is_in_the_other() {
        let overlap = |a: &str, b: &str| a.parse::<Cidr>().unwrap().overlaps(b.parse().unwrap());
        assert!(overlap("172.16.0.0/12", "172.17.0.0/16") && overlap("172.17.0.0/16", "172.16.0.0/12"));
        assert!(overlap("10.0.0.1/32", "10.0.0.0/8") && overlap("0.0.0.0/0", "1.1.1.1/32"));
        assert!(!overlap("172.17.0.0/16", "172.18.0.0/16") && !overlap("10.0.0.0/25", "10.0.0.128/25"));
    }

    #[test]
    fn hardware_addresses_are_unicast() {
        assert_eq!("02:42:AC-11".parse::<Mac>().ok(), None);
        assert_eq!(
            "02:42:AC:11:00:02".parse::<Mac>().unwrap().to_string(),
            "02:42:ac:11:00:02"
        );
        assert_eq!(
            "02-42-ac-11-00-02".parse::<Mac>().unwrap().octets(),
            [2, 0x42, 0xac, 0x11, 0, 2]
        );
        for wrong in [
            "00:00:00:00:00:00",
            "01:00:5e:00:00:01",
            "ff:ff:ff:ff:ff:ff",
            "2:4:a:1:0:2",
            "02:42:ac:11:00:02:03",
            "02:42:ac:11:00:+2",
        ] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong:?}");
        }
        for _ in 0..100 {
            let mac = Mac::random();
            assert_eq!(mac.octets()[0] & 3, 2);
            assert_eq!(Mac::new(mac.octets()), Some(mac));
        }
    }
}
