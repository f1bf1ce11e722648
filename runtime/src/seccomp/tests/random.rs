//! Random profiles: the compiled tree answers as the model does.

use super::model::{Call, naive, run};
use super::*;
use proptest::prelude::*;

fn names() -> impl Strategy<Value = Vec<Cow<'static, str>>> {
    let name = prop::sample::select(vec![
        "read",
        "writev",
        "open",
        "close",
        "stat",
        "mmap",
        "clone",
        "clone3",
        "socket",
        "socketcall",
        "bind",
        "connect",
        "recv",
        "semop",
        "semget",
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
        (1 << 33) + 2,
        0xffff_ffff_8000_0000,
        0xffff_ffff_4000_0000,
        0x4000_0000,
        0xf_0001,
        41,
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

fn default_action() -> impl Strategy<Value = Action> {
    prop::sample::select(vec![
        Action::ALLOW,
        Action::LOG,
        Action::KILL_PROCESS,
        Action::KILL_THREAD,
        Action::TRAP,
        Action::errno(1),
        Action::errno(38),
        Action::trace(7),
    ])
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![6 => default_action(), 1 => Just(Action::NOTIFY)]
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
        Just(Interfaces::Listed(vec![Abi::X32])),
    ];
    (default_action(), interfaces, prop::collection::vec(rule, 0..12)).prop_map(|(default, interfaces, rules)| {
        let profile = Profile::new(default, interfaces, 0, rules);
        profile.listening_at(Some(listener())).unwrap()
    })
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
            for number in (0..475).chain(0x4000_0000..0x4000_0003).chain(0x4000_0200..0x4000_0230).chain([u32::MAX - 1, u32::MAX]) {
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
