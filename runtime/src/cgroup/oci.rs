//! `linux.resources` of an OCI configuration → [`Resources`].
//!
//! Two fields are accepted without a limit of their own:
//!
//! - `memory.kernel`: Linux 5.16 lets nobody set it any more, v2 never had it, the specification says "NOT RECOMMENDED",
//!   and runc passes it over since 1.0.0-rc94. Kernel memory counts towards `memory.limit`, so that limit is what holds it.
//! - `memory.useHierarchy: true`: what v2 is, and v1 since Linux 5.11. `false` is refused.

use super::devices::{Access, DeviceRule, DeviceType};
use super::resources::{InterfacePriority, RdmaLimit, Resources, Throttle, WeightDevice};
use super::{CgroupError, Result};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxResources, LinuxThrottleDevice,
};

impl TryFrom<&LinuxResources> for Resources {
    type Error = CgroupError;

    /// Refuses, by name, what no kernel can hold.
    fn try_from(oci: &LinuxResources) -> Result<Resources> {
        let mut out = Resources::default();
        if let Some(memory) = oci.memory() {
            out.take_memory(memory)?;
        }
        if let Some(cpu) = oci.cpu() {
            out.take_cpu(cpu);
        }
        if let Some(io) = oci.block_io() {
            out.take_block_io(io)?;
        }
        out.pids = oci.pids().as_ref().map(|pids| pids.limit());
        for page in oci.hugepage_limits().iter().flatten() {
            out.hugepages.push((
                page.page_size().clone(),
                u64::try_from(page.limit()).unwrap_or(u64::MAX),
            ));
        }
        if let Some(network) = oci.network() {
            out.net_class = network.class_id();
            for priority in network.priorities().iter().flatten() {
                out.net_priorities.push(InterfacePriority {
                    interface: priority.name().clone(),
                    priority: priority.priority(),
                });
            }
        }
        for (device, limit) in oci.rdma().iter().flatten() {
            out.rdma.push(RdmaLimit {
                device: device.clone(),
                handles: limit.hca_handles(),
                objects: limit.hca_objects(),
            });
        }
        for (file, value) in oci.unified().iter().flatten() {
            out.unified.push((file.clone(), value.clone()));
        }
        // A map has no order of its own; one that is always the same makes plans comparable.
        out.rdma.sort_by(|a, b| a.device.cmp(&b.device));
        out.unified.sort();
        for rule in oci.devices().iter().flatten() {
            out.devices.push(device_rule(rule)?);
        }
        Ok(out)
    }
}

impl Resources {
    fn take_memory(&mut self, memory: &LinuxMemory) -> Result<()> {
        if memory.use_hierarchy() == Some(false) {
            return Err(CgroupError::Unsupported {
                what: "linux.resources.memory.useHierarchy=false".into(),
                place: "by this runtime",
            });
        }
        self.memory = memory.limit();
        self.memory_swap = memory.swap();
        self.memory_reservation = memory.reservation();
        self.kernel_tcp = memory.kernel_tcp();
        self.swappiness = memory.swappiness();
        self.oom_kill_disable = memory.disable_oom_killer().unwrap_or(false);
        self.check_before_update = memory.check_before_update().unwrap_or(false);
        Ok(())
    }

    fn take_cpu(&mut self, cpu: &LinuxCpu) {
        self.cpu_shares = cpu.shares();
        self.cpu_quota = cpu.quota();
        self.cpu_period = cpu.period();
        self.cpu_burst = cpu.burst();
        self.cpu_idle = cpu.idle().map(|idle| idle != 0);
        self.cpu_rt_runtime = cpu.realtime_runtime();
        self.cpu_rt_period = cpu.realtime_period();
        self.cpuset_cpus = cpu.cpus().clone().filter(|set| !set.is_empty());
        self.cpuset_mems = cpu.mems().clone().filter(|set| !set.is_empty());
    }

    fn take_block_io(&mut self, io: &LinuxBlockIo) -> Result<()> {
        self.blkio_weight = io.weight();
        self.blkio_leaf_weight = io.leaf_weight();
        for device in io.weight_device().iter().flatten() {
            let entry = |weight: Option<u16>| {
                Ok(WeightDevice {
                    major: number("linux.resources.blockIO.weightDevice.major", device.major())?,
                    minor: number("linux.resources.blockIO.weightDevice.minor", device.minor())?,
                    weight: weight.unwrap_or(0),
                })
            };
            self.blkio_weight_device.push(entry(device.weight())?);
            if device.leaf_weight().is_some_and(|weight| weight != 0) {
                self.blkio_leaf_weight_device.push(entry(device.leaf_weight())?);
            }
        }
        self.read_bps = rates(
            "linux.resources.blockIO.throttleReadBpsDevice",
            io.throttle_read_bps_device(),
        )?;
        self.write_bps = rates(
            "linux.resources.blockIO.throttleWriteBpsDevice",
            io.throttle_write_bps_device(),
        )?;
        self.read_iops = rates(
            "linux.resources.blockIO.throttleReadIOPSDevice",
            io.throttle_read_iops_device(),
        )?;
        self.write_iops = rates(
            "linux.resources.blockIO.throttleWriteIOPSDevice",
            io.throttle_write_iops_device(),
        )?;
        Ok(())
    }
}

fn device_rule(rule: &LinuxDeviceCgroup) -> Result<DeviceRule> {
    let wild = |what, value: Option<i64>| {
        value
            .filter(|number| *number != -1)
            .map(|value| number(what, value))
            .transpose()
    };
    Ok(DeviceRule {
        allow: rule.allow(),
        kind: match rule.typ() {
            None | Some(LinuxDeviceType::A) => DeviceType::All,
            Some(LinuxDeviceType::B) => DeviceType::Block,
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => DeviceType::Char,
            Some(LinuxDeviceType::P) => {
                return Err(CgroupError::Invalid {
                    what: "linux.resources.devices.type",
                    why: "a FIFO has no rule".into(),
                });
            }
        },
        major: wild("linux.resources.devices.major", rule.major())?,
        minor: wild("linux.resources.devices.minor", rule.minor())?,
        access: Access::parse(rule.access().as_deref().unwrap_or("rwm"))?,
    })
}

fn number(what: &'static str, value: i64) -> Result<u32> {
    u32::try_from(value).map_err(|_| CgroupError::Invalid {
        what,
        why: format!("{value} is not a device number"),
    })
}

fn rates(field: &'static str, devices: &Option<Vec<LinuxThrottleDevice>>) -> Result<Vec<Throttle>> {
    devices
        .iter()
        .flatten()
        .map(|device| {
            Ok(Throttle {
                major: number(field, device.major())?,
                minor: number(field, device.minor())?,
                rate: device.rate(),
            })
        })
        .collect()
}
