//! `ps`: the list of containers.

use agent_api::container::{Port, Summary};
use client::Filters;
use serde_json::json;

use crate::cli::Cli;
use crate::failure::{Failure, Result};
use crate::format::{List, Row};
use crate::output;
use crate::units;

/// List containers.
#[derive(Debug, clap::Args)]
#[command(after_help = "  # All containers, also stopped ones
  iechor ps -a

  # Names and states of some
  iechor ps -a --filter label=tier=web --format '{{.Names}}: {{.Status}}'")]
pub struct Args {
    /// Show all containers, not only running ones
    #[arg(short, long)]
    all: bool,
    /// Only some: status=…, name=…, label=…, ancestor=…, …
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// table [TEMPLATE], json, or a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show the N containers created last
    #[arg(short = 'n', long, value_name = "N", default_value = "-1")]
    last: i64,
    /// Show the container created last
    #[arg(short, long)]
    latest: bool,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Show file sizes
    #[arg(short, long)]
    size: bool,
}

/// Docker's width of a shortened command.
const COMMAND_WIDTH: usize = 20;
const ID_WIDTH: usize = 12;

pub async fn run(cli: &Cli, args: Args) -> Result {
    let mut filters = Filters::new();
    for text in &args.filter {
        filters.parse(text).map_err(Failure::new)?;
    }
    let limit = if args.latest && args.last == -1 { 1 } else { args.last };
    let format = args
        .format
        .as_deref()
        .or(cli.config()?.ps_format.as_deref().filter(|_| !args.quiet));
    // Sizes cost the daemon a walk through the files: only if they are shown.
    let size = args.size || format.is_some_and(|format| format.contains(".Size"));
    let containers = cli
        .client()?
        .containers(args.all, (limit > 0).then_some(limit), size, &filters)
        .await?;
    if args.quiet && args.format.is_none() {
        for container in &containers {
            output::line(id(container, args.no_trunc));
        }
        return Ok(());
    }
    let rows: Vec<Row> = containers
        .iter()
        .map(|container| row(container, args.no_trunc))
        .collect();
    let mut table =
        "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}".to_owned();
    if args.size {
        table.push_str("\t{{.Size}}");
    }
    let list = List {
        format,
        table: &table,
        headings: &[
            ("ID", "CONTAINER ID"),
            ("Image", "IMAGE"),
            ("Command", "COMMAND"),
            ("CreatedAt", "CREATED AT"),
            ("RunningFor", "CREATED"),
            ("Ports", "PORTS"),
            ("State", "STATE"),
            ("Status", "STATUS"),
            ("Size", "SIZE"),
            ("Names", "NAMES"),
            ("Labels", "LABELS"),
            ("Mounts", "MOUNTS"),
            ("LocalVolumes", "LOCAL VOLUMES"),
            ("Networks", "NETWORKS"),
            ("Platform", "PLATFORM"),
            ("HealthStatus", "HEALTH"),
        ],
    };
    list.print(&rows)
}

fn id(container: &Summary, whole: bool) -> String {
    if whole {
        container.id.clone()
    } else {
        container.id.chars().take(ID_WIDTH).collect()
    }
}

fn row(container: &Summary, whole: bool) -> Row {
    // Names with a second slash are links of other containers.
    let names: Vec<&str> = container
        .names
        .iter()
        .map(|name| name.strip_prefix('/').unwrap_or(name))
        .collect();
    let names: Vec<&str> = if whole {
        names
    } else {
        names.into_iter().filter(|name| !name.contains('/')).collect()
    };
    let command = if whole {
        container.command.clone()
    } else {
        shorten(&container.command, COMMAND_WIDTH)
    };
    let mounts: Vec<String> = container
        .mounts
        .iter()
        .map(|mount| {
            let name = if mount.name.is_empty() {
                &mount.source
            } else {
                &mount.name
            };
            if whole { name.clone() } else { shorten(name, 15) }
        })
        .collect();
    let labels: Vec<String> = container
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let networks: Vec<&str> = container.network_settings.networks.keys().map(String::as_str).collect();
    let volumes = container.mounts.iter().filter(|mount| mount.driver == "local").count();
    let image = if container.image.is_empty() {
        "<no image>".to_owned()
    } else {
        image(container, whole)
    };
    let size = units::size(container.size_rw, 3);
    let size = match container.size_root_fs {
        virtual_size if virtual_size > 0 => format!("{size} (virtual {})", units::size(virtual_size, 3)),
        _ => size,
    };
    Row::new(vec![
        ("ID", json!(id(container, whole))),
        ("Names", json!(names.join(","))),
        ("Image", json!(image)),
        ("Command", json!(format!("{command:?}"))),
        ("CreatedAt", json!(units::local_time(container.created))),
        ("RunningFor", json!(units::ago(container.created))),
        ("Ports", json!(ports(&container.ports))),
        ("State", json!(container.state)),
        ("Status", json!(container.status)),
        ("Size", json!(size)),
        ("Labels", json!(labels.join(","))),
        ("Mounts", json!(mounts.join(","))),
        ("LocalVolumes", json!(volumes.to_string())),
        ("Networks", json!(networks.join(","))),
        // Known only to daemons with several platforms of an image.
        ("Platform", serde_json::Value::Null),
    ])
    .with_labels(&container.labels)
}

pub fn image(container: &Summary, whole: bool) -> String {
    if whole {
        return container.image.clone();
    }
    let name = container.image.as_str();
    // An image without a name is shown by its id, which is shortened like the container's.
    if let Some(digits) = name.strip_prefix("sha256:") {
        return digits.chars().take(ID_WIDTH).collect();
    }
    name.split('@').next().unwrap_or(name).to_owned()
}

/// The first characters, with an ellipsis for the rest.
pub fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

/// `0.0.0.0:80->80/tcp, 90/udp`: neighbours in one range, as docker folds them.
fn ports(ports: &[Port]) -> String {
    let mut ports: Vec<&Port> = ports.iter().collect();
    ports.sort_by(|a, b| {
        (a.private_port, &a.ip, a.public_port, &a.kind).cmp(&(b.private_port, &b.ip, b.public_port, &b.kind))
    });
    // One run per address and protocol (and for ports that are not published): first and last, inside and outside.
    struct Run<'a> {
        ip: &'a str,
        kind: &'a str,
        inside: (u16, u16),
        outside: (u16, u16),
    }
    let mut runs: Vec<Run<'_>> = Vec::new();
    for port in ports {
        let follows = |run: &&mut Run<'_>| {
            run.ip == port.ip
                && run.kind == port.kind
                && run.inside.1.checked_add(1) == Some(port.private_port)
                && match port.public_port {
                    0 => run.outside == (0, 0),
                    public => run.outside.1 != 0 && run.outside.1.checked_add(1) == Some(public),
                }
                // A folded range keeps the same ports on both sides.
                && (port.public_port == 0 || run.outside.0 == run.inside.0 && port.public_port == port.private_port)
        };
        match runs.iter_mut().find(follows) {
            Some(run) => {
                run.inside.1 = port.private_port;
                run.outside.1 = port.public_port;
            }
            None => runs.push(Run {
                ip: &port.ip,
                kind: &port.kind,
                inside: (port.private_port, port.private_port),
                outside: (port.public_port, port.public_port),
            }),
        }
    }
    let range = |(first, last): (u16, u16)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    let texts: Vec<String> = runs
        .iter()
        .map(|run| {
            let inside = format!("{}/{}", range(run.inside), run.kind);
            match (run.outside, run.ip) {
                ((0, 0), _) => inside,
                (outside, "") => format!("{}->{inside}", range(outside)),
                (outside, ip) if ip.contains(':') => format!("[{ip}]:{}->{inside}", range(outside)),
                (outside, ip) => format!("{ip}:{}->{inside}", range(outside)),
            }
        })
        .collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, public: u16, private: u16, kind: &str) -> Port {
        Port {
            ip: ip.to_owned(),
            private_port: private,
            public_port: public,
            kind: kind.to_owned(),
        }
    }

    #[test]
    fn ports_are_folded() {
        let list = [
            port("0.0.0.0", 8080, 80, "tcp"),
            port("::", 8080, 80, "tcp"),
            port("", 0, 90, "udp"),
            port("", 0, 91, "udp"),
            port("0.0.0.0", 1000, 1000, "tcp"),
            port("0.0.0.0", 1001, 1001, "tcp"),
        ];
        assert_eq!(
            ports(&list),
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 90-91/udp, 0.0.0.0:1000-1001->1000-1001/tcp"
        );
    }

    #[test]
    fn long_words_are_shortened() {
        assert_eq!(shorten("abcdef", 6), "abcdef");
        assert_eq!(shorten("abcdefg", 6), "abcde…");
    }
}
