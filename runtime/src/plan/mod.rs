//! What the shim is told: one flat, precomputed description of a container.
//!
//! Everything that can be decided beforehand was decided by the daemon (`runtime::spec`); what only the inside of the
//! container can tell (users, `$PATH`, what a symlink in the root means) is left to the child. The byte form has two
//! parts: a [`Head`] which the shim itself needs, and the rest which only the child decodes, in memory that goes away
//! with `exec`; so a shim's memory does not grow with the size of a plan.
//!
//! Flags are the kernel's own numbers (`MS_*`, `CLONE_NEW*`, `MOUNT_ATTR_*`, `RLIMIT_*`, capability bits), so that the
//! child translates nothing.

use std::path::PathBuf;

mod cgroup;
mod foreign;
mod outside;
mod process;

#[cfg(test)]
mod tests;

pub use cgroup::{CgroupJoin, CgroupPlan, CgroupWrite};
pub use foreign::{Foreign, finish_document};
pub use outside::{Hook, HookState, IdMap, IdRange, NetDevice, Rdt, RuntimeHooks, TimeOffset, lines};
pub use process::{
    Affinity, Caps, Labels, Listener, MemoryPolicy, OomScoreAdj, ProcessPlan, Rlimit, Scheduler, Tuning, User,
};

use crate::wire::{Blob, Reader, Wire, WireError, put_bytes, wire_enum, wire_struct};

/// One run of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What the shim itself works with.
    pub head: Head,
    /// Where the root file system comes from.
    pub root: Root,
    /// Index into [`Head::id_maps`]: the root's files belong to other users than on disk.
    pub root_id_map: Option<u32>,
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
    /// SELinux label of the files of new file systems; empty: none.
    pub mount_label: String,
    /// Run inside the container's namespaces before its root becomes the process' root; paths are the host's.
    pub create_container: Vec<Hook>,
    /// Run in the container right before its program; paths are the container's.
    pub start_container: Vec<Hook>,
    /// A folder of the host over which the root is mounted, in the container's mount namespace alone, until it becomes the
    /// process' root: where hooks find it. Empty: nobody looks for it by a path.
    pub hook_root: PathBuf,
    /// The root is moved over the host's instead of `pivot_root`, which a root on the kernel's first file system (an
    /// initramfs) needs. Weaker: the host's tree stays below.
    pub no_pivot: bool,
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
        /// Who is who in a new user namespace; absent when there is none, or an existing one is joined.
        pub users: Option<IdMap>,
        /// Further maps, for mounts whose files shall belong to other users than on disk.
        pub id_maps: Vec<IdMap>,
        /// Clocks of a new time namespace.
        pub time_offsets: Vec<TimeOffset>,
        /// Interfaces of the host's network namespace that become the container's.
        pub net_devices: Vec<NetDevice>,
        /// Cache and memory bandwidth classes.
        pub rdt: Option<Rdt>,
        /// Programs that are run outside of the container.
        pub hooks: RuntimeHooks,
        /// Control groups of the container.
        pub cgroup: CgroupPlan,
        /// Standard input of the process.
        pub stdin: Stdin,
        /// A terminal for the process, of this size; `None`: pipes.
        pub terminal: Option<ConsoleSize>,
        /// Who makes the container, if the shim does not.
        pub foreign: Option<Foreign>,
    }
}

wire_struct! {
    /// Which namespaces the container does not share with the host.
    pub struct Namespaces {
        /// `CLONE_NEW*` flags of namespaces to make. Without `CLONE_NEWNS` the mounts are made in a tree that is
        /// attached nowhere, in which the process is rooted (Linux 6.15): the namespace that it shares does not see them.
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
        /// Files belong to other users than on disk.
        pub id_map: Option<MountIdMap>,
    }
}

wire_struct! {
    /// Whose files a mount shows.
    pub struct MountIdMap {
        /// Index into [`Head::id_maps`].
        pub map: u32,
        /// Mounts below as well (`ridmap`).
        pub recursive: bool,
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
        /// Nothing new: what an earlier mount or the root has at the target gets the flags (`remount`).
        3 => Remount {
            /// Options of the file system to change; empty changes the mount alone.
            data: String,
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
            /// What stands in each line between stream and time: nothing, or `"attrs":{…},`.
            attrs: Blob,
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
        self.root_id_map.put(out);
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
        self.mount_label.put(out);
        self.create_container.put(out);
        self.start_container.put(out);
        self.hook_root.put(out);
        self.no_pivot.put(out);
        self.process.put(out);
        self.init.put(out);
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Plan {
            head: Head::decode(from.bytes()?)?,
            root: Wire::get(from)?,
            root_id_map: Wire::get(from)?,
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
            mount_label: Wire::get(from)?,
            create_container: Wire::get(from)?,
            start_container: Wire::get(from)?,
            hook_root: Wire::get(from)?,
            no_pivot: Wire::get(from)?,
            process: Wire::get(from)?,
            init: Wire::get(from)?,
        })
    }
}

impl Default for Plan {
    /// Nothing but what every plan has; the caller fills in the rest.
    fn default() -> Plan {
        Plan {
            head: Head::default(),
            root: Root::Dir { path: PathBuf::new() },
            root_id_map: None,
            readonly_root: false,
            root_propagation: 0,
            mounts: Vec::new(),
            devices: Vec::new(),
            symlinks: Vec::new(),
            masked_paths: Vec::new(),
            readonly_paths: Vec::new(),
            hostname: String::new(),
            domainname: String::new(),
            sysctls: Vec::new(),
            mount_label: String::new(),
            create_container: Vec::new(),
            start_container: Vec::new(),
            hook_root: PathBuf::new(),
            no_pivot: false,
            process: ProcessPlan::default(),
            init: false,
        }
    }
}

impl Default for Head {
    fn default() -> Head {
        Head {
            id: String::new(),
            exit_file: PathBuf::new(),
            socket: PathBuf::new(),
            log: LogTarget::None,
            namespaces: Namespaces {
                new: 0,
                joined: Vec::new(),
            },
            users: None,
            id_maps: Vec::new(),
            time_offsets: Vec::new(),
            net_devices: Vec::new(),
            rdt: None,
            hooks: RuntimeHooks::default(),
            cgroup: CgroupPlan::none(),
            stdin: Stdin::Null,
            terminal: None,
            foreign: None,
        }
    }
}

impl Namespaces {
    /// The kinds (`CLONE_NEW*` flags) that are not the host's.
    pub fn kinds(&self) -> u64 {
        self.joined.iter().fold(self.new, |all, joined| all | joined.kind)
    }

    /// Whether the container has a namespace of this kind (a `CLONE_NEW*` flag) that is not the host's: a new one, or
    /// one that is joined.
    pub fn has(&self, kind: u64) -> bool {
        self.kinds() & kind != 0
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
