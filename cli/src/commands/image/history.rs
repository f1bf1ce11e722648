//! `history`: how an image came about.

use client::api::image::HistoryItem;
use serde_json::json;

use super::load::platform_json;
use super::short;
use crate::cli::Cli;
use crate::commands::container::ls::shorten;
use crate::failure::Result;
use crate::format::{List, Row};
use crate::output;
use crate::units;

/// Show the history of an image.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// table [TEMPLATE], json, or a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print sizes and dates for people
    #[arg(short = 'H', long, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    human: bool,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Only this platform of the image
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    #[arg(value_name = "IMAGE", required = true)]
    image: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let platform = args.platform.as_deref().map(platform_json).transpose()?;
    let items = cli.client()?.image_history(&args.image, platform.as_deref()).await?;
    if args.quiet && args.format.is_none() {
        for item in &items {
            output::line(short(&item.id, args.no_trunc));
        }
        return Ok(());
    }
    let rows: Vec<Row> = items.iter().map(|item| row(item, &args)).collect();
    let list = List {
        format: args.format.as_deref(),
        table: if args.human {
            "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
        } else {
            "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
        },
        headings: &[
            ("ID", "IMAGE"),
            ("CreatedSince", "CREATED"),
            ("CreatedAt", "CREATED AT"),
            ("CreatedBy", "CREATED BY"),
            ("Size", "SIZE"),
            ("Comment", "COMMENT"),
        ],
    };
    list.print(&rows)
}

fn row(item: &HistoryItem, args: &Args) -> Row {
    let by = item.created_by.replace('\t', " ");
    // Rows of old images have no date of their own.
    let since = if item.created <= 0 {
        "N/A".to_owned()
    } else {
        units::ago(item.created)
    };
    Row::new(vec![
        ("ID", json!(short(&item.id, args.no_trunc))),
        ("CreatedAt", json!(units::rfc3339(item.created))),
        ("CreatedSince", json!(since)),
        ("CreatedBy", json!(if args.no_trunc { by } else { shorten(&by, 45) })),
        (
            "Size",
            json!(if args.human {
                units::size(item.size, 3)
            } else {
                item.size.to_string()
            }),
        ),
        ("Comment", json!(item.comment)),
    ])
}
