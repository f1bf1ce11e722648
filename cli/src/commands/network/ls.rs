//! `network ls`.

use client::Filters;
use serde_json::json;

use crate::cli::Cli;
use crate::failure::{Failure, Result};
use crate::format::{List, Row};
use crate::output;
use crate::units;

/// List networks.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only some: driver=…, id=…, label=…, name=…, scope=…, type=…
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// table [TEMPLATE], json, or a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let mut filters = Filters::new();
    for text in &args.filter {
        filters.parse(text).map_err(Failure::new)?;
    }
    let mut networks = cli.client()?.networks(&filters).await?;
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    let id = |id: &str| {
        if args.no_trunc {
            id.to_owned()
        } else {
            id.chars().take(12).collect()
        }
    };
    if args.quiet && args.format.is_none() {
        networks.iter().for_each(|network| output::line(id(&network.id)));
        return Ok(());
    }
    let rows: Vec<Row> = networks
        .iter()
        .map(|network| {
            let labels: Vec<String> = network
                .labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            Row::new(vec![
                ("ID", json!(id(&network.id))),
                ("Name", json!(network.name)),
                ("Driver", json!(network.driver)),
                ("Scope", json!(network.scope)),
                ("IPv4", json!(network.enable_ipv4.to_string())),
                ("IPv6", json!(network.enable_ipv6.to_string())),
                ("Internal", json!(network.internal.to_string())),
                ("CreatedAt", json!(units::long_time(&network.created.to_string()))),
                ("Labels", json!(labels.join(","))),
            ])
            .with_labels(&network.labels)
        })
        .collect();
    let format = args.format.as_deref().or(cli.config()?.networks_format.as_deref());
    let list = List {
        format,
        table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
        headings: &[
            ("ID", "NETWORK ID"),
            ("Name", "NAME"),
            ("Driver", "DRIVER"),
            ("Scope", "SCOPE"),
            ("IPv4", "IPV4"),
            ("IPv6", "IPV6"),
            ("Internal", "INTERNAL"),
            ("CreatedAt", "CREATED AT"),
            ("Labels", "LABELS"),
        ],
    };
    list.print(&rows)
}
