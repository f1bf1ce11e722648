//! `system df`: what lies on the disk, and how much of it could go.

use client::api::system::DiskUsage;
use serde_json::json;

use crate::cli::Cli;
use crate::failure::{Result, fail};
use crate::format::{List, Row};
use crate::units;

/// Show disk usage.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// table [TEMPLATE], json, or a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show each object
    #[arg(short, long)]
    verbose: bool,
}

/// One line of the summary.
struct Kind {
    name: &'static str,
    total: i64,
    active: i64,
    size: i64,
    reclaimable: i64,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    if args.verbose && args.format.is_some() {
        fail!("--verbose and --format cannot be used together");
    }
    let usage = cli.client()?.disk_usage(args.verbose).await?;
    if args.verbose {
        return verbose(&usage);
    }
    let rows: Vec<Row> = summary(&usage)
        .iter()
        .map(|kind| {
            let share = if kind.size > 0 {
                format!(" ({}%)", kind.reclaimable * 100 / kind.size)
            } else {
                String::new()
            };
            Row::new(vec![
                ("Type", json!(kind.name)),
                ("TotalCount", json!(kind.total.to_string())),
                ("Active", json!(kind.active.to_string())),
                ("Size", json!(units::size(kind.size, 4))),
                (
                    "Reclaimable",
                    json!(format!("{}{share}", units::size(kind.reclaimable, 4))),
                ),
            ])
        })
        .collect();
    let list = List {
        format: args.format.as_deref(),
        table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
        headings: &[
            ("Type", "TYPE"),
            ("TotalCount", "TOTAL"),
            ("Active", "ACTIVE"),
            ("Size", "SIZE"),
            ("Reclaimable", "RECLAIMABLE"),
        ],
    };
    list.print(&rows)
}

/// The daemon's sums where it sends them (API 1.52), else our own.
fn summary(usage: &DiskUsage) -> Vec<Kind> {
    macro_rules! summed {
        ($usage:expr, $name:literal, $own:expr) => {
            match &$usage {
                Some(sum) => Kind {
                    name: $name,
                    total: sum.total_count,
                    active: sum.active_count,
                    size: sum.total_size,
                    reclaimable: sum.reclaimable,
                },
                None => $own,
            }
        };
    }
    let images = || {
        let list = usage.images.as_deref().unwrap_or_default();
        let size = usage.layers_size.unwrap_or_default();
        let used: i64 = list
            .iter()
            .filter(|image| image.containers > 0)
            .map(|image| image.size - image.shared_size.max(0))
            .sum();
        let active = list.iter().filter(|image| image.containers > 0).count() as i64;
        Kind {
            name: "Images",
            total: list.len() as i64,
            active,
            size,
            reclaimable: (size - used).max(0),
        }
    };
    let containers = || {
        let list = usage.containers.as_deref().unwrap_or_default();
        let active = |state: &str| matches!(state, "running" | "paused" | "restarting");
        let sum = |wanted: bool| {
            list.iter()
                .filter(|one| wanted || !active(&one.state))
                .map(|one| one.size_rw)
                .sum::<i64>()
        };
        Kind {
            name: "Containers",
            total: list.len() as i64,
            active: list.iter().filter(|one| active(&one.state)).count() as i64,
            size: sum(true),
            reclaimable: sum(false),
        }
    };
    let volumes = || {
        let list = usage.volumes.as_deref().unwrap_or_default();
        let known = || {
            list.iter()
                .filter_map(|volume| volume.usage_data.as_ref())
                .filter(|usage| usage.size >= 0)
        };
        Kind {
            name: "Local Volumes",
            total: list.len() as i64,
            active: known().filter(|usage| usage.ref_count > 0).count() as i64,
            size: known().map(|usage| usage.size).sum(),
            reclaimable: known()
                .filter(|usage| usage.ref_count == 0)
                .map(|usage| usage.size)
                .sum(),
        }
    };
    let cache = || {
        let list = usage.build_cache.as_deref().unwrap_or_default();
        let of = |key: &str, record: &serde_json::Value| record[key].as_bool() == Some(true);
        let sum = |unused: bool| {
            list.iter()
                .filter(|record| !(of("Shared", record) || unused && of("InUse", record)))
                .filter_map(|record| record["Size"].as_i64())
                .sum()
        };
        Kind {
            name: "Build Cache",
            total: list.len() as i64,
            active: list.iter().filter(|record| of("InUse", record)).count() as i64,
            size: sum(false),
            reclaimable: sum(true),
        }
    };
    vec![
        summed!(usage.image_usage, "Images", images()),
        summed!(usage.container_usage, "Containers", containers()),
        summed!(usage.volume_usage, "Local Volumes", volumes()),
        summed!(usage.build_cache_usage, "Build Cache", cache()),
    ]
}

/// Each object in a table of its kind.
fn verbose(usage: &DiskUsage) -> Result {
    let none = "<none>";

    let images = usage
        .images
        .clone()
        .or_else(|| usage.image_usage.as_ref()?.items.clone())
        .unwrap_or_default();
    crate::output::line("Images space usage:\n");
    let rows: Vec<Row> = images
        .iter()
        .map(|image| {
            let name = image.repo_tags.first().map_or(none, String::as_str);
            let (repository, tag) = name.rsplit_once(':').unwrap_or((none, none));
            let shared = image.shared_size.max(0);
            Row::new(vec![
                ("Repository", json!(repository)),
                ("Tag", json!(tag)),
                ("ID", json!(crate::commands::image::short(&image.id, false))),
                ("CreatedSince", json!(units::ago(image.created))),
                ("Size", json!(units::size(image.size, 3))),
                ("SharedSize", json!(units::size(shared, 4))),
                ("UniqueSize", json!(units::size(image.size - shared, 4))),
                ("Containers", json!(image.containers.max(0).to_string())),
            ])
        })
        .collect();
    list(
        &rows,
        "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
        &[
            ("Repository", "REPOSITORY"),
            ("Tag", "TAG"),
            ("ID", "IMAGE ID"),
            ("CreatedSince", "CREATED"),
            ("Size", "SIZE"),
            ("SharedSize", "SHARED SIZE"),
            ("UniqueSize", "UNIQUE SIZE"),
            ("Containers", "CONTAINERS"),
        ],
    )?;
    let containers = usage
        .containers
        .clone()
        .or_else(|| usage.container_usage.as_ref()?.items.clone())
        .unwrap_or_default();
    crate::output::line("\nContainers space usage:\n");
    let rows: Vec<Row> = containers
        .iter()
        .map(|container| {
            let volumes = container.mounts.iter().filter(|mount| mount.driver == "local").count();
            let name = container.names.first().map_or("", |name| name.trim_start_matches('/'));
            Row::new(vec![
                ("ID", json!(crate::commands::image::short(&container.id, false))),
                ("Image", json!(crate::commands::container::ls::image(container, false))),
                (
                    "Command",
                    json!(format!(
                        "{:?}",
                        crate::commands::container::ls::shorten(&container.command, 20)
                    )),
                ),
                ("LocalVolumes", json!(volumes.to_string())),
                ("Size", json!(units::size(container.size_rw, 3))),
                ("RunningFor", json!(units::ago(container.created))),
                ("Status", json!(container.status)),
                ("Names", json!(name)),
            ])
        })
        .collect();
    list(
        &rows,
        "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
        &[
            ("ID", "CONTAINER ID"),
            ("Image", "IMAGE"),
            ("Command", "COMMAND"),
            ("LocalVolumes", "LOCAL VOLUMES"),
            ("Size", "SIZE"),
            ("RunningFor", "CREATED"),
            ("Status", "STATUS"),
            ("Names", "NAMES"),
        ],
    )?;
    let volumes = usage
        .volumes
        .clone()
        .or_else(|| usage.volume_usage.as_ref()?.items.clone())
        .unwrap_or_default();
    crate::output::line("\nLocal Volumes space usage:\n");
    let rows: Vec<Row> = volumes
        .iter()
        .map(|volume| {
            let used = volume.usage_data.clone().unwrap_or_default();
            Row::new(vec![
                ("Name", json!(volume.name)),
                ("Links", json!(used.ref_count.to_string())),
                ("Size", json!(units::size(used.size.max(0), 4))),
            ])
        })
        .collect();
    list(
        &rows,
        "{{.Name}}\t{{.Links}}\t{{.Size}}",
        &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")],
    )
}

fn list(rows: &[Row], table: &str, headings: &[(&str, &str)]) -> Result {
    List {
        format: None,
        table,
        headings,
    }
    .print(rows)
}
