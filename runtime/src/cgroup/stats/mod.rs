//! What a container has used, as raw numbers: for Docker's statistics, containerd's metrics, cAdvisor and the kubelet.

mod parse;
mod v1;
mod v2;

use super::detect::{Place, Tree};
use super::{CgroupPath, Result};

/// All that is counted. A controller that is not there leaves zeros and empty lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// CPU time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Processes and threads.
    pub pids: PidsStats,
    /// Block devices.
    pub io: IoStats,
    /// Huge pages, by size.
    pub huge_pages: Vec<HugePageStats>,
    /// RDMA devices.
    pub rdma: Vec<RdmaStats>,
}

/// Nanoseconds of CPU time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CpuStats {
    /// All of it.
    pub total: u64,
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// Per CPU (v1 only).
    pub per_cpu: Vec<u64>,
    /// Per CPU in user mode (v1 only).
    pub per_cpu_user: Vec<u64>,
    /// Per CPU in the kernel (v1 only).
    pub per_cpu_system: Vec<u64>,
    /// Bandwidth periods that have passed.
    pub periods: u64,
    /// Periods in which the quota ran out.
    pub throttled_periods: u64,
    /// Nanoseconds waited for that.
    pub throttled: u64,
    /// Periods in which more than the quota was used, from what was saved up.
    pub bursts: u64,
    /// Nanoseconds used that way.
    pub burst: u64,
    /// Time lost for want of a CPU (v2 only).
    pub pressure: Option<Pressure>,
}

/// Bytes of memory.
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// The most ever of swap alone (v2 only); 0 where the kernel keeps no such number.
    pub max_swap: u64,
    /// `None`: unlimited, or not accounted.
    pub swap_limit: Option<u64>,
    /// Memory and swap together (v1 only).
    pub with_swap: Option<Counter>,
    /// The kernel's own memory (v1 only; on v2 it stands in [`stat`](MemoryStats::stat)).
    pub kernel: Option<Counter>,
    /// TCP buffers (v1 only).
    pub kernel_tcp: Option<Counter>,
    /// What happened for want of memory. v1 counts OOM kills alone.
    pub events: MemoryEvents,
    /// Kernel's table, in its order.
    pub stat: Vec<(String, u64)>,
    /// Kernel's table by memory nodes, in its order: pages on v1, bytes on v2.
    pub numa: Vec<NumaStats>,
    /// Time lost for want of memory (v2 only).
    pub pressure: Option<Pressure>,
}

impl MemoryStats {
    /// Looks into [`stat`](MemoryStats::stat).
    pub fn get(&self, key: &str) -> Option<u64> {
        self.stat.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }
}

/// Something that is counted and limited, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Now.
    pub usage: u64,
    /// The most ever.
    pub max_usage: u64,
    /// `None`: unlimited.
    pub limit: Option<u64>,
    /// How often the limit was hit.
    pub failures: u64,
}

/// How often what happened for want of memory, in the group and below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryEvents {
    /// Memory below the reservation was taken back.
    pub low: u64,
    /// `memory.high` was exceeded.
    pub high: u64,
    /// The limit was about to be exceeded.
    pub max: u64,
    /// An allocation was about to fail.
    pub oom: u64,
    /// Processes killed.
    pub oom_kill: u64,
    /// Groups killed as a whole.
    pub oom_group_kill: u64,
}

/// One row of the table by memory nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumaStats {
    /// Kernel's name (`anon`, `hierarchical_total`, …).
    pub name: String,
    /// Over all nodes.
    pub total: u64,
    /// By node number.
    pub nodes: Vec<(u32, u64)>,
}

/// Pressure stall information: how much time processes wait.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// At least one waits.
    pub some: Stall,
    /// All wait at once. Kernels before 5.13 do not tell of the CPU.
    pub full: Option<Stall>,
}

/// Shares of time in percent, and a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    /// Of the last 10 s.
    pub avg10: f64,
    /// Of the last 60 s.
    pub avg60: f64,
    /// Of the last 300 s.
    pub avg300: f64,
    /// Microseconds since the group was made.
    pub total: u64,
}

/// Number of processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// `None`: unlimited.
    pub limit: Option<u64>,
    /// The most ever. Since Linux 6.6.
    pub peak: Option<u64>,
}

/// Traffic to block devices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IoStats {
    /// In bytes.
    pub service_bytes: Vec<IoEntry>,
    /// In operations.
    pub serviced: Vec<IoEntry>,
    /// Operations that wait (v1 only, as the five below: kept by CFQ, and by BFQ for debugging).
    pub queued: Vec<IoEntry>,
    /// Nanoseconds between request and answer.
    pub service_time: Vec<IoEntry>,
    /// Nanoseconds in the scheduler's queue.
    pub wait_time: Vec<IoEntry>,
    /// Requests merged into another.
    pub merged: Vec<IoEntry>,
    /// Sectors of 512 bytes.
    pub sectors: Vec<IoEntry>,
    /// Milliseconds of the device's time.
    pub time: Vec<IoEntry>,
    /// All numbers of `io.stat`, by their keys (v2 only).
    pub devices: Vec<IoDevice>,
    /// Time lost waiting for devices (v2 only).
    pub pressure: Option<Pressure>,
}

/// One counter of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// Docker's word: v1 `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`; v2 `read`, `write`. Empty where the kernel
    /// does not tell them apart.
    pub op: String,
    /// The count.
    pub value: u64,
}

/// The counters of one device on v2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoDevice {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// `rbytes`, `wbytes`, `rios`, `wios`, `dbytes`, `dios`, and what controllers of the kernel add (`cost.usage`, …).
    pub values: Vec<(String, u64)>,
}

/// Bytes of huge pages of one size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HugePageStats {
    /// Kernel's name (`2MB`).
    pub size: String,
    /// In use. v2 keeps no maximum: it is 0 there.
    pub pages: Counter,
    /// Set aside, in use or not. Since Linux 5.7.
    pub reserved: Option<Counter>,
}

/// What is held of an RDMA device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RdmaStats {
    /// Kernel's name (`mlx5_1`).
    pub device: String,
    /// HCA handles.
    pub handles: u64,
    /// HCA objects.
    pub objects: u64,
    /// `None`: unlimited.
    pub handles_limit: Option<u64>,
    /// `None`: unlimited.
    pub objects_limit: Option<u64>,
}

/// What changes all the time: processor, memory, processes, block devices.
pub(super) fn usage(tree: &Tree, path: &CgroupPath) -> Result<Stats> {
    let mut stats = Stats::default();
    // On v1 these may be two hierarchies; on v2 time is counted without the controller.
    match tree.place("cpuacct", path) {
        Some(Place::V1(folder)) => v1::cpu_time(&folder, &mut stats.cpu)?,
        Some(Place::V2(folder)) => v2::cpu_time(&folder, &mut stats.cpu)?,
        None => {}
    }
    match tree.place("cpu", path) {
        Some(Place::V1(folder)) => v1::bandwidth(&folder, &mut stats.cpu)?,
        Some(Place::V2(folder)) => v2::bandwidth(&folder, &mut stats.cpu)?,
        None => {}
    }
    match tree.place("memory", path) {
        Some(Place::V1(folder)) => stats.memory = v1::memory(&folder)?,
        Some(Place::V2(folder)) => stats.memory = v2::memory(&folder),
        None => {}
    }
    if let Some(place) = tree.place("pids", path) {
        stats.pids = parse::pids(place.folder());
    }
    match tree.place("io", path) {
        Some(Place::V1(folder)) => stats.io = v1::block_io(&folder),
        Some(Place::V2(folder)) => stats.io = v2::block_io(&folder),
        None => {}
    }
    Ok(stats)
}

pub(super) fn read_from(tree: &Tree, path: &CgroupPath) -> Result<Stats> {
    let mut stats = usage(tree, path)?;
    match tree.place("memory", path) {
        Some(Place::V1(folder)) => v1::further_memory(&folder, &mut stats.memory),
        Some(Place::V2(folder)) => stats.memory.numa = parse::memory_nodes(&folder),
        None => {}
    }
    match tree.place("hugetlb", path) {
        Some(Place::V1(folder)) => stats.huge_pages = v1::huge_pages(&folder),
        Some(Place::V2(folder)) => stats.huge_pages = v2::huge_pages(&folder),
        None => {}
    }
    if let Some(place) = tree.place("rdma", path) {
        stats.rdma = parse::rdma(place.folder());
    }
    if let Some(folder) = tree.v2_group(path) {
        // The core counts these, whichever hierarchy holds the controller; for a group that has processes there.
        stats.cpu.pressure = parse::pressure(&folder, "cpu.pressure");
        stats.memory.pressure = parse::pressure(&folder, "memory.pressure");
        stats.io.pressure = parse::pressure(&folder, "io.pressure");
    }
    Ok(stats)
}
