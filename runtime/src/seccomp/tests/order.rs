//! Which of several rules answers, on which interface: what libseccomp 2.5.4 does with the same profile, unless said.

use super::*;

const ERRNO: u32 = 0x0005_0000;

fn compiled(text: &str) -> Filter {
    Profile::from_json(text.as_bytes())
        .unwrap()
        .compile(&context(0))
        .unwrap()
}

/// A profile with these rules, each a call, an error number (0: allowed) and conditions on arguments.
fn filter(default: &str, rules: &[(&str, u32, &[(u8, &str, u64, u64)])]) -> Filter {
    let rules: Vec<_> = rules
        .iter()
        .map(|(name, errno, arguments)| {
            let args: Vec<_> = arguments
                .iter()
                .map(|(index, op, value, two)| {
                    serde_json::json!({"index": index, "op": format!("SCMP_CMP_{op}"), "value": value, "valueTwo": two})
                })
                .collect();
            match errno {
                0 => serde_json::json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": args}),
                errno => {
                    serde_json::json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": args})
                }
            }
        })
        .collect();
    let architectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
    let profile = serde_json::json!({"defaultAction": default, "architectures": architectures, "syscalls": rules});
    compiled(&profile.to_string())
}

const ALLOW_ALL: &str = "SCMP_ACT_ALLOW";
const DENY_ALL: &str = "SCMP_ACT_ERRNO";

fn first(value: u64) -> [u64; 6] {
    [value, 0, 0, 0, 0, 0]
}

#[test]
fn a_rule_without_conditions_wins_wherever_it_stands() {
    let with = ("socket", 5, &[(0, "EQ", 3, 0)][..]);
    let without = ("socket", 6, &[][..]);
    for rules in [[with, without], [without, with]] {
        let filter = filter(ALLOW_ALL, &rules);
        assert_eq!(answer(&filter, "socket", Abi::X86_64, first(3)), ERRNO | 6);
    }
    let filter = filter(ALLOW_ALL, &[("socket", 6, &[]), ("socket", 5, &[])]);
    assert_eq!(answer(&filter, "socket", Abi::X86_64, first(0)), ERRNO | 6);
}

#[test]
fn rules_with_the_default_action_say_nothing() {
    let filter = filter(ALLOW_ALL, &[("socket", 0, &[(0, "EQ", 3, 0)]), ("socket", 5, &[])]);
    assert_eq!(answer(&filter, "socket", Abi::X86_64, first(3)), ERRNO | 5);
    // Without one the call is still known to the profile, so that it is not taken for a newer one.
    let quiet = self::filter(DENY_ALL, &[("socket", 1, &[]), ("read", 0, &[])]);
    assert_eq!(answer(&quiet, "socket", Abi::X86_64, first(3)), EPERM);
    assert_eq!(answer(&quiet, "bind", Abi::X86_64, first(3)), ENOSYS);
}

#[test]
fn the_more_exact_of_two_conditions_wins() {
    let exact = ("ioctl", 2, &[(1, "EQ", 5, 0)][..]);
    let range = ("ioctl", 3, &[(1, "GT", 3, 0)][..]);
    let other = ("ioctl", 4, &[(2, "EQ", 7, 0)][..]);
    for rules in [[exact, range, other], [other, range, exact]] {
        let filter = filter(ALLOW_ALL, &rules);
        let ask = |second, third| answer(&filter, "ioctl", Abi::X86_64, [0, second, third, 0, 0, 0]);
        assert_eq!(ask(5, 0), ERRNO | 2);
        assert_eq!(ask(6, 0), ERRNO | 3);
        assert_eq!(ask(5, 7), ERRNO | 4);
        assert_eq!(ask(1, 1), ALLOW);
    }
}

#[test]
fn one_argument_twice_is_either() {
    let filter = filter(DENY_ALL, &[("personality", 0, &[(0, "EQ", 0, 0), (0, "EQ", 8, 0)])]);
    for (value, expected) in [(0, ALLOW), (8, ALLOW), (4, EPERM)] {
        assert_eq!(answer(&filter, "personality", Abi::X86_64, first(value)), expected);
    }
}

#[test]
fn masks_cover_both_sides() {
    let filter = filter(DENY_ALL, &[("personality", 0, &[(0, "MASKED_EQ", 0xf0, 0xff)])]);
    for (value, expected) in [(0xf0, ALLOW), (0x1ff, ALLOW), (0x7f, EPERM)] {
        assert_eq!(answer(&filter, "personality", Abi::X86_64, first(value)), expected);
    }
}

#[test]
fn on_32_bits_a_negative_value_is_its_short_form() {
    let minus = u64::MAX;
    let filter = filter(
        DENY_ALL,
        &[
            ("close", 0, &[(0, "EQ", minus, 0)]),
            ("dup", 0, &[(0, "LT", 1 << 32, 0)]),
        ],
    );
    assert_eq!(answer(&filter, "close", Abi::X86_64, first(minus)), ALLOW);
    assert_eq!(answer(&filter, "close", Abi::X86_64, first(0xffff_ffff)), EPERM);
    assert_eq!(answer(&filter, "close", Abi::X86, first(0xffff_ffff)), ALLOW);
    assert_eq!(answer(&filter, "close", Abi::X86, first(0xffff_fffe)), EPERM);
    for (op, value, two, argument, expected) in [
        ("EQ", 0xffff_ffff_8000_0000, 0, 0x8000_0000, ALLOW),
        ("EQ", 0xffff_ffff_4000_0000, 0, 0x4000_0000, EPERM),
        ("NE", 0xffff_ffff_4000_0000, 0, 0x4000_0000, ALLOW),
        ("MASKED_EQ", minus, 0xffff_ffff_8000_0000, 0x8000_0000, ALLOW),
        ("MASKED_EQ", minus, 0xffff_ffff_4000_0000, 0x4000_0000, EPERM),
        ("MASKED_EQ", minus, 0x1_8000_0000, 0x8000_0000, EPERM),
        ("MASKED_EQ", 1 << 33, 0, 5, ALLOW),
    ] {
        let filter = self::filter(DENY_ALL, &[("close", 0, &[(0, op, value, two)])]);
        assert_eq!(
            answer(&filter, "close", Abi::X86, first(argument)),
            expected,
            "{op} {value:x} {two:x}"
        );
    }
    // x32 has wide registers; the kernel takes the lower half of them.
    assert_eq!(answer(&filter, "close", Abi::X32, first(0x7_ffff_ffff)), ALLOW);
    // No argument gets there. (libseccomp cuts this to «less than 0».)
    assert_eq!(answer(&filter, "dup", Abi::X86, first(0xffff_ffff)), ALLOW);
    assert_eq!(answer(&filter, "dup", Abi::X86_64, first(1 << 32)), EPERM);
}

#[test]
fn calls_behind_a_multiplexer_obey() {
    let deny = filter(
        ALLOW_ALL,
        &[
            ("connect", 13, &[]),
            ("socket", 97, &[(0, "EQ", 38, 0)]),
            ("shmget", 12, &[]),
        ],
    );
    let ask = |name, args| answer(&deny, name, Abi::X86, args);
    assert_eq!(ask("socketcall", first(3)), ERRNO | 13);
    assert_eq!(ask("connect", first(3)), ERRNO | 13);
    assert_eq!(ask("socketcall", first(2)), ALLOW);
    // Which family, a filter cannot see: the stricter answer.
    assert_eq!(ask("socketcall", first(1)), ERRNO | 97);
    assert_eq!(ask("socket", first(2)), ALLOW);
    assert_eq!(ask("ipc", first(23)), ERRNO | 12);
    assert_eq!(ask("ipc", first(0x1_0017)), ERRNO | 12);
    assert_eq!(ask("ipc", first(22)), ALLOW);
    // libseccomp would allow every family here.
    let allow = filter(DENY_ALL, &[("socket", 0, &[(0, "EQ", 1, 0)]), ("bind", 0, &[])]);
    assert_eq!(answer(&allow, "socketcall", Abi::X86, first(1)), EPERM);
    assert_eq!(answer(&allow, "socketcall", Abi::X86, first(2)), ALLOW);
    assert_eq!(answer(&allow, "socket", Abi::X86, first(1)), ALLOW);
    // A word about the multiplexer itself is the last.
    let open = filter(ALLOW_ALL, &[("connect", 13, &[]), ("socketcall", 5, &[])]);
    assert_eq!(answer(&open, "socketcall", Abi::X86, first(2)), ERRNO | 5);
    // arm's EABI and the 64-bit interfaces have none.
    assert_eq!(syscalls::number("socketcall", Abi::Arm), None);
}

#[test]
fn x32_is_not_a_way_around_a_64_bit_profile() {
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let filter = compiled(text);
    assert_eq!(answer(&filter, "mount", Abi::X86_64, [0; 6]), EPERM);
    assert_eq!(answer(&filter, "mount", Abi::X32, [0; 6]), Action::KILL_THREAD.0);
    assert_eq!(answer(&filter, "read", Abi::X32, [0; 6]), Action::KILL_THREAD.0);
    // A tracer has a call skipped.
    let skipped = Call {
        number: u32::MAX,
        arch: X86_64,
        args: [0; 6],
    };
    assert_eq!(run(&filter.program, &skipped).0, ALLOW);
}

#[test]
fn a_profile_without_rules_is_its_default() {
    let filter = compiled(r#"{"defaultAction": "SCMP_ACT_KILL_PROCESS"}"#);
    assert_eq!(answer(&filter, "read", Abi::X86_64, [0; 6]), Action::KILL_PROCESS.0);
}

#[test]
fn notifications_need_a_listener_and_leave_the_handing_over_alone() {
    let profile = |more: &str, name: &str| {
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", {more}
                "syscalls": [{{"names": ["{name}"], "action": "SCMP_ACT_NOTIFY"}}]}}"#
        );
        Profile::from_json(text.as_bytes()).and_then(|profile| profile.compile(&context(0)))
    };
    let path = r#""listenerPath": "/run/agent.sock","#;
    let told = profile(&format!(r#"{path} "listenerMetadata": "x=y","#), "mkdir").unwrap();
    let listener = Listener {
        metadata: Some("x=y".into()),
        ..listener()
    };
    assert_eq!(told.listener, Some(listener));
    assert_eq!(answer(&told, "mkdir", Abi::X86_64, [0; 6]), 0x7fc0_0000);
    assert!(told.notifies() && told.flags == 4);
    let killable = r#""flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_TSYNC"],"#;
    assert_eq!(profile(&format!("{path}{killable}"), "mkdir").unwrap().flags, 0x21);
    // Without such a call the path means nothing, says the specification.
    assert!(!profile(path, "no_such_call").unwrap().notifies());
    for (more, name, words) in [
        ("", "mkdir", "listenerPath"),
        (r#""listenerMetadata": "x","#, "read", "listenerMetadata needs"),
        (path, "write", "call write"),
        (path, "sendmsg", "call sendmsg"),
        (killable, "no_such_call", "WAIT_KILLABLE_RECV"),
    ] {
        let error = profile(more, name).unwrap_err().to_string();
        assert!(error.contains(words), "{more} {name}: {error}");
    }
}
