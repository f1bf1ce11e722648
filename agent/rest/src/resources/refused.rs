//! Members of a create request that this version has no place for. Each is refused by its name: accepting and then
//! ignoring an option is worse than an error.

use agent_api::create::Config;
use agent_api::host_config::HostConfig;

use crate::error::{ApiError, ApiResult};
use crate::version::ApiVersion;

pub fn config(config: &Config) -> ApiResult<()> {
    if config.network_disabled {
        return Err(ApiError::unsupported("Config.NetworkDisabled (use --network none)"));
    }
    Ok(())
}

pub fn host(host: &HostConfig) -> ApiResult<()> {
    let asked = [
        (host.cpu_realtime_period != 0, "HostConfig.CpuRealtimePeriod"),
        (host.cpu_realtime_runtime != 0, "HostConfig.CpuRealtimeRuntime"),
        (host.kernel_memory != 0, "HostConfig.KernelMemory"),
        (host.kernel_memory_tcp != 0, "HostConfig.KernelMemoryTCP"),
        (host.cpu_count != 0, "HostConfig.CpuCount"),
        (host.cpu_percent != 0, "HostConfig.CpuPercent"),
        (host.io_maximum_iops != 0, "HostConfig.IOMaximumIOps"),
        (host.io_maximum_bandwidth != 0, "HostConfig.IOMaximumBandwidth"),
        (!host.cgroup.is_empty(), "HostConfig.Cgroup"),
        (
            !matches!(host.isolation.as_str(), "" | "default"),
            "HostConfig.Isolation",
        ),
    ];
    if let Some((_, name)) = asked.iter().find(|(asked, _)| *asked) {
        return Err(ApiError::unsupported(name));
    }
    for mount in host.mounts.iter().flatten() {
        if mount.cluster_options.is_some() {
            return Err(ApiError::unsupported(format!("mount type {}", mount.kind)));
        }
    }
    Ok(())
}

/// What can be set at a create only.
pub fn update(host: &HostConfig) -> ApiResult<()> {
    fn some<T>(list: &Option<Vec<T>>) -> bool {
        list.as_ref().is_some_and(|list| !list.is_empty())
    }
    let asked = [
        (some(&host.devices), "Devices"),
        (some(&host.device_requests), "DeviceRequests"),
        (some(&host.device_cgroup_rules), "DeviceCgroupRules"),
        (some(&host.ulimits), "Ulimits"),
        (!host.cgroup_parent.is_empty(), "CgroupParent"),
        (host.oom_kill_disable == Some(true), "OomKillDisable"),
        (host.init.is_some(), "Init"),
    ];
    match asked.iter().find(|(asked, _)| *asked) {
        Some((_, name)) => Err(ApiError::unsupported(format!("updating {name}"))),
        None => Ok(()),
    }
}

/// Options that came with a later version than the client speaks.
pub fn by_version(host: &HostConfig, version: ApiVersion) -> ApiResult<()> {
    let needs = |asked: bool, minor: u16, name: &str| {
        if asked && !version.since(minor) {
            return Err(ApiError::bad(format!("{name} needs API v1.{minor} or newer")));
        }
        Ok(())
    };
    for mount in host.mounts.iter().flatten() {
        if let Some(bind) = &mount.bind_options {
            needs(bind.read_only_non_recursive, 44, "BindOptions.ReadOnlyNonRecursive")?;
            needs(bind.read_only_force_recursive, 44, "BindOptions.ReadOnlyForceRecursive")?;
        }
        if let Some(volume) = &mount.volume_options {
            needs(!volume.subpath.is_empty(), 45, "VolumeOptions.Subpath")?;
        }
        needs(mount.kind == "image", 48, "a mount of type image")?;
        if let Some(tmpfs) = &mount.tmpfs_options {
            needs(
                tmpfs.options.as_ref().is_some_and(|list| !list.is_empty()),
                46,
                "TmpfsOptions.Options",
            )?;
        }
    }
    Ok(())
}
