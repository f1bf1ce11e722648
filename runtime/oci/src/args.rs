//! The command line: runc's verbs and flags.

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// An OCI container runtime.
#[derive(Parser, Debug)]
#[command(
    name = "iechor-runtime",
    disable_version_flag = true,
    disable_help_subcommand = true,
    args_override_self = true
)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Flags before the verb.
#[derive(ClapArgs, Debug)]
pub struct Global {
    /// Folder of the containers' state; it belongs into memory, and to root alone
    #[arg(long, default_value = "/run/iechor-runtime", value_name = "FOLDER")]
    pub root: PathBuf,
    /// File that errors are written to (standard error otherwise)
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Form of the log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Also say what is being done
    #[arg(long)]
    pub debug: bool,
    /// Let systemd make the control groups; cgroupsPath is then slice:prefix:name
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Whether to go on where only root could: true, false or auto
    #[arg(long, value_name = "BOOL", default_value = "auto")]
    pub rootless: String,
    /// Print versions
    #[arg(long, short = 'v')]
    pub version: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make a container; its program waits for start
    Create(Create),
    /// Run the program of a created container
    Start(OfContainer),
    /// Make a container, run its program, and wait for it
    Run(Run),
    /// Print the state of a container
    State(OfContainer),
    /// Send a signal to a container's first process
    Kill(Kill),
    /// Remove what a container that has ended left
    Delete(Delete),
    /// Run a further process in a container
    Exec(Box<Exec>),
    /// List containers
    List(List),
    /// Stop every process of a container where it is
    Pause(OfContainer),
    /// Let a paused container run on
    Resume(OfContainer),
    /// Change limits of a container
    Update(Box<Update>),
    /// Print statistics and out-of-memory events of a container
    Events(Events),
    /// List the processes of a container
    Ps(Ps),
    /// Print what this runtime can do
    Features,
    /// Write a configuration to begin with
    Spec(Spec),
    /// Not supported: needs CRIU
    Checkpoint(Anything),
    /// Not supported: needs CRIU
    Restore(Anything),
}

#[derive(ClapArgs, Debug)]
pub struct OfContainer {
    pub id: String,
}

#[derive(ClapArgs, Debug)]
pub struct Anything {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<String>,
}

/// What `create` and `run` share.
#[derive(ClapArgs, Debug)]
pub struct Making {
    /// Folder with config.json (this one otherwise)
    #[arg(long, short = 'b', value_name = "FOLDER", default_value = ".")]
    pub bundle: PathBuf,
    /// Unix socket that gets the master of the terminal
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// File that the number of the first process is written to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Move the root instead of pivot_root (for a root on the kernel's first file system; weaker)
    #[arg(long)]
    pub no_pivot: bool,
    /// Leave the container in the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// So many descriptors from 3 on are the container's too
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
}

#[derive(ClapArgs, Debug)]
pub struct Create {
    #[command(flatten)]
    pub making: Making,
    pub id: String,
}

#[derive(ClapArgs, Debug)]
pub struct Run {
    #[command(flatten)]
    pub making: Making,
    /// Do not wait
    #[arg(long, short = 'd')]
    pub detach: bool,
    /// Keep the container when it has ended
    #[arg(long)]
    pub keep: bool,
    /// Do not adopt what the container's processes leave behind
    #[arg(long)]
    pub no_subreaper: bool,
    pub id: String,
}

#[derive(ClapArgs, Debug)]
pub struct Kill {
    /// Send it to every process of the container
    #[arg(long, short = 'a')]
    pub all: bool,
    pub id: String,
    #[arg(default_value = "TERM", allow_hyphen_values = true)]
    pub signal: String,
}

#[derive(ClapArgs, Debug)]
pub struct Delete {
    /// Kill it first, and be content when there is none
    #[arg(long, short = 'f')]
    pub force: bool,
    pub id: String,
}

#[derive(ClapArgs, Debug)]
pub struct Exec {
    /// Unix socket that gets the master of the terminal
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Working folder
    #[arg(long, value_name = "FOLDER")]
    pub cwd: Option<PathBuf>,
    /// Add NAME=VALUE to the environment
    #[arg(long, short = 'e', value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// With a terminal
    #[arg(long, short = 't')]
    pub tty: bool,
    /// UID or UID:GID
    #[arg(long, short = 'u')]
    pub user: Option<String>,
    /// Further groups
    #[arg(long, short = 'g', value_name = "GID", value_delimiter = ',')]
    pub additional_gids: Vec<u32>,
    /// File with the process as JSON
    #[arg(long, short = 'p', value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Do not wait
    #[arg(long, short = 'd')]
    pub detach: bool,
    /// File that the number of the process is written to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// No exec may gain privileges
    #[arg(long)]
    pub no_new_privs: bool,
    /// Add a capability
    #[arg(long, short = 'c', value_name = "CAPABILITY", value_delimiter = ',')]
    pub cap: Vec<String>,
    /// So many descriptors from 3 on are the process' too
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Group below the container's own
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<String>,
    /// Also in a paused container, where it waits
    #[arg(long)]
    pub ignore_paused: bool,
    pub id: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

#[derive(ClapArgs, Debug)]
pub struct List {
    /// table or json
    #[arg(long, short = 'f', default_value = "table")]
    pub format: String,
    /// Names alone
    #[arg(long, short = 'q')]
    pub quiet: bool,
}

#[derive(ClapArgs, Debug)]
pub struct Events {
    /// How long between statistics: 5s, 500ms
    #[arg(long, default_value = "5s")]
    pub interval: String,
    /// Print statistics once and end
    #[arg(long)]
    pub stats: bool,
    pub id: String,
}

#[derive(ClapArgs, Debug)]
pub struct Ps {
    /// table or json
    #[arg(long, short = 'f', default_value = "table")]
    pub format: String,
    pub id: String,
    /// Arguments of ps(1)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

#[derive(ClapArgs, Debug)]
pub struct Spec {
    /// Where to write it
    #[arg(long, short = 'b', value_name = "FOLDER", default_value = ".")]
    pub bundle: PathBuf,
    /// For a user other than root
    #[arg(long)]
    pub rootless: bool,
}

#[derive(ClapArgs, Debug)]
pub struct Update {
    /// File with linux.resources as JSON; - is standard input
    #[arg(long, short = 'r', value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Weight of block IO, 10 to 1000
    #[arg(long)]
    pub blkio_weight: Option<u16>,
    /// Microseconds per CPU period
    #[arg(long)]
    pub cpu_period: Option<u64>,
    /// Microseconds of CPU time in a period
    #[arg(long, allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// Microseconds that may be saved up
    #[arg(long)]
    pub cpu_burst: Option<u64>,
    /// Real-time period in microseconds
    #[arg(long)]
    pub cpu_rt_period: Option<u64>,
    /// Real-time share in microseconds
    #[arg(long, allow_hyphen_values = true)]
    pub cpu_rt_runtime: Option<i64>,
    /// Relative weight
    #[arg(long)]
    pub cpu_share: Option<u64>,
    /// 1: only when nobody else wants to run
    #[arg(long)]
    pub cpu_idle: Option<i64>,
    /// CPUs
    #[arg(long)]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes
    #[arg(long)]
    pub cpuset_mems: Option<String>,
    /// Passed over by kernels since 5.16
    #[arg(long, hide = true)]
    pub kernel_memory: Option<String>,
    /// Passed over by kernels since 5.16
    #[arg(long, hide = true)]
    pub kernel_memory_tcp: Option<String>,
    /// Bytes of memory
    #[arg(long, allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// Bytes that are left alone under pressure
    #[arg(long, allow_hyphen_values = true)]
    pub memory_reservation: Option<String>,
    /// Bytes of memory and swap together
    #[arg(long, allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// How many processes
    #[arg(long, allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Cache schema of the resource class
    #[arg(long, value_name = "LINE")]
    pub l3_cache_schema: Option<String>,
    /// Bandwidth schema of the resource class
    #[arg(long, value_name = "LINE")]
    pub mem_bw_schema: Option<String>,
    pub id: String,
}
