//! What an archive says about itself: `manifest.json` (docker-archive) or `index.json` (OCI layout).

use super::load::{LoadOptions, blob_path};
use super::platforms::{Others, choose, wanted};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::images::NewManifest;
use crate::tar::{Entry, Kind};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Memory for the documents of one archive.
const DOCUMENTS: usize = 64 << 20;
/// An index may point to an index, but not for ever.
const DEPTH: usize = 4;
/// Links between the archive's own files are followed so often.
const LINKS: usize = 16;

/// Full name of an image, written by containerd and Docker.
pub(super) const FULL_NAME: &str = "io.containerd.image.name";
/// Tag or full name of an image, from the OCI image spec.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Marks provenance and signatures that BuildKit puts beside images.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// One element of docker-archive's `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    pub config: String,
    pub repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub layers: Option<Vec<String>>,
}

/// A pointer to a blob.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Version in `oci-layout` (OCI image layout 1.1).
const LAYOUT_VERSION: &str = "1.0.0";

/// `oci-layout`.
#[derive(Deserialize)]
struct Layout {
    #[serde(default, rename = "imageLayoutVersion")]
    version: String,
}

/// `index.json`, and indexes below it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

/// An image manifest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageManifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    pub config: Descriptor,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
}

/// One image that the archive promises.
#[derive(Debug)]
pub(super) struct Wanted {
    pub config: Vec<u8>,
    /// File names, bottom first.
    pub layers: Vec<String>,
    pub manifest: Option<NewManifest>,
    pub names: Vec<String>,
}

/// Documents and links of an archive.
#[derive(Default)]
pub(super) struct Collected {
    documents: HashMap<String, Vec<u8>>,
    links: HashMap<String, String>,
    bytes: usize,
}

/// A name of the outer archive without `.` and `..`; it must not lead above the archive's root.
pub(super) fn clean_name(entry: &Entry) -> Result<String> {
    let refuse = |reason: &str| Error::BadEntry {
        entry: entry.display(),
        reason: reason.to_owned(),
    };
    let name = std::str::from_utf8(&entry.name).map_err(|_| refuse("its name is not UTF-8"))?;
    join("", name).ok_or_else(|| refuse("its name leads outside of the archive"))
}

/// Joins lexically; `None` if that leads above the root.
fn join(dir: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    let absolute = name.starts_with('/');
    for part in dir.split('/').filter(|_| !absolute).chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn bad(reason: impl Into<String>) -> Error {
    Error::BadArchive { reason: reason.into() }
}

impl Collected {
    pub fn document(&mut self, name: &str, bytes: Vec<u8>) -> Result<()> {
        self.bytes += bytes.len();
        if self.bytes > DOCUMENTS {
            return Err(Error::Limit {
                what: "the documents of an image archive in bytes",
                limit: DOCUMENTS as u64,
            });
        }
        self.documents.insert(name.to_owned(), bytes);
        Ok(())
    }

    /// Old docker-archives and skopeo name a layer a second time by a link.
    pub fn link(&mut self, name: String, entry: &Entry) -> Result<()> {
        let target = std::str::from_utf8(&entry.link).ok();
        let dir = match entry.kind {
            Kind::Symlink => name.rsplit_once('/').map_or("", |(dir, _)| dir),
            _ => "",
        };
        let target = target
            .and_then(|target| join(dir, target))
            .ok_or_else(|| Error::BadEntry {
                entry: entry.display(),
                reason: "its link leads outside of the archive".to_owned(),
            })?;
        self.links.insert(name, target);
        Ok(())
    }

    /// The file behind a name of `manifest.json`.
    pub fn resolve(&self, name: &str) -> String {
        let mut name = join("", name).unwrap_or_default();
        for _ in 0..LINKS {
            match self.links.get(&name) {
                Some(target) => name = target.clone(),
                None => break,
            }
        }
        name
    }

    fn get(&self, name: &str) -> Option<&Vec<u8>> {
        self.documents.get(&self.resolve(name))
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn parse<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<Option<T>> {
        let Some(bytes) = self.get(name) else { return Ok(None) };
        serde_json::from_slice(bytes)
            .map(Some)
            .map_err(|e| bad(format!("{name} does not parse: {e}")))
    }

    /// All images. `manifest.json` says best which names belong to which; the OCI manifest beside it is kept where both
    /// speak of the same image.
    pub fn images(&self, options: &LoadOptions<'_>, limit: u64) -> Result<Vec<Wanted>> {
        let index: Option<Index> = self.parse("index.json")?;
        let docker: Option<Vec<DockerImage>> = self.parse("manifest.json")?;
        if index.is_none() && docker.is_none() {
            return Err(bad(if self.documents.contains_key("repositories") {
                "it has the layout of Docker 1.9 and older (no manifest.json), which is not supported; load and save it with a newer docker first"
            } else {
                "it has neither manifest.json nor index.json; to make an image of a file system's tar, import it"
            }));
        }
        let layout: Option<Layout> = self.parse("oci-layout")?;
        // The one version there is; a later one may mean something else by the same names.
        if docker.is_none() && layout.as_ref().is_some_and(|layout| layout.version != LAYOUT_VERSION) {
            return Err(bad(format!(
                "it has an OCI layout of another version than {LAYOUT_VERSION}, which is not supported"
            )));
        }
        let mut others = Others::default();
        let mut from_index = Vec::new();
        if let Some(index) = &index {
            // With a manifest.json beside it, what cannot be used in the index is not needed.
            match self.index_images(index, options) {
                Ok(images) => from_index = images,
                Err(error) if docker.is_none() => return Err(error),
                Err(Error::OtherPlatform { offered, .. }) => others.merge(offered),
                Err(_) => {}
            }
        }
        let Some(docker) = docker else { return Ok(from_index) };
        let mut images = Vec::new();
        for one in docker {
            let config = self.get(&one.config).ok_or_else(|| {
                bad(format!(
                    "it lacks the configuration {} (or that is larger than {limit} bytes)",
                    one.config
                ))
            })?;
            if !wanted(config, options, &mut others)? {
                continue;
            }
            let names = one.repo_tags.unwrap_or_default();
            let names = names
                .iter()
                .map(|name| normalise(options, name))
                .collect::<Result<Vec<_>>>()?;
            let same = from_index.iter().find(|other| other.config == *config);
            images.push(Wanted {
                config: config.clone(),
                layers: one.layers.unwrap_or_default(),
                manifest: same.and_then(|other| other.manifest.clone()),
                names,
            });
        }
        if options.only {
            // Docker lists one platform of an image in manifest.json, and may have others in the index.
            from_index.retain(|other| !images.iter().any(|image| image.config == other.config));
            images.append(&mut from_index);
        }
        if images.is_empty() && !others.is_empty() {
            return Err(others.error(options));
        }
        Ok(images)
    }

    fn index_images(&self, index: &Index, options: &LoadOptions<'_>) -> Result<Vec<Wanted>> {
        let fitting = index
            .manifests
            .iter()
            .any(|d| d.platform.as_ref().is_some_and(|p| p.fits(options)));
        let mut others = Others::default();
        let mut images = Vec::new();
        for descriptor in &index.manifests {
            if is_attestation(descriptor) {
                continue;
            }
            // Several platforms of one name: ours, if it is there. A lone foreign image is loaded all the same.
            if let Some(platform) = &descriptor.platform
                && (fitting || options.only)
                && !platform.fits(options)
            {
                others.add(platform);
                continue;
            }
            let mut image = match self.described(descriptor, options, 0) {
                Ok(image) => image,
                Err(Error::OtherPlatform { offered, .. }) if options.only => {
                    others.merge(offered);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !wanted(&image.config, options, &mut others)? {
                continue;
            }
            let annotations = descriptor.annotations.iter();
            let mut names: Vec<&String> = annotations.clone().filter_map(|a| a.get(FULL_NAME)).collect();
            if names.is_empty() {
                // A bare tag ("latest") names nothing.
                names.extend(
                    annotations
                        .filter_map(|a| a.get(REF_NAME))
                        .filter(|n| n.contains(['/', ':'])),
                );
            }
            image.names = names
                .into_iter()
                .map(|name| normalise(options, name))
                .collect::<Result<_>>()?;
            match images
                .iter_mut()
                .find(|other: &&mut Wanted| other.config == image.config)
            {
                Some(other) => other.names.append(&mut image.names),
                None => images.push(image),
            }
        }
        if images.is_empty() && options.only && !others.is_empty() {
            return Err(others.error(options));
        }
        if images.is_empty() {
            return Err(bad("its index.json names no image"));
        }
        Ok(images)
    }

    fn described(&self, descriptor: &Descriptor, options: &LoadOptions<'_>, depth: usize) -> Result<Wanted> {
        let path = blob_path(descriptor);
        let bytes = self
            .get(&path)
            .ok_or_else(|| bad(format!("it lacks the manifest {}", descriptor.digest)))?;
        let parsed = |e: serde_json::Error| bad(format!("manifest {} does not parse: {e}", descriptor.digest));
        match descriptor.media_type.as_str() {
            OCI_INDEX | DOCKER_LIST if depth < DEPTH => {
                let index: Index = serde_json::from_slice(bytes).map_err(parsed)?;
                let chosen = choose(self, &index, options)?;
                self.described(chosen, options, depth + 1)
            }
            OCI_INDEX | DOCKER_LIST => Err(bad("its indexes are nested too deeply")),
            OCI_MANIFEST | DOCKER_MANIFEST => {
                let manifest: ImageManifest = serde_json::from_slice(bytes).map_err(parsed)?;
                let config = self.get(&blob_path(&manifest.config)).ok_or_else(|| {
                    bad(format!(
                        "it lacks the configuration {}, or that is no image's",
                        manifest.config.digest
                    ))
                })?;
                let media_type = descriptor.media_type.clone();
                Ok(Wanted {
                    config: config.clone(),
                    layers: manifest.layers.iter().map(blob_path).collect(),
                    manifest: Some(NewManifest {
                        media_type,
                        bytes: bytes.clone(),
                    }),
                    names: Vec::new(),
                })
            }
            other => Err(bad(format!(
                "manifest {} has the unsupported media type {other:?}",
                descriptor.digest
            ))),
        }
    }
}

pub(super) fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor
        .annotations
        .as_ref()
        .is_some_and(|a| a.contains_key(ATTESTATION))
}

fn normalise(options: &LoadOptions<'_>, name: &str) -> Result<String> {
    (options.normalise)(name).ok_or_else(|| {
        let shown: String = name.chars().take(300).collect();
        bad(format!("it names an image {shown:?}, which is not a valid reference"))
    })
}
