//! `update`: limits and restart policy of containers that exist; ours: ports, environment and mounts too.

use agent_api::Set;
use agent_api::container::Change;
use agent_api::host_config::{HostConfig, Mount, PortMap, RestartPolicy, ThrottleDevice, WeightDevice};

use crate::cli::Cli;
use crate::failure::{Failure, Result, Tally};
use crate::output;
use crate::values::{limits, mount, port, size};

/// Change limits, restart policy, ports, environment and mounts of containers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Weight of block IO, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// Weight of block IO on a device
    #[arg(long, value_name = "DEVICE:WEIGHT", value_parser = limits::weight)]
    blkio_weight_device: Vec<WeightDevice>,
    /// Bytes per second that may be read from a device
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = limits::bytes_per_second)]
    device_read_bps: Vec<ThrottleDevice>,
    /// Bytes per second that may be written to a device
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = limits::bytes_per_second)]
    device_write_bps: Vec<ThrottleDevice>,
    /// Reads per second on a device
    #[arg(long, value_name = "DEVICE:N", value_parser = limits::operations_per_second)]
    device_read_iops: Vec<ThrottleDevice>,
    /// Writes per second on a device
    #[arg(long, value_name = "DEVICE:N", value_parser = limits::operations_per_second)]
    device_write_iops: Vec<ThrottleDevice>,
    /// Length of a scheduler period in microseconds
    #[arg(long, value_name = "µs")]
    cpu_period: Option<i64>,
    /// CPU time in a period in microseconds
    #[arg(long, value_name = "µs")]
    cpu_quota: Option<i64>,
    /// Length of a real-time period in microseconds
    #[arg(long, value_name = "µs", hide = true)]
    cpu_rt_period: Option<i64>,
    /// Real-time CPU time in a period in microseconds
    #[arg(long, value_name = "µs", hide = true)]
    cpu_rt_runtime: Option<i64>,
    /// Weight of the container's CPU time
    #[arg(short = 'c', long, value_name = "WEIGHT")]
    cpu_shares: Option<i64>,
    /// Number of CPUs, e.g. 1.5
    #[arg(long, value_name = "N", value_parser = limits::cpus)]
    cpus: Option<i64>,
    /// CPUs that may be used, e.g. 0-3 or 0,1
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Memory limit
    #[arg(short, long, value_name = "BYTES", value_parser = size::parse)]
    memory: Option<i64>,
    /// Soft memory limit
    #[arg(long, value_name = "BYTES", value_parser = size::parse)]
    memory_reservation: Option<i64>,
    /// Memory and swap together; -1 is without limit
    #[arg(long, value_name = "BYTES", value_parser = size::parse_or_unlimited)]
    memory_swap: Option<i64>,
    /// Number of processes; -1 is without limit
    #[arg(long, value_name = "N")]
    pids_limit: Option<i64>,
    /// When to restart: no, always, unless-stopped, on-failure[:N], on-unhealthy[:N]
    #[arg(long, value_name = "POLICY", value_parser = limits::restart)]
    restart: Option<RestartPolicy>,
    /// Set an environment variable (ours; from the next start on)
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Changes")]
    env_add: Vec<String>,
    /// Remove an environment variable (ours; from the next start on)
    #[arg(long, value_name = "KEY", help_heading = "Changes")]
    env_rm: Vec<String>,
    /// Add a mount: type=bind,src=…,dst=…[,readonly,…] (ours; from the next start on)
    #[arg(long, value_name = "MOUNT", value_parser = mount::mount, help_heading = "Changes")]
    mount_add: Vec<Mount>,
    /// Remove the mount at a path of the container (ours; from the next start on)
    #[arg(long, value_name = "PATH", help_heading = "Changes")]
    mount_rm: Vec<String>,
    /// Publish a port: [ip:][hostPort:]containerPort[/protocol] (ours; at once)
    #[arg(long, value_name = "PORT", help_heading = "Changes")]
    publish_add: Vec<String>,
    /// Publish a port of the container no more (ours; at once)
    #[arg(long, value_name = "PORT[/PROTOCOL]", help_heading = "Changes")]
    publish_rm: Vec<String>,
    /// Restart containers that run, if something waits for their next start (ours)
    #[arg(long, help_heading = "Changes")]
    now: bool,
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    let devices = |list: &[ThrottleDevice]| (!list.is_empty()).then(|| list.to_vec());
    let change = HostConfig {
        blkio_weight: args.blkio_weight.unwrap_or_default(),
        blkio_weight_device: Some(args.blkio_weight_device).filter(|list| !list.is_empty()),
        blkio_device_read_bps: devices(&args.device_read_bps),
        blkio_device_write_bps: devices(&args.device_write_bps),
        blkio_device_read_iops: devices(&args.device_read_iops),
        blkio_device_write_iops: devices(&args.device_write_iops),
        cpu_period: args.cpu_period.unwrap_or_default(),
        cpu_quota: args.cpu_quota.unwrap_or_default(),
        cpu_realtime_period: args.cpu_rt_period.unwrap_or_default(),
        cpu_realtime_runtime: args.cpu_rt_runtime.unwrap_or_default(),
        cpu_shares: args.cpu_shares.unwrap_or_default(),
        nano_cpus: args.cpus.unwrap_or_default(),
        cpuset_cpus: args.cpuset_cpus.unwrap_or_default(),
        cpuset_mems: args.cpuset_mems.unwrap_or_default(),
        memory: args.memory.unwrap_or_default(),
        memory_reservation: args.memory_reservation.unwrap_or_default(),
        memory_swap: args.memory_swap.unwrap_or_default(),
        pids_limit: args.pids_limit,
        restart_policy: args.restart.unwrap_or_default(),
        ..HostConfig::default()
    };
    let (mut exposed, mut ports) = (Set::new(), PortMap::new());
    for spec in &args.publish_add {
        port::publish(spec, &mut exposed, &mut ports).map_err(Failure::new)?;
    }
    fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
        Some(list).filter(|list| !list.is_empty())
    }
    let ours = Change {
        env_add: some(args.env_add),
        env_rm: some(args.env_rm),
        mount_add: some(args.mount_add),
        mount_rm: some(args.mount_rm),
        publish_add: Some(ports).filter(|ports| !ports.is_empty()),
        publish_rm: some(args.publish_rm),
        now: args.now,
    };
    if change == HostConfig::default() && ours == Change::default() {
        crate::failure::fail!("you must provide one or more flags when using this command");
    }
    let mut tally = Tally::default();
    for name in &args.containers {
        let outcome = client.update_container(name, &change, &ours).await;
        if let Some(update) = tally.note(outcome) {
            for warning in update.warnings.iter().flatten() {
                output::warn(warning);
            }
            output::line(name);
        }
    }
    tally.end()
}
