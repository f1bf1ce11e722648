//! What is done for a container from outside of it: maps of users, clocks, interfaces, hooks.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::wire::wire_struct;

wire_struct! {
    /// Users and groups of a user namespace, in `uid_map` and `gid_map`.
    #[derive(Default, Hash)]
    pub struct IdMap {
        /// Users.
        pub users: Vec<IdRange>,
        /// Groups.
        pub groups: Vec<IdRange>,
    }
}

wire_struct! {
    /// A line of `uid_map(5)`.
    #[derive(Hash)]
    pub struct IdRange {
        /// First number inside.
        pub inside: u32,
        /// First number outside.
        pub outside: u32,
        /// How many.
        pub count: u32,
    }
}

impl IdMap {
    /// The number outside that stands for user `id` inside.
    pub fn user(&self, id: u32) -> Option<u32> {
        outside(&self.users, id)
    }

    /// The number outside that stands for group `id` inside.
    pub fn group(&self, id: u32) -> Option<u32> {
        outside(&self.groups, id)
    }
}

fn outside(ranges: &[IdRange], id: u32) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let offset = id.checked_sub(range.inside).filter(|offset| *offset < range.count)?;
        range.outside.checked_add(offset)
    })
}

/// The lines that the kernel reads: `inside outside count`.
pub fn lines(ranges: &[IdRange]) -> String {
    let line = |range: &IdRange| format!("{} {} {}\n", range.inside, range.outside, range.count);
    ranges.iter().map(line).collect()
}

wire_struct! {
    /// A clock of a new time namespace.
    pub struct TimeOffset {
        /// `CLOCK_MONOTONIC` (1) or `CLOCK_BOOTTIME` (7).
        pub clock: i32,
        /// Seconds added.
        pub seconds: i64,
        /// Nanoseconds added, below a billion.
        pub nanos: u32,
    }
}

wire_struct! {
    /// A network interface that moves into the container, with its addresses.
    pub struct NetDevice {
        /// Its name in the namespace of whoever starts the container.
        pub name: String,
        /// Its name in the container.
        pub new_name: String,
    }
}

wire_struct! {
    /// Intel Resource Director Technology, by the kernel's `resctrl` file system.
    pub struct Rdt {
        /// Folder of the class; made when `owned`.
        pub folder: PathBuf,
        /// Lines of `schemata`.
        pub schemata: Vec<String>,
        /// Whether the class is this container's own: made for it and removed after it.
        pub owned: bool,
        /// A monitoring group of the container's own.
        pub monitoring: bool,
    }
}

wire_struct! {
    /// A program to run.
    pub struct Hook {
        /// Absolute path.
        pub path: PathBuf,
        /// `argv`, the first one included; empty: the path.
        pub args: Vec<OsString>,
        /// The whole environment.
        pub env: Vec<OsString>,
        /// Milliseconds after which it is killed; 0: none.
        pub timeout: u64,
    }
}

wire_struct! {
    /// Hooks that run outside of the container, in the runtime's namespaces.
    #[derive(Default)]
    pub struct RuntimeHooks {
        /// When the namespaces are there, before the root is changed; the state is `created` (deprecated).
        pub prestart: Vec<Hook>,
        /// After those; the state is `creating`.
        pub create_runtime: Vec<Hook>,
        /// When the program runs.
        pub poststart: Vec<Hook>,
        /// When everything of the container is gone.
        pub poststop: Vec<Hook>,
        /// What they are told.
        pub state: HookState,
    }
}

wire_struct! {
    /// The container's state as JSON (OCI runtime specification, "State"), without what changes: an object that lacks
    /// its end, to which status and pid are added. So a shim needs no JSON.
    #[derive(Default)]
    pub struct HookState {
        /// `{"ociVersion":"1.3.0","id":"c1","bundle":"/b"`; empty: no state.
        pub begin: String,
    }
}

impl RuntimeHooks {
    /// Whether something is run before the root is changed.
    pub fn before_root(&self) -> bool {
        !self.prestart.is_empty() || !self.create_runtime.is_empty()
    }
}

impl HookState {
    /// The whole object. `status` is a word of the specification.
    pub fn json(&self, status: &str, pid: i32) -> String {
        let begin = if self.begin.is_empty() {
            "{\"ociVersion\":\"1.3.0\""
        } else {
            &self.begin
        };
        if pid > 0 {
            format!("{begin},\"status\":\"{status}\",\"pid\":{pid}}}")
        } else {
            format!("{begin},\"status\":\"{status}\"}}")
        }
    }
}
