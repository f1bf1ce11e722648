//! `system prune`, and what all prune commands share.

use std::io::Write;

use client::Filters;

use crate::cli::Cli;
use crate::commands::image::prune::print;
use crate::failure::{Failure, Result};
use crate::output;
use crate::units;

/// Remove unused data.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove all unused images, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Only some: until=TIME, label=…, label!=…
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Remove anonymous volumes as well
    #[arg(long)]
    volumes: bool,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let filters = filters(&args.filter)?;
    if args.volumes && filters.contains("until") {
        return Err(Failure::new("the \"until\" filter is not supported with --volumes"));
    }
    if !args.force && !confirm(&warning(&args, &filters))? {
        return Ok(());
    }
    let client = cli.client()?;
    let mut space = 0;
    let section = |title: &str, names: &[String]| {
        if !names.is_empty() {
            output::line(format!("{title}:"));
            names.iter().for_each(output::line);
            output::line("");
        }
    };
    let containers = client.prune_containers(&filters).await?;
    section("Deleted Containers", &containers.containers_deleted.unwrap_or_default());
    space += containers.space_reclaimed;
    if args.volumes {
        let volumes = client.prune_volumes(&filters).await?;
        section("Deleted Volumes", &volumes.volumes_deleted.unwrap_or_default());
        space += volumes.space_reclaimed;
    }
    let images = client
        .prune_images(&filters.clone().with("dangling", (!args.all).to_string()))
        .await?;
    let gone = images.images_deleted.unwrap_or_default();
    if !gone.is_empty() {
        output::line("Deleted Images:");
        print(&gone);
        output::line("");
    }
    space += images.space_reclaimed;
    output::line(format!("Total reclaimed space: {}", units::size(space as i64, 4)));
    Ok(())
}

fn warning(args: &Args, filters: &Filters) -> String {
    let mut text = "WARNING! This will remove:\n  - all stopped containers\n".to_owned();
    if args.volumes {
        text.push_str("  - all anonymous volumes not used by at least one container\n");
    }
    text.push_str(match args.all {
        true => "  - all images without at least one container associated to them\n",
        false => "  - all dangling images\n",
    });
    let conditions: Vec<String> = ["label", "label!", "until"]
        .iter()
        .flat_map(|key| filters.values(key).map(move |value| format!("{key}={value}")))
        .collect();
    if !conditions.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        conditions
            .iter()
            .for_each(|condition| text.push_str(&format!("  - {condition}\n")));
    }
    text + "\nAre you sure you want to continue?"
}

/// `--filter` of the prune commands: `label!=x` is the key `label!`.
pub fn filters(texts: &[String]) -> Result<Filters> {
    let mut filters = Filters::new();
    for text in texts {
        filters.parse(text).map_err(Failure::new)?;
    }
    Ok(filters)
}

/// Asks; only `y` is a yes.
pub fn confirm(question: &str) -> Result<bool> {
    output::print(&format!("{question} [y/N] "));
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
