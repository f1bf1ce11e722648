//! What a container has used, as raw numbers for Docker's statistics.

use super::control::{keyed, read};
use super::detect::Tree;
use super::{CgroupPath, Mode, Result, v2};
use std::fs;
use std::path::Path;

/// All that is counted. A controller that is not there leaves zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// CPU time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Processes and threads.
    pub pids: PidsStats,
    /// Block devices.
    pub io: IoStats,
}

/// Nanoseconds of CPU time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// All of it.
    pub total: u64,
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// Per CPU (v1 only).
    pub per_cpu: Vec<u64>,
    /// Bandwidth periods that have passed.
    pub periods: u64,
    /// Periods in which the quota ran out.
    pub throttled_periods: u64,
    /// Nanoseconds waited for that.
    pub throttled: u64,
}

/// Bytes of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In use, page cache included.
    pub usage: u64,
    /// The most ever in use.
    pub max_usage: u64,
    /// `None`: unlimited.
    pub limit: Option<u64>,
    /// How often the limit was hit.
    pub failures: u64,
    /// Bytes of swap in use (v1: memory and swap together minus memory).
    pub swap: u64,
    /// `None`: unlimited, or not accounted.
    pub swap_limit: Option<u64>,
    /// Kernel's table, in its order.
    pub stat: Vec<(String, u64)>,
}

impl MemoryStats {
    /// Looks into [`stat`](MemoryStats::stat).
    pub fn get(&self, key: &str) -> Option<u64> {
        self.stat.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }
}

/// Number of processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// `None`: unlimited.
    pub limit: Option<u64>,
}

/// Traffic to block devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoStats {
    /// In bytes.
    pub service_bytes: Vec<IoEntry>,
    /// In operations.
    pub serviced: Vec<IoEntry>,
}

/// One counter of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// Docker's word: v1 `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`; v2 `read`, `write`.
    pub op: String,
    /// The count.
    pub value: u64,
}

fn cpu_total(folder: &Path) -> Result<u64> {
    Ok(number(&read(folder, "cpuacct.usage")?).unwrap_or(0))
}

pub(super) fn read_from(tree: &Tree, path: &CgroupPath) -> Result<Stats> {
    match tree.mode() {
        Mode::V2 => unified(&v2::folder(tree, path)?),
        _ => legacy(tree, path),
    }
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// `max` is unlimited on v2; v1 writes the largest multiple of a page that fits.
fn limit(text: &str) -> Option<u64> {
    number(text).filter(|limit| *limit < i64::MAX as u64 - 0xffff)
}

fn optional(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap_or_default()
}

fn table(text: &str) -> Vec<(String, u64)> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), number(value)?))
        })
        .collect()
}

fn legacy(tree: &Tree, path: &CgroupPath) -> Result<Stats> {
    /// The kernel counts user and system time of v1 in hundredths of a second (`USER_HZ`).
    const TICK: u64 = 10_000_000;
    let mut stats = Stats::default();
    if let Some(folder) = tree.v1_group("cpuacct", path) {
        let split = optional(&folder, "cpuacct.stat");
        stats.cpu.total = cpu_total(&folder)?;
        stats.cpu.user = keyed(&split, "user").unwrap_or(0).saturating_mul(TICK);
        stats.cpu.system = keyed(&split, "system").unwrap_or(0).saturating_mul(TICK);
        stats.cpu.per_cpu = optional(&folder, "cpuacct.usage_percpu")
            .split_whitespace()
            .filter_map(number)
            .collect();
    }
    if let Some(folder) = tree.v1_group("cpu", path) {
        let text = read(&folder, "cpu.stat")?;
        stats.cpu.periods = keyed(&text, "nr_periods").unwrap_or(0);
        stats.cpu.throttled_periods = keyed(&text, "nr_throttled").unwrap_or(0);
        stats.cpu.throttled = keyed(&text, "throttled_time").unwrap_or(0);
    }
    if let Some(folder) = tree.v1_group("memory", path) {
        let usage = number(&read(&folder, "memory.usage_in_bytes")?).unwrap_or(0);
        let both = number(&optional(&folder, "memory.memsw.usage_in_bytes")).unwrap_or(usage);
        stats.memory = MemoryStats {
            usage,
            max_usage: number(&optional(&folder, "memory.max_usage_in_bytes")).unwrap_or(0),
            limit: limit(&optional(&folder, "memory.limit_in_bytes")),
            failures: number(&optional(&folder, "memory.failcnt")).unwrap_or(0),
            swap: both.saturating_sub(usage),
            swap_limit: limit(&optional(&folder, "memory.memsw.limit_in_bytes")),
            stat: table(&optional(&folder, "memory.stat")),
        };
    }
    if let Some(folder) = tree.v1_group("pids", path) {
        stats.pids.current = number(&read(&folder, "pids.current")?).unwrap_or(0);
        stats.pids.limit = limit(&optional(&folder, "pids.max"));
    }
    if let Some(folder) = tree.v1_group("blkio", path) {
        // Who counts depends on the scheduler: BFQ keeps its own books, the rest is in those of throttling.
        let pick = |what: &str| {
            ["blkio.bfq.", "blkio.throttle."]
                .iter()
                .map(|prefix| devices_v1(&optional(&folder, &format!("{prefix}{what}_recursive"))))
                .find(|entries| !entries.is_empty())
                .unwrap_or_default()
        };
        stats.io.service_bytes = pick("io_service_bytes");
        stats.io.serviced = pick("io_serviced");
    }
    Ok(stats)
}

/// Lines `8:0 Read 4096`, and a last one `Total 4096` which is not of a device.
fn devices_v1(text: &str) -> Vec<IoEntry> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (major, minor) = words.next()?.split_once(':')?;
            Some(IoEntry {
                major: number(major)?,
                minor: number(minor)?,
                op: words.next()?.to_owned(),
                value: number(words.next()?)?,
            })
        })
        .collect()
}

fn unified(folder: &Path) -> Result<Stats> {
    let cpu = read(folder, "cpu.stat")?;
    let nanoseconds = |key: &str| keyed(&cpu, key).unwrap_or(0).saturating_mul(1_000);
    let mut stats = Stats {
        cpu: CpuStats {
            total: nanoseconds("usage_usec"),
            user: nanoseconds("user_usec"),
            system: nanoseconds("system_usec"),
            per_cpu: Vec::new(),
            periods: keyed(&cpu, "nr_periods").unwrap_or(0),
            throttled_periods: keyed(&cpu, "nr_throttled").unwrap_or(0),
            throttled: nanoseconds("throttled_usec"),
        },
        ..Stats::default()
    };
    let usage = number(&optional(folder, "memory.current")).unwrap_or(0);
    stats.memory = MemoryStats {
        usage,
        max_usage: number(&optional(folder, "memory.peak")).unwrap_or(0),
        limit: limit(&optional(folder, "memory.max")),
        failures: keyed(&optional(folder, "memory.events"), "max").unwrap_or(0),
        swap: number(&optional(folder, "memory.swap.current")).unwrap_or(0),
        swap_limit: limit(&optional(folder, "memory.swap.max")),
        stat: table(&optional(folder, "memory.stat")),
    };
    stats.pids.current = number(&optional(folder, "pids.current")).unwrap_or(0);
    stats.pids.limit = limit(&optional(folder, "pids.max"));
    stats.io = devices_v2(&optional(folder, "io.stat"));
    Ok(stats)
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn devices_v2(text: &str) -> IoStats {
    let mut stats = IoStats::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else {
            continue;
        };
        let (Some(major), Some(minor)) = (number(major), number(minor)) else {
            continue;
        };
        for word in words {
            let Some((key, Some(value))) = word.split_once('=').map(|(key, value)| (key, number(value))) else {
                continue;
            };
            let mut push = |list: fn(&mut IoStats) -> &mut Vec<IoEntry>, op: &str| {
                list(&mut stats).push(IoEntry {
                    major,
                    minor,
                    op: op.to_owned(),
                    value,
                });
            };
            match key {
                "rbytes" => push(|io| &mut io.service_bytes, "read"),
                "wbytes" => push(|io| &mut io.service_bytes, "write"),
                "rios" => push(|io| &mut io.serviced, "read"),
                "wios" => push(|io| &mut io.serviced, "write"),
                _ => {}
            }
        }
    }
    stats
}
