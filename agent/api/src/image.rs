//! What the daemon says about images.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::container::GraphDriver;
use crate::create::HealthConfig;
use crate::time::Time;
use crate::{Set, StringMap, omit};

/// One row of `GET /images/json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
#[schemars(rename = "ImageSummary")]
pub struct Summary {
    /// `-1` unless asked for; a count from API 1.51 on.
    pub containers: i64,
    /// Unix seconds.
    pub created: i64,
    pub id: String,
    pub labels: Option<StringMap>,
    pub parent_id: String,
    pub repo_digests: Vec<String>,
    pub repo_tags: Vec<String>,
    /// `-1` unless asked for.
    pub shared_size: i64,
    pub size: i64,
    /// Below API 1.44: the same as `size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// Only if asked for, from API 1.47 on.
    #[serde(skip_serializing_if = "omit::list")]
    pub manifests: Option<Vec<ManifestSummary>>,
}

/// One manifest of an image, with what of it is here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestSummary {
    /// Digest of the manifest.
    #[serde(rename = "ID")]
    pub id: String,
    pub descriptor: Descriptor,
    /// Everything it names is here.
    pub available: bool,
    pub size: ManifestSize,
    /// `image`, `attestation` or `unknown`.
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_data: Option<ManifestImage>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestSize {
    pub total: i64,
    /// What is kept in the form in which it travels.
    pub content: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestImage {
    pub platform: Platform,
    /// Ids of its containers.
    pub containers: Vec<String>,
    pub size: UnpackedSize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct UnpackedSize {
    pub unpacked: i64,
}

/// One row of `GET /images/search`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SearchResult {
    pub star_count: i64,
    pub is_official: bool,
    pub name: String,
    /// Always false: registries no longer build.
    pub is_automated: bool,
    pub description: String,
}

/// An OCI content descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: i64,
    #[serde(skip_serializing_if = "omit::map")]
    pub annotations: Option<StringMap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// A platform, as in OCI and in the `platform` query values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "lowercase")]
pub struct Platform {
    pub architecture: String,
    pub os: String,
    #[serde(rename = "os.version", skip_serializing_if = "omit::zero")]
    pub os_version: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub variant: String,
}

/// `GET /images/{name}/json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
#[schemars(rename = "ImageInspect")]
pub struct Inspect {
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    /// Of the classic builder; gone from API 1.53 when empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    pub comment: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_version: Option<String>,
    pub author: String,
    pub architecture: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub variant: String,
    pub os: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub os_version: String,
    pub size: i64,
    /// Below API 1.44: the same as `size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<GraphDriver>,
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    pub metadata: Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// Only if asked for, from API 1.48 on.
    #[serde(skip_serializing_if = "omit::list")]
    pub manifests: Option<Vec<ManifestSummary>>,
    pub config: Option<ImageConfig>,
    /// Below API 1.45: id of the build container, and its configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_config: Option<crate::create::Config>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct RootFs {
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(skip_serializing_if = "omit::list")]
    pub layers: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct Metadata {
    pub last_tag_time: Time,
}

/// An image's defaults for containers, in dockerd's order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    #[serde(skip_serializing_if = "omit::zero")]
    pub args_escaped: bool,
    pub cmd: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub env: Option<Vec<String>>,
    #[serde(skip_serializing_if = "omit::map")]
    pub exposed_ports: Option<Set>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    pub labels: Option<StringMap>,
    pub on_build: Option<Vec<String>>,
    #[serde(skip_serializing_if = "omit::list")]
    pub shell: Option<Vec<String>>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub stop_signal: String,
    pub user: String,
    pub volumes: Option<Set>,
    pub working_dir: String,

    // Below API 1.50: members that mean nothing for an image and were written as zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attach_stdin: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attach_stdout: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attach_stderr: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_stdin: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin_once: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

impl ImageConfig {
    /// Adds the members that API versions below 1.50 carried.
    pub fn add_legacy(&mut self) {
        self.hostname = Some(String::new());
        self.domainname = Some(String::new());
        self.image = Some(String::new());
        for flag in [
            &mut self.attach_stdin,
            &mut self.attach_stdout,
            &mut self.attach_stderr,
            &mut self.tty,
            &mut self.open_stdin,
            &mut self.stdin_once,
        ] {
            *flag = Some(false);
        }
    }
}

/// One step of `GET /images/{name}/history`, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct HistoryItem {
    pub comment: String,
    /// Unix seconds.
    pub created: i64,
    pub created_by: String,
    /// `<missing>` for all but the newest.
    pub id: String,
    pub size: i64,
    pub tags: Option<Vec<String>>,
}

/// One thing that `DELETE /images/{name}` or prune did: exactly one member is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeleteItem {
    #[serde(skip_serializing_if = "omit::zero")]
    pub deleted: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub untagged: String,
}

/// `POST /images/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
#[schemars(rename = "ImagesPruned")]
pub struct PruneReport {
    pub images_deleted: Option<Vec<DeleteItem>>,
    pub space_reclaimed: u64,
}

/// The part of an image's own configuration file that clients of archives read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct ArchiveManifest {
    pub config: String,
    pub repo_tags: Option<Vec<String>>,
    pub layers: Vec<String>,
    #[serde(skip_serializing_if = "omit::map")]
    pub layer_sources: Option<BTreeMap<String, Descriptor>>,
}
