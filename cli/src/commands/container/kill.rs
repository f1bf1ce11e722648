//! `kill`.

use crate::cli::Cli;
use crate::failure::{Result, Tally};
use crate::output;

/// Kill running containers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Signal to send
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    let mut tally = Tally::default();
    for name in &args.containers {
        let outcome = client.kill_container(name, args.signal.as_deref()).await;
        if tally.note(outcome).is_some() {
            output::line(name);
        }
    }
    tally.end()
}
