//! What an image is: its configuration file, parsed once, and where it came from.

use crate::digest::{ChainId, Digest};
use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// Media type of an OCI manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an OCI index (several platforms).
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of an OCI image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of an uncompressed OCI layer.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Media type of Docker's manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Media type of Docker's manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// An image of the store. Immutable: a changed name makes a new value.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of [`Image::config`]: what people call the image id.
    pub id: Digest,
    /// The configuration file, exactly as it came.
    pub config: Vec<u8>,
    /// The same, parsed.
    pub parsed: ImageConfig,
    /// The layers, bottom first; one for each diff id.
    pub chain: Vec<ChainId>,
    /// The manifest it was pulled or loaded by, if there was one.
    pub manifest: Option<Manifest>,
    /// Bytes of all layers, unpacked (what Docker calls size: the sum of file sizes).
    pub size: u64,
    /// Normalised names, `docker.io/library/busybox:1`, sorted.
    pub names: Vec<String>,
    /// Where it was pulled from, `docker.io/library/busybox@sha256:…`, sorted.
    pub digests: Vec<String>,
    /// Seconds since 1970 when it came into the store.
    pub added: u64,
    /// Nanoseconds since 1970 when it last got a name (0: never).
    pub tagged_ns: i128,
    /// The image that it was made from on this machine, by a build or a commit.
    pub parent: Option<Digest>,
}

/// A manifest as it came from the registry or archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Digest of the bytes.
    pub digest: Digest,
    /// Media type it was announced with.
    pub media_type: String,
    /// Exactly the bytes.
    pub bytes: Vec<u8>,
}

/// The image configuration (`application/vnd.oci.image.config.v1+json` and Docker's superset of it).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// RFC 3339 time of the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who built it.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// GOARCH.
    #[serde(default, deserialize_with = "null_default")]
    pub architecture: String,
    /// GOOS.
    #[serde(default, deserialize_with = "null_default")]
    pub os: String,
    /// `v7`, `v8`, …
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Windows only.
    #[serde(
        rename = "os.version",
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
    /// Docker's: the version of the builder.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub docker_version: String,
    /// Docker's: what `import -m` and `commit -m` said.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// How to run it.
    #[serde(default, deserialize_with = "null_default")]
    pub config: RunConfig,
    /// The layers.
    #[serde(default, deserialize_with = "null_default")]
    pub rootfs: RootFs,
    /// How it was made.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// Layers of an image by diff id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// `layers`
    #[serde(rename = "type", default, deserialize_with = "null_default")]
    pub kind: String,
    /// sha256 of each uncompressed layer, bottom first.
    #[serde(default, deserialize_with = "null_default")]
    pub diff_ids: Vec<Digest>,
}

/// One line of `docker history`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// Who.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// Remark.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// It made no layer.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub empty_layer: bool,
}

/// The `config` object: defaults for containers of this image. `None` where the file has nothing or `null`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `user[:group]`, names or numbers.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp` → empty object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    /// `KEY=value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// What runs first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Arguments or command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Health check, Docker's extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Windows: the command line is one string already.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    /// Path → empty object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, serde_json::Value>>,
    /// Working directory.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Instructions for images built on this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// Labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// `SIGTERM` if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// For shell-form instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// Docker's health check; durations in nanoseconds, zero means "inherit".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["CMD", …]`, `["CMD-SHELL", …]`, `["NONE"]`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
    /// Between checks.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// For one check.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Grace after start.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between checks during the grace.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures until unhealthy.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub retries: i64,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// Go writes `null` for a nil slice, map or pointer; read it as the empty value.
fn null_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> std::result::Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

impl ImageConfig {
    /// Parses a configuration file.
    ///
    /// # Errors
    /// It is not JSON or a field has the wrong type.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig> {
        serde_json::from_slice(bytes).map_err(|e| Error::BadImage {
            id: Digest::of(bytes),
            reason: format!("its configuration does not parse: {e}"),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nulls_as_go_writes_them_are_fine() {
        let text = br#"{"architecture":"amd64","os":"linux","author":null,"history":null,
            "config":{"Cmd":null,"Env":["A=b"],"Volumes":{"/v":{}},"Labels":null,"User":null,"OnBuild":null,
            "Healthcheck":{"Test":["NONE"],"Interval":null}},
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let config = ImageConfig::parse(text).unwrap();
        assert_eq!(config.config.cmd, None);
        assert_eq!(config.config.env, Some(vec!["A=b".to_owned()]));
        assert!(config.config.volumes.unwrap().contains_key("/v"));
        let config = ImageConfig::parse(br#"{"config":null,"rootfs":null}"#).unwrap();
        assert!(config.rootfs.diff_ids.is_empty());
        assert!(ImageConfig::parse(b"{").is_err());
        assert!(ImageConfig::parse(br#"{"rootfs":{"diff_ids":["sha256:../../etc"]}}"#).is_err());
    }
}
