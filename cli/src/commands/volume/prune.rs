//! `volume prune`: volumes that no container uses go.

use crate::cli::Cli;
use crate::commands::system::prune::{confirm, filters};
use crate::failure::{Result, fail};
use crate::output;
use crate::units;

/// Remove unused volumes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove all unused volumes, not only anonymous ones
    #[arg(short, long)]
    all: bool,
    /// Only some: label=…, label!=…
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let mut filters = filters(&args.filter)?;
    if args.all {
        if filters.contains("all") {
            fail!("conflicting options: cannot specify both --all and --filter all=1");
        }
        filters.add("all", "true");
    }
    let warning = match args.all {
        true => "WARNING! This will remove all volumes not used by at least one container.",
        false => "WARNING! This will remove anonymous local volumes not used by at least one container.",
    };
    if !args.force && !confirm(&format!("{warning}\nAre you sure you want to continue?"))? {
        return Ok(());
    }
    let report = cli.client()?.prune_volumes(&filters).await?;
    let gone = report.volumes_deleted.unwrap_or_default();
    if !gone.is_empty() {
        output::line("Deleted Volumes:");
        gone.iter().for_each(output::line);
        output::line("");
    }
    output::line(format!(
        "Total reclaimed space: {}",
        units::size(report.space_reclaimed as i64, 4)
    ));
    Ok(())
}
