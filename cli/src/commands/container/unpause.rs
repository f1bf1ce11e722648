//! `unpause`.

use crate::cli::Cli;
use crate::failure::{Result, Tally};
use crate::output;

/// Unpause all processes within containers.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    let mut tally = Tally::default();
    for name in &args.containers {
        let outcome = client.unpause_container(name).await;
        if tally.note(outcome).is_some() {
            output::line(name);
        }
    }
    tally.end()
}
