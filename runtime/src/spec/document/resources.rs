//! Limits in the words of a configuration.

use crate::cgroup::{DeviceRule, DeviceType, Resources, Throttle};
use serde_json::{Map, Value, json};

/// An object that grows by what is there.
#[derive(Default)]
struct Part(Map<String, Value>);

impl Part {
    fn with(mut self, name: &str, value: Option<impl Into<Value>>) -> Part {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
        self
    }

    fn listed(self, name: &str, list: Vec<Value>) -> Part {
        self.with(name, (!list.is_empty()).then_some(list))
    }

    fn filled(self) -> Option<Value> {
        (!self.0.is_empty()).then_some(Value::Object(self.0))
    }
}

pub(super) fn compile(limits: &Resources) -> Value {
    let memory = Part::default()
        .with("limit", limits.memory)
        .with("swap", limits.memory_swap)
        .with("reservation", limits.memory_reservation)
        .with("swappiness", limits.swappiness)
        .with("disableOOMKiller", limits.oom_kill_disable.then_some(true));
    let cpu = Part::default()
        .with("shares", limits.cpu_shares)
        .with("quota", limits.cpu_quota)
        .with("period", limits.cpu_period)
        .with("burst", limits.cpu_burst)
        .with("idle", limits.cpu_idle.map(i64::from))
        .with("realtimeRuntime", limits.cpu_rt_runtime)
        .with("realtimePeriod", limits.cpu_rt_period)
        .with("cpus", limits.cpuset_cpus.clone())
        .with("mems", limits.cpuset_mems.clone());
    let weights = limits.blkio_weight_device.iter();
    let weights = weights
        .map(|device| json!({"major": device.major, "minor": device.minor, "weight": device.weight}))
        .collect();
    let io = Part::default()
        .with("weight", limits.blkio_weight.filter(|weight| *weight != 0))
        .listed("weightDevice", weights)
        .listed("throttleReadBpsDevice", rates(&limits.read_bps))
        .listed("throttleWriteBpsDevice", rates(&limits.write_bps))
        .listed("throttleReadIOPSDevice", rates(&limits.read_iops))
        .listed("throttleWriteIOPSDevice", rates(&limits.write_iops));
    let pages = limits.hugepages.iter();
    let pages = pages
        .map(|(size, limit)| json!({"pageSize": size, "limit": limit}))
        .collect();
    let unified = limits.unified.iter();
    let unified: Map<String, Value> = unified
        .map(|(file, value)| (file.clone(), value.clone().into()))
        .collect();
    let all = Part::default()
        .with("memory", memory.filled())
        .with("cpu", cpu.filled())
        .with("blockIO", io.filled())
        .with("pids", limits.pids.map(|limit| json!({"limit": limit})))
        .listed("hugepageLimits", pages)
        .with("unified", (!unified.is_empty()).then_some(unified))
        .listed("devices", limits.devices.iter().map(rule).collect());
    Value::Object(all.0)
}

fn rates(list: &[Throttle]) -> Vec<Value> {
    let rates = list
        .iter()
        .map(|throttle| json!({"major": throttle.major, "minor": throttle.minor, "rate": throttle.rate}));
    rates.collect()
}

fn rule(rule: &DeviceRule) -> Value {
    let kind = match rule.kind {
        DeviceType::All => "a",
        DeviceType::Block => "b",
        DeviceType::Char => "c",
    };
    let rule = Part::default()
        .with("allow", Some(rule.allow))
        .with("type", Some(kind))
        .with("major", rule.major)
        .with("minor", rule.minor)
        .with("access", Some(rule.access.to_string()));
    Value::Object(rule.0)
}
