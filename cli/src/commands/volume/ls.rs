//! `volume ls`.

use client::Filters;
use serde_json::json;

use crate::cli::Cli;
use crate::failure::{Failure, Result};
use crate::format::{List, Row};
use crate::output;
use crate::units;

/// List volumes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only some: dangling=true, driver=…, label=…, name=…
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// table [TEMPLATE], json, or a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show only names
    #[arg(short, long)]
    quiet: bool,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let mut filters = Filters::new();
    for text in &args.filter {
        filters.parse(text).map_err(Failure::new)?;
    }
    let mut volumes = cli.client()?.volumes(&filters).await?.volumes;
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    if args.quiet && args.format.is_none() {
        volumes.iter().for_each(|volume| output::line(&volume.name));
        return Ok(());
    }
    let rows: Vec<Row> = volumes
        .iter()
        .map(|volume| {
            let labels = volume.labels.clone().unwrap_or_default();
            let text: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let usage = volume.usage_data.as_ref();
            Row::new(vec![
                ("Name", json!(volume.name)),
                ("Driver", json!(volume.driver)),
                ("Scope", json!(volume.scope)),
                ("Mountpoint", json!(volume.mountpoint)),
                ("Labels", json!(text.join(","))),
                (
                    "Links",
                    json!(usage.map_or("N/A".to_owned(), |usage| usage.ref_count.to_string())),
                ),
                (
                    "Size",
                    json!(usage.map_or("N/A".to_owned(), |usage| units::size(usage.size, 4))),
                ),
                // Swarm volumes only; docker prints the columns for all.
                ("Group", json!("N/A")),
                ("Availability", json!("N/A")),
                ("Status", json!("N/A")),
            ])
            .with_labels(&labels)
        })
        .collect();
    let format = args.format.as_deref().or(cli.config()?.volumes_format.as_deref());
    let list = List {
        format,
        table: "{{.Driver}}\t{{.Name}}",
        headings: &[
            ("Name", "VOLUME NAME"),
            ("Driver", "DRIVER"),
            ("Scope", "SCOPE"),
            ("Mountpoint", "MOUNTPOINT"),
            ("Labels", "LABELS"),
            ("Links", "LINKS"),
            ("Size", "SIZE"),
            ("Group", "GROUP"),
            ("Availability", "AVAILABILITY"),
            ("Status", "STATUS"),
        ],
    };
    list.print(&rows)
}
