//! `diff`: what a container changed of its image's files.

use crate::cli::Cli;
use crate::failure::{Result, fail};
use crate::output;

/// List files that a container changed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    if args.container.is_empty() {
        fail!("Container name cannot be empty");
    }
    for change in cli.client()?.container_changes(&args.container).await? {
        let kind = match change.kind {
            0 => 'C',
            1 => 'A',
            _ => 'D',
        };
        output::line(format!("{kind} {}", change.path));
    }
    Ok(())
}
