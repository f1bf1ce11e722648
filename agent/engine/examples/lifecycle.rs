//! Measures create, start, wait and remove inside the engine, without HTTP.
//!
//! `lifecycle SHIM ARCHIVE IMAGE [ROUNDS] [NETWORK]`: the shim's program, an image archive to load, the image's name.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use agent_engine::container::spec::{Config, CreateRequest, HostConfig};
use agent_engine::container::stop::Condition;
use agent_engine::{Engine, EngineConfig};
use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let shim = PathBuf::from(args.next().context("SHIM is missing")?);
    let archive = PathBuf::from(args.next().context("ARCHIVE is missing")?);
    let image = args.next().context("IMAGE is missing")?;
    let rounds: usize = args.next().map_or(Ok(50), |text| text.parse())?;
    let network = args.next().unwrap_or_else(|| "bridge".into());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(run(shim, archive, image, rounds, network))
}

async fn run(shim: PathBuf, archive: PathBuf, image: String, rounds: usize, network: String) -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let tag = std::process::id() % 10_000;
    let config = EngineConfig {
        data_root: root.path().join("data"),
        exec_root: root.path().join("run"),
        shim,
        warm: 4,
        network: network::NetworkConfig {
            bridge: format!("iebench{tag}"),
            table: format!("iebench{tag}"),
            ..network::NetworkConfig::default()
        },
        registry: agent_registry::ClientConfig::default(),
        default_registry: "docker.io".into(),
        cgroup_driver: Default::default(),
        cgroup_parent: format!("/iebench{tag}"),
        runtimes: BTreeMap::new(),
        default_runtime: agent_engine::config::OWN_RUNTIME.into(),
        remap: agent_engine::config::Remap {
            always: false,
            map: Default::default(),
            reserved: Vec::new(),
        },
        default_ulimits: BTreeMap::new(),
        default_shm_size: 64 << 20,
        default_log_driver: "local".into(),
        default_log_opts: BTreeMap::new(),
        dns: Vec::new(),
        dns_search: Vec::new(),
        dns_options: Vec::new(),
        labels: Vec::new(),
        no_new_privileges: false,
        init: false,
        debug: false,
        max_concurrent_downloads: 3,
        image_collection: None,
        cdi_spec_dirs: Vec::new(),
        shutdown_timeout: Duration::from_secs(5),
    };
    let begin = Instant::now();
    let engine = Engine::open(config).await?;
    println!("open {:?}", begin.elapsed());
    let loader = engine.clone();
    tokio::task::spawn_blocking(move || {
        loader
            .load(File::open(archive)?, None, |_| {})
            .map_err(anyhow::Error::from)
    })
    .await??;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut steps: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for _ in 0..rounds {
        let request = CreateRequest {
            config: Config {
                image: image.clone(),
                cmd: Some(vec!["true".into()]),
                ..Config::default()
            },
            host: HostConfig {
                network_mode: network.clone(),
                ..HostConfig::default()
            },
            ..CreateRequest::default()
        };
        let begin = Instant::now();
        let created = engine.create(None, request).await?;
        steps.entry("1 create").or_default().push(begin.elapsed());
        let container = engine.container(created.id.as_str())?;
        let mark = Instant::now();
        engine.start(&container).await?;
        steps.entry("2 start").or_default().push(mark.elapsed());
        let mark = Instant::now();
        let change = engine.wait(&container, Condition::NotRunning).await;
        steps.entry("3 wait").or_default().push(mark.elapsed());
        anyhow::ensure!(change.exit_code == 0, "exit code {}", change.exit_code);
        let mark = Instant::now();
        engine.remove(&container, false, true).await?;
        steps.entry("4 remove").or_default().push(mark.elapsed());
        steps.entry("5 all").or_default().push(begin.elapsed());
    }
    for (step, mut samples) in steps {
        samples.sort();
        println!(
            "{step:10} p50 {:?} p95 {:?}",
            samples[samples.len() / 2],
            samples[samples.len() * 95 / 100]
        );
    }
    engine.shutdown().await;
    engine.purge_network().await?;
    Ok(())
}
