//! `network inspect`.

use crate::cli::Cli;
use crate::failure::Result;
use crate::inspected;

/// Display detailed information on networks.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// json, or a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// More output for diagnostics
    #[arg(short, long)]
    verbose: bool,
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    let fetch = async |name: String| Ok(client.inspect_network_raw(&name, args.verbose).await?);
    inspected::inspect(&args.networks, args.format.as_deref(), fetch).await
}
