//! The system call interfaces that a filter can meet.

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
const FOREIGN: [&str; 19] = [
    "MIPS",
    "MIPS64",
    "MIPS64N32",
    "MIPSEL",
    "MIPSEL64",
    "MIPSEL64N32",
    "PPC",
    "PPC64",
    "PPC64LE",
    "S390",
    "S390X",
    "PARISC",
    "PARISC64",
    "RISCV64",
    "LOONGARCH64",
    "M68K",
    "SH",
    "SHEB",
    "ARMEB",
];

/// From libseccomp's name. `Ok(None)`: an architecture that cannot occur here.
pub(super) fn from_scmp(name: &str, native: Abi) -> Result<Option<Abi>, ()> {
    Ok(Some(match name.strip_prefix("SCMP_ARCH_").ok_or(())? {
        "NATIVE" => native,
        "X86_64" => Abi::X86_64,
        "X86" => Abi::X86,
        "X32" => Abi::X32,
        "AARCH64" => Abi::Aarch64,
        "ARM" => Abi::Arm,
        foreign if FOREIGN.contains(&foreign) => return Ok(None),
        _ => return Err(()),
    }))
}
