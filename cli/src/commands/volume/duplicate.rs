//! `volume clone`.

use crate::cli::Cli;
use crate::failure::Result;
use crate::output;

/// Make a volume with the same labels and content as another.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(value_name = "VOLUME", required = true)]
    volume: String,
    /// Name of the new volume
    #[arg(value_name = "NEW", required = true)]
    new: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    output::line(cli.client()?.clone_volume(&args.volume, &args.new).await?.name);
    Ok(())
}
