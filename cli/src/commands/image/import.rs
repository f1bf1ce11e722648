//! `import`: a filesystem tarball becomes an image of one layer.

use crate::cli::Cli;
use crate::commands::container::create::split;
use crate::commands::image::load::body;
use crate::failure::Result;
use crate::progress::{Out, Progress};

/// Make an image from the contents of a tarball.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Apply a Dockerfile instruction
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Set the message of the image
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    message: String,
    /// Platform of the image
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// A file, a URL, or - for stdin
    #[arg(value_name = "SOURCE", required = true)]
    source: String,
    /// Name of the image
    #[arg(value_name = "REPOSITORY[:TAG]", default_value = "")]
    name: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let remote = args.source.starts_with("http://") || args.source.starts_with("https://");
    let (source, tar) = match args.source.as_str() {
        url if remote => (url, None),
        "-" => ("-", Some(body(None)?)),
        path => ("-", Some(body(Some(path))?)),
    };
    let mut progress = Progress::new(Out::Stdout);
    cli.client()?
        .import_image(
            source,
            tar,
            split(&args.name),
            &args.message,
            &args.change,
            args.platform.as_deref(),
        )
        .await?
        .drain(|message| progress.show(&message))
        .await?;
    Ok(())
}
