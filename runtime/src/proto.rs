//! What daemon and shim say to each other, one message per packet of a `SEQPACKET` socket.
//!
//! ```text
//! daemon                                   shim
//!   Start + joined namespaces + attach ──►          (once, on the first socket; or ExecIn)
//!                                       ◄── Started | Failed
//!   Signal, Resize, Attach ──►                      (each with a tag of the daemon's choice)
//!                                       ◄── Done, with that tag
//!   Enter ──►                           ◄── Place | Failed | Done, with that tag
//!   Exec ──►                            ◄── ExecStarted | Failed, with that tag
//!                                       ◄── Exited  (without being asked, to every connection)
//!   Release ──►                         ◄── Done, then the end of the stream
//! ```
//!
//! A shim makes one process and gives up the right to make another. An exec has a shim of its own: the daemon asks that
//! of the container for the [`Place`] and hands it to a new one (`ExecIn`), which ends by itself when it has told of the
//! exit. The shim of a container that another runtime made answers `Enter` with `ENOTSUP`: that runtime makes its execs,
//! in the same shim (`Exec`).
//!
//! A daemon that connects to a running shim's own socket is told [`Event::State`] first.

use std::ffi::OsString;

use crate::plan::{CgroupPlan, ExecPlan};
use crate::wire::{Blob, wire_enum, wire_struct};

/// Raised with every change of a message or of the plan. A shim that outlived an upgrade may speak an older one.
pub const VERSION: u32 = 5;

/// Plans up to this size travel inside the message, larger ones in a sealed memory file. Far below the default send
/// buffer (208 KiB), of which other messages take their part.
pub const INLINE_PLAN: usize = 64 * 1024;

/// Largest message that a shim reads. An exec with the largest environment and arguments that the kernel takes inline.
pub const LARGEST_MESSAGE: usize = 160 * 1024;

/// Largest plan.
pub const LARGEST_PLAN: usize = 16 * 1024 * 1024;

/// The process that a request is about: the container's first one.
pub const INIT: u32 = 0;

wire_struct! {
    /// Which streams a client takes part in.
    pub struct Streams {
        /// What the client sends is typed into the process.
        pub stdin: bool,
        /// The client is sent standard output (of a terminal: everything).
        pub stdout: bool,
        /// The client is sent standard error.
        pub stderr: bool,
    }
}

wire_enum! {
    /// What the daemon asks for.
    pub enum Request {
        /// Run a container. Descriptors: the plan if it is not inline, then `joined` namespaces, then one socket for
        /// each of `attach`.
        0 => Start {
            /// [`VERSION`].
            version: u32,
            /// An encoded [`crate::plan::Plan`]; `None`: in a sealed memory file.
            plan: Option<Blob>,
            /// How many namespace descriptors there are.
            joined: u32,
            /// Clients attached from the first byte on.
            attach: Vec<Streams>,
        },
        /// Send a signal to a process ([`INIT`] or an exec's number).
        1 => Signal { tag: u32, process: u32, signal: i32 },
        /// Tell a process' terminal its size.
        2 => Resize { tag: u32, process: u32, rows: u16, cols: u16 },
        /// Attach the stream socket that comes along to the first process.
        3 => Attach { tag: u32, streams: Streams },
        /// Have the runtime that made the container run a further process; with a stream socket if `attach`. A plan too
        /// large for a message comes in a sealed memory file before that socket.
        4 => Exec { tag: u32, plan: Option<Box<ExecPlan>>, attach: Option<Streams> },
        /// The exit is recorded: clean up and end.
        5 => Release { tag: u32 },
        /// Tell what a process that enters the container needs to know; `ENOTSUP` where only [`Request::Exec`] does.
        6 => Enter { tag: u32 },
        /// Run a process in a container that another shim keeps. Descriptors: that container's first process, then the
        /// plan if it is not inline, then a stream socket if `attach`.
        7 => ExecIn {
            /// [`VERSION`].
            version: u32,
            /// `None`: in a sealed memory file.
            plan: Option<Box<ExecPlan>>,
            /// A client attached from the first byte on.
            attach: Option<Streams>,
            /// Which container.
            place: Box<Place>,
        },
        /// Make another shim, a copy as a further child of the daemon, which serves the socket that comes along. Only
        /// for a shim that was given nothing to run.
        8 => Bear { tag: u32 },
    }
}

wire_enum! {
    /// What the shim answers and reports.
    pub enum Event {
        /// The container's first process runs its program.
        0 => Started { pid: i32, at: Time },
        /// A start or an exec failed; nothing of it is left.
        1 => Failed { tag: u32, failure: Failure },
        /// A request was carried out (0) or refused with this errno.
        2 => Done { tag: u32, errno: i32 },
        /// An exec runs its program; `process` is its number in further requests.
        3 => ExecStarted { tag: u32, process: u32, pid: i32 },
        /// A process ended, and its output has been read to the end.
        4 => Exited { process: u32, exit: ExitStatus },
        /// Sent first on a connection to a running shim.
        5 => State {
            /// [`VERSION`] of the shim.
            version: u32,
            /// The shim's own process number.
            shim: i32,
            /// The container's first process.
            pid: i32,
            /// When that ran its program; `None`: it has not yet.
            started: Option<Time>,
            /// How it ended.
            exit: Option<ExitStatus>,
        },
        /// Where the container is. Descriptor: its first process.
        6 => Place { tag: u32, place: Box<Place> },
        /// Something happened to the log: it cannot be written (the errno), or it can again (0); or it was rotated, the
        /// so many-th time in this shim's life.
        7 => Log { errno: i32, rotations: u32 },
        /// A copy was made; `pid` is its process.
        8 => Born { tag: u32, pid: i32 },
    }
}

wire_struct! {
    /// A running container, for a process that enters it.
    pub struct Place {
        /// Its first process, in the pid namespace of shim and daemon.
        pub pid: i32,
        /// `CLONE_NEW*` of the namespaces that it does not share with the host.
        pub namespaces: u64,
        /// Its groups: what is needed to join them.
        pub cgroup: CgroupPlan,
    }
}

wire_struct! {
    /// A moment on the wall clock.
    pub struct Time {
        /// Seconds since 1970.
        pub seconds: i64,
        /// Nanoseconds of the second.
        pub nanos: u32,
    }
}

wire_struct! {
    /// How a process ended.
    pub struct ExitStatus {
        /// Exit code, or 128 + the number of the signal that killed it.
        pub code: i32,
        /// The signal that killed it.
        pub signal: Option<i32>,
        /// Whether the kernel killed something in the container for want of memory.
        pub oom: bool,
        /// When.
        pub at: Time,
    }
}

wire_struct! {
    /// Why a process could not be started.
    pub struct Failure {
        /// The step that failed.
        pub step: Step,
        /// What it failed on: a path, a name.
        pub subject: OsString,
        /// The kernel's reason; 0 when it was not the kernel.
        pub errno: i32,
        /// Anything more that is known, may be empty.
        pub message: String,
    }
}

wire_enum! {
    /// A step of the set-up.
    pub enum Step {
        /// Reading the plan.
        0 => Plan,
        /// Making or configuring the control groups.
        1 => Cgroup,
        /// Putting the process into them.
        2 => CgroupJoin,
        /// Opening the log.
        3 => Log,
        /// Creating the process.
        4 => Clone,
        /// Joining a namespace.
        5 => Join,
        /// Mounting the root.
        6 => Root,
        /// A mount.
        7 => Mount,
        /// A device node.
        8 => Device,
        /// A symbolic link.
        9 => Symlink,
        /// The terminal.
        10 => Terminal,
        /// Hiding a path.
        11 => Mask,
        /// Making a path read-only.
        12 => Readonly,
        /// A kernel parameter.
        13 => Sysctl,
        /// Host or domain name.
        14 => Hostname,
        /// Changing to the new root.
        15 => Pivot,
        /// A resource limit.
        16 => Rlimit,
        /// The OOM score.
        17 => OomScore,
        /// Looking up the user or a group.
        18 => User,
        /// Changing to the working folder.
        19 => Cwd,
        /// Taking on user and groups.
        20 => Identity,
        /// Setting capabilities.
        21 => Capabilities,
        /// Loading the seccomp program.
        22 => Seccomp,
        /// Standard streams and descriptors.
        23 => Streams,
        /// Looking up the program.
        24 => Lookup,
        /// Running the program.
        25 => Exec,
        /// The shim's own socket.
        26 => Socket,
        /// The child went away without a word.
        27 => Vanished,
        /// Users of a user namespace.
        28 => IdMap,
        /// A hook.
        29 => Hook,
        /// The scheduler, io priority, affinity, personality or memory policy.
        30 => Tuning,
        /// A label of a security module.
        31 => Label,
        /// Clocks of a time namespace.
        32 => Time,
        /// A network interface.
        33 => NetDevice,
        /// Cache and memory bandwidth classes.
        34 => Rdt,
        /// The agent that decides about system calls.
        35 => Listener,
        /// The session keyring.
        36 => Keyring,
        /// Another OCI runtime; the subject is what was asked of it, the message the end of its log.
        37 => Foreign,
    }
}
