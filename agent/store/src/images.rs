//! Images by name, id and digest.

use crate::db::Batch;
use crate::digest::{ChainId, Digest};
use crate::error::{Error, Result};
use crate::image::{Image, ImageConfig, Manifest};
use crate::record;
use crate::store::{State, Store};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Images and their names. From [`Store::images`].
pub struct Images<'a> {
    pub(crate) store: &'a Store,
}

/// An image whose layers are in the store already.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// The configuration file, exactly as it came.
    pub config: Vec<u8>,
    /// The manifest it came by.
    pub manifest: Option<NewManifest>,
    /// Normalised names to give it; each is taken away from the image that has it now.
    pub names: Vec<String>,
    /// `repository@digest` forms to remember.
    pub digests: Vec<String>,
}

/// A manifest to keep with an image.
#[derive(Debug, Clone)]
pub struct NewManifest {
    /// As announced by the registry or in the document.
    pub media_type: String,
    /// Exactly the bytes.
    pub bytes: Vec<u8>,
}

/// What [`Images::untag`] did.
#[derive(Debug, Clone)]
pub struct Untagged {
    /// The image, without the name.
    pub image: Arc<Image>,
}

/// What [`Images::remove`] did.
#[derive(Debug, Clone)]
pub struct Removed {
    /// The image as it was.
    pub image: Arc<Image>,
    /// Layers that nothing else needed and that are gone now, top first.
    pub layers: Vec<ChainId>,
    /// Bytes of the files in those layers.
    pub bytes: u64,
}

impl Images<'_> {
    /// All images, the newest first (by creation time in their configuration, as Docker lists them).
    pub fn list(&self) -> Vec<Arc<Image>> {
        let mut images: Vec<Arc<Image>> = self.store.inner.state().images.values().cloned().collect();
        images.sort_by(|a, b| b.parsed.created.cmp(&a.parsed.created).then_with(|| a.id.cmp(&b.id)));
        images
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.store.inner.state().images.len()
    }

    /// Finds an image by normalised name (`docker.io/library/busybox:1`), by remembered digest (`…/busybox@sha256:…`), by
    /// id with or without `sha256:`, or by a unique prefix of the id. A name wins over an id.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::AmbiguousImage`].
    pub fn get(&self, reference: &str) -> Result<Arc<Image>> {
        let state = self.store.inner.state();
        find(&state, reference)
    }

    /// The image with exactly this id.
    pub fn by_id(&self, id: &Digest) -> Option<Arc<Image>> {
        self.store.inner.state().images.get(id).cloned()
    }

    /// Adds an image, or names and digests to one that is there. All its layers must be in the store: hold a
    /// [`crate::Lease`] on them until this returns.
    ///
    /// # Errors
    /// A configuration that does not parse or describes no Linux layers, a missing layer, a failing database. Nothing is
    /// changed then.
    pub fn put(&self, new: NewImage) -> Result<Arc<Image>> {
        let inner = &*self.store.inner;
        let id = Digest::of(&new.config);
        if new.config.len() > inner.limits.document_bytes as usize {
            return Err(Error::Limit {
                what: "an image configuration in bytes",
                limit: inner.limits.document_bytes,
            });
        }
        let parsed = ImageConfig::parse(&new.config)?;
        if parsed.rootfs.diff_ids.len() > inner.limits.layers {
            return Err(Error::Limit {
                what: "the number of layers of an image",
                limit: inner.limits.layers as u64,
            });
        }
        let chain = ChainId::chain(&parsed.rootfs.diff_ids);
        let manifest = new.manifest.map(|m| Manifest {
            digest: Digest::of(&m.bytes),
            media_type: m.media_type,
            bytes: m.bytes,
        });
        let _change = inner.change();
        let (size, old) = {
            let state = inner.state();
            let mut size = 0;
            for id in &chain {
                size += state
                    .layers
                    .get(id)
                    .ok_or_else(|| Error::NoSuchLayer { chain: id.clone() })?
                    .bytes;
            }
            (size, state.images.get(&id).cloned())
        };
        let folders: Vec<_> = chain.iter().map(|c| inner.layer_dir(c)).collect();
        crate::adopt::adopt(&folders)?;
        runtime_sys::failpoint!("image-adopted");
        let mut batch = Batch::new();
        batch.put(record::CONTENT, id.as_str(), new.config.clone());
        if let Some(m) = &manifest {
            batch.put(record::CONTENT, m.digest.as_str(), m.bytes.clone());
        }
        let mut image = match &old {
            Some(old) => {
                let mut image = Image::clone(old);
                if manifest.is_some() && image.manifest != manifest {
                    self.delete_manifest(&mut batch, &image);
                    image.manifest = manifest;
                }
                image
            }
            None => Image {
                id: id.clone(),
                config: new.config,
                parsed,
                chain,
                manifest,
                size,
                names: Vec::new(),
                digests: Vec::new(),
                added: now_ns() as u64 / 1_000_000_000,
                tagged_ns: 0,
                parent: None,
            },
        };
        add_sorted(&mut image.digests, new.digests);
        if !new.names.is_empty() {
            image.tagged_ns = now_ns();
        }
        add_sorted(&mut image.names, new.names);
        self.commit(batch, image)
    }

    /// Gives an image one more name, taking it from the image that has it now.
    ///
    /// # Errors
    /// The image is not there; the database fails.
    pub fn tag(&self, id: &Digest, name: &str) -> Result<Arc<Image>> {
        let _change = self.store.inner.change();
        let image = self.by_id(id).ok_or_else(|| Error::NoSuchImage {
            reference: id.to_string(),
        })?;
        let mut image = Image::clone(&image);
        add_sorted(&mut image.names, vec![name.to_owned()]);
        image.tagged_ns = now_ns();
        runtime_sys::failpoint!("image-tagging");
        let image = self.commit(Batch::new(), image)?;
        runtime_sys::failpoint!("image-tagged");
        Ok(image)
    }

    /// Remembers which image this one was made from, so that an unnamed parent goes with its last child.
    ///
    /// # Errors
    /// One of the two is not there, or the parent descends from the image; the database fails.
    pub fn set_parent(&self, id: &Digest, parent: &Digest) -> Result<Arc<Image>> {
        let _change = self.store.inner.change();
        let known = |id: &Digest| {
            self.by_id(id).ok_or_else(|| Error::NoSuchImage {
                reference: id.to_string(),
            })
        };
        let mut image = Image::clone(&*known(id)?);
        let mut above = Some(known(parent)?);
        while let Some(ancestor) = above {
            if ancestor.id == *id {
                return Err(Error::BadImage {
                    id: id.clone(),
                    reason: format!("it cannot have its own descendant {parent} as its parent"),
                });
            }
            above = ancestor.parent.as_ref().and_then(|next| self.by_id(next));
        }
        image.parent = Some(parent.clone());
        self.commit(Batch::new(), image)
    }

    /// Takes a name (or a remembered `repository@digest`) away. The image stays, perhaps without any name.
    ///
    /// # Errors
    /// No image has that name; the database fails.
    pub fn untag(&self, name: &str) -> Result<Untagged> {
        let _change = self.store.inner.change();
        let image = {
            let state = self.store.inner.state();
            let by_name = state.names.get(name).and_then(|id| state.images.get(id));
            by_name
                .or_else(|| state.images.values().find(|i| i.digests.iter().any(|d| d == name)))
                .cloned()
        };
        let mut image = Image::clone(&*image.ok_or_else(|| Error::NoSuchImage {
            reference: name.to_owned(),
        })?);
        image.names.retain(|n| n != name);
        image.digests.retain(|d| d != name);
        runtime_sys::failpoint!("image-untagging");
        let image = self.commit(Batch::new(), image)?;
        runtime_sys::failpoint!("image-untagged");
        Ok(Untagged { image })
    }

    /// Removes an image with all its names, and the layers that nothing else needs. Whether containers use it is the
    /// caller's question (their writable layers keep the layers below them in any case).
    ///
    /// # Errors
    /// The image is not there; the database fails.
    pub fn remove(&self, id: &Digest) -> Result<Removed> {
        let inner = &*self.store.inner;
        let image = {
            let _change = inner.change();
            let image = self.by_id(id).ok_or_else(|| Error::NoSuchImage {
                reference: id.to_string(),
            })?;
            let mut batch = Batch::new();
            batch.delete(record::IMAGES, id.as_str());
            batch.delete(record::CONTENT, id.as_str());
            self.delete_manifest(&mut batch, &image);
            inner.db.commit_blocking(batch)?;
            runtime_sys::failpoint!("image-unrecorded");
            let mut state = inner.state();
            state.images.remove(id);
            state.names.retain(|_, owner| owner != id);
            image
        };
        let mut top_first = image.chain.clone();
        top_first.reverse();
        let crate::gc::Collected { layers, bytes } = crate::gc::collect(self.store, Some(&top_first))?;
        Ok(Removed { image, layers, bytes })
    }

    /// Two images may share a manifest's bytes only if they share the configuration, but be sure.
    fn delete_manifest(&self, batch: &mut Batch, image: &Image) {
        let Some(manifest) = &image.manifest else { return };
        let state = self.store.inner.state();
        let shared = state
            .images
            .values()
            .any(|other| other.id != image.id && other.manifest.as_ref().is_some_and(|m| m.digest == manifest.digest));
        if !shared {
            batch.delete(record::CONTENT, manifest.digest.as_str());
        }
    }

    /// Records the image and takes its names from whoever had them. The caller holds the change lock.
    fn commit(&self, mut batch: Batch, image: Image) -> Result<Arc<Image>> {
        let inner = &*self.store.inner;
        let mut changed: Vec<Arc<Image>> = Vec::new();
        {
            let state = inner.state();
            for name in &image.names {
                let Some(owner) = state.names.get(name).filter(|owner| **owner != image.id) else {
                    continue;
                };
                let known = changed.iter().position(|c| c.id == *owner);
                let mut loser = match known {
                    Some(at) => Image::clone(&changed.swap_remove(at)),
                    None => match state.images.get(owner) {
                        Some(loser) => Image::clone(loser),
                        None => continue,
                    },
                };
                loser.names.retain(|n| n != name);
                changed.push(Arc::new(loser));
            }
        }
        let image = Arc::new(image);
        changed.push(image.clone());
        for image in &changed {
            record::put_image(&mut batch, image);
        }
        runtime_sys::failpoint!("image-recording");
        inner.db.commit_blocking(batch)?;
        runtime_sys::failpoint!("image-recorded");
        let mut state = inner.state();
        for image in changed {
            state.names.retain(|_, owner| *owner != image.id);
            for name in &image.names {
                state.names.insert(name.clone(), image.id.clone());
            }
            state.images.insert(image.id.clone(), image);
        }
        Ok(image)
    }
}

fn find(state: &State, reference: &str) -> Result<Arc<Image>> {
    let missing = || Error::NoSuchImage {
        reference: reference.to_owned(),
    };
    if let Some(image) = state.names.get(reference).and_then(|id| state.images.get(id)) {
        return Ok(image.clone());
    }
    if reference.contains('@') {
        return state
            .images
            .values()
            .find(|i| i.digests.iter().any(|d| d == reference))
            .cloned()
            .ok_or_else(missing);
    }
    let hex = reference.strip_prefix("sha256:").unwrap_or(reference);
    if hex.is_empty() || hex.len() > 64 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err(missing());
    }
    let mut fits = state
        .images
        .values()
        .filter(|i| i.id.as_str().starts_with("sha256:") && i.id.hex().starts_with(hex));
    match (fits.next(), fits.count()) {
        (None, _) => Err(missing()),
        (Some(image), 0) => Ok(image.clone()),
        (Some(_), more) => Err(Error::AmbiguousImage {
            prefix: reference.to_owned(),
            count: more + 1,
        }),
    }
}

fn add_sorted(list: &mut Vec<String>, more: Vec<String>) {
    list.extend(more);
    list.sort();
    list.dedup();
}

pub(crate) fn now_ns() -> i128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as i128)
}
