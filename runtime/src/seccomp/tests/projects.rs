//! Profiles for programs that are to stay in the projects of their files.

use super::*;
use proptest::prelude::*;

const REFUSED: u32 = 0x0005_005f;
const COMMANDS: [u64; 3] = [0x4008_6602, 0x4004_6602, 0x401c_5820];
/// `FS_IOC_GETFLAGS`, `FS_IOC_FSGETXATTR` and `TIOCGWINSZ`.
const OTHERS: [u64; 3] = [0x8008_6601, 0x801c_581f, 0x5413];

fn compiled(profile: &Profile) -> Filter {
    profile
        .keeping_projects()
        .compile(&context(capabilities::DEFAULT))
        .unwrap()
}

fn ioctl(filter: &Filter, abi: Abi, command: u64) -> u32 {
    answer(filter, "ioctl", abi, [3, command, 0x7fff_0000_0000, 0, 0, 0])
}

fn json(text: &str) -> Profile {
    Profile::from_json(text.as_bytes()).unwrap()
}

#[test]
fn flags_of_files_are_not_set_and_all_else_is_as_it_was() {
    let filter = compiled(&Profile::docker());
    for abi in [Abi::X86_64, Abi::X86, Abi::X32] {
        for command in COMMANDS {
            assert_eq!(ioctl(&filter, abi, command), REFUSED, "{command:x}");
        }
        for command in OTHERS {
            assert_eq!(ioctl(&filter, abi, command), ALLOW, "{command:x}");
        }
    }
    // The kernel looks at the lower half alone.
    assert_eq!(
        ioctl(&filter, Abi::X86_64, 0xdead_beef_0000_0000 | COMMANDS[2]),
        REFUSED
    );
    let plain = Profile::docker().compile(&context(capabilities::DEFAULT)).unwrap();
    let ioctl = syscalls::number("ioctl", Abi::X86_64).unwrap();
    for number in (0..600).filter(|number| *number != ioctl) {
        for args in [[0; 6], [u64::MAX; 6], [COMMANDS[2]; 6]] {
            let arch = Abi::X86_64.audit();
            let [before, after] = [&plain, &filter].map(|filter| run(&filter.program, &Call { number, arch, args }).0);
            assert_eq!(before, after, "{number}");
        }
    }
}

#[test]
fn users_profiles_keep_them_too() {
    let everything = compiled(&json(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#));
    let listed = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 95, "syscalls":
        [{"names": ["ioctl", "read", "file_setattr"], "action": "SCMP_ACT_ALLOW"}]}"#;
    let listed = compiled(&json(listed));
    for (filter, refused) in [(&everything, REFUSED), (&listed, 0x0005_0019)] {
        for command in COMMANDS {
            assert_eq!(ioctl(filter, Abi::X86_64, command), refused);
        }
        assert_eq!(answer(filter, "file_setattr", Abi::X86_64, [0; 6]), refused);
        assert_eq!(answer(filter, "read", Abi::X86_64, [0; 6]), ALLOW);
        assert_eq!(ioctl(filter, Abi::X86_64, OTHERS[0]), ALLOW);
    }
}

proptest! {
    /// Of all numbers of an ioctl, these alone.
    #[test]
    fn no_other_command_is_refused(command in any::<u64>(), near in 0usize..3, bit in 0u32..32) {
        let filter = compiled(&Profile::docker());
        for command in [command, COMMANDS[near] ^ (1 << bit)] {
            let set = COMMANDS.contains(&(command & 0xffff_ffff));
            prop_assert_eq!(ioctl(&filter, Abi::X86_64, command), if set { REFUSED } else { ALLOW });
        }
    }
}
