//! Update: limits, restart policy and published ports of a container, live where it runs; environment and mounts from
//! its next start on.

use std::sync::Arc;

use super::change::Change;
use super::create::Made;
use super::spec::{Resources, RestartName, RestartPolicy};
use super::state::Phase;
use super::{Container, Record, plan, unhealthy, validate};
use crate::Engine;
use crate::error::{Error, Result};
use crate::events::EventKind;

/// What is to change; a limit that is zero or absent stays as it is.
#[derive(Clone, Debug, Default)]
pub struct UpdateRequest {
    pub resources: Resources,
    pub restart_policy: Option<RestartPolicy>,
    pub change: Change,
}

/// The present limits with the wanted ones over them. Pure; the words are Docker's.
fn merge(own: &Resources, wanted: &Resources) -> Result<Resources> {
    let conflict = |text: &str| Err(Error::Conflict(text.to_owned()));
    // The two notations exclude each other, also over time.
    for (clash, text) in [
        (
            wanted.nano_cpus > 0 && own.cpu_period > 0,
            "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
        ),
        (
            wanted.nano_cpus > 0 && own.cpu_quota > 0,
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set",
        ),
        (
            wanted.cpu_period > 0 && own.nano_cpus > 0,
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
        ),
        (
            wanted.cpu_quota > 0 && own.nano_cpus > 0,
            "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
        ),
        (
            wanted.memory != 0 && wanted.memory_swap == 0 && own.memory_swap > 0 && wanted.memory > own.memory_swap,
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ),
    ] {
        if clash {
            return conflict(text);
        }
    }
    let mut merged = own.clone();
    for (target, value) in [
        (&mut merged.cpu_shares, wanted.cpu_shares),
        (&mut merged.nano_cpus, wanted.nano_cpus),
        (&mut merged.cpu_period, wanted.cpu_period),
        (&mut merged.cpu_quota, wanted.cpu_quota),
        (&mut merged.memory_reservation, wanted.memory_reservation),
        (&mut merged.memory, wanted.memory),
        (&mut merged.memory_swap, wanted.memory_swap),
    ] {
        if value != 0 {
            *target = value;
        }
    }
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
    for (target, devices) in [
        (&mut merged.blkio_weight_device, &wanted.blkio_weight_device),
        (&mut merged.read_bps, &wanted.read_bps),
        (&mut merged.write_bps, &wanted.write_bps),
        (&mut merged.read_iops, &wanted.read_iops),
        (&mut merged.write_iops, &wanted.write_iops),
    ] {
        for device in devices {
            target.retain(|other| other.path != device.path);
            target.push(device.clone());
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
            let refused = |error: Error| match error {
                Error::Conflict(text) => Error::Conflict(format!("Cannot update container {}: {text}", container.id)),
                other => other,
            };
            let (record, run) = {
                let inner = container.lock();
                if matches!(inner.record.status.phase, Phase::Removing | Phase::Dead) {
                    return Err(refused(Error::Conflict(
                        "container is marked for removal and cannot be \"update\"".to_owned(),
                    )));
                }
                let run = inner.run.as_ref();
                let unit = |run: &super::Run| run.net.group.as_ref().and_then(|group| group.unit.clone());
                (inner.record.clone(), run.map(|run| (run.cgroup.clone(), unit(run))))
            };
            let mut host = record.host.clone();
            host.resources = merge(&host.resources, &request.resources).map_err(refused)?;
            if let Some(policy) = request.restart_policy {
                if host.auto_remove && policy.name != RestartName::No {
                    return Err(refused(Error::Conflict(
                        "Restart policy cannot be updated because AutoRemove is enabled for the container".to_owned(),
                    )));
                }
                host.restart_policy = policy;
            }
            let mut warnings = Vec::new();
            validate::changes(&host, &mut warnings)?;
            warnings.extend(unhealthy::doubt(&record.config, &host));
            let limits = plan::changed_limits(&record.host.resources, &host.resources)?;
            let (back, stay) = plan::restored_limits(&record.host.resources, &host.resources)?;
            let mut made = Made::default();
            let next = match engine.change_next(&record, &request.change, &mut made).await {
                Ok(next) => next,
                Err(error) => {
                    engine.undo(&container.id, made).await;
                    return Err(error);
                }
            };
            let restart = request.change.now && next.is_some() && Self::waits_for_a_start(&container);
            let mut undo = Undo {
                container: &container,
                record,
                made,
                published: false,
            };
            match engine.change_published(&container, &request.change) {
                Ok(published) => undo.published = published,
                Err(error) => {
                    engine.take_back(undo).await;
                    return Err(error);
                }
            }
            if let Some((cgroup, unit)) = run.clone() {
                let update = move |engine: &Engine| engine.update_group(&cgroup, unit.as_deref(), &limits);
                if let Err(error) = engine.blocking(update).await {
                    engine.take_back(undo).await;
                    return Err(error);
                }
            }
            runtime_sys::failpoint!("update-applied");
            {
                let waits = Self::waits_for_a_start(&container);
                let record = &mut container.lock().record;
                record.host.resources = host.resources;
                record.host.restart_policy = host.restart_policy;
                record.next = next.map(Box::new).or(record.next.take());
                if !waits {
                    record.take_next();
                }
            }
            if let Err(error) = engine.save_now(&container).await {
                engine.take_back(undo).await;
                if let Some((cgroup, unit)) = run {
                    if !stay.is_empty() {
                        tracing::error!(container = %container.id, ?stay, "limits stay changed until the next start");
                    }
                    let update = move |engine: &Engine| engine.update_group(&cgroup, unit.as_deref(), &back);
                    if let Err(error) = engine.blocking(update).await {
                        tracing::error!(container = %container.id, error = %error.chain(), "limits are not as the record says");
                    }
                }
                return Err(error);
            }
            engine.journal.record(
                EventKind::Container,
                "update",
                container.id.as_str(),
                container.event_attributes(),
            );
            if restart {
                engine.restart_owned(&container, None, None).await?;
            }
            Ok(warnings)
        })
        .await
    }

    async fn take_back(&self, undo: Undo<'_>) {
        if undo.published {
            let (config, host) = (undo.record.config.clone(), undo.record.host.clone());
            if let Err(error) = self.publish_as(undo.container, config, host) {
                tracing::error!(container = %undo.container.id, error = %error.chain(), "ports are not as the record says");
            }
        }
        {
            let record = &mut undo.container.lock().record;
            record.config = undo.record.config;
            record.host = undo.record.host;
            record.mounts = undo.record.mounts;
            record.next = undo.record.next;
        }
        self.undo(&undo.container.id, undo.made).await;
    }
}

/// What an update has done so far.
struct Undo<'a> {
    container: &'a Arc<Container>,
    /// As it was before.
    record: Record,
    made: Made,
    /// Its ports were changed.
    published: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::spec::DeviceLimit;
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
        let quota = Resources {
            cpu_quota: 9000,
            ..Resources::default()
        };
        assert!(matches!(merge(&own, &quota), Err(Error::Conflict(_))));
        assert!(matches!(merge(&quota, &own), Err(Error::Conflict(_))));
        assert_eq!(merge(&Resources::default(), &quota).unwrap().cpu_quota, 9000);
    }

    #[test]
    fn limits_of_devices_are_replaced_one_by_one() {
        let rates = |pairs: &[(&str, u64)]| Resources {
            read_bps: pairs
                .iter()
                .map(|(path, value)| DeviceLimit {
                    path: (*path).to_owned(),
                    value: *value,
                })
                .collect(),
            ..Resources::default()
        };
        let merged = merge(&rates(&[("/dev/a", 1), ("/dev/b", 2)]), &rates(&[("/dev/a", 3)])).unwrap();
        assert_eq!(merged, rates(&[("/dev/b", 2), ("/dev/a", 3)]));
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
