//! `system check`: do the daemon's records and the machine agree?

use client::api::extension::Difference;
use serde_json::json;

use crate::cli::Cli;
use crate::failure::{Result, fail};
use crate::format::{List, Row};
use crate::output;

/// Compare the daemon's records with folders, mounts, interfaces and ports.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// table [TEMPLATE], json, or a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Put right what has one safe way to be put right
    #[arg(long)]
    repair: bool,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let found = cli.client()?.check_system(args.repair).await?.differences;
    if found.is_empty() && args.format.is_none() {
        output::line("Records and machine agree.");
        return Ok(());
    }
    let rows: Vec<Row> = found
        .iter()
        .map(|one| {
            Row::new(vec![
                ("Side", json!(one.side)),
                ("Kind", json!(one.kind)),
                ("Name", json!(one.name)),
                ("State", json!(state(one))),
                ("Note", json!(one.note)),
            ])
        })
        .collect();
    let list = List {
        format: args.format.as_deref(),
        table: "{{.Side}}\t{{.Kind}}\t{{.Name}}\t{{.State}}\t{{.Note}}",
        headings: &[
            ("Side", "SIDE"),
            ("Kind", "KIND"),
            ("Name", "NAME"),
            ("State", "STATE"),
            ("Note", "NOTE"),
        ],
    };
    list.print(&rows)?;
    let left = found.iter().filter(|one| !one.repaired).count();
    if left > 0 {
        fail!("{left} of {} differences are left", found.len());
    }
    Ok(())
}

fn state(one: &Difference) -> String {
    match (one.repaired, one.error.as_str(), one.repairable) {
        (true, ..) => "repaired".to_owned(),
        (_, "", true) => "repairable".to_owned(),
        (_, "", false) => "yours to decide".to_owned(),
        (_, error, _) => format!("not repaired: {error}"),
    }
}
