//! Update: limits and restart policy of a container, live where it runs.

use std::sync::Arc;

use super::spec::{Resources, RestartPolicy};
use super::state::Phase;
use super::{Container, plan, validate};
use crate::Engine;
use crate::error::{Error, Result};
use crate::events::EventKind;

/// What is to change; a limit that is zero or absent stays as it is.
#[derive(Clone, Debug, Default)]
pub struct UpdateRequest {
    pub resources: Resources,
    pub restart_policy: Option<RestartPolicy>,
}

/// The present limits with the wanted ones over them. Pure.
fn merge(own: &Resources, wanted: &Resources) -> Result<Resources> {
    let mut merged = own.clone();
    let number = |target: &mut i64, value: i64| {
        if value != 0 {
            *target = value;
        }
    };
    number(&mut merged.cpu_shares, wanted.cpu_shares);
    number(&mut merged.cpu_period, wanted.cpu_period);
    number(&mut merged.cpu_quota, wanted.cpu_quota);
    number(&mut merged.memory_reservation, wanted.memory_reservation);
    if wanted.nano_cpus != 0 {
        // The two notations exclude each other; the newer wish replaces the older one.
        merged.nano_cpus = wanted.nano_cpus;
        (merged.cpu_period, merged.cpu_quota) = (wanted.cpu_period, wanted.cpu_quota);
    } else if wanted.cpu_period != 0 || wanted.cpu_quota != 0 {
        merged.nano_cpus = 0;
    }
    if wanted.memory != 0 && wanted.memory_swap == 0 && own.memory_swap > 0 && wanted.memory > own.memory_swap {
        return Err(Error::invalid(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    number(&mut merged.memory, wanted.memory);
    number(&mut merged.memory_swap, wanted.memory_swap);
    if wanted.blkio_weight != 0 {
        merged.blkio_weight = wanted.blkio_weight;
    }
    for (target, value) in [
        (&mut merged.cpuset_cpus, &wanted.cpuset_cpus),
        (&mut merged.cpuset_mems, &wanted.cpuset_mems),
    ] {
        if !value.is_empty() {
            target.clone_from(value);
        }
    }
    if wanted.pids_limit.is_some() {
        merged.pids_limit = wanted.pids_limit;
    }
    if wanted.memory_swappiness.is_some() {
        merged.memory_swappiness = wanted.memory_swappiness;
    }
    Ok(merged)
}

impl Engine {
    /// Changes limits and restart policy. Returns warnings.
    ///
    /// # Errors
    /// A wish that breaks a rule or that the kernel refuses; then nothing has changed.
    pub async fn update(&self, container: &Arc<Container>, request: UpdateRequest) -> Result<Vec<String>> {
        let (engine, container) = (self.clone(), container.clone());
        self.detached(async move {
            let _owner = container.op.lock().await;
            let (record, run) = {
                let inner = container.lock();
                if matches!(inner.record.status.phase, Phase::Removing | Phase::Dead) {
                    return Err(Error::Removing(container.id.clone()));
                }
                let run = inner.run.as_ref();
                let unit = |run: &super::Run| run.net.group.as_ref().and_then(|group| group.unit.clone());
                (inner.record.clone(), run.map(|run| (run.cgroup.clone(), unit(run))))
            };
            let mut host = record.host.clone();
            host.resources = merge(&host.resources, &request.resources)?;
            if let Some(policy) = request.restart_policy {
                host.restart_policy = policy;
            }
            let mut warnings = Vec::new();
            validate::changes(&host, &mut warnings)?;
            if let Some((cgroup, unit)) = run {
                let limits = plan::changed_limits(&record.host.resources, &host.resources)?;
                engine
                    .blocking(move |engine| engine.update_group(&cgroup, unit.as_deref(), &limits))
                    .await?;
            }
            container.lock().record.host = host;
            engine.save_now(&container).await?;
            engine.journal.record(
                EventKind::Container,
                "update",
                container.id.as_str(),
                container.event_attributes(),
            );
            Ok(warnings)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let own = Resources {
            memory: 100,
            nano_cpus: 5,
            pids_limit: Some(7),
            ..Resources::default()
        };
        let wanted = Resources {
            memory: 50,
            ..Resources::default()
        };
        let merged = merge(&own, &wanted).unwrap();
        assert_eq!((merged.memory, merged.nano_cpus, merged.pids_limit), (50, 5, Some(7)));
        let quota = merge(
            &own,
            &Resources {
                cpu_quota: 9000,
                ..Resources::default()
            },
        )
        .unwrap();
        assert_eq!((quota.nano_cpus, quota.cpu_quota), (0, 9000));
    }

    #[test]
    fn memory_beyond_the_swap_limit_needs_a_new_one() {
        let own = Resources {
            memory: 100,
            memory_swap: 200,
            ..Resources::default()
        };
        assert!(
            merge(
                &own,
                &Resources {
                    memory: 300,
                    ..Resources::default()
                }
            )
            .is_err()
        );
        assert!(
            merge(
                &own,
                &Resources {
                    memory: 300,
                    memory_swap: 600,
                    ..Resources::default()
                }
            )
            .is_ok()
        );
    }
}
