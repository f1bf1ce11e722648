//! `POST /containers/create`: the wire's request → the engine's. What the engine has no place for is refused by name.

use std::collections::BTreeMap;

use agent_api::create::{Config, CreateRequest, CreateResponse};
use agent_api::host_config::{self as wire, HostConfig};
use agent_api::network::EndpointSettings;
use agent_engine::Engine;
use agent_engine::container::spec;
use axum::body::Body;
use axum::extract::State;
use http::{Request, StatusCode};

use super::{device_limits, refused};
use crate::error::{ApiError, ApiResult};
use crate::reply;
use crate::request::{Query, json_bytes};
use crate::version::ApiVersion;

pub async fn create(
    State(engine): State<Engine>,
    version: ApiVersion,
    query: Query,
    request: Request<Body>,
) -> ApiResult {
    let body = json_bytes(request).await?;
    let request = CreateRequest::parse(&body)?;
    let (engine_request, mut warnings) = translate(request, version)?;
    check_platform(&engine, &engine_request.config.image, query.get("platform"))?;
    let name = Some(query.get("name").to_owned()).filter(|name| !name.is_empty());
    let created = engine.create(name, engine_request).await?;
    warnings.extend(created.warnings);
    Ok(reply::json(
        StatusCode::CREATED,
        &CreateResponse {
            id: created.id.to_string(),
            warnings,
        },
    ))
}

/// `platform=os/arch[/variant]` must be what the image that is here provides; the client pulls otherwise.
fn check_platform(engine: &Engine, image: &str, platform: &str) -> ApiResult<()> {
    if platform.is_empty() {
        return Ok(());
    }
    let wanted = agent_engine::view::Platform::parse(platform).map_err(|error| ApiError::bad(error.to_string()))?;
    let found = engine.find_image(image)?;
    let own = &found.parsed;
    let variant = wanted
        .variant
        .as_deref()
        .is_none_or(|variant| own.variant.is_empty() || variant == own.variant);
    if own.os == wanted.os && own.architecture == wanted.architecture && variant {
        return Ok(());
    }
    let (os, architecture) = (&own.os, &own.architecture);
    Err(ApiError::new(
        StatusCode::NOT_FOUND,
        format!(
            "image with reference {image} was found but its platform ({os}/{architecture}) does not match the specified platform ({platform})"
        ),
    ))
}

/// The engine's request, and warnings about what a version changes.
fn translate(request: CreateRequest, version: ApiVersion) -> ApiResult<(spec::CreateRequest, Vec<String>)> {
    if request.config == Config::default() {
        return Err(ApiError::bad("config cannot be empty in order to create a container"));
    }
    let mut warnings = Vec::new();
    let mut host = request.host_config.unwrap_or_default();
    refused::config(&request.config)?;
    refused::host(&host)?;
    refused::by_version(&host, version)?;
    if version.since(52) {
        let empty = host
            .port_bindings
            .iter()
            .flatten()
            .filter(|(_, list)| list.as_ref().is_none_or(Vec::is_empty));
        warnings.extend(empty.map(|(port, _)| {
            format!("Following container port(s) have an empty port-binding: {port}. Such bindings will be discarded in a future version")
        }));
    }
    if !version.since(43) {
        host.annotations = None;
    }
    let mut endpoints = BTreeMap::new();
    for (name, settings) in request
        .networking_config
        .and_then(|config| config.endpoints_config)
        .unwrap_or_default()
    {
        endpoints.insert(name, endpoint(settings.unwrap_or_default())?);
    }
    if endpoints.len() > 1 {
        if !version.since(44) {
            let names: Vec<&String> = endpoints.keys().collect();
            return Err(ApiError::bad(format!(
                "Container cannot be created with multiple network endpoints: {names:?}"
            )));
        }
        return Err(ApiError::unsupported("connecting a container to several networks"));
    }
    let mut config = config(request.config, version)?;
    if version.since(52) && !config.mac_address.is_empty() {
        return Err(ApiError::bad(
            "container-wide MAC address no longer supported; use endpoint-specific MAC address instead",
        ));
    }
    if !version.since(44)
        && let Some(check) = &mut config.healthcheck
    {
        check.start_interval = 0;
    }
    Ok((
        spec::CreateRequest {
            config,
            host: host_config(host)?,
            endpoints,
        },
        warnings,
    ))
}

fn endpoint(settings: EndpointSettings) -> ApiResult<spec::EndpointRequest> {
    let ipam = settings.ipam_config.unwrap_or_default();
    if ipam.link_local_ips.is_some_and(|list| !list.is_empty()) {
        return Err(ApiError::unsupported("EndpointSettings.IPAMConfig.LinkLocalIPs"));
    }
    if settings.gw_priority != 0 {
        return Err(ApiError::unsupported("EndpointSettings.GwPriority"));
    }
    Ok(spec::EndpointRequest {
        ipv4_address: ipam.ipv4_address,
        ipv6_address: ipam.ipv6_address,
        mac_address: settings.mac_address,
        aliases: settings.aliases.unwrap_or_default(),
        links: settings.links.unwrap_or_default(),
        driver_options: settings.driver_opts.unwrap_or_default(),
    })
}

pub(super) fn config(config: Config, _: ApiVersion) -> ApiResult<spec::Config> {
    Ok(spec::Config {
        hostname: config.hostname,
        domainname: config.domainname,
        user: config.user,
        attach_stdin: config.attach_stdin,
        attach_stdout: config.attach_stdout,
        attach_stderr: config.attach_stderr,
        exposed_ports: config.exposed_ports.unwrap_or_default().into_keys().collect(),
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        env: config.env.unwrap_or_default(),
        cmd: config.cmd,
        entrypoint: config.entrypoint,
        healthcheck: config.healthcheck.map(|check| spec::Healthcheck {
            test: check.test.unwrap_or_default(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        args_escaped: config.args_escaped,
        image: config.image,
        volumes: config.volumes.unwrap_or_default().into_keys().collect(),
        working_dir: config.working_dir,
        network_disabled: config.network_disabled,
        mac_address: config.mac_address,
        on_build: config.on_build,
        labels: config.labels.unwrap_or_default(),
        stop_signal: Some(config.stop_signal).filter(|signal| !signal.is_empty()),
        stop_timeout: config.stop_timeout,
        shell: config.shell,
    })
}

/// A number that must fit a narrower type of the engine.
fn narrow<T: TryFrom<i64>>(value: i64, what: &str) -> ApiResult<T> {
    T::try_from(value).map_err(|_| ApiError::bad(format!("invalid value {value} for {what}: out of range")))
}

fn host_config(host: HostConfig) -> ApiResult<spec::HostConfig> {
    let restart_policy = restart_policy(&host.restart_policy)?;
    let mut console_size = [0; 2];
    for (slot, value) in console_size.iter_mut().zip(host.console_size) {
        *slot = narrow(value.into(), "HostConfig.ConsoleSize")?;
    }
    Ok(spec::HostConfig {
        console_size,
        restart_policy,
        oom_score_adj: narrow(host.oom_score_adj, "HostConfig.OomScoreAdj")?,
        resources: resources(&host)?,
        binds: host.binds.unwrap_or_default(),
        container_id_file: host.container_id_file,
        log: spec::LogConfig {
            driver: host.log_config.kind,
            options: host.log_config.config.unwrap_or_default(),
        },
        network_mode: host.network_mode,
        port_bindings: host
            .port_bindings
            .unwrap_or_default()
            .into_iter()
            .map(|(port, list)| (port, bindings(list)))
            .collect(),
        auto_remove: host.auto_remove,
        volume_driver: host.volume_driver,
        volumes_from: host.volumes_from.unwrap_or_default(),
        mounts: host.mounts.unwrap_or_default().into_iter().map(mount).collect(),
        annotations: host.annotations.unwrap_or_default(),
        cap_add: host.cap_add.unwrap_or_default(),
        cap_drop: host.cap_drop.unwrap_or_default(),
        cgroupns_mode: host.cgroupns_mode,
        dns: host.dns.unwrap_or_default(),
        dns_options: host.dns_options.unwrap_or_default(),
        dns_search: host.dns_search.unwrap_or_default(),
        extra_hosts: host.extra_hosts.unwrap_or_default(),
        group_add: host.group_add.unwrap_or_default(),
        ipc_mode: host.ipc_mode,
        links: host.links.unwrap_or_default(),
        pid_mode: host.pid_mode,
        privileged: host.privileged,
        publish_all_ports: host.publish_all_ports,
        readonly_rootfs: host.readonly_rootfs,
        security_opt: host.security_opt.unwrap_or_default(),
        storage_opt: host.storage_opt.unwrap_or_default(),
        tmpfs: host.tmpfs.unwrap_or_default(),
        uts_mode: host.uts_mode,
        userns_mode: host.userns_mode,
        shm_size: host.shm_size,
        sysctls: host.sysctls.unwrap_or_default(),
        runtime: host.runtime,
        init: host.init,
        masked_paths: host.masked_paths,
        readonly_paths: host.readonly_paths,
        device_requests: host.device_requests.into_iter().flatten().map(device_request).collect(),
    })
}

fn device_request(request: wire::DeviceRequest) -> spec::DeviceRequest {
    spec::DeviceRequest {
        driver: request.driver,
        count: request.count,
        device_ids: request.device_ids.unwrap_or_default(),
        capabilities: request.capabilities.unwrap_or_default(),
        options: request.options.unwrap_or_default(),
    }
}

pub(super) fn bindings(list: Option<Vec<wire::PortBinding>>) -> Vec<spec::PortBinding> {
    let list = list.unwrap_or_default().into_iter();
    list.map(|one| spec::PortBinding {
        host_ip: one.host_ip,
        host_port: one.host_port,
    })
    .collect()
}

/// A restart policy; an empty name is `no`.
pub(super) fn restart_policy(policy: &wire::RestartPolicy) -> ApiResult<spec::RestartPolicy> {
    Ok(spec::RestartPolicy {
        name: spec::RestartName::parse(&policy.name).ok_or_else(|| {
            ApiError::bad(format!(
                "invalid restart policy: unknown policy '{}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped', or the extension 'on-unhealthy'",
                policy.name
            ))
        })?,
        maximum_retry_count: u32::try_from(policy.maximum_retry_count)
            .map_err(|_| ApiError::bad("invalid restart policy: maximum retry count cannot be negative"))?,
    })
}

pub(super) fn resources(host: &HostConfig) -> ApiResult<spec::Resources> {
    let devices = host.devices.iter().flatten().map(|device| spec::Device {
        path_on_host: device.path_on_host.clone(),
        path_in_container: device.path_in_container.clone(),
        cgroup_permissions: device.cgroup_permissions.clone(),
    });
    let mut ulimits = BTreeMap::new();
    for limit in host.ulimits.iter().flatten() {
        if ulimits
            .insert(
                limit.name.clone(),
                spec::Ulimit {
                    soft: limit.soft,
                    hard: limit.hard,
                },
            )
            .is_some()
        {
            return Err(ApiError::bad(format!("ulimit \"{}\" is given twice", limit.name)));
        }
    }
    Ok(spec::Resources {
        cpu_shares: host.cpu_shares,
        memory: host.memory,
        nano_cpus: host.nano_cpus,
        cgroup_parent: host.cgroup_parent.clone(),
        blkio_weight: host.blkio_weight,
        blkio_weight_device: device_limits::weights(host.blkio_weight_device.as_deref()),
        read_bps: device_limits::rates(host.blkio_device_read_bps.as_deref()),
        write_bps: device_limits::rates(host.blkio_device_write_bps.as_deref()),
        read_iops: device_limits::rates(host.blkio_device_read_iops.as_deref()),
        write_iops: device_limits::rates(host.blkio_device_write_iops.as_deref()),
        cpu_period: host.cpu_period,
        cpu_quota: host.cpu_quota,
        cpuset_cpus: host.cpuset_cpus.clone(),
        cpuset_mems: host.cpuset_mems.clone(),
        devices: devices.collect(),
        device_cgroup_rules: host.device_cgroup_rules.clone().unwrap_or_default(),
        memory_reservation: host.memory_reservation,
        memory_swap: host.memory_swap,
        // Clients say -1 for "not asked for".
        memory_swappiness: host.memory_swappiness.filter(|value| *value != -1),
        oom_kill_disable: host.oom_kill_disable,
        // 0 and below mean no limit, whoever says it.
        pids_limit: host.pids_limit.filter(|limit| *limit != 0),
        ulimits,
    })
}

pub(super) fn mount(mount: wire::Mount) -> spec::Mount {
    spec::Mount {
        kind: mount.kind,
        source: mount.source,
        target: mount.target,
        read_only: mount.read_only,
        consistency: mount.consistency,
        bind: mount.bind_options.map(|bind| spec::BindOptions {
            propagation: bind.propagation,
            non_recursive: bind.non_recursive,
            create_mountpoint: bind.create_mountpoint,
            read_only_non_recursive: bind.read_only_non_recursive,
            read_only_force_recursive: bind.read_only_force_recursive,
        }),
        volume: mount.volume_options.map(|volume| {
            let driver = volume.driver_config.unwrap_or_default();
            spec::VolumeOptions {
                no_copy: volume.no_copy,
                labels: volume.labels.unwrap_or_default(),
                driver: driver.name,
                driver_options: driver.options.unwrap_or_default(),
                subpath: volume.subpath,
            }
        }),
        image: mount
            .image_options
            .map(|image| spec::ImageOptions { subpath: image.subpath }),
        tmpfs: mount.tmpfs_options.map(|tmpfs| spec::TmpfsOptions {
            size_bytes: tmpfs.size_bytes,
            mode: tmpfs.mode,
            options: tmpfs.options.unwrap_or_default(),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(body: &str, minor: u16) -> Result<(spec::CreateRequest, Vec<String>), String> {
        let request = CreateRequest::parse(body.as_bytes()).map_err(|e| e.to_string())?;
        translate(request, ApiVersion::v1(minor))
            .map_err(|error| format!("{} {}", error.status.as_u16(), error.message))
    }

    #[test]
    fn an_empty_request_is_refused() {
        for body in ["{}", "null", r#"{"HostConfig":{}}"#] {
            assert_eq!(
                read(body, 50).unwrap_err(),
                "400 config cannot be empty in order to create a container"
            );
        }
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        for (member, name) in [
            (r#""CpuRealtimePeriod":1000"#, "HostConfig.CpuRealtimePeriod"),
            (r#""KernelMemory":5000000"#, "HostConfig.KernelMemory"),
            (r#""Cgroup":"x""#, "HostConfig.Cgroup"),
            (r#""Isolation":"hyperv""#, "HostConfig.Isolation"),
            (
                r#""Mounts":[{"Type":"cluster","Target":"/x","ClusterOptions":{}}]"#,
                "mount type cluster",
            ),
        ] {
            let error = read(&format!(r#"{{"Image":"a","HostConfig":{{{member}}}}}"#), 50).unwrap_err();
            assert_eq!(error, format!("501 {name} is not supported by this version of iEchor"));
        }
    }

    #[test]
    fn versions_decide_what_is_understood() {
        let mount = |options: &str| {
            format!(r#"{{"Image":"a","HostConfig":{{"Mounts":[{{"Type":"volume","Target":"/x",{options}}}]}}}}"#)
        };
        let subpath = mount(r#""VolumeOptions":{"Subpath":"a"}"#);
        assert!(read(&subpath, 44).unwrap_err().contains("needs API v1.45"));
        assert!(read(&subpath, 45).is_ok());
        let mac = r#"{"Image":"a","MacAddress":"02:00:00:00:00:01"}"#;
        assert!(read(mac, 51).is_ok());
        assert!(read(mac, 52).unwrap_err().contains("no longer supported"));
        let annotated = r#"{"Image":"a","HostConfig":{"Annotations":{"a":"b"}}}"#;
        assert!(read(annotated, 42).unwrap().0.host.annotations.is_empty());
        assert_eq!(read(annotated, 43).unwrap().0.host.annotations.len(), 1);
        let check = r#"{"Image":"a","Healthcheck":{"StartInterval":5000000000}}"#;
        assert_eq!(read(check, 43).unwrap().0.config.healthcheck.unwrap().start_interval, 0);
        let two = r#"{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"a":{},"b":{}}}}"#;
        assert!(
            read(two, 43)
                .unwrap_err()
                .starts_with("400 Container cannot be created with multiple")
        );
        assert!(read(two, 44).unwrap_err().starts_with("501"));
        let ports = r#"{"Image":"a","HostConfig":{"PortBindings":{"80/tcp":[]}}}"#;
        assert!(read(ports, 51).unwrap().1.is_empty());
        assert_eq!(read(ports, 52).unwrap().1.len(), 1);
    }

    #[test]
    fn bad_values_are_refused() {
        let host = |member: &str| read(&format!(r#"{{"Image":"a","HostConfig":{{{member}}}}}"#), 50).unwrap_err();
        assert!(host(r#""RestartPolicy":{"Name":"sometimes"}"#).contains("unknown policy 'sometimes'"));
        assert!(host(r#""RestartPolicy":{"Name":"on-failure","MaximumRetryCount":-1}"#).contains("negative"));
        assert!(host(r#""OomScoreAdj":99999999999"#).contains("out of range"));
        assert!(host(r#""ConsoleSize":[70000,1]"#).contains("out of range"));
        assert!(host(r#""Ulimits":[{"Name":"nofile"},{"Name":"nofile"}]"#).contains("given twice"));
    }
}
