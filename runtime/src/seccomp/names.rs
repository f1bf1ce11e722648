//! The names that profiles are written with, as lists: what a runtime says of itself in its `features` document.

use super::{SeccompError, arch};
use runtime_sys::seccomp as kernel;

// <linux/seccomp.h>
const FLAG_TSYNC: u32 = 1;
const FLAG_LOG: u32 = 1 << 1;
const FLAG_SPEC_ALLOW: u32 = 1 << 2;
pub(super) const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// Without a word about flags, runc leaves speculative store bypass alone: the mitigation costs every container, and
/// kernels since 5.16 no longer force it either.
pub(super) const DEFAULT_FLAGS: u32 = FLAG_SPEC_ALLOW;

const FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_LOG", FLAG_LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_TSYNC", FLAG_TSYNC),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", FLAG_WAIT_KILLABLE_RECV),
];

pub(super) fn flag(name: &str) -> Result<u32, SeccompError> {
    let known = FLAGS.iter().find(|(other, _)| *other == name);
    known
        .map(|(_, bit)| *bit)
        .ok_or_else(|| SeccompError::Invalid(format!("unknown flag {name:?}").into()))
}

/// Each with what the kernel returns for it.
const ACTIONS: [(&str, u32); 9] = [
    ("SCMP_ACT_ALLOW", 0x7fff_0000),
    ("SCMP_ACT_ERRNO", 0x0005_0000),
    ("SCMP_ACT_KILL", 0),
    ("SCMP_ACT_KILL_PROCESS", 0x8000_0000),
    ("SCMP_ACT_KILL_THREAD", 0),
    ("SCMP_ACT_LOG", 0x7ffc_0000),
    ("SCMP_ACT_NOTIFY", 0x7fc0_0000),
    ("SCMP_ACT_TRACE", 0x7ff0_0000),
    ("SCMP_ACT_TRAP", 0x0003_0000),
];

/// Every action of a rule; `features`: `linux.seccomp.actions`.
pub fn actions() -> Vec<&'static str> {
    ACTIONS.iter().map(|(name, _)| *name).collect()
}

/// Those of [`actions`] that the running kernel has.
pub fn supported_actions() -> Vec<&'static str> {
    let there = ACTIONS.iter().filter(|(_, action)| kernel::has_action(*action));
    there.map(|(name, _)| *name).collect()
}

/// Every comparison of an argument; `features`: `linux.seccomp.operators`.
pub fn operators() -> Vec<&'static str> {
    vec![
        "SCMP_CMP_EQ",
        "SCMP_CMP_GE",
        "SCMP_CMP_GT",
        "SCMP_CMP_LE",
        "SCMP_CMP_LT",
        "SCMP_CMP_MASKED_EQ",
        "SCMP_CMP_NE",
    ]
}

/// Every architecture that a profile may list; `features`: `linux.seccomp.archs`.
pub fn architectures() -> Vec<&'static str> {
    arch::names()
}

/// Every flag; `features`: `linux.seccomp.knownFlags`.
pub fn flags() -> Vec<&'static str> {
    FLAGS.iter().map(|(name, _)| *name).collect()
}

/// Those of [`flags`] that the running kernel has; `features`: `linux.seccomp.supportedFlags`.
pub fn supported_flags() -> Vec<&'static str> {
    let there = FLAGS.iter().filter(|(_, flag)| kernel::has_flag(*flag));
    there.map(|(name, _)| *name).collect()
}
