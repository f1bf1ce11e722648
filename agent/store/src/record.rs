//! Records on disk: their tables, their versions, and reading them back at start.

use crate::db::Batch;
use crate::digest::{ChainId, Digest};
use crate::error::{Error, Result};
use crate::image::{Image, ImageConfig, Manifest};
use crate::layers::{Layer, Source};
use crate::quota::Quota;
use crate::store::{Inner, Recovered, State};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// chain id → [`LayerRecord`]
pub(crate) const LAYERS: &str = "store.layers";
/// image id → [`ImageRecord`]
pub(crate) const IMAGES: &str = "store.images";
/// digest → bytes of a configuration or manifest
pub(crate) const CONTENT: &str = "store.content";
/// container id → [`SnapshotRecord`]
pub(crate) const SNAPSHOTS: &str = "store.snapshots";

/// Written into every record; raised when a field changes its meaning.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct LayerRecord {
    version: u32,
    diff_id: Digest,
    parent: Option<ChainId>,
    tar_bytes: u64,
    bytes: u64,
    entries: u64,
    sources: Vec<Source>,
    created: u64,
    /// Boot id of the machine while the layer may be in the page cache only.
    #[serde(skip_serializing_if = "Option::is_none")]
    unsynced: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct ImageRecord {
    version: u32,
    manifest: Option<(Digest, String)>,
    names: Vec<String>,
    digests: Vec<String>,
    added: u64,
    /// As text: JSON numbers do not hold it.
    tagged_ns: String,
    /// Absent in records of earlier programs, and of images that were not made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<Digest>,
}

#[derive(Serialize, Deserialize)]
struct SnapshotRecord {
    version: u32,
    chain: Vec<ChainId>,
    /// The boot in which its folder was made. Absent in records of earlier programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made: Option<String>,
    /// What it may hold. Absent where that is without limit, and in records of earlier programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota: Option<Quota>,
}

fn encode(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("records have string keys only")
}

fn decode<T: DeserializeOwned>(table: &'static str, key: &str, bytes: &[u8]) -> Result<T> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let bad = |reason: String| Error::BadRecord {
        table,
        key: key.to_owned(),
        reason,
    };
    let Versioned { version } = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
    if version != VERSION {
        return Err(bad(format!("it has version {version}, this program reads {VERSION}")));
    }
    serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))
}

pub(crate) fn put_layer(batch: &mut Batch, layer: &Layer, unsynced: Option<&str>) {
    let record = LayerRecord {
        version: VERSION,
        diff_id: layer.diff_id.clone(),
        parent: layer.parent.clone(),
        tar_bytes: layer.tar_bytes,
        bytes: layer.bytes,
        entries: layer.entries,
        sources: layer.sources.clone(),
        created: layer.created,
        unsynced: unsynced.map(str::to_owned),
    };
    batch.put(LAYERS, layer.chain.as_str(), encode(&record));
}

pub(crate) fn put_image(batch: &mut Batch, image: &Image) {
    let record = ImageRecord {
        version: VERSION,
        manifest: image
            .manifest
            .as_ref()
            .map(|m| (m.digest.clone(), m.media_type.clone())),
        names: image.names.clone(),
        digests: image.digests.clone(),
        added: image.added,
        tagged_ns: image.tagged_ns.to_string(),
        parent: image.parent.clone(),
    };
    batch.put(IMAGES, image.id.as_str(), encode(&record));
}

pub(crate) fn put_snapshot(batch: &mut Batch, id: &str, chain: &[ChainId], quota: Option<Quota>, boot: &str) {
    batch.put(
        SNAPSHOTS,
        id,
        encode(&SnapshotRecord {
            version: VERSION,
            chain: chain.to_vec(),
            made: Some(boot.to_owned()),
            quota,
        }),
    );
}

pub(crate) fn load_layers(inner: &Inner, state: &mut State, batch: &mut Batch, found: &mut Recovered) -> Result<()> {
    for (key, bytes) in inner.db.scan(LAYERS)? {
        let chain = ChainId::parse(&key)?;
        let record: LayerRecord = decode(LAYERS, &key, &bytes)?;
        let layer = Layer {
            chain: chain.clone(),
            diff_id: record.diff_id,
            parent: record.parent,
            tar_bytes: record.tar_bytes,
            bytes: record.bytes,
            entries: record.entries,
            sources: record.sources,
            created: record.created,
        };
        let dir = inner.layer_dir(&chain);
        let whole = dir.join("tree").is_dir()
            && match &record.unsynced {
                None => true,
                Some(boot) if *boot == inner.boot_id => {
                    inner.syncer.note(&chain);
                    true
                }
                // The machine went down before the kernel had written everything: trust only what still has its digest.
                Some(_) => {
                    let same = crate::rebuild::verify(&dir, &layer).is_ok();
                    if same {
                        inner.syncer.note(&chain);
                    }
                    same
                }
            };
        if whole {
            state.remember_layer(layer);
        } else {
            batch.delete(LAYERS, &key);
            found.lost_layers.push(chain);
        }
    }
    Ok(())
}

pub(crate) fn load_snapshots(inner: &Inner, state: &mut State, batch: &mut Batch, found: &mut Recovered) -> Result<()> {
    for (id, bytes) in inner.db.scan(SNAPSHOTS)? {
        let record: SnapshotRecord = decode(SNAPSHOTS, &id, &bytes)?;
        if let Some(quota) = record.quota {
            state.quotas.insert(id.clone(), quota);
        }
        if inner.root.join("rw").join(&id).join("upper").is_dir() {
            state.snapshots.insert(id, record.chain);
        } else if record.made.is_some_and(|boot| boot != inner.boot_id)
            && record.chain.iter().all(|chain| state.layers.contains_key(chain))
            && crate::snapshots::remake(inner, &id, &record.chain, record.quota).is_ok()
        {
            // Nobody waits for the folder to reach the disk, only for its record: the power went in the seconds after.
            found.remade_snapshots.push(id.clone());
            state.snapshots.insert(id, record.chain);
        } else {
            batch.delete(SNAPSHOTS, &id);
            if let Some(quota) = state.quotas.remove(&id) {
                quota.release(&inner.root.join("rw"));
            }
            found.lost_snapshots.push(id);
        }
    }
    Ok(())
}

pub(crate) fn load_images(inner: &Inner, state: &mut State, batch: &mut Batch, found: &mut Recovered) -> Result<()> {
    let mut content: std::collections::HashMap<String, Vec<u8>> = inner.db.scan(CONTENT)?.into_iter().collect();
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    for (key, bytes) in inner.db.scan(IMAGES)? {
        let id = Digest::parse(&key)?;
        let record: ImageRecord = decode(IMAGES, &key, &bytes)?;
        let config = content.get(&key).cloned();
        let manifest = record.manifest.and_then(|(digest, media_type)| {
            content.get(digest.as_str()).map(|bytes| Manifest {
                digest,
                media_type,
                bytes: bytes.clone(),
            })
        });
        let image = config.and_then(|config| {
            let parsed = ImageConfig::parse(&config).ok()?;
            let chain = ChainId::chain(&parsed.rootfs.diff_ids);
            let size = chain
                .iter()
                .map(|c| state.layers.get(c).map(|l| l.bytes))
                .sum::<Option<u64>>()?;
            Some((config, parsed, chain, size))
        });
        let Some((config, parsed, chain, size)) = image else {
            batch.delete(IMAGES, &key);
            found.lost_images.push((id, record.names));
            continue;
        };
        wanted.insert(key);
        wanted.extend(manifest.as_ref().map(|m| m.digest.to_string()));
        let image = Image {
            id: id.clone(),
            config,
            parsed,
            chain,
            manifest,
            size,
            names: record.names,
            digests: record.digests,
            added: record.added,
            tagged_ns: record.tagged_ns.parse().unwrap_or(0),
            parent: record.parent,
        };
        for name in &image.names {
            state.names.insert(name.clone(), id.clone());
        }
        state.images.insert(id, Arc::new(image));
    }
    content.retain(|key, _| !wanted.contains(key));
    for key in content.keys() {
        batch.delete(CONTENT, key);
    }
    Ok(())
}

impl State {
    pub fn remember_layer(&mut self, layer: Layer) -> Arc<Layer> {
        let layer = Arc::new(layer);
        self.by_diff
            .entry(layer.diff_id.clone())
            .or_default()
            .insert(layer.chain.clone());
        self.layers.insert(layer.chain.clone(), layer.clone());
        layer
    }

    pub fn forget_layer(&mut self, chain: &ChainId) -> Option<Arc<Layer>> {
        let layer = self.layers.remove(chain)?;
        if let Some(chains) = self.by_diff.get_mut(&layer.diff_id) {
            chains.remove(chain);
            if chains.is_empty() {
                self.by_diff.remove(&layer.diff_id);
            }
        }
        Some(layer)
    }
}
