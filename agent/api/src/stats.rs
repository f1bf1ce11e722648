//! `GET /containers/{id}/stats`. Members stand in the order dockerd writes them; what is zero is mostly left out.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Time;
use crate::{Empty, omit};

/// One sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Stats {
    #[serde(skip_serializing_if = "omit::zero")]
    pub name: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub id: String,
    /// From API 1.52 on.
    #[serde(skip_serializing_if = "omit::zero")]
    pub os_type: String,
    pub read: Time,
    pub preread: Time,
    pub pids_stats: Pids,
    pub blkio_stats: Blkio,
    /// Only Windows counts them here.
    pub num_procs: u32,
    /// Only Windows fills it.
    pub storage_stats: Empty,
    pub cpu_stats: Cpu,
    /// Those of the sample before.
    pub precpu_stats: Cpu,
    pub memory_stats: Memory,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, Traffic>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Pids {
    #[serde(skip_serializing_if = "omit::zero")]
    pub current: u64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub limit: u64,
}

/// On cgroup v2 only the first is filled; the others are `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Blkio {
    pub io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
    pub io_serviced_recursive: Option<Vec<BlkioEntry>>,
    pub io_queue_recursive: Option<Vec<BlkioEntry>>,
    pub io_service_time_recursive: Option<Vec<BlkioEntry>>,
    pub io_wait_time_recursive: Option<Vec<BlkioEntry>>,
    pub io_merged_recursive: Option<Vec<BlkioEntry>>,
    pub io_time_recursive: Option<Vec<BlkioEntry>>,
    pub sectors_recursive: Option<Vec<BlkioEntry>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BlkioEntry {
    pub major: u64,
    pub minor: u64,
    pub op: String,
    pub value: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Cpu {
    pub cpu_usage: CpuUsage,
    #[serde(skip_serializing_if = "omit::zero")]
    pub system_cpu_usage: u64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub online_cpus: u32,
    pub throttling_data: Throttling,
}

/// Nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CpuUsage {
    pub total_usage: u64,
    /// On cgroup v1 only.
    #[serde(skip_serializing_if = "omit::list")]
    pub percpu_usage: Option<Vec<u64>>,
    pub usage_in_kernelmode: u64,
    pub usage_in_usermode: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Throttling {
    pub periods: u64,
    pub throttled_periods: u64,
    /// Nanoseconds.
    pub throttled_time: u64,
}

/// Bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Memory {
    #[serde(skip_serializing_if = "omit::zero")]
    pub usage: u64,
    /// On cgroup v1 only.
    #[serde(skip_serializing_if = "omit::zero")]
    pub max_usage: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stats: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub failcnt: u64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub limit: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Traffic {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}
