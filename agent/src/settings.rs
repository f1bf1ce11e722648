//! From options to what the engine and the listeners are configured with. Everything is checked here, before anything is
//! touched.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_engine::EngineConfig;
use agent_engine::config::{CgroupDriver, ImageCollection};
use agent_engine::container::spec::Ulimit;
use agent_engine::view::{AddressPool, Cidr, ClientConfig, Mirror, NetworkConfig, Proxies};
use agent_rest::listen::{Access, Activated};
use agent_rest::{Address, TlsFiles};
use anyhow::{Context, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use tracing::level_filters::LevelFilter;

use crate::flags::{Flags, Options};
use agent_engine::container::logging::check as logging_check;
use agent_engine::container::spec::LogConfig;

use crate::{file, logging, remap, runtimes, ulimit};

const DATA_ROOT: &str = "/var/lib/iechor";
const EXEC_ROOT: &str = "/run/iechor";
const SOCKET: &str = "/run/iechor/iechor.sock";
const GROUP: &str = "iechor";
const REGISTRY: &str = "docker.io";
const CGROUP_PARENT: &str = "/iechor";
const SLICE: &str = "system.slice"; // dockerd's default with systemd
const TLS_FOLDER: &str = "/etc/iechor";
/// Folders with certificates per registry, ours first.
const CERTIFICATES: [&str; 2] = ["/etc/iechor/certs.d", "/etc/docker/certs.d"];
const SHUTDOWN_TIMEOUT: i64 = 15; // seconds; dockerd's default
const SHM_SIZE: i64 = 64 << 20; // bytes; Docker's default
const CDI_SPEC_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"]; // dockerd's
const LOG_DRIVER: &str = "local"; // bounded, unlike Docker's default
const DOWNLOADS: usize = 3; // Docker's default
/// Warm shims. Two cores saturate at two to four starts in flight.
const WARM: usize = 4;

/// All of it.
#[derive(Debug)]
pub struct Settings {
    pub engine: EngineConfig,
    pub access: Access,
    pub pidfile: PathBuf,
    pub log_level: LevelFilter,
    pub log_format: logging::Format,
    /// Where metrics are served.
    pub metrics: Option<String>,
    /// Where a kubelet is served.
    pub cri_socket: Option<PathBuf>,
    hosts: Vec<Address>,
}

impl Settings {
    /// Flags and file together, checked.
    pub fn load(flags: &Flags) -> anyhow::Result<Settings> {
        Settings::new(Settings::options(flags)?)
    }

    /// What flags and file say together, as it is written there.
    pub fn options(flags: &Flags) -> anyhow::Result<Options> {
        file::merge(flags.options.clone(), file::read(flags.config_file.as_deref())?)
    }

    pub fn new(options: Options) -> anyhow::Result<Settings> {
        check_fixed(&options)?;
        let debug = options.debug.unwrap_or(false);
        let log_level = match (&options.log_level, debug) {
            (None, true) => LevelFilter::DEBUG,
            (None, false) => LevelFilter::INFO,
            (Some(text), _) => logging::level(text)?,
        };
        let hosts = options
            .host
            .iter()
            .flatten()
            .map(|text| Ok(text.parse()?))
            .collect::<anyhow::Result<_>>()?;
        let cri_socket = options.cri_socket.clone().filter(|path| !path.as_os_str().is_empty());
        let exec_root = options.exec_root.clone().unwrap_or_else(|| EXEC_ROOT.into());
        for (what, path) in [
            ("data-root", options.data_root.as_deref()),
            ("exec-root", Some(exec_root.as_path())),
            ("cri-socket", cri_socket.as_deref()),
        ] {
            if path.is_some_and(|path| !path.is_absolute()) {
                bail!("--{what} must be an absolute path");
            }
        }
        Ok(Settings {
            access: access(&options),
            pidfile: options.pidfile.clone().unwrap_or_else(|| exec_root.join("iechord.pid")),
            log_level,
            log_format: logging::Format::parse(options.log_format.as_deref().unwrap_or("text"))?,
            hosts,
            metrics: options.metrics_addr.clone().filter(|place| !place.is_empty()),
            cri_socket,
            engine: engine(options, exec_root, debug)?,
        })
    }

    /// Where to listen: as told, else the sockets that were handed over, else the default one.
    pub fn hosts(&self, activated: &[Activated]) -> Vec<Address> {
        match (self.hosts.as_slice(), activated) {
            ([], []) => vec![Address::Unix(SOCKET.into())],
            ([], _) => vec![Address::Activated(String::new())],
            (told, _) => told.to_vec(),
        }
    }
}

/// Options with only one possible value here; another one is refused rather than ignored.
fn check_fixed(options: &Options) -> anyhow::Result<()> {
    for option in options.exec_opts.iter().flatten() {
        match option.split_once('=') {
            Some(("native.cgroupdriver", "cgroupfs" | "systemd")) => {}
            Some(("native.cgroupdriver", other)) => {
                bail!(
                    "--exec-opt native.cgroupdriver={other} is not supported by this version of iEchor; use cgroupfs or systemd"
                )
            }
            _ => bail!("invalid --exec-opt \"{option}\": the only option is native.cgroupdriver=cgroupfs or systemd"),
        }
    }
    if let Some(driver) = options.storage_driver.as_deref().filter(|driver| *driver != "overlay2") {
        bail!("--storage-driver {driver} is not supported by this version of iEchor; use overlay2");
    }
    if options.live_restore == Some(false) {
        bail!("--live-restore=false is not supported: containers always outlive the daemon");
    }
    if options.userland_proxy == Some(true) {
        bail!("--userland-proxy is not supported: published ports need no proxy");
    }
    if options.bridge.as_deref() == Some("none") {
        bail!("--bridge none is not supported by this version of iEchor; give containers --network none");
    }
    Ok(())
}

/// The last of them counts; they were checked.
fn cgroup_driver(options: &Options) -> CgroupDriver {
    match options.exec_opts.iter().flatten().next_back().map(String::as_str) {
        Some("native.cgroupdriver=systemd") => CgroupDriver::Systemd,
        _ => CgroupDriver::Cgroupfs,
    }
}

fn access(options: &Options) -> Access {
    let verify = options.tlsverify.unwrap_or(false);
    let file = |path: &Option<PathBuf>, name: &str| path.clone().unwrap_or_else(|| Path::new(TLS_FOLDER).join(name));
    let tls = (verify || options.tls.unwrap_or(false)).then(|| TlsFiles {
        certificate: file(&options.tlscert, "cert.pem"),
        key: file(&options.tlskey, "key.pem"),
        client_ca: verify.then(|| file(&options.tlscacert, "ca.pem")),
    });
    let group = match &options.group {
        Some(group) if group.is_empty() => None,
        Some(group) => Some((group.clone(), true)),
        None => Some((GROUP.to_owned(), false)),
    };
    Access {
        group,
        tls,
        insecure_tcp: options.allow_insecure_tcp.unwrap_or(false),
    }
}

fn engine(options: Options, exec_root: PathBuf, debug: bool) -> anyhow::Result<EngineConfig> {
    let default_registry = options.default_registry.clone().unwrap_or_else(|| REGISTRY.to_owned());
    let downloads = options.max_concurrent_downloads.unwrap_or(DOWNLOADS);
    if downloads == 0 {
        bail!("--max-concurrent-downloads must be at least 1");
    }
    let mut default_ulimits = BTreeMap::new();
    for text in options.default_ulimits.iter().flatten() {
        let (name, soft, hard) = ulimit::parse(text)?;
        if default_ulimits.insert(name, Ulimit { soft, hard }).is_some() {
            bail!("--default-ulimit {text}: this limit is given twice");
        }
    }
    let dns = options.dns.iter().flatten().map(|text| {
        text.parse::<IpAddr>()
            .with_context(|| format!("--dns {text}: not an IP address"))
    });
    let labels = options.labels.clone().unwrap_or_default();
    if let Some(label) = labels.iter().find(|label| !label.contains('=')) {
        bail!("--label {label}: a label of the daemon is key=value");
    }
    let image_collection = image_collection(&options)?;
    let shutdown_timeout = match options.shutdown_timeout.unwrap_or(SHUTDOWN_TIMEOUT) {
        // dockerd's "for ever"; a year is that.
        -1 => Duration::from_secs(365 * 86_400),
        seconds => Duration::from_secs(
            u64::try_from(seconds).with_context(|| format!("--shutdown-timeout {seconds}: not a number of seconds"))?,
        ),
    };
    let cgroup_driver = cgroup_driver(&options);
    let cgroup_parent = options.cgroup_parent.clone().unwrap_or_else(|| {
        let parent = match cgroup_driver {
            CgroupDriver::Cgroupfs => CGROUP_PARENT,
            CgroupDriver::Systemd => SLICE,
        };
        parent.to_owned()
    });
    if cgroup_driver == CgroupDriver::Systemd && (!cgroup_parent.ends_with(".slice") || cgroup_parent == ".slice") {
        bail!(
            "--cgroup-parent {cgroup_parent}: cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\""
        );
    }
    if cgroup_parent.split('/').any(|part| part == "..") || cgroup_parent.contains('\0') {
        bail!("--cgroup-parent {cgroup_parent}: must not leave the hierarchy");
    }
    let warm = options.warm.unwrap_or(WARM);
    let (runtimes, default_runtime) = runtimes::all(&options)?;
    let log = log(&options)?;
    Ok(EngineConfig {
        runtimes,
        default_runtime,
        dns: dns.collect::<anyhow::Result<_>>()?,
        shim: shim(options.shim.clone())?,
        network: network(&options, warm)?,
        registry: registry(&options, &default_registry, downloads)?,
        default_shm_size: options.default_shm_size.as_deref().map_or(Ok(SHM_SIZE), ulimit::size)?,
        cdi_spec_dirs: cdi_spec_dirs(options.cdi_spec_dirs.as_deref())?,
        default_log_driver: log.driver,
        default_log_opts: log.options,
        data_root: options.data_root.unwrap_or_else(|| DATA_ROOT.into()),
        exec_root,
        warm,
        default_registry,
        cgroup_driver,
        cgroup_parent,
        default_ulimits,
        remap: remap::remap(options.userns_remap.as_deref())?,
        dns_search: options.dns_search.unwrap_or_default(),
        dns_options: options.dns_opts.unwrap_or_default(),
        labels,
        no_new_privileges: options.no_new_privileges.unwrap_or(false),
        init: options.init.unwrap_or(false),
        debug,
        max_concurrent_downloads: downloads,
        image_collection,
        shutdown_timeout,
    })
}

/// dockerd's defaults; its way to turn devices by name off is one empty folder.
fn cdi_spec_dirs(told: Option<&[PathBuf]>) -> anyhow::Result<Vec<PathBuf>> {
    let Some(told) = told else {
        return Ok(CDI_SPEC_DIRS.map(PathBuf::from).into());
    };
    let folders = told.iter().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folders.clone().find(|folder| !folder.is_absolute()) {
        bail!("--cdi-spec-dir {}: must be an absolute path", folder.display());
    }
    Ok(folders.cloned().collect())
}

fn log(options: &Options) -> anyhow::Result<LogConfig> {
    let log = LogConfig {
        driver: options.log_driver.clone().unwrap_or_else(|| LOG_DRIVER.into()),
        options: pairs(options.log_opts.as_deref().unwrap_or_default(), "--log-opt")?,
    };
    logging_check(&log).with_context(|| format!("--log-driver {}", log.driver))?;
    Ok(log)
}

/// When unused images go; the marks are checked here, the pins where the patterns are read.
fn image_collection(options: &Options) -> anyhow::Result<Option<ImageCollection>> {
    let Some(high) = options.image_gc_high else {
        let others = [
            ("low", options.image_gc_low.is_some()),
            ("min-age", options.image_gc_min_age.is_some()),
            ("interval", options.image_gc_interval.is_some()),
            ("pin", options.image_gc_pins.is_some()),
        ];
        if let Some((name, _)) = others.iter().find(|(_, given)| *given) {
            bail!("--image-gc-{name} says nothing without --image-gc-high");
        }
        return Ok(None);
    };
    let low = options.image_gc_low.unwrap_or(high.saturating_sub(10));
    if high > 100 || low >= high {
        bail!("--image-gc-high {high} and --image-gc-low {low}: must be percent, the high mark above the low one");
    }
    let interval = options.image_gc_interval.unwrap_or(300);
    if interval == 0 {
        bail!("--image-gc-interval must be at least 1");
    }
    Ok(Some(ImageCollection {
        high,
        low,
        min_age: Duration::from_secs(options.image_gc_min_age.unwrap_or(86_400)),
        interval: Duration::from_secs(interval),
        pins: options.image_gc_pins.clone().unwrap_or_default(),
    }))
}

fn pairs(list: &[String], flag: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let mut pairs = BTreeMap::new();
    for text in list {
        let (key, value) = text
            .split_once('=')
            .with_context(|| format!("{flag} {text}: expected key=value"))?;
        if pairs.insert(key.to_owned(), value.to_owned()).is_some() {
            bail!("{flag} {text}: {key} is given twice");
        }
    }
    Ok(pairs)
}

fn network(options: &Options, warm: usize) -> anyhow::Result<NetworkConfig> {
    let mut config = NetworkConfig::default();
    if let Some(bridge) = &options.bridge {
        config.bridge.clone_from(bridge);
    }
    if let Some(table) = &options.nft_table {
        config.table.clone_from(table);
    }
    if let Some(bip) = &options.bip {
        config.bip = Some(bip.parse().with_context(|| format!("--bip {bip}"))?);
    }
    if let Some(pools) = &options.default_address_pools {
        config.pools = pools.iter().map(|text| pool(text)).collect::<anyhow::Result<_>>()?;
    }
    if options.mtu.is_some_and(|mtu| mtu != 0) {
        config.mtu = options.mtu;
    }
    config.masquerade = options.ip_masq.unwrap_or(config.masquerade);
    config.ip_forward = options.ip_forward.unwrap_or(config.ip_forward);
    if options.warm.is_some() {
        (config.warm, config.warm_empty) = (warm, warm);
    }
    Ok(config)
}

/// `base=10.0.0.0/8,size=24`
fn pool(text: &str) -> anyhow::Result<AddressPool> {
    let invalid = || format!("--default-address-pool {text}: expected base=CIDR,size=PREFIX");
    let (mut base, mut size) = (None, None);
    for part in text.split(',') {
        match part.split_once('=').with_context(invalid)? {
            ("base", value) => base = Some(value.parse::<Cidr>().with_context(invalid)?),
            ("size", value) => size = Some(value.parse::<u8>().with_context(invalid)?),
            _ => bail!(invalid()),
        }
    }
    Ok(AddressPool {
        base: base.with_context(invalid)?,
        size: size.with_context(invalid)?,
    })
}

fn registry(options: &Options, default_registry: &str, downloads: usize) -> anyhow::Result<ClientConfig> {
    let mut proxies = Proxies::from_env();
    if options.http_proxy.is_some() {
        proxies.http.clone_from(&options.http_proxy);
    }
    if options.https_proxy.is_some() {
        proxies.https.clone_from(&options.https_proxy);
    }
    if let Some(list) = &options.no_proxy {
        proxies.no_proxy.clone_from(list);
    }
    let mirrors = options.registry_mirrors.iter().flatten().map(|text| {
        let (registry, url) = match text.split_once('=') {
            // A `=` in a URL comes after the scheme.
            Some((registry, url)) if !registry.contains("://") => (registry, url),
            _ => (default_registry, text.as_str()),
        };
        if !url.starts_with("http://") && !url.starts_with("https://") {
            bail!("--registry-mirror {text}: expected http://… or https://…, or REGISTRY=URL");
        }
        Ok(Mirror {
            registry: registry.to_owned(),
            url: url.to_owned(),
            credentials: None,
        })
    });
    Ok(ClientConfig {
        insecure: options.insecure_registries.clone().unwrap_or_default(),
        mirrors: mirrors.collect::<anyhow::Result<_>>()?,
        certificates: CERTIFICATES.map(PathBuf::from).into(),
        proxies,
        max_downloads: downloads,
        ..ClientConfig::default()
    })
}

/// The shim: as told, or beside this program.
fn shim(told: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let path = match told {
        Some(path) => path,
        None => std::env::current_exe()
            .context("cannot find this program")?
            .with_file_name("iechor-shim"),
    };
    if !path.is_file() {
        bail!(
            "there is no shim at {}; install iechor-shim beside iechord, or give --shim",
            path.display()
        );
    }
    Ok(path)
}

/// Sockets that the service manager handed over.
pub fn activated() -> anyhow::Result<Vec<Activated>> {
    let taken = runtime_sys::activation::take().context("cannot take the sockets of the service manager")?;
    Ok(taken.into_iter().map(|(fd, name)| Activated { fd, name }).collect())
}

/// What a daemon wants of its process: files with the modes it names, and as many of them open as it may have.
pub fn prepare_process() {
    umask(Mode::from_bits_truncate(0o022));
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Each container takes a few descriptors; without more, they run out at some hundreds.
        if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            tracing::warn!(%error, soft, "cannot raise the limit of open files");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Settings from options, with a shim that exists.
    fn settings(change: impl FnOnce(&mut Options)) -> Result<Settings, String> {
        let mut options = Options {
            shim: Some("/proc/self/exe".into()),
            ..Options::default()
        };
        change(&mut options);
        Settings::new(options).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let settings = settings(|_| {}).unwrap();
        assert_eq!(settings.engine.data_root, Path::new("/var/lib/iechor"));
        assert_eq!(settings.engine.exec_root, Path::new("/run/iechor"));
        assert_eq!(settings.pidfile, Path::new("/run/iechor/iechord.pid"));
        assert_eq!(settings.hosts(&[]), [Address::Unix("/run/iechor/iechor.sock".into())]);
        assert_eq!(settings.engine.default_registry, "docker.io");
        assert_eq!(settings.access.group, Some(("iechor".into(), false)));
        assert_eq!(settings.engine.cgroup_parent, "/iechor");
        assert!(settings.access.tls.is_none() && !settings.access.insecure_tcp);
    }

    #[test]
    fn systemd_has_its_own_default_parent() {
        let settings = settings(|o| o.exec_opts = Some(vec!["native.cgroupdriver=systemd".into()])).unwrap();
        assert_eq!(settings.engine.cgroup_driver, CgroupDriver::Systemd);
        assert_eq!(settings.engine.cgroup_parent, "system.slice");
    }

    #[test]
    fn values_are_read() {
        let list = |text: &str| Some(vec![text.to_owned()]);
        let settings = settings(|options| {
            options.bip = Some("10.1.0.1/24".into());
            options.default_address_pools = list("base=10.2.0.0/16,size=24");
            options.default_ulimits = list("nofile=1:2");
            options.registry_mirrors = Some(vec!["https://m".into(), "quay.io=http://n".into()]);
            options.log_opts = list("max-size=1m");
            options.tlsverify = Some(true);
            options.shutdown_timeout = Some(-1);
            options.cdi_spec_dirs = Some(vec!["".into()]);
        })
        .unwrap();
        assert!(settings.engine.network.bip.is_some());
        assert!(settings.engine.cdi_spec_dirs.is_empty());
        assert_eq!(settings.engine.network.pools.len(), 1);
        assert_eq!(settings.engine.default_ulimits["nofile"], Ulimit { soft: 1, hard: 2 });
        let mirrors: Vec<_> = settings
            .engine
            .registry
            .mirrors
            .iter()
            .map(|m| (m.registry.as_str(), m.url.as_str()))
            .collect();
        assert_eq!(mirrors, [("docker.io", "https://m"), ("quay.io", "http://n")]);
        assert_eq!(
            settings.access.tls.unwrap().client_ca,
            Some("/etc/iechor/ca.pem".into())
        );
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let refused = |change: fn(&mut Options)| settings(change).unwrap_err();
        let list = |text: &str| Some(vec![text.to_owned()]);
        assert!(refused(|o| o.exec_opts = Some(vec!["native.cgroupdriver=none".into()])).contains("=none"));
        assert!(
            refused(|o| {
                o.exec_opts = Some(vec!["native.cgroupdriver=systemd".into()]);
                o.cgroup_parent = Some("/iechor".into());
            })
            .contains("valid slice")
        );
        assert!(refused(|o| o.exec_opts = Some(vec!["x=y".into()])).contains("x=y"));
        assert!(refused(|o| o.storage_driver = Some("btrfs".into())).contains("btrfs"));
        assert!(refused(|o| o.live_restore = Some(false)).contains("live-restore"));
        assert!(refused(|o| o.userland_proxy = Some(true)).contains("userland-proxy"));
        assert!(refused(|o| o.log_driver = Some("awslogs".into())).contains("awslogs"));
        assert!(refused(|o| o.log_level = Some("loud".into())).contains("loud"));
        assert!(refused(|o| o.log_format = Some("xml".into())).contains("xml"));
        assert!(refused(|o| o.bip = Some("10.0.0.1".into())).contains("--bip 10.0.0.1"));
        assert!(refused(|o| o.data_root = Some("a/b".into())).contains("--data-root"));
        assert!(refused(|o| o.shim = Some("/nonexistent".into())).contains("/nonexistent"));
        assert!(refused(|o| o.cdi_spec_dirs = Some(vec!["a".into()])).contains("--cdi-spec-dir a"));
        assert!(refused(|o| o.shutdown_timeout = Some(-2)).contains("--shutdown-timeout"));
        assert!(refused(|o| o.max_concurrent_downloads = Some(0)).contains("at least 1"));
        assert!(refused(|o| o.image_gc_low = Some(10)).contains("without --image-gc-high"));
        assert!(refused(|o| (o.image_gc_high, o.image_gc_low) = (Some(50), Some(50))).contains("must be percent"));
        assert!(refused(|o| (o.image_gc_high, o.image_gc_low) = (Some(101), Some(50))).contains("must be percent"));
        for (flag, text) in [
            ("dns", "x"),
            ("label", "x"),
            ("pool", "base=x"),
            ("mirror", "ftp://x"),
            ("host", "x"),
        ] {
            let error = settings(|options| match flag {
                "dns" => options.dns = list(text),
                "label" => options.labels = list(text),
                "pool" => options.default_address_pools = list(text),
                "mirror" => options.registry_mirrors = list(text),
                _ => options.host = list(text),
            })
            .unwrap_err();
            assert!(error.contains(text), "{flag}: {error}");
        }
    }
}
