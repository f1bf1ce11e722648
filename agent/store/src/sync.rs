//! One `syncfs` in the background for all layers that were finished lately.
//!
//! A finished layer is recorded at once with the mark "unsynced since boot X": a killed daemon loses nothing, because the
//! page cache outlives it. The mark goes when the kernel says that everything is on the disk.

use crate::db::Batch;
use crate::digest::ChainId;
use crate::error::{Error, Result};
use crate::record;
use crate::store::Inner;
use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::{Condvar, Mutex, Weak};
use std::time::Duration;

/// How long layers are gathered: the kernel's own write-back has often done the work by then.
const GATHER: Duration = Duration::from_secs(3);

#[derive(Default)]
struct Queue {
    chains: HashSet<ChainId>,
    closed: bool,
}

/// Knows which layers are not known to be on disk yet.
pub(crate) struct Syncer {
    root: File,
    shared: std::sync::Arc<(Mutex<Queue>, Condvar)>,
}

impl Syncer {
    pub fn new(root: &Path) -> Result<Syncer> {
        let root = File::open(root).map_err(Error::io("open", root))?;
        Ok(Syncer {
            root,
            shared: Default::default(),
        })
    }

    /// Notes a layer that was recorded with the mark.
    pub fn note(&self, chain: &ChainId) {
        let (queue, wake) = &*self.shared;
        queue
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .chains
            .insert(chain.clone());
        wake.notify_all();
    }

    /// Starts the thread.
    pub fn start(&self, inner: Weak<Inner>) {
        let shared = self.shared.clone();
        let spawned = std::thread::Builder::new().name("store-sync".into()).spawn(move || {
            loop {
                let (queue, wake) = &*shared;
                let mut guard = queue.lock().unwrap_or_else(|e| e.into_inner());
                while guard.chains.is_empty() && !guard.closed {
                    guard = wake.wait(guard).unwrap_or_else(|e| e.into_inner());
                }
                guard = wake
                    .wait_timeout_while(guard, GATHER, |q| !q.closed)
                    .unwrap_or_else(|e| e.into_inner())
                    .0;
                if guard.closed {
                    return; // the marks stay and are settled by the next start
                }
                let chains = std::mem::take(&mut guard.chains);
                drop(guard);
                let Some(inner) = inner.upgrade() else { return };
                if let Err(error) = inner.syncer.flush(&inner, &chains) {
                    tracing::warn!(%error, "layers stay marked as not yet on disk");
                }
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "cannot start the sync thread; layers stay marked as not yet on disk");
        }
    }

    fn flush(&self, inner: &Inner, chains: &HashSet<ChainId>) -> Result<()> {
        nix::unistd::syncfs(&self.root).map_err(Error::sys("sync", &inner.root))?;
        let mut batch = Batch::new();
        let state = inner.state();
        for layer in chains.iter().filter_map(|chain| state.layers.get(chain)) {
            record::put_layer(&mut batch, layer, None);
        }
        // Queued while the state is locked, so that a removal of the same layer cannot be overtaken.
        let done = inner.db.commit_soon(batch);
        drop(state);
        drop(done);
        Ok(())
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        let (queue, wake) = &*self.shared;
        queue.lock().unwrap_or_else(|e| e.into_inner()).closed = true;
        wake.notify_all();
    }
}
