//! The daemon about itself: ping, version, info, disk usage.

use std::collections::BTreeMap;

use agent_api::StringMap;
use agent_api::system::{
    AddressPool, Component, DiscoveredDevice, DiskUsage, Firewall, Info, Plugins, Runtime, Swarm, Usage, Version,
};
use agent_api::volume::UsageData;
use agent_api::{API_VERSION, MIN_API_VERSION, time::Time};
use agent_engine::filters::Filters;
use agent_engine::{Engine, Phase};
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::inspect::{STORAGE_DRIVER, signed, sizes};
use super::registry_info::{masked, registries};
use super::{containers, images, volumes};
use crate::error::{ApiError, ApiResult};
use crate::reply;
use crate::request::Query;
use crate::version::ApiVersion;
use agent_engine::config::OWN_RUNTIME;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `GET` and `HEAD /_ping`: alive, and what negotiation needs.
pub async fn ping() -> Response {
    let mut response = reply::with_type(StatusCode::OK, "text/plain; charset=utf-8", Body::from("OK"));
    for (name, value) in [
        ("builder-version", "2"),
        ("cache-control", "no-cache, no-store, must-revalidate"),
        ("pragma", "no-cache"),
        ("swarm", "inactive"),
    ] {
        response = reply::header(response, name, value);
    }
    response
}

/// Go's word for this machine's architecture.
fn go_arch(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i686" | "i386" => "386",
        other => other,
    }
}

pub async fn version(State(engine): State<Engine>) -> ApiResult {
    let info = engine.info();
    let arch = go_arch(&info.architecture).to_owned();
    let details = [
        ("ApiVersion", API_VERSION),
        ("Arch", arch.as_str()),
        ("BuildTime", ""),
        ("Experimental", "false"),
        ("GitCommit", ""),
        ("GoVersion", ""),
        ("KernelVersion", info.kernel.as_str()),
        ("MinAPIVersion", MIN_API_VERSION),
        ("Os", "linux"),
    ];
    let details: StringMap = details.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    Ok(reply::ok(&Version {
        platform: agent_api::system::PlatformName {
            name: format!("iEchor {VERSION}"),
        },
        // Clients look for a component of this name.
        components: vec![Component {
            name: "Engine".into(),
            version: VERSION.into(),
            details: Some(details),
        }],
        version: VERSION.to_owned(),
        api_version: API_VERSION.to_owned(),
        min_api_version: MIN_API_VERSION.to_owned(),
        os: "linux".to_owned(),
        arch,
        kernel_version: info.kernel,
        ..Version::default()
    }))
}

pub async fn info(State(engine): State<Engine>, version: ApiVersion) -> ApiResult {
    let info = engine.info();
    let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    let cgroup = &info.support;
    let own = Runtime {
        path: "iechor-shim".into(),
        ..Runtime::default()
    };
    let others = info.runtimes.into_iter().map(|(name, program)| {
        let shown = Runtime {
            path: program.path.display().to_string(),
            args: Some(program.args).filter(|args| !args.is_empty()),
            ..Runtime::default()
        };
        (name, shown)
    });
    let registry = engine.registry_config();
    let proxies = &registry.proxies;
    let pools = engine.config().network.pools.iter().map(|pool| AddressPool {
        base: pool.base.to_string(),
        size: i64::from(pool.size),
    });
    let pools: Vec<AddressPool> = pools.collect();
    let runtimes: BTreeMap<_, _> = others.chain([(OWN_RUNTIME.to_owned(), own)]).collect();
    Ok(reply::ok(&Info {
        id: info.id,
        containers: count(info.containers),
        containers_running: count(info.running),
        containers_paused: count(info.paused),
        containers_stopped: count(info.stopped),
        images: count(info.images),
        driver: STORAGE_DRIVER.to_owned(),
        driver_status: [
            ("Backing Filesystem", info.file_system),
            ("Supports d_type", "true"),
            ("Native Overlay Diff", "true"),
            ("Project Quota", if info.quotas { "true" } else { "false" }),
            ("Copies of a layer", "1"),
        ]
        .map(|(key, value)| [key.to_owned(), value.to_owned()])
        .into(),
        plugins: Plugins {
            volume: list(&["local"]),
            network: list(&["bridge", "host", "null"]),
            authorization: None,
            log: list(agent_engine::container::logging::DRIVERS),
        },
        memory_limit: cgroup.memory,
        swap_limit: cgroup.swap,
        cpu_cfs_period: cgroup.cpu_cfs,
        cpu_cfs_quota: cgroup.cpu_cfs,
        cpu_shares: cgroup.cpu_shares,
        cpu_set: cgroup.cpuset,
        pids_limit: cgroup.pids,
        ipv4_forwarding: info.ipv4_forwarding,
        bridge_nf_iptables: (!version.since(50)).then_some(false),
        bridge_nf_ip6tables: (!version.since(50)).then_some(false),
        debug: info.debug,
        n_fd: count(info.file_descriptors),
        oom_kill_disable: cgroup.oom_kill_disable,
        system_time: Time::from(std::time::SystemTime::now()).to_string(),
        logging_driver: info.log_driver,
        cgroup_driver: info.cgroup_driver.to_owned(),
        cgroup_version: info.cgroup_version.to_string(),
        kernel_version: info.kernel,
        operating_system: info.os,
        os_version: info.os_version,
        os_type: "linux".to_owned(),
        architecture: info.architecture,
        index_server_address: index_address(&info.default_registry),
        registry_config: Some(registries(&engine.config().default_registry, &registry)),
        http_proxy: proxies.http.as_deref().map(masked).unwrap_or_default(),
        https_proxy: proxies.https.as_deref().map(masked).unwrap_or_default(),
        no_proxy: proxies.no_proxy.clone(),
        default_address_pools: Some(pools),
        n_events_listener: count(engine.journal().listeners()),
        // Tasks are what this daemon has in the place of goroutines.
        n_goroutines: count(tokio::runtime::Handle::current().metrics().num_alive_tasks()),
        n_cpu: count(info.cpus),
        mem_total: signed(info.memory),
        docker_root_dir: info.data_root,
        name: info.name,
        labels: info.labels,
        server_version: VERSION.to_owned(),
        runtimes,
        default_runtime: info.default_runtime,
        swarm: Swarm {
            local_node_state: "inactive".to_owned(),
            ..Swarm::default()
        },
        // Containers outlive the daemon: always, not as an option.
        live_restore_enabled: true,
        init_binary: "iechor-shim".to_owned(),
        security_options: security_options(info.user_namespaces),
        firewall_backend: version.since(49).then(|| Firewall {
            driver: "nftables".to_owned(),
            info: None,
        }),
        cdi_spec_dirs: Some(info.cdi_spec_dirs),
        discovered_devices: version.since(50).then(|| {
            let device = |id| DiscoveredDevice {
                source: "cdi".to_owned(),
                id,
            };
            info.cdi_devices.into_iter().map(device).collect()
        }),
        warnings: Some(info.warnings).filter(|warnings| !warnings.is_empty()),
        ..Info::default()
    }))
}

/// Where the default registry is searched and logged in to, as clients store it.
fn index_address(registry: &str) -> String {
    match registry {
        "docker.io" => "https://index.docker.io/v1/".to_owned(),
        other => format!("https://{other}/v1/"),
    }
}

/// What is asked for: everything, or some kinds.
struct Wanted {
    containers: bool,
    images: bool,
    volumes: bool,
    cache: bool,
}

impl Wanted {
    fn of(query: &Query) -> ApiResult<Wanted> {
        let kinds = query.all("type");
        let known = ["container", "image", "volume", "build-cache"];
        if let Some(bad) = kinds.iter().find(|kind| !known.contains(&kind.as_str())) {
            return Err(ApiError::bad(format!("unknown object type: {bad}")));
        }
        let has = |kind: &str| kinds.is_empty() || kinds.iter().any(|own| own == kind);
        Ok(Wanted {
            containers: has("container"),
            images: has("image"),
            volumes: has("volume"),
            cache: has("build-cache"),
        })
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub async fn disk_usage(State(engine): State<Engine>, version: ApiVersion, query: Query) -> ApiResult {
    let wanted = Wanted::of(&query)?;
    let (old, new) = (!version.since(53), version.since(52));
    let verbose = query.flag("verbose");
    let mut usage = DiskUsage::default();
    if wanted.images {
        let images = engine.list_images(true, &Filters::default())?;
        let shared = engine.shared_sizes();
        let mut rows: Vec<_> = images.iter().map(|one| images::summary(one, version)).collect();
        for (row, one) in rows.iter_mut().zip(&images) {
            row.containers = count(one.containers.len());
            row.shared_size = shared.get(&row.id).copied().map_or(0, signed);
        }
        let layers = engine.layer_use();
        let total = signed(layers.total);
        usage.image_usage = new.then(|| Usage {
            active_count: count(rows.iter().filter(|row| row.containers > 0).count()),
            items: verbose.then(|| rows.clone()),
            reclaimable: signed(layers.reclaimable),
            total_count: count(rows.len()),
            total_size: total,
        });
        usage.layers_size = old.then_some(total);
        usage.images = old.then_some(rows);
    }
    if wanted.containers {
        let mut names = containers::ImageNames::default();
        let mut rows = Vec::new();
        let (mut total, mut reclaimable, mut active) = (0, 0, 0);
        let everything = engine.list(true, None, &Filters::default(), |record, net| {
            let row = containers::summary(&engine, record, net, &mut names, version);
            (row, record.status.phase)
        })?;
        for (mut row, phase) in everything {
            (row.size_rw, row.size_root_fs) = sizes(&engine, &row.id, &row.image_id).await;
            total += row.size_rw;
            if phase.is_live() || phase == Phase::Restarting {
                active += 1;
            } else {
                reclaimable += row.size_rw;
            }
            rows.push(row);
        }
        usage.container_usage = new.then(|| Usage {
            active_count: active,
            items: verbose.then(|| rows.clone()),
            reclaimable,
            total_count: rows.len() as i64,
            total_size: total,
        });
        usage.containers = old.then_some(rows);
    }
    if wanted.volumes {
        let mut rows = Vec::new();
        let (mut total, mut reclaimable, mut active) = (0, 0, 0);
        for volume in engine.volumes().all() {
            let size = signed(engine.volume_size(&volume.name).await?);
            let users = engine.volume_users(&volume.name).len() as i64;
            total += size;
            if users > 0 {
                active += 1;
            } else {
                reclaimable += size;
            }
            let mut row = volumes::wire(&engine, &volume);
            row.usage_data = Some(UsageData { ref_count: users, size });
            rows.push(row);
        }
        usage.volume_usage = new.then(|| Usage {
            active_count: active,
            items: verbose.then(|| rows.clone()),
            reclaimable,
            total_count: rows.len() as i64,
            total_size: total,
        });
        usage.volumes = old.then_some(rows);
    }
    if wanted.cache {
        usage.build_cache_usage = new.then(Usage::default);
        usage.build_cache = old.then(Vec::new);
    }
    Ok(reply::ok(&usage))
}

fn security_options(user_namespaces: bool) -> Vec<String> {
    let mut options = vec!["name=seccomp,profile=builtin".to_owned()];
    if user_namespaces {
        options.push("name=userns".to_owned());
    }
    options
}
