//! `stats`: what containers use, as a table that keeps itself up to date.

mod figures;
mod screen;

use std::sync::{Arc, Mutex, PoisonError};

use client::{Client, EventQuery, Filters};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::cli::Cli;
use crate::failure::{Failure, Result};
use crate::terminal;
use figures::Figures;
use screen::Screen;

/// Show what containers use, as it changes.
#[derive(Debug, clap::Args)]
#[command(after_help = "  # Once, as JSON
  iechor stats --no-stream --format json

  # Names and memory
  iechor stats --format 'table {{.Name}}\\t{{.MemUsage}}'")]
pub struct Args {
    /// Show all containers, not only running ones
    #[arg(short, long)]
    all: bool,
    /// table [TEMPLATE], json, or a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show one set of figures and end
    #[arg(long)]
    no_stream: bool,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    /// All running ones, when none is named
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// One line of the table.
struct Line {
    /// As the user calls it.
    container: String,
    figures: Option<Figures>,
}

type Lines = Arc<Mutex<Vec<Line>>>;

fn locked(lines: &Lines) -> std::sync::MutexGuard<'_, Vec<Line>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    let format = args.format.as_deref().or(cli.config()?.stats_format.as_deref());
    let screen = Screen::new(format, args.no_trunc, terminal::stdout_is_terminal() && !args.no_stream)?;
    let every = args.containers.is_empty();
    // Listening begins before the list is made, so that nothing falls between the two.
    let events = match every && !args.no_stream {
        true => Some(watch(client, args.all).await?),
        false => None,
    };
    let names = match every {
        false => args.containers.clone(),
        true => {
            let mut filters = Filters::new();
            if !args.all {
                filters.add("status", "running");
            }
            let found = client.containers(args.all, None, false, &filters).await?;
            found.into_iter().map(|container| container.id).collect()
        }
    };
    let board = Board {
        client: client.clone(),
        lines: Lines::default(),
        stream: !args.no_stream,
        every,
    };
    let mut readers = JoinSet::new();
    for name in &names {
        board.add(name, &mut readers);
    }
    if args.no_stream {
        while let Some(read) = readers.join_next().await {
            read.map_err(|error| Failure::new(error.to_string()))??;
        }
        return screen.show(&locked(&board.lines));
    }
    live(&board, readers, events, &screen, every).await
}

/// Shows the table again and again until there is nothing left that could change it.
async fn live(
    board: &Board,
    mut readers: JoinSet<Result>,
    mut events: Option<client::Messages<Value>>,
    screen: &Screen,
    every: bool,
) -> Result {
    let mut ticks = tokio::time::interval(screen::REFRESH);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first figures take a moment; an empty table before them says nothing.
    ticks.reset();
    loop {
        tokio::select! {
            _ = ticks.tick() => screen.show(&locked(&board.lines))?,
            Some(read) = readers.join_next() => {
                let ended = read.map_err(|error| Failure::new(error.to_string()))?;
                if !every {
                    ended?;
                    if readers.is_empty() {
                        return screen.show(&locked(&board.lines));
                    }
                }
            }
            event = async {
                match &mut events {
                    Some(events) => events.next().await,
                    None => std::future::pending().await,
                }
            } => match event? {
                Some(event) => board.follow(&event, &mut readers),
                None => return Ok(()),
            },
        }
    }
}

/// Events that add a line or take one away.
async fn watch(client: &Client, all: bool) -> Result<client::Messages<Value>> {
    let mut filters = Filters::new();
    filters.add("type", "container");
    let wanted: &[&str] = if all {
        &["create", "destroy"]
    } else {
        &["start", "die", "destroy"]
    };
    for action in wanted {
        filters.add("event", *action);
    }
    let query = EventQuery {
        filters,
        ..EventQuery::default()
    };
    Ok(client.events(&query).await?)
}

struct Board {
    client: Client,
    lines: Lines,
    stream: bool,
    /// Whatever there is, not what was asked for by name.
    every: bool,
}

impl Board {
    fn add(&self, name: &str, readers: &mut JoinSet<Result>) {
        let mut lines = locked(&self.lines);
        if lines.iter().any(|line| line.container == name) {
            return;
        }
        lines.push(Line {
            container: name.to_owned(),
            figures: None,
        });
        let every = self.every;
        let (client, lines, name, stream) = (self.client.clone(), self.lines.clone(), name.to_owned(), self.stream);
        readers.spawn(async move {
            let mut samples = match client.container_stats(&name, stream).await {
                // Nobody asked for it by name, and it went after the list was made.
                Err(error) if every && error.is_not_found() => {
                    locked(&lines).retain(|line| line.container != name);
                    return Ok(());
                }
                opened => opened?,
            };
            while let Some(sample) = samples.next().await? {
                match locked(&lines).iter_mut().find(|line| line.container == name) {
                    Some(line) => line.figures = Some(Figures::of(&sample)),
                    None => return Ok(()),
                }
            }
            if stream {
                locked(&lines).retain(|line| line.container != name);
            }
            Ok(())
        });
    }

    fn follow(&self, event: &Value, readers: &mut JoinSet<Result>) {
        let Some(id) = event["Actor"]["ID"].as_str() else {
            return;
        };
        match event["Action"].as_str() {
            Some("create" | "start") => self.add(id, readers),
            _ => locked(&self.lines).retain(|line| line.container != id),
        }
    }
}
