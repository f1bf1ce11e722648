//! `rename`.

use crate::cli::Cli;
use crate::failure::{Result, fail};

/// Rename a container.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
    #[arg(value_name = "NEW_NAME", required = true)]
    name: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    if args.container.trim().is_empty() || args.name.trim().is_empty() {
        fail!("neither the old nor the new name may be empty");
    }
    Ok(cli
        .client()?
        .rename_container(args.container.trim(), args.name.trim())
        .await?)
}
