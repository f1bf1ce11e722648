//! `container prune`: stopped containers go.

use crate::cli::Cli;
use crate::commands::system::prune::{confirm, filters};
use crate::failure::Result;
use crate::output;
use crate::units;

/// Remove all stopped containers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only some: until=TIME, label=…, label!=…
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let filters = filters(&args.filter)?;
    if !args.force && !confirm("WARNING! This will remove all stopped containers.\nAre you sure you want to continue?")?
    {
        return Ok(());
    }
    let report = cli.client()?.prune_containers(&filters).await?;
    let gone = report.containers_deleted.unwrap_or_default();
    if !gone.is_empty() {
        output::line("Deleted Containers:");
        gone.iter().for_each(output::line);
        output::line("");
    }
    output::line(format!(
        "Total reclaimed space: {}",
        units::size(report.space_reclaimed as i64, 4)
    ));
    Ok(())
}
