//! Statistics of v1.

use super::super::Result;
use super::super::control::{keyed, read};
use super::parse::{counter, limit, memory_nodes, number, optional, page_sizes, table};
use super::{CpuStats, HugePageStats, IoEntry, IoStats, MemoryEvents, MemoryStats};
use std::path::Path;

/// The kernel counts user and system time of v1 in hundredths of a second (`USER_HZ`), here in nanoseconds.
const TICK: u64 = 10_000_000;

pub(super) fn cpu_time(folder: &Path, cpu: &mut CpuStats) -> Result<()> {
    let split = optional(folder, "cpuacct.stat");
    cpu.total = number(&read(folder, "cpuacct.usage")?).unwrap_or(0);
    cpu.user = keyed(&split, "user").unwrap_or(0).saturating_mul(TICK);
    cpu.system = keyed(&split, "system").unwrap_or(0).saturating_mul(TICK);
    cpu.per_cpu = optional(folder, "cpuacct.usage_percpu")
        .split_whitespace()
        .filter_map(number)
        .collect();
    // A head `cpu user system`, then a line per CPU.
    for line in optional(folder, "cpuacct.usage_all").lines().skip(1) {
        let mut words = line.split_whitespace().skip(1);
        if let (Some(user), Some(system)) = (words.next().and_then(number), words.next().and_then(number)) {
            cpu.per_cpu_user.push(user);
            cpu.per_cpu_system.push(system);
        }
    }
    Ok(())
}

pub(super) fn bandwidth(folder: &Path, cpu: &mut CpuStats) -> Result<()> {
    let text = read(folder, "cpu.stat")?;
    let count = |key| keyed(&text, key).unwrap_or(0);
    cpu.periods = count("nr_periods");
    cpu.throttled_periods = count("nr_throttled");
    cpu.throttled = count("throttled_time");
    cpu.bursts = count("nr_bursts");
    cpu.burst = count("burst_time");
    Ok(())
}

pub(super) fn memory(folder: &Path) -> Result<MemoryStats> {
    let usage = number(&read(folder, "memory.usage_in_bytes")?).unwrap_or(0);
    let both = counter(folder, "memory.memsw.");
    Ok(MemoryStats {
        usage,
        max_usage: number(&optional(folder, "memory.max_usage_in_bytes")).unwrap_or(0),
        limit: limit(&optional(folder, "memory.limit_in_bytes")),
        failures: number(&optional(folder, "memory.failcnt")).unwrap_or(0),
        swap: both.map_or(0, |both| both.usage.saturating_sub(usage)),
        max_swap: 0,
        swap_limit: both.and_then(|both| both.limit),
        with_swap: both,
        kernel: None,
        kernel_tcp: None,
        events: MemoryEvents {
            oom_kill: keyed(&optional(folder, "memory.oom_control"), "oom_kill").unwrap_or(0),
            ..MemoryEvents::default()
        },
        stat: table(&optional(folder, "memory.stat")),
        numa: Vec::new(),
        pressure: None,
    })
}

/// What stands in files of its own.
pub(super) fn further_memory(folder: &Path, memory: &mut MemoryStats) {
    memory.kernel = counter(folder, "memory.kmem.");
    memory.kernel_tcp = counter(folder, "memory.kmem.tcp.");
    memory.numa = memory_nodes(folder);
}

pub(super) fn huge_pages(folder: &Path) -> Vec<HugePageStats> {
    page_sizes(folder, "usage_in_bytes")
        .into_iter()
        .map(|size| HugePageStats {
            pages: counter(folder, &format!("hugetlb.{size}.")).unwrap_or_default(),
            reserved: counter(folder, &format!("hugetlb.{size}.rsvd.")),
            size,
        })
        .collect()
}

/// Where block devices are counted: BFQ keeps its own books, CFQ did, the rest is in those of throttling, which before
/// Linux 4.18 had no sums over groups below.
const BOOKS: [(&str, &str); 4] = [
    ("blkio.bfq.", "_recursive"),
    ("blkio.", "_recursive"),
    ("blkio.throttle.", "_recursive"),
    ("blkio.throttle.", ""),
];

pub(super) fn block_io(folder: &Path) -> IoStats {
    // An empty book is one of a scheduler that no device uses.
    let pick = |what: &str| {
        BOOKS
            .iter()
            .map(|(prefix, suffix)| entries(&optional(folder, &format!("{prefix}{what}{suffix}"))))
            .find(|entries| !entries.is_empty())
            .unwrap_or_default()
    };
    IoStats {
        service_bytes: pick("io_service_bytes"),
        serviced: pick("io_serviced"),
        queued: pick("io_queued"),
        service_time: pick("io_service_time"),
        wait_time: pick("io_wait_time"),
        merged: pick("io_merged"),
        sectors: pick("sectors"),
        time: pick("time"),
        devices: Vec::new(),
        pressure: None,
    }
}

/// Lines `8:0 Read 4096` or `8:0 4096`, and a last one `Total 4096` which is not of a device.
fn entries(text: &str) -> Vec<IoEntry> {
    text.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (device, op, value) = match words[..] {
                [device, op, value] => (device, op, value),
                [device, value] => (device, "", value),
                _ => return None,
            };
            let (major, minor) = device.split_once(':')?;
            Some(IoEntry {
                major: number(major)?,
                minor: number(minor)?,
                op: op.to_owned(),
                value: number(value)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_book_of_block_io_is_read_as_far_as_it_is_understood(
            text in r"([0-9]{1,4}|:|Read|Write|Total|18446744073709551616| |\n|é){0,40}|.{0,60}",
        ) {
            let found = entries(&text);
            proptest::prop_assert!(found.len() <= text.lines().count());
        }
    }
}
