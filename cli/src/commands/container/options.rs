//! The flags that `run` and `create` share.

use agent_api::host_config::{DeviceRequest, Mount, RestartPolicy, ThrottleDevice, Ulimit, WeightDevice};
use clap::Args;

use crate::values::limits::{self, Device};
use crate::values::network::{self, Attachment};
use crate::values::{duration, mount, size};

/// In the order of the help, which groups them.
#[derive(Debug, Default, Args)]
pub struct Options {
    // What runs.
    /// Name of the container
    #[arg(long, help_heading = "Container")]
    pub name: Option<String>,
    /// Set environment variables (a name alone takes its value from here)
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Container")]
    pub env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE", help_heading = "Container")]
    pub env_file: Vec<String>,
    /// Program to run instead of the image's entry point
    #[arg(long, value_name = "PROGRAM", help_heading = "Container")]
    pub entrypoint: Option<String>,
    /// User (and group) inside of the container: names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]", help_heading = "Container")]
    pub user: Option<String>,
    /// Further groups of the user
    #[arg(long, value_name = "GROUP", help_heading = "Container")]
    pub group_add: Vec<String>,
    /// Working folder inside of the container
    #[arg(short, long, value_name = "FOLDER", help_heading = "Container")]
    pub workdir: Option<String>,
    /// Keep stdin open even if not attached
    #[arg(short, long, help_heading = "Container")]
    pub interactive: bool,
    /// Allocate a terminal
    #[arg(short, long, help_heading = "Container")]
    pub tty: bool,
    /// Attach to stdin, stdout or stderr
    #[arg(short, long, value_name = "STREAM", help_heading = "Container")]
    pub attach: Vec<String>,
    /// Run an init that reaps processes and forwards signals
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          help_heading = "Container")]
    pub init: Option<bool>,
    /// Remove the container (and its anonymous volumes) when it exits
    #[arg(long, help_heading = "Container")]
    pub rm: bool,
    /// When to restart: no, always, unless-stopped, on-failure[:N], on-unhealthy[:N]
    #[arg(long, value_name = "POLICY", value_parser = limits::restart, help_heading = "Container")]
    pub restart: Option<RestartPolicy>,
    /// Signal that stops the container
    #[arg(long, value_name = "SIGNAL", help_heading = "Container")]
    pub stop_signal: Option<String>,
    /// Seconds to wait for the stop before killing
    #[arg(long, value_name = "SECONDS", help_heading = "Container")]
    pub stop_timeout: Option<i64>,
    /// Set metadata on the container
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Container")]
    pub label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE", help_heading = "Container")]
    pub label_file: Vec<String>,
    /// Annotation for the OCI runtime
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Container")]
    pub annotation: Vec<String>,
    /// Write the container's id to a file, which must not exist
    #[arg(long, value_name = "FILE", help_heading = "Container")]
    pub cidfile: Option<String>,
    /// Runtime to use for this container
    #[arg(long, value_name = "NAME", help_heading = "Container")]
    pub runtime: Option<String>,
    /// Isolation technology; Linux knows only "default"
    #[arg(long, value_name = "NAME", help_heading = "Container", hide = true)]
    pub isolation: Option<String>,

    // The image.
    /// When to pull the image: always, missing, never
    #[arg(long, value_name = "WHEN", default_value = "missing", help_heading = "Image")]
    pub pull: String,
    /// Platform of the image, e.g. linux/arm64
    #[arg(long, value_name = "OS/ARCH", help_heading = "Image")]
    pub platform: Option<String>,
    /// Do not show the progress of a pull
    #[arg(short, long, help_heading = "Image")]
    pub quiet: bool,

    // Files.
    /// Bind a folder or a volume: [SOURCE:]PATH[:ro,z,…]
    #[arg(short, long, value_name = "VOLUME", help_heading = "Files")]
    pub volume: Vec<String>,
    /// Attach a mount: type=bind,src=…,dst=…[,readonly,…]
    #[arg(long, value_name = "MOUNT", value_parser = mount::mount, help_heading = "Files")]
    pub mount: Vec<Mount>,
    /// Mount a tmpfs: PATH[:size=…,mode=…]
    #[arg(long, value_name = "PATH", help_heading = "Files")]
    pub tmpfs: Vec<String>,
    /// Mount the volumes of another container
    #[arg(long, value_name = "CONTAINER[:ro]", help_heading = "Files")]
    pub volumes_from: Vec<String>,
    /// Driver of new volumes
    #[arg(long, value_name = "NAME", help_heading = "Files")]
    pub volume_driver: Option<String>,
    /// Mount the root filesystem read-only
    #[arg(long, help_heading = "Files")]
    pub read_only: bool,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", value_parser = size::parse, help_heading = "Files")]
    pub shm_size: Option<i64>,
    /// Option of the storage driver
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Files")]
    pub storage_opt: Vec<String>,
    /// Bind the daemon's socket to /var/run/docker.sock of the container, and give it your logins
    #[arg(long, help_heading = "Files")]
    pub use_api_socket: bool,

    // The network.
    /// Publish a port: [[IP:]HOST:]PORT[/PROTOCOL], also ranges
    #[arg(short, long, value_name = "PORT", help_heading = "Network")]
    pub publish: Vec<String>,
    /// Publish all exposed ports on free ports of the host
    #[arg(short = 'P', long, help_heading = "Network")]
    pub publish_all: bool,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "PORT", help_heading = "Network")]
    pub expose: Vec<String>,
    /// Join a network: NAME, host, none, container:NAME, or name=…,alias=…,ip=…
    #[arg(long, alias = "net", value_name = "NETWORK", value_parser = network::attachment, help_heading = "Network")]
    pub network: Vec<Attachment>,
    /// Name of the container on its network
    #[arg(long, alias = "net-alias", value_name = "NAME", help_heading = "Network")]
    pub network_alias: Vec<String>,
    /// IPv4 address
    #[arg(long, value_parser = network::ipv4, help_heading = "Network")]
    pub ip: Option<String>,
    /// IPv6 address
    #[arg(long, value_parser = network::ipv6, help_heading = "Network")]
    pub ip6: Option<String>,
    /// Link-local addresses
    #[arg(long, value_name = "IP", value_parser = network::ip, help_heading = "Network")]
    pub link_local_ip: Vec<String>,
    /// MAC address
    #[arg(long, value_name = "MAC", value_parser = network::mac, help_heading = "Network")]
    pub mac_address: Option<String>,
    /// Link to another container
    #[arg(long, value_name = "CONTAINER[:ALIAS]", help_heading = "Network")]
    pub link: Vec<String>,
    /// Name of the host inside of the container
    #[arg(short = 'h', long, value_name = "NAME", help_heading = "Network")]
    pub hostname: Option<String>,
    /// NIS domain name
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    pub domainname: Option<String>,
    /// Line for /etc/hosts; host-gateway is the host
    #[arg(long, value_name = "NAME:IP", value_parser = network::host, help_heading = "Network")]
    pub add_host: Vec<String>,
    /// DNS servers
    #[arg(long, value_name = "IP", value_parser = network::ip, help_heading = "Network")]
    pub dns: Vec<String>,
    /// DNS options
    #[arg(long, alias = "dns-opt", value_name = "OPTION", help_heading = "Network")]
    pub dns_option: Vec<String>,
    /// DNS search domains
    #[arg(long, value_name = "DOMAIN", help_heading = "Network")]
    pub dns_search: Vec<String>,

    // Limits.
    /// Memory limit
    #[arg(short, long, value_name = "BYTES", value_parser = size::parse, help_heading = "Limits")]
    pub memory: Option<i64>,
    /// Memory and swap together; -1 is without limit
    #[arg(long, value_name = "BYTES", value_parser = size::parse_or_unlimited, help_heading = "Limits")]
    pub memory_swap: Option<i64>,
    /// Soft memory limit
    #[arg(long, value_name = "BYTES", value_parser = size::parse, help_heading = "Limits")]
    pub memory_reservation: Option<i64>,
    /// Readiness to swap, 0 to 100
    #[arg(long, value_name = "0-100", help_heading = "Limits")]
    pub memory_swappiness: Option<i64>,
    /// Do not kill on memory shortage
    #[arg(long, help_heading = "Limits")]
    pub oom_kill_disable: bool,
    /// Preference to be killed on memory shortage, -1000 to 1000
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub oom_score_adj: Option<i64>,
    /// Number of CPUs, e.g. 1.5
    #[arg(long, value_name = "N", value_parser = limits::cpus, help_heading = "Limits")]
    pub cpus: Option<i64>,
    /// Weight of the container's CPU time
    #[arg(short = 'c', long, value_name = "WEIGHT", help_heading = "Limits")]
    pub cpu_shares: Option<i64>,
    /// CPUs that may be used, e.g. 0-3 or 0,1
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    pub cpuset_mems: Option<String>,
    /// Length of a scheduler period in microseconds
    #[arg(long, value_name = "µs", help_heading = "Limits")]
    pub cpu_period: Option<i64>,
    /// CPU time in a period in microseconds
    #[arg(long, value_name = "µs", help_heading = "Limits")]
    pub cpu_quota: Option<i64>,
    /// Length of a real-time period in microseconds
    #[arg(long, value_name = "µs", help_heading = "Limits", hide = true)]
    pub cpu_rt_period: Option<i64>,
    /// Real-time CPU time in a period in microseconds
    #[arg(long, value_name = "µs", help_heading = "Limits", hide = true)]
    pub cpu_rt_runtime: Option<i64>,
    /// Number of processes; -1 is without limit
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub pids_limit: Option<i64>,
    /// Limits of a process: NAME=SOFT[:HARD]
    #[arg(long, value_name = "LIMIT", value_parser = limits::ulimit, help_heading = "Limits")]
    pub ulimit: Vec<Ulimit>,
    /// Weight of block IO, 10 to 1000
    #[arg(long, value_name = "WEIGHT", help_heading = "Limits")]
    pub blkio_weight: Option<u16>,
    /// Weight of block IO on a device
    #[arg(long, value_name = "DEVICE:WEIGHT", value_parser = limits::weight, help_heading = "Limits")]
    pub blkio_weight_device: Vec<WeightDevice>,
    /// Bytes per second that may be read from a device
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = limits::bytes_per_second, help_heading = "Limits")]
    pub device_read_bps: Vec<ThrottleDevice>,
    /// Bytes per second that may be written to a device
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = limits::bytes_per_second, help_heading = "Limits")]
    pub device_write_bps: Vec<ThrottleDevice>,
    /// Reads per second on a device
    #[arg(long, value_name = "DEVICE:N", value_parser = limits::operations_per_second, help_heading = "Limits")]
    pub device_read_iops: Vec<ThrottleDevice>,
    /// Writes per second on a device
    #[arg(long, value_name = "DEVICE:N", value_parser = limits::operations_per_second, help_heading = "Limits")]
    pub device_write_iops: Vec<ThrottleDevice>,
    /// Parent of the container's cgroup
    #[arg(long, value_name = "PATH", help_heading = "Limits")]
    pub cgroup_parent: Option<String>,

    // Rights and namespaces.
    /// Give the container all rights and devices
    #[arg(long, help_heading = "Security")]
    pub privileged: bool,
    /// Add capabilities
    #[arg(long, value_name = "CAPABILITY", help_heading = "Security")]
    pub cap_add: Vec<String>,
    /// Drop capabilities
    #[arg(long, value_name = "CAPABILITY", help_heading = "Security")]
    pub cap_drop: Vec<String>,
    /// Security option: seccomp=FILE, apparmor=NAME, no-new-privileges, …
    #[arg(long, value_name = "OPTION", help_heading = "Security")]
    pub security_opt: Vec<String>,
    /// Add a device: HOST[:CONTAINER][:rwm], or a CDI name
    #[arg(long, value_name = "DEVICE", value_parser = limits::device, help_heading = "Security")]
    pub device: Vec<Device>,
    /// Rule for the cgroup's device list, e.g. 'c 1:3 rwm'
    #[arg(long, value_name = "RULE", value_parser = limits::device_rule, help_heading = "Security")]
    pub device_cgroup_rule: Vec<String>,
    /// GPUs: all, a number, or device=…,capabilities=…
    #[arg(long, value_name = "REQUEST", value_parser = limits::gpus, help_heading = "Security")]
    pub gpus: Vec<DeviceRequest>,
    /// Kernel parameters of the container's namespaces
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Security")]
    pub sysctl: Vec<String>,
    /// PID namespace: host, or container:NAME
    #[arg(long, value_name = "MODE", help_heading = "Security")]
    pub pid: Option<String>,
    /// IPC namespace: private, shareable, host, none, or container:NAME
    #[arg(long, value_name = "MODE", help_heading = "Security")]
    pub ipc: Option<String>,
    /// UTS namespace: host
    #[arg(long, value_name = "MODE", help_heading = "Security")]
    pub uts: Option<String>,
    /// User namespace: host, private[:uidmapping=IN:OUT:N,...] or auto[:size=N,...]
    #[arg(long, value_name = "MODE", help_heading = "Security")]
    pub userns: Option<String>,
    /// Cgroup namespace: private or host
    #[arg(long, value_name = "MODE", help_heading = "Security")]
    pub cgroupns: Option<String>,

    // Health and logs.
    /// Command that checks health
    #[arg(long, value_name = "COMMAND", help_heading = "Health and logs")]
    pub health_cmd: Option<String>,
    /// Time between two checks
    #[arg(long, value_name = "TIME", value_parser = duration::nanoseconds, help_heading = "Health and logs")]
    pub health_interval: Option<i64>,
    /// Failures in a row that make the container unhealthy
    #[arg(long, value_name = "N", help_heading = "Health and logs")]
    pub health_retries: Option<i64>,
    /// Time to start up before failures count
    #[arg(long, value_name = "TIME", value_parser = duration::nanoseconds, help_heading = "Health and logs")]
    pub health_start_period: Option<i64>,
    /// Time between two checks while starting up
    #[arg(long, value_name = "TIME", value_parser = duration::nanoseconds, help_heading = "Health and logs")]
    pub health_start_interval: Option<i64>,
    /// Time that a check may take
    #[arg(long, value_name = "TIME", value_parser = duration::nanoseconds, help_heading = "Health and logs")]
    pub health_timeout: Option<i64>,
    /// Do not run the image's health check
    #[arg(long, help_heading = "Health and logs")]
    pub no_healthcheck: bool,
    /// Driver that keeps the output
    #[arg(long, value_name = "NAME", help_heading = "Health and logs")]
    pub log_driver: Option<String>,
    /// Option of the log driver
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Health and logs")]
    pub log_opt: Vec<String>,

    /// The image and the command: everything from the first word without a dash on.
    #[arg(value_name = "IMAGE [COMMAND] [ARG...]", required = true, trailing_var_arg = true)]
    pub words: Vec<String>,
}
