//! `context rm`.

use crate::cli::Cli;
use crate::contexts::DEFAULT;
use crate::failure::{Failure, Result, Tally};
use crate::output;

/// Remove contexts.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also the current one; and be content where there is none
    #[arg(short, long)]
    force: bool,
    #[arg(value_name = "CONTEXT", required = true)]
    names: Vec<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let mut tally = Tally::default();
    for name in &args.names {
        if tally.note(remove(cli, name, args.force)).is_some() {
            output::line(name);
        }
    }
    tally.end()
}

fn remove(cli: &Cli, name: &str, force: bool) -> Result {
    if name == DEFAULT {
        return Err(Failure::new("context \"default\" cannot be removed"));
    }
    let contexts = cli.contexts()?;
    let is_current = cli.config()?.current_context.as_deref() == Some(name);
    if is_current && !force {
        return Err(Failure::new(format!(
            "context {name:?} is in use, set -f flag to force remove"
        )));
    }
    if contexts.exists(name) || !force {
        contexts.remove(name)?;
    }
    match is_current {
        true => contexts.make_current(DEFAULT),
        false => Ok(()),
    }
}
