//! Docker's profile.

use super::model::{Call, naive, run};
use super::*;
use crate::capabilities;

#[test]
fn the_default_profile_is_dockers() {
    let filter = Profile::docker().compile(&context(capabilities::DEFAULT)).unwrap();
    let ask = |name, args| answer(&filter, name, Abi::X86_64, args);
    let first = |value| [value, 0, 0, 0, 0, 0];
    for name in [
        "read",
        "execve",
        "openat",
        "ptrace",
        "chroot",
        "arch_prctl",
        "modify_ldt",
        "removexattrat",
        "mseal",
    ] {
        assert_eq!(ask(name, [0; 6]), ALLOW, "{name}");
    }
    for name in [
        "mount",
        "bpf",
        "unshare",
        "setns",
        "keyctl",
        "io_uring_setup",
        "userfaultfd",
        "reboot",
        "pivot_root",
    ] {
        assert_eq!(ask(name, [0; 6]), EPERM, "{name}");
    }
    assert_eq!(ask("clone3", [0; 6]), ENOSYS);
    assert_eq!(ask("clone", first(0x0120_0011)), ALLOW);
    for flag in [
        0x0002_0000,
        0x0200_0000,
        0x0400_0000,
        0x0800_0000,
        0x1000_0000,
        0x2000_0000,
        0x4000_0000,
    ] {
        assert_eq!(ask("clone", first(flag | 17)), EPERM, "{flag:#x}");
    }
    for (family, expected) in [
        (1, ALLOW),
        (2, ALLOW),
        (16, ALLOW),
        (38, EPERM),
        (39, ALLOW),
        (40, EPERM),
        (41, ALLOW),
    ] {
        assert_eq!(ask("socket", first(family)), expected, "{family}");
    }
    assert_eq!(ask("personality", first(0xffff_ffff)), ALLOW);
    assert_eq!(ask("personality", first(0x40_0000)), EPERM);
    assert_eq!(ask("personality", first(1 << 32)), EPERM);
    // Calls that the profile does not know yet.
    let new = |number, arch| {
        run(
            &filter.program,
            &Call {
                number,
                arch,
                args: [0; 6],
            },
        )
        .0
    };
    assert_eq!(new(468, X86_64), ENOSYS);
    assert_eq!(new(9_999, X86_64), ENOSYS);
    assert_eq!(new(u32::MAX, X86_64), ENOSYS);
    assert_eq!(new(0x4000_0000 - 1, X86_64), ENOSYS);
    assert_eq!(new(470, I386), ENOSYS);
    // 32-bit ones.
    assert_eq!(answer(&filter, "socketcall", Abi::X86, [0; 6]), ALLOW);
    assert_eq!(answer(&filter, "mount", Abi::X86, [0; 6]), EPERM);
    assert_eq!(answer(&filter, "execve", Abi::X32, [0; 6]), ALLOW);
    // Another machine's.
    assert_eq!(new(0, 0xc000_00b7), Action::KILL_THREAD.0);
}

#[test]
fn capabilities_open_their_calls() {
    let admin = Profile::docker()
        .compile(&context(capabilities::DEFAULT | 1 << 21))
        .unwrap();
    for name in ["mount", "unshare", "setns", "bpf", "clone3", "clone"] {
        assert_eq!(answer(&admin, name, Abi::X86_64, [u64::MAX; 6]), ALLOW, "{name}");
    }
    let none = Profile::docker().compile(&context(0)).unwrap();
    assert_eq!(answer(&none, "chroot", Abi::X86_64, [0; 6]), EPERM);
    let old = Context {
        kernel: (4, 7),
        ..context(capabilities::DEFAULT)
    };
    let old = Profile::docker().compile(&old).unwrap();
    assert_eq!(answer(&old, "ptrace", Abi::X86_64, [0; 6]), EPERM);
    let arm = Context {
        native: Abi::Aarch64,
        ..context(capabilities::DEFAULT)
    };
    let arm = Profile::docker().compile(&arm).unwrap();
    assert_eq!(answer(&arm, "openat", Abi::Aarch64, [0; 6]), ALLOW);
    assert_eq!(answer(&arm, "cacheflush", Abi::Arm, [0; 6]), ALLOW);
    assert_eq!(answer(&arm, "mount", Abi::Arm, [0; 6]), EPERM);
}

#[test]
fn the_default_program_is_small_and_shallow() {
    let filter = Profile::docker().compile(&context(capabilities::DEFAULT)).unwrap();
    let mut deepest = 0;
    for arch in [X86_64, I386] {
        for number in (0..600).chain(0x4000_0000..0x4000_0400) {
            let call = Call {
                number,
                arch,
                args: [0; 6],
            };
            let (answer, steps) = run(&filter.program, &call);
            assert_eq!(
                answer,
                naive(&Profile::docker(), &context(capabilities::DEFAULT), &call),
                "{call:?}"
            );
            deepest = deepest.max(steps);
        }
    }
    let size = filter.program.len() / 8;
    println!("{size} instructions, at most {deepest} steps");
    assert!(size < 600 && deepest < 32, "{size} {deepest}");
}
