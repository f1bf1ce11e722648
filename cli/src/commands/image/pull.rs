//! `pull`.

use client::Pull;

use crate::cli::{self, Cli};
use crate::commands::container::create::split;
use crate::credentials;
use crate::failure::{Result, fail};
use crate::output;
use crate::progress::{Out, Progress};

/// Download an image from a registry.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Download all tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Platform of the image, e.g. linux/arm64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Do not show progress
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "NAME[:TAG|@DIGEST]", required = true)]
    image: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let (image, tag) = split(&args.image);
    if args.all_tags && !tag.is_empty() {
        fail!("tag can't be used with --all-tags/-a");
    }
    let tag = match (tag, args.all_tags) {
        (_, true) => "",
        ("", false) => {
            if !args.quiet {
                output::line("Using default tag: latest");
            }
            "latest"
        }
        (tag, false) => tag,
    };
    let auth = credentials::for_image(cli.config()?, &args.image)?;
    let platform = args.platform.clone().or_else(|| cli::env("DEFAULT_PLATFORM"));
    let pull = Pull {
        image,
        tag,
        platform: platform.as_deref(),
        auth: auth.as_ref(),
    };
    let mut progress = Progress::new(Out::Stdout);
    let messages = cli.client()?.pull_image(&pull).await?;
    let show = |message| {
        if !args.quiet {
            progress.show(&message);
        }
    };
    messages.drain(show).await?;
    output::line(canonical(image, tag));
    Ok(())
}

/// The whole name, registry and tag included, for scripts.
fn canonical(image: &str, tag: &str) -> String {
    let name = match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
        None => format!("docker.io/library/{image}"),
    };
    match tag {
        "" => name,
        digest if digest.contains(':') => format!("{name}@{digest}"),
        tag => format!("{name}:{tag}"),
    }
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn names_are_made_whole() {
        assert_eq!(canonical("busybox", "1"), "docker.io/library/busybox:1");
        assert_eq!(canonical("me/x", "latest"), "docker.io/me/x:latest");
        assert_eq!(canonical("localhost:5000/x", "sha256:ab"), "localhost:5000/x@sha256:ab");
    }
}
