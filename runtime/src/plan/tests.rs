#![allow(clippy::unwrap_used)]

use std::ffi::OsString;

use super::*;
use crate::proto::{Event, Place, Request, Streams, VERSION};
use proptest::prelude::*;

fn path() -> impl Strategy<Value = PathBuf> {
    "/[a-z]{0,8}(/[^/\u{0}]{1,6}){0,3}".prop_map(PathBuf::from)
}

fn user() -> impl Strategy<Value = User> {
    prop_oneof![
        (any::<u32>(), any::<u32>(), any::<Vec<u32>>()).prop_map(|(uid, gid, groups)| User::Ids { uid, gid, groups }),
        (".{0,12}", prop::collection::vec(".{0,6}", 0..3))
            .prop_map(|(user, extra_groups)| User::Named { user, extra_groups }),
    ]
}

fn process() -> impl Strategy<Value = ProcessPlan> {
    let texts = || prop::collection::vec(".{0,20}".prop_map(OsString::from), 0..5);
    (
        texts(),
        texts(),
        path(),
        user(),
        any::<[u64; 5]>(),
        any::<Vec<u8>>(),
        any::<Option<u32>>(),
        any::<bool>(),
    )
        .prop_map(|(argv, env, cwd, user, caps, seccomp, umask, flag)| ProcessPlan {
            argv,
            env,
            cwd,
            user,
            umask,
            caps: Caps {
                bounding: caps[0],
                effective: caps[1],
                permitted: caps[2],
                inheritable: caps[3],
                ambient: caps[4],
            },
            no_new_privs: flag,
            seccomp: seccomp.into(),
            seccomp_flags: caps[0] as u32,
            rlimits: vec![Rlimit {
                resource: 7,
                soft: caps[1],
                hard: caps[2],
                strict: flag,
            }],
            oom_score_adj: umask.map(|value| OomScoreAdj {
                value: value as i32,
                strict: flag,
            }),
            tuning: Tuning {
                scheduler: flag.then(Scheduler::default),
                io_priority: umask,
                affinity: Some(Affinity {
                    initial: vec![1, 2],
                    last: vec![caps[1] as u32],
                }),
                personality: flag.then_some(8),
                memory_policy: flag.then(|| MemoryPolicy {
                    mode: 2,
                    nodes: vec![0, 3],
                }),
            },
            labels: Labels {
                apparmor: "a".into(),
                selinux: "s".into(),
            },
            listener: flag.then(|| Listener {
                path: "/agent".into(),
                metadata: "m".into(),
                state: HookState::default(),
            }),
            keep_keyring: flag,
            document: "{".into(),
        })
}

fn mount() -> impl Strategy<Value = Mount> {
    let source = prop_oneof![
        (".{0,8}", ".{0,8}", ".{0,30}", any::<bool>()).prop_map(|(fstype, source, data, copy_up)| {
            MountSource::Fs {
                fstype,
                source,
                data,
                copy_up,
            }
        }),
        (path(), any::<bool>()).prop_map(|(path, recursive)| MountSource::Bind { path, recursive }),
        ".{0,9}".prop_map(|data| MountSource::Remount { data }),
    ];
    (path(), source, any::<[u64; 5]>(), any::<bool>()).prop_map(|(target, source, flags, optional)| Mount {
        target,
        source,
        flags: flags[0],
        clear: flags[1],
        recursive_set: flags[2],
        recursive_clear: flags[3],
        propagation: flags[4],
        optional,
        id_map: optional.then_some(MountIdMap {
            map: flags[0] as u32,
            recursive: flags[1] & 1 == 0,
        }),
    })
}

fn cgroup() -> impl Strategy<Value = CgroupPlan> {
    let paths = || prop::collection::vec(path(), 0..4);
    let join = prop_oneof![
        Just(CgroupJoin::None),
        path().prop_map(|dir| CgroupJoin::Into { dir }),
        prop::collection::vec(path(), 0..4).prop_map(|files| CgroupJoin::Tasks { files }),
        (path(), prop::collection::vec(path(), 0..4)).prop_map(|(dir, files)| CgroupJoin::Both { dir, files }),
    ];
    (
        paths(),
        paths(),
        paths(),
        join,
        any::<Vec<u8>>(),
        prop::option::of(path()),
    )
        .prop_map(|(parents, own, late, join, devices, oom)| CgroupPlan {
            late,
            parents,
            parent_writes: Vec::new(),
            writes: own
                .iter()
                .map(|path| CgroupWrite {
                    path: path.clone(),
                    value: "1".into(),
                    optional: true,
                })
                .collect(),
            own,
            join,
            devices: devices.into(),
            systemd: None,
            oom,
        })
}

fn map(number: u64) -> IdMap {
    let range = |outside| IdRange {
        inside: 0,
        outside,
        count: number as u32,
    };
    IdMap {
        users: vec![range(number as u32)],
        groups: vec![range(1), range(2)],
    }
}

fn hook(number: u64) -> Hook {
    Hook {
        path: "/hook".into(),
        args: vec!["hook".into(), number.to_string().into()],
        env: vec!["A=1".into()],
        timeout: number,
    }
}

fn plan() -> impl Strategy<Value = Plan> {
    let rest = (
        prop::collection::vec(path(), 0..3),
        ".{0,9}",
        any::<bool>(),
        any::<u64>(),
    );
    (process(), prop::collection::vec(mount(), 0..4), cgroup(), rest).prop_map(
        |(process, mounts, cgroup, (paths, text, flag, number))| Plan {
            head: Head {
                id: text.clone(),
                exit_file: "/e".into(),
                socket: "/s".into(),
                log: if flag {
                    LogTarget::None
                } else {
                    LogTarget::JsonFile {
                        path: "/l".into(),
                        max_size: number,
                        max_files: 3,
                        attrs: b"\"attrs\":{},".to_vec().into(),
                    }
                },
                namespaces: Namespaces {
                    new: number,
                    joined: vec![JoinedNamespace { kind: number, fd: 3 }],
                },
                cgroup,
                stdin: if flag { Stdin::Null } else { Stdin::Pipe { once: true } },
                terminal: flag.then_some(ConsoleSize {
                    rows: number as u16,
                    cols: 2,
                }),
                foreign: flag.then(|| Foreign {
                    name: text.clone(),
                    program: "/p".into(),
                    args: vec!["--debug".into()],
                    bundle: "/b".into(),
                }),
                users: flag.then(|| map(number)),
                id_maps: vec![map(!number)],
                time_offsets: vec![TimeOffset {
                    clock: 7,
                    seconds: number as i64,
                    nanos: 1,
                }],
                net_devices: vec![NetDevice {
                    name: text.clone(),
                    new_name: text.clone(),
                }],
                rdt: flag.then(|| Rdt {
                    folder: "/r".into(),
                    schemata: vec![text.clone()],
                    owned: flag,
                    monitoring: !flag,
                }),
                hooks: RuntimeHooks {
                    prestart: vec![hook(5)],
                    create_runtime: vec![hook(number)],
                    poststart: Vec::new(),
                    poststop: vec![hook(3), hook(4)],
                    state: HookState { begin: text.clone() },
                },
            },
            root: if flag {
                Root::Dir { path: "/r".into() }
            } else {
                Root::Overlay {
                    lower: paths.clone(),
                    upper: "/u".into(),
                    work: "/w".into(),
                    volatile: true,
                }
            },
            readonly_root: flag,
            root_propagation: number,
            mounts,
            devices: vec![Device {
                path: "/dev/x".into(),
                kind: DeviceKind::Fifo,
                major: 0,
                minor: number as u32,
                mode: 0o600,
                uid: 1,
                gid: 2,
            }],
            symlinks: vec![Symlink {
                path: "/a".into(),
                target: "b".into(),
            }],
            masked_paths: paths.clone(),
            readonly_paths: paths,
            hostname: text.clone(),
            domainname: text.clone(),
            sysctls: vec![(text.clone(), text)],
            process,
            init: flag,
            root_id_map: flag.then_some(number as u32),
            mount_label: "label".into(),
            create_container: vec![hook(1)],
            start_container: vec![hook(2)],
            hook_root: "/b/rootfs".into(),
            no_pivot: flag,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_plan_is_read_as_it_was_written(plan in plan()) {
        let bytes = plan.encode();
        prop_assert_eq!(&Plan::decode(&bytes).unwrap(), &plan);
        prop_assert_eq!(Head::of_plan(&bytes).unwrap(), plan.head);
    }

    #[test]
    fn a_plan_that_is_cut_or_longer_is_refused(plan in plan(), at in any::<prop::sample::Index>()) {
        let mut bytes = plan.encode();
        prop_assert!(Plan::decode(&bytes[..at.index(bytes.len())]).is_err());
        bytes.push(0);
        prop_assert_eq!(Plan::decode(&bytes), Err(WireError::Trailing));
    }

    #[test]
    fn a_damaged_plan_never_panics(plan in plan(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let mut bytes = plan.encode();
        let at = at.index(bytes.len());
        bytes[at] = with;
        let _ = Plan::decode(&bytes);
        let _ = Head::of_plan(&bytes);
    }

    #[test]
    fn messages_are_read_as_they_were_written_and_damage_never_panics(
        process in process(),
        numbers in any::<[u32; 3]>(),
        flag in any::<bool>(),
        path in path(),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
    ) {
        let streams = Streams { stdin: flag, stdout: true, stderr: !flag };
        let place = Box::new(Place {
            pid: numbers[0] as i32,
            namespaces: u64::from(numbers[1]) << 8,
            cgroup: CgroupPlan { own: vec![path.clone()], join: CgroupJoin::Into { dir: path }, ..CgroupPlan::none() },
        });
        let plan = ExecPlan { process, stdin: Stdin::Pipe { once: flag }, terminal: None };
        let requests = [
            Request::Exec { tag: numbers[2], plan: flag.then(|| Box::new(plan.clone())), attach: None },
            Request::ExecIn {
                version: VERSION,
                plan: flag.then(|| Box::new(plan)),
                attach: Some(streams),
                place: place.clone(),
            },
            Request::Signal { tag: numbers[0], process: numbers[1], signal: numbers[2] as i32 },
            Request::Enter { tag: numbers[1] },
        ];
        for request in requests {
            let mut bytes = request.encode();
            prop_assert_eq!(&Request::decode(&bytes).unwrap(), &request);
            let at = at.index(bytes.len());
            prop_assert!(Request::decode(&bytes[..at]).is_err());
            bytes[at] = with;
            let _ = Request::decode(&bytes);
        }
        let event = Event::Place { tag: numbers[2], place };
        let mut bytes = event.encode();
        prop_assert_eq!(&Event::decode(&bytes).unwrap(), &event);
        let at = at.index(bytes.len());
        bytes[at] = with;
        let _ = Event::decode(&bytes);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in any::<Vec<u8>>()) {
        let _ = (Plan::decode(&bytes), ExecPlan::decode(&bytes), Request::decode(&bytes), Event::decode(&bytes));
    }
}

#[test]
fn a_huge_count_costs_no_memory() {
    // A list that says it has 4 billion entries of a type without bytes of its own would be another matter: there
    // is none.
    let bytes = [&[3u8][..], &u32::MAX.to_le_bytes(), &[0; 64]].concat();
    assert_eq!(Vec::<u8>::decode(&bytes[1..]), Err(WireError::Short));
    assert!(
        Request::decode(
            &Request::Start {
                version: VERSION,
                plan: None,
                joined: 0,
                attach: Vec::new()
            }
            .encode()
        )
        .is_ok()
    );
}
