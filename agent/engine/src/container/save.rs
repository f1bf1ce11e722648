//! Writing a container's record: at once for what a client was promised, soon for what follows by itself.

use std::sync::Arc;

use agent_store::Batch;

use super::{Container, Inner, Record, create};
use crate::Engine;
use crate::error::{Error, Result};

fn batch(record: &Record) -> Result<Batch> {
    let bytes = serde_json::to_vec(record).map_err(|source| Error::Record {
        what: format!("container {}", record.id),
        source,
    })?;
    let mut batch = Batch::new();
    batch.put(create::TABLE, record.id.as_str(), bytes);
    Ok(batch)
}

impl Engine {
    /// Makes the record durable. A container that is removed has none.
    pub(crate) async fn save_now(&self, container: &Arc<Container>) -> Result<()> {
        let saved = {
            let inner = container.lock();
            if inner.removed {
                return Ok(());
            }
            // Queued while `inner` is locked, so that records reach the disk in the order of their states.
            self.store.db().commit(batch(&inner.record)?)
        };
        Ok(saved.await?)
    }

    /// Writes the record without anybody waiting for it: within some dozens of milliseconds.
    pub(crate) fn save_soon(&self, container: &Arc<Container>) {
        let inner = container.lock();
        if let Some(batch) = owed(&inner) {
            drop(self.store.db().commit_soon(batch));
        }
    }

    /// Writes the record of what has happened and is likely to be asked for at once; `None` when there is nothing to write.
    pub(crate) fn save_told(
        &self,
        inner: &Inner,
    ) -> Option<impl Future<Output = agent_store::Result<()>> + Send + 'static + use<>> {
        Some(self.store.db().commit_told(owed(inner)?))
    }
}

/// A record that nobody would be told of if it could not be written.
fn owed(inner: &Inner) -> Option<Batch> {
    if inner.removed {
        return None;
    }
    batch(&inner.record)
        .inspect_err(|error| {
            tracing::error!(container = %inner.record.id, error = %error.chain(), "the record cannot be written");
        })
        .ok()
}
