//! The table on the terminal.

use std::time::Duration;

use serde_json::Value;

use super::Line;
use super::figures::Figures;
use crate::failure::Result;
use crate::format::{List, Row};
use crate::output;
use crate::units;

/// Between two looks at the figures, which come once a second.
pub const REFRESH: Duration = Duration::from_millis(500);
const ID_WIDTH: usize = 12;

const TABLE: &str =
    "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";
const HEADINGS: &[(&str, &str)] = &[
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

/// How and where the lines are shown.
pub struct Screen {
    format: Option<String>,
    whole_ids: bool,
    /// Each table is written over the one before.
    redraw: bool,
}

impl Screen {
    /// # Errors
    /// The template is wrong.
    pub fn new(format: Option<&str>, whole_ids: bool, redraw: bool) -> Result<Screen> {
        let screen = Screen {
            format: format.map(str::to_owned),
            whole_ids,
            redraw,
        };
        screen.text(&[])?;
        Ok(screen)
    }

    pub fn show(&self, lines: &[Line]) -> Result {
        let text = self.text(lines)?;
        if self.redraw {
            output::print(&over(&text));
        } else {
            output::print(&text);
        }
        Ok(())
    }

    fn text(&self, lines: &[Line]) -> Result<String> {
        let list = List {
            format: self.format.as_deref(),
            table: TABLE,
            headings: HEADINGS,
        };
        let rows: Vec<Row> = lines.iter().map(|line| self.row(line)).collect();
        list.text(&rows)
    }

    fn row(&self, line: &Line) -> Row {
        let nothing = Figures::default();
        let figures = line.figures.as_ref().unwrap_or(&nothing);
        let id = match self.whole_ids {
            true => figures.id.as_str(),
            false => figures.id.get(..ID_WIDTH).unwrap_or(&figures.id),
        };
        let or = |text: String, unknown: &str| {
            Value::from(match line.figures {
                Some(_) => text,
                None => unknown.to_owned(),
            })
        };
        let both = |first: u64, second: u64| format!("{} / {}", decimal(first), decimal(second));
        Row::new(vec![
            ("Container", Value::from(line.container.clone())),
            ("ID", or(id.to_owned(), "--")),
            ("Name", or(figures.name.clone(), "--")),
            ("CPUPerc", or(format!("{:.2}%", figures.cpu_percent), "--")),
            (
                "MemUsage",
                or(
                    format!(
                        "{} / {}",
                        units::binary_size(figures.memory as f64),
                        units::binary_size(figures.memory_limit as f64)
                    ),
                    "-- / --",
                ),
            ),
            ("MemPerc", or(format!("{:.2}%", figures.memory_percent), "--")),
            ("NetIO", or(both(figures.received, figures.sent), "--")),
            ("BlockIO", or(both(figures.read, figures.written), "--")),
            ("PIDs", or(figures.pids.to_string(), "--")),
        ])
    }
}

fn decimal(bytes: u64) -> String {
    units::size(i64::try_from(bytes).unwrap_or(i64::MAX), 3)
}

/// From the corner of the screen on, clearing what the table before left at the end of each line and below the last one.
fn over(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    out.push_str("\x1b[H");
    for line in text.lines() {
        out.push_str(line);
        out.push_str("\x1b[K\n");
    }
    out.push_str("\x1b[J");
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_container_without_figures_has_dashes() {
        let screen = Screen::new(None, false, false).unwrap();
        let known = Figures {
            id: "0123456789abcdef".into(),
            name: "web".into(),
            cpu_percent: 1.234,
            memory: 1 << 20,
            memory_limit: 1 << 30,
            memory_percent: 0.098,
            received: 1500,
            pids: 3,
            running: true,
            ..Figures::default()
        };
        let lines = [
            Line {
                container: "web".into(),
                figures: Some(known),
            },
            Line {
                container: "new".into(),
                figures: None,
            },
        ];
        let text = screen.text(&lines).unwrap();
        let mut found = text.lines();
        assert!(
            found
                .next()
                .unwrap()
                .starts_with("CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT")
        );
        let words: Vec<&str> = found.next().unwrap().split_whitespace().collect();
        assert_eq!(
            words,
            [
                "0123456789ab",
                "web",
                "1.23%",
                "1MiB",
                "/",
                "1GiB",
                "0.10%",
                "1.5kB",
                "/",
                "0B",
                "0B",
                "/",
                "0B",
                "3"
            ]
        );
        assert!(found.next().unwrap().contains("-- / --"));
        assert_eq!(over("a\nb\n"), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
