//! Limits, in the units of the OCI runtime specification.

use super::devices::DeviceRule;
use super::{CgroupError, Result};

/// What a container may use. An absent value leaves the kernel's default (or, in an update, what is in force).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Relative weight, 2 to 262,144; 1,024 is everybody's.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU time per period; -1 or 0 is unlimited.
    pub cpu_quota: Option<i64>,
    /// Length of a period in microseconds, 1,000 to 1,000,000; 0 is the default (100,000).
    pub cpu_period: Option<u64>,
    /// Unused quota that may be saved up, in microseconds.
    pub cpu_burst: Option<u64>,
    /// Runs only when nobody else wants to.
    pub cpu_idle: Option<bool>,
    /// Microseconds per real-time period (v1). The parent has to have as much, which only an administrator gives it.
    pub cpu_rt_runtime: Option<i64>,
    /// Real-time period in microseconds (v1).
    pub cpu_rt_period: Option<u64>,
    /// CPUs, `0-3,7`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes.
    pub cpuset_mems: Option<String>,
    /// Bytes of memory; -1 is unlimited, 0 not set.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1 is unlimited, 0 not set.
    pub memory_swap: Option<i64>,
    /// `memory_swap` is a default rather than the user's wish: left out where swap is not accounted.
    pub swap_is_default: bool,
    /// Bytes of memory that are left alone under pressure (v2: `memory.low`); -1 none, 0 not set.
    pub memory_reservation: Option<i64>,
    /// Bytes of TCP buffers (v1 only); -1 is unlimited, 0 not set.
    pub kernel_tcp: Option<i64>,
    /// An update refuses a memory limit below what is in use, where the kernel (v2) would kill processes instead.
    pub check_before_update: bool,
    /// The OOM killer takes all processes of the group or none (v2 only).
    pub oom_group: Option<bool>,
    /// 0 to 100 (v1).
    pub swappiness: Option<u64>,
    /// Processes wait instead of being killed (v1).
    pub oom_kill_disable: bool,
    /// How many processes and threads; 0 and -1 are unlimited.
    pub pids: Option<i64>,
    /// 10 to 1,000; 0 not set.
    pub blkio_weight: Option<u16>,
    /// Weights for single devices.
    pub blkio_weight_device: Vec<WeightDevice>,
    /// 10 to 1,000, for the processes of the group against groups below it (v1 with CFQ only); 0 not set.
    pub blkio_leaf_weight: Option<u16>,
    /// The same for single devices.
    pub blkio_leaf_weight_device: Vec<WeightDevice>,
    /// Bytes read per second.
    pub read_bps: Vec<Throttle>,
    /// Bytes written per second.
    pub write_bps: Vec<Throttle>,
    /// Reads per second.
    pub read_iops: Vec<Throttle>,
    /// Writes per second.
    pub write_iops: Vec<Throttle>,
    /// Bytes of huge pages per page size (`2MB`), for their use and, where the kernel has it, their reservation.
    pub hugepages: Vec<(String, u64)>,
    /// Mark of the packets (`net_cls.classid`, v1 only).
    pub net_class: Option<u32>,
    /// Priorities of the packets (v1 only).
    pub net_priorities: Vec<InterfacePriority>,
    /// RDMA devices.
    pub rdma: Vec<RdmaLimit>,
    /// Files of v2 by name, written line by line as they are.
    pub unified: Vec<(String, String)>,
    /// Device rules; a later one overrides an earlier one. Empty: everything is allowed.
    pub devices: Vec<DeviceRule>,
}

/// A share of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// 10 to 1,000.
    pub weight: u16,
}

/// A rate on a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Per second; 0 is unlimited.
    pub rate: u64,
}

/// A priority of packets that leave by an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfacePriority {
    /// Interface of the host's network namespace.
    pub interface: String,
    /// Its priority.
    pub priority: u32,
}

/// What may be used of an RDMA device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RdmaLimit {
    /// Kernel's name (`mlx5_1`).
    pub device: String,
    /// HCA handles; `None` leaves them.
    pub handles: Option<u32>,
    /// HCA objects; `None` leaves them.
    pub objects: Option<u32>,
}

/// Docker's period for `--cpus`.
const NANO_CPU_PERIOD: u64 = 100_000;

impl Resources {
    /// Sets quota and period for so many billionths of a CPU (Docker's `NanoCpus`).
    pub fn set_nano_cpus(&mut self, nano: u64) {
        self.cpu_period = Some(NANO_CPU_PERIOD);
        let quota = u128::from(nano) * u128::from(NANO_CPU_PERIOD) / 1_000_000_000;
        self.cpu_quota = Some(i64::try_from(quota).unwrap_or(i64::MAX));
    }

    /// All rates, each with its file of v1 and its key of v2.
    pub(super) fn throttles(&self) -> [(&'static str, &'static str, &[Throttle]); 4] {
        [
            ("blkio.throttle.read_bps_device", "rbps", &self.read_bps),
            ("blkio.throttle.write_bps_device", "wbps", &self.write_bps),
            ("blkio.throttle.read_iops_device", "riops", &self.read_iops),
            ("blkio.throttle.write_iops_device", "wiops", &self.write_iops),
        ]
    }

    /// Checks what does not depend on the machine.
    ///
    /// # Errors
    /// [`CgroupError::Invalid`] naming the value.
    pub fn validate(&self) -> Result<()> {
        let invalid = |what, why: String| Err(CgroupError::Invalid { what, why });
        if let (Some(memory @ 1..), Some(swap @ 1..)) = (self.memory, self.memory_swap)
            && swap < memory
        {
            return invalid(
                "linux.resources.memory.swap",
                format!("{swap} is less than the memory limit {memory}"),
            );
        }
        if let (None | Some(-1..=0), Some(swap @ 1..)) = (self.memory, self.memory_swap) {
            return invalid("linux.resources.memory.swap", format!("{swap} without a memory limit"));
        }
        if let (Some(memory @ 1..), Some(reservation @ 1..)) = (self.memory, self.memory_reservation)
            && reservation > memory
        {
            return invalid(
                "linux.resources.memory.reservation",
                format!("{reservation} is more than the memory limit {memory}"),
            );
        }
        for (what, value) in [
            ("linux.resources.memory.limit", self.memory),
            ("linux.resources.memory.swap", self.memory_swap),
            ("linux.resources.memory.reservation", self.memory_reservation),
            ("linux.resources.memory.kernelTCP", self.kernel_tcp),
            ("linux.resources.cpu.realtimeRuntime", self.cpu_rt_runtime),
            ("linux.resources.pids.limit", self.pids),
            ("linux.resources.cpu.quota", self.cpu_quota),
        ] {
            if let Some(value @ ..-1) = value {
                return invalid(what, format!("{value} is negative; -1 means unlimited"));
            }
        }
        if let Some(value @ 101..) = self.swappiness {
            return invalid(
                "linux.resources.memory.swappiness",
                format!("{value} is not within 0 and 100"),
            );
        }
        match self.cpu_period {
            None | Some(0 | 1_000..=1_000_000) => {}
            Some(period) => {
                return invalid(
                    "linux.resources.cpu.period",
                    format!("{period} µs is not within 1 ms and 1 s"),
                );
            }
        }
        if let Some(quota @ 1..1_000) = self.cpu_quota {
            return invalid("linux.resources.cpu.quota", format!("{quota} µs is less than 1 ms"));
        }
        let whole = |weight: &Option<u16>| weight.iter().copied().collect::<Vec<_>>();
        let single = |devices: &[WeightDevice]| devices.iter().map(|device| device.weight).collect();
        for (what, weights) in [
            ("linux.resources.blockIO.weight", whole(&self.blkio_weight)),
            ("linux.resources.blockIO.leafWeight", whole(&self.blkio_leaf_weight)),
            (
                "linux.resources.blockIO.weightDevice.weight",
                single(&self.blkio_weight_device),
            ),
            (
                "linux.resources.blockIO.weightDevice.leafWeight",
                single(&self.blkio_leaf_weight_device),
            ),
        ] {
            if let Some(weight) = weights.iter().find(|weight| !matches!(weight, 0 | 10..=1000)) {
                return invalid(what, format!("{weight} is not within 10 and 1000"));
            }
        }
        self.validate_names()
    }

    /// What becomes a part of a line or of a path.
    fn validate_names(&self) -> Result<()> {
        let invalid = |what, why: String| Err(CgroupError::Invalid { what, why });
        for (what, set) in [
            ("linux.resources.cpu.cpus", &self.cpuset_cpus),
            ("linux.resources.cpu.mems", &self.cpuset_mems),
        ] {
            if let Some(set) = set
                && !is_list(set)
            {
                return invalid(what, format!("{set:?} is not a list like 0-3,7"));
            }
        }
        for (size, _) in &self.hugepages {
            if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return invalid("linux.resources.hugepageLimits.pageSize", format!("{size:?}"));
            }
        }
        let word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        for InterfacePriority { interface, .. } in &self.net_priorities {
            // IFNAMSIZ with its NUL.
            if !word(interface) || interface.len() > 15 {
                return invalid(
                    "linux.resources.network.priorities.name",
                    format!("{interface:?} is not the name of an interface"),
                );
            }
        }
        for RdmaLimit { device, .. } in &self.rdma {
            if !word(device) {
                return invalid(
                    "linux.resources.rdma",
                    format!("{device:?} is not the name of a device"),
                );
            }
        }
        for (file, _) in &self.unified {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            if !file.bytes().all(plain) || !file.contains('.') || file.starts_with('.') || NO_LIMITS.contains(&&**file)
            {
                return invalid(
                    "linux.resources.unified",
                    format!("{file:?} is not a limit's file name"),
                );
            }
        }
        Ok(())
    }
}

/// Files of v2 by which a group is run, not limited; whoever writes to them meddles with the runtime.
const NO_LIMITS: [&str; 6] = [
    "cgroup.freeze",
    "cgroup.kill",
    "cgroup.procs",
    "cgroup.subtree_control",
    "cgroup.threads",
    "cgroup.type",
];

/// The kernel's list format, which may be empty.
fn is_list(text: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit());
    text.is_empty()
        || text.split(',').map(str::trim).all(|part| match part.split_once('-') {
            Some((from, to)) => {
                // A stride, `0-31:2/4`, is the kernel's too.
                let to = to.split_once(':').map_or(to, |(to, _)| to);
                number(from) && number(to) && from.parse::<u32>().ok() <= to.parse::<u32>().ok()
            }
            None => number(part),
        })
}
