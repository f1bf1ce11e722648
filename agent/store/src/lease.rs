//! Leases keep layers of work in progress from being collected.

use crate::digest::ChainId;
use crate::store::Store;
use std::collections::HashSet;
use std::sync::Mutex;

/// Protects every layer that was begun with it, until it is dropped. Lives in memory only: after a crash, finished layers
/// of a broken pull stay (they have records) until the next [`Store::gc`], so that the pull can go on where it ended.
pub struct Lease {
    store: Store,
    held: Mutex<HashSet<ChainId>>,
}

impl Lease {
    pub(crate) fn new(store: Store) -> Lease {
        Lease {
            store,
            held: Mutex::default(),
        }
    }

    /// Protects one more layer, whether it exists yet or not.
    pub fn hold(&self, chain: &ChainId) {
        let mut held = self.held.lock().unwrap_or_else(|e| e.into_inner());
        if held.insert(chain.clone()) {
            *self.store.inner.state().leased.entry(chain.clone()).or_insert(0) += 1;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let held = std::mem::take(self.held.get_mut().unwrap_or_else(|e| e.into_inner()));
        let mut state = self.store.inner.state();
        for chain in held {
            if let Some(count) = state.leased.get_mut(&chain) {
                *count -= 1;
                if *count == 0 {
                    state.leased.remove(&chain);
                }
            }
        }
    }
}
