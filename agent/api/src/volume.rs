//! Volumes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{StringMap, omit};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct Volume {
    /// RFC 3339 with whole seconds.
    #[serde(skip_serializing_if = "omit::zero")]
    pub created_at: String,
    pub driver: String,
    pub labels: Option<StringMap>,
    pub mountpoint: String,
    pub name: String,
    pub options: Option<StringMap>,
    pub scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Value>,
    /// In `system/df` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_data: Option<UsageData>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct UsageData {
    /// `-1` when unknown.
    pub ref_count: i64,
    /// Bytes; `-1` when unknown.
    pub size: i64,
}

/// `GET /volumes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeList {
    pub volumes: Vec<Volume>,
    pub warnings: Option<Vec<String>>,
}

/// `POST /volumes/create`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeCreate {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_volume_spec: Option<Value>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub driver: String,
    #[serde(skip_serializing_if = "omit::map")]
    pub driver_opts: Option<StringMap>,
    #[serde(skip_serializing_if = "omit::map")]
    pub labels: Option<StringMap>,
    /// Empty for a name of the daemon's making.
    #[serde(skip_serializing_if = "omit::zero")]
    pub name: String,
}

/// `POST /volumes/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
#[schemars(rename = "VolumesPruned")]
pub struct PruneReport {
    pub volumes_deleted: Option<Vec<String>>,
    pub space_reclaimed: u64,
}
