//! Names of the host's ends of the containers' interfaces.
//!
//! A name is never used twice: the kernel removes an interface some time after its namespace died, and until then the
//! name is taken. `ve`, four characters that stand for the bridge, nine random ones: 15, the most that a name can have.

use std::fmt::Write;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const RANDOM: usize = 9;

/// A source of names.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Names for the ports of this bridge.
    pub fn new(bridge: &str) -> Self {
        // FNV-1a: the same in every version of this program, which std's hasher does not promise.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in bridge.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        let mut prefix = String::from("ve");
        push(&mut prefix, hash ^ (hash >> 32), 4);
        Self { prefix }
    }

    /// A new name.
    pub fn next(&self) -> String {
        let mut name = String::with_capacity(15);
        let _ = name.write_str(&self.prefix);
        push(&mut name, rand::random(), RANDOM);
        name
    }

    /// Whether a name may have come from here. Another bridge's may look alike: ask the kernel for the bridge as well.
    pub fn may_own(&self, name: &str) -> bool {
        name.strip_prefix(&self.prefix)
            .is_some_and(|rest| rest.len() == RANDOM && rest.bytes().all(|byte| ALPHABET.contains(&byte)))
    }
}

fn push(text: &mut String, mut bits: u64, count: usize) {
    for _ in 0..count {
        text.push(char::from(ALPHABET[(bits % 32) as usize]));
        bits /= 32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_are_known_again() {
        let names = Names::new("iechor0");
        let other = Names::new("iechor1");
        for _ in 0..100 {
            let name = names.next();
            assert_eq!(name.len(), 15);
            assert!(names.may_own(&name) && !other.may_own(&name));
        }
        assert!(!names.may_own("veth0") && !names.may_own("eth0") && !names.may_own(&names.prefix));
    }
}
