//! `restart`.

use crate::cli::Cli;
use crate::failure::{Result, Tally};
use crate::output;

/// Restart containers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Signal to send
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Seconds to wait before killing; -1 waits for ever
    #[arg(short = 't', long, alias = "time", value_name = "SECONDS")]
    timeout: Option<i64>,
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    let mut tally = Tally::default();
    for name in &args.containers {
        let outcome = client
            .restart_container(name, args.signal.as_deref(), args.timeout)
            .await;
        if tally.note(outcome).is_some() {
            output::line(name);
        }
    }
    tally.end()
}
