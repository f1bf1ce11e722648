//! `volume inspect`.

use crate::cli::Cli;
use crate::failure::Result;
use crate::inspected;

/// Display detailed information on volumes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// json, or a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    let fetch = async |name: String| Ok(client.inspect_volume_raw(&name).await?);
    inspected::inspect(&args.volumes, args.format.as_deref(), fetch).await
}
