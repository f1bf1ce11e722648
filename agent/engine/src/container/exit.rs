//! The end of a run: the exit is recorded, the network given back, and the restart policy asked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use runtime::exit::Exit;
use runtime::launcher::Shim;

use super::spec::{RestartName, RestartPolicy};
use super::state::{Phase, Status};
use super::{Container, create};
use crate::Engine;
use crate::disk;
use crate::events::EventKind;

/// Exit code of a run that nobody saw end: Docker's.
const UNKNOWN_CODE: i32 = 255;

const FIRST_DELAY: Duration = Duration::from_millis(100); // Docker's numbers
const MAX_DELAY: Duration = Duration::from_secs(60);
/// A run this long starts the delays anew.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// Delay before the next restart by policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { next: FIRST_DELAY }
    }
}

impl Backoff {
    /// The delay after a run of length `ran`; doubles for the next one.
    pub fn after(&mut self, ran: Duration) -> Duration {
        if ran >= GOOD_RUN {
            self.next = FIRST_DELAY;
        }
        let delay = self.next;
        self.next = (self.next * 2).min(MAX_DELAY);
        delay
    }
}

/// Whether a container that ended with `code` is started again. Pure.
pub fn wants_restart(policy: &RestartPolicy, status: &Status, code: i32) -> bool {
    if status.stopped_by_user {
        return false;
    }
    match policy.name {
        RestartName::No => false,
        RestartName::Always | RestartName::UnlessStopped => true,
        RestartName::OnFailure | RestartName::OnUnhealthy => {
            code != 0 && (policy.maximum_retry_count == 0 || status.restart_count < policy.maximum_retry_count)
        }
    }
}

/// Whether a container that does not run is started when the daemon starts. Pure.
pub fn wants_start_at_boot(policy: &RestartPolicy, status: &Status) -> bool {
    // One that was never started by anybody stays `created`.
    let ran = status.started_at.is_some();
    match policy.name {
        RestartName::No => false,
        RestartName::Always => ran,
        RestartName::UnlessStopped => ran && !status.stopped_by_user,
        RestartName::OnFailure | RestartName::OnUnhealthy => {
            ran && !status.stopped_by_user
                && status.exit_code != 0
                && (policy.maximum_retry_count == 0 || status.restart_count < policy.maximum_retry_count)
        }
    }
}

/// What follows an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Nothing,
    Restart { delay: Duration, exits: u64 },
    Remove,
}

impl Engine {
    /// Waits for the end of a run and handles it. `run` is the count of exits before it.
    pub(crate) fn watch_exit(&self, container: &Arc<Container>, shim: Shim, run: u64) {
        let (engine, container) = (self.clone(), container.clone());
        container.idle.send_replace(false);
        engine.watch_log(&container, &shim);
        // Not in `tasks`: a shutdown does not wait for containers to end.
        tokio::spawn(async move {
            tokio::select! {
                () = engine.shutdown.cancelled() => {}
                exit = shim.wait() => {
                    runtime_sys::failpoint!("exit-seen");
                    let after = engine.ended(&container, exit, run).await;
                    // Only now may the shim forget the exit.
                    let released = shim.release().await;
                    runtime_sys::failpoint!("exit-shim-released");
                    if !released || exit.code == UNKNOWN_CODE {
                        engine.sweep_shim(&container).await;
                    }
                    container.idle.send_replace(true);
                    engine.follow_up(&container, after);
                }
            }
        });
    }

    /// Waits until the ends of these containers are on the disk: an exit code that somebody was told is not lost with the
    /// power. Costs nothing but in the moments after an end. Where there is no room they are told all the same.
    pub async fn ends_are_durable(&self, containers: &[Arc<Container>]) {
        if containers.iter().any(|one| one.untold.load(Ordering::SeqCst)) {
            self.store_is_durable().await;
        }
    }

    /// The same for all containers, before a list of them.
    pub async fn all_ends_are_durable(&self) {
        if self.untold.load(Ordering::SeqCst) > 0 {
            self.store_is_durable().await;
        }
    }

    /// Waits until what the store was given is on the disk.
    async fn store_is_durable(&self) {
        let _ = self.store.db().commit(agent_store::Batch::new()).await;
    }

    /// Takes back what a shim that was killed could not: its container's groups with whatever is in them, its bundle where
    /// another runtime made it, its socket.
    pub(crate) async fn sweep_shim(&self, container: &Container) {
        self.sweep_cgroup(container);
        let runtime = container.lock().record.host.runtime.clone();
        self.sweep_bundle(&container.id, &runtime).await;
        self.launcher.sweep(container.id.as_str());
    }

    /// A shim that was killed could not remove its container's groups.
    pub(crate) fn sweep_cgroup(&self, container: &Container) {
        let group = self.group(&container.lock().record);
        let swept = group.and_then(|group| self.clear_group(&container.id, &group));
        if let Err(error) = swept {
            tracing::warn!(container = %container.id, error = error.chain(), "a control group without a shim stays");
        }
    }

    fn follow_up(&self, container: &Arc<Container>, after: After) {
        match after {
            After::Nothing => {}
            After::Restart { delay, exits } => self.restart_after(container, delay, exits),
            After::Remove => self.remove_later(container),
        }
    }

    /// Records one exit, tells waiters, and does what policy wants.
    pub(crate) async fn ended(&self, container: &Arc<Container>, exit: Exit, run: u64) -> After {
        let (saved, net, restart, auto_remove, untold_oom) = {
            let mut inner = container.lock();
            if inner.removed || inner.record.status.exits != run {
                return After::Nothing;
            }
            let net = inner.run.take().map(|run| run.net).unwrap_or_default();
            let policy = inner.record.host.restart_policy.clone();
            let ailing = std::mem::take(&mut inner.ailing);
            let status = &mut inner.record.status;
            let ran = status
                .started_at
                .and_then(|start| exit.at.duration_since(start).ok())
                .unwrap_or_default();
            status.exits += 1;
            status.exit_code = exit.code;
            let untold = exit.oom && !status.oom_killed;
            status.oom_killed |= exit.oom;
            status.finished_at = Some(exit.at);
            status.pid = 0;
            // One that was ended because it was unhealthy has failed, whatever it says of itself.
            let verdict = if ailing && exit.code == 0 { 1 } else { exit.code };
            let again = wants_restart(&policy, status, verdict) && status.phase != Phase::Removing;
            if status.phase != Phase::Removing {
                status.phase = if again { Phase::Restarting } else { Phase::Exited };
            }
            let delay = again.then(|| inner.backoff.after(ran));
            // Queued while locked: a removal's delete can only come behind it. The shim's own record lasts until then.
            let saved = self.save_told(&inner);
            container.untold.store(true, Ordering::SeqCst);
            self.untold.fetch_add(1, Ordering::SeqCst);
            container.announce(&inner);
            (saved, net, delay, inner.record.host.auto_remove, untold)
        };
        if untold_oom {
            self.journal.record(
                EventKind::Container,
                "oom",
                container.id.as_str(),
                container.event_attributes(),
            );
        }
        let duration = exit
            .at
            .duration_since(container.lock().record.status.started_at.unwrap_or(exit.at));
        let attributes = create::with(
            container.event_attributes(),
            [
                ("exitCode", exit.code.to_string()),
                ("execDuration", duration.map(|d| d.as_secs()).unwrap_or(0).to_string()),
            ],
        );
        self.journal
            .record(EventKind::Container, "die", container.id.as_str(), attributes);
        runtime_sys::failpoint!("exit-told");
        self.release_network(container.id.as_str(), &net);
        let record = container.lock().record.clone();
        self.release_volumes(container.id.as_str(), &record).await;
        self.remove_bundle(&record);
        runtime_sys::failpoint!("exit-volumes-released");
        self.execs.container_ended(container.id.as_str());
        if let Some(saved) = saved
            && let Err(error) = saved.await
        {
            tracing::error!(container = %container.id, %error, "an exit could not be recorded; the shim's record stays");
        }
        container.untold.store(false, Ordering::SeqCst);
        self.untold.fetch_sub(1, Ordering::SeqCst);
        runtime_sys::failpoint!("exit-recorded");
        // Until now the run record and the shim's exit record told a restarted daemon what the record did not yet.
        let _ = disk::remove_file(&self.places(&container.id).run_record());
        match restart {
            Some(delay) => After::Restart { delay, exits: run + 1 },
            None if auto_remove => After::Remove,
            None => After::Nothing,
        }
    }

    fn restart_after(&self, container: &Arc<Container>, delay: Duration, exits: u64) {
        let (engine, container) = (self.clone(), container.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = engine.shutdown.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
            let _owner = container.op.lock().await;
            {
                let mut inner = container.lock();
                let status = &mut inner.record.status;
                // Somebody stopped, started or removed it while it waited.
                if status.phase != Phase::Restarting || status.exits != exits {
                    return;
                }
                status.restart_count += 1;
            }
            if let Err(error) = engine.start_owned(&container).await {
                tracing::warn!(container = %container.id, error = %error.chain(), "a restart by policy failed");
                let again = {
                    let mut inner = container.lock();
                    let status = &inner.record.status;
                    let wanted = wants_restart(&inner.record.host.restart_policy, status, status.exit_code)
                        && status.phase != Phase::Removing;
                    wanted.then(|| {
                        inner.record.status.phase = Phase::Restarting;
                        container.announce(&inner);
                        (inner.backoff.after(Duration::ZERO), inner.record.status.exits)
                    })
                };
                if let Some((delay, exits)) = again {
                    engine.restart_after(&container, delay, exits);
                }
            }
        });
    }

    /// An exit that happened while no daemon looked.
    pub(crate) fn exit_unknown(at: SystemTime) -> Exit {
        Exit {
            code: UNKNOWN_CODE,
            signal: None,
            oom: false,
            at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn delays_double_up_to_a_minute_and_begin_anew_after_a_good_run() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..12).map(|_| backoff.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(delays[..4], [100, 200, 400, 800]);
        assert_eq!(delays[11], 60_000);
        assert_eq!(backoff.after(GOOD_RUN), FIRST_DELAY);
    }

    proptest! {
        #[test]
        fn on_failure_stops_at_its_count(count in 1u32..6, code in 1i32..255, unhealthy: bool) {
            let name = if unhealthy { RestartName::OnUnhealthy } else { RestartName::OnFailure };
            let policy = RestartPolicy { name, maximum_retry_count: count };
            let mut status = Status::default();
            let mut restarts = 0;
            while wants_restart(&policy, &status, code) {
                status.restart_count += 1;
                restarts += 1;
                prop_assert!(restarts <= count);
            }
            prop_assert_eq!(restarts, count);
            prop_assert!(!wants_restart(&policy, &Status::default(), 0));
        }

        #[test]
        fn nothing_restarts_what_a_user_stopped(code in 0i32..255) {
            let status = Status { stopped_by_user: true, ..Status::default() };
            for name in [
                RestartName::No,
                RestartName::Always,
                RestartName::UnlessStopped,
                RestartName::OnFailure,
                RestartName::OnUnhealthy,
            ] {
                let policy = RestartPolicy { name, maximum_retry_count: 0 };
                prop_assert!(!wants_restart(&policy, &status, code));
            }
        }
    }
}
