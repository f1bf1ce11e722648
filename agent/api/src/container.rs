//! What the daemon says about containers: list, inspect, wait, prune.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::create::Config;
use crate::host_config::{HostConfig, Mount, PortMap};
use crate::network::EndpointSettings;
use crate::time::Time;
use crate::{StringMap, omit};

/// One row of `GET /containers/json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
#[schemars(rename = "ContainerSummary")]
pub struct Summary {
    pub id: String,
    /// Each with a leading slash.
    pub names: Vec<String>,
    pub image: String,
    #[serde(rename = "ImageID")]
    pub image_id: String,
    pub command: String,
    /// Unix seconds.
    pub created: i64,
    pub ports: Vec<Port>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub size_rw: i64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub size_root_fs: i64,
    pub labels: StringMap,
    pub state: String,
    /// For people: `Up 4 minutes (healthy)`.
    pub status: String,
    pub host_config: SummaryHostConfig,
    pub network_settings: SummaryNetworkSettings,
    pub mounts: Vec<MountPoint>,
    /// From API 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<SummaryHealth>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct SummaryHostConfig {
    #[serde(skip_serializing_if = "omit::zero")]
    pub network_mode: String,
    /// From API 1.46.
    #[serde(skip_serializing_if = "omit::map")]
    pub annotations: Option<StringMap>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct SummaryNetworkSettings {
    pub networks: BTreeMap<String, EndpointSettings>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct SummaryHealth {
    pub status: String,
    pub failing_streak: i64,
}

/// A published or merely exposed port in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct Port {
    #[serde(rename = "IP", skip_serializing_if = "omit::zero")]
    pub ip: String,
    pub private_port: u16,
    #[serde(skip_serializing_if = "omit::zero")]
    pub public_port: u16,
    #[serde(rename = "Type")]
    pub kind: String,
}

/// A mount as it is, not as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct MountPoint {
    #[serde(rename = "Type", skip_serializing_if = "omit::zero")]
    pub kind: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub name: String,
    pub source: String,
    pub destination: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub driver: String,
    pub mode: String,
    #[serde(rename = "RW")]
    pub rw: bool,
    pub propagation: String,
}

/// `GET /containers/{id}/json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
#[schemars(rename = "ContainerInspect")]
pub struct Inspect {
    pub id: String,
    pub created: Time,
    pub path: String,
    pub args: Vec<String>,
    pub state: State,
    pub image: String,
    pub resolv_conf_path: String,
    pub hostname_path: String,
    pub hosts_path: String,
    pub log_path: String,
    pub name: String,
    pub restart_count: i64,
    pub driver: String,
    pub platform: String,
    pub mount_label: String,
    pub process_label: String,
    pub app_armor_profile: String,
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    pub host_config: HostConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<GraphDriver>,
    /// Only when sizes were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    pub mounts: Vec<MountPoint>,
    pub config: Config,
    pub network_settings: NetworkSettings,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct State {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`.
    pub status: String,
    pub running: bool,
    pub paused: bool,
    pub restarting: bool,
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    pub dead: bool,
    pub pid: i64,
    pub exit_code: i64,
    pub error: String,
    pub started_at: Time,
    pub finished_at: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct Health {
    pub status: String,
    pub failing_streak: i64,
    pub log: Option<Vec<HealthResult>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthResult {
    pub start: Time,
    pub end: Time,
    pub exit_code: i64,
    pub output: String,
}

/// Where the bytes of an image or of a container's layer lie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct GraphDriver {
    pub data: Option<StringMap>,
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkSettings {
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    pub sandbox_key: String,
    pub ports: PortMap,
    pub networks: BTreeMap<String, EndpointSettings>,

    // Below API 1.52 only: the flat members that repeat what the default bridge's entry in `networks` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hairpin_mode: Option<bool>,
    #[serde(rename = "LinkLocalIPv6Address", skip_serializing_if = "Option::is_none")]
    pub link_local_ipv6_address: Option<String>,
    #[serde(rename = "LinkLocalIPv6PrefixLen", skip_serializing_if = "Option::is_none")]
    pub link_local_ipv6_prefix_len: Option<i64>,
    /// `Some(Value::Null)` writes the `null` that old clients expect.
    #[serde(
        rename = "SecondaryIPAddresses",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub secondary_ip_addresses: Option<Value>,
    #[serde(
        rename = "SecondaryIPv6Addresses",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub secondary_ipv6_addresses: Option<Value>,
    #[serde(rename = "EndpointID", skip_serializing_if = "Option::is_none")]
    pub endpoint_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    #[serde(rename = "GlobalIPv6Address", skip_serializing_if = "Option::is_none")]
    pub global_ipv6_address: Option<String>,
    #[serde(rename = "GlobalIPv6PrefixLen", skip_serializing_if = "Option::is_none")]
    pub global_ipv6_prefix_len: Option<i64>,
    #[serde(rename = "IPAddress", skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<String>,
    #[serde(rename = "IPPrefixLen", skip_serializing_if = "Option::is_none")]
    pub ip_prefix_len: Option<i64>,
    #[serde(rename = "IPv6Gateway", skip_serializing_if = "Option::is_none")]
    pub ipv6_gateway: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
}

/// Keeps a `null` that is there apart from a member that is not.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl NetworkSettings {
    /// Adds the flat members of API versions below 1.52, taken from the endpoint on the default bridge.
    pub fn add_legacy(&mut self) {
        let endpoint = self.networks.get("bridge").cloned().unwrap_or_default();
        self.bridge = Some(String::new());
        self.hairpin_mode = Some(false);
        self.link_local_ipv6_address = Some(String::new());
        self.link_local_ipv6_prefix_len = Some(0);
        self.secondary_ip_addresses = Some(Value::Null);
        self.secondary_ipv6_addresses = Some(Value::Null);
        self.endpoint_id = Some(endpoint.endpoint_id);
        self.gateway = Some(endpoint.gateway);
        self.global_ipv6_address = Some(endpoint.global_ipv6_address);
        self.global_ipv6_prefix_len = Some(endpoint.global_ipv6_prefix_len);
        self.ip_address = Some(endpoint.ip_address);
        self.ip_prefix_len = Some(endpoint.ip_prefix_len);
        self.ipv6_gateway = Some(endpoint.ipv6_gateway);
        self.mac_address = Some(endpoint.mac_address);
    }
}

/// `POST /containers/{id}/wait`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitResponse {
    pub status_code: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitError {
    #[serde(skip_serializing_if = "omit::zero")]
    pub message: String,
}

/// `POST /containers/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
#[schemars(rename = "ContainersPruned")]
pub struct PruneReport {
    pub containers_deleted: Option<Vec<String>>,
    pub space_reclaimed: u64,
}

/// The member `Change` of `POST /containers/{id}/update`: an extension. Removals come before additions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct Change {
    /// `KEY=value`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_add: Option<Vec<String>>,
    /// `KEY`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_rm: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_add: Option<Vec<Mount>>,
    /// Targets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_rm: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish_add: Option<PortMap>,
    /// `80/tcp`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish_rm: Option<Vec<String>>,
    /// Restart a container that runs, if something waits for its next start.
    pub now: bool,
}

/// The body of `POST /containers/{id}/update`, beside the members of `HostConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct UpdateChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
}

/// `POST /containers/{id}/update`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct UpdateResponse {
    pub warnings: Option<Vec<String>>,
}

/// `GET /containers/{id}/top`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct Top {
    pub processes: Vec<Vec<String>>,
    pub titles: Vec<String>,
}

/// One changed path of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct FileChange {
    pub path: String,
    /// 0 changed, 1 added, 2 deleted.
    pub kind: u8,
}

/// The image that a commit made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct CommitResponse {
    pub id: String,
}
