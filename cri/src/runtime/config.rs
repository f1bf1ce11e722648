//! `RuntimeConfig`: settings of the node that kubelet and runtime must agree on.

use agent_engine::Engine;
use agent_engine::config::CgroupDriver as Driver;

use cri_api::{CgroupDriver, LinuxRuntimeConfiguration, RuntimeConfigResponse};

pub fn of_the_node(engine: &Engine) -> RuntimeConfigResponse {
    let driver = match engine.cgroup_driver() {
        Driver::Systemd => CgroupDriver::Systemd,
        Driver::Cgroupfs => CgroupDriver::Cgroupfs,
    };
    RuntimeConfigResponse {
        linux: Some(LinuxRuntimeConfiguration {
            cgroup_driver: driver.into(),
        }),
    }
}
