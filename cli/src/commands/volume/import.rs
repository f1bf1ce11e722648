//! `volume import`: a tar becomes a volume.

use crate::cli::Cli;
use crate::commands::image::load::body;
use crate::failure::Result;
use crate::output;

/// Make a volume from the contents of a tar archive.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Set metadata on the volume
    #[arg(long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Name of the new volume
    #[arg(value_name = "VOLUME", required = true)]
    volume: String,
    /// A file, or - for stdin
    #[arg(value_name = "FILE", default_value = "-")]
    file: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let tar = body(Some(args.file.as_str()).filter(|file| *file != "-"))?;
    let volume = cli.client()?.import_volume(&args.volume, &args.label, tar).await?;
    output::line(volume.name);
    Ok(())
}
