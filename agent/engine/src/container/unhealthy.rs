//! Restart on unhealthy, an extension: a container whose health check fails for good is ended and left to its restart
//! policy, as if it had failed by itself.
//!
//! ```text
//! --restart on-unhealthy[:N]                 as on-failure[:N], and being unhealthy is a failure
//! --label iechor.restart-on-unhealthy=true   beside any other restart policy
//! ```
//!
//! It is ended with its own stop signal and grace, and only where the policy will start it again: a container that has
//! used up its restarts runs on, unhealthy, rather than not at all.

use std::sync::Arc;

use super::exit::wants_restart;
use super::health::{self, HealthState};
use super::spec::{Config, HostConfig, RestartName};
use super::state::Phase;
use super::{Container, Inner};
use crate::Engine;

/// Label that asks for it beside a policy that Docker knows.
pub const LABEL: &str = "iechor.restart-on-unhealthy";

fn labelled(config: &Config) -> bool {
    let value = config.labels.get(LABEL).map(|value| value.trim().to_ascii_lowercase());
    value.is_some_and(|value| matches!(value.as_str(), "" | "1" | "true" | "yes"))
}

/// Whether an unhealthy container is to be ended. Pure.
fn wanted(config: &Config, host: &HostConfig) -> bool {
    match host.restart_policy.name {
        RestartName::OnUnhealthy => true,
        RestartName::No => false,
        RestartName::Always | RestartName::UnlessStopped | RestartName::OnFailure => labelled(config),
    }
}

/// A warning for who asks for what will never happen.
pub fn doubt(config: &Config, host: &HostConfig) -> Option<String> {
    if labelled(config) && host.restart_policy.name == RestartName::No {
        return Some(format!("The label {LABEL} has no effect without a restart policy."));
    }
    if wanted(config, host) && health::initial(config).is_none() {
        return Some("Restart on unhealthy has no effect: the container has no health check.".to_owned());
    }
    None
}

/// Whether this run is unhealthy, and its policy would start the container again.
fn curable(inner: &Inner, run: u64) -> bool {
    let record = &inner.record;
    record.status.exits == run
        && record.status.phase == Phase::Running
        && record
            .health
            .as_ref()
            .is_some_and(|health| health.state == HealthState::Unhealthy)
        && wanted(&record.config, &record.host)
        && wants_restart(&record.host.restart_policy, &record.status, 1)
}

impl Engine {
    /// Ends an unhealthy run where that is wanted. `run` is the count of exits before it.
    pub(crate) fn cure(&self, container: &Arc<Container>, run: u64) {
        if !curable(&container.lock(), run) {
            return;
        }
        let (engine, container) = (self.clone(), container.clone());
        self.tasks.spawn(async move {
            let end = async {
                let _owner = container.op.lock().await;
                {
                    let mut inner = container.lock();
                    // It may have recovered, or been stopped, while somebody else owned it.
                    if !curable(&inner, run) {
                        return;
                    }
                    inner.ailing = true;
                }
                tracing::info!(container = %container.id, "unhealthy: ended for its restart policy");
                if let Err(error) = engine.end_run(&container, None, None).await {
                    container.lock().ailing = false;
                    tracing::warn!(container = %container.id, error = error.chain(), "an unhealthy container does not end");
                }
            };
            tokio::select! {
                () = engine.shutdown.cancelled() => {}
                () = end => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::{Healthcheck, RestartPolicy};
    use super::*;

    fn container(name: RestartName, label: Option<&str>, check: bool) -> (Config, HostConfig) {
        let config = Config {
            labels: label
                .map(|value| (LABEL.to_owned(), value.to_owned()))
                .into_iter()
                .collect(),
            healthcheck: check.then(|| Healthcheck {
                test: vec!["CMD".into(), "true".into()],
                ..Healthcheck::default()
            }),
            ..Config::default()
        };
        let host = HostConfig {
            restart_policy: RestartPolicy {
                name,
                maximum_retry_count: 0,
            },
            ..HostConfig::default()
        };
        (config, host)
    }

    #[test]
    fn asked_for_by_policy_or_label() {
        use RestartName as N;
        for (name, label, expected) in [
            (N::OnUnhealthy, None, true),
            (N::Always, None, false),
            (N::Always, Some("true"), true),
            (N::UnlessStopped, Some("1"), true),
            (N::OnFailure, Some("false"), false),
            (N::No, Some("true"), false),
        ] {
            let (config, host) = container(name, label, true);
            assert_eq!(wanted(&config, &host), expected, "{name:?} {label:?}");
            assert_eq!(doubt(&config, &host).is_some(), name == N::No, "{name:?} {label:?}");
        }
        let (config, host) = container(N::OnUnhealthy, None, false);
        assert!(doubt(&config, &host).is_some_and(|text| text.contains("no health check")));
    }
}
