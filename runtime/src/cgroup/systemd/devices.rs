//! Device rules as systemd can hold them: a list of what is allowed, on the ground that nothing else is.
//!
//! On v2 systemd's program and ours are asked one after the other and both must allow; so what systemd is told may
//! allow more than the rules do, but nothing less. On v1 there is one list per group, which systemd writes anew at every
//! `daemon-reload`: there what it cannot say exactly is refused.

use super::super::devices::{Access, DeviceRule, DeviceType, reduce};
use super::super::{CgroupError, Result};
use crate::systemd::UnitProperty;

/// From here on a whole major number can be named.
const MAJOR_NUMBERS: u32 = 240;

/// For a unit that runs and may have others: a list is added to, unless an empty one comes first.
pub(super) fn change(rules: &[DeviceRule], exact: bool, systemd: u32) -> Result<Vec<UnitProperty>> {
    let mut out = vec![UnitProperty::new("DeviceAllow", Vec::<(String, String)>::new())];
    let closed = properties(rules, exact, systemd)?;
    if closed.is_empty() {
        out.push(UnitProperty::new("DevicePolicy", "auto"));
    }
    out.extend(closed);
    Ok(out)
}

/// For a new unit.
pub(super) fn properties(rules: &[DeviceRule], exact: bool, systemd: u32) -> Result<Vec<UnitProperty>> {
    let (open, rules) = reduce(rules);
    let refuse = |what: &str| {
        Err(CgroupError::Unsupported {
            what: what.to_owned(),
            place: "by systemd on cgroup v1",
        })
    };
    if open {
        // systemd's default, a list without an end: the rules are our program's business alone.
        if exact && rules.iter().any(|rule| !rule.allow) {
            return refuse("a device rule that denies something where everything else is allowed");
        }
        return Ok(Vec::new());
    }
    let (allowed, certain) = list(rules);
    let mut entries = Vec::new();
    for rule in allowed {
        let (path, said) = name(&rule, systemd);
        if exact && !said {
            return refuse("a device rule for one minor number of every major, or for a whole major");
        }
        let entry = (path, rule.access.to_string());
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    if exact && !certain {
        return refuse("a device rule that denies a part of what an earlier one allows");
    }
    Ok(vec![
        UnitProperty::new("DevicePolicy", "strict"),
        UnitProperty::new("DeviceAllow", entries),
    ])
}

/// What is allowed after all rules, and whether that is exact.
fn list(rules: &[DeviceRule]) -> (Vec<DeviceRule>, bool) {
    let mut allowed: Vec<DeviceRule> = Vec::new();
    let mut exact = true;
    for rule in rules {
        if rule.allow {
            match allowed.iter_mut().find(|other| same(other, rule)) {
                Some(other) => {
                    other.access = Access::from_bits(other.access.bits() | rule.access.bits()).unwrap_or(rule.access)
                }
                None => allowed.push(*rule),
            }
            continue;
        }
        allowed = allowed
            .into_iter()
            .filter_map(|mut other| {
                if covers(rule, &other) {
                    other.access = Access::from_bits(other.access.bits() & !rule.access.bits())?;
                } else if overlaps(rule, &other) && rule.access.bits() & other.access.bits() != 0 {
                    exact = false;
                }
                Some(other)
            })
            .collect();
    }
    (allowed, exact)
}

fn same(one: &DeviceRule, other: &DeviceRule) -> bool {
    (one.kind, one.major, one.minor) == (other.kind, other.major, other.minor)
}

fn covers(wide: &DeviceRule, narrow: &DeviceRule) -> bool {
    let number = |wide: Option<u32>, narrow| wide.is_none() || wide == narrow;
    wide.kind == narrow.kind && number(wide.major, narrow.major) && number(wide.minor, narrow.minor)
}

fn overlaps(one: &DeviceRule, other: &DeviceRule) -> bool {
    let number = |one: Option<u32>, other: Option<u32>| one.is_none() || other.is_none() || one == other;
    one.kind == other.kind && number(one.major, other.major) && number(one.minor, other.minor)
}

/// How systemd names the devices of a rule, and whether the name stands for these and no others.
fn name(rule: &DeviceRule, systemd: u32) -> (String, bool) {
    let kind = if rule.kind == DeviceType::Block {
        "block"
    } else {
        "char"
    };
    match (rule.major, rule.minor) {
        (Some(major), Some(minor)) => (format!("/dev/{kind}/{major}:{minor}"), true),
        (Some(major), None) if systemd >= MAJOR_NUMBERS => (format!("{kind}-{major}"), true),
        (major, minor) => (format!("{kind}-*"), major.is_none() && minor.is_none()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::systemd::UnitValue;
    use proptest::prelude::*;

    fn allow(properties: &[UnitProperty]) -> Vec<(String, String)> {
        match &properties[1].value {
            UnitValue::Pairs { values } => values.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn rules(texts: &[&str]) -> Vec<DeviceRule> {
        let mut rules = vec![DeviceRule::all(false)];
        rules.extend(texts.iter().map(|text| match text.strip_prefix('!') {
            Some(text) => DeviceRule::parse(false, text).unwrap(),
            None => DeviceRule::parse(true, text).unwrap(),
        }));
        rules
    }

    #[test]
    fn rules_become_a_list() {
        let given = rules(&[
            "c *:* m",
            "b *:* m",
            "c 1:3 rwm",
            "c 136:* rwm",
            "c 1:5 r",
            "c 1:5 w",
            "!c 1:3 w",
        ]);
        let found = properties(&given, true, 252).unwrap();
        assert_eq!(found[0], UnitProperty::new("DevicePolicy", "strict"));
        let pair = |path: &str, access: &str| (path.to_owned(), access.to_owned());
        assert_eq!(
            allow(&found),
            [
                pair("char-*", "m"),
                pair("block-*", "m"),
                pair("/dev/char/1:3", "rm"),
                pair("char-136", "rwm"),
                pair("/dev/char/1:5", "rw"),
            ]
        );
        // Where a major cannot be named, systemd allows all of them, and our own program decides.
        assert_eq!(
            allow(&properties(&rules(&["c 136:* rwm"]), false, 239).unwrap()),
            [pair("char-*", "rwm")]
        );
        assert!(properties(&rules(&["c 136:* rwm"]), true, 239).is_err());
        assert!(properties(&rules(&["c *:3 r"]), true, 252).is_err());
        assert!(properties(&rules(&["c 1:* r", "!c 1:3 r"]), true, 252).is_err());
        assert!(properties(&[DeviceRule::all(true)], true, 252).unwrap().is_empty());
        assert!(properties(&rules(&["a", "!c 1:3 r"]), true, 252).is_err());
        assert!(properties(&rules(&["a", "!c 1:3 r"]), false, 252).unwrap().is_empty());
        assert!(allow(&properties(&rules(&[]), true, 252).unwrap()).is_empty());
    }

    /// Whether systemd's list lets this through.
    fn lets(list: &[(String, String)], kind: &str, major: u32, minor: u32, access: &str) -> bool {
        let paths = [
            format!("{kind}-*"),
            format!("{kind}-{major}"),
            format!("/dev/{kind}/{major}:{minor}"),
        ];
        list.iter()
            .any(|(path, accesses)| paths.contains(path) && accesses.contains(access))
    }

    fn rule() -> impl Strategy<Value = DeviceRule> {
        let number = || prop_oneof![Just(None), (0u32..3).prop_map(Some)];
        let kind = prop_oneof![Just(DeviceType::Block), Just(DeviceType::Char)];
        (any::<bool>(), kind, number(), number(), 1u8..8).prop_map(|(allow, kind, major, minor, access)| DeviceRule {
            allow,
            kind,
            major,
            minor,
            access: Access::from_bits(access).unwrap(),
        })
    }

    proptest! {
        #[test]
        fn the_list_allows_what_the_rules_do_and_where_it_is_exact_no_more(
            rest in prop::collection::vec(rule(), 0..8),
            systemd in prop_oneof![Just(239u32), Just(252)],
        ) {
            let rules: Vec<_> = [DeviceRule::all(false)].into_iter().chain(rest.iter().copied()).collect();
            let wide = allow(&properties(&rules, false, systemd).unwrap());
            let narrow = properties(&rules, true, systemd).ok();
            for (kind, name) in [(DeviceType::Block, "block"), (DeviceType::Char, "char")] {
                for (major, minor) in (0..4).flat_map(|major| (0..4).map(move |minor| (major, minor))) {
                    for (bit, letter) in [(1, "m"), (2, "r"), (4, "w")] {
                        let last = rest.iter().rev().find(|rule| {
                            rule.kind == kind
                                && rule.major.is_none_or(|number| number == major)
                                && rule.minor.is_none_or(|number| number == minor)
                                && rule.access.bits() & bit != 0
                        });
                        let expected = last.is_some_and(|rule| rule.allow);
                        prop_assert!(!expected || lets(&wide, name, major, minor, letter));
                        if let Some(narrow) = &narrow {
                            prop_assert_eq!(lets(&allow(narrow), name, major, minor, letter), expected);
                        }
                    }
                }
            }
        }
    }
}
