//! Device rules.
//!
//! A later rule overrides an earlier one, for each of reading, writing and making a node by itself; a rule of kind `a` is
//! about everything, whatever else it says. So OCI means it, and so do v1 and runc, both as far as they go: neither can
//! take a part out of a wider rule (v1 passes it over, runc refuses it on v2 too).
//!
//! - v1: [`policy`], a default with exceptions, which refuses what v1 would pass over.
//! - v2: [`program`](mod@program), an eBPF program, which does all of it.

mod policy;
mod program;

pub(super) use policy::{Pause, Policy};
pub(super) use program::program;

use super::{CgroupError, Result};
use std::fmt;

/// Kind of device a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceType {
    /// Both kinds; numbers are ignored, as on v1.
    All,
    /// Block devices.
    Block,
    /// Character devices.
    Char,
}

/// Reading, writing and making nodes, as bits of the kernel's `BPF_DEVCG_ACC_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access(u8);

impl Access {
    /// `mknod`
    pub const MKNOD: Access = Access(1);
    /// Opening for reading.
    pub const READ: Access = Access(2);
    /// Opening for writing.
    pub const WRITE: Access = Access(4);
    /// All three.
    pub const ALL: Access = Access(7);

    /// From letters out of `rwm`.
    ///
    /// # Errors
    /// [`CgroupError::Invalid`] for other letters, or none.
    pub fn parse(text: &str) -> Result<Access> {
        let mut bits = 0;
        for letter in text.chars() {
            bits |= match letter {
                'm' => 1,
                'r' => 2,
                'w' => 4,
                _ => 0x80,
            };
        }
        if bits == 0 || bits & 0x80 != 0 {
            return Err(CgroupError::Invalid {
                what: "device access",
                why: format!("{text:?} is not made of r, w, m"),
            });
        }
        Ok(Access(bits))
    }

    /// Some of [`ALL`](Access::ALL)'s bits; none where there is nothing left.
    pub(super) fn from_bits(bits: u8) -> Option<Access> {
        Some(Access(bits & 7)).filter(|access| access.0 != 0)
    }

    pub(super) fn bits(self) -> u8 {
        self.0
    }
}

impl fmt::Display for DeviceRule {
    /// Docker's notation, with what is done: `deny c 1:3 rwm`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.allow { "allow " } else { "deny " })?;
        f.write_str(match self.kind {
            DeviceType::All => return f.write_str("a"),
            DeviceType::Block => "b ",
            DeviceType::Char => "c ",
        })?;
        for (number, behind) in [(self.major, ':'), (self.minor, ' ')] {
            match number {
                Some(number) => write!(f, "{number}{behind}")?,
                None => write!(f, "*{behind}")?,
            }
        }
        self.access.fmt(f)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [(2, "r"), (4, "w"), (1, "m")] {
            if self.0 & bit != 0 {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Allows or denies.
    pub allow: bool,
    /// Kind of device.
    pub kind: DeviceType,
    /// `None`: any.
    pub major: Option<u32>,
    /// `None`: any.
    pub minor: Option<u32>,
    /// What it is about.
    pub access: Access,
}

impl DeviceRule {
    /// A rule for everything.
    pub const fn all(allow: bool) -> DeviceRule {
        DeviceRule {
            allow,
            kind: DeviceType::All,
            major: None,
            minor: None,
            access: Access::ALL,
        }
    }

    /// Docker's notation, `c 1:3 rwm`, `b *:* m`, `a`.
    ///
    /// # Errors
    /// [`CgroupError::Invalid`].
    pub fn parse(allow: bool, text: &str) -> Result<DeviceRule> {
        let bad = || CgroupError::Invalid {
            what: "device rule",
            why: format!("{text:?} is not like 'c 1:3 rwm'"),
        };
        let number = |text: &str| match text {
            "*" => Ok(None),
            _ => text.parse().map(Some).map_err(|_| bad()),
        };
        let mut words = text.split_whitespace();
        let kind = match words.next() {
            Some("a") => DeviceType::All,
            Some("b") => DeviceType::Block,
            Some("c") => DeviceType::Char,
            _ => return Err(bad()),
        };
        let (numbers, access) = match (words.next(), words.next(), words.next()) {
            (None, None, None) if kind == DeviceType::All => ("*:*", "rwm"),
            (Some(numbers), Some(access), None) => (numbers, access),
            _ => return Err(bad()),
        };
        let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
        Ok(DeviceRule {
            allow,
            kind,
            major: number(major)?,
            minor: number(minor)?,
            access: Access::parse(access)?,
        })
    }

    /// The rule decides about every device and every access.
    fn is_everything(&self) -> bool {
        // On v1 an `a` rule has no numbers and no access: whatever stands there is ignored.
        self.kind == DeviceType::All
    }
}

/// What is in force before the first rule that matters, and these rules.
pub(super) fn reduce(rules: &[DeviceRule]) -> (bool, &[DeviceRule]) {
    match rules.iter().rposition(DeviceRule::is_everything) {
        Some(index) => (rules[index].allow, &rules[index + 1..]),
        None => (true, rules),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// The rule of the module's documentation, one access bit at a time.
    pub(super) fn allowed(rules: &[DeviceRule], kind: DeviceType, major: u32, minor: u32, access: u8) -> bool {
        (0..3).map(|bit| 1 << bit).filter(|bit| access & bit != 0).all(|bit| {
            let mut verdict = true;
            for rule in rules {
                let everything = rule.kind == DeviceType::All;
                if everything
                    || rule.kind == kind
                        && rule.major.is_none_or(|number| number == major)
                        && rule.minor.is_none_or(|number| number == minor)
                        && rule.access.0 & bit != 0
                {
                    verdict = rule.allow;
                }
            }
            verdict
        })
    }

    pub(super) fn rule() -> impl Strategy<Value = DeviceRule> {
        let number = || prop_oneof![Just(None), (0u32..4).prop_map(Some), Just(Some(u32::MAX))];
        let kind = prop_oneof![
            1 => Just(DeviceType::All),
            6 => Just(DeviceType::Block),
            6 => Just(DeviceType::Char)
        ];
        (any::<bool>(), kind, number(), number(), 1u8..8).prop_map(|(allow, kind, major, minor, access)| DeviceRule {
            allow,
            kind,
            major,
            minor,
            access: Access(access),
        })
    }

    #[test]
    fn rules_read_like_dockers() {
        let writes = |rules: &[DeviceRule]| Policy::of(rules).unwrap().writes();
        let rule = DeviceRule::parse(true, "c 1:3 mr").unwrap();
        assert_eq!(rule.to_string(), "allow c 1:3 rm");
        assert_eq!(
            writes(&[DeviceRule::all(true), DeviceRule::all(false), rule]),
            [
                ("devices.deny", "a".to_owned()),
                ("devices.allow", "c 1:3 rm".to_owned())
            ]
        );
        assert_eq!(writes(&[DeviceRule::all(false), DeviceRule::all(true)]), []);
        assert!(program(&[DeviceRule::all(true)]).is_empty());
        assert_eq!(DeviceRule::parse(false, "a").unwrap(), DeviceRule::all(false));
        for bad in [
            "",
            "c",
            "c 1:3",
            "c 1 rwm",
            "x 1:3 r",
            "c 1:3 x",
            "c 1:3 rwm more",
            "c a:3 r",
            "c 1:3 ",
        ] {
            assert!(DeviceRule::parse(true, bad).is_err(), "{bad}");
        }
    }
}
