//! Statistics of v2.

use super::super::Result;
use super::super::control::{keyed, read};
use super::parse::{limit, number, optional, page_sizes, table};
use super::{Counter, CpuStats, HugePageStats, IoDevice, IoEntry, IoStats, MemoryEvents, MemoryStats};
use std::path::Path;

/// The kernel counts microseconds here.
fn nanoseconds(text: &str, key: &str) -> u64 {
    keyed(text, key).unwrap_or(0).saturating_mul(1_000)
}

pub(super) fn cpu_time(folder: &Path, cpu: &mut CpuStats) -> Result<()> {
    let text = read(folder, "cpu.stat")?;
    cpu.total = nanoseconds(&text, "usage_usec");
    cpu.user = nanoseconds(&text, "user_usec");
    cpu.system = nanoseconds(&text, "system_usec");
    Ok(())
}

pub(super) fn bandwidth(folder: &Path, cpu: &mut CpuStats) -> Result<()> {
    let text = read(folder, "cpu.stat")?;
    cpu.periods = keyed(&text, "nr_periods").unwrap_or(0);
    cpu.throttled_periods = keyed(&text, "nr_throttled").unwrap_or(0);
    cpu.throttled = nanoseconds(&text, "throttled_usec");
    cpu.bursts = keyed(&text, "nr_bursts").unwrap_or(0);
    cpu.burst = nanoseconds(&text, "burst_usec");
    Ok(())
}

pub(super) fn memory(folder: &Path) -> MemoryStats {
    let text = optional(folder, "memory.events");
    let event = |key| keyed(&text, key).unwrap_or(0);
    let count = |file| number(&optional(folder, file)).unwrap_or(0);
    MemoryStats {
        usage: count("memory.current"),
        max_usage: count("memory.peak"),
        limit: limit(&optional(folder, "memory.max")),
        failures: event("max"),
        swap: count("memory.swap.current"),
        max_swap: count("memory.swap.peak"),
        swap_limit: limit(&optional(folder, "memory.swap.max")),
        with_swap: None,
        kernel: None,
        kernel_tcp: None,
        events: MemoryEvents {
            low: event("low"),
            high: event("high"),
            max: event("max"),
            oom: event("oom"),
            oom_kill: event("oom_kill"),
            oom_group_kill: event("oom_group_kill"),
        },
        stat: table(&optional(folder, "memory.stat")),
        numa: Vec::new(),
        pressure: None,
    }
}

pub(super) fn huge_pages(folder: &Path) -> Vec<HugePageStats> {
    let counter = |prefix: &str| {
        Some(Counter {
            usage: number(&optional(folder, &format!("{prefix}current")))?,
            max_usage: 0,
            limit: limit(&optional(folder, &format!("{prefix}max"))),
            failures: keyed(&optional(folder, &format!("{prefix}events")), "max").unwrap_or(0),
        })
    };
    page_sizes(folder, "current")
        .into_iter()
        .map(|size| HugePageStats {
            pages: counter(&format!("hugetlb.{size}.")).unwrap_or_default(),
            // The kernel counts no failures of these.
            reserved: counter(&format!("hugetlb.{size}.rsvd.")),
            size,
        })
        .collect()
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
pub(super) fn block_io(folder: &Path) -> IoStats {
    let mut stats = IoStats::default();
    for line in optional(folder, "io.stat").lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else {
            continue;
        };
        let (Some(major), Some(minor)) = (number(major), number(minor)) else {
            continue;
        };
        let values: Vec<(String, u64)> = words
            .filter_map(|word| word.split_once('='))
            .filter_map(|(key, value)| Some((key.to_owned(), number(value)?)))
            .collect();
        for (key, value) in &values {
            let (list, op) = match &**key {
                "rbytes" => (&mut stats.service_bytes, "read"),
                "wbytes" => (&mut stats.service_bytes, "write"),
                "rios" => (&mut stats.serviced, "read"),
                "wios" => (&mut stats.serviced, "write"),
                _ => continue,
            };
            list.push(IoEntry {
                major,
                minor,
                op: op.to_owned(),
                value: *value,
            });
        }
        stats.devices.push(IoDevice { major, minor, values });
    }
    stats
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_statistics_are_read_as_far_as_they_are_understood(
            text in r"([0-9]{1,4}|:|rbytes|wios|usage_usec|anon|=|18446744073709551615| |\n|é){0,40}|.{0,60}",
        ) {
            let folder = tempfile::tempdir().unwrap();
            for file in ["io.stat", "cpu.stat", "memory.stat", "memory.current", "memory.max", "memory.events"] {
                std::fs::write(folder.path().join(file), &text).unwrap();
            }
            let mut cpu = CpuStats::default();
            let _ = (cpu_time(folder.path(), &mut cpu), bandwidth(folder.path(), &mut cpu));
            let _ = (memory(folder.path()), block_io(folder.path()));
        }
    }
}
