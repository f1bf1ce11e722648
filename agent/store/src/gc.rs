//! Collection: mark from the records, sweep the layers.

use crate::db::Batch;
use crate::digest::ChainId;
use crate::error::Result;
use crate::layers::Progress;
use crate::record;
use crate::store::{State, Store};
use std::collections::HashSet;
use std::sync::Arc;

/// What a collection removed.
#[derive(Debug, Default, Clone)]
pub struct Collected {
    /// Layers, in no order.
    pub layers: Vec<ChainId>,
    /// Bytes of their files.
    pub bytes: u64,
}

/// Sweeps all layers, or only the `candidates`, that nothing needs.
pub(crate) fn collect(store: &Store, candidates: Option<&[ChainId]>) -> Result<Collected> {
    let inner = &*store.inner;
    let progress = Arc::new(Progress::default());
    let mut batch = Batch::new();
    let mut collected = Collected::default();
    {
        let mut state = inner.state();
        let marked = mark(&state);
        let doomed: Vec<ChainId> = match candidates {
            Some(list) => list
                .iter()
                .filter(|c| !marked.contains(*c) && state.layers.contains_key(*c))
                .cloned()
                .collect(),
            None => state.layers.keys().filter(|c| !marked.contains(*c)).cloned().collect(),
        };
        for chain in doomed {
            let Some(layer) = state.forget_layer(&chain) else {
                continue;
            };
            // Whoever wants this layer meanwhile waits until its folder is away, then makes it anew.
            state.busy.insert(chain.clone(), progress.clone());
            batch.delete(record::LAYERS, chain.as_str());
            collected.bytes += layer.bytes;
            collected.layers.push(chain);
        }
    }
    if collected.layers.is_empty() {
        return Ok(collected);
    }
    let committed = inner.db.commit_blocking(batch);
    runtime_sys::failpoint!("layers-unrecorded");
    for chain in &collected.layers {
        // Without the commit the record comes back at the next start, finds no folder, and is dropped then: still whole or gone.
        if let Err(error) = inner.trash.discard(&inner.layer_dir(chain)) {
            tracing::warn!(%chain, %error, "a collected layer stays until the next start");
        }
        inner.state().busy.remove(chain);
    }
    progress.finish(false);
    committed.map(|()| collected)
}

fn mark(state: &State) -> HashSet<ChainId> {
    let mut marked: HashSet<ChainId> = HashSet::new();
    marked.extend(state.images.values().flat_map(|image| image.chain.iter().cloned()));
    marked.extend(state.snapshots.values().flatten().cloned());
    marked.extend(state.leased.keys().cloned());
    marked.extend(state.busy.keys().cloned());
    marked
}
