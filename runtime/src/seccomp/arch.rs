//! The system call interfaces that a filter can meet.

use super::SeccompError;

/// One system call interface. x86-64 and x32 share the kernel's architecture value and are told apart by a bit in the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Abi {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// 32-bit pointers on x86-64.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM.
    Arm,
}

impl Abi {
    /// The interface this program was built for; `None` where we have no table.
    pub const fn native() -> Option<Abi> {
        if cfg!(target_arch = "x86_64") {
            Some(Abi::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Abi::Aarch64)
        } else {
            None
        }
    }

    /// What is set in every number of this interface.
    pub(super) const fn marker(self) -> u32 {
        if matches!(self, Abi::X32) { 0x4000_0000 } else { 0 }
    }

    /// `AUDIT_ARCH_*` of `<linux/audit.h>`, the `arch` of `struct seccomp_data`.
    pub(super) const fn audit(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            Abi::X86 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
            Abi::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments are 64 bits wide. On x32 the registers are, but what the kernel takes from them mostly is not;
    /// libseccomp calls it 32 bits as well.
    pub(super) const fn wide(self) -> bool {
        matches!(self, Abi::X86_64 | Abi::Aarch64)
    }

    /// Interfaces that programs of the same machine may use beside it; Docker's `subArchitectures`.
    pub(super) const fn companions(self) -> &'static [Abi] {
        match self {
            Abi::X86_64 => &[Abi::X86_64, Abi::X86, Abi::X32],
            Abi::Aarch64 => &[Abi::Aarch64, Abi::Arm],
            Abi::X86 => &[Abi::X86],
            Abi::X32 => &[Abi::X32],
            Abi::Arm => &[Abi::Arm],
        }
    }

    /// The name in the conditions of Docker's profiles (Go's, mostly).
    pub(super) const fn docker_name(self) -> &'static str {
        match self {
            Abi::X86_64 => "amd64",
            Abi::X86 => "x86",
            Abi::X32 => "x32",
            Abi::Aarch64 => "arm64",
            Abi::Arm => "arm",
        }
    }
}

/// `SCMP_ARCH_*` names of machines that are not ours: accepted, and without effect here.
const FOREIGN: [&str; 18] = [
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

/// Ours.
const OURS: [(&str, Abi); 5] = [
    ("SCMP_ARCH_AARCH64", Abi::Aarch64),
    ("SCMP_ARCH_ARM", Abi::Arm),
    ("SCMP_ARCH_X32", Abi::X32),
    ("SCMP_ARCH_X86", Abi::X86),
    ("SCMP_ARCH_X86_64", Abi::X86_64),
];

/// All names of the runtime specification, sorted.
pub(super) fn names() -> Vec<&'static str> {
    let mut names = FOREIGN.to_vec();
    names.extend(OURS.map(|(name, _)| name));
    names.sort_unstable();
    names
}

/// From libseccomp's name. `Ok(None)`: an architecture that cannot occur here.
pub(super) fn from_scmp(name: &str, native: Abi) -> Result<Option<Abi>, SeccompError> {
    // Not in the specification, but in libseccomp, and in old profiles.
    if name == "SCMP_ARCH_NATIVE" {
        return Ok(Some(native));
    }
    if let Some((_, abi)) = OURS.iter().find(|(other, _)| *other == name) {
        return Ok(Some(*abi));
    }
    match FOREIGN.contains(&name) {
        true => Ok(None),
        false => Err(SeccompError::Invalid(format!("unknown architecture {name:?}").into())),
    }
}
