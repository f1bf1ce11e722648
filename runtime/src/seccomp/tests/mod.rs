#![allow(clippy::unwrap_used)]

use super::profile::{Action, Argument, Compare, Condition, Interfaces, Profile, Rule};
use super::*;
use crate::capabilities;
use proptest::prelude::*;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;

/// `struct seccomp_data`, as far as a filter reads it.
#[derive(Clone, Copy, Debug, Default)]
struct Call {
    number: u32,
    arch: u32,
    args: [u64; 6],
}

/// Runs a program as the kernel does; also checks what the kernel checks before it takes one. Returns the answer and
/// how many instructions it took.
fn run(program: &[u8], call: &Call) -> (u32, usize) {
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

fn holds(argument: &Argument, call: &Call) -> bool {
    let actual = call.args[usize::from(argument.index)];
    match argument.compare {
        Compare::Ne => actual != argument.value,
        Compare::Lt => actual < argument.value,
        Compare::Le => actual <= argument.value,
        Compare::Eq => actual == argument.value,
        Compare::Ge => actual >= argument.value,
        Compare::Gt => actual > argument.value,
        Compare::MaskedEq(mask) => actual & mask == argument.value,
    }
}

/// The rules of the module's documentation, read one after the other.
fn naive(profile: &Profile, context: &Context, call: &Call) -> u32 {
    let abis = profile.interfaces_for(context.native);
    let mut abis: Vec<Abi> = abis.into_iter().filter(|abi| abi.audit() == call.arch).collect();
    abis.sort();
    if abis.is_empty() {
        return Action::KILL_THREAD.0;
    }
    // x32 numbers belong to x32 when the profile is for it, else they are just large ones.
    let abi = if call.number >= 0x4000_0000 && abis.contains(&Abi::X32) {
        Abi::X32
    } else {
        abis[0]
    };
    let mut highest = None;
    let mut answer = None;
    for rule in profile.rules_for(context) {
        let repeated = rule.arguments.iter().any(|argument| {
            rule.arguments
                .iter()
                .filter(|other| other.index == argument.index)
                .count()
                > 1
        });
        for name in &rule.names {
            let Some(number) = syscalls::number(name, abi) else {
                continue;
            };
            highest = highest.max(Some(number));
            if number == call.number && answer.is_none() {
                let matches = match repeated {
                    true => rule.arguments.iter().any(|argument| holds(argument, call)),
                    false => rule.arguments.iter().all(|argument| holds(argument, call)),
                };
                answer = matches.then_some(rule.action.0);
            }
        }
    }
    let newer = highest.is_none_or(|highest| call.number > highest) && !profile.default.lets_through();
    answer.unwrap_or(if newer { Action::errno(38).0 } else { profile.default.0 })
}

fn context(capabilities: u64) -> Context {
    Context {
        capabilities,
        kernel: (6, 18),
        native: Abi::X86_64,
    }
}

fn answer(filter: &Filter, name: &str, abi: Abi, args: [u64; 6]) -> u32 {
    let number = syscalls::number(name, abi).unwrap();
    run(
        &filter.program,
        &Call {
            number,
            arch: abi.audit(),
            args,
        },
    )
    .0
}

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

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

fn names() -> impl Strategy<Value = Vec<Cow<'static, str>>> {
    let name = prop::sample::select(vec![
        "read",
        "write",
        "open",
        "close",
        "stat",
        "mmap",
        "clone",
        "clone3",
        "socket",
        "socketcall",
        "personality",
        "execve",
        "mount",
        "futex",
        "ioctl",
        "prctl",
        "file_setattr",
        "ipc",
        "waitpid",
        "nonsense",
    ]);
    prop::collection::vec(name.prop_map(Cow::Borrowed), 0..6)
}

fn value() -> impl Strategy<Value = u64> {
    let edges = vec![
        0,
        1,
        2,
        0xffff_ffff,
        1 << 32,
        (1 << 32) + 1,
        u64::MAX,
        u64::MAX - 1,
        0x8000_0000,
        0x7e02_0000,
    ];
    prop_oneof![4 => prop::sample::select(edges), 1 => any::<u64>()]
}

fn argument() -> impl Strategy<Value = Argument> {
    let compare = prop_oneof![
        Just(Compare::Ne),
        Just(Compare::Lt),
        Just(Compare::Le),
        Just(Compare::Eq),
        Just(Compare::Ge),
        Just(Compare::Gt),
        value().prop_map(Compare::MaskedEq),
    ];
    (0u8..3, compare, value()).prop_map(|(index, compare, value)| Argument { index, compare, value })
}

fn action() -> impl Strategy<Value = Action> {
    prop::sample::select(vec![
        Action::ALLOW,
        Action::LOG,
        Action::KILL_PROCESS,
        Action::KILL_THREAD,
        Action::TRAP,
        Action::errno(1),
        Action::errno(38),
    ])
}

fn condition() -> impl Strategy<Value = Condition> {
    (
        prop::sample::select(vec![0, 0, 0, 1, 2, 3]),
        prop::option::weighted(0.1, Just((6, 0))),
    )
        .prop_map(|(capabilities, kernel)| Condition {
            capabilities,
            architectures: Vec::new(),
            kernel,
        })
}

fn profile() -> impl Strategy<Value = Profile> {
    let rule = (
        names(),
        action(),
        prop::collection::vec(argument(), 0..4),
        condition(),
        condition(),
    )
        .prop_map(|(names, action, arguments, includes, excludes)| Rule {
            names,
            action,
            arguments,
            includes,
            excludes,
        });
    let interfaces = prop_oneof![
        Just(Interfaces::All),
        Just(Interfaces::Listed(vec![])),
        Just(Interfaces::Listed(vec![Abi::X86, Abi::Arm])),
    ];
    (action(), interfaces, prop::collection::vec(rule, 0..12))
        .prop_map(|(default, interfaces, rules)| Profile::new(default, interfaces, 0, rules))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_tree_decides_as_the_rules(
        profile in profile(),
        capabilities in 0u64..4,
        args in prop::collection::vec(prop::array::uniform6(value()), 3),
    ) {
        let context = context(capabilities);
        let filter = profile.compile(&context).unwrap();
        for arch in [X86_64, I386, 0xc000_00b7] {
            for number in (0..475).chain(0x4000_0000..0x4000_0003).chain(0x4000_0200..0x4000_0230).chain([u32::MAX]) {
                for args in &args {
                    let call = Call { number, arch, args: *args };
                    prop_assert_eq!(run(&filter.program, &call).0, naive(&profile, &context, &call), "{:?}", call);
                }
            }
        }
    }

    #[test]
    fn garbage_is_refused_without_a_panic(text in "[\\[\\]{}\":,a-zA-Z_0-9]{0,80}") {
        let _ = Profile::from_json(text.as_bytes());
    }
}

#[test]
fn a_long_chain_of_conditions_still_jumps_right() {
    // Far more than 255 instructions between a decision and its answers.
    let rules: Vec<Rule> = (0..300)
        .map(|value| Rule {
            names: vec!["socket".into(), "ioctl".into()],
            action: if value % 2 == 0 { Action::ALLOW } else { Action::LOG },
            arguments: vec![Argument {
                index: 1,
                compare: Compare::Eq,
                value,
            }],
            includes: Condition::default(),
            excludes: Condition::default(),
        })
        .collect();
    let profile = Profile::new(Action::errno(1), Interfaces::All, 0, rules);
    let filter = profile.compile(&context(0)).unwrap();
    for value in 0..310 {
        for name in ["socket", "ioctl"] {
            let number = syscalls::number(name, Abi::X86_64).unwrap();
            let call = Call {
                number,
                arch: X86_64,
                args: [0, value, 0, 0, 0, 0],
            };
            assert_eq!(
                run(&filter.program, &call).0,
                naive(&profile, &context(0), &call),
                "{value}"
            );
        }
    }
    let many: Vec<Rule> = (0..2_000)
        .map(|value| Rule {
            arguments: vec![Argument {
                index: 0,
                compare: Compare::Eq,
                value,
            }],
            ..profile.rules[0].clone()
        })
        .collect();
    let many = Profile::new(Action::errno(1), Interfaces::All, 0, many);
    assert!(matches!(many.compile(&context(0)), Err(SeccompError::TooLong(_))));
}

#[test]
fn json_profiles_are_read() {
    let text = br#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                    {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": null}],
        "syscalls": [
            {"names": ["read", "brand_new_call"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "", "includes": {}, "excludes": {}},
            {"name": "mkdir", "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "args": null},
            {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"], "minKernel": "4.8"}},
            {"names": ["kill"], "action": "SCMP_ACT_LOG", "excludes": {"arches": ["amd64"]}},
            {"names": ["dup2"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 1, "value": 255, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]}
        ]}"#;
    let profile = Profile::from_json(text).unwrap();
    let filter = profile.compile(&context(1 << 18)).unwrap();
    assert_eq!(filter.ignored, ["brand_new_call"]);
    assert_eq!(filter.flags, 4);
    let ask = |name, args| answer(&filter, name, Abi::X86_64, args);
    assert_eq!(ask("read", [0; 6]), ALLOW);
    assert_eq!(ask("mkdir", [0; 6]), 0x0005_000d);
    assert_eq!(ask("chroot", [0; 6]), ALLOW);
    assert_eq!(ask("kill", [0; 6]), ENOSYS);
    assert_eq!(ask("dup2", [0, 0xf04, 0, 0, 0, 0]), ENOSYS);
    assert_eq!(ask("dup2", [0, 0x103, 0, 0, 0, 0]), ALLOW);
    assert_eq!(ask("dup2", [0, 0xff00_0003, 0, 0, 0, 0]), ALLOW);
    assert_eq!(answer(&filter, "read", Abi::X86, [0; 6]), ALLOW);
    for (bad, word) in [
        ("{}", "read"),
        (r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#, "SCMP_ACT_MAYBE"),
        (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "not supported"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x"], "archMap": [{"architecture": "SCMP_ARCH_X86"}]}"#,
            "either",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_Z80"]}"#,
            "Z80",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_X"]}"#,
            "FLAG_X",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000}"#,
            "70000",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"}]}"#,
            "either",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
            "argument 6",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_FLY"]}}]}"#,
            "CAP_FLY",
        ),
    ] {
        let error = Profile::from_json(bad.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(word), "{bad}: {error}");
    }
}

#[test]
fn oci_profiles_are_the_same() {
    let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "flags": [],
        "syscalls": [{"names": ["read", "clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 4, "op": "SCMP_CMP_LT"}]}]}"#;
    let oci: oci_spec::runtime::LinuxSeccomp = serde_json::from_str(text).unwrap();
    let profile = Profile::try_from(&oci).unwrap();
    assert_eq!(profile, Profile::from_json(text.as_bytes()).unwrap());
    assert_eq!(profile.compile(&context(0)).unwrap().flags, 0);
}

#[test]
fn the_cache_shares_what_is_the_same() {
    let cache = Cache::default();
    let first = cache.get(&Profile::docker(), capabilities::DEFAULT).unwrap();
    // CAP_CHOWN is in no condition of the profile.
    let second = cache.get(&Profile::docker(), capabilities::DEFAULT & !1).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let third = cache.get(&Profile::docker(), capabilities::ALL).unwrap();
    assert!(!Arc::ptr_eq(&first, &third));
}

/// A filter is a matter of the thread, so one of the test's own can have it.
#[test]
fn the_kernel_takes_and_obeys_the_default_filter() {
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let filter = Profile::docker()
        .compile(&Context::of_machine(capabilities::DEFAULT).unwrap())
        .unwrap();
    let outcome = std::thread::spawn(move || {
        runtime_sys::privilege::no_new_privileges().unwrap();
        let started = std::time::Instant::now();
        runtime_sys::privilege::load_seccomp(&filter.program, filter.flags).unwrap();
        println!("loading takes {:?}", started.elapsed());
        let vsock = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
        let local = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
        (unshare(CloneFlags::CLONE_NEWUTS), vsock.map(drop), local.map(drop))
    });
    use nix::errno::Errno::EPERM;
    assert_eq!(outcome.join().unwrap(), (Err(EPERM), Err(EPERM), Ok(())));
}
