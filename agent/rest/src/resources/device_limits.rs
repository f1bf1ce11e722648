//! Weights and rates of single block devices, from and to the wire.

use agent_api::host_config::{ThrottleDevice, WeightDevice};
use agent_engine::container::spec::DeviceLimit;

pub fn weights(list: Option<&[WeightDevice]>) -> Vec<DeviceLimit> {
    let limit = |device: &WeightDevice| DeviceLimit {
        path: device.path.clone(),
        value: device.weight.into(),
    };
    list.unwrap_or_default().iter().map(limit).collect()
}

pub fn rates(list: Option<&[ThrottleDevice]>) -> Vec<DeviceLimit> {
    let limit = |device: &ThrottleDevice| DeviceLimit {
        path: device.path.clone(),
        value: device.rate,
    };
    list.unwrap_or_default().iter().map(limit).collect()
}

pub fn weights_shown(list: &[DeviceLimit]) -> Option<Vec<WeightDevice>> {
    let shown = |limit: &DeviceLimit| WeightDevice {
        path: limit.path.clone(),
        // It came from the same type.
        weight: u16::try_from(limit.value).unwrap_or(u16::MAX),
    };
    Some(list.iter().map(shown).collect())
}

pub fn rates_shown(list: &[DeviceLimit]) -> Option<Vec<ThrottleDevice>> {
    let shown = |limit: &DeviceLimit| ThrottleDevice {
        path: limit.path.clone(),
        rate: limit.value,
    };
    Some(list.iter().map(shown).collect())
}
