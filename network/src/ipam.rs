//! Which addresses of a subnet are in use.
//!
//! A bitmap with a cursor that walks round: the next address is the first free one after the last that was given, so
//! a freed address rests as long as possible. That alone would give an address back at once when it happens to lie
//! right behind the cursor; so the most recently freed ones rest in a queue too. The reason: a container's namespace
//! dies some milliseconds after its address was freed, and its neighbours' ARP caches live longer than that.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use crate::address::Cidr;

/// How many freed addresses rest at most; a small subnet rests a quarter of its addresses.
const RESTING_MAX: usize = 256;

/// Why an address cannot be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not in the subnet.
    Outside,
    /// It is the network's, the broadcast or the gateway's address.
    Special,
    /// Somebody has it.
    Taken,
}

/// The addresses of one subnet.
#[derive(Debug)]
pub struct Ipam {
    subnet: Cidr,
    /// Network, broadcast and gateway: in use for ever.
    special: [u32; 3],
    /// One bit per address, set while it is in use.
    used: Vec<u64>,
    size: usize,
    free: usize,
    cursor: usize,
    resting: VecDeque<usize>,
    resting_limit: usize,
}

impl Ipam {
    /// `None` if the subnet is too small to have an address for a container, or larger than a /8.
    pub fn new(subnet: Cidr, gateway: Ipv4Addr) -> Option<Self> {
        if !(8..=30).contains(&subnet.prefix()) {
            return None;
        }
        let subnet = subnet.network();
        let size = 1_usize << (32 - subnet.prefix());
        let base = subnet.address().to_bits();
        let mut ipam = Self {
            subnet,
            special: [base, subnet.last().to_bits(), gateway.to_bits()],
            used: vec![0; size.div_ceil(64)],
            size,
            free: size,
            cursor: 1,
            resting: VecDeque::new(),
            resting_limit: (size / 4).min(RESTING_MAX),
        };
        // Bits beyond the end of the smallest subnets are never free.
        for beyond in size..ipam.used.len() * 64 {
            ipam.used[beyond / 64] |= 1 << (beyond % 64);
        }
        for special in ipam.special {
            let index = (special.wrapping_sub(base)) as usize;
            if index < size && !ipam.is_used(index) {
                ipam.set(index);
            }
        }
        Some(ipam)
    }

    /// How many addresses are free.
    pub fn free(&self) -> usize {
        self.free
    }

    /// Takes a free address; `None` when there is none. One that was freed lately is taken only when nothing else is
    /// left, and then the one that was freed first.
    pub fn allocate(&mut self) -> Option<Ipv4Addr> {
        if self.free == 0 {
            return None;
        }
        let index = if self.free > self.resting.len() {
            self.next_rested()?
        } else {
            self.resting.pop_front()?
        };
        self.set(index);
        self.cursor = (index + 1) % self.size;
        Some(self.address(index))
    }

    /// Takes this address.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub fn reserve(&mut self, address: Ipv4Addr) -> Result<(), Refused> {
        let index = self.index(address).ok_or(Refused::Outside)?;
        if self.special.contains(&address.to_bits()) {
            return Err(Refused::Special);
        }
        if self.is_used(index) {
            return Err(Refused::Taken);
        }
        self.resting.retain(|&resting| resting != index);
        self.set(index);
        Ok(())
    }

    /// Frees an address; `false` if it was not in use (or may not be freed at all).
    pub fn release(&mut self, address: Ipv4Addr) -> bool {
        let Some(index) = self.index(address) else { return false };
        if self.special.contains(&address.to_bits()) || !self.is_used(index) {
            return false;
        }
        self.used[index / 64] &= !(1 << (index % 64));
        self.free += 1;
        self.resting.push_back(index);
        if self.resting.len() > self.resting_limit {
            self.resting.pop_front();
        }
        true
    }

    /// The first free address from the cursor on, round the end, that does not rest. The caller knows that there is one.
    fn next_rested(&self) -> Option<usize> {
        let words = self.used.len();
        let first = self.cursor / 64;
        for step in 0..=words {
            let word = (first + step) % words;
            let mut free = !self.used[word];
            if step == 0 {
                free &= u64::MAX << (self.cursor % 64);
            }
            while free != 0 {
                let index = word * 64 + free.trailing_zeros() as usize;
                if !self.resting.contains(&index) {
                    return Some(index);
                }
                free &= free - 1;
            }
        }
        None
    }

    fn address(&self, index: usize) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.subnet.address().to_bits() + index as u32)
    }

    fn index(&self, address: Ipv4Addr) -> Option<usize> {
        self.subnet
            .contains(address)
            .then(|| (address.to_bits() - self.subnet.address().to_bits()) as usize)
    }

    fn is_used(&self, index: usize) -> bool {
        self.used[index / 64] & (1 << (index % 64)) != 0
    }

    fn set(&mut self, index: usize) {
        self.used[index / 64] |= 1 << (index % 64);
        self.free -= 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Allocate,
        Reserve(u8),
        ReleaseNth(usize),
        ReleaseAny(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Allocate),
            1 => any::<u8>().prop_map(Step::Reserve),
            3 => any::<usize>().prop_map(Step::ReleaseNth),
            1 => any::<u8>().prop_map(Step::ReleaseAny),
        ]
    }

    proptest! {
        /// Against a set: nothing is given twice, nothing special is given, an address freed lately comes last, and
        /// as long as something is free an address is found.
        #[test]
        fn behaves_like_a_set(prefix in 24_u8..=30, gateway in 1_u8..=2, steps in proptest::collection::vec(step(), 0..600)) {
            let subnet = Cidr::new(Ipv4Addr::new(10, 9, 8, 0), prefix).unwrap();
            let gateway = Ipv4Addr::new(10, 9, 8, gateway);
            let mut ipam = Ipam::new(subnet, gateway).unwrap();
            let size = 1_usize << (32 - prefix);
            let special = [subnet.address(), subnet.last(), gateway];
            let mut used: Vec<Ipv4Addr> = Vec::new();
            let mut freed: Vec<Ipv4Addr> = Vec::new();
            for step in steps {
                match step {
                    Step::Allocate => match ipam.allocate() {
                        Some(address) => {
                            prop_assert!(subnet.contains(address) && !special.contains(&address) && !used.contains(&address));
                            if size - 3 - used.len() == freed.len() {
                                prop_assert_eq!(Some(&address), freed.first());
                            } else {
                                prop_assert!(!freed.contains(&address));
                            }
                            freed.retain(|&other| other != address);
                            used.push(address);
                        }
                        None => prop_assert_eq!(used.len(), size - 3),
                    },
                    Step::Reserve(low) => {
                        let address = Ipv4Addr::new(10, 9, 8, low);
                        let expected = if !subnet.contains(address) {
                            Err(Refused::Outside)
                        } else if special.contains(&address) {
                            Err(Refused::Special)
                        } else if used.contains(&address) {
                            Err(Refused::Taken)
                        } else {
                            Ok(())
                        };
                        prop_assert_eq!(ipam.reserve(address), expected);
                        if expected.is_ok() {
                            freed.retain(|&other| other != address);
                            used.push(address);
                        }
                    }
                    Step::ReleaseNth(nth) => {
                        if !used.is_empty() {
                            let address = used.swap_remove(nth % used.len());
                            prop_assert!(ipam.release(address));
                            freed.push(address);
                        }
                    }
                    Step::ReleaseAny(low) => {
                        let address = Ipv4Addr::new(10, 9, 8, low);
                        let known = used.iter().position(|&other| other == address);
                        prop_assert_eq!(ipam.release(address), known.is_some());
                        if let Some(known) = known {
                            used.swap_remove(known);
                            freed.push(address);
                        }
                    }
                }
                if freed.len() > (size / 4).min(RESTING_MAX) {
                    freed.remove(0);
                }
                prop_assert_eq!(ipam.free(), size - 3 - used.len());
            }
        }
    }

    #[test]
    fn a_freed_address_is_not_given_at_once_even_behind_the_cursor() {
        let mut ipam = Ipam::new("10.0.0.0/24".parse().unwrap(), Ipv4Addr::new(10, 0, 0, 1)).unwrap();
        ipam.reserve(Ipv4Addr::new(10, 0, 0, 3)).unwrap();
        assert_eq!(ipam.allocate(), Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert!(ipam.release(Ipv4Addr::new(10, 0, 0, 3)));
        assert_eq!(ipam.allocate(), Some(Ipv4Addr::new(10, 0, 0, 4)));
    }

    #[test]
    fn sizes_that_make_no_network_are_refused() {
        for prefix in [0, 7, 31, 32] {
            assert!(
                Ipam::new(
                    Cidr::new(Ipv4Addr::new(10, 0, 0, 0), prefix).unwrap(),
                    Ipv4Addr::new(10, 0, 0, 1)
                )
                .is_none()
            );
        }
        let mut smallest = Ipam::new("10.0.0.0/30".parse().unwrap(), Ipv4Addr::new(10, 0, 0, 1)).unwrap();
        assert_eq!(smallest.allocate(), Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(smallest.allocate(), None);
        let mut largest = Ipam::new("10.0.0.0/8".parse().unwrap(), Ipv4Addr::new(10, 0, 0, 1)).unwrap();
        assert_eq!(largest.allocate(), Some(Ipv4Addr::new(10, 0, 0, 2)));
    }
}
