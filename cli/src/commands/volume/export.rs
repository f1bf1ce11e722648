//! `volume export`: a volume's content as a tar.

use crate::cli::Cli;
use crate::commands::image::save::write;
use crate::failure::Result;

/// Write a volume's content as a tar archive.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
    #[arg(value_name = "VOLUME", required = true)]
    volume: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    write(args.output.as_deref(), || client.export_volume(&args.volume)).await
}
