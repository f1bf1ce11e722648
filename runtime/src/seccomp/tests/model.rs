//! The kernel's side of a filter, and what the module's documentation says, read one rule after the other: slow, and
//! with nothing of the compiler in it.

use super::super::multiplex;
use super::*;

/// `struct seccomp_data`, as far as a filter reads it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Call {
    pub number: u32,
    pub arch: u32,
    pub args: [u64; 6],
}

/// Runs a program as the kernel does; also checks what the kernel checks before it takes one. Returns the answer and
/// how many instructions it took.
pub fn run(program: &[u8], call: &Call) -> (u32, usize) {
    assert_eq!(program.len() % 8, 0);
    let count = program.len() / 8;
    let (mut at, mut a, mut steps) = (0usize, 0u32, 0);
    loop {
        assert!(at < count, "ran out of the program");
        steps += 1;
        let i = &program[at * 8..at * 8 + 8];
        let code = u16::from_ne_bytes([i[0], i[1]]);
        let (jt, jf) = (usize::from(i[2]), usize::from(i[3]));
        let k = u32::from_ne_bytes([i[4], i[5], i[6], i[7]]);
        at += 1;
        let choose = |yes: bool| if yes { jt } else { jf };
        match code {
            0x20 => {
                a = match k {
                    0 => call.number,
                    4 => call.arch,
                    16..64 if k.is_multiple_of(4) => {
                        let word = call.args[(k as usize - 16) / 8];
                        if k.is_multiple_of(8) {
                            word as u32
                        } else {
                            (word >> 32) as u32
                        }
                    }
                    _ => panic!("load of {k}"),
                }
            }
            0x54 => a &= k,
            0x05 => at += k as usize,
            0x15 => at += choose(a == k),
            0x25 => at += choose(a > k),
            0x35 => at += choose(a >= k),
            0x06 => return (k, steps),
            _ => panic!("instruction {code:#x}"),
        }
    }
}

/// Whether a condition holds, and whether it does (or does not) for every argument.
fn holds(argument: &Argument, call: &Call, abi: Abi) -> (bool, bool) {
    let Argument { index, compare, value } = *argument;
    let full = call.args[usize::from(index)];
    if let Compare::MaskedEq(mask) = compare {
        let value = value & mask;
        let same = |actual: u64| actual & mask == value;
        if matches!(abi, Abi::X86_64 | Abi::Aarch64) {
            return (same(full), mask == 0);
        }
        let low = u64::from(full as u32);
        let extended = (full as i32) as u64;
        let possible = value >> 32 == 0 || value & 1 << 31 != 0 && value >> 32 == mask >> 32;
        return (
            // The upper half of a mask is met by zeros or by a sign.
            possible && (same(low) || value & 1 << 31 != 0 && same(extended)),
            !possible || mask as u32 == 0,
        );
    }
    let compared = |actual: u64, value: u64| match compare {
        Compare::Ne => actual != value,
        Compare::Lt => actual < value,
        Compare::Le => actual <= value,
        Compare::Eq => actual == value,
        Compare::Ge => actual >= value,
        Compare::Gt => actual > value,
        Compare::MaskedEq(_) => unreachable!(),
    };
    if matches!(abi, Abi::X86_64 | Abi::Aarch64) {
        return (compared(full, value), false);
    }
    let low = u64::from(full as u32);
    if i32::try_from(value as i64).is_ok() {
        return (compared(low, u64::from(value as u32)), false);
    }
    (compared(low, value), u32::try_from(value).is_err())
}

/// One rule that may answer a call.
struct Candidate {
    /// It answers all calls of that number.
    always: bool,
    matches: bool,
    /// Lower goes first.
    rank: (i32, u8, u64),
    action: Action,
}

fn rank(arguments: &[Argument]) -> (i32, u8, u64) {
    let Some(first) = arguments.iter().min_by_key(|argument| argument.index) else {
        return (0, 0, 0);
    };
    let value = match first.compare {
        Compare::MaskedEq(mask) => first.value & mask,
        _ => first.value,
    };
    let index = -i32::from(first.index);
    match first.compare {
        Compare::Lt | Compare::Le => (index, 1, value),
        Compare::Gt | Compare::Ge => (index, 2, u64::MAX - value),
        _ => (index, 0, u64::MAX - value),
    }
}

/// The rules of the module's documentation.
pub fn naive(profile: &Profile, context: &Context, call: &Call) -> u32 {
    let kill = Action::KILL_THREAD.0;
    let listed = profile.interfaces_for(context.native);
    let x32 = call.arch == X86_64 && call.number >= 0x4000_0000;
    let abi = match call.arch {
        X86_64 if x32 && listed.contains(&Abi::X32) => Abi::X32,
        X86_64 if !x32 || call.number == u32::MAX => Abi::X86_64,
        I386 => Abi::X86,
        _ => return kill,
    };
    if !listed.contains(&abi) {
        return kill;
    }
    let wide = matches!(abi, Abi::X86_64 | Abi::Aarch64);
    let mut highest = None;
    let mut direct = Vec::new();
    let mut behind = Vec::new();
    for rule in profile.rules_for(context) {
        let indexes: std::collections::BTreeSet<u8> = rule.arguments.iter().map(|argument| argument.index).collect();
        let parts: Vec<&[Argument]> = if indexes.len() < rule.arguments.len() {
            rule.arguments.chunks(1).collect()
        } else {
            vec![&rule.arguments]
        };
        for name in &rule.names {
            let way = multiplex::way(name, abi);
            let number = syscalls::number(name, abi);
            highest = highest.max(number);
            if let Some((multiplexer, _)) = way {
                highest = highest.max(syscalls::number(multiplexer, abi));
            }
            if rule.action == profile.default {
                continue;
            }
            for part in &parts {
                // What holds always says nothing, and what never does takes the rule with it.
                let verdicts = part.iter().map(|argument| (argument, holds(argument, call, abi)));
                let open: Vec<Argument> = verdicts
                    .clone()
                    .filter(|(_, (_, constant))| !constant)
                    .map(|(argument, _)| *argument)
                    .collect();
                if verdicts.clone().any(|(_, (holds, constant))| constant && !holds) {
                    continue;
                }
                let narrow: Vec<Argument> = open
                    .iter()
                    .map(|argument| Argument {
                        value: if wide {
                            argument.value
                        } else {
                            u64::from(argument.value as u32)
                        },
                        ..*argument
                    })
                    .collect();
                let candidate = Candidate {
                    always: open.is_empty(),
                    matches: open.iter().all(|argument| holds(argument, call, abi).0),
                    rank: rank(&narrow),
                    action: rule.action,
                };
                if let Some((multiplexer, test)) = way
                    && syscalls::number(multiplexer, abi) == Some(call.number)
                    && holds(&test, call, abi).0
                {
                    behind.push((candidate.always, candidate.action, rank(&[test])));
                }
                if number == Some(call.number) {
                    direct.push(candidate);
                }
            }
        }
    }
    if let Some(first) = behind.iter().find(|(always, ..)| *always) {
        direct.push(Candidate {
            always: false,
            matches: true,
            rank: first.2,
            action: first.1,
        });
    } else if let Some(strictest) = behind
        .iter()
        .filter(|(_, action, _)| action.stricter_than(profile.default))
        .reduce(|a, b| if b.1.stricter_than(a.1) { b } else { a })
    {
        direct.push(Candidate {
            always: false,
            matches: true,
            rank: strictest.2,
            action: strictest.1,
        });
    }
    if let Some(always) = direct.iter().find(|candidate| candidate.always) {
        return always.action.0;
    }
    let matching = direct.iter().filter(|candidate| candidate.matches);
    if let Some(best) = matching.min_by_key(|candidate| candidate.rank) {
        return best.action.0;
    }
    match highest {
        Some(highest) if call.number > highest && !profile.default.lets_through() => Action::errno(38).0,
        _ => profile.default.0,
    }
}
