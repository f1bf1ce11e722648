//! `image prune`: images that nothing uses go.

use client::api::image::DeleteItem;

use crate::cli::Cli;
use crate::commands::system::prune::{confirm, filters};
use crate::failure::Result;
use crate::output;
use crate::units;

/// Remove unused images.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove all images that no container uses, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Only some: until=TIME, label=…, label!=…
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let mut filters = filters(&args.filter)?;
    if !filters.contains("dangling") {
        filters.add("dangling", (!args.all).to_string());
    }
    let warning = match args.all {
        true => "WARNING! This will remove all images without at least one container associated to them.",
        false => "WARNING! This will remove all dangling images.",
    };
    if !args.force && !confirm(&format!("{warning}\nAre you sure you want to continue?"))? {
        return Ok(());
    }
    let report = cli.client()?.prune_images(&filters).await?;
    let gone = report.images_deleted.unwrap_or_default();
    if !gone.is_empty() {
        output::line("Deleted Images:");
        print(&gone);
        output::line("");
    }
    output::line(format!(
        "Total reclaimed space: {}",
        units::size(report.space_reclaimed as i64, 4)
    ));
    Ok(())
}

/// What was done to each name and image; prune has its own spelling.
pub fn print(items: &[DeleteItem]) {
    for item in items {
        match item.untagged.as_str() {
            "" => output::line(format!("deleted: {}", item.deleted)),
            name => output::line(format!("untagged: {name}")),
        }
    }
}
