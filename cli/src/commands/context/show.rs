//! `context show`.

use crate::cli::Cli;
use crate::failure::Result;
use crate::output;

/// Print the name of the current context.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub async fn run(cli: &Cli, _: Args) -> Result {
    output::line(cli.context()?);
    Ok(())
}
