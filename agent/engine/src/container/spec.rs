//! What a container was asked to be. These are the engine's own types: the adapters map their wire types to them, the
//! record on disk holds them, and `validate` checks them once, at create.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The portable half: what runs. After `create` it is merged with the image's defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    pub hostname: String,
    pub domainname: String,
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    /// `80/tcp`
    pub exposed_ports: BTreeSet<String>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub env: Vec<String>,
    pub cmd: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub healthcheck: Option<Healthcheck>,
    pub args_escaped: bool,
    pub image: String,
    /// Paths that get an anonymous volume.
    pub volumes: BTreeSet<String>,
    pub working_dir: String,
    pub network_disabled: bool,
    pub mac_address: String,
    pub on_build: Option<Vec<String>>,
    pub labels: BTreeMap<String, String>,
    pub stop_signal: Option<String>,
    /// Seconds between the stop signal and SIGKILL; negative waits for ever.
    pub stop_timeout: Option<i64>,
    pub shell: Option<Vec<String>>,
}

/// A test command run inside the container; durations in nanoseconds, as on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", line]`; empty inherits.
    pub test: Vec<String>,
    pub interval: i64,
    pub timeout: i64,
    pub start_period: i64,
    pub start_interval: i64,
    pub retries: i64,
}

/// The half that ties a container to this host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostConfig {
    /// `source:target[:options]`
    pub binds: Vec<String>,
    pub container_id_file: String,
    pub log: LogConfig,
    /// ``, `default`, `bridge`, `host`, `none`, `container:<id>`
    pub network_mode: String,
    /// `80/tcp` → where on the host
    pub port_bindings: BTreeMap<String, Vec<PortBinding>>,
    pub restart_policy: RestartPolicy,
    pub auto_remove: bool,
    pub volume_driver: String,
    pub volumes_from: Vec<String>,
    pub mounts: Vec<Mount>,
    /// Height, width.
    pub console_size: [u16; 2],
    pub annotations: BTreeMap<String, String>,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    /// ``, `private`, `host`
    pub cgroupns_mode: String,
    pub dns: Vec<String>,
    pub dns_options: Vec<String>,
    pub dns_search: Vec<String>,
    pub extra_hosts: Vec<String>,
    pub group_add: Vec<String>,
    /// ``, `none`, `private`, `shareable`, `host`, `container:<id>`
    pub ipc_mode: String,
    pub links: Vec<String>,
    pub oom_score_adj: i32,
    /// ``, `host`, `container:<id>`
    pub pid_mode: String,
    pub privileged: bool,
    pub publish_all_ports: bool,
    pub readonly_rootfs: bool,
    pub security_opt: Vec<String>,
    pub storage_opt: BTreeMap<String, String>,
    /// target → mount options
    pub tmpfs: BTreeMap<String, String>,
    /// ``, `host`
    pub uts_mode: String,
    pub userns_mode: String,
    /// Bytes; 0 takes the daemon's default.
    pub shm_size: i64,
    pub sysctls: BTreeMap<String, String>,
    pub runtime: String,
    pub init: Option<bool>,
    /// `None`: the default list.
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
    /// Devices by what they are.
    pub device_requests: Vec<DeviceRequest>,
    pub resources: Resources,
}

/// `--device vendor.com/class=name` and `--gpus`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRequest {
    /// ``, `cdi`, `nvidia`
    pub driver: String,
    /// -1 is all.
    pub count: i64,
    pub device_ids: Vec<String>,
    /// One of these lists is to be met.
    pub capabilities: Vec<Vec<String>>,
    pub options: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    pub driver: String,
    pub options: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortBinding {
    pub host_ip: String,
    /// A port, a range, or nothing for an ephemeral one.
    pub host_port: String,
}

/// When a container that ended is started again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    pub name: RestartName,
    /// Only for `on-failure` and `on-unhealthy`; 0 is without limit.
    pub maximum_retry_count: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartName {
    #[default]
    No,
    Always,
    UnlessStopped,
    OnFailure,
    /// Ours: as `on-failure`, and being unhealthy is a failure.
    OnUnhealthy,
}

impl RestartName {
    /// Whether only failures are followed by a restart, so many times at most.
    pub fn counts_failures(self) -> bool {
        matches!(self, RestartName::OnFailure | RestartName::OnUnhealthy)
    }

    pub fn parse(text: &str) -> Option<RestartName> {
        Some(match text {
            "" | "no" => RestartName::No,
            "always" => RestartName::Always,
            "unless-stopped" => RestartName::UnlessStopped,
            "on-failure" => RestartName::OnFailure,
            "on-unhealthy" => RestartName::OnUnhealthy,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            RestartName::No => "no",
            RestartName::Always => "always",
            RestartName::UnlessStopped => "unless-stopped",
            RestartName::OnFailure => "on-failure",
            RestartName::OnUnhealthy => "on-unhealthy",
        }
    }
}

/// A mount in the long form (`--mount`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// `bind`, `volume`, `tmpfs`, `image`; others are refused by name.
    pub kind: String,
    pub source: String,
    pub target: String,
    pub read_only: bool,
    pub consistency: String,
    pub bind: Option<BindOptions>,
    pub volume: Option<VolumeOptions>,
    pub tmpfs: Option<TmpfsOptions>,
    pub image: Option<ImageOptions>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageOptions {
    /// Path below the image's root that is mounted.
    pub subpath: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BindOptions {
    pub propagation: String,
    pub non_recursive: bool,
    pub create_mountpoint: bool,
    pub read_only_non_recursive: bool,
    pub read_only_force_recursive: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeOptions {
    pub no_copy: bool,
    pub labels: BTreeMap<String, String>,
    pub driver: String,
    pub driver_options: BTreeMap<String, String>,
    pub subpath: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TmpfsOptions {
    pub size_bytes: i64,
    pub mode: u32,
    pub options: Vec<Vec<String>>,
}

/// Limits; zero or `None` is "not asked for". Units as on the wire: bytes, microseconds, 1e-9 CPUs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub cpu_shares: i64,
    pub memory: i64,
    pub nano_cpus: i64,
    pub cgroup_parent: String,
    pub blkio_weight: u16,
    /// Weights by path of the device.
    pub blkio_weight_device: Vec<DeviceLimit>,
    pub read_bps: Vec<DeviceLimit>,
    pub write_bps: Vec<DeviceLimit>,
    pub read_iops: Vec<DeviceLimit>,
    pub write_iops: Vec<DeviceLimit>,
    pub cpu_period: i64,
    pub cpu_quota: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub devices: Vec<Device>,
    pub device_cgroup_rules: Vec<String>,
    pub memory_reservation: i64,
    /// Memory and swap together; -1 is without limit.
    pub memory_swap: i64,
    pub memory_swappiness: Option<i64>,
    pub oom_kill_disable: Option<bool>,
    pub pids_limit: Option<i64>,
    pub ulimits: BTreeMap<String, Ulimit>,
}

/// A weight, or a rate a second, of a block device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceLimit {
    pub path: String,
    pub value: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    pub path_on_host: String,
    pub path_in_container: String,
    pub cgroup_permissions: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ulimit {
    pub soft: i64,
    pub hard: i64,
}

/// Everything a create request says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CreateRequest {
    pub config: Config,
    pub host: HostConfig,
    /// Endpoint settings by network name; only the default networks exist for now.
    pub endpoints: BTreeMap<String, EndpointRequest>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointRequest {
    pub ipv4_address: String,
    pub ipv6_address: String,
    pub mac_address: String,
    pub aliases: Vec<String>,
    pub links: Vec<String>,
    pub driver_options: BTreeMap<String, String>,
}
