//! Rules → eBPF for v2.
//!
//! The program asks the rules from the last to the first and crosses off what is allowed; a rule that denies something
//! still wanted ends it.

use super::{DeviceRule, DeviceType, reduce};

/// The program for v2 as `struct bpf_insn[]`; empty when everything is allowed.
pub(in super::super) fn program(rules: &[DeviceRule]) -> Vec<u8> {
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
    use super::super::tests::{allowed, rule};
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
}
