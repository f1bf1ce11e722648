//! Facts about the node and the engine.

use std::fs;

use agent_store::{Batch, Db};
use sha2::{Digest as _, Sha256};

use crate::Engine;
use crate::config::CgroupDriver;
use crate::container::state::Phase;
use crate::error::Result;
use crate::ids::random_hex;

const TABLE: &str = "node";

/// Who this engine is, for as long as its data root lives.
#[derive(Clone, Debug)]
pub struct Identity {
    pub id: String,
    /// Ids of the default networks, by name: every list of containers shows them.
    networks: [(&'static str, String); 3],
}

impl Identity {
    pub fn load(db: &Db) -> Result<Identity> {
        if let Some(bytes) = db.get(TABLE, "id")? {
            return Ok(Identity::new(String::from_utf8_lossy(&bytes).into_owned()));
        }
        let id = uuid();
        let mut batch = Batch::new();
        batch.put(TABLE, "id", id.clone().into_bytes());
        db.commit_blocking(batch)?;
        Ok(Identity::new(id))
    }

    fn new(id: String) -> Identity {
        let network = |name| (name, hex::encode(Sha256::digest(format!("{id}/{name}"))));
        Identity {
            networks: ["bridge", "host", "none"].map(network),
            id,
        }
    }

    /// The default networks are made with the data root, and keep their ids with it.
    pub fn network(&self, name: &str) -> Option<&str> {
        let found = self.networks.iter().find(|(known, _)| *known == name);
        found.map(|(_, id)| id.as_str())
    }
}

fn uuid() -> String {
    let hex = random_hex();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..32]
    )
}

/// Answer to `info`.
#[derive(Clone, Debug)]
pub struct Info {
    pub id: String,
    pub containers: usize,
    pub running: usize,
    pub paused: usize,
    pub stopped: usize,
    pub images: usize,
    pub name: String,
    pub data_root: String,
    pub kernel: String,
    pub os: String,
    pub os_version: String,
    pub architecture: String,
    pub cpus: usize,
    /// Bytes.
    pub memory: u64,
    /// 1 or 2.
    pub cgroup_version: u32,
    pub cgroup_driver: &'static str,
    /// What limits this machine can hold.
    pub support: runtime::cgroup::Support,
    pub default_registry: String,
    /// Other runtimes by name, and the one of containers that ask for none.
    pub runtimes: std::collections::BTreeMap<String, crate::config::RuntimeProgram>,
    pub default_runtime: String,
    pub log_driver: String,
    /// Whether containers that do not say have a user namespace.
    pub user_namespaces: bool,
    pub labels: Vec<String>,
    pub debug: bool,
    pub warnings: Vec<String>,
    /// Folders of descriptions of devices, and the devices that these describe.
    pub cdi_spec_dirs: Vec<String>,
    pub cdi_devices: Vec<String>,
    pub file_descriptors: usize,
    /// What writable layers are on, and whether they can be given a size there.
    pub file_system: &'static str,
    pub quotas: bool,
    pub ipv4_forwarding: bool,
}

impl Engine {
    pub fn info(&self) -> Info {
        let (mut running, mut paused, mut stopped) = (0, 0, 0);
        for container in self.index.all() {
            match container.phase() {
                Phase::Running => running += 1,
                Phase::Paused => paused += 1,
                Phase::Created | Phase::Restarting | Phase::Exited | Phase::Removing | Phase::Dead => stopped += 1,
            }
        }
        let uname = nix::sys::utsname::uname().ok();
        let (os, os_version) = os_release();
        let support = self.cgroups.support();
        let live = self.live();
        let cdi = crate::cdi::Registry::read(&self.config.cdi_spec_dirs);
        let mut warnings = self.network.info().warnings;
        warnings.extend(cdi.errors().iter().map(|error| format!("CDI: {error}")));
        Info {
            id: self.identity.id.clone(),
            containers: self.index.len(),
            running,
            paused,
            stopped,
            images: self.store.images().count(),
            name: nix::unistd::gethostname()
                .ok()
                .and_then(|name| name.into_string().ok())
                .unwrap_or_default(),
            data_root: self.config.data_root.display().to_string(),
            kernel: uname
                .as_ref()
                .map(|u| u.release().to_string_lossy().into_owned())
                .unwrap_or_default(),
            os,
            os_version,
            architecture: uname
                .as_ref()
                .map(|u| u.machine().to_string_lossy().into_owned())
                .unwrap_or_default(),
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get()),
            memory: memory_total(),
            cgroup_version: self.cgroups.version(),
            cgroup_driver: match self.config.cgroup_driver {
                CgroupDriver::Cgroupfs => "cgroupfs",
                CgroupDriver::Systemd => "systemd",
            },
            support,
            default_registry: self.config.default_registry.clone(),
            runtimes: live.runtimes.clone(),
            default_runtime: live.default_runtime.clone(),
            log_driver: self.config.default_log_driver.clone(),
            user_namespaces: self.config.remap.always,
            labels: live.labels.clone(),
            debug: live.debug,
            warnings,
            cdi_spec_dirs: (self.config.cdi_spec_dirs.iter())
                .map(|folder| folder.display().to_string())
                .collect(),
            cdi_devices: cdi.names().map(str::to_owned).collect(),
            file_descriptors: fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
            file_system: self.store.file_system(),
            quotas: self.store.quotas().is_ok(),
            ipv4_forwarding: fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() == "1"),
        }
    }

    /// Removes bridge and table: for tests, benchmarks and uninstalling. No container may run any more.
    pub async fn purge_network(&self) -> Result<()> {
        self.blocking(|engine| Ok(engine.network.purge()?)).await
    }

    /// Facts about the default network.
    pub fn network_info(&self) -> network::NetworkInfo {
        self.network.info()
    }
}

/// Name and version of the distribution.
fn os_release() -> (String, String) {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value.trim_matches('"').to_owned())
            .unwrap_or_default()
    };
    (field("PRETTY_NAME"), field("VERSION_ID"))
}

fn memory_total() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}
