//! Read-only layers: who makes one, who waits for it, where it is.

use crate::digest::{ChainId, Digest, Hasher};
use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::pipeline::{self, Unpack};
use crate::rebuild::LayerTar;
use crate::record;
use crate::store::Store;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A finished layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Its name: it and everything below it.
    pub chain: ChainId,
    /// sha256 of its uncompressed tar.
    pub diff_id: Digest,
    /// What it lies on.
    pub parent: Option<ChainId>,
    /// Bytes of its uncompressed tar.
    pub tar_bytes: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Entries of its tar.
    pub entries: u64,
    /// The compressed forms in which it was seen.
    pub sources: Vec<Source>,
    /// Seconds since 1970.
    pub created: u64,
}

/// A compressed form of a layer, as a registry has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Digest of the compressed bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

/// Read-only layers. From [`Store::layers`].
pub struct Layers<'a> {
    pub(crate) store: &'a Store,
}

/// The answer of [`Layers::begin`].
pub enum Begin {
    /// It is in the store.
    Present(Arc<Layer>),
    /// Another operation is making it (or removing an old copy): wait, then begin again.
    InProgress(InProgress),
    /// It is yours to make; others wait for you until the writer is used or dropped.
    Write(LayerWriter),
}

/// Another operation's work.
pub struct InProgress {
    progress: Arc<Progress>,
}

impl InProgress {
    /// Blocks until the other operation has ended; true if it made the layer. Call [`Layers::begin`] again either way.
    pub fn wait(&self) -> bool {
        self.progress.wait(None).unwrap_or(false)
    }

    /// As [`InProgress::wait`], with a limit; `None` when it is reached.
    pub fn wait_for(&self, limit: Duration) -> Option<bool> {
        self.progress.wait(Some(limit))
    }
}

#[derive(Default)]
pub(crate) struct Progress {
    done: Mutex<Option<bool>>,
    wake: Condvar,
}

impl Progress {
    pub fn finish(&self, made: bool) {
        self.done.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(made);
        self.wake.notify_all();
    }

    fn wait(&self, limit: Option<Duration>) -> Option<bool> {
        let done = self.done.lock().unwrap_or_else(|e| e.into_inner());
        match limit {
            None => *self
                .wake
                .wait_while(done, |d| d.is_none())
                .unwrap_or_else(|e| e.into_inner()),
            Some(limit) => {
                *self
                    .wake
                    .wait_timeout_while(done, limit, |d| d.is_none())
                    .unwrap_or_else(|e| e.into_inner())
                    .0
            }
        }
    }
}

/// The right to make one layer. Dropping it without success lets the next one try.
pub struct LayerWriter {
    pub(crate) store: Store,
    pub(crate) chain: ChainId,
    pub(crate) parent: Option<ChainId>,
    pub(crate) diff_id: Digest,
    progress: Arc<Progress>,
    made: bool,
}

impl LayerWriter {
    /// The layer to be made.
    pub fn chain(&self) -> &ChainId {
        &self.chain
    }
}

impl Drop for LayerWriter {
    fn drop(&mut self) {
        self.store.inner.state().busy.remove(&self.chain);
        self.progress.finish(self.made);
    }
}

impl Layers<'_> {
    /// Asks for the layer `diff_id` on top of `parent`. The lease protects it from now on.
    pub fn begin(&self, lease: &Lease, parent: Option<&ChainId>, diff_id: &Digest) -> Begin {
        let chain = match parent {
            None => ChainId::base(diff_id),
            Some(parent) => parent.push(diff_id),
        };
        lease.hold(&chain);
        let mut state = self.store.inner.state();
        if let Some(layer) = state.layers.get(&chain) {
            return Begin::Present(layer.clone());
        }
        if let Some(progress) = state.busy.get(&chain) {
            return Begin::InProgress(InProgress {
                progress: progress.clone(),
            });
        }
        let progress = Arc::new(Progress::default());
        state.busy.insert(chain.clone(), progress.clone());
        let (store, diff_id) = (self.store.clone(), diff_id.clone());
        Begin::Write(LayerWriter {
            store,
            chain,
            parent: parent.cloned(),
            diff_id,
            progress,
            made: false,
        })
    }

    /// Makes the layer from its tar, compressed or not. On return it is in place and recorded; on failure nothing is left.
    ///
    /// Runs the decompression and the hashes on threads of its own and creates the files on the calling thread.
    ///
    /// # Errors
    /// The reader fails; the archive is malformed, hostile or beyond the limits; a digest or the size is not as announced;
    /// the disk is full.
    pub fn unpack(&self, writer: LayerWriter, reader: impl Read + Send, unpack: Unpack<'_>) -> Result<Arc<Layer>> {
        let (temp, done) = self.stage(reader, unpack, Hasher::like(&writer.diff_id))?;
        if done.diff_id != writer.diff_id {
            let what = "the uncompressed layer".to_owned();
            return Err(Error::DigestMismatch {
                what,
                expected: writer.diff_id.clone(),
                actual: done.diff_id,
            });
        }
        self.install(writer, temp, done)
    }

    /// Moves a finished folder into place and records it.
    pub(crate) fn install(
        &self,
        mut writer: LayerWriter,
        temp: crate::store::TempDir<'_>,
        done: pipeline::Done,
    ) -> Result<Arc<Layer>> {
        let inner = &*self.store.inner;
        runtime_sys::failpoint!("layer-unpacked");
        temp.persist(&inner.layer_dir(&writer.chain))?;
        runtime_sys::failpoint!("layer-in-place");
        let layer = Layer {
            chain: writer.chain.clone(),
            diff_id: writer.diff_id.clone(),
            parent: writer.parent.clone(),
            tar_bytes: done.tar_bytes,
            bytes: done.file_bytes,
            entries: done.entries,
            sources: done.source.into_iter().collect(),
            created: (crate::images::now_ns() / 1_000_000_000) as u64,
        };
        let mut batch = crate::db::Batch::new();
        record::put_layer(&mut batch, &layer, Some(&inner.boot_id));
        let layer = {
            let mut state = inner.state();
            let layer = state.remember_layer(layer);
            // Not waited for: whoever records an image with this layer does so behind it in the same queue.
            drop(inner.db.commit_soon(batch));
            layer
        };
        inner.syncer.note(&writer.chain);
        writer.made = true;
        runtime_sys::failpoint!("layer-recorded");
        Ok(layer)
    }

    /// Notes that the layer exists at registries in this compressed form, so that a push need not send it.
    ///
    /// # Errors
    /// The layer is not there; the database fails.
    pub fn add_source(&self, chain: &ChainId, source: Source) -> Result<()> {
        let inner = &*self.store.inner;
        let _change = inner.change();
        let mut state = inner.state();
        let layer = state
            .layers
            .get(chain)
            .ok_or_else(|| Error::NoSuchLayer { chain: chain.clone() })?;
        if layer.sources.contains(&source) {
            return Ok(());
        }
        let mut layer = Layer::clone(layer);
        layer.sources.push(source);
        let mut batch = crate::db::Batch::new();
        // The mark is set again: whether it had gone is not worth remembering, the next sync takes it away.
        record::put_layer(&mut batch, &layer, Some(&inner.boot_id));
        state.remember_layer(layer);
        drop(inner.db.commit_soon(batch));
        drop(state);
        inner.syncer.note(chain);
        Ok(())
    }

    /// A finished layer.
    pub fn get(&self, chain: &ChainId) -> Option<Arc<Layer>> {
        self.store.inner.state().layers.get(chain).cloned()
    }

    /// All finished layers, in no order.
    pub fn list(&self) -> Vec<Arc<Layer>> {
        self.store.inner.state().layers.values().cloned().collect()
    }

    /// The overlay lower directory of a layer.
    pub fn tree(&self, chain: &ChainId) -> PathBuf {
        self.store.inner.layer_dir(chain).join("tree")
    }

    /// The overlay lower directories of a whole chain (bottom first as in [`crate::Image::chain`]), *top first* as overlay
    /// mounts want them.
    pub fn lower(&self, chain: &[ChainId]) -> Vec<PathBuf> {
        chain.iter().rev().map(|c| self.tree(c)).collect()
    }

    /// Rebuilds the exact uncompressed tar of a layer.
    ///
    /// # Errors
    /// The layer is not there or its record cannot be read.
    pub fn tar(&self, chain: &ChainId) -> Result<LayerTar> {
        let layer = self
            .get(chain)
            .ok_or_else(|| Error::NoSuchLayer { chain: chain.clone() })?;
        LayerTar::open(&self.store.inner.layer_dir(chain), &layer)
    }
}

impl<'a> Layers<'a> {
    /// Unpacks a layer whose diff id is not known yet; [`Layers::install`] gives it its place.
    pub(crate) fn stage(
        &self,
        reader: impl Read,
        unpack: Unpack<'_>,
        hasher: Hasher,
    ) -> Result<(crate::store::TempDir<'a>, pipeline::Done)> {
        let temp = self.store.inner.temp_dir("layer")?;
        let done = pipeline::run(&temp.path, reader, &unpack, hasher, &self.store.inner.limits)?;
        Ok((temp, done))
    }
}
