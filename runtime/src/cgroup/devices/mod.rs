//! Device rules: written to v1 as they are, compiled for v2 into an eBPF program.
//!
//! A later rule overrides an earlier one, for each of reading, writing and making a node by itself. The program asks
//! the rules from the last to the first and crosses off what is allowed; a rule that denies something still wanted ends
//! it. So its answer is exactly that of v1, also for rules that overlap in part.

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
fn reduce(rules: &[DeviceRule]) -> (bool, &[DeviceRule]) {
    match rules.iter().rposition(DeviceRule::is_everything) {
        Some(index) => (rules[index].allow, &rules[index + 1..]),
        None => (true, rules),
    }
}

/// File name and value for each write on v1. A new group has what its parent has, so «everything» needs no write.
pub(super) fn v1_writes(rules: &[DeviceRule]) -> Vec<(&'static str, String)> {
    let (open, rest) = reduce(rules);
    let mut writes = Vec::new();
    if !open {
        writes.push(("devices.deny", "a".to_owned()));
    }
    for rule in rest {
        let kind = if rule.kind == DeviceType::Block { 'b' } else { 'c' };
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        writes.push((
            if rule.allow { "devices.allow" } else { "devices.deny" },
            format!("{kind} {}:{} {}", number(rule.major), number(rule.minor), rule.access),
        ));
    }
    writes
}

/// The program for v2 as `struct bpf_insn[]`; empty when everything is allowed.
pub(super) fn program(rules: &[DeviceRule]) -> Vec<u8> {
    let (open, rest) = reduce(rules);
    if open && rest.iter().all(|rule| rule.allow) {
        return Vec::new();
    }
    let mut code = Code(Vec::new());
    // struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }, access_type = access << 16 | type
    code.load(KIND, CTX, 0);
    code.op(MOV | REG, WANTED, KIND, 0, 0);
    code.op(RSH | IMM, WANTED, 0, 0, 16);
    code.op(AND | IMM, KIND, 0, 0, 0xffff);
    code.load(MAJOR, CTX, 4);
    code.load(MINOR, CTX, 8);
    for rule in rest.iter().rev() {
        let start = code.0.len();
        let kind = if rule.kind == DeviceType::Block { 1 } else { 2 };
        code.jump(JNE, KIND, kind);
        if let Some(major) = rule.major {
            code.jump(JNE, MAJOR, major);
        }
        if let Some(minor) = rule.minor {
            code.jump(JNE, MINOR, minor);
        }
        code.op(MOV | REG, SCRATCH, WANTED, 0, 0);
        code.op(AND | IMM, SCRATCH, 0, 0, u32::from(rule.access.0));
        code.jump(JEQ, SCRATCH, 0);
        if rule.allow {
            code.op(AND | IMM, WANTED, 0, 0, u32::from(!rule.access.0) & 7);
            code.jump(JNE, WANTED, 0);
        }
        code.answer(rule.allow);
        code.land(start);
    }
    code.answer(open);
    code.bytes()
}

// Registers.
const ANSWER: u8 = 0;
const CTX: u8 = 1;
const KIND: u8 = 2;
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

// <linux/bpf.h>, <linux/bpf_common.h>: 32-bit arithmetic and 64-bit jumps on zero-extended registers.
const IMM: u8 = 0x00;
const REG: u8 = 0x08;
const MOV: u8 = 0xb4;
const AND: u8 = 0x54;
const RSH: u8 = 0x74;
const LOAD_WORD: u8 = 0x61;
/// 32-bit compares: an immediate of a 64-bit compare would be sign-extended, and a major number may have any 32 bits.
const JEQ: u8 = 0x16;
const JNE: u8 = 0x56;
const EXIT: u8 = 0x95;
/// Marks a jump whose distance [`Code::land`] fills in.
const OPEN_JUMP: i16 = i16::MIN;

#[derive(Clone, Copy, Debug)]
struct Instruction {
    code: u8,
    dst: u8,
    src: u8,
    off: i16,
    imm: u32,
}

struct Code(Vec<Instruction>);

impl Code {
    fn op(&mut self, code: u8, dst: u8, src: u8, off: i16, imm: u32) {
        self.0.push(Instruction {
            code,
            dst,
            src,
            off,
            imm,
        });
    }

    fn load(&mut self, dst: u8, src: u8, off: i16) {
        self.op(LOAD_WORD, dst, src, off, 0);
    }

    /// Jumps behind the rule when the compare holds.
    fn jump(&mut self, code: u8, dst: u8, imm: u32) {
        self.op(code, dst, 0, OPEN_JUMP, imm);
    }

    fn answer(&mut self, allow: bool) {
        self.op(MOV | IMM, ANSWER, 0, 0, u32::from(allow));
        self.op(EXIT, 0, 0, 0, 0);
    }

    /// Aims the open jumps since `start` here.
    fn land(&mut self, start: usize) {
        let end = self.0.len();
        for (index, instruction) in self.0.iter_mut().enumerate().skip(start) {
            if instruction.off == OPEN_JUMP {
                // A rule has at most a dozen instructions.
                instruction.off = (end - index - 1) as i16;
            }
        }
    }

    fn bytes(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() * 8);
        for Instruction {
            code,
            dst,
            src,
            off,
            imm,
        } in self.0
        {
            // The two register fields are bit fields: their order follows the byte order.
            let registers = if cfg!(target_endian = "little") {
                src << 4 | dst
            } else {
                dst << 4 | src
            };
            out.extend([code, registers]);
            out.extend(off.to_ne_bytes());
            out.extend(imm.to_ne_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// Runs a program as the kernel does, as far as ours go.
    fn interpret(program: &[u8], context: [u32; 3]) -> u32 {
        let mut registers = [0u32; 11];
        let mut at = 0;
        for _ in 0..10_000 {
            let i = &program[at * 8..at * 8 + 8];
            let (dst, src) = ((i[1] & 15) as usize, (i[1] >> 4) as usize);
            let off = i16::from_ne_bytes([i[2], i[3]]);
            let imm = u32::from_ne_bytes([i[4], i[5], i[6], i[7]]);
            at += 1;
            match i[0] {
                LOAD_WORD => registers[dst] = context[off as usize / 4],
                0xbc => registers[dst] = registers[src],
                MOV => registers[dst] = imm,
                AND => registers[dst] &= imm,
                RSH => registers[dst] >>= imm,
                JEQ if registers[dst] == imm => at = (at as i64 + i64::from(off)) as usize,
                JNE if registers[dst] != imm => at = (at as i64 + i64::from(off)) as usize,
                JEQ | JNE => {}
                EXIT => return registers[0],
                other => panic!("instruction {other:#x}"),
            }
        }
        panic!("no end");
    }

    /// The rule of the module's documentation, one access bit at a time.
    fn allowed(rules: &[DeviceRule], kind: DeviceType, major: u32, minor: u32, access: u8) -> bool {
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

    fn rule() -> impl Strategy<Value = DeviceRule> {
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

    proptest! {
        #[test]
        fn the_program_decides_as_the_rules(rules in proptest::collection::vec(rule(), 0..12)) {
            let program = program(&rules);
            for (kind, code) in [(DeviceType::Block, 1), (DeviceType::Char, 2)] {
                for major in [0, 1, 3, 9, u32::MAX] {
                    for minor in [0, 2, 9, u32::MAX] {
                        for access in 1u8..8 {
                            let expected = allowed(&rules, kind, major, minor, access);
                            let context = [u32::from(access) << 16 | code, major, minor];
                            let answer = program.is_empty() || interpret(&program, context) == 1;
                            prop_assert_eq!(answer, expected);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn rules_read_like_dockers() {
        let rule = DeviceRule::parse(true, "c 1:3 mr").unwrap();
        assert_eq!(
            v1_writes(&[DeviceRule::all(true), DeviceRule::all(false), rule]),
            [
                ("devices.deny", "a".to_owned()),
                ("devices.allow", "c 1:3 rm".to_owned())
            ]
        );
        assert_eq!(v1_writes(&[DeviceRule::all(false), DeviceRule::all(true)]), []);
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
