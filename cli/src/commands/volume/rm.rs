//! `volume rm`.

use crate::cli::Cli;
use crate::failure::{Result, Tally};
use crate::output;

/// Remove volumes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Do not complain about volumes that do not exist
    #[arg(short, long)]
    force: bool,
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    let mut tally = Tally::default();
    for name in &args.volumes {
        if tally.note(client.remove_volume(name, args.force).await).is_some() {
            output::line(name);
        }
    }
    tally.end()
}
