//! `rmi`: names, and images that have none left.

use super::load::platform_json;
use crate::cli::Cli;
use crate::failure::{Result, Tally};
use crate::output;

/// Remove images.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove also what stopped containers use, or what has several names
    #[arg(short, long)]
    force: bool,
    /// Keep parents that have no name
    #[arg(long)]
    no_prune: bool,
    /// Remove only this platform of the images
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    platform: Vec<String>,
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    let platforms: Vec<String> = args
        .platform
        .iter()
        .map(|text| platform_json(text))
        .collect::<Result<_>>()?;
    let mut tally = Tally::default();
    for name in &args.images {
        for item in tally
            .note(client.remove_image(name, args.force, args.no_prune, &platforms).await)
            .unwrap_or_default()
        {
            match item.deleted.as_str() {
                "" => output::line(format!("Untagged: {}", item.untagged)),
                id => output::line(format!("Deleted: {id}")),
            }
        }
    }
    tally.end()
}
