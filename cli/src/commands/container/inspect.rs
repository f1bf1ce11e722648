//! `container inspect`.

use crate::cli::Cli;
use crate::failure::Result;
use crate::inspected;

/// Display detailed information on containers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// json, or a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show file sizes as well
    #[arg(short, long)]
    size: bool,
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    let fetch = async |name: String| Ok(client.inspect_container_raw(&name, args.size).await?);
    inspected::inspect(&args.containers, args.format.as_deref(), fetch).await
}
