//! From the engine's record of a container to what inspect and lists show.

use std::collections::BTreeMap;

use agent_api::container::{
    GraphDriver, Health, HealthResult, Inspect, MountPoint, NetworkSettings, Port, State as WireState,
};
use agent_api::create::{Config, HealthConfig};
use agent_api::host_config as wire;
use agent_api::network::EndpointSettings;
use agent_api::time::Time;
use agent_api::{Empty, Set, StringMap};
use agent_engine::container::mounts::MountKind;
use agent_engine::container::{Record, RunNet, spec};
use agent_engine::{Engine, Phase, Snapshot};
use axum::extract::State;

use super::device_limits;
use crate::error::ApiResult;
use crate::reply;
use crate::request::{Query, Target};
use crate::version::ApiVersion;

/// What clients know the layers' driver by.
pub const STORAGE_DRIVER: &str = "overlay2";

pub async fn inspect(State(engine): State<Engine>, version: ApiVersion, Target(id): Target, query: Query) -> ApiResult {
    let container = engine.container(&id)?;
    let snapshot = container.snapshot();
    // Behind the look: an end between the two would be told too early.
    engine.ends_are_durable(std::slice::from_ref(&container)).await;
    let mut shown = shown(&engine, &snapshot, version);
    if query.flag("size") {
        let (rw, root) = sizes(&engine, &shown.id, &shown.image).await;
        (shown.size_rw, shown.size_root_fs) = (Some(rw), Some(root));
    }
    Ok(reply::ok(&shown))
}

/// Bytes of the writable layer, and of everything the container sees. A container that is being removed has none.
pub async fn sizes(engine: &Engine, container: &str, image: &str) -> (i64, i64) {
    let writable = match engine.container(container) {
        Ok(container) => engine.writable_size(&container).await.unwrap_or(0),
        Err(_) => 0,
    };
    let image = engine.find_image(image).map_or(0, |image| image.size);
    (signed(writable), signed(writable.saturating_add(image)))
}

pub fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn shown(engine: &Engine, snapshot: &Snapshot, version: ApiVersion) -> Inspect {
    let record = &snapshot.record;
    let status = &record.status;
    let argv = record.argv();
    let places = engine.paths(&record.id);
    let has_files = !matches!(status.phase, Phase::Created) || places.hosts.exists();
    let file = |path: &std::path::Path| {
        if has_files {
            path.display().to_string()
        } else {
            String::new()
        }
    };
    let mut network_settings = network_settings(engine, snapshot);
    if !version.since(52) {
        network_settings.add_legacy();
    }
    Inspect {
        id: record.id.to_string(),
        created: record.created.into(),
        path: argv.first().cloned().unwrap_or_default(),
        args: argv.get(1..).unwrap_or_default().to_vec(),
        state: WireState {
            status: status.phase.as_str().to_owned(),
            // A paused or restarting container counts as running.
            running: status.phase.is_live() || status.phase == Phase::Restarting,
            paused: status.phase == Phase::Paused,
            restarting: status.phase == Phase::Restarting,
            oom_killed: status.oom_killed,
            dead: status.phase == Phase::Dead,
            pid: status.pid.into(),
            exit_code: status.exit_code.into(),
            error: status.error.clone(),
            started_at: status.started_at.into(),
            finished_at: status.finished_at.into(),
            // A check begins with the first start; before that there is no health to speak of.
            health: record
                .health
                .as_ref()
                .filter(|_| status.started_at.is_some())
                .map(|health| Health {
                    status: health.state.as_str().to_owned(),
                    failing_streak: health.failing_streak.into(),
                    log: Some(
                        health
                            .log
                            .iter()
                            .map(|probe| HealthResult {
                                start: probe.start.into(),
                                end: probe.end.into(),
                                exit_code: probe.exit_code.into(),
                                output: probe.output.clone(),
                            })
                            .collect(),
                    ),
                }),
        },
        image: record.image.clone(),
        resolv_conf_path: file(&places.resolv_conf),
        hostname_path: file(&places.hostname),
        hosts_path: file(&places.hosts),
        log_path: if has_files {
            engine.log_path(record)
        } else {
            String::new()
        },
        name: format!("/{}", record.name),
        restart_count: status.restart_count.into(),
        driver: STORAGE_DRIVER.to_owned(),
        platform: "linux".to_owned(),
        exec_ids: Some(engine.exec_ids(record.id.as_str())).filter(|ids| !ids.is_empty()),
        host_config: wire::HostConfig {
            links: some(&engine.shown_links(record)),
            ..host_config(engine, &record.host)
        },
        graph_driver: Some(graph_driver(engine, record)),
        mounts: mounts(record),
        config: config(&record.config),
        network_settings,
        ..Inspect::default()
    }
}

fn graph_driver(engine: &Engine, record: &Record) -> GraphDriver {
    let mut data = engine.layer_paths(&record.id).map(|paths| {
        let lower: Vec<String> = paths.lower.iter().map(|path| path.display().to_string()).collect();
        StringMap::from([
            ("ID".to_owned(), record.id.to_string()),
            ("LowerDir".to_owned(), lower.join(":")),
            ("UpperDir".to_owned(), paths.upper.display().to_string()),
            ("WorkDir".to_owned(), paths.work.display().to_string()),
        ])
    });
    if let Some(data) = data.as_mut().filter(|_| record.status.phase.is_live()) {
        // The merged view exists in the container's own mount namespace alone, and can be reached through it.
        data.insert("MergedDir".to_owned(), format!("/proc/{}/root", record.status.pid));
    }
    GraphDriver {
        data,
        name: STORAGE_DRIVER.to_owned(),
    }
}

/// The mode as clients know it: the default network is `bridge`.
pub fn network_mode(mode: &str) -> String {
    match mode {
        "" | "default" => "bridge".to_owned(),
        other => other.to_owned(),
    }
}

/// Endpoints by network name. Empty for a container that shares another's network.
pub fn networks(engine: &Engine, record: &Record, net: &RunNet) -> BTreeMap<String, EndpointSettings> {
    let name = network_mode(&record.host.network_mode);
    if name.starts_with("container:") {
        return BTreeMap::new();
    }
    let mut shown = EndpointSettings::default();
    if !record.config.mac_address.is_empty() {
        shown.mac_address.clone_from(&record.config.mac_address);
    }
    let live = record.status.phase.is_live();
    if live || record.status.started_at.is_some() {
        shown.network_id = engine.network_id(&name).unwrap_or_default();
    }
    if live {
        shown.endpoint_id = endpoint_id(&shown.network_id, record.id.as_str());
    }
    if let Some(endpoint) = net.endpoint.as_ref().filter(|_| live) {
        shown.gateway = endpoint.gateway.to_string();
        shown.ip_address = endpoint.ip.to_string();
        shown.ip_prefix_len = endpoint.prefix_len.into();
        shown.mac_address = endpoint.mac.to_string();
    }
    BTreeMap::from([(name, shown)])
}

/// The place of one container in one network: both ids folded into one, so that it is the same whoever asks.
pub fn endpoint_id(network: &str, container: &str) -> String {
    let digit = |c: u8| (c as char).to_digit(16).unwrap_or(0);
    let fold = |(a, b): (u8, u8)| char::from_digit(digit(a) ^ digit(b), 16).unwrap_or('0');
    network.bytes().zip(container.bytes()).map(fold).collect()
}

fn network_settings(engine: &Engine, snapshot: &Snapshot) -> NetworkSettings {
    let record = &snapshot.record;
    let mut settings = NetworkSettings {
        networks: networks(engine, record, &snapshot.net),
        ..NetworkSettings::default()
    };
    if record.status.phase.is_live() {
        settings.sandbox_id = record.id.to_string();
        settings.sandbox_key = format!("/proc/{}/ns/net", record.status.pid);
        for port in &record.config.exposed_ports {
            settings.ports.insert(port.clone(), None);
        }
        for port in &snapshot.net.ports {
            let binding = wire::PortBinding {
                host_ip: port.host_ip.to_string(),
                host_port: port.host_port.to_string(),
            };
            let key = format!("{}/{}", port.container_port, port.proto);
            settings
                .ports
                .entry(key)
                .or_default()
                .get_or_insert_default()
                .push(binding);
        }
    }
    settings
}

/// Published ports, and exposed ones that are not, of a live container.
pub fn port_list(record: &Record, net: &RunNet) -> Vec<Port> {
    if !record.status.phase.is_live() {
        return Vec::new();
    }
    let mut list: Vec<Port> = net
        .ports
        .iter()
        .map(|port| Port {
            ip: port.host_ip.to_string(),
            private_port: port.container_port,
            public_port: port.host_port,
            kind: port.proto.to_string(),
        })
        .collect();
    for exposed in &record.config.exposed_ports {
        let (number, kind) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
        let Ok(private_port) = number.parse() else { continue };
        if !list
            .iter()
            .any(|port| port.private_port == private_port && port.kind == kind)
        {
            list.push(Port {
                private_port,
                kind: kind.to_owned(),
                ..Port::default()
            });
        }
    }
    list.sort();
    list
}

/// Mounts in the order of their targets. What `--tmpfs` asked for is in the host configuration alone, as with dockerd.
pub fn mounts(record: &Record) -> Vec<MountPoint> {
    let mut list: Vec<MountPoint> = record
        .mounts
        .iter()
        .filter(|mount| !record.host.tmpfs.contains_key(&mount.target))
        .map(|mount| MountPoint {
            kind: mount.kind.as_str().to_owned(),
            name: mount.name.clone(),
            source: mount.source.display().to_string(),
            destination: mount.target.clone(),
            driver: mount.driver.clone(),
            // dockerd's word for a named volume that says nothing.
            mode: match mount.kind {
                MountKind::Volume if mount.mode.is_empty() && !mount.anonymous => "z".to_owned(),
                _ => mount.mode.clone(),
            },
            rw: mount.writable,
            propagation: mount.propagation.clone(),
        })
        .collect();
    list.sort_by(|a, b| a.destination.cmp(&b.destination));
    list
}

fn set(names: &std::collections::BTreeSet<String>) -> Option<Set> {
    (!names.is_empty()).then(|| names.iter().map(|name| (name.clone(), Empty {})).collect())
}

/// A list that is `null` when empty.
fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

fn config(config: &spec::Config) -> Config {
    Config {
        hostname: config.hostname.clone(),
        domainname: config.domainname.clone(),
        user: config.user.clone(),
        attach_stdin: config.attach_stdin,
        attach_stdout: config.attach_stdout,
        attach_stderr: config.attach_stderr,
        exposed_ports: set(&config.exposed_ports),
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        env: Some(config.env.clone()),
        cmd: config.cmd.clone(),
        healthcheck: config.healthcheck.as_ref().map(|check| HealthConfig {
            test: some(&check.test),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        args_escaped: config.args_escaped,
        image: config.image.clone(),
        volumes: set(&config.volumes),
        working_dir: config.working_dir.clone(),
        entrypoint: config.entrypoint.clone(),
        network_disabled: config.network_disabled,
        mac_address: String::new(),
        on_build: config.on_build.clone(),
        labels: Some(config.labels.clone()),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        stop_timeout: config.stop_timeout,
        shell: config.shell.clone(),
    }
}

fn host_config(engine: &Engine, host: &spec::HostConfig) -> wire::HostConfig {
    let resources = &host.resources;
    // Unless somebody chose, what holds is the default: nothing hidden from a privileged container.
    let masked = || {
        if host.privileged {
            None
        } else {
            Some(engine.default_masked_paths().to_vec())
        }
    };
    let readonly = || {
        let list = engine.default_readonly_paths();
        if host.privileged {
            None
        } else {
            Some(list.iter().map(|path| (*path).to_owned()).collect())
        }
    };
    wire::HostConfig {
        binds: some(&host.binds),
        container_id_file: host.container_id_file.clone(),
        log_config: wire::LogConfig {
            kind: host.log.driver.clone(),
            config: Some(host.log.options.clone()),
        },
        network_mode: network_mode(&host.network_mode),
        port_bindings: Some(
            host.port_bindings
                .iter()
                .map(|(port, bindings)| {
                    let bindings = bindings.iter().map(|one| wire::PortBinding {
                        host_ip: one.host_ip.clone(),
                        host_port: one.host_port.clone(),
                    });
                    (port.clone(), Some(bindings.collect()))
                })
                .collect(),
        ),
        restart_policy: wire::RestartPolicy {
            name: host.restart_policy.name.as_str().to_owned(),
            maximum_retry_count: host.restart_policy.maximum_retry_count.into(),
        },
        auto_remove: host.auto_remove,
        volume_driver: host.volume_driver.clone(),
        volumes_from: some(&host.volumes_from),
        console_size: host.console_size.map(u32::from),
        annotations: Some(host.annotations.clone()),
        cap_add: some(&host.cap_add),
        cap_drop: some(&host.cap_drop),
        cgroupns_mode: host.cgroupns_mode.clone(),
        dns: Some(host.dns.clone()),
        dns_options: Some(host.dns_options.clone()),
        dns_search: Some(host.dns_search.clone()),
        extra_hosts: some(&host.extra_hosts),
        group_add: some(&host.group_add),
        ipc_mode: host.ipc_mode.clone(),
        oom_score_adj: host.oom_score_adj.into(),
        pid_mode: host.pid_mode.clone(),
        privileged: host.privileged,
        publish_all_ports: host.publish_all_ports,
        readonly_rootfs: host.readonly_rootfs,
        security_opt: some(&host.security_opt),
        storage_opt: Some(host.storage_opt.clone()),
        tmpfs: Some(host.tmpfs.clone()),
        uts_mode: host.uts_mode.clone(),
        userns_mode: host.userns_mode.clone(),
        shm_size: host.shm_size,
        sysctls: Some(host.sysctls.clone()),
        runtime: if host.runtime.is_empty() {
            agent_engine::config::OWN_RUNTIME.to_owned()
        } else {
            host.runtime.clone()
        },
        cpu_shares: resources.cpu_shares,
        memory: resources.memory,
        nano_cpus: resources.nano_cpus,
        cgroup_parent: resources.cgroup_parent.clone(),
        blkio_weight: resources.blkio_weight,
        blkio_weight_device: device_limits::weights_shown(&resources.blkio_weight_device),
        blkio_device_read_bps: device_limits::rates_shown(&resources.read_bps),
        blkio_device_write_bps: device_limits::rates_shown(&resources.write_bps),
        blkio_device_read_iops: device_limits::rates_shown(&resources.read_iops),
        blkio_device_write_iops: device_limits::rates_shown(&resources.write_iops),
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        devices: Some(
            resources
                .devices
                .iter()
                .map(|device| wire::DeviceMapping {
                    path_on_host: device.path_on_host.clone(),
                    path_in_container: device.path_in_container.clone(),
                    cgroup_permissions: device.cgroup_permissions.clone(),
                })
                .collect(),
        ),
        device_requests: some(&host.device_requests.iter().map(device_request).collect::<Vec<_>>()),
        device_cgroup_rules: some(&resources.device_cgroup_rules),
        memory_reservation: resources.memory_reservation,
        memory_swap: resources.memory_swap,
        memory_swappiness: resources.memory_swappiness,
        oom_kill_disable: resources.oom_kill_disable,
        pids_limit: resources.pids_limit,
        ulimits: Some(
            resources
                .ulimits
                .iter()
                .map(|(name, limit)| wire::Ulimit {
                    name: name.clone(),
                    hard: limit.hard,
                    soft: limit.soft,
                })
                .collect(),
        ),
        mounts: Some(host.mounts.iter().map(mount).collect()),
        masked_paths: host.masked_paths.clone().or_else(masked),
        readonly_paths: host.readonly_paths.clone().or_else(readonly),
        init: host.init,
        ..wire::HostConfig::default()
    }
}

fn device_request(request: &spec::DeviceRequest) -> wire::DeviceRequest {
    wire::DeviceRequest {
        driver: request.driver.clone(),
        count: request.count,
        device_ids: some(&request.device_ids),
        capabilities: some(&request.capabilities),
        options: Some(request.options.clone()),
    }
}

fn mount(mount: &spec::Mount) -> wire::Mount {
    wire::Mount {
        kind: mount.kind.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        read_only: mount.read_only,
        consistency: mount.consistency.clone(),
        bind_options: mount.bind.as_ref().map(|bind| wire::BindOptions {
            propagation: bind.propagation.clone(),
            non_recursive: bind.non_recursive,
            create_mountpoint: bind.create_mountpoint,
            read_only_non_recursive: bind.read_only_non_recursive,
            read_only_force_recursive: bind.read_only_force_recursive,
        }),
        volume_options: mount.volume.as_ref().map(|volume| wire::VolumeOptions {
            no_copy: volume.no_copy,
            labels: Some(volume.labels.clone()),
            subpath: volume.subpath.clone(),
            driver_config: Some(wire::DriverConfig {
                name: volume.driver.clone(),
                options: Some(volume.driver_options.clone()),
            })
            .filter(|driver| !driver.name.is_empty() || driver.options.as_ref().is_some_and(|map| !map.is_empty())),
        }),
        tmpfs_options: mount.tmpfs.as_ref().map(|tmpfs| wire::TmpfsOptions {
            size_bytes: tmpfs.size_bytes,
            mode: tmpfs.mode,
            options: Some(tmpfs.options.clone()),
        }),
        image_options: mount.image.as_ref().map(|image| wire::ImageOptions {
            subpath: image.subpath.clone(),
        }),
        ..wire::Mount::default()
    }
}

/// For lists of other resources: when something was made.
pub fn seconds(time: std::time::SystemTime) -> String {
    // Volumes show whole seconds.
    let stamp = Time::from(time).to_string();
    match stamp.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => stamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn endpoint_ids_are_full_and_differ_by_network_and_container() {
        let (a, b, c) = ("1".repeat(64), "2".repeat(64), "f".repeat(64));
        assert_eq!(endpoint_id(&a, &b).len(), 64);
        assert_ne!(endpoint_id(&a, &b), endpoint_id(&a, &c));
        assert_ne!(endpoint_id(&a, &c), endpoint_id(&b, &c));
    }

    #[test]
    fn volumes_show_whole_seconds() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        assert_eq!(seconds(time), "1970-01-01T00:00:01Z");
    }
}
