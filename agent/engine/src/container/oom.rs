//! `oom` events and `OOMKilled`, as the kernel kills: also where the container runs on.

use std::sync::Arc;
use std::time::Duration;

use runtime::cgroup::{CgroupPath, OomWatch};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Container;
use crate::Engine;
use crate::events::EventKind;

/// v1 tells before the victim is counted: so often, and so long apart, the count is looked at.
const LOOKS: u32 = 20;
const LOOK: Duration = Duration::from_millis(25);

fn interest(watch: &OomWatch) -> Interest {
    if watch.is_priority() {
        Interest::PRIORITY
    } else {
        Interest::READABLE
    }
}

impl Engine {
    /// Watches one run until its end. Nothing on the way of a start waits for this.
    pub(crate) fn watch_oom(&self, container: &Arc<Container>, cgroup: CgroupPath, run: u64) {
        let (engine, container) = (self.clone(), container.clone());
        self.tasks.spawn(async move {
            let opened = engine
                .blocking({
                    let cgroup = cgroup.clone();
                    move |engine| {
                        let watch = engine.cgroups.oom_watch(&cgroup)?;
                        // What was killed before somebody watched is seen at the end of the run.
                        Ok(watch.zip(engine.cgroups.oom_kills(&cgroup).ok()))
                    }
                })
                .await;
            let (watch, seen) = match opened {
                Ok(Some(opened)) => opened,
                // A short run is over by now.
                Ok(None) | Err(_) => return,
            };
            let interest = interest(&watch);
            // The successor of this is unsafe, for types whose descriptor can change; `OomWatch` owns the one it has.
            #[allow(deprecated)]
            let Ok(watch) = AsyncFd::with_interest(watch, interest) else {
                return;
            };
            let mut changes = container.changes.subscribe();
            let over = async {
                changes
                    .wait_for(|change| change.removed || change.exits != run)
                    .await
                    .map_or((), drop)
            };
            tokio::select! {
                () = engine.shutdown.cancelled() => {}
                () = over => {}
                () = engine.hear_oom(&container, &watch, &cgroup, run, seen) => {}
            }
        });
    }

    async fn hear_oom(
        &self,
        container: &Container,
        watch: &AsyncFd<OomWatch>,
        cgroup: &CgroupPath,
        run: u64,
        mut seen: u64,
    ) {
        let interest = interest(watch.get_ref());
        loop {
            let Ok(mut ready) = watch.ready(interest).await else {
                return;
            };
            // Before it is taken: what is told meanwhile makes it ready again.
            ready.clear_ready();
            match watch.get_ref().take() {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(_) => return,
            }
            for _ in 0..LOOKS {
                let cgroup = cgroup.clone();
                // The group is gone: its end is told as an event too.
                let Ok(kills) = self
                    .blocking(move |engine| Ok(engine.cgroups.oom_kills(&cgroup)?))
                    .await
                else {
                    return;
                };
                if kills > seen {
                    seen = kills;
                    self.note_oom(container, run);
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    fn note_oom(&self, container: &Container, run: u64) {
        {
            let mut inner = container.lock();
            if inner.record.status.exits != run {
                return;
            }
            inner.record.status.oom_killed = true;
        }
        self.journal.record(
            EventKind::Container,
            "oom",
            container.id.as_str(),
            container.event_attributes(),
        );
    }
}
