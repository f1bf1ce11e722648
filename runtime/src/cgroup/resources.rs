//! Limits, in the units of the OCI runtime specification.

use super::devices::{Access, DeviceRule, DeviceType};
use super::{CgroupError, Result};
use oci_spec::runtime::{LinuxDeviceType, LinuxResources, LinuxThrottleDevice};

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
    /// Microseconds per real-time period (v1).
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
    /// Bytes read per second.
    pub read_bps: Vec<Throttle>,
    /// Bytes written per second.
    pub write_bps: Vec<Throttle>,
    /// Reads per second.
    pub read_iops: Vec<Throttle>,
    /// Writes per second.
    pub write_iops: Vec<Throttle>,
    /// Bytes of huge pages per page size (`2MB`).
    pub hugepages: Vec<(String, u64)>,
    /// Files of v2 by name, written as they are.
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

/// Docker's period for `--cpus`.
const NANO_CPU_PERIOD: u64 = 100_000;

impl Resources {
    /// Sets quota and period for so many billionths of a CPU (Docker's `NanoCpus`).
    pub fn set_nano_cpus(&mut self, nano: u64) {
        self.cpu_period = Some(NANO_CPU_PERIOD);
        let quota = u128::from(nano) * u128::from(NANO_CPU_PERIOD) / 1_000_000_000;
        self.cpu_quota = Some(i64::try_from(quota).unwrap_or(i64::MAX));
    }

    /// Whether a CPU or memory node set is asked for.
    pub(super) fn wants_cpuset(&self) -> bool {
        self.cpuset_cpus.is_some() || self.cpuset_mems.is_some()
    }

    /// Whether any block device setting is there.
    pub(super) fn throttles(&self) -> [(&'static str, &'static str, &[Throttle]); 4] {
        // v1 file, v2 key
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
                "memory swap limit",
                format!("{swap} is less than the memory limit {memory}"),
            );
        }
        if let (None | Some(-1..=0), Some(swap @ 1..)) = (self.memory, self.memory_swap) {
            return invalid("memory swap limit", format!("{swap} without a memory limit"));
        }
        if let (Some(memory @ 1..), Some(reservation @ 1..)) = (self.memory, self.memory_reservation)
            && reservation > memory
        {
            return invalid(
                "memory reservation",
                format!("{reservation} is more than the memory limit {memory}"),
            );
        }
        for (what, value) in [
            ("memory limit", self.memory),
            ("memory swap limit", self.memory_swap),
            ("memory reservation", self.memory_reservation),
            ("pids limit", self.pids),
            ("CPU quota", self.cpu_quota),
        ] {
            if let Some(value @ ..-1) = value {
                return invalid(what, format!("{value} is negative; -1 means unlimited"));
            }
        }
        if let Some(value @ 101..) = self.swappiness {
            return invalid("memory swappiness", format!("{value} is not within 0 and 100"));
        }
        match self.cpu_period {
            None | Some(0 | 1_000..=1_000_000) => {}
            Some(period) => return invalid("CPU period", format!("{period} µs is not within 1 ms and 1 s")),
        }
        if let Some(quota @ 1..1_000) = self.cpu_quota {
            return invalid("CPU quota", format!("{quota} µs is less than 1 ms"));
        }
        let weights = self
            .blkio_weight
            .iter()
            .chain(self.blkio_weight_device.iter().map(|device| &device.weight));
        for weight in weights {
            if !matches!(weight, 0 | 10..=1000) {
                return invalid("block IO weight", format!("{weight} is not within 10 and 1000"));
            }
        }
        for (what, set) in [("CPU set", &self.cpuset_cpus), ("memory node set", &self.cpuset_mems)] {
            if let Some(set) = set
                && !is_list(set)
            {
                return invalid(what, format!("{set:?} is not a list like 0-3,7"));
            }
        }
        for (size, _) in &self.hugepages {
            if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return invalid("huge page size", format!("{size:?}"));
            }
        }
        for (file, _) in &self.unified {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            if !file.bytes().all(plain) || !file.contains('.') || file.starts_with("cgroup.") {
                return invalid("unified resource", format!("{file:?} is not a limit's file name"));
            }
        }
        Ok(())
    }
}

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

impl TryFrom<&LinuxResources> for Resources {
    type Error = CgroupError;

    /// Refuses, by name, what we do not hold.
    fn try_from(oci: &LinuxResources) -> Result<Resources> {
        let unsupported = |what: &str| {
            Err(CgroupError::Unsupported {
                what: what.to_owned(),
                place: "by this runtime",
            })
        };
        if oci
            .network()
            .as_ref()
            .is_some_and(|network| network.class_id().is_some() || network.priorities().is_some())
        {
            return unsupported("linux.resources.network");
        }
        if oci.rdma().as_ref().is_some_and(|rdma| !rdma.is_empty()) {
            return unsupported("linux.resources.rdma");
        }
        let mut out = Resources::default();
        if let Some(memory) = oci.memory() {
            if memory.kernel().is_some_and(|limit| limit != 0 && limit != -1) {
                return unsupported("linux.resources.memory.kernel");
            }
            if memory.kernel_tcp().is_some_and(|limit| limit != 0 && limit != -1) {
                return unsupported("linux.resources.memory.kernelTCP");
            }
            if memory.check_before_update() == Some(true) {
                return unsupported("linux.resources.memory.checkBeforeUpdate");
            }
            out.memory = memory.limit();
            out.memory_swap = memory.swap();
            out.memory_reservation = memory.reservation();
            out.swappiness = memory.swappiness();
            out.oom_kill_disable = memory.disable_oom_killer().unwrap_or(false);
        }
        if let Some(cpu) = oci.cpu() {
            out.cpu_shares = cpu.shares();
            out.cpu_quota = cpu.quota();
            out.cpu_period = cpu.period();
            out.cpu_burst = cpu.burst();
            out.cpu_idle = cpu.idle().map(|idle| idle != 0);
            out.cpu_rt_runtime = cpu.realtime_runtime();
            out.cpu_rt_period = cpu.realtime_period();
            out.cpuset_cpus = cpu.cpus().clone().filter(|set| !set.is_empty());
            out.cpuset_mems = cpu.mems().clone().filter(|set| !set.is_empty());
        }
        out.pids = oci.pids().as_ref().map(|pids| pids.limit());
        if let Some(io) = oci.block_io() {
            if io.leaf_weight().is_some_and(|weight| weight != 0) {
                return unsupported("linux.resources.blockIO.leafWeight");
            }
            out.blkio_weight = io.weight();
            for device in io.weight_device().iter().flatten() {
                if device.leaf_weight().is_some_and(|weight| weight != 0) {
                    return unsupported("linux.resources.blockIO.weightDevice.leafWeight");
                }
                out.blkio_weight_device.push(WeightDevice {
                    major: number("block device", device.major())?,
                    minor: number("block device", device.minor())?,
                    weight: device.weight().unwrap_or(0),
                });
            }
            out.read_bps = rates(io.throttle_read_bps_device())?;
            out.write_bps = rates(io.throttle_write_bps_device())?;
            out.read_iops = rates(io.throttle_read_iops_device())?;
            out.write_iops = rates(io.throttle_write_iops_device())?;
        }
        for page in oci.hugepage_limits().iter().flatten() {
            out.hugepages.push((
                page.page_size().clone(),
                u64::try_from(page.limit()).unwrap_or(u64::MAX),
            ));
        }
        for (file, value) in oci.unified().iter().flatten() {
            out.unified.push((file.clone(), value.clone()));
        }
        // A map has no order of its own; one that is always the same makes plans comparable.
        out.unified.sort();
        for rule in oci.devices().iter().flatten() {
            let wild = |value: Option<i64>| value.filter(|number| *number != -1);
            out.devices.push(DeviceRule {
                allow: rule.allow(),
                kind: match rule.typ() {
                    None | Some(LinuxDeviceType::A) => DeviceType::All,
                    Some(LinuxDeviceType::B) => DeviceType::Block,
                    Some(LinuxDeviceType::C | LinuxDeviceType::U) => DeviceType::Char,
                    Some(LinuxDeviceType::P) => {
                        return Err(CgroupError::Invalid {
                            what: "device rule",
                            why: "a FIFO has no rule".into(),
                        });
                    }
                },
                major: wild(rule.major())
                    .map(|number_| number("device rule", number_))
                    .transpose()?,
                minor: wild(rule.minor())
                    .map(|number_| number("device rule", number_))
                    .transpose()?,
                access: Access::parse(rule.access().as_deref().unwrap_or("rwm"))?,
            });
        }
        Ok(out)
    }
}

fn number(what: &'static str, value: i64) -> Result<u32> {
    u32::try_from(value).map_err(|_| CgroupError::Invalid {
        what,
        why: format!("{value} is not a device number"),
    })
}

fn rates(devices: &Option<Vec<LinuxThrottleDevice>>) -> Result<Vec<Throttle>> {
    devices
        .iter()
        .flatten()
        .map(|device| {
            Ok(Throttle {
                major: number("block device", device.major())?,
                minor: number("block device", device.minor())?,
                rate: device.rate(),
            })
        })
        .collect()
}
