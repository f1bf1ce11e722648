//! `commit`: an image of a container's changes.

use client::Commit;

use super::create::split;
use crate::cli::Cli;
use crate::failure::Result;
use crate::output;

/// Make an image from a container's changes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Author
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    author: String,
    /// Apply a Dockerfile instruction
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Message of the image
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    message: String,
    /// Do not pause the container meanwhile
    #[arg(long)]
    no_pause: bool,
    /// Pause the container meanwhile; so it is without this
    #[arg(
        short,
        long,
        hide = true,
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        conflicts_with = "no_pause"
    )]
    pause: bool,
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
    /// Name of the image
    #[arg(value_name = "REPOSITORY[:TAG]", default_value = "")]
    name: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let (repository, tag) = split(&args.name);
    let id = cli
        .client()?
        .commit_container(&Commit {
            container: &args.container,
            repository,
            tag,
            author: &args.author,
            comment: &args.message,
            changes: &args.change,
            running: args.no_pause || !args.pause,
        })
        .await?;
    output::line(id);
    Ok(())
}
