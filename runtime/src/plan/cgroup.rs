//! Control groups of a container.

use std::path::PathBuf;

use crate::systemd::SystemdUnit;
use crate::wire::{Blob, wire_enum, wire_struct};

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
        /// The unit of systemd that holds the own folders, which it makes; absent: they are made by writing to the file
        /// system.
        pub systemd: Option<SystemdUnit>,
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
            systemd: None,
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
