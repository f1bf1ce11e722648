//! `context use`.

use super::warn_of_environment;
use crate::cli::Cli;
use crate::contexts::DEFAULT;
use crate::failure::Result;
use crate::output;

/// Make a context the current one.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(value_name = "CONTEXT", required = true)]
    name: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let contexts = cli.contexts()?;
    if args.name != DEFAULT {
        contexts.get(&args.name)?;
    }
    contexts.make_current(&args.name)?;
    output::line(&args.name);
    if args.name != DEFAULT {
        warn_of_environment(cli);
    }
    output::warn(format!("Current context is now {:?}", args.name));
    Ok(())
}
