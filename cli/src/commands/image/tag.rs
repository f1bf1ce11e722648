//! `tag`: another name for an image.

use crate::cli::Cli;
use crate::commands::container::create::split;
use crate::failure::{Result, fail};

/// Give an image another name.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(value_name = "SOURCE[:TAG]", required = true)]
    source: String,
    #[arg(value_name = "TARGET[:TAG]", required = true)]
    target: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    if args.target.contains('@') {
        fail!("refusing to create a tag with a digest reference");
    }
    let (repository, tag) = split(&args.target);
    let tag = if tag.is_empty() { "latest" } else { tag };
    Ok(cli.client()?.tag_image(&args.source, repository, tag).await?)
}
