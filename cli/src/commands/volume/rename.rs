//! `volume rename`.

use crate::cli::Cli;
use crate::failure::Result;

/// Give a volume that no container has another name.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(value_name = "VOLUME", required = true)]
    volume: String,
    /// The new name
    #[arg(value_name = "NEW", required = true)]
    new: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    Ok(cli.client()?.rename_volume(&args.volume, &args.new).await?)
}
