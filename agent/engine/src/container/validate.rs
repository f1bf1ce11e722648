//! Every rule a create request must keep, checked before anything is touched. What this version cannot do is refused by
//! its name, never passed over.

use super::mounts::{MountKind, PlannedMount};
use super::spec::{CreateRequest, EndpointRequest, HostConfig, Resources, RestartName};
use super::{files, ports, storage};
use crate::Engine;
use crate::config::CgroupDriver;
use crate::error::{Error, Result};

/// Less than this and even a shell cannot start (Docker's rule and words).
const MIN_MEMORY: i64 = 6 * 1024 * 1024;

/// Where a namespace comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Share {
    Own,
    Host,
    Container(String),
}

impl Share {
    /// Reads `host`, `container:<id>`, or one of the words that mean an own namespace.
    pub fn parse(text: &str, own: &[&str], what: &str) -> Result<Share> {
        match text {
            "host" => Ok(Share::Host),
            text if text.is_empty() || own.contains(&text) => Ok(Share::Own),
            text => match text.strip_prefix("container:") {
                Some(id) if !id.is_empty() => Ok(Share::Container(id.to_owned())),
                _ => Err(Error::invalid(format!("invalid {what} mode: {text}"))),
            },
        }
    }
}

pub fn pid_share(host: &HostConfig) -> Result<Share> {
    Share::parse(&host.pid_mode, &["private"], "PID")
}

pub fn ipc_share(host: &HostConfig) -> Result<Share> {
    Share::parse(&host.ipc_mode, &["private", "shareable", "none"], "IPC")
}

pub fn network_share(host: &HostConfig) -> Result<Share> {
    match host.network_mode.as_str() {
        "" | "default" | "bridge" | "none" => Ok(Share::Own),
        mode @ "host" => Share::parse(mode, &[], "network"),
        mode if mode.starts_with("container:") => Share::parse(mode, &[], "network"),
        name => Err(Error::NoSuchNetwork(name.to_owned())),
    }
}

/// Checks the whole request. Returns warnings for the client.
pub fn request(request: &CreateRequest, engine: &Engine) -> Result<Vec<String>> {
    let CreateRequest {
        config,
        host,
        endpoints,
    } = request;
    let mut warnings = Vec::new();
    if storage::size(&host.storage_opt)?.is_some() {
        engine.store.quotas()?;
    }
    runtime(host, engine)?;
    engine.check_users(host)?;
    engine.check_cgroup_parent(host)?;

    if config.hostname.len() > 63
        || config
            .hostname
            .chars()
            .any(|c| c.is_whitespace() || c == '/' || c == '\0')
    {
        return Err(Error::invalid(format!("invalid hostname format: {}", config.hostname)));
    }
    for entry in &config.env {
        environment(entry)?;
    }
    for word in config.cmd.iter().flatten().chain(config.entrypoint.iter().flatten()) {
        no_nul(word, "argument")?;
    }
    if let Some(signal) = config.stop_signal.as_deref().filter(|text| !text.is_empty()) {
        runtime::signal::parse(signal).map_err(|error| Error::invalid(error.to_string()))?;
    }
    if let Some(check) = &config.healthcheck {
        super::health::check(check)?;
    }

    let network = network_share(host)?;
    if let Share::Container(target) = &network {
        engine.container(target)?;
        if !config.hostname.is_empty() {
            return Err(Error::invalid("conflicting options: hostname and the network mode"));
        }
        if !host.port_bindings.is_empty() || host.publish_all_ports {
            return Err(Error::invalid(
                "conflicting options: port publishing and the container type network mode",
            ));
        }
        if !host.dns.is_empty() {
            return Err(Error::invalid("conflicting options: dns and the network mode"));
        }
        if !host.extra_hosts.is_empty() {
            return Err(Error::invalid(
                "conflicting options: custom host-to-IP mapping and the network mode",
            ));
        }
    }
    if network != Share::Own && !config.mac_address.is_empty() {
        return Err(Error::invalid("conflicting options: mac-address and the network mode"));
    }
    if !host.port_bindings.is_empty() && matches!(host.network_mode.as_str(), "host" | "none") {
        warnings.push(format!(
            "Published ports are discarded when using {} network mode",
            host.network_mode
        ));
    }
    for (name, endpoint) in endpoints {
        if !matches!(name.as_str(), "bridge" | "default" | "host" | "none") && !name.starts_with("container:") {
            return Err(Error::NoSuchNetwork(name.clone()));
        }
        self::endpoint(endpoint)?;
    }
    ports::requests(config, host)?;
    for share in [pid_share(host)?, ipc_share(host)?] {
        if let Share::Container(target) = share {
            engine.container(&target)?;
        }
    }
    match host.uts_mode.as_str() {
        "" | "private" => {}
        "host" if config.hostname.is_empty() => {}
        "host" => return Err(Error::invalid("conflicting options: hostname and the UTS mode")),
        other => return Err(Error::invalid(format!("invalid UTS mode: {other}"))),
    }
    if !matches!(host.cgroupns_mode.as_str(), "" | "private" | "host") {
        return Err(Error::invalid(format!(
            "invalid cgroup namespace mode: {}",
            host.cgroupns_mode
        )));
    }
    for entry in &host.extra_hosts {
        files::extra_host(entry, Some(std::net::IpAddr::from([0, 0, 0, 0])))?;
    }
    for entry in &host.dns {
        entry
            .parse::<std::net::IpAddr>()
            .map_err(|_| Error::invalid(format!("invalid IP address in Dns: {entry}")))?;
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(Error::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        )));
    }
    if host.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    restart(host)?;
    resources(&host.resources, &mut warnings)?;
    super::logging::check(&engine.effective_log(&host.log))?;
    super::plan::check(config, host)?;
    Ok(warnings)
}

/// An entry of an environment: `KEY=value` or `KEY`.
pub fn environment(entry: &str) -> Result<()> {
    if entry.is_empty() || entry.starts_with('=') {
        return Err(Error::invalid(format!("invalid environment variable: {entry}")));
    }
    no_nul(entry, "environment variable")
}

fn no_nul(text: &str, what: &str) -> Result<()> {
    if text.contains('\0') {
        Err(Error::invalid(format!("invalid {what}: it contains a NUL byte")))
    } else {
        Ok(())
    }
}

/// The runtime exists, and can do what is ours otherwise.
fn runtime(host: &HostConfig, engine: &Engine) -> Result<()> {
    let live = engine.live();
    let name = match host.runtime.as_str() {
        "" => &live.default_runtime,
        name => name,
    };
    if engine.runtime(name)?.is_none() {
        return Ok(());
    }
    let refused = [
        (host.init.unwrap_or(engine.config.init), "--init"),
        (matches!(ipc_share(host)?, Share::Container(_)), "--ipc container:"),
        (
            engine.config.cgroup_driver == CgroupDriver::Systemd,
            "the systemd cgroup driver",
        ),
    ];
    match refused.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(Error::unsupported(format!("{what} with the runtime {name}"))),
        None => Ok(()),
    }
}

/// What an update may have changed.
pub fn changes(host: &HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    restart(host)?;
    resources(&host.resources, warnings)
}

fn restart(host: &HostConfig) -> Result<()> {
    let policy = &host.restart_policy;
    if policy.maximum_retry_count != 0 && !policy.name.counts_failures() {
        return Err(Error::invalid(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ));
    }
    if host.auto_remove && policy.name != RestartName::No {
        return Err(Error::invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    Ok(())
}

fn resources(limits: &Resources, warnings: &mut Vec<String>) -> Result<()> {
    let bad = |text: &str| Err(Error::invalid(text));
    if limits.memory != 0 && limits.memory < MIN_MEMORY {
        return bad("Minimum memory limit allowed is 6MB");
    }
    if limits.memory_swap > 0 && limits.memory == 0 {
        return bad("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if limits.memory_swap > 0 && limits.memory_swap < limits.memory {
        return bad("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if limits.memory_swap < -1 {
        return bad("memory+swap limit must be -1 or a number of bytes");
    }
    if limits.memory_reservation < 0 || (limits.memory > 0 && limits.memory_reservation > limits.memory) {
        return bad("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if let Some(swappiness) = limits.memory_swappiness
        && !(-1..=100).contains(&swappiness)
    {
        return Err(Error::invalid(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        )));
    }
    if limits.oom_kill_disable == Some(true) && limits.memory == 0 {
        warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".into());
    }
    if limits.nano_cpus < 0 || (limits.nano_cpus > 0 && (limits.cpu_period > 0 || limits.cpu_quota > 0)) {
        return bad("Conflicting options: Nano CPUs and CPU Period/Quota cannot both be set");
    }
    // Asked only where it matters: the answer is read from a dozen files.
    let cpus = if limits.nano_cpus > 0 {
        std::thread::available_parallelism().map_or(1, |n| n.get()) as i64
    } else {
        0
    };
    if limits.nano_cpus > cpus * 1_000_000_000 {
        return Err(Error::invalid(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )));
    }
    if limits.cpu_shares < 0 {
        return Err(Error::invalid(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            limits.cpu_shares
        )));
    }
    if limits.cpu_period != 0 && !(1_000..=1_000_000).contains(&limits.cpu_period) {
        return bad("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    }
    if limits.cpu_quota != 0 && limits.cpu_quota != -1 && limits.cpu_quota < 1_000 {
        return bad("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if limits.blkio_weight != 0 && !(10..=1000).contains(&limits.blkio_weight) {
        return bad("Range of blkio weight is from 10 to 1000");
    }
    cpuset("CPUs", &limits.cpuset_cpus, "/sys/devices/system/cpu/online")?;
    cpuset("memory nodes", &limits.cpuset_mems, "/sys/devices/system/node/online")?;
    for device in &limits.devices {
        if device.path_on_host.is_empty() || !device.path_on_host.starts_with('/') {
            return Err(Error::invalid(format!(
                "invalid device path: {:?}",
                device.path_on_host
            )));
        }
        if !device.cgroup_permissions.chars().all(|c| matches!(c, 'r' | 'w' | 'm')) {
            return Err(Error::invalid(format!(
                "invalid device cgroup permissions: {}",
                device.cgroup_permissions
            )));
        }
    }
    for device in &limits.blkio_weight_device {
        if device.value != 0 && !(10..=1000).contains(&device.value) {
            return bad("Range of blkio weight is from 10 to 1000");
        }
    }
    for (name, limit) in &limits.ulimits {
        if limit.hard != -1 && (limit.soft == -1 || limit.soft > limit.hard) {
            return Err(Error::invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {name} {} > {}",
                limit.soft, limit.hard
            )));
        }
    }
    Ok(())
}

/// `0-2,7` → its members.
fn members(list: &str) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    for part in list.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high): (u32, u32) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        // No machine has more; a hostile range must not fill memory.
        if low > high || high > 8191 {
            return None;
        }
        found.extend(low..=high);
    }
    Some(found)
}

/// A cpuset must be a list, and of what the machine has.
fn cpuset(what: &str, list: &str, online: &str) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let kind = if what == "CPUs" { "cpus" } else { "mems" };
    let wanted = members(list).ok_or_else(|| Error::invalid(format!("Invalid value {list} for cpuset {kind}")))?;
    let text = std::fs::read_to_string(online).unwrap_or_else(|_| "0".into());
    let available = members(text.trim()).unwrap_or_default();
    if wanted.iter().all(|member| available.contains(member)) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Requested {what} are not available - requested {list}, available: {} (cpuset {kind})",
        text.trim()
    )))
}

/// Settings of an endpoint on the default network.
pub fn endpoint(endpoint: &EndpointRequest) -> Result<()> {
    if !endpoint.ipv4_address.is_empty() || !endpoint.ipv6_address.is_empty() {
        return Err(Error::invalid(
            "invalid config for network bridge: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only",
        ));
    }
    if !endpoint.aliases.is_empty() {
        return Err(Error::invalid(
            "invalid config for network bridge: invalid endpoint settings:\nnetwork-scoped aliases are only supported for user-defined networks",
        ));
    }
    if !endpoint.links.is_empty() {
        return Err(Error::unsupported("links of an endpoint"));
    }
    if let Some(key) = endpoint.driver_options.keys().next() {
        return Err(Error::unsupported(format!("endpoint driver option {key}")));
    }
    if !endpoint.mac_address.is_empty() {
        ports::mac(&endpoint.mac_address)?;
    }
    Ok(())
}

/// Sources of `--mount type=bind` must be there; `-v` makes them.
pub fn bind_sources(planned: &[PlannedMount]) -> Result<()> {
    for mount in planned {
        let point = &mount.point;
        if point.kind == MountKind::Bind && !mount.create_source && !point.source.exists() {
            return Err(Error::invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                point.source.display()
            )));
        }
    }
    Ok(())
}
