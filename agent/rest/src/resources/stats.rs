//! Statistics: one sample, or one each second; and the list of processes.

use std::sync::Arc;

use agent_api::container::Top;
use agent_api::stats::{Blkio, BlkioEntry, Cpu, CpuUsage, Memory, Pids, Stats, Throttling, Traffic};
use agent_engine::container::stats::{IoEntry, Sample};
use agent_engine::{Container, Engine};
use axum::extract::State;
use http::StatusCode;

use crate::error::{ApiError, ApiResult};
use crate::peer::Peer;
use crate::reply;
use crate::request::{Query, Target};
use crate::version::ApiVersion;

/// `stream` (on unless said otherwise) goes on for as long as the container exists. Without it two samples are taken, so
/// that the second has one to be compared with; with `one-shot`, which came with 1.41, there is only one.
pub async fn stats(
    State(engine): State<Engine>,
    version: ApiVersion,
    peer: Peer,
    Target(id): Target,
    query: Query,
) -> ApiResult {
    let container = engine.container(&id)?;
    let stream = query.flag_or("stream", true);
    let one_shot = version.since(41) && query.flag("one-shot");
    if stream && one_shot {
        return Err(ApiError::bad("cannot have stream=true and one-shot=true"));
    }
    let mut before = Before::new(&container, version);
    if !stream && (one_shot || !container.phase().is_live()) {
        let sample = engine.sample(&container).await?;
        return Ok(reply::ok(&before.wire(&sample)));
    }
    let mut readings = engine.readings(&container);
    let (feeder, body) = reply::feed(2);
    tokio::spawn(async move {
        let gone = peer.gone();
        tokio::pin!(gone);
        let mut skip = !stream;
        loop {
            let sample = tokio::select! {
                sample = readings.next() => sample,
                () = feeder.closed() => return,
                () = &mut gone => return,
            };
            let Some(sample) = sample else { return };
            let wire = before.wire(&sample);
            if std::mem::take(&mut skip) {
                continue;
            }
            let line = match serde_json::to_vec(&wire) {
                Ok(mut bytes) => {
                    bytes.push(b'\n');
                    bytes
                }
                Err(error) => {
                    let _ = feeder.send(Err(Box::new(error))).await;
                    return;
                }
            };
            if feeder.send(Ok(line.into())).await.is_err() || !stream {
                return;
            }
        }
    });
    Ok(reply::with_type(StatusCode::OK, reply::JSON, body))
}

/// Each answer tells of the sample before it as well.
struct Before {
    container: Arc<Container>,
    os_type: &'static str,
    last: Option<(Cpu, agent_api::time::Time)>,
}

impl Before {
    fn new(container: &Arc<Container>, version: ApiVersion) -> Before {
        Before {
            container: container.clone(),
            os_type: if version.since(52) { "linux" } else { "" },
            last: None,
        }
    }

    fn wire(&mut self, sample: &Sample) -> Stats {
        let mut stats = wire(sample);
        stats.name = format!("/{}", self.container.name());
        stats.id = self.container.id.to_string();
        self.os_type.clone_into(&mut stats.os_type);
        let now = (stats.cpu_stats.clone(), stats.read);
        (stats.precpu_stats, stats.preread) = self.last.replace(now).unwrap_or_default();
        stats
    }
}

/// A sample in Docker's shape, which differs with the version of control groups.
fn wire(sample: &Sample) -> Stats {
    if sample.at.is_none() {
        return Stats::default();
    }
    let (cgroup, v1) = (&sample.cgroup, sample.cgroup_version == 1);
    let list = |entries: &[IoEntry]| -> Vec<BlkioEntry> {
        let entry = |entry: &IoEntry| BlkioEntry {
            major: entry.major,
            minor: entry.minor,
            op: entry.op.clone(),
            value: entry.value,
        };
        entries.iter().map(entry).collect()
    };
    // v2 leaves `null` where there is nothing, v1 an empty list.
    let first = Some(list(&cgroup.io.service_bytes)).filter(|list| v1 || !list.is_empty());
    let further = |entries: &[IoEntry]| v1.then(|| list(entries));
    let unlimited = if v1 { 0 } else { u64::MAX };
    Stats {
        read: sample.at.into(),
        pids_stats: Pids {
            current: cgroup.pids.current,
            limit: cgroup.pids.limit.unwrap_or(unlimited),
        },
        blkio_stats: Blkio {
            io_service_bytes_recursive: first,
            io_serviced_recursive: further(&cgroup.io.serviced),
            io_queue_recursive: further(&cgroup.io.queued),
            io_service_time_recursive: further(&cgroup.io.service_time),
            io_wait_time_recursive: further(&cgroup.io.wait_time),
            io_merged_recursive: further(&cgroup.io.merged),
            io_time_recursive: further(&cgroup.io.time),
            sectors_recursive: further(&cgroup.io.sectors),
        },
        cpu_stats: Cpu {
            cpu_usage: CpuUsage {
                total_usage: cgroup.cpu.total,
                percpu_usage: v1.then(|| cgroup.cpu.per_cpu.clone()),
                usage_in_kernelmode: cgroup.cpu.system,
                usage_in_usermode: cgroup.cpu.user,
            },
            system_cpu_usage: sample.system_cpu,
            online_cpus: sample.online_cpus,
            throttling_data: Throttling {
                periods: cgroup.cpu.periods,
                throttled_periods: cgroup.cpu.throttled_periods,
                throttled_time: cgroup.cpu.throttled,
            },
        },
        memory_stats: Memory {
            usage: cgroup.memory.usage,
            max_usage: if v1 { cgroup.memory.max_usage } else { 0 },
            stats: cgroup.memory.stat.iter().cloned().collect(),
            failcnt: if v1 {
                cgroup.memory.failures
            } else {
                cgroup.memory.events.oom
            },
            // No container has more than there is.
            limit: cgroup.memory.limit.unwrap_or(u64::MAX).min(sample.machine_memory),
        },
        networks: sample
            .networks
            .iter()
            .map(|(name, traffic)| (name.clone(), counters(traffic)))
            .collect(),
        ..Stats::default()
    }
}

fn counters(traffic: &agent_engine::container::stats::Traffic) -> Traffic {
    Traffic {
        rx_bytes: traffic.rx_bytes,
        rx_packets: traffic.rx_packets,
        rx_errors: traffic.rx_errors,
        rx_dropped: traffic.rx_dropped,
        tx_bytes: traffic.tx_bytes,
        tx_packets: traffic.tx_packets,
        tx_errors: traffic.tx_errors,
        tx_dropped: traffic.tx_dropped,
    }
}

/// `GET /containers/{id}/top`.
pub async fn top(State(engine): State<Engine>, Target(id): Target, query: Query) -> ApiResult {
    let top = engine.top(&engine.container(&id)?, query.get("ps_args")).await?;
    Ok(reply::ok(&Top {
        titles: top.titles,
        processes: top.processes,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};
    use std::time::SystemTime;

    fn sample(version: u32) -> Sample {
        let mut sample = Sample {
            at: Some(SystemTime::UNIX_EPOCH),
            system_cpu: 7,
            online_cpus: 2,
            machine_memory: 1000,
            cgroup_version: version,
            ..Sample::default()
        };
        sample.cgroup.cpu.per_cpu = vec![1, 2];
        sample.cgroup.memory.usage = 10;
        sample.cgroup.memory.max_usage = 20;
        sample.cgroup.memory.stat = vec![("anon".into(), 3)];
        sample
    }

    #[test]
    fn the_shape_is_that_of_the_cgroup_version() {
        let of = |version| serde_json::to_value(wire(&sample(version))).unwrap();
        let (one, two): (Value, Value) = (of(1), of(2));
        assert_eq!(one["cpu_stats"]["cpu_usage"]["percpu_usage"], json!([1, 2]));
        assert_eq!(two["cpu_stats"]["cpu_usage"].get("percpu_usage"), None);
        assert_eq!(one["memory_stats"]["max_usage"], 20);
        assert_eq!(two["memory_stats"].get("max_usage"), None);
        assert_eq!(one["blkio_stats"]["io_serviced_recursive"], json!([]));
        assert_eq!(two["blkio_stats"]["io_service_bytes_recursive"], Value::Null);
        assert_eq!(one["pids_stats"], json!({}));
        assert_eq!(two["pids_stats"], json!({ "limit": u64::MAX }));
        for shape in [one, two] {
            assert_eq!(shape["memory_stats"]["limit"], 1000);
            assert_eq!(shape["memory_stats"]["stats"], json!({"anon": 3}));
            assert_eq!((&shape["num_procs"], &shape["storage_stats"]), (&json!(0), &json!({})));
            assert_eq!(shape.get("networks"), None);
        }
    }

    #[test]
    fn what_does_not_run_is_all_zero() {
        let shape = serde_json::to_value(wire(&Sample::default())).unwrap();
        assert_eq!(shape["read"], "0001-01-01T00:00:00Z");
        assert_eq!(shape["memory_stats"], json!({}));
        assert_eq!(shape["cpu_stats"]["cpu_usage"]["total_usage"], 0);
        assert_eq!(shape["cpu_stats"].get("system_cpu_usage"), None);
    }
}
