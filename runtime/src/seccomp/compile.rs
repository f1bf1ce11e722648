//! Profile → program.
//!
//! ```text
//! load arch ─► which machine interface? ─► load nr ─► tree over ranges of nr ─► answer
//!                   └─ none: kill thread                                     └► tests of arguments ─► answer
//! ```
//!
//! Jumps of classic BPF go forward only, and conditional ones at most 255 instructions. So the program is made from
//! its end to its start: whatever a jump goes to is already there, and answers and whole argument tests are shared by
//! all who need them.

use super::arch::Abi;
use super::decide::{Decision, Test, ranges};
use super::names::FLAG_WAIT_KILLABLE_RECV;
use super::profile::{Action, Argument, Compare, Listener, Profile, Rule};
use super::{Context, Filter, SeccompError, invalid, syscalls};
use std::collections::{BTreeMap, HashMap};

/// `BPF_MAXINSNS`
const LONGEST: usize = 4096;

/// What nobody may be asked about, for the one to be asked gets the listener by it: the shim's child sends descriptors
/// with `sendmsg`, and runc, whose profiles these are, tells its parent with `write`. Whatever else happens before the
/// program runs (identity, capabilities, `execve`) can wait for the one who then has the listener.
const NEEDED: [&str; 2] = ["sendmsg", "write"];

pub(super) fn compile(profile: &Profile, context: &Context) -> Result<Filter, SeccompError> {
    let rules: Vec<&Rule> = profile.rules_for(context).collect();
    let mut ignored: Vec<String> = rules
        .iter()
        .flat_map(|rule| &rule.names)
        .filter(|name| !syscalls::known(name))
        .map(|name| name.to_string())
        .collect();
    ignored.sort();
    ignored.dedup();

    let listener = listener(profile, &rules)?;

    // Interfaces that share a value of `arch` share a tree.
    let mut machines: BTreeMap<u32, Vec<Abi>> = BTreeMap::new();
    for abi in profile.interfaces_for(context.native) {
        machines.entry(abi.audit()).or_default().push(abi);
    }
    let mut program = Program::default();
    let mut entry = program.answer(Action::KILL_THREAD);
    // The native interface is asked for first, so it is made last.
    let native = context.native.audit();
    for (&audit, abis) in machines
        .iter()
        .filter(|(audit, _)| **audit != native)
        .chain(machines.get_key_value(&native))
    {
        let ranges = ranges(&rules, profile.default, abis);
        let tree = program.tree(&ranges);
        program.go(tree);
        let start = program.load(NR);
        entry = program.jump(JEQ, audit, start, entry);
    }
    program.go(entry);
    program.load(ARCH);
    if program.code.len() > LONGEST {
        return Err(SeccompError::TooLong(program.code.len()));
    }
    Ok(Filter {
        program: program.bytes(),
        flags: profile.flags,
        listener,
        ignored,
    })
}

/// The listener, where a rule needs one. Only rules for calls that exist here count, as in runc.
fn listener(profile: &Profile, rules: &[&Rule]) -> Result<Option<Listener>, SeccompError> {
    let notified = || {
        let rules = rules.iter().filter(|rule| rule.action == Action::NOTIFY);
        rules.flat_map(|rule| &rule.names).filter(|name| syscalls::known(name))
    };
    if let Some(name) = notified().find(|name| NEEDED.contains(&&***name)) {
        return invalid(format!(
            "SCMP_ACT_NOTIFY cannot be used for the call {name}: the listener is handed over by it, so it would wait for \
             an answer from somebody who does not have the listener yet"
        ));
    }
    let Some(name) = notified().next() else {
        if profile.flags & FLAG_WAIT_KILLABLE_RECV != 0 {
            return invalid(
                "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is about waiting for answers, but no rule has SCMP_ACT_NOTIFY",
            );
        }
        return Ok(None);
    };
    match profile.listener() {
        Some(listener) => Ok(Some(listener.clone())),
        None => invalid(format!("SCMP_ACT_NOTIFY for the call {name} needs a listenerPath")),
    }
}

// struct seccomp_data { int nr; u32 arch; u64 instruction_pointer; u64 args[6]; }
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

// <linux/bpf_common.h>
const LD_ABS: u16 = 0x20;
const AND: u16 = 0x54;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const RET: u16 = 0x06;

#[derive(Clone, Copy, Debug)]
struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

/// A place in the program, counted from its end: a later one has a lower number.
type Label = usize;

/// Instructions from the last to the first.
#[derive(Debug, Default)]
struct Program {
    code: Vec<Instruction>,
    /// Where decisions with tests begin.
    decisions: HashMap<Decision, Label>,
    /// The answer in front of all with the same action.
    answers: HashMap<Action, Label>,
}

impl Program {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.code.push(Instruction { code, jt, jf, k });
        self.code.len() - 1
    }

    /// How many instructions one in front of all others would skip to get to `label`.
    fn distance(&self, label: Label) -> usize {
        self.code.len() - 1 - label
    }

    /// Makes sure that what is put in front now goes on at `label`.
    fn go(&mut self, label: Label) {
        if self.distance(label) > 0 {
            let far = self.distance(label) as u32;
            self.push(JA, 0, 0, far);
        }
    }

    fn load(&mut self, offset: u32) -> Label {
        self.push(LD_ABS, 0, 0, offset)
    }

    fn answer(&mut self, action: Action) -> Label {
        if let Some(&label) = self.answers.get(&action)
            // One more would cost as much as the `ja` to a far one.
            && self.distance(label) < 200
        {
            return label;
        }
        let label = self.push(RET, 0, 0, action.0);
        self.answers.insert(action, label);
        label
    }

    /// A conditional jump in front of everything.
    fn jump(&mut self, code: u16, k: u32, mut yes: Label, mut no: Label) -> Label {
        // A `ja` for one target moves the other one instruction further away; so look twice.
        for _ in 0..2 {
            for target in [&mut yes, &mut no] {
                if self.distance(*target) > 253 {
                    let far = self.distance(*target) as u32;
                    *target = self.push(JA, 0, 0, far);
                }
            }
        }
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(code, jt, jf, k)
    }

    /// A balanced search for the range that holds the number in the accumulator.
    fn tree(&mut self, ranges: &[(u32, Decision)]) -> Label {
        if let [(_, decision)] = ranges {
            return self.decide(decision);
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let above = self.tree(high);
        let below = self.tree(low);
        self.jump(JGE, high[0].0, above, below)
    }

    fn decide(&mut self, decision: &Decision) -> Label {
        if decision.alternatives.is_empty() {
            return self.answer(decision.otherwise);
        }
        if let Some(&label) = self.decisions.get(decision) {
            return label;
        }
        let mut label = self.answer(decision.otherwise);
        for (tests, action) in decision.alternatives.iter().rev() {
            let otherwise = label;
            let mut here = self.answer(*action);
            for test in tests.iter().rev() {
                here = self.test(test, here, otherwise);
            }
            label = here;
        }
        self.decisions.insert(decision.clone(), label);
        label
    }

    /// Tests one argument, its upper half first: the accumulator holds 32 bits.
    fn test(&mut self, test: &Test, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let Argument { index, compare, value } = test.argument;
        let opposite = match compare {
            Compare::Ne => Some(Compare::Eq),
            Compare::Lt => Some(Compare::Ge),
            Compare::Le => Some(Compare::Gt),
            _ => None,
        };
        if let Some(compare) = opposite {
            let argument = Argument {
                compare,
                ..test.argument
            };
            return self.test(&Test { argument, ..*test }, no, yes);
        }
        let (low_first, high_first) = if cfg!(target_endian = "little") { (0, 4) } else { (4, 0) };
        let low_at = ARGS + u32::from(index) * 8 + low_first;
        let high_at = ARGS + u32::from(index) * 8 + high_first;
        let (high, low) = ((value >> 32) as u32, value as u32);
        let mask = match compare {
            Compare::MaskedEq(mask) => mask,
            _ => u64::MAX,
        };
        let (mask_high, mask_low) = ((mask >> 32) as u32, mask as u32);
        let code = match compare {
            Compare::Ge => JGE,
            Compare::Gt => JGT,
            _ => JEQ,
        };
        self.jump(code, low, yes, no);
        if mask_low != u32::MAX {
            self.push(AND, 0, 0, mask_low);
        }
        let lower = self.load(low_at);
        if !test.wide || mask_high == 0 {
            return lower;
        }
        let same = self.jump(JEQ, high, lower, no);
        if code != JEQ {
            self.jump(JGT, high, yes, same);
        }
        if mask_high != u32::MAX {
            self.push(AND, 0, 0, mask_high);
        }
        self.load(high_at)
    }

    fn bytes(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.code.len() * 8);
        for Instruction { code, jt, jf, k } in self.code.into_iter().rev() {
            out.extend(code.to_ne_bytes());
            out.extend([jt, jf]);
            out.extend(k.to_ne_bytes());
        }
        out
    }
}
