//! Health checks: a test command run in the container again and again, and the state that follows from its results.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use super::exec::ExecRequest;
use super::spec::{Config, Healthcheck};
use super::state::Phase;
use super::{Change, Container, Inner};
use crate::Engine;
use crate::error::{Error, Result};
use crate::events::EventKind;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(30); // Docker's defaults
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_START_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_RETRIES: i64 = 3;
/// Results kept, and bytes of output kept of each: Docker's numbers.
const KEPT: usize = 5;
const MAX_OUTPUT: usize = 4096;
/// Docker refuses durations below this, other than 0.
const MIN_DURATION: i64 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthState {
    Starting,
    Healthy,
    Unhealthy,
}

impl HealthState {
    pub fn as_str(self) -> &'static str {
        match self {
            HealthState::Starting => "starting",
            HealthState::Healthy => "healthy",
            HealthState::Unhealthy => "unhealthy",
        }
    }
}

/// Health of a container and its last results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    pub state: HealthState,
    pub failing_streak: u32,
    pub log: VecDeque<Probe>,
}

/// One run of the test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    pub start: SystemTime,
    pub end: SystemTime,
    /// Of the test: 0 is healthy. -1: it timed out or could not run.
    pub exit_code: i32,
    pub output: String,
}

/// Durations and retry count must make sense.
pub fn check(check: &Healthcheck) -> Result<()> {
    let durations = [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ];
    for (name, value) in durations {
        if value != 0 && value < MIN_DURATION {
            return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if check.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    match check.test.first().map(String::as_str) {
        None | Some("NONE") => Ok(()),
        Some("CMD" | "CMD-SHELL") if check.test.len() > 1 => Ok(()),
        Some(other) => Err(Error::invalid(format!(
            "Unknown type or missing command in Healthcheck: {other}"
        ))),
    }
}

/// The test's command line, when there is a test.
fn command(config: &Config) -> Option<Vec<String>> {
    let check = config.healthcheck.as_ref()?;
    match check.test.split_first() {
        Some((kind, words)) if kind == "CMD" => Some(words.to_vec()),
        Some((kind, words)) if kind == "CMD-SHELL" => {
            let mut argv = config
                .shell
                .clone()
                .unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
            argv.push(words.join(" "));
            Some(argv)
        }
        _ => None,
    }
}

/// Health before the first start: `None` without a test.
pub fn initial(config: &Config) -> Option<Health> {
    command(config).map(|_| Health {
        state: HealthState::Starting,
        failing_streak: 0,
        log: VecDeque::new(),
    })
}

fn duration(nanoseconds: i64, default: Duration) -> Duration {
    if nanoseconds <= 0 {
        default
    } else {
        Duration::from_nanos(nanoseconds.unsigned_abs())
    }
}

/// What is kept of a probe's output.
fn shown(output: &[u8]) -> String {
    let kept = &output[..output.len().min(MAX_OUTPUT)];
    let more = if output.len() > MAX_OUTPUT { "..." } else { "" };
    String::from_utf8_lossy(kept).into_owned() + more
}

/// A duration as Go writes it: `1m30s`, `1.5s`, `100ms`.
fn words(duration: Duration) -> String {
    let minutes = duration.as_secs() / 60;
    if minutes == 0 {
        return format!("{duration:?}");
    }
    let rest = duration - Duration::from_secs(minutes * 60);
    let seconds = rest.as_secs_f64();
    match minutes / 60 {
        0 => format!("{minutes}m{seconds}s"),
        hours => format!("{hours}h{}m{seconds}s", minutes % 60),
    }
}

impl Inner {
    /// Whether a probe that begins at `moment` may fail without counting.
    fn in_start_period(&self, moment: SystemTime, period: Duration) -> bool {
        let starting = |health: &Health| health.state == HealthState::Starting;
        let since = self
            .record
            .status
            .started_at
            .and_then(|start| moment.duration_since(start).ok());
        self.record.health.as_ref().is_some_and(starting) && since.unwrap_or_default() < period
    }
}

impl Health {
    /// Takes in one result; failures in the start period do not count. Pure.
    pub fn take(&mut self, probe: Probe, retries: u32, in_start_period: bool) {
        if probe.exit_code == 0 {
            self.failing_streak = 0;
            self.state = HealthState::Healthy;
        } else if !in_start_period {
            self.failing_streak += 1;
            if self.failing_streak >= retries {
                self.state = HealthState::Unhealthy;
            }
        }
        if self.log.len() == KEPT {
            self.log.pop_front();
        }
        self.log.push_back(probe);
    }
}

impl Engine {
    /// Probes one run of a container until that run ends.
    pub(crate) fn watch_health(&self, container: &Arc<Container>, run: u64) {
        let (argv, settings) = {
            let mut inner = container.lock();
            let Some(argv) = command(&inner.record.config) else {
                return;
            };
            let settings = inner.record.config.healthcheck.clone().unwrap_or_default();
            inner.record.health = initial(&inner.record.config);
            (argv, settings)
        };
        let (engine, container) = (self.clone(), container.clone());
        self.tasks.spawn(async move {
            let start_period = duration(settings.start_period, Duration::ZERO);
            let retries = u32::try_from(if settings.retries == 0 {
                DEFAULT_RETRIES
            } else {
                settings.retries
            })
            .unwrap_or(u32::MAX);
            let mut changes = container.changes.subscribe();
            loop {
                let starting = container.lock().in_start_period(SystemTime::now(), start_period);
                let pause = if starting {
                    duration(settings.start_interval, DEFAULT_START_INTERVAL)
                } else {
                    duration(settings.interval, DEFAULT_INTERVAL)
                };
                if !engine.probe_due(&mut changes, run, pause).await {
                    return;
                }
                let probe = engine
                    .probe(&container, &argv, duration(settings.timeout, DEFAULT_TIMEOUT))
                    .await;
                let change = {
                    let mut inner = container.lock();
                    if inner.record.status.exits != run {
                        return;
                    }
                    if inner.record.status.phase == Phase::Paused {
                        // It was frozen under the test, which says nothing about it.
                        continue;
                    }
                    let in_start_period = inner.in_start_period(probe.start, start_period);
                    let Some(health) = inner.record.health.as_mut() else {
                        return;
                    };
                    let before = health.state;
                    health.take(probe, retries, in_start_period);
                    (before != health.state).then_some(health.state)
                };
                if let Some(state) = change {
                    let action = format!("health_status: {}", state.as_str());
                    let attributes = container.event_attributes();
                    engine
                        .journal
                        .record(EventKind::Container, action, container.id.as_str(), attributes);
                    engine.save_soon(&container);
                    if state == HealthState::Unhealthy {
                        engine.cure(&container, run);
                    }
                }
            }
        });
    }

    /// Waits until the next probe; `false` when there is to be none. A paused container is left alone, and has a whole
    /// pause more when it runs on.
    async fn probe_due(&self, changes: &mut watch::Receiver<Change>, run: u64, pause: Duration) -> bool {
        let over = |change: &Change| change.removed || change.exits != run || !change.phase.is_live();
        loop {
            let turned = changes.wait_for(|change| over(change) || change.phase == Phase::Paused);
            tokio::select! {
                () = self.shutdown.cancelled() => return false,
                () = tokio::time::sleep(pause) => return true,
                change = turned => match change {
                    Ok(change) if !over(&change) => {}
                    _ => return false,
                },
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return false,
                _ = changes.wait_for(|change| change.phase != Phase::Paused) => {}
            }
        }
    }

    async fn probe(&self, container: &Arc<Container>, argv: &[String], limit: Duration) -> Probe {
        let start = SystemTime::now();
        let mut output = Vec::new();
        let mut started = None;
        let run = async {
            let request = ExecRequest {
                argv: argv.to_vec(),
                stdout: true,
                stderr: true,
                ..ExecRequest::default()
            };
            let id = self.exec_create(container.id.as_str(), request).await?;
            started = Some(id.clone());
            let stream = self.exec_admit(&id)?.launch(super::exec::ExecStart::default()).await?;
            if let Some(attachment) = stream {
                let mut socket = attachment.stream;
                let mut header = [0; 8];
                while socket.read_exact(&mut header).await.is_ok() {
                    let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
                    let mut chunk = vec![0; length];
                    if socket.read_exact(&mut chunk).await.is_err() {
                        break;
                    }
                    // One byte more than is shown tells that there was more.
                    let room = (MAX_OUTPUT + 1).saturating_sub(output.len());
                    output.extend_from_slice(&chunk[..length.min(room)]);
                }
            }
            self.exec_wait(&id).await
        };
        let result: Result<Result<i32>, _> = tokio::time::timeout(limit, run).await;
        if let Some(id) = started {
            if result.is_err() {
                self.exec_kill(&id).await;
            }
            self.execs.forget(&id);
        }
        let (exit_code, text) = match result {
            Ok(Ok(code)) => (code, shown(&output)),
            Ok(Err(error)) => (-1, error.chain()),
            Err(_) if output.is_empty() => (-1, format!("Health check exceeded timeout ({})", words(limit))),
            Err(_) => (
                -1,
                format!("Health check exceeded timeout ({}): {}", words(limit), shown(&output)),
            ),
        };
        Probe {
            start,
            end: SystemTime::now(),
            exit_code,
            output: text,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn probe(exit_code: i32) -> Probe {
        Probe {
            start: SystemTime::UNIX_EPOCH,
            end: SystemTime::UNIX_EPOCH,
            exit_code,
            output: String::new(),
        }
    }

    #[test]
    fn unhealthy_after_retries_and_healthy_at_once() {
        let mut health = Health {
            state: HealthState::Starting,
            failing_streak: 0,
            log: VecDeque::new(),
        };
        health.take(probe(1), 2, true);
        assert_eq!((health.state, health.failing_streak), (HealthState::Starting, 0));
        health.take(probe(1), 2, false);
        health.take(probe(-1), 2, false);
        assert_eq!(health.state, HealthState::Unhealthy);
        health.take(probe(0), 2, false);
        assert_eq!((health.state, health.failing_streak), (HealthState::Healthy, 0));
        for _ in 0..9 {
            health.take(probe(0), 2, false);
        }
        assert_eq!(health.log.len(), KEPT);
    }

    #[test]
    fn output_and_durations_are_written_as_docker_writes_them() {
        assert_eq!(shown(&[b'x'; MAX_OUTPUT]).len(), MAX_OUTPUT);
        assert!(shown(&[b'x'; MAX_OUTPUT + 1]).ends_with("x..."));
        for (milliseconds, text) in [
            (100, "100ms"),
            (1_500, "1.5s"),
            (30_000, "30s"),
            (90_000, "1m30s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(words(Duration::from_millis(milliseconds)), text);
        }
    }

    #[test]
    fn durations_and_commands_are_checked() {
        let good = Healthcheck {
            test: vec!["CMD".into(), "true".into()],
            ..Healthcheck::default()
        };
        assert!(check(&good).is_ok());
        assert!(
            check(&Healthcheck {
                interval: 5,
                ..good.clone()
            })
            .is_err()
        );
        assert!(
            check(&Healthcheck {
                retries: -1,
                ..good.clone()
            })
            .is_err()
        );
        assert!(
            check(&Healthcheck {
                test: vec!["RUN".into()],
                ..good
            })
            .is_err()
        );
    }
}
