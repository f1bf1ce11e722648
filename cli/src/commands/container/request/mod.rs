//! Flags → the request that creates a container.

use std::collections::{BTreeMap, BTreeSet};

use agent_api::create::{Config, CreateRequest, HealthConfig};
use agent_api::host_config::{DeviceMapping, DeviceRequest, HostConfig, LogConfig, PortMap};
use agent_api::network::{EndpointIpam, EndpointSettings, NetworkingConfig};
use agent_api::{Set, StringMap};

use super::options::Options;
use crate::failure::{Failure, REFUSED, Result};
use crate::values::limits::Device;
use crate::values::mount::{self, Volume};
use crate::values::{pair, port, security};

/// The default network's name in a request.
const DEFAULT_NETWORK: &str = "default";

/// Where API clients inside of a container look first.
const API_SOCKET: &str = "/var/run/docker.sock";

/// Builds the request. `detached`: nothing will be attached. `socket`: of the daemon, on its machine.
///
/// # Errors
/// 125: values that are wrong, or that contradict each other.
pub fn build(options: &Options, detached: bool, socket: Option<&str>) -> Result<CreateRequest> {
    request(options, detached, socket).map_err(|message| Failure::new(message).with_code(REFUSED))
}

type Said<T> = std::result::Result<T, String>;

fn request(options: &Options, detached: bool, socket: Option<&str>) -> Said<CreateRequest> {
    let security = security::options(&options.security_opt)?;
    let (mut exposed, mut bindings) = (Set::new(), PortMap::new());
    for spec in &options.publish {
        port::publish(spec, &mut exposed, &mut bindings)?;
    }
    for spec in &options.expose {
        port::expose(spec, &mut exposed)?;
    }
    let (mut volumes, mut binds) = (Set::new(), Vec::new());
    for spec in &options.volume {
        match mount::volume(spec)? {
            Volume::Bind(bind) => binds.push(bind),
            Volume::Anonymous(path) => {
                volumes.insert(path, agent_api::Empty {});
            }
        }
    }
    let (devices, named) = devices(options);
    let requests: Vec<DeviceRequest> = options.gpus.iter().cloned().chain(named).collect();
    let mut ulimits = options.ulimit.clone();
    ulimits.sort_by(|a, b| a.name.cmp(&b.name));
    let (cap_add, cap_drop) = capabilities(&options.cap_add, &options.cap_drop);
    let tmpfs: StringMap = options.tmpfs.iter().map(|spec| mount::tmpfs(spec)).collect();
    let restart_policy = options
        .restart
        .clone()
        .unwrap_or_else(|| agent_api::host_config::RestartPolicy {
            name: "no".to_owned(),
            ..Default::default()
        });
    if options.rm && !matches!(restart_policy.name.as_str(), "" | "no") {
        return Err("conflicting options: cannot specify both --restart and --rm".to_owned());
    }
    if let Some(swappiness) = options.memory_swappiness
        && !(-1..=100).contains(&swappiness)
    {
        return Err(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        ));
    }
    let mut config = config(options, detached)?;
    config.exposed_ports = some(exposed);
    config.volumes = Some(volumes);
    let (network_mode, networking_config) = networks(options)?;
    if options.use_api_socket {
        let socket = socket.ok_or("--use-api-socket works only where the daemon is reached by a unix:// host")?;
        binds.push(format!("{socket}:{API_SOCKET}"));
    }
    let host = HostConfig {
        binds: list(&binds),
        container_id_file: options.cidfile.clone().unwrap_or_default(),
        oom_score_adj: options.oom_score_adj.unwrap_or_default(),
        auto_remove: options.rm,
        privileged: options.privileged,
        port_bindings: Some(bindings),
        links: list(&options.link),
        publish_all_ports: options.publish_all,
        dns: Some(options.dns.clone()),
        dns_search: Some(options.dns_search.clone()),
        dns_options: Some(options.dns_option.clone()),
        extra_hosts: list(&options.add_host),
        volumes_from: list(&options.volumes_from),
        ipc_mode: text(&options.ipc),
        network_mode,
        pid_mode: namespace("pid", &options.pid, &["", "host"], true)?,
        uts_mode: namespace("uts", &options.uts, &["", "host"], false)?,
        userns_mode: users(&options.userns)?,
        cgroupns_mode: namespace("cgroupns", &options.cgroupns, &["", "host", "private"], false)?,
        cap_add: list(&cap_add),
        cap_drop: list(&cap_drop),
        group_add: list(&options.group_add),
        restart_policy,
        security_opt: list(&security.options),
        storage_opt: some(pair::map("--storage-opt", &options.storage_opt)?),
        readonly_rootfs: options.read_only,
        log_config: log_config(options)?,
        volume_driver: text(&options.volume_driver),
        isolation: text(&options.isolation),
        shm_size: options.shm_size.unwrap_or_default(),
        tmpfs: some(tmpfs),
        sysctls: some(pair::map("--sysctl", &options.sysctl)?),
        runtime: text(&options.runtime),
        mounts: (!options.mount.is_empty()).then(|| options.mount.clone()),
        masked_paths: security.unconfined_paths.then(Vec::new),
        readonly_paths: security.unconfined_paths.then(Vec::new),
        annotations: some(pair::labels(&[], &options.annotation)?),
        init: options.init,
        // Resources.
        cgroup_parent: text(&options.cgroup_parent),
        memory: options.memory.unwrap_or_default(),
        memory_reservation: options.memory_reservation.unwrap_or_default(),
        memory_swap: options.memory_swap.unwrap_or_default(),
        memory_swappiness: Some(options.memory_swappiness.unwrap_or(-1)),
        oom_kill_disable: Some(options.oom_kill_disable),
        nano_cpus: options.cpus.unwrap_or_default(),
        cpu_period: options.cpu_period.unwrap_or_default(),
        cpu_quota: options.cpu_quota.unwrap_or_default(),
        cpu_realtime_period: options.cpu_rt_period.unwrap_or_default(),
        cpu_realtime_runtime: options.cpu_rt_runtime.unwrap_or_default(),
        cpuset_cpus: text(&options.cpuset_cpus),
        cpuset_mems: text(&options.cpuset_mems),
        cpu_shares: options.cpu_shares.unwrap_or_default(),
        pids_limit: Some(options.pids_limit.unwrap_or_default()),
        blkio_weight: options.blkio_weight.unwrap_or_default(),
        blkio_weight_device: Some(options.blkio_weight_device.clone()),
        blkio_device_read_bps: Some(options.device_read_bps.clone()),
        blkio_device_write_bps: Some(options.device_write_bps.clone()),
        blkio_device_read_iops: Some(options.device_read_iops.clone()),
        blkio_device_write_iops: Some(options.device_write_iops.clone()),
        ulimits: Some(ulimits),
        device_cgroup_rules: list(&options.device_cgroup_rule),
        devices: Some(devices),
        device_requests: (!requests.is_empty()).then_some(requests),
        ..HostConfig::default()
    };
    Ok(CreateRequest {
        config,
        host_config: Some(host),
        networking_config: Some(networking_config),
    })
}

fn config(options: &Options, detached: bool) -> Said<Config> {
    let (image, command) = options.words.split_first().ok_or("an image is needed")?;
    if image.is_empty() {
        return Err("invalid reference format: the image's name is empty".to_owned());
    }
    let (stdin, stdout, stderr) = attached(options, detached)?;
    let mut config = Config {
        hostname: text(&options.hostname),
        domainname: text(&options.domainname),
        user: text(&options.user),
        tty: options.tty,
        open_stdin: options.interactive,
        attach_stdin: stdin,
        attach_stdout: stdout,
        attach_stderr: stderr,
        // The end of our stdin is the end of the container's.
        stdin_once: options.interactive && stdin,
        env: list(&pair::environment(&options.env_file, &options.env)?),
        cmd: list(command),
        image: image.clone(),
        working_dir: text(&options.workdir),
        // An empty word switches the image's entry point off.
        entrypoint: options.entrypoint.as_ref().map(|program| vec![program.clone()]),
        labels: Some(pair::labels(&options.label_file, &options.label)?),
        stop_signal: text(&options.stop_signal),
        stop_timeout: options.stop_timeout,
        healthcheck: health(options)?,
        ..Config::default()
    };
    if detached {
        config.attach_stdin = false;
        config.attach_stdout = false;
        config.attach_stderr = false;
        config.stdin_once = false;
    }
    Ok(config)
}

/// stdin, stdout, stderr.
fn attached(options: &Options, detached: bool) -> Said<(bool, bool, bool)> {
    let (mut stdin, mut stdout, mut stderr) = (options.interactive, false, false);
    if detached && !options.attach.is_empty() {
        return Err("conflicting options: cannot specify both --attach and --detach".to_owned());
    }
    if options.attach.is_empty() {
        return Ok((stdin, true, true));
    }
    stdin = false;
    for stream in &options.attach {
        match stream.to_lowercase().as_str() {
            "stdin" => stdin = true,
            "stdout" => stdout = true,
            "stderr" => stderr = true,
            _ => {
                return Err(format!(
                    "invalid argument \"{stream}\" for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR"
                ));
            }
        }
    }
    Ok((stdin || options.interactive, stdout, stderr))
}

fn health(options: &Options) -> Said<Option<HealthConfig>> {
    let health = HealthConfig {
        test: options
            .health_cmd
            .as_ref()
            .filter(|command| !command.is_empty())
            .map(|command| vec!["CMD-SHELL".to_owned(), command.clone()]),
        interval: options.health_interval.unwrap_or_default(),
        timeout: options.health_timeout.unwrap_or_default(),
        start_period: options.health_start_period.unwrap_or_default(),
        start_interval: options.health_start_interval.unwrap_or_default(),
        retries: options.health_retries.unwrap_or_default(),
    };
    if health.retries < 0 {
        return Err("--health-retries cannot be negative".to_owned());
    }
    match (options.no_healthcheck, health != HealthConfig::default()) {
        (true, true) => Err("--no-healthcheck conflicts with --health-* options".to_owned()),
        (true, false) => Ok(Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        })),
        (false, true) => Ok(Some(health)),
        (false, false) => Ok(None),
    }
}

fn log_config(options: &Options) -> Said<LogConfig> {
    let kind = text(&options.log_driver);
    let config = pair::map("--log-opt", &options.log_opt)?;
    if kind == "none" && !config.is_empty() {
        return Err(format!("invalid logging opts for driver {kind}"));
    }
    Ok(LogConfig {
        kind,
        config: Some(config),
    })
}

fn devices(options: &Options) -> (Vec<DeviceMapping>, Vec<DeviceRequest>) {
    let (mut nodes, mut names) = (Vec::new(), Vec::new());
    for device in &options.device {
        match device {
            Device::Node(node) => nodes.push(node.clone()),
            Device::Cdi(name) => names.push(name.clone()),
        }
    }
    let request = DeviceRequest {
        driver: "cdi".to_owned(),
        device_ids: Some(names),
        ..DeviceRequest::default()
    };
    let requests = if request.device_ids.as_ref().is_some_and(|names| names.is_empty()) {
        Vec::new()
    } else {
        vec![request]
    };
    (nodes, requests)
}

/// The network mode (the first network), and how the container joins each one.
fn networks(options: &Options) -> Said<(String, NetworkingConfig)> {
    let mut first = options.network.first().cloned().unwrap_or_default();
    let mode = if first.name.is_empty() {
        DEFAULT_NETWORK.to_owned()
    } else {
        first.name.clone()
    };
    let own = own_endpoint(options);
    let flagged = own != EndpointSettings::default();
    if flagged {
        // Addresses and names given by flags of their own belong to the first network; said twice they contradict.
        for (flag, given, again) in [
            (
                "--network-alias",
                own.aliases.is_some(),
                first.endpoint.aliases.is_some(),
            ),
            (
                "--ip, --ip6 or --link-local-ip",
                own.ipam_config.is_some(),
                first.endpoint.ipam_config.is_some(),
            ),
            (
                "--mac-address",
                !own.mac_address.is_empty(),
                !first.endpoint.mac_address.is_empty(),
            ),
        ] {
            if given && again {
                return Err(format!(
                    "conflicting options: cannot specify both {flag} and per-network settings in --network"
                ));
            }
        }
        merge(&mut first.endpoint, own);
    }
    let mut endpoints = BTreeMap::new();
    // Where there is no interface of the container's own, there is no endpoint either, unless it was asked for.
    if flagged || !(matches!(mode.as_str(), "host" | "none") || mode.starts_with("container:")) {
        endpoints.insert(mode.clone(), Some(first.endpoint));
    }
    for network in options.network.iter().skip(1) {
        if mode.starts_with("container:") || mode == "host" || mode == "none" {
            return Err(format!(
                "conflicting options: cannot attach both {mode} and other networks"
            ));
        }
        if endpoints
            .insert(network.name.clone(), Some(network.endpoint.clone()))
            .is_some()
        {
            return Err(format!("network {:?} is specified multiple times", network.name));
        }
    }
    Ok((
        mode,
        NetworkingConfig {
            endpoints_config: Some(endpoints),
        },
    ))
}

fn own_endpoint(options: &Options) -> EndpointSettings {
    let ipam = EndpointIpam {
        ipv4_address: text(&options.ip),
        ipv6_address: text(&options.ip6),
        link_local_ips: list(&options.link_local_ip),
    };
    EndpointSettings {
        ipam_config: (ipam != EndpointIpam::default()).then_some(ipam),
        aliases: list(&options.network_alias),
        mac_address: text(&options.mac_address),
        ..EndpointSettings::default()
    }
}

fn merge(into: &mut EndpointSettings, own: EndpointSettings) {
    into.aliases = into.aliases.take().or(own.aliases);
    into.ipam_config = into.ipam_config.take().or(own.ipam_config);
    if into.mac_address.is_empty() {
        into.mac_address = own.mac_address;
    }
}

/// Capabilities in one spelling, sorted: `ALL` makes the others of its list superfluous, and adding wins over dropping.
fn capabilities(add: &[String], drop: &[String]) -> (Vec<String>, Vec<String>) {
    let names = |list: &[String]| -> BTreeSet<String> {
        let names: BTreeSet<String> = list
            .iter()
            .map(|name| {
                let name = name.trim().to_uppercase();
                if name == "ALL" || name.starts_with("CAP_") {
                    name
                } else {
                    format!("CAP_{name}")
                }
            })
            .collect();
        if names.contains("ALL") {
            BTreeSet::from(["ALL".to_owned()])
        } else {
            names
        }
    };
    let add = names(add);
    let drop = names(drop).difference(&add).cloned().collect();
    (add.into_iter().collect(), drop)
}

/// A namespace mode; `container:NAME` where joining another container's makes sense.
fn namespace(kind: &str, mode: &Option<String>, known: &[&str], joins: bool) -> Said<String> {
    let mode = text(mode);
    let joined = joins && mode.strip_prefix("container:").is_some_and(|name| !name.is_empty());
    if joined || known.contains(&mode.as_str()) {
        Ok(mode)
    } else {
        Err(format!("--{kind}: invalid {} mode", kind.to_uppercase()))
    }
}

/// `host`, or a word of ours with its options, which the daemon reads. It also says why there is no `keep-id`.
fn users(mode: &Option<String>) -> Said<String> {
    let mode = text(mode);
    let word = mode.split(':').next().unwrap_or_default();
    match (mode.as_str(), word) {
        ("" | "host", _) | (_, "private" | "auto" | "keep-id") => Ok(mode),
        _ => Err("--userns: invalid USER mode".to_owned()),
    }
}

fn text(value: &Option<String>) -> String {
    value.clone().unwrap_or_default()
}

fn list(values: &[String]) -> Option<Vec<String>> {
    (!values.is_empty()).then(|| values.to_vec())
}

fn some<K: Ord, V>(map: BTreeMap<K, V>) -> Option<BTreeMap<K, V>> {
    (!map.is_empty()).then_some(map)
}

#[cfg(test)]
mod tests;
