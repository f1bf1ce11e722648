//! What a sample says, computed as docker computes it.

use agent_api::stats::{Memory, Stats};

/// One container's numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub id: String,
    pub name: String,
    /// Of one CPU: 200 is two busy ones.
    pub cpu_percent: f64,
    /// Bytes without the page cache that is not in use.
    pub memory: u64,
    pub memory_limit: u64,
    pub memory_percent: f64,
    pub received: u64,
    pub sent: u64,
    pub read: u64,
    pub written: u64,
    pub pids: u64,
    /// It ran when the sample was taken.
    pub running: bool,
}

impl Figures {
    pub fn of(sample: &Stats) -> Figures {
        let memory = used(&sample.memory_stats);
        let limit = sample.memory_stats.limit;
        let traffic = sample.networks.values();
        let (received, sent) = traffic.fold((0u64, 0u64), |(received, sent), one| {
            (received.saturating_add(one.rx_bytes), sent.saturating_add(one.tx_bytes))
        });
        let (mut read, mut written) = (0u64, 0u64);
        for entry in sample.blkio_stats.io_service_bytes_recursive.iter().flatten() {
            // v1 writes `Read`, v2 `read`; there are sums of the two as well.
            match entry.op.bytes().next() {
                Some(b'r' | b'R') => read = read.saturating_add(entry.value),
                Some(b'w' | b'W') => written = written.saturating_add(entry.value),
                _ => {}
            }
        }
        Figures {
            id: sample.id.clone(),
            name: sample.name.trim_start_matches('/').to_owned(),
            cpu_percent: cpu_percent(sample),
            memory,
            memory_limit: limit,
            memory_percent: if limit == 0 {
                0.0
            } else {
                memory as f64 / limit as f64 * 100.0
            },
            received,
            sent,
            read,
            written,
            pids: sample.pids_stats.current,
            running: sample.read.0.is_some(),
        }
    }
}

fn cpu_percent(sample: &Stats) -> f64 {
    let (now, before) = (&sample.cpu_stats, &sample.precpu_stats);
    let used = now.cpu_usage.total_usage as f64 - before.cpu_usage.total_usage as f64;
    let passed = now.system_cpu_usage as f64 - before.system_cpu_usage as f64;
    let cpus = match now.online_cpus {
        0 => now.cpu_usage.percpu_usage.as_ref().map_or(0, Vec::len) as f64,
        cpus => f64::from(cpus),
    };
    if used > 0.0 && passed > 0.0 {
        used / passed * cpus * 100.0
    } else {
        0.0
    }
}

/// What could be freed at once is not in use: v1 and v2 have different words for it.
fn used(memory: &Memory) -> u64 {
    let idle = ["total_inactive_file", "inactive_file"]
        .iter()
        .find_map(|key| memory.stats.get(*key).copied());
    match idle {
        Some(idle) if idle < memory.usage => memory.usage - idle,
        _ => memory.usage,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_are_computed_from_two_samples() {
        let sample: Stats = serde_json::from_value(json!({
            "name": "/web", "id": "abc", "read": "2026-01-02T03:04:05Z",
            "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
            "memory_stats": {"usage": 1000, "limit": 4000, "stats": {"inactive_file": 200, "total_inactive_file": 500}},
            "blkio_stats": {"io_service_bytes_recursive": [
                {"op": "Read", "value": 3}, {"op": "write", "value": 4}, {"op": "Total", "value": 7}]},
            "networks": {"eth0": {"rx_bytes": 5, "tx_bytes": 6}, "eth1": {"rx_bytes": 1, "tx_bytes": 1}},
            "pids_stats": {"current": 9},
        }))
        .unwrap();
        let figures = Figures::of(&sample);
        assert_eq!((figures.cpu_percent, figures.memory_percent), (40.0, 12.5));
        assert_eq!(
            (figures.read, figures.written, figures.received, figures.sent),
            (3, 4, 6, 7)
        );
        assert_eq!((figures.name.as_str(), figures.pids, figures.running), ("web", 9, true));
        assert!(!Figures::of(&Stats::default()).running);
    }
}
