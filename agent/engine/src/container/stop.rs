//! Stop, kill, restart, pause, wait, rename.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::state::{Denied, Phase, Request};
use super::{Change, Container, create};
use crate::Engine;
use crate::error::{Error, Result};
use crate::events::EventKind;
use crate::ids::container_name;

const STOP_GRACE: Duration = Duration::from_secs(10); // Docker's default
/// How long a SIGKILL may take to show; longer only with a process stuck in the kernel.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// What a wait waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    #[default]
    NotRunning,
    NextExit,
    Removed,
}

impl Engine {
    /// Asks a container to end: its stop signal, and SIGKILL after `grace`. `Ok(false)`: it did not run.
    /// `grace` of `None` takes the container's own; `Some(None)` waits for ever.
    pub async fn stop(
        &self,
        container: &Arc<Container>,
        signal: Option<&str>,
        grace: Option<Option<Duration>>,
    ) -> Result<bool> {
        let signal = signal.filter(|text| !text.is_empty()).map(parse_signal).transpose()?;
        let (engine, container) = (self.clone(), container.clone());
        self.detached(async move {
            let _owner = container.op.lock().await;
            if container.phase().admit(Request::Stop) == Err(Denied::AlreadySo) {
                return Ok(false);
            }
            container.admit(&container.lock(), Request::Stop)?;
            engine.stop_owned(&container, signal, grace).await?;
            Ok(true)
        })
        .await
    }

    /// The caller owns the container's `op`.
    pub(crate) async fn stop_owned(
        &self,
        container: &Arc<Container>,
        signal: Option<i32>,
        grace: Option<Option<Duration>>,
    ) -> Result<()> {
        container.lock().record.status.stopped_by_user = true;
        if self.end_run(container, signal, grace).await? {
            runtime_sys::failpoint!("stop-ended");
            // Acknowledged only when a restarted daemon would know that somebody wanted it.
            self.save_now(container).await?;
            runtime_sys::failpoint!("stop-recorded");
            self.journal.record(
                EventKind::Container,
                "stop",
                container.id.as_str(),
                container.event_attributes(),
            );
            return Ok(());
        }
        self.save_now(container).await
    }

    /// Ends the run, whoever wants it; `false`: it only waited for a restart by policy. The caller owns the container's
    /// `op`.
    pub(crate) async fn end_run(
        &self,
        container: &Arc<Container>,
        signal: Option<i32>,
        grace: Option<Option<Duration>>,
    ) -> Result<bool> {
        let signalled = {
            let mut inner = container.lock();
            let config = &inner.record.config;
            let first = match (signal, config.stop_signal.as_deref()) {
                (Some(signal), _) => signal,
                (None, Some(text)) => parse_signal(text)?,
                (None, None) => Signal::SIGTERM as i32,
            };
            let own = match config.stop_timeout {
                None => Some(STOP_GRACE),
                Some(seconds) => u64::try_from(seconds).ok().map(Duration::from_secs),
            };
            match inner.run.as_ref().map(|run| run.shim.clone()) {
                Some(shim) => Some((shim, first, grace.unwrap_or(own))),
                // It waits for a restart by policy: there is nothing to signal, only the wait to end.
                None => {
                    inner.record.status.phase = Phase::Exited;
                    container.announce(&inner);
                    None
                }
            }
        };
        let Some((shim, first, limit)) = signalled else {
            return Ok(false);
        };
        if container.phase() == Phase::Paused {
            self.thaw(container).await?;
        }
        let mut changes = container.changes.subscribe();
        let exits = changes.borrow().exits;
        self.note_kill(container, first);
        self.signal(container, &shim, first).await?;
        runtime_sys::failpoint!("stop-signalled");
        let ended = wait_exit(&mut changes, exits, limit).await;
        if !ended {
            self.note_kill(container, Signal::SIGKILL as i32);
            self.signal(container, &shim, Signal::SIGKILL as i32).await?;
            if !wait_exit(&mut changes, exits, Some(KILL_GRACE)).await {
                return Err(Error::Conflict(format!(
                    "cannot stop container {}: tried to kill it, but did not receive an exit event",
                    container.id
                )));
            }
        }
        Ok(true)
    }

    fn note_kill(&self, container: &Container, signal: i32) {
        let attributes = create::with(container.event_attributes(), [("signal", signal.to_string())]);
        self.journal
            .record(EventKind::Container, "kill", container.id.as_str(), attributes);
    }

    async fn signal(&self, container: &Container, shim: &runtime::launcher::Shim, signal: i32) -> Result<()> {
        match shim.signal(signal).await {
            Ok(()) => Ok(()),
            // It ended by itself in the meantime; the wait will see that.
            Err(runtime::launcher::ShimError::NoProcess | runtime::launcher::ShimError::Gone) => Ok(()),
            Err(source) => Err(Error::Runtime {
                id: container.id.clone(),
                source,
            }),
        }
    }

    /// Sends a signal; SIGKILL is waited for.
    pub async fn kill(&self, container: &Arc<Container>, signal: &str) -> Result<()> {
        let signal = if signal.is_empty() {
            Signal::SIGKILL as i32
        } else {
            parse_signal(signal)?
        };
        let (engine, container) = (self.clone(), container.clone());
        self.detached(async move {
            // Without the owner's lock: a kill must reach a container whose stop is waiting.
            let ending;
            let (shim, phase) = {
                let mut inner = container.lock();
                container.admit(&inner, Request::Kill).map_err(|error| match error {
                    Error::NotRunning(id) => Error::Conflict(format!(
                        "cannot kill container: {}: container {id} is not running",
                        inner.record.name
                    )),
                    other => other,
                })?;
                let own = inner
                    .record
                    .config
                    .stop_signal
                    .as_deref()
                    .and_then(|text| parse_signal(text).ok());
                ending = signal == Signal::SIGKILL as i32 || signal == own.unwrap_or(Signal::SIGTERM as i32);
                if ending {
                    inner.record.status.stopped_by_user = true;
                }
                if inner.record.status.phase == Phase::Restarting {
                    if !ending {
                        // There is no process to hear it.
                        return Ok(());
                    }
                    inner.record.status.phase = Phase::Exited;
                    container.announce(&inner);
                    (None, Phase::Exited)
                } else {
                    (
                        inner.run.as_ref().map(|run| run.shim.clone()),
                        inner.record.status.phase,
                    )
                }
            };
            // It waited for a restart by policy, and does no more.
            let Some(shim) = shim else {
                return engine.save_now(&container).await;
            };
            let mut changes = container.changes.subscribe();
            let exits = changes.borrow().exits;
            engine.signal(&container, &shim, signal).await?;
            runtime_sys::failpoint!("kill-signalled");
            if phase == Phase::Paused && ending {
                // Frozen processes take a signal only when they thaw; what is to end them they take at once.
                engine.thaw(&container).await?;
            }
            engine.note_kill(&container, signal);
            if signal == Signal::SIGKILL as i32 && !wait_exit(&mut changes, exits, Some(KILL_GRACE)).await {
                return Err(Error::Conflict(format!(
                    "cannot kill container {}: it did not end within {KILL_GRACE:?}",
                    container.id
                )));
            }
            if container.lock().record.status.stopped_by_user {
                runtime_sys::failpoint!("kill-ended");
                // A restarted daemon must not start again what somebody killed.
                engine.save_now(&container).await?;
            }
            Ok(())
        })
        .await
    }

    /// Stop, then start, under one ownership.
    pub async fn restart(
        &self,
        container: &Arc<Container>,
        signal: Option<&str>,
        grace: Option<Option<Duration>>,
    ) -> Result<()> {
        let signal = signal.filter(|text| !text.is_empty()).map(parse_signal).transpose()?;
        let (engine, container) = (self.clone(), container.clone());
        self.detached(async move {
            let _owner = container.op.lock().await;
            engine.restart_owned(&container, signal, grace).await
        })
        .await
    }

    /// The restart itself; the caller owns the container's `op`.
    pub(super) async fn restart_owned(
        &self,
        container: &Arc<Container>,
        signal: Option<i32>,
        grace: Option<Option<Duration>>,
    ) -> Result<()> {
        let phase = container.phase();
        if phase.is_live() || phase == Phase::Restarting {
            self.stop_owned(container, signal, grace).await?;
        }
        runtime_sys::failpoint!("restart-stopped");
        {
            let mut inner = container.lock();
            container.admit(&inner, Request::Start)?;
            inner.record.status.stopped_by_user = false;
        }
        self.start_owned(container).await?;
        self.journal.record(
            EventKind::Container,
            "restart",
            container.id.as_str(),
            container.event_attributes(),
        );
        Ok(())
    }

    /// Freezes every process of a container.
    pub async fn pause(&self, container: &Arc<Container>) -> Result<()> {
        let (engine, container) = (self.clone(), container.clone());
        self.detached(async move {
            let _owner = container.op.lock().await;
            let cgroup = {
                let inner = container.lock();
                container.admit(&inner, Request::Pause)?;
                inner
                    .run
                    .as_ref()
                    .map(|run| run.cgroup.clone())
                    .ok_or_else(|| Error::NotRunning(container.id.clone()))?
            };
            engine
                .blocking(move |engine| Ok(engine.cgroups.freeze(&cgroup)?))
                .await?;
            engine.turn(&container, Phase::Running, Phase::Paused).await?;
            engine.journal.record(
                EventKind::Container,
                "pause",
                container.id.as_str(),
                container.event_attributes(),
            );
            Ok(())
        })
        .await
    }

    /// Lets a frozen container run on.
    pub async fn unpause(&self, container: &Arc<Container>) -> Result<()> {
        let (engine, container) = (self.clone(), container.clone());
        self.detached(async move {
            let _owner = container.op.lock().await;
            container.admit(&container.lock(), Request::Unpause)?;
            engine.thaw(&container).await
        })
        .await
    }

    async fn thaw(&self, container: &Arc<Container>) -> Result<()> {
        let Some(cgroup) = container.lock().run.as_ref().map(|run| run.cgroup.clone()) else {
            return Ok(());
        };
        self.blocking(move |engine| Ok(engine.cgroups.thaw(&cgroup)?)).await?;
        self.turn(container, Phase::Paused, Phase::Running).await?;
        self.journal.record(
            EventKind::Container,
            "unpause",
            container.id.as_str(),
            container.event_attributes(),
        );
        Ok(())
    }

    /// Changes the phase if it still is what it was.
    async fn turn(&self, container: &Arc<Container>, from: Phase, to: Phase) -> Result<()> {
        {
            let mut inner = container.lock();
            if inner.record.status.phase != from {
                return Ok(());
            }
            inner.record.status.phase = to;
            container.announce(&inner);
        }
        self.save_now(container).await
    }

    /// Waits for a condition; the subscription begins at the call, so that nothing between call and poll is missed.
    pub fn wait(
        &self,
        container: &Arc<Container>,
        condition: Condition,
    ) -> impl Future<Output = Change> + Send + 'static {
        let mut changes = container.changes.subscribe();
        let exits = changes.borrow_and_update().exits;
        let (engine, container) = (self.clone(), Arc::downgrade(container));
        async move {
            let done = move |change: &Change| match condition {
                Condition::NotRunning => !change.phase.is_live() && change.phase != Phase::Restarting || change.removed,
                Condition::NextExit => change.exits > exits || change.removed,
                Condition::Removed => change.removed,
            };
            let ended = changes.wait_for(done).await.map(|change| change.clone());
            match ended {
                Ok(change) => {
                    if let Some(container) = container.upgrade() {
                        engine.ends_are_durable(&[container]).await;
                    }
                    change
                }
                // The container is gone, which fulfils every condition.
                Err(_) => Change {
                    phase: Phase::Dead,
                    exits,
                    exit_code: 0,
                    removed: true,
                },
            }
        }
    }

    /// Gives a container another name.
    pub async fn rename(&self, container: &Arc<Container>, name: &str) -> Result<()> {
        if name.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let name = container_name(name)?;
        let (engine, container) = (self.clone(), container.clone());
        self.detached(async move {
            let _owner = container.op.lock().await;
            let old = container.name();
            if old == name {
                return Err(Error::invalid(
                    "Renaming a container with the same name as its current name",
                ));
            }
            container.admit(&container.lock(), Request::Rename)?;
            let claim = engine.index.claim(&name, &container.id)?;
            runtime_sys::failpoint!("rename-claimed");
            container.lock().record.name.clone_from(&name);
            if let Err(error) = engine.save_now(&container).await {
                container.lock().record.name = old;
                return Err(error);
            }
            runtime_sys::failpoint!("rename-recorded");
            claim.keep();
            engine.index.release_name(&old);
            let attributes = create::with(container.event_attributes(), [("oldName", format!("/{old}"))]);
            engine
                .journal
                .record(EventKind::Container, "rename", container.id.as_str(), attributes);
            Ok(())
        })
        .await
    }
}

pub(crate) fn parse_signal(text: &str) -> Result<i32> {
    runtime::signal::parse(text).map_err(|error| Error::invalid(error.to_string()))
}

/// Whether an exit beyond the first `exits` was seen within `limit`.
async fn wait_exit(changes: &mut tokio::sync::watch::Receiver<Change>, exits: u64, limit: Option<Duration>) -> bool {
    let ended = changes.wait_for(|change| change.exits > exits || change.removed);
    match limit {
        None => ended.await.is_ok(),
        Some(limit) => tokio::time::timeout(limit, ended).await.is_ok(),
    }
}
