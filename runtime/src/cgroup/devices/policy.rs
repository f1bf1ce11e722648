//! Rules as v1 holds them: a default, and exceptions from it.
//!
//! The kernel's own arithmetic is narrower than that of the rules, and it says nothing where it falls short:
//!
//! - an exception is taken back only by its exact numbers, so a part cannot be taken out of a wider one: refused here;
//! - opening for reading and writing at once needs one exception that allows both: such are added here, where two
//!   exceptions allow one each.

use super::{Access, DeviceRule, DeviceType, reduce};
use crate::cgroup::{CgroupError, Result};
use std::collections::BTreeMap;

/// Devices that an exception is about; `None`: any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pattern {
    block: bool,
    major: Option<u32>,
    minor: Option<u32>,
}

impl Pattern {
    fn covers(self, other: Pattern) -> bool {
        let number = |own: Option<u32>, other| own.is_none() || own == other;
        self.block == other.block && number(self.major, other.major) && number(self.minor, other.minor)
    }

    /// The devices of both.
    fn and(self, other: Pattern) -> Option<Pattern> {
        let number = |a: Option<u32>, b: Option<u32>| match (a, b) {
            (Some(a), Some(b)) if a != b => None,
            (a, b) => Some(a.or(b)),
        };
        Some(Pattern {
            block: (self.block == other.block).then_some(self.block)?,
            major: number(self.major, other.major)?,
            minor: number(self.minor, other.minor)?,
        })
    }

    fn rule(self, allow: bool, access: u8) -> DeviceRule {
        DeviceRule {
            allow,
            kind: if self.block {
                DeviceType::Block
            } else {
                DeviceType::Char
            },
            major: self.major,
            minor: self.minor,
            access: Access(access),
        }
    }
}

/// Exceptions, each with the bits of its [`Access`].
type Exceptions = BTreeMap<Pattern, u8>;

/// What a group of v1 holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Policy {
    open: bool,
    exceptions: Exceptions,
    /// In which order the rules named them: the kernel's list, which people read, shows them so.
    order: Vec<Pattern>,
}

/// A file's name and what is written to it.
pub(in super::super) type DeviceWrite = (&'static str, String);

/// Whether the processes of a group have to stand still while its rules change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Pause {
    /// Nothing is allowed or denied meanwhile that is not so before or after.
    Needless,
    /// Everything is denied for a moment.
    Better,
    /// Everything is allowed for a moment.
    Needed,
}

const READ_WRITE: u8 = Access::READ.0 | Access::WRITE.0;

fn write(rule: DeviceRule) -> DeviceWrite {
    let file = if rule.allow { "devices.allow" } else { "devices.deny" };
    let text = rule.to_string();
    let value = text.split_once(' ').map_or("", |(_, value)| value);
    (file, value.to_owned())
}

impl Policy {
    /// # Errors
    /// [`CgroupError::Unsupported`] for a rule that takes a part out of a wider one.
    pub(in super::super) fn of(rules: &[DeviceRule]) -> Result<Policy> {
        let (open, rules) = reduce(rules);
        let mut exceptions = Exceptions::new();
        let mut order: Vec<Pattern> = Vec::new();
        for rule in rules {
            let pattern = Pattern {
                block: rule.kind == DeviceType::Block,
                major: rule.major,
                minor: rule.minor,
            };
            if rule.allow != open {
                *exceptions.entry(pattern).or_default() |= rule.access.0;
                order.retain(|other| *other != pattern);
                order.push(pattern);
                continue;
            }
            for (other, bits) in &mut exceptions {
                if pattern.covers(*other) {
                    *bits &= !rule.access.0;
                } else if *bits & rule.access.0 != 0 && pattern.and(*other).is_some() {
                    let other = other.rule(!open, *bits);
                    return Err(CgroupError::Unsupported {
                        what: format!("the device rule '{rule}', which takes a part out of '{other}',"),
                        place: "on cgroup v1",
                    });
                }
            }
            exceptions.retain(|_, bits| *bits != 0);
        }
        let mut policy = Policy {
            open,
            exceptions,
            order,
        };
        if !open {
            policy.join_halves();
        }
        Ok(policy)
    }

    /// Adds what two exceptions allow together: reading by one, writing by the other.
    fn join_halves(&mut self) {
        loop {
            let known: Vec<(Pattern, u8)> = self
                .exceptions
                .iter()
                .map(|(pattern, bits)| (*pattern, *bits))
                .collect();
            let holds_both = |both: Pattern| {
                known
                    .iter()
                    .any(|(pattern, bits)| bits & READ_WRITE == READ_WRITE && pattern.covers(both))
            };
            let halves = |wanted: u8| known.iter().filter(move |(_, bits)| bits & READ_WRITE == wanted);
            let missing: Vec<Pattern> = halves(Access::READ.0)
                .flat_map(|(reads, _)| halves(Access::WRITE.0).filter_map(|(writes, _)| reads.and(*writes)))
                .filter(|both| !holds_both(*both))
                .collect();
            if missing.is_empty() {
                return;
            }
            for both in missing {
                *self.exceptions.entry(both).or_default() |= READ_WRITE;
            }
        }
    }

    fn exceptions(&self) -> impl Iterator<Item = DeviceWrite> {
        let named = self
            .order
            .iter()
            .filter_map(|pattern| self.exceptions.get_key_value(pattern));
        let added = self
            .exceptions
            .iter()
            .filter(|(pattern, _)| !self.order.contains(pattern));
        named
            .chain(added)
            .map(|(pattern, bits)| write(pattern.rule(!self.open, *bits)))
    }

    /// The writes for a new group. It has what its parent has, so «everything» needs none.
    pub(in super::super) fn writes(&self) -> Vec<DeviceWrite> {
        let close = (!self.open).then(|| write(DeviceRule::all(false)));
        close.into_iter().chain(self.exceptions()).collect()
    }

    /// The writes for a group whose `devices.list` says `list`.
    pub(in super::super) fn writes_after(&self, list: &str) -> (Pause, Vec<DeviceWrite>) {
        let mut out = Vec::new();
        match (self.open, in_force(list)) {
            (false, Some(old)) => {
                // What is new comes first, so that a process which may do something before and after may do it always.
                for (pattern, bits) in &self.exceptions {
                    let gained = bits & !old.get(pattern).unwrap_or(&0);
                    out.extend((gained != 0).then(|| write(pattern.rule(true, gained))));
                }
                for (pattern, bits) in &old {
                    let lost = bits & !self.exceptions.get(pattern).unwrap_or(&0);
                    out.extend((lost != 0).then(|| write(pattern.rule(false, lost))));
                }
                (Pause::Needless, out)
            }
            (open, _) => {
                // The list of an open group does not tell its exceptions, and no write takes back those unknown but
                // this one, which takes all.
                out.push(write(DeviceRule::all(open)));
                out.extend(self.exceptions());
                let pause = match (open, self.exceptions.is_empty()) {
                    (true, true) => Pause::Needless,
                    (true, false) => Pause::Needed,
                    (false, _) => Pause::Better,
                };
                (pause, out)
            }
        }
    }
}

/// What a closed group allows; `None` for an open one, whose list is the one line `a *:* rwm`.
fn in_force(list: &str) -> Option<Exceptions> {
    let mut exceptions = Exceptions::new();
    for line in list.lines() {
        let rule = DeviceRule::parse(true, line).ok()?;
        if rule.kind == DeviceType::All {
            return None;
        }
        let pattern = Pattern {
            block: rule.kind == DeviceType::Block,
            major: rule.major,
            minor: rule.minor,
        };
        *exceptions.entry(pattern).or_default() |= rule.access.0;
    }
    Some(exceptions)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::{allowed, rule};
    use super::*;
    use proptest::prelude::*;

    /// `security/device_cgroup.c` in short: exceptions are found by their exact numbers only, and deny in part what is
    /// open, but allow only as a whole what is closed.
    #[derive(Clone, Debug)]
    struct Kernel {
        open: bool,
        exceptions: Vec<DeviceRule>,
    }

    impl Kernel {
        fn write(&mut self, (file, value): &DeviceWrite) {
            let allow = *file == "devices.allow";
            let rule = DeviceRule::parse(allow, value).unwrap();
            if rule.kind == DeviceType::All {
                *self = Kernel {
                    open: allow,
                    exceptions: vec![],
                };
                return;
            }
            let same =
                |other: &&mut DeviceRule| (other.kind, other.major, other.minor) == (rule.kind, rule.major, rule.minor);
            let found = self.exceptions.iter_mut().find(same);
            match (found, allow == self.open) {
                (Some(found), true) => found.access.0 &= !rule.access.0,
                (None, true) => {}
                (Some(found), false) => found.access.0 |= rule.access.0,
                (None, false) => self.exceptions.push(rule),
            }
            self.exceptions.retain(|rule| rule.access.0 != 0);
        }

        fn list(&self) -> String {
            if self.open {
                return "a *:* rwm\n".into();
            }
            self.exceptions
                .iter()
                .map(|rule| rule.to_string().split_once(' ').unwrap().1.to_owned() + "\n")
                .collect()
        }

        fn allows(&self, kind: DeviceType, major: u32, minor: u32, access: u8) -> bool {
            let about = |rule: &&DeviceRule| {
                rule.kind == kind
                    && rule.major.is_none_or(|number| number == major)
                    && rule.minor.is_none_or(|number| number == minor)
            };
            let mut about = self.exceptions.iter().filter(about);
            if self.open {
                !about.any(|rule| rule.access.0 & access != 0)
            } else {
                about.any(|rule| access & !rule.access.0 == 0)
            }
        }
    }

    /// Every question that the kernel asks: making a node, opening for reading, for writing, for both.
    fn questions() -> impl Iterator<Item = (DeviceType, u32, u32, u8)> {
        let kinds = [DeviceType::Block, DeviceType::Char].into_iter();
        kinds.flat_map(|kind| {
            [0, 1, 3, 9, u32::MAX].into_iter().flat_map(move |major| {
                [0, 2, 9, u32::MAX]
                    .into_iter()
                    .flat_map(move |minor| [1, 2, 4, 6].map(move |access| (kind, major, minor, access)))
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn v1_decides_as_the_rules_or_they_are_refused(rules in proptest::collection::vec(rule(), 0..10)) {
            if let Ok(policy) = Policy::of(&rules) {
                let mut kernel = Kernel { open: true, exceptions: vec![] };
                policy.writes().iter().for_each(|write| kernel.write(write));
                for (kind, major, minor, access) in questions() {
                    let expected = allowed(&rules, kind, major, minor, access);
                    prop_assert_eq!(kernel.allows(kind, major, minor, access), expected, "{:?}", policy);
                }
            }
        }

        #[test]
        fn a_change_ends_where_it_should_and_allows_no_more_on_the_way(
            old in proptest::collection::vec(rule(), 0..8),
            new in proptest::collection::vec(rule(), 0..8),
        ) {
            if let (Ok(before), Ok(after)) = (Policy::of(&old), Policy::of(&new)) {
                let mut kernel = Kernel { open: true, exceptions: vec![] };
                before.writes().iter().for_each(|write| kernel.write(write));
                let (pause, writes) = after.writes_after(&kernel.list());
                for write in &writes {
                    kernel.write(write);
                    for (kind, major, minor, access) in questions() {
                        // In the middle, bits may come from both.
                        let either = [1, 2, 4].into_iter().filter(|bit| access & bit != 0).all(|bit| {
                            allowed(&old, kind, major, minor, bit) || allowed(&new, kind, major, minor, bit)
                        });
                        let both = allowed(&old, kind, major, minor, access) && allowed(&new, kind, major, minor, access);
                        let now = kernel.allows(kind, major, minor, access);
                        prop_assert!(!now || either || pause == Pause::Needed, "opened by {:?}", write);
                        prop_assert!(now || !both || pause != Pause::Needless, "closed by {:?}", write);
                    }
                }
                for (kind, major, minor, access) in questions() {
                    let expected = allowed(&new, kind, major, minor, access);
                    prop_assert_eq!(kernel.allows(kind, major, minor, access), expected, "{:?}", writes);
                }
            }
        }
    }

    fn parse(rules: &[&str]) -> Vec<DeviceRule> {
        rules
            .iter()
            .map(|rule| {
                let (word, rule) = rule.split_once(' ').unwrap();
                DeviceRule::parse(word == "allow", rule).unwrap()
            })
            .collect()
    }

    #[test]
    fn a_hole_in_a_wider_rule_is_refused_by_name() {
        for (rules, refused) in [
            (&["deny a", "allow c 1:* rw", "deny c 1:3 w"][..], "'deny c 1:3 w'"),
            (&["deny c *:* r", "allow c 1:3 r"], "'allow c 1:3 r'"),
            (&["deny a", "allow c 1:* rw", "deny c *:3 w"], "'allow c 1:* rw'"),
        ] {
            let error = Policy::of(&parse(rules)).unwrap_err().to_string();
            assert!(error.contains(refused) && error.contains("on cgroup v1"), "{error}");
        }
        // A wider rule takes back narrower ones, and other access bits or kinds are no holes.
        let fine = parse(&[
            "deny a",
            "allow c 1:3 rw",
            "allow b 1:3 r",
            "allow c 2:* m",
            "deny c *:* rw",
            "deny c 2:2 r",
        ]);
        let expected = [
            ("devices.deny", "a"),
            ("devices.allow", "b 1:3 r"),
            ("devices.allow", "c 2:* m"),
        ];
        assert_eq!(
            Policy::of(&fine).unwrap().writes(),
            expected.map(|(file, value)| (file, value.to_owned()))
        );
    }

    #[test]
    fn kind_a_is_everything_whatever_else_it_says() {
        let odd = DeviceRule {
            access: Access::READ,
            major: Some(1),
            ..DeviceRule::all(true)
        };
        let policy = Policy::of(&[DeviceRule::all(false), odd]).unwrap();
        assert_eq!(policy, Policy::of(&[]).unwrap());
        assert!(super::super::program(&[DeviceRule::all(false), odd]).is_empty());
    }

    #[test]
    fn changes_of_a_closed_group_are_small() {
        let target = Policy::of(&parse(&["deny a", "allow c 1:3 rwm", "allow c 5:* rm"])).unwrap();
        let (pause, writes) = target.writes_after("c 1:3 rm\nc 1:5 rwm\nc 5:* rwm\n");
        let expected = [
            ("devices.allow", "c 1:3 w"),
            ("devices.deny", "c 1:5 rwm"),
            ("devices.deny", "c 5:* w"),
        ];
        assert_eq!(pause, Pause::Needless);
        assert_eq!(writes, expected.map(|(file, value)| (file, value.to_owned())));
        assert_eq!(target.writes_after("c 1:3 rwm\nc 5:* rm\n").1, []);
        assert_eq!(target.writes_after("a *:* rwm\n").0, Pause::Better);
        let open = Policy::of(&parse(&["deny c 1:3 w"])).unwrap();
        assert_eq!(open.writes_after("").0, Pause::Needed);
        assert_eq!(Policy::of(&[]).unwrap().writes_after("").0, Pause::Needless);
    }
}
