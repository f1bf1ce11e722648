//! `events`: what happens in the daemon.

use client::{EventQuery, Filters};
use serde_json::Value;

use crate::cli::Cli;
use crate::failure::{Failure, Result};
use crate::inspected::Inspected;
use crate::output;
use crate::template::Template;
use crate::units;
use crate::values::time;

/// Show events as they happen.
#[derive(Debug, clap::Args)]
#[command(after_help = "  # Which containers died in the last hour
  iechor events --since 1h --until 0s --filter event=die")]
pub struct Args {
    /// Only some: type=…, event=…, container=…, image=…, label=…
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// json, or a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Begin in the past: a time, or a duration back from now
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    since: Option<String>,
    /// End at a time
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    until: Option<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let mut filters = Filters::new();
    for text in &args.filter {
        filters.parse(text).map_err(Failure::new)?;
    }
    let template = match args.format.as_deref() {
        None | Some("" | "json") => None,
        Some(format) => Some(Template::parse(format)?),
    };
    let query = EventQuery {
        since: args.since,
        until: args.until,
        filters,
    };
    let mut events = cli.client()?.events::<Value>(&query).await?;
    while let Some(event) = events.next().await? {
        match (&template, args.format.as_deref()) {
            (Some(template), _) => output::line(template.render(&named(event), &Inspected)?),
            (None, Some("json")) => output::line(event.to_string()),
            (None, _) => output::line(plain(&event)),
        }
    }
    Ok(())
}

/// Templates use Go's names of the members. The three old ones are gone from API 1.52 on; templates may still ask for them.
fn named(mut event: Value) -> Value {
    let old = matches!(event["Type"].as_str(), Some("container" | "image"));
    let of = |value: &Value| if old { value.clone() } else { Value::from("") };
    let image = if event["Type"] == "container" {
        &event["Actor"]["Attributes"]["image"]
    } else {
        &Value::Null
    };
    let members = [
        ("Time", event["time"].clone()),
        ("TimeNano", event["timeNano"].clone()),
        ("Scope", event["scope"].clone()),
        ("ID", of(&event["Actor"]["ID"])),
        ("Status", of(&event["Action"])),
        ("From", Value::from(image.as_str().unwrap_or_default())),
    ];
    if let Some(map) = event.as_object_mut() {
        map.extend(members.map(|(name, value)| (name.to_owned(), value)));
    }
    event
}

/// `2026-01-02T15:04:05.000000000Z container start ID (image=…, name=…)`
fn plain(event: &Value) -> String {
    let nanos = event["timeNano"].as_i64().unwrap_or_default();
    let mut line = units::nano_time(if nanos != 0 {
        nanos
    } else {
        event["time"].as_i64().unwrap_or_default() * 1_000_000_000
    });
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    line.push_str(&format!(
        " {} {} {}",
        text(&event["Type"]),
        text(&event["Action"]),
        text(&event["Actor"]["ID"])
    ));
    if let Some(attributes) = event["Actor"]["Attributes"].as_object().filter(|map| !map.is_empty()) {
        let mut pairs: Vec<String> = attributes
            .iter()
            .map(|(key, value)| format!("{key}={}", text(value)))
            .collect();
        pairs.sort();
        line.push_str(&format!(" ({})", pairs.join(", ")));
    }
    line
}
