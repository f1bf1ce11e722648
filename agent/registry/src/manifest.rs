//! What a registry serves under a tag: an index of platforms or one image's manifest, and the image's config.
//!
//! Everything here is pure: bytes in, checked types out. A document that could be read in two ways (CVE-2021-41190) is
//! refused, whichever way we would have read it.

use base64::Engine as _;
use serde::Deserialize;

use crate::digest::Digest;
use crate::platform::Platform;

/// Media types that we ask for and understand.
pub mod media {
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image config.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker manifest, schema 1, in its two forms: refused.
    pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
    /// The signed form of [`DOCKER_SCHEMA1`].
    pub const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
}

/// Why a document of a registry cannot be used as an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// No JSON, or not of the right shape.
    #[error("the {what} is not valid JSON of its kind: {why}")]
    Json {
        /// `manifest`, `index`, `image config`.
        what: &'static str,
        /// Where and why, from the parser.
        why: String,
    },
    /// Both an index and a manifest, or told by its media type to be the other one.
    #[error("the manifest can be read in two ways ({0}); refused, because two tools would see two images")]
    Ambiguous(String),
    /// The old format.
    #[error("manifest schema 1 is not supported: push the image again with a current tool (OCI or schema 2)")]
    Schema1,
    /// Some other document.
    #[error("unsupported manifest media type {0:?}")]
    MediaType(String),
    /// A manifest that describes something else: a chart, a signature, a plugin.
    #[error("not a container image but an artifact of type {0:?}: it has no image config")]
    Artifact(String),
    /// A layer of a type that cannot be unpacked.
    #[error("layer {digest} has the unsupported media type {media_type:?}")]
    LayerType {
        /// The layer.
        digest: Digest,
        /// What it claims to be.
        media_type: String,
    },
    /// A layer that the registry does not have.
    #[error(
        "layer {digest} is a foreign layer ({media_type}): its content is not in the registry, and fetching it from \
         elsewhere is not supported"
    )]
    ForeignLayer {
        /// The layer.
        digest: Digest,
        /// One of the "foreign" or "nondistributable" types.
        media_type: String,
    },
    /// A wrong size or digest in a descriptor.
    #[error("the {what} has a bad descriptor: {why}")]
    Descriptor {
        /// Where.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The config does not belong to the manifest.
    #[error("the manifest has {layers} layers, but the image config names {diff_ids}")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the config.
        diff_ids: usize,
    },
    /// Indexes in indexes in indexes.
    #[error("the image index is nested too deeply")]
    Nested,
}

/// How a layer's tar is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// One layer of an image: where to get it and how to check it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LayerDesc {
    /// Of the bytes that the registry sends.
    pub digest: Digest,
    /// In bytes, as the registry sends it.
    pub size: u64,
    /// As the manifest says.
    pub media_type: String,
    /// From the media type.
    pub compression: Compression,
    /// Digest of the uncompressed tar, from the image config.
    pub diff_id: Digest,
}

/// Reference to content by digest.
#[derive(Debug, Clone)]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) platform: Option<Platform>,
    /// The content itself, where the manifest embeds it and it is right.
    pub(crate) data: Option<Vec<u8>>,
}

/// A manifest of either kind, checked.
#[derive(Debug, Clone)]
pub(crate) enum Document {
    Index(Vec<Descriptor>),
    Image {
        config: Descriptor,
        layers: Vec<Descriptor>,
    },
}

/// What of an image config matters for a pull.
#[derive(Debug, Clone)]
pub(crate) struct ImageConfig {
    pub(crate) platform: Option<Platform>,
    pub(crate) diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: Option<u32>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    // Only schema 1 has these.
    fs_layers: Option<serde::de::IgnoredAny>,
    history: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: i64,
    platform: Option<RawPlatform>,
    data: Option<String>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    variant: Option<String>,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    variant: Option<String>,
    rootfs: Option<RawRootfs>,
}

#[derive(Deserialize)]
struct RawRootfs {
    diff_ids: Option<Vec<String>>,
}

impl RawDescriptor {
    fn check(self, what: &'static str) -> Result<Descriptor, ManifestError> {
        let wrong = |why: String| ManifestError::Descriptor { what, why };
        let digest =
            Digest::parse(&self.digest).map_err(|error| wrong(format!("digest {:?}: {error}", self.digest)))?;
        let size = u64::try_from(self.size).map_err(|_| wrong(format!("size {} of {digest}", self.size)))?;
        let data = self
            .data
            .and_then(|data| base64::engine::general_purpose::STANDARD.decode(data).ok())
            .filter(|data| data.len() as u64 == size && digest.matches(data));
        let platform = self.platform.and_then(RawPlatform::check);
        Ok(Descriptor {
            media_type: self.media_type,
            digest,
            size,
            platform,
            data,
        })
    }
}

impl RawPlatform {
    fn check(self) -> Option<Platform> {
        // `unknown/unknown` is what BuildKit writes on attestations, so that nobody picks them.
        (!self.os.is_empty() && !self.architecture.is_empty())
            .then(|| Platform::new(&self.os, &self.architecture, self.variant.as_deref()))
    }
}

/// Read what came for a manifest request. `content_type` is the header of the answer.
pub(crate) fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<(String, Document), ManifestError> {
    let header = content_type.map(essence).filter(|header| is_manifest_type(header));
    if matches!(
        header.as_deref(),
        Some(media::DOCKER_SCHEMA1 | media::DOCKER_SCHEMA1_SIGNED)
    ) {
        return Err(ManifestError::Schema1);
    }
    let raw: RawDocument = serde_json::from_slice(bytes).map_err(|error| ManifestError::Json {
        what: "manifest",
        why: error.to_string(),
    })?;
    if raw.schema_version == Some(1) || raw.fs_layers.is_some() {
        return Err(ManifestError::Schema1);
    }
    let written = raw.media_type.as_deref().map(essence).filter(|text| !text.is_empty());
    if let (Some(header), Some(written)) = (&header, &written)
        && header != written
    {
        return Err(ManifestError::Ambiguous(format!(
            "sent as {header}, written as {written}"
        )));
    }
    let is_index = raw.manifests.is_some();
    let is_image = raw.config.is_some() || raw.layers.is_some();
    if is_index && is_image {
        return Err(ManifestError::Ambiguous(
            "it has manifests as well as config or layers".to_owned(),
        ));
    }
    if raw.history.is_some() && !is_index && !is_image {
        return Err(ManifestError::Schema1);
    }
    let media_type = match written.or(header) {
        Some(media_type) => media_type,
        None if is_index => media::OCI_INDEX.to_owned(),
        None if is_image => media::OCI_MANIFEST.to_owned(),
        None => return Err(ManifestError::MediaType(content_type.unwrap_or_default().to_owned())),
    };
    match media_type.as_str() {
        media::OCI_INDEX | media::DOCKER_LIST if !is_image => {
            let entries = raw.manifests.unwrap_or_default();
            let entries = entries
                .into_iter()
                .map(|entry| entry.check("image index"))
                .collect::<Result<_, _>>()?;
            Ok((media_type, Document::Index(entries)))
        }
        media::OCI_MANIFEST | media::DOCKER_MANIFEST if !is_index => {
            let document = image(raw.config, raw.layers, raw.artifact_type)?;
            Ok((media_type, document))
        }
        media::OCI_INDEX | media::DOCKER_LIST | media::OCI_MANIFEST | media::DOCKER_MANIFEST => Err(
            ManifestError::Ambiguous(format!("its fields do not fit the media type {media_type}")),
        ),
        media::DOCKER_SCHEMA1 | media::DOCKER_SCHEMA1_SIGNED => Err(ManifestError::Schema1),
        _ => Err(ManifestError::MediaType(media_type)),
    }
}

fn image(
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    artifact_type: Option<String>,
) -> Result<Document, ManifestError> {
    let Some(config) = config else {
        return Err(ManifestError::Artifact(
            artifact_type.unwrap_or_else(|| "unknown".to_owned()),
        ));
    };
    let config = config.check("image manifest")?;
    // Some old pushers wrote no type or a general one on image configs.
    let is_config = matches!(
        essence(&config.media_type).as_str(),
        media::OCI_CONFIG | media::DOCKER_CONFIG | "application/octet-stream" | ""
    );
    if !is_config {
        return Err(ManifestError::Artifact(artifact_type.unwrap_or(config.media_type)));
    }
    let layers = layers.unwrap_or_default().into_iter();
    let layers = layers
        .map(|layer| layer.check("image manifest"))
        .collect::<Result<_, _>>()?;
    Ok(Document::Image { config, layers })
}

/// Read an image config.
pub(crate) fn parse_config(bytes: &[u8]) -> Result<ImageConfig, ManifestError> {
    let wrong = |why: String| ManifestError::Json {
        what: "image config",
        why,
    };
    let raw: RawConfig = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
    let diff_ids = raw.rootfs.and_then(|rootfs| rootfs.diff_ids).unwrap_or_default();
    let diff_ids = diff_ids
        .iter()
        .map(|id| Digest::parse(id).map_err(|error| wrong(format!("diff id {id:?}: {error}"))));
    let diff_ids = diff_ids.collect::<Result<_, _>>()?;
    let platform = RawPlatform {
        architecture: raw.architecture,
        os: raw.os,
        variant: raw.variant,
    }
    .check();
    Ok(ImageConfig { platform, diff_ids })
}

/// The layers of a manifest with the diff ids of its config.
pub(crate) fn layers(layers: Vec<Descriptor>, config: &ImageConfig) -> Result<Vec<LayerDesc>, ManifestError> {
    // Told first, since an artifact's config has no diff ids and its count would be the less helpful reason.
    let packed: Vec<Compression> = layers.iter().map(compression).collect::<Result<_, _>>()?;
    if layers.len() != config.diff_ids.len() {
        return Err(ManifestError::LayerCount {
            layers: layers.len(),
            diff_ids: config.diff_ids.len(),
        });
    }
    let all = layers.into_iter().zip(packed).zip(&config.diff_ids);
    Ok(all
        .map(|((layer, compression), diff_id)| LayerDesc {
            digest: layer.digest,
            size: layer.size,
            media_type: layer.media_type,
            compression,
            diff_id: diff_id.clone(),
        })
        .collect())
}

fn compression(layer: &Descriptor) -> Result<Compression, ManifestError> {
    match essence(&layer.media_type).as_str() {
        "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => {
            Ok(Compression::None)
        }
        "application/vnd.oci.image.layer.v1.tar+gzip" | "application/vnd.docker.image.rootfs.diff.tar.gzip" => {
            Ok(Compression::Gzip)
        }
        "application/vnd.oci.image.layer.v1.tar+zstd" | "application/vnd.docker.image.rootfs.diff.tar.zstd" => {
            Ok(Compression::Zstd)
        }
        other
            if other.starts_with("application/vnd.docker.image.rootfs.foreign.")
                || other.contains(".nondistributable.") =>
        {
            Err(ManifestError::ForeignLayer {
                digest: layer.digest.clone(),
                media_type: layer.media_type.clone(),
            })
        }
        _ => Err(ManifestError::LayerType {
            digest: layer.digest.clone(),
            media_type: layer.media_type.clone(),
        }),
    }
}

/// The media type without parameters, in lower case.
fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// Whether a Content-Type says anything about manifests; `text/plain` and `application/json` do not.
fn is_manifest_type(essence: &str) -> bool {
    essence.starts_with("application/vnd.oci.image.")
        || essence.starts_with("application/vnd.docker.distribution.manifest.")
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
