//! The command line. Names are dockerd's wherever dockerd has the flag.

use std::path::PathBuf;

use anyhow::bail;
use clap::Parser;
use serde::{Deserialize, Serialize};

use crate::runtimes::Runtime;
use crate::{file, runtimes};

/// The iEchor container daemon.
#[derive(Clone, Debug, Parser)]
#[command(name = "iechord", version, about, long_about = None, max_term_width = 120)]
pub struct Flags {
    /// Configuration file: TOML, or dockerd's JSON where the name ends in .json [default: /etc/iechor/daemon.toml]
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Check the configuration and exit
    #[arg(long)]
    pub validate: bool,
    #[command(flatten)]
    pub options: Options,
}

/// Everything that may stand on the command line or in the file, but not in both. Lists are strings in the form of the
/// command line, whatever form they have in the file.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Deserialize, Serialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Options {
    /// Where to serve the API: unix:///PATH, tcp://HOST:PORT, fd:// (repeatable) [default: unix:///run/iechor/iechor.sock]
    #[arg(short = 'H', long, value_name = "ADDRESS")]
    pub host: Option<Vec<String>>,
    /// Group that owns the unix socket [default: iechor]
    #[arg(short = 'G', long)]
    pub group: Option<String>,
    /// Use TLS on TCP
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub tls: Option<bool>,
    /// Use TLS on TCP and require client certificates
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub tlsverify: Option<bool>,
    /// Authority that signs clients [default: /etc/iechor/ca.pem]
    #[arg(long, value_name = "FILE")]
    pub tlscacert: Option<PathBuf>,
    /// Certificate of the daemon [default: /etc/iechor/cert.pem]
    #[arg(long, value_name = "FILE")]
    pub tlscert: Option<PathBuf>,
    /// Key of the daemon [default: /etc/iechor/key.pem]
    #[arg(long, value_name = "FILE")]
    pub tlskey: Option<PathBuf>,
    /// Serve plain TCP on loopback addresses, to every user of this machine
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub allow_insecure_tcp: Option<bool>,

    /// Where to serve the Kubernetes CRI for a kubelet, a path for a unix socket [default: nowhere]
    #[arg(long, value_name = "FILE")]
    pub cri_socket: Option<PathBuf>,
    /// Folder of everything that lasts [default: /var/lib/iechor]
    #[arg(long, value_name = "FOLDER")]
    pub data_root: Option<PathBuf>,
    /// Folder of everything that lasts until the next boot [default: /run/iechor]
    #[arg(long, value_name = "FOLDER")]
    pub exec_root: Option<PathBuf>,
    /// File for the daemon's process id [default: iechord.pid in the exec root]
    #[arg(short = 'p', long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// The iechor-shim program [default: beside this program]
    #[arg(long, value_name = "FILE")]
    pub shim: Option<PathBuf>,
    /// Shims and network namespaces kept ready
    #[arg(long, value_name = "COUNT")]
    pub warm: Option<usize>,
    /// How long running operations may take at the end, in seconds [default: 15]
    #[arg(long, value_name = "SECONDS")]
    pub shutdown_timeout: Option<i64>,

    /// Where to serve metrics for Prometheus, HOST:PORT on loopback [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_addr: Option<String>,
    /// Debug log
    #[arg(short = 'D', long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub debug: Option<bool>,
    /// debug, info, warn, error or fatal [default: info]
    #[arg(short = 'l', long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Label of the daemon, key=value (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Option<Vec<String>>,

    /// Options of container execution, key=value: native.cgroupdriver=cgroupfs or systemd [default: cgroupfs]
    #[arg(long = "exec-opt", value_name = "KEY=VALUE")]
    pub exec_opts: Option<Vec<String>>,
    /// cgroup below which containers go [default: /iechor; with systemd a slice: system.slice]
    #[arg(long, value_name = "CGROUP")]
    pub cgroup_parent: Option<String>,
    /// Another OCI runtime that containers may ask for (repeatable); runc, crun and runsc are found by themselves
    #[arg(long = "add-runtime", value_name = "NAME=PATH")]
    #[serde(deserialize_with = "runtimes::of_file")]
    pub runtimes: Option<Vec<Runtime>>,
    /// The runtime of containers that ask for none [default: iechor]
    #[arg(long, value_name = "NAME")]
    pub default_runtime: Option<String>,
    /// Limits of containers that ask for none, name=soft[:hard] (repeatable)
    #[arg(long = "default-ulimit", value_name = "NAME=SOFT[:HARD]")]
    #[serde(deserialize_with = "file::ulimits")]
    pub default_ulimits: Option<Vec<String>>,
    /// Size of /dev/shm of containers that ask for none [default: 64m]
    #[arg(long, value_name = "SIZE")]
    #[serde(deserialize_with = "file::text_or_number")]
    pub default_shm_size: Option<String>,
    /// Run a small init in containers that do not say
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub init: Option<bool>,
    /// Give containers a user namespace, whose users are those of this user's ranges in /etc/subuid and /etc/subgid;
    /// default: the user iechor, or a fixed range
    #[arg(long, value_name = "USER[:GROUP]")]
    pub userns_remap: Option<String>,
    /// Folder of descriptions of devices for --device vendor.com/class=name, the least important first (repeatable; an empty one
    /// turns them off) [default: /etc/cdi and /var/run/cdi]
    #[arg(long = "cdi-spec-dir", value_name = "FOLDER")]
    pub cdi_spec_dirs: Option<Vec<PathBuf>>,
    /// Deny new privileges to containers
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub no_new_privileges: Option<bool>,
    /// Containers outlive the daemon; always so here
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub live_restore: Option<bool>,
    /// overlay2, the only one
    #[arg(short = 's', long, value_name = "NAME")]
    pub storage_driver: Option<String>,

    /// Where output of containers goes that do not say: local, json-file or none [default: local]
    #[arg(long, value_name = "NAME")]
    pub log_driver: Option<String>,
    /// Options of the log driver, key=value (repeatable)
    #[arg(long = "log-opt", value_name = "KEY=VALUE")]
    #[serde(deserialize_with = "file::pairs")]
    pub log_opts: Option<Vec<String>>,

    /// Name of the default bridge [default: iechor0]
    #[arg(short = 'b', long, value_name = "NAME")]
    pub bridge: Option<String>,
    /// Address of the default bridge with its subnet, as 10.1.0.1/24
    #[arg(long, value_name = "CIDR")]
    pub bip: Option<String>,
    /// MTU of containers' interfaces
    #[arg(long)]
    pub mtu: Option<u32>,
    /// Where subnets are taken from, base=CIDR,size=PREFIX (repeatable)
    #[arg(long = "default-address-pool", value_name = "POOL")]
    #[serde(deserialize_with = "file::pools")]
    pub default_address_pools: Option<Vec<String>>,
    /// Name of the nftables table [default: iechor]
    #[arg(long, value_name = "NAME")]
    pub nft_table: Option<String>,
    /// Containers reach the outside under the host's address [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ip_masq: Option<bool>,
    /// Turn the host's IPv4 forwarding on [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ip_forward: Option<bool>,
    /// A proxy process per published port; never here
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub userland_proxy: Option<bool>,
    /// Name server for containers (repeatable)
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Option<Vec<String>>,
    /// Resolver option for containers (repeatable)
    #[arg(long = "dns-opt", value_name = "OPTION")]
    pub dns_opts: Option<Vec<String>>,
    /// Search domain for containers (repeatable)
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Option<Vec<String>>,

    /// Registry of names without one [default: docker.io]
    #[arg(long, value_name = "HOST")]
    pub default_registry: Option<String>,
    /// Registry that may speak plain HTTP: HOST[:PORT] or CIDR (repeatable)
    #[arg(long = "insecure-registry", value_name = "REGISTRY")]
    pub insecure_registries: Option<Vec<String>>,
    /// Mirror of the default registry, or REGISTRY=URL for another one (repeatable)
    #[arg(long = "registry-mirror", value_name = "URL")]
    pub registry_mirrors: Option<Vec<String>>,
    /// Layers fetched at once [default: 3]
    #[arg(long, value_name = "COUNT")]
    pub max_concurrent_downloads: Option<usize>,
    /// Remove unused images when this share of the data root's disk is in use, in percent [default: never]
    #[arg(long, value_name = "PERCENT")]
    pub image_gc_high: Option<u8>,
    /// … until no more than this is in use [default: 10 less]
    #[arg(long, value_name = "PERCENT")]
    pub image_gc_low: Option<u8>,
    /// Images that were used less long ago stay [default: 86400]
    #[arg(long, value_name = "SECONDS")]
    pub image_gc_min_age: Option<u64>,
    /// How often the disk is looked at [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub image_gc_interval: Option<u64>,
    /// Image, or pattern as in reference=…, that stays (repeatable)
    #[arg(long = "image-gc-pin", value_name = "IMAGE")]
    pub image_gc_pins: Option<Vec<String>>,
    /// Proxy for registries that speak plain HTTP
    #[arg(long, value_name = "URL")]
    pub http_proxy: Option<String>,
    /// Proxy for registries
    #[arg(long, value_name = "URL")]
    pub https_proxy: Option<String>,
    /// Hosts to reach without a proxy
    #[arg(long, value_name = "LIST")]
    pub no_proxy: Option<String>,
}

/// Flags of dockerd that mean something we do not do. Each is refused by its name, so that nobody believes it works.
const REFUSED: [&str; 36] = [
    "allow-direct-routing",
    "allow-nondistributable-artifacts",
    "api-cors-header",
    "authorization-plugin",
    "bip6",
    "bridge-accept-fwmark",
    "containerd",
    "containerd-namespace",
    "containerd-plugins-namespace",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "cri-containerd",
    "data-root-mode",
    "default-cgroupns-mode",
    "default-gateway",
    "default-gateway-v6",
    "default-ipc-mode",
    "default-network-opt",
    "dns-advertise",
    "experimental",
    "feature",
    "firewall-backend",
    "fixed-cidr",
    "fixed-cidr-v6",
    "host-gateway-ip",
    "icc",
    "init-path",
    "ip",
    "ip6tables",
    "iptables",
    "ipv6",
    "max-concurrent-uploads",
    "node-generic-resource",
    "oom-score-adjust",
    "seccomp-profile",
    "selinux-enabled",
];
const REFUSED_TOO: [&str; 9] = [
    "max-download-attempts",
    "network-control-plane-mtu",
    "raw-logs",
    "rootless",
    "storage-opt",
    "swarm-default-advertise-addr",
    "userland-proxy-path",
    "validate-image",
    "network-diagnostic-port",
];

/// Whether `name` is an option of dockerd that is refused.
pub fn is_refused(name: &str) -> bool {
    // In the file, lists have plural names.
    let singular = match name {
        "authorization-plugins" => "authorization-plugin",
        "features" => "feature",
        "storage-opts" => "storage-opt",
        "node-generic-resources" => "node-generic-resource",
        "default-network-opts" => "default-network-opt",
        "proxies" => return false,
        other => other,
    };
    REFUSED.contains(&singular) || REFUSED_TOO.contains(&singular)
}

/// Reads the command line. Ends the process for `--help` and `--version`.
pub fn parse() -> anyhow::Result<Flags> {
    let arguments: Vec<_> = std::env::args_os().collect();
    for argument in arguments.iter().skip(1).filter_map(|argument| argument.to_str()) {
        let Some(name) = argument.strip_prefix("--") else {
            continue;
        };
        let name = name.split('=').next().unwrap_or(name);
        if is_refused(name) {
            bail!("--{name} is not supported by this version of iEchor; remove it");
        }
    }
    let mut flags = Flags::parse_from(arguments);
    if flags.options.shim.is_none() {
        flags.options.shim = std::env::var_os("IECHOR_SHIM")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from);
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Flags::command().debug_assert();
    }

    #[test]
    fn what_is_refused_is_not_also_a_flag() {
        let command = Flags::command();
        for argument in command.get_arguments().filter_map(|argument| argument.get_long()) {
            assert!(!is_refused(argument), "{argument}");
        }
    }

    #[test]
    fn booleans_are_gos() {
        let read = |arguments: &[&str]| Flags::try_parse_from(arguments).map(|flags| flags.options.debug);
        assert_eq!(read(&["iechord"]).unwrap(), None);
        assert_eq!(read(&["iechord", "-D"]).unwrap(), Some(true));
        assert_eq!(read(&["iechord", "--debug"]).unwrap(), Some(true));
        assert_eq!(read(&["iechord", "--debug=false"]).unwrap(), Some(false));
        assert!(read(&["iechord", "--debug=maybe"]).is_err());
        assert!(read(&["iechord", "--no-such-flag"]).is_err());
    }
}
