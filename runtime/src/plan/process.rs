//! A process of a container.

use std::ffi::OsString;
use std::path::PathBuf;

use super::outside::HookState;
use crate::wire::{Blob, Reader, Wire, WireError, wire_enum, wire_struct};

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
        /// When and where it runs.
        pub tuning: Tuning,
        /// Labels of security modules.
        pub labels: Labels,
        /// Who is asked about system calls; needs a program that asks.
        pub listener: Option<Listener>,
        /// Whether it keeps the session keyring of whoever starts it.
        pub keep_keyring: bool,
        /// All of this in the words of the OCI specification, for [`super::Foreign`]; empty where we start it ourselves.
        pub document: String,
    }
}

impl Default for ProcessPlan {
    /// Root without any capability, in `/`.
    fn default() -> ProcessPlan {
        ProcessPlan {
            argv: Vec::new(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            user: User::Ids {
                uid: 0,
                gid: 0,
                groups: Vec::new(),
            },
            umask: None,
            caps: Caps::default(),
            no_new_privs: false,
            seccomp: Blob::default(),
            seccomp_flags: 0,
            rlimits: Vec::new(),
            oom_score_adj: None,
            tuning: Tuning::default(),
            labels: Labels::default(),
            listener: None,
            keep_keyring: false,
            document: String::new(),
        }
    }
}

wire_struct! {
    /// How the kernel's scheduler, memory manager and block layer treat a process.
    #[derive(Default)]
    pub struct Tuning {
        /// `sched_setattr(2)`.
        pub scheduler: Option<Scheduler>,
        /// `ioprio_set(2)`'s value: class << 13 | level.
        pub io_priority: Option<u32>,
        /// `sched_setaffinity(2)`.
        pub affinity: Option<Affinity>,
        /// `personality(2)`'s value.
        pub personality: Option<u64>,
        /// `set_mempolicy(2)`.
        pub memory_policy: Option<MemoryPolicy>,
    }
}

wire_struct! {
    /// `struct sched_attr`.
    #[derive(Default)]
    pub struct Scheduler {
        /// `SCHED_*`.
        pub policy: u32,
        /// `SCHED_FLAG_*`.
        pub flags: u64,
        /// -20 to 19, for the fair policies.
        pub nice: i32,
        /// 1 to 99, for the real-time policies.
        pub priority: u32,
        /// Nanoseconds per period, for `SCHED_DEADLINE`.
        pub runtime: u64,
        /// Nanoseconds.
        pub deadline: u64,
        /// Nanoseconds.
        pub period: u64,
    }
}

wire_struct! {
    /// CPUs of an exec (`process.execCPUAffinity`); an empty list leaves what is inherited.
    #[derive(Default)]
    pub struct Affinity {
        /// Before it joins the container's control groups, as bit numbers.
        pub initial: Vec<u32>,
        /// From then on.
        pub last: Vec<u32>,
    }
}

wire_struct! {
    /// Which memory nodes pages come from.
    pub struct MemoryPolicy {
        /// `MPOL_*` with `MPOL_F_*`.
        pub mode: u32,
        /// Node numbers.
        pub nodes: Vec<u32>,
    }
}

wire_struct! {
    /// Labels that take effect with `exec`; empty: what is inherited.
    #[derive(Default)]
    pub struct Labels {
        /// AppArmor profile.
        pub apparmor: String,
        /// SELinux context.
        pub selinux: String,
    }
}

wire_struct! {
    /// Where the descriptor goes on which the kernel asks about system calls (`SECCOMP_RET_USER_NOTIF`).
    pub struct Listener {
        /// Unix stream socket of the agent.
        pub path: PathBuf,
        /// Handed on to it, as a JSON string with its quotes.
        pub metadata: String,
        /// What it is told about the container.
        pub state: HookState,
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
