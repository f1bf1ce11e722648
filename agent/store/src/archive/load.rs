//! Loading: one pass over the archive.
//!
//! Layers may stand before the documents that say what they are (skopeo and Docker write them so), so a layer is unpacked
//! where it is met, into a staging folder, and finds its place at the end, when the documents are known. A layer that the
//! store has already is recognised by its name, and only its digest is checked.

use super::documents::{Collected, Descriptor, Wanted, clean_name};
use super::stage::{Staged, Stager};
use crate::decompress;
use crate::digest::{ChainId, Digest};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::images::NewImage;
use crate::layers::Begin;
use crate::lease::Lease;
use crate::pipeline::Unpack;
use crate::store::Store;
use crate::tar::{Kind, TarReader};
use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

/// Entries of an archive of images: far more than any has, few enough to hold their names.
const ENTRIES: u64 = 200_000;

/// How to load.
pub struct LoadOptions<'a> {
    /// Turns a name of the archive (`busybox:1`) into the normalised form; `None` refuses it as malformed.
    pub normalise: &'a dyn Fn(&str) -> Option<String>,
    /// GOARCH to choose where an index offers several platforms.
    pub architecture: String,
    /// Variant to prefer (`v8`); may be empty.
    pub variant: String,
    /// Images of other platforms and variants are left out, as this one was asked for. Else an image for another platform
    /// is loaded where the archive has no choice.
    pub only: bool,
}

/// Progress of a load.
#[derive(Debug, Clone)]
pub enum LoadEvent {
    /// A layer is being unpacked.
    Layer {
        /// Its name in the archive, shortened: what a progress line is called.
        id: String,
        /// Bytes done.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A layer is done.
    LayerDone {
        /// As in [`LoadEvent::Layer`].
        id: String,
    },
}

/// One image of the archive.
#[derive(Debug, Clone)]
pub struct LoadedImage {
    /// The image as it is in the store now.
    pub image: Arc<Image>,
    /// The normalised names that it got from the archive; may be empty.
    pub names: Vec<String>,
    /// For each name that was another image's before: that image.
    pub renamed: Vec<(String, Digest)>,
}

/// What a load brought.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// In the order of the archive.
    pub images: Vec<LoadedImage>,
}

pub(super) fn load(
    store: &Store,
    reader: impl Read,
    options: &LoadOptions<'_>,
    progress: &mut dyn FnMut(LoadEvent),
) -> Result<Loaded> {
    let lease = store.lease();
    let mut installed = Vec::new();
    let loaded = read(store, &lease, reader, options, progress, &mut installed);
    drop(lease);
    if loaded.is_err() && !installed.is_empty() {
        // Layers that were put in place before the failure belong to nobody.
        crate::gc::collect(store, Some(&installed))?;
    }
    loaded
}

fn read(
    store: &Store,
    lease: &Lease,
    reader: impl Read,
    options: &LoadOptions<'_>,
    progress: &mut dyn FnMut(LoadEvent),
    installed: &mut Vec<ChainId>,
) -> Result<Loaded> {
    let limits = store.inner.limits;
    let mut tar = TarReader::new(decompress::plain(reader, "the image archive")?, limits.layer_bytes);
    let mut found = Collected::default();
    let mut stager = Stager::new(store, lease);
    let mut entries = 0;
    while let Some(entry) = tar.next(&mut ())? {
        entries += 1;
        if entries > ENTRIES {
            return Err(Error::Limit {
                what: "the number of entries of an image archive",
                limit: ENTRIES,
            });
        }
        let name = clean_name(&entry)?;
        match entry.kind {
            Kind::File => stager.file(&name, &entry, &mut tar, &mut found, progress)?,
            Kind::Symlink | Kind::HardLink => found.link(name, &entry)?,
            _ => {}
        }
    }
    if entries == 0 {
        return Err(Error::BadArchive {
            reason: "it is empty".to_owned(),
        });
    }
    let wanted = found.images(options, limits.document_bytes)?;
    let mut staged = stager.staged;
    let mut ready = Vec::new();
    for image in wanted {
        ready.push(check(store, image, &found, &staged)?);
    }
    // Everything fits together: from here on only the machine can fail us.
    for (image, diff_ids) in &ready {
        place(store, lease, &image.layers, diff_ids, &mut staged, &found, installed)?;
    }
    let mut loaded = Loaded::default();
    for (image, _) in ready {
        let mut renamed = Vec::new();
        let id = Digest::of(&image.config);
        for name in &image.names {
            match store.images().get(name) {
                Ok(old) if old.id != id => renamed.push((name.clone(), old.id.clone())),
                _ => {}
            }
        }
        let names = image.names.clone();
        let new = NewImage {
            config: image.config,
            manifest: image.manifest,
            names: image.names,
            digests: Vec::new(),
        };
        loaded.images.push(LoadedImage {
            image: store.images().put(new)?,
            names,
            renamed,
        });
    }
    Ok(loaded)
}

/// Compares an image's configuration with the layers that came.
fn check(
    store: &Store,
    image: Wanted,
    found: &Collected,
    staged: &HashMap<String, Staged<'_>>,
) -> Result<(Wanted, Vec<Digest>)> {
    let bad = |reason: String| Error::BadArchive { reason };
    let config = crate::image::ImageConfig::parse(&image.config)?;
    let diff_ids = config.rootfs.diff_ids;
    if diff_ids.len() != image.layers.len() {
        let (expected, actual) = (image.layers.len(), diff_ids.len());
        return Err(bad(format!(
            "invalid manifest, layers length mismatch: expected {expected}, got {actual}"
        )));
    }
    if diff_ids.len() > store.inner.limits.layers {
        return Err(Error::Limit {
            what: "the number of layers of an image",
            limit: store.inner.limits.layers as u64,
        });
    }
    let chain = ChainId::chain(&diff_ids);
    for ((layer, diff_id), chain) in image.layers.iter().zip(&diff_ids).zip(&chain) {
        match staged.get(&found.resolve(layer)) {
            Some(staged) if staged.diff_id() == diff_id => {}
            Some(staged) => {
                let actual = staged.diff_id().clone();
                let what = format!("layer {layer} of the archive");
                return Err(Error::DigestMismatch {
                    what,
                    expected: diff_id.clone(),
                    actual,
                });
            }
            // As with docker load, a layer that is here already may be missing there.
            None if store.layers().get(chain).is_some() => {}
            None => return Err(bad(format!("it lacks layer {layer}"))),
        }
    }
    Ok((image, diff_ids))
}

/// Puts the layers of one image where they belong.
fn place<'a>(
    store: &'a Store,
    lease: &Lease,
    layers: &[String],
    diff_ids: &[Digest],
    staged: &mut HashMap<String, Staged<'a>>,
    found: &Collected,
    installed: &mut Vec<ChainId>,
) -> Result<()> {
    let mut parent: Option<ChainId> = None;
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        let chain = loop {
            match store.layers().begin(lease, parent.as_ref(), diff_id) {
                Begin::Present(layer) => break layer.chain.clone(),
                Begin::InProgress(other) => drop(other.wait()),
                Begin::Write(writer) => {
                    let key = found.resolve(layer);
                    let chain = writer.chain().clone();
                    installed.push(chain.clone());
                    match staged.remove(&key) {
                        Some(Staged::Tree(temp, done)) => {
                            staged.insert(key, Staged::Known(diff_id.clone(), chain));
                            break store.layers().install(writer, temp, done)?.chain.clone();
                        }
                        // The same content lies on other parents already: unpack it from there.
                        Some(Staged::Known(_, from)) => {
                            staged.insert(key, Staged::Known(diff_id.clone(), from.clone()));
                            let tar = store.layers().tar(&from)?;
                            break store.layers().unpack(writer, tar, Unpack::default())?.chain.clone();
                        }
                        None => return Err(Error::NoSuchLayer { chain }),
                    }
                }
            }
        };
        parent = Some(chain);
    }
    Ok(())
}

/// The short name of a layer for progress lines: its digest's beginning where the name has one.
pub(super) fn short_name(name: &str) -> String {
    let parts = name.rsplit('/').map(|part| part.strip_suffix(".tar").unwrap_or(part));
    let digest = parts.clone().find(|part| Digest::from_sha256_hex(part).is_ok());
    digest
        .or_else(|| parts.clone().next())
        .unwrap_or(name)
        .chars()
        .take(12)
        .collect()
}

/// The path of a blob in an OCI layout.
pub(super) fn blob_path(descriptor: &Descriptor) -> String {
    format!(
        "blobs/{}/{}",
        descriptor.digest.algorithm().as_str(),
        descriptor.digest.hex()
    )
}
