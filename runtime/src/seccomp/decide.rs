//! What a profile says of each call number: rules in, ranges of numbers with one decision each out.

use super::arch::Abi;
use super::multiplex;
use super::profile::{Action, Argument, Compare, Rule};
use super::syscalls;
use std::cmp::Reverse;
use std::collections::BTreeMap;

const ENOSYS: u16 = 38;

/// Where x32's numbers begin.
const X32: u32 = 0x4000_0000;

/// A condition as one interface has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Test {
    pub argument: Argument,
    /// All 64 bits, else the lower 32 of both sides.
    pub wide: bool,
}

/// What happens to a call number: the first alternative whose tests all hold, else the last word.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Decision {
    pub alternatives: Vec<(Vec<Test>, Action)>,
    pub otherwise: Action,
}

impl Decision {
    fn plain(action: Action) -> Decision {
        Decision {
            alternatives: Vec::new(),
            otherwise: action,
        }
    }
}

/// Splits all call numbers into ranges of one decision each: first number and decision, beginning at 0. `abis` share
/// the kernel's value of `arch`, and their numbers do not overlap.
pub(super) fn ranges(rules: &[&Rule], default: Action, abis: &[Abi]) -> Vec<(u32, Decision)> {
    let mut ranges: Vec<(u32, Decision)> = Vec::new();
    let mut push = |from: u32, decision: Decision| {
        if ranges.last().is_none_or(|(_, last)| *last != decision) {
            ranges.push((from, decision));
        }
    };
    if abis.iter().all(|abi| abi.marker() > 0) {
        push(0, Decision::plain(Action::KILL_THREAD));
    }
    for &abi in abis {
        let mut next = abi.marker();
        let calls = calls(rules, default, abi);
        let newer = if default.lets_through() || calls.is_empty() {
            default
        } else {
            Action::errno(ENOSYS)
        };
        for (number, call) in calls {
            if number > next {
                push(next, Decision::plain(default));
            }
            push(number, call.decide(default));
            next = number + 1;
        }
        push(next, Decision::plain(newer));
        if abi == Abi::X86_64 && !abis.contains(&Abi::X32) {
            // The same `arch`, yet not listed. -1 is no x32 call: a tracer puts it there to have a call skipped.
            push(X32, Decision::plain(Action::KILL_THREAD));
            push(u32::MAX, Decision::plain(newer));
        }
    }
    ranges
}

/// Every call that the rules name for this interface.
fn calls(rules: &[&Rule], default: Action, abi: Abi) -> BTreeMap<u32, Call> {
    let mut calls: BTreeMap<u32, Call> = BTreeMap::new();
    let mut behind: BTreeMap<(u32, u64), Behind> = BTreeMap::new();
    for rule in rules {
        for name in &rule.names {
            let way = multiplex::way(name, abi)
                .and_then(|(multiplexer, test)| Some((syscalls::number(multiplexer, abi)?, test)));
            // Named is enough for a call not to be taken for a newer one.
            if let Some(number) = syscalls::number(name, abi) {
                calls.entry(number).or_default();
            }
            if let Some((number, _)) = way {
                calls.entry(number).or_default();
            }
            if rule.action == default {
                continue;
            }
            for tests in conjunctions(&rule.arguments, abi) {
                if let Some((number, test)) = way {
                    let entry = behind.entry((number, test.value));
                    let behind = entry.or_insert_with(|| Behind::new(test));
                    behind.add(tests.is_empty(), rule.action, default);
                }
                if let Some(number) = syscalls::number(name, abi) {
                    calls.entry(number).or_default().add(tests, rule.action);
                }
            }
        }
    }
    for ((number, _), behind) in behind {
        if let Some(action) = behind.always.or(behind.strictest) {
            let tests = vec![Test {
                argument: behind.test,
                wide: abi.wide(),
            }];
            calls.entry(number).or_default().add(tests, action);
        }
    }
    calls
}

/// The rules for one number.
#[derive(Debug, Default)]
struct Call {
    always: Option<Action>,
    conditional: Vec<(Vec<Test>, Action)>,
}

impl Call {
    fn add(&mut self, tests: Vec<Test>, action: Action) {
        if tests.is_empty() {
            self.always.get_or_insert(action);
        } else {
            self.conditional.push((tests, action));
        }
    }

    fn decide(mut self, default: Action) -> Decision {
        if let Some(action) = self.always {
            return Decision::plain(action);
        }
        // Where it makes no difference, the profile's order stays: an author may have put the frequent first.
        if self.conditional.windows(2).any(|pair| pair[0].1 != pair[1].1) {
            self.conditional.sort_by_key(|(tests, _)| rank(tests));
        }
        Decision {
            alternatives: self.conditional,
            otherwise: default,
        }
    }
}

/// The rules for one call behind a multiplexer.
#[derive(Debug)]
struct Behind {
    test: Argument,
    always: Option<Action>,
    /// Of rules with conditions.
    strictest: Option<Action>,
}

impl Behind {
    fn new(test: Argument) -> Behind {
        Behind {
            test,
            always: None,
            strictest: None,
        }
    }

    fn add(&mut self, always: bool, action: Action, default: Action) {
        if always {
            self.always.get_or_insert(action);
        } else if action.stricter_than(self.strictest.unwrap_or(default)) {
            self.strictest = Some(action);
        }
    }
}

/// libseccomp's order among rules with conditions, as far as it has one: the last argument first, then values before
/// upper bounds before lower bounds, and the tighter bound before the wider. What counts is a rule's first argument.
fn rank(tests: &[Test]) -> (Reverse<u8>, u8, u64) {
    let first = tests
        .iter()
        .map(|test| test.argument)
        .min_by_key(|argument| argument.index);
    first.map_or((Reverse(0), 0, 0), |Argument { index, compare, value }| {
        let (class, tightness) = match compare {
            Compare::Eq | Compare::Ne | Compare::MaskedEq(_) => (0, !value),
            Compare::Lt | Compare::Le => (1, value),
            Compare::Gt | Compare::Ge => (2, !value),
        };
        (Reverse(index), class, tightness)
    })
}

/// A rule's conditions on an interface: tests that must all hold, several times where any of these will do. A rule that
/// names one argument twice is, as in runc and crun, one rule for each of its conditions.
fn conjunctions(arguments: &[Argument], abi: Abi) -> Vec<Vec<Test>> {
    let repeats = |at: usize| arguments[..at].iter().any(|other| other.index == arguments[at].index);
    let parts: Vec<&[Argument]> = match (0..arguments.len()).any(repeats) {
        true => arguments.chunks(1).collect(),
        false => vec![arguments],
    };
    let possible = parts.into_iter().filter_map(|part| {
        let mut tests = Vec::new();
        for argument in part {
            match fit(*argument, abi.wide()) {
                Fit::Always => {}
                Fit::Never => return None,
                Fit::Sometimes(test) => tests.push(test),
            }
        }
        Some(tests)
    });
    possible.collect()
}

enum Fit {
    Always,
    Never,
    Sometimes(Test),
}

/// A condition as an interface can ask it. Arguments of 32 bits come with the upper half zero: then a value that
/// is a small negative number stands for its 32-bit form, and any other that is too wide is larger than all arguments.
fn fit(argument: Argument, wide: bool) -> Fit {
    let Argument { index, compare, value } = argument;
    let sometimes = |compare, value| {
        Fit::Sometimes(Test {
            argument: Argument { index, compare, value },
            wide,
        })
    };
    let constant = |holds| if holds { Fit::Always } else { Fit::Never };
    match compare {
        Compare::MaskedEq(mask) => {
            let value = value & mask;
            let (bits, wanted) = if wide { (mask, value) } else { (mask & LOW, value & LOW) };
            let upper = if wide { 0 } else { value & !LOW };
            let negative = value & SIGN != 0 && upper == mask & !LOW;
            match bits {
                _ if upper != 0 && !negative => Fit::Never,
                0 => Fit::Always,
                _ => sometimes(Compare::MaskedEq(bits), wanted),
            }
        }
        _ if wide || value <= LOW => sometimes(compare, value),
        _ if value >= !LOW | SIGN => sometimes(compare, value & LOW),
        Compare::Ne | Compare::Lt | Compare::Le => constant(true),
        Compare::Eq | Compare::Ge | Compare::Gt => constant(false),
    }
}

const LOW: u64 = 0xffff_ffff;
/// Bit 31.
const SIGN: u64 = 0x8000_0000;
