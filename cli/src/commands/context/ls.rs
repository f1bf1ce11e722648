//! `context ls`.

use serde_json::json;

use super::warn_of_environment;
use crate::cli::Cli;
use crate::contexts::DEFAULT;
use crate::failure::Result;
use crate::format::{List, Row};
use crate::output;

/// List contexts.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// table [TEMPLATE], json, or a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show only names
    #[arg(short, long)]
    quiet: bool,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let current = cli.context()?;
    let mut found = vec![(
        DEFAULT.to_owned(),
        "Current IECHOR_HOST based configuration".to_owned(),
        cli.default_host()?,
        String::new(),
    )];
    for context in cli.contexts()?.list()? {
        let host = context.endpoints.docker.host;
        found.push((context.name, context.metadata.description, host, String::new()));
    }
    if !found.iter().any(|(name, ..)| *name == current) {
        let words = format!("context {current:?}: context not found");
        found.push((current.clone(), String::new(), String::new(), words));
    }
    if args.quiet && args.format.is_none() {
        found.iter().for_each(|(name, ..)| output::line(name));
        return Ok(());
    }
    // The mark belongs to the table; to a template, the name is a name.
    let is_table = args.format.as_deref().is_none_or(|format| format.starts_with("table"));
    let rows: Vec<Row> = found
        .into_iter()
        .map(|(name, description, host, error)| {
            let is_current = name == current;
            let shown = if is_table && is_current {
                format!("{name} *")
            } else {
                name
            };
            Row::new(vec![
                ("Name", json!(shown)),
                ("Description", json!(description)),
                ("DockerEndpoint", json!(host)),
                ("Current", json!(is_current)),
                ("Error", json!(error)),
            ])
        })
        .collect();
    let list = List {
        format: args.format.as_deref(),
        table: "{{.Name}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
        headings: &[
            ("Name", "NAME"),
            ("Description", "DESCRIPTION"),
            ("DockerEndpoint", "ENDPOINT"),
            ("Current", "CURRENT"),
            ("Error", "ERROR"),
        ],
    };
    list.print(&rows)?;
    if current == DEFAULT {
        return Ok(());
    }
    warn_of_environment(cli);
    Ok(())
}
