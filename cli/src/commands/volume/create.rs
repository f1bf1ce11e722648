//! `volume create`.

use client::api::volume::VolumeCreate;

use crate::cli::Cli;
use crate::failure::{Failure, Result, fail};
use crate::output;
use crate::values::pair;

/// Create a volume.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Driver of the volume
    #[arg(short, long, value_name = "NAME", default_value = "local")]
    driver: String,
    /// Set metadata on the volume
    #[arg(long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Option of the driver
    #[arg(short, long, value_name = "NAME=VALUE")]
    opt: Vec<String>,
    /// Name; without it the daemon makes one
    #[arg(value_name = "VOLUME")]
    name: Option<String>,
    /// The same as an option, from old days.
    #[arg(long = "name", value_name = "NAME", hide = true)]
    flag: Option<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let name = match (args.name, args.flag) {
        (Some(_), Some(_)) => {
            fail!("conflicting options: cannot specify a volume-name through both --name and as a positional arg")
        }
        (name, flag) => name.or(flag).unwrap_or_default(),
    };
    let request = VolumeCreate {
        driver: args.driver,
        driver_opts: Some(pair::map("--opt", &args.opt).map_err(Failure::new)?),
        labels: Some(pair::labels(&[], &args.label).map_err(Failure::new)?),
        name,
        ..VolumeCreate::default()
    };
    output::line(cli.client()?.create_volume(&request).await?.name);
    Ok(())
}
