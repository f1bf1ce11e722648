//! What the administrator decides, already validated by the binary.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use runtime::plan::{IdMap, IdRange};

use crate::container::spec::Ulimit;

/// The name of our own runtime, which every engine has.
pub const OWN_RUNTIME: &str = "iechor";

/// Another OCI runtime, by its command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeProgram {
    /// An absolute path.
    pub path: PathBuf,
    /// Arguments before all others.
    pub args: Vec<String>,
}

/// Who makes control groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupDriver {
    /// The shim, by writing to the kernel's file system.
    #[default]
    Cgroupfs,
    /// systemd, which must be process 1.
    Systemd,
}

/// User namespaces of containers.
#[derive(Clone, Debug)]
pub struct Remap {
    /// Whether containers that do not say have one.
    pub always: bool,
    /// Who is who in them.
    pub map: IdMap,
    /// What the host gives to its own users (subuid(5), subgid(5)): no container is given a range of these.
    pub reserved: Vec<IdRange>,
}

/// When images that nobody uses go by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageCollection {
    /// Percent of the data root's file system in use at which it begins.
    pub high: u8,
    /// Percent at which it ends.
    pub low: u8,
    /// Images that were used or came less long ago stay.
    pub min_age: Duration,
    /// Between two looks at the disk.
    pub interval: Duration,
    /// Names, or patterns of names as in `reference=…`, of images that stay.
    pub pins: Vec<String>,
}

/// Settings of one engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Everything that survives a reboot.
    pub data_root: PathBuf,
    /// Everything that does not: sockets, run records.
    pub exec_root: PathBuf,
    /// The `iechor-shim` program.
    pub shim: PathBuf,
    /// Warm shims and warm network namespaces kept ready.
    pub warm: usize,
    pub network: network::NetworkConfig,
    pub registry: agent_registry::ClientConfig,
    /// Registry of names without one; `docker.io`.
    pub default_registry: String,
    pub cgroup_driver: CgroupDriver,
    /// cgroup below which containers go; `/iechor`. For systemd a slice; `system.slice`.
    pub cgroup_parent: String,
    /// Other runtimes that containers may ask for, by name.
    pub runtimes: BTreeMap<String, RuntimeProgram>,
    /// The runtime of containers that ask for none: [`OWN_RUNTIME`], or one of `runtimes`.
    pub default_runtime: String,
    pub remap: Remap,
    pub default_ulimits: BTreeMap<String, Ulimit>,
    /// Bytes of `/dev/shm`; Docker's default is 64 MiB.
    pub default_shm_size: i64,
    pub default_log_driver: String,
    pub default_log_opts: BTreeMap<String, String>,
    /// Folders of descriptions of devices, the least important first; none turns them off.
    pub cdi_spec_dirs: Vec<PathBuf>,
    pub dns: Vec<IpAddr>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    /// Labels of the daemon itself, shown in `info`.
    pub labels: Vec<String>,
    pub no_new_privileges: bool,
    pub init: bool,
    pub debug: bool,
    /// How long layers of one pull may be fetched side by side.
    pub max_concurrent_downloads: usize,
    /// `None`: images go only when somebody removes them.
    pub image_collection: Option<ImageCollection>,
    /// How long running operations may take at shutdown.
    pub shutdown_timeout: Duration,
}
