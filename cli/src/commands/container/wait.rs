//! `wait`: until containers stop.

use crate::cli::Cli;
use crate::failure::{Failure, Result, Tally};
use crate::output;

/// Wait until containers stop, then print their exit codes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    let mut tally = Tally::default();
    for name in &args.containers {
        let outcome = async {
            let response = client.wait_container(name, "").await?.finish().await?;
            match response.error {
                Some(error) if !error.message.is_empty() => Err(Failure::new(error.message)),
                _ => Ok(response.status_code),
            }
        };
        if let Some(code) = tally.note(outcome.await) {
            output::line(code.to_string());
        }
    }
    tally.end()
}
