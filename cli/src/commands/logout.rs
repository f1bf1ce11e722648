//! `logout`: a stored login is forgotten.

use crate::cli::Cli;
use crate::credentials;
use crate::failure::Result;
use crate::logins;
use crate::output;

/// Log out from a registry.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The registry; the default one without it
    #[arg(value_name = "SERVER", default_value = "")]
    server: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let key = credentials::key_of_server(&args.server);
    output::line(match logins::erase(cli.config()?, &cli.folder()?, key)? {
        true => format!("Removing login credentials for {key}"),
        false => format!("Not logged in to {key}"),
    });
    Ok(())
}
