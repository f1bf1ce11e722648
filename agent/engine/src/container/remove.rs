//! Remove: the record goes first, durably; what lies on disk follows, and a crash between the two leaves only folders
//! that the next start finds without an owner.

use std::sync::Arc;
use std::time::Duration;

use agent_store::Batch;
use nix::sys::signal::Signal;

use super::state::{Phase, Request};
use super::{Container, create};
use crate::Engine;
use crate::disk;
use crate::error::{Error, Result};
use crate::events::EventKind;

const KILL_GRACE: Duration = Duration::from_secs(10);

impl Engine {
    /// Removes a container; `force` kills it first, `volumes` takes its anonymous volumes along.
    pub async fn remove(&self, container: &Arc<Container>, force: bool, volumes: bool) -> Result<()> {
        let (engine, container) = (self.clone(), container.clone());
        self.detached(async move {
            // Claimed before the owner's lock, so that a second removal is told at once.
            let before = {
                let mut inner = container.lock();
                container.admit(&inner, Request::Remove { force })?;
                std::mem::replace(&mut inner.record.status.phase, Phase::Removing)
            };
            let result = engine.remove_owned(&container, volumes, before == Phase::Paused).await;
            if result.is_err() {
                let mut inner = container.lock();
                inner.record.status.phase = if before.is_live() && inner.run.is_some() {
                    before
                } else {
                    Phase::Dead
                };
                container.announce(&inner);
            }
            result
        })
        .await
    }

    /// Removes without anybody waiting (`--rm`).
    pub(crate) fn remove_later(&self, container: &Arc<Container>) {
        let (engine, container) = (self.clone(), container.clone());
        self.tasks.spawn(async move {
            match engine.remove_now(&container).await {
                // Somebody else removes it.
                Ok(()) | Err(Error::Removing(_)) => {}
                Err(error) => {
                    tracing::warn!(container = %container.id, error = %error.chain(), "auto-removal failed");
                }
            }
        });
    }

    async fn remove_now(&self, container: &Arc<Container>) -> Result<()> {
        let frozen = {
            let mut inner = container.lock();
            container.admit(&inner, Request::Remove { force: true })?;
            std::mem::replace(&mut inner.record.status.phase, Phase::Removing) == Phase::Paused
        };
        let result = self.remove_owned(container, true, frozen).await;
        if result.is_err() {
            container.lock().record.status.phase = Phase::Dead;
        }
        result
    }

    /// The phase is `Removing` already.
    async fn remove_owned(&self, container: &Arc<Container>, volumes: bool, frozen: bool) -> Result<()> {
        self.kill_for_removal(container, frozen).await?;
        runtime_sys::failpoint!("remove-killed");
        let _owner = container.op.lock().await;
        let id = container.id.as_str();
        let anonymous: Vec<String> = {
            let inner = container.lock();
            // From now on the image may be one that nobody uses.
            self.last_use.note(&inner.record.image);
            inner
                .record
                .all_mounts()
                .filter(|mount| mount.anonymous)
                .map(|mount| mount.name.clone())
                .collect()
        };
        let gone = {
            let mut inner = container.lock();
            let mut batch = Batch::new();
            batch.delete(create::TABLE, id);
            // One commit for the container and its layer; a layer that a crash lost already is no reason to keep the rest.
            match self.store.snapshots().remove_in(&mut batch, id) {
                Err(error) if error.kind() != agent_store::Kind::NotFound => return Err(error.into()),
                _ => {}
            }
            // From here on nobody writes the record again; what was queued before is ahead of the delete.
            inner.removed = true;
            inner.pending.clear();
            self.store.db().commit(batch)
        };
        if let Err(error) = gone.await {
            container.lock().removed = false;
            return Err(error.into());
        }
        runtime_sys::failpoint!("remove-recorded");
        self.store.snapshots().removed(id);
        let mut left = Vec::new();
        let mut note = |what: &str, result: Result<()>| {
            if let Err(error) = result {
                left.push(format!("{what}: {}", error.chain()));
            }
        };
        let places = self.places(&container.id);
        note("folder", self.store.discard(&places.data).map_err(Error::from));
        note(
            "run record",
            disk::remove_file(&places.run_record()).map_err(Error::io("remove the run record")),
        );
        runtime_sys::failpoint!("remove-folder-away");
        self.execs.container_removed(id);
        self.allotments.release(id);
        self.index.remove(container);
        if volumes {
            for name in anonymous {
                match self.drop_volume(&name, true).await {
                    // Another container mounts it by name.
                    Ok(()) | Err(Error::Conflict(_)) => {}
                    Err(error) => note("volume", Err(error)),
                }
            }
        }
        {
            let inner = container.lock();
            container.announce(&inner);
        }
        self.journal
            .record(EventKind::Container, "destroy", id, container.event_attributes());
        if !left.is_empty() {
            // The container is gone for everybody; what stayed is found and removed at the next start.
            tracing::warn!(container = %container.id, ?left, "leftovers of a removed container");
        }
        Ok(())
    }

    async fn kill_for_removal(&self, container: &Arc<Container>, frozen: bool) -> Result<()> {
        let mut changes = container.changes.subscribe();
        let Some(run) = container.lock().run.clone() else {
            return Ok(());
        };
        let exits = container.lock().record.status.exits;
        container.lock().record.status.stopped_by_user = true;
        if frozen {
            // A frozen v1 group takes the signal only when it thaws.
            let cgroup = run.cgroup.clone();
            let _ = self.blocking(move |engine| Ok(engine.cgroups.thaw(&cgroup)?)).await;
        }
        match run.shim.signal(Signal::SIGKILL as i32).await {
            Err(error)
                if !matches!(
                    error,
                    runtime::launcher::ShimError::NoProcess | runtime::launcher::ShimError::Gone
                ) =>
            {
                return Err(Error::Runtime {
                    id: container.id.clone(),
                    source: error,
                });
            }
            _ => {}
        }
        let ended = changes.wait_for(|change| change.exits > exits);
        if tokio::time::timeout(KILL_GRACE, ended).await.is_err() {
            return Err(Error::Conflict(format!(
                "cannot remove container {}: could not kill it: it did not end within {KILL_GRACE:?}",
                container.id
            )));
        }
        let attributes = create::with(container.event_attributes(), [("signal", "9".to_owned())]);
        self.journal
            .record(EventKind::Container, "kill", container.id.as_str(), attributes);
        Ok(())
    }

    /// Removes all containers that do not run and that `wanted` picks. Returns their ids and the bytes given back.
    pub async fn prune_containers(
        &self,
        wanted: impl Fn(&super::Snapshot) -> bool + Send + 'static,
    ) -> Result<(Vec<String>, u64)> {
        let engine = self.clone();
        self.detached(async move {
            let (mut removed, mut freed) = (Vec::new(), 0);
            for container in engine.index.all() {
                let snapshot = container.snapshot();
                let idle = matches!(
                    snapshot.record.status.phase,
                    Phase::Created | Phase::Exited | Phase::Dead
                );
                if !idle || !wanted(&snapshot) {
                    continue;
                }
                let size = engine.writable_size(&container).await.unwrap_or(0);
                match engine.remove(&container, false, false).await {
                    Ok(()) => {
                        runtime_sys::failpoint!("prune-container-gone");
                        removed.push(container.id.to_string());
                        freed += size;
                    }
                    // It was started or removed in the meantime.
                    Err(Error::StillRunning { .. } | Error::Removing(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok((removed, freed))
        })
        .await
    }
}
