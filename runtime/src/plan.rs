//! What the shim is told: one flat, precomputed description of a container.
//!
//! Everything that can be decided beforehand was decided by the daemon (`runtime::spec`); what only the inside of the
//! container can tell (users, `$PATH`, what a symlink in the root means) is left to the child. The byte form has two
//! parts: a [`Head`] which the shim itself needs, and the rest which only the child decodes, in memory that goes away
//! with `exec`; so a shim's memory does not grow with the size of a plan.
//!
//! Flags are the kernel's own numbers (`MS_*`, `CLONE_NEW*`, `MOUNT_ATTR_*`, `RLIMIT_*`, capability bits), so that the
//! child translates nothing.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::wire::{Blob, Reader, Wire, WireError, put_bytes, wire_enum, wire_struct};

/// One run of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What the shim itself works with.
    pub head: Head,
    /// Where the root file system comes from.
    pub root: Root,
    /// Whether the root is remounted read-only at the end of the set-up.
    pub readonly_root: bool,
    /// Propagation (`MS_PRIVATE|MS_REC`, …) given to the container's root at the end; 0 leaves it private.
    pub root_propagation: u64,
    /// Mounts in the order in which they are made.
    pub mounts: Vec<Mount>,
    /// Device nodes, made after the mounts.
    pub devices: Vec<Device>,
    /// Symbolic links, made after the mounts (`/dev/fd`, `/dev/ptmx`, …); an existing link is left alone.
    pub symlinks: Vec<Symlink>,
    /// Paths hidden by an empty read-only directory or `/dev/null`; absent ones are skipped.
    pub masked_paths: Vec<PathBuf>,
    /// Paths made read-only, with everything below; absent ones are skipped.
    pub readonly_paths: Vec<PathBuf>,
    /// Host name; empty leaves that of the namespace.
    pub hostname: String,
    /// NIS domain name; empty leaves that of the namespace.
    pub domainname: String,
    /// Path below `/proc/sys` with slashes (`net/ipv4/ip_forward`) and the value to write.
    pub sysctls: Vec<(String, String)>,
    /// Process 1, or the only child of the built-in init.
    pub process: ProcessPlan,
    /// Whether a tiny built-in init is process 1: it reaps, forwards signals and exits with its child's code.
    pub init: bool,
}

wire_struct! {
    /// The part of a plan that the shim needs for itself.
    pub struct Head {
        /// The container's id: names the socket, and stands in messages.
        pub id: String,
        /// Where the exit record is written (temp file, fsync, rename).
        pub exit_file: PathBuf,
        /// Where the shim listens after the start. The folder exists and is the owner's alone.
        pub socket: PathBuf,
        /// Where output is logged.
        pub log: LogTarget,
        /// Namespaces of the container.
        pub namespaces: Namespaces,
        /// Control groups of the container.
        pub cgroup: CgroupPlan,
        /// Standard input of the process.
        pub stdin: Stdin,
        /// A terminal for the process, of this size; `None`: pipes.
        pub terminal: Option<ConsoleSize>,
    }
}

wire_struct! {
    /// Which namespaces the container does not share with the host.
    pub struct Namespaces {
        /// `CLONE_NEW*` flags of namespaces to make. Must hold `CLONE_NEWNS`.
        pub new: u64,
        /// Namespaces to join.
        pub joined: Vec<JoinedNamespace>,
    }
}

wire_struct! {
    /// An existing namespace that the container is put into.
    pub struct JoinedNamespace {
        /// Its kind as a `CLONE_NEW*` flag.
        pub kind: u64,
        /// Index into the descriptors sent with the plan (`StartFds::joined`).
        pub fd: u32,
    }
}

wire_enum! {
    /// Standard input of a process.
    pub enum Stdin {
        /// `/dev/null` (for a terminal: nothing is typed).
        0 => Null,
        /// Kept open for attached clients.
        1 => Pipe {
            /// Closed for good when the first client with input goes away or ends its input (Docker's `StdinOnce`).
            once: bool,
        },
    }
}

wire_struct! {
    /// Size of a terminal in character cells; 0 × 0 leaves the kernel's default.
    pub struct ConsoleSize {
        /// Height.
        pub rows: u16,
        /// Width.
        pub cols: u16,
    }
}

wire_enum! {
    /// Where the root file system comes from.
    pub enum Root {
        /// An overlay mounted inside the container's mount namespace.
        0 => Overlay {
            /// Read-only layers, top first.
            lower: Vec<PathBuf>,
            /// The writable layer.
            upper: PathBuf,
            /// Overlayfs' work folder, on the same file system as `upper`.
            work: PathBuf,
            /// Leaves out syncs of the upper layer (containers whose content is thrown away).
            volatile: bool,
        },
        /// A plain folder.
        1 => Dir { path: PathBuf },
    }
}

wire_struct! {
    /// One mount. A missing target is made: a folder, or an empty file when a file is bound.
    pub struct Mount {
        /// Absolute path inside the root; symlinks in it are resolved inside the root.
        pub target: PathBuf,
        /// What is mounted.
        pub source: MountSource,
        /// `MS_RDONLY|MS_NOSUID|MS_NODEV|MS_NOEXEC|MS_NOATIME|MS_RELATIME|MS_STRICTATIME|MS_NODIRATIME|MS_NOSYMFOLLOW`
        /// for this mount; of a bind exactly these are added to what the source has.
        pub flags: u64,
        /// `MS_*` flags as above that a bind takes away from what the source has (`rw`, `exec`, `suid`, …).
        pub clear: u64,
        /// `MOUNT_ATTR_*` set on the mount and everything below (`rro` = `MOUNT_ATTR_RDONLY`).
        pub recursive_set: u64,
        /// `MOUNT_ATTR_*` cleared on the mount and everything below.
        pub recursive_clear: u64,
        /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or `MS_UNBINDABLE`, with `MS_REC` for the `r…` forms; 0: private.
        pub propagation: u64,
        /// Skipped without an error when the kernel has no such file system or the bind's source is absent.
        pub optional: bool,
    }
}

wire_enum! {
    /// What a mount shows.
    pub enum MountSource {
        /// A new instance of a file system.
        0 => Fs {
            /// Kernel's name: `proc`, `tmpfs`, `devpts`, `mqueue`, `sysfs`, `cgroup`, `cgroup2`, …
            fstype: String,
            /// Source as shown in mountinfo (or the device).
            source: String,
            /// Comma-separated file system options (`mode=755,size=65536k`), without the generic flags.
            data: String,
            /// For `tmpfs`: copy into it what the root has at the target (Docker's `--tmpfs` does so).
            copy_up: bool,
        },
        /// A folder or file of the host.
        1 => Bind {
            /// Absolute path on the host.
            path: PathBuf,
            /// Whether mounts below come along (`rbind`).
            recursive: bool,
        },
        /// A folder of another container (`--ipc container:` shares `/dev/shm`).
        2 => BindFrom {
            /// Index of its mount namespace among the descriptors sent with the plan.
            namespace: u32,
            /// Absolute path there; no symlink in it is followed, since the other container is hostile.
            path: PathBuf,
        },
    }
}

wire_struct! {
    /// A device node inside the root; where `mknod` is refused, the host's node is bound instead.
    pub struct Device {
        /// Absolute path inside the root.
        pub path: PathBuf,
        /// Kind of node.
        pub kind: DeviceKind,
        /// Major number (0 for a FIFO).
        pub major: u32,
        /// Minor number (0 for a FIFO).
        pub minor: u32,
        /// Permission bits.
        pub mode: u32,
        /// Owner.
        pub uid: u32,
        /// Group.
        pub gid: u32,
    }
}

wire_enum! {
    /// Kind of a device node.
    pub enum DeviceKind { 0 => Char, 1 => Block, 2 => Fifo }
}

wire_struct! {
    /// A symbolic link inside the root.
    pub struct Symlink {
        /// Absolute path of the link inside the root.
        pub path: PathBuf,
        /// What it says.
        pub target: PathBuf,
    }
}

wire_struct! {
    /// A process of a container: its first one, or an exec.
    pub struct ProcessPlan {
        /// Arguments; the first is looked up in the process' `$PATH` when it has no slash.
        pub argv: Vec<OsString>,
        /// Environment, `NAME=value`. `HOME` is added from the container's passwd file when absent.
        pub env: Vec<OsString>,
        /// Working folder, made when absent.
        pub cwd: PathBuf,
        /// Who it runs as.
        pub user: User,
        /// File mode mask; `None`: 0022.
        pub umask: Option<u32>,
        /// Capability sets.
        pub caps: Caps,
        /// Whether no `exec` may gain privileges.
        pub no_new_privs: bool,
        /// `struct sock_filter` array in native order; empty: none.
        pub seccomp: Blob,
        /// `SECCOMP_FILTER_FLAG_*`.
        pub seccomp_flags: u32,
        /// Resource limits.
        pub rlimits: Vec<Rlimit>,
        /// `/proc/self/oom_score_adj`.
        pub oom_score_adj: Option<OomScoreAdj>,
    }
}

wire_enum! {
    /// Who a process runs as.
    pub enum User {
        /// By number; nothing is looked up but `HOME`.
        0 => Ids { uid: u32, gid: u32, groups: Vec<u32> },
        /// By Docker's notation, looked up by the child in the container's `/etc/passwd` and `/etc/group`.
        1 => Named {
            /// `user`, `user:group`, with names or numbers; empty is root.
            user: String,
            /// Names or numbers (`--group-add`).
            extra_groups: Vec<String>,
        },
    }
}

/// Capability sets, one bit per capability number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caps {
    /// What the process and its children can ever have.
    pub bounding: u64,
    /// In force.
    pub effective: u64,
    /// Allowed to be put in force.
    pub permitted: u64,
    /// Kept through `exec` of a file with inheritable capabilities.
    pub inheritable: u64,
    /// Kept through `exec` of ordinary files by a user other than root.
    pub ambient: u64,
}

impl Wire for Caps {
    fn put(&self, out: &mut Vec<u8>) {
        for set in [
            self.bounding,
            self.effective,
            self.permitted,
            self.inheritable,
            self.ambient,
        ] {
            set.put(out);
        }
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Caps {
            bounding: u64::get(from)?,
            effective: u64::get(from)?,
            permitted: u64::get(from)?,
            inheritable: u64::get(from)?,
            ambient: u64::get(from)?,
        })
    }
}

wire_struct! {
    /// A resource limit.
    pub struct Rlimit {
        /// `RLIMIT_*`.
        pub resource: u32,
        /// Limit in force; `u64::MAX` is unlimited.
        pub soft: u64,
        /// How far the process may raise it.
        pub hard: u64,
        /// The user asked for it: failing to set it fails the start. Otherwise the nearest possible value is taken.
        pub strict: bool,
    }
}

wire_struct! {
    /// How likely the kernel's OOM killer picks the process.
    pub struct OomScoreAdj {
        /// -1000 to 1000.
        pub value: i32,
        /// The user asked for it: failing to set it fails the start.
        pub strict: bool,
    }
}

wire_struct! {
    /// Control groups: what to make, write and join. Paths are absolute host paths.
    pub struct CgroupPlan {
        /// Shared parents, made when absent and never removed; outermost first.
        pub parents: Vec<PathBuf>,
        /// Writes to parents before the own folders are made (`cgroup.subtree_control`, cpuset inheritance).
        pub parent_writes: Vec<CgroupWrite>,
        /// The container's own folders (v2: one; v1: one per hierarchy); removed at the end, with what is below them.
        pub own: Vec<PathBuf>,
        /// Folders that the container does not start with and that an update of its limits may make: where they are, an
        /// exec joins them, and at the end they are removed.
        pub late: Vec<PathBuf>,
        /// Limits, written before the process joins.
        pub writes: Vec<CgroupWrite>,
        /// How processes join.
        pub join: CgroupJoin,
        /// v2: `struct bpf_insn` array of the device program, attached to the own folder; empty: none.
        pub devices: Blob,
        /// Where OOM kills are counted: v1 `memory.oom_control`, v2 `memory.events`.
        pub oom: Option<PathBuf>,
    }
}

impl CgroupPlan {
    /// No control group of its own: the container stays where the shim is.
    pub fn none() -> CgroupPlan {
        CgroupPlan {
            parents: Vec::new(),
            parent_writes: Vec::new(),
            own: Vec::new(),
            late: Vec::new(),
            writes: Vec::new(),
            join: CgroupJoin::None,
            devices: Blob::default(),
            oom: None,
        }
    }
}

wire_struct! {
    /// One write to a control file.
    pub struct CgroupWrite {
        /// Absolute path of the file.
        pub path: PathBuf,
        /// The whole value, written by one `write`.
        pub value: String,
        /// A default rather than the user's wish: an error is passed over.
        pub optional: bool,
    }
}

wire_enum! {
    /// How a process gets into the control groups.
    pub enum CgroupJoin {
        /// Not at all.
        0 => None,
        /// v2: cloned into this folder.
        1 => Into { dir: PathBuf },
        /// v1: the child writes `0` to each `tasks` file by itself (measured: 20-90 µs, against 11 ms for `cgroup.procs`).
        2 => Tasks { files: Vec<PathBuf> },
        /// Hybrid: both.
        3 => Both { dir: PathBuf, files: Vec<PathBuf> },
    }
}

wire_enum! {
    /// Where a container's output is kept.
    pub enum LogTarget {
        /// Nowhere.
        0 => None,
        /// Own binary records.
        1 => Local {
            /// The file written to; rotated ones get `.1`, `.2`, …
            path: PathBuf,
            /// Bytes after which the file is rotated; 0: never.
            max_size: u64,
            /// How many files are kept, the written one included.
            max_files: u32,
        },
        /// Docker's `json-file` format.
        2 => JsonFile {
            /// As above.
            path: PathBuf,
            /// As above.
            max_size: u64,
            /// As above.
            max_files: u32,
        },
    }
}

wire_struct! {
    /// A further process in a running container.
    pub struct ExecPlan {
        /// What runs.
        pub process: ProcessPlan,
        /// Its standard input; `once` does not matter, an exec has one client at most.
        pub stdin: Stdin,
        /// A terminal for it, of this size; `None`: pipes.
        pub terminal: Option<ConsoleSize>,
    }
}

impl Wire for Plan {
    fn put(&self, out: &mut Vec<u8>) {
        let mut head = Vec::new();
        self.head.put(&mut head);
        put_bytes(out, &head);
        self.root.put(out);
        self.readonly_root.put(out);
        self.root_propagation.put(out);
        self.mounts.put(out);
        self.devices.put(out);
        self.symlinks.put(out);
        self.masked_paths.put(out);
        self.readonly_paths.put(out);
        self.hostname.put(out);
        self.domainname.put(out);
        self.sysctls.put(out);
        self.process.put(out);
        self.init.put(out);
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Plan {
            head: Head::decode(from.bytes()?)?,
            root: Wire::get(from)?,
            readonly_root: Wire::get(from)?,
            root_propagation: Wire::get(from)?,
            mounts: Wire::get(from)?,
            devices: Wire::get(from)?,
            symlinks: Wire::get(from)?,
            masked_paths: Wire::get(from)?,
            readonly_paths: Wire::get(from)?,
            hostname: Wire::get(from)?,
            domainname: Wire::get(from)?,
            sysctls: Wire::get(from)?,
            process: Wire::get(from)?,
            init: Wire::get(from)?,
        })
    }
}

impl Head {
    /// Reads the head alone out of an encoded [`Plan`].
    ///
    /// # Errors
    /// [`WireError`] when the bytes do not begin with one.
    pub fn of_plan(plan: &[u8]) -> Result<Head, WireError> {
        Head::decode(Reader::new(plan).bytes()?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::proto::{Event, Request, VERSION};
    use proptest::prelude::*;

    fn path() -> impl Strategy<Value = PathBuf> {
        "/[a-z]{0,8}(/[^/\u{0}]{1,6}){0,3}".prop_map(PathBuf::from)
    }

    fn user() -> impl Strategy<Value = User> {
        prop_oneof![
            (any::<u32>(), any::<u32>(), any::<Vec<u32>>()).prop_map(|(uid, gid, groups)| User::Ids {
                uid,
                gid,
                groups
            }),
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
                oom,
            })
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
}
