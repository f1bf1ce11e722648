//! `search`: repositories of a registry.

use client::Filters;
use serde_json::json;

use crate::cli::Cli;
use crate::commands::container::ls::shorten;
use crate::credentials;
use crate::failure::{Failure, Result};
use crate::format::{List, Row};

/// Search a registry for images.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only some: is-official=true, stars=NUMBER
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// table [TEMPLATE], json, or a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Most results
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    limit: u32,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// What to look for; a registry in front of it, as in names of images
    #[arg(value_name = "TERM", required = true)]
    term: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let mut filters = Filters::new();
    for text in &args.filter {
        filters.parse(text).map_err(Failure::new)?;
    }
    let auth = credentials::for_image(cli.config()?, &args.term)?;
    let found = cli
        .client()?
        .search_images(&args.term, args.limit, &filters, auth.as_ref())
        .await?;
    let rows: Vec<Row> = found
        .iter()
        .map(|one| {
            let description = one.description.replace(['\n', '\r'], " ");
            let description = if args.no_trunc {
                description
            } else {
                shorten(&description, 45)
            };
            Row::new(vec![
                ("Name", json!(one.name)),
                ("Description", json!(description)),
                ("StarCount", json!(one.star_count.to_string())),
                ("IsOfficial", json!(if one.is_official { "[OK]" } else { "" })),
            ])
        })
        .collect();
    let list = List {
        format: args.format.as_deref(),
        table: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
        headings: &[
            ("Name", "NAME"),
            ("Description", "DESCRIPTION"),
            ("StarCount", "STARS"),
            ("IsOfficial", "OFFICIAL"),
        ],
    };
    list.print(&rows)
}
