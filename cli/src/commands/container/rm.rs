//! `rm`.

use crate::cli::Cli;
use crate::failure::{Result, Tally};
use crate::output;

/// Remove containers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kill and remove running containers
    #[arg(short, long)]
    force: bool,
    /// Remove a link instead of a container
    #[arg(short, long)]
    link: bool,
    /// Remove the anonymous volumes of the container
    #[arg(short, long)]
    volumes: bool,
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    let mut tally = Tally::default();
    for name in &args.containers {
        match client
            .remove_container(name.trim_start_matches('/'), args.force, args.volumes, args.link)
            .await
        {
            // What is to be gone is gone: said, but no failure.
            Err(error) if args.force && error.is_not_found() => output::warn(error.to_string()),
            outcome => {
                if tally.note(outcome).is_some() {
                    output::line(name);
                }
            }
        }
    }
    tally.end()
}
