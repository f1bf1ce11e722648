//! `image inspect`.

use super::load::platform_json;
use crate::cli::Cli;
use crate::failure::Result;
use crate::inspected;

/// Display detailed information on images.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// json, or a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only this platform of the image
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    let platform = args.platform.as_deref().map(platform_json).transpose()?;
    let fetch = async |name: String| Ok(client.inspect_image_raw(&name, platform.as_deref()).await?);
    inspected::inspect(&args.images, args.format.as_deref(), fetch).await
}
