//! Saving: one tar that is an OCI layout and a docker-archive at once.
//!
//! Documents stand in front of the layers, so that a reader of a stream knows early what is to come. Layers are the
//! uncompressed tars, rebuilt from the trees: a thread reads ahead while the caller's thread writes.

use super::documents::{Descriptor, DockerImage, FULL_NAME, ImageManifest, Index, REF_NAME};
use super::load::blob_path;
use super::writer::TarWriter;
use crate::digest::{ChainId, Digest};
use crate::error::{Error, Result};
use crate::image::{Image, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use crate::layers::Layer;
use crate::rebuild::LayerTar;
use crate::store::Store;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

/// Buffers between the thread that reads files and the one that writes the archive.
const BUFFERS: usize = 4;
/// Bytes of each.
const BUFFER: usize = 512 << 10;

/// An image to save, with the names that the archive shall carry.
#[derive(Debug, Clone)]
pub struct SaveImage {
    /// Which.
    pub image: Arc<Image>,
    /// None: it is saved by id.
    pub names: Vec<SaveName>,
}

/// A name in both of its forms.
#[derive(Debug, Clone)]
pub struct SaveName {
    /// `busybox:1`, for `manifest.json` and `repositories`.
    pub familiar: String,
    /// `docker.io/library/busybox:1`, for `index.json`.
    pub normalised: String,
}

pub(super) fn save(store: &Store, images: &[SaveImage], writer: impl Write) -> Result<()> {
    let lease = store.lease();
    for chain in images.iter().flat_map(|i| &i.image.chain) {
        lease.hold(chain);
    }
    let mut plan = Plan::default();
    for one in images {
        plan.add(store, one)?;
    }
    let mut tar = TarWriter::new(writer);
    tar.dir("blobs/")?;
    tar.dir("blobs/sha256/")?;
    for (path, bytes) in &plan.blobs {
        tar.file(path, bytes)?;
    }
    let index = Index {
        schema_version: 2,
        media_type: OCI_INDEX.to_owned(),
        manifests: plan.manifests,
    };
    tar.file("index.json", &json(&index))?;
    tar.file("manifest.json", &json(&plan.docker))?;
    tar.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    if !plan.repositories.is_empty() {
        tar.file("repositories", &json(&plan.repositories))?;
    }
    for (path, layer) in &plan.layers {
        tar.begin_file(path, layer.tar_bytes)?;
        copy(store.layers().tar(&layer.chain)?, &mut tar)?;
        tar.end_file(layer.tar_bytes)?;
    }
    tar.finish()
}

/// Reads ahead on a second thread.
fn copy(mut source: LayerTar, tar: &mut TarWriter<impl Write>) -> Result<()> {
    if source.size() <= BUFFER as u64 {
        return source.write_to(tar.raw()).map(drop);
    }
    std::thread::scope(|scope| {
        let (full, filled) = sync_channel::<Result<Vec<u8>>>(BUFFERS);
        let (back, empty) = sync_channel::<Vec<u8>>(BUFFERS);
        for _ in 0..BUFFERS {
            drop(back.send(vec![0; BUFFER]));
        }
        let reader = std::thread::Builder::new()
            .name("store-read".into())
            .spawn_scoped(scope, move || {
                // Ends when the writer has failed and dropped its end.
                while let Ok(mut buffer) = empty.recv() {
                    buffer.resize(BUFFER, 0);
                    let read = source.fill(&mut buffer).map(|n| {
                        buffer.truncate(n);
                        buffer
                    });
                    let last = read.as_ref().map_or(true, Vec::is_empty);
                    if full.send(read).is_err() || last {
                        return;
                    }
                }
            });
        reader.map_err(|source| Error::Sink {
            what: "the archive (no thread to read with)",
            source,
        })?;
        while let Ok(buffer) = filled.recv() {
            let buffer = buffer?;
            if buffer.is_empty() {
                break;
            }
            tar.raw().write_all(&buffer).map_err(|source| Error::Sink {
                what: "the archive",
                source,
            })?;
            drop(back.try_send(buffer));
        }
        Ok(())
    })
}

#[derive(Default)]
struct Plan {
    blobs: Vec<(String, Vec<u8>)>,
    layers: Vec<(String, Arc<Layer>)>,
    seen: HashSet<String>,
    manifests: Vec<Descriptor>,
    docker: Vec<DockerImage>,
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

impl Plan {
    fn add(&mut self, store: &Store, one: &SaveImage) -> Result<()> {
        let image = &one.image;
        let ImageManifest { config, layers, .. } = describe(store, image)?;
        for (chain, descriptor) in image.chain.iter().zip(&layers) {
            let path = blob_path(descriptor);
            if self.seen.insert(path.clone()) {
                self.layers.push((path, layer(store, chain)?));
            }
        }
        self.blob(&config, image.config.clone());
        let manifest = manifest(store, image)?;
        let descriptor = plain(OCI_MANIFEST, Digest::of(&manifest), manifest.len() as u64);
        self.blob(&descriptor, manifest);
        for name in &one.names {
            let tag = name
                .normalised
                .rsplit_once(':')
                .map_or("latest", |(_, tag)| tag)
                .to_owned();
            let annotations = BTreeMap::from([
                (FULL_NAME.to_owned(), name.normalised.clone()),
                (REF_NAME.to_owned(), tag.clone()),
            ]);
            self.manifests.push(Descriptor {
                annotations: Some(annotations),
                ..descriptor.clone()
            });
            if let (Some((repository, _)), Some(top)) = (name.familiar.rsplit_once(':'), layers.last()) {
                let tags = self.repositories.entry(repository.to_owned()).or_default();
                tags.insert(tag, top.digest.hex().to_owned());
            }
        }
        if one.names.is_empty() {
            self.manifests.push(descriptor);
        }
        self.docker.push(DockerImage {
            config: blob_path(&config),
            repo_tags: (!one.names.is_empty()).then(|| one.names.iter().map(|n| n.familiar.clone()).collect()),
            layers: Some(layers.iter().map(blob_path).collect()),
        });
        Ok(())
    }

    fn blob(&mut self, descriptor: &Descriptor, bytes: Vec<u8>) {
        let path = blob_path(descriptor);
        if self.seen.insert(path.clone()) {
            self.blobs.push((path, bytes));
        }
    }
}

fn layer(store: &Store, chain: &ChainId) -> Result<Arc<Layer>> {
    let found = store.layers().get(chain);
    found.ok_or_else(|| Error::NoSuchLayer { chain: chain.clone() })
}

/// What the image is made of, with its layers as uncompressed tars.
fn describe(store: &Store, image: &Image) -> Result<ImageManifest> {
    let mut layers = Vec::new();
    for (chain, diff_id) in image.chain.iter().zip(&image.parsed.rootfs.diff_ids) {
        let tar_bytes = layer(store, chain)?.tar_bytes;
        layers.push(plain(OCI_LAYER, diff_id.clone(), tar_bytes));
    }
    Ok(ImageManifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.to_owned(),
        config: plain(OCI_CONFIG, image.id.clone(), image.config.len() as u64),
        layers,
    })
}

/// The manifest under which `save` writes the image.
pub(super) fn manifest(store: &Store, image: &Image) -> Result<Vec<u8>> {
    Ok(json(&describe(store, image)?))
}

fn plain(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        platform: None,
        annotations: None,
    }
}

fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("documents have string keys only")
}
