//! Which subnet the default network gets when nobody says.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::address::Cidr;
use crate::error::{Error, Result};

/// A range of addresses that is split into subnets of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPool {
    /// The whole range.
    pub base: Cidr,
    /// The prefix length of the subnets.
    pub size: u8,
}

impl AddressPool {
    const fn of(a: u8, b: u8, prefix: u8, size: u8) -> Self {
        match Cidr::new(Ipv4Addr::new(a, b, 0, 0), prefix) {
            Some(base) => Self { base, size },
            None => panic!("a prefix length above 32"),
        }
    }

    /// Docker's pools, in its order.
    pub const DOCKER: [Self; 6] = [
        Self::of(172, 17, 16, 16),
        Self::of(172, 18, 16, 16),
        Self::of(172, 19, 16, 16),
        Self::of(172, 20, 14, 16),
        Self::of(172, 24, 13, 16),
        Self::of(192, 168, 16, 20),
    ];

    fn subnets(self) -> Result<impl Iterator<Item = Cidr>> {
        let Self { base, size } = self;
        if !(8..=30).contains(&size) || size < base.prefix() || size - base.prefix() > 16 {
            return Err(Error::PoolSize { base, size });
        }
        let first = base.network().address().to_bits();
        let count = 1_u32 << (size - base.prefix());
        Ok((0..count).filter_map(move |n| Cidr::new(Ipv4Addr::from_bits(first + (n << (32 - size))), size)))
    }
}

/// The first subnet of the pools that shares no address with what the host uses. A default route (`/0`) goes
/// everywhere and is no reason to avoid anything.
///
/// # Errors
/// If there is none, or a pool makes no sense.
pub fn choose(pools: &[AddressPool], in_use: &[Cidr]) -> Result<Cidr> {
    for pool in pools {
        for subnet in pool.subnets()? {
            if !in_use.iter().any(|used| used.prefix() > 0 && used.overlaps(subnet)) {
                return Ok(subnet);
            }
        }
    }
    Err(Error::NoSubnet)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn chosen(in_use: &[&str]) -> String {
        let in_use: Vec<Cidr> = in_use.iter().map(|text| text.parse().unwrap()).collect();
        choose(&AddressPool::DOCKER, &in_use).map_or_else(|error| error.to_string(), |subnet| subnet.to_string())
    }

    #[test]
    fn what_the_host_uses_is_avoided() {
        assert_eq!(chosen(&[]), "172.17.0.0/16");
        assert_eq!(chosen(&["0.0.0.0/0", "192.0.2.2/24"]), "172.17.0.0/16");
        assert_eq!(chosen(&["172.17.0.1/16"]), "172.18.0.0/16");
        assert_eq!(
            chosen(&["172.17.9.9/32", "172.16.0.0/14", "172.21.0.0/20"]),
            "172.20.0.0/16"
        );
        assert_eq!(chosen(&["172.16.0.0/12"]), "192.168.0.0/20");
        assert_eq!(chosen(&["172.16.0.0/12", "192.168.1.0/24"]), "192.168.16.0/20");
        assert!(chosen(&["172.16.0.0/12", "192.168.0.0/16"]).contains("default address pools"));
        assert!(chosen(&["128.0.0.0/1"]).contains("default address pools"));
    }

    #[test]
    fn senseless_pools_are_refused() {
        for (base, size) in [
            ("10.0.0.0/8", 7),
            ("10.0.0.0/16", 8),
            ("10.0.0.0/8", 31),
            ("10.0.0.0/8", 30),
        ] {
            assert!(
                choose(
                    &[AddressPool {
                        base: base.parse().unwrap(),
                        size
                    }],
                    &[]
                )
                .is_err(),
                "{base} {size}"
            );
        }
    }
}
