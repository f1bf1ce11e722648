//! Pull and load progress. On a terminal one line per layer, redrawn in place; elsewhere each change of status once, as
//! docker prints it.

use std::collections::HashMap;
use std::io::Write;

use agent_api::message::Message;

use crate::terminal;
use crate::units;

/// Shows the records of a message stream.
pub struct Progress {
    out: Out,
    /// Lines that are redrawn, by id; the number is the line's place from the top.
    lines: HashMap<String, usize>,
    drawn: usize,
    live: bool,
    width: usize,
    height: usize,
}

/// Where progress goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Out {
    Stdout,
    Stderr,
}

impl Progress {
    pub fn new(out: Out) -> Progress {
        let live = match out {
            Out::Stdout => terminal::stdout_is_terminal(),
            Out::Stderr => terminal::stderr_is_terminal(),
        };
        let size = match out {
            Out::Stdout => terminal::size(),
            Out::Stderr => terminal::stderr_size(),
        };
        let (rows, columns) = size.unwrap_or((24, 80));
        let (width, height) = (usize::from(columns).max(20), usize::from(rows));
        Progress {
            out,
            lines: HashMap::new(),
            drawn: 0,
            live,
            width,
            height,
        }
    }

    /// One record.
    pub fn show(&mut self, message: &Message) {
        if !message.stream.is_empty() {
            self.write(&message.stream);
            return;
        }
        let counting = message
            .progress_detail
            .as_ref()
            .filter(|detail| detail.current > 0 || detail.total > 0);
        let bar = counting.map(|detail| {
            bar(
                detail.current,
                detail.total,
                detail.hide_counts,
                &detail.units,
                self.width,
            )
        });
        if message.id.is_empty() && bar.is_none() {
            if !message.status.is_empty() {
                // A plain line ends the block that is redrawn.
                self.lines.clear();
                self.drawn = 0;
                self.write(&format!("{}\n", message.status));
            }
            return;
        }
        let mut line = match message.id.as_str() {
            "" => message.status.clone(),
            id => format!("{id}: {}", message.status),
        };
        if let Some(bar) = &bar {
            line.push(' ');
            line.push_str(bar);
        }
        if !self.live {
            // A file or pipe gets what changed, not how far it is.
            if bar.is_none() {
                self.write(&(line + "\n"));
            }
            return;
        }
        match self.lines.get(&message.id) {
            // A line that has scrolled away cannot be reached any more.
            Some(&at) if self.drawn - at >= self.height => {}
            Some(&at) => {
                let up = self.drawn - at;
                self.write(&format!("\x1b[{up}A\x1b[2K\r{}\x1b[{up}B\r", clip(&line, self.width)));
            }
            None => {
                self.lines.insert(message.id.clone(), self.drawn);
                self.drawn += 1;
                self.write(&(clip(&line, self.width) + "\n"));
            }
        }
    }

    fn write(&self, text: &str) {
        match self.out {
            Out::Stdout => crate::output::print(text),
            Out::Stderr => {
                let _ = std::io::stderr().write_all(text.as_bytes());
            }
        }
    }
}

/// A line that wraps would spoil the redrawing.
fn clip(line: &str, width: usize) -> String {
    line.chars().take(width.saturating_sub(1)).collect()
}

/// `[=====>      ]  12.3MB/29.5MB`
fn bar(current: i64, total: i64, hide_counts: bool, units: &str, width: usize) -> String {
    let count = |value: i64| {
        if units.is_empty() {
            units::size(value, 4)
        } else {
            format!("{value} {units}")
        }
    };
    if total <= 0 || current > total {
        return count(current);
    }
    let cells: usize = if width > 110 { 50 } else { 25 };
    let filled = ((current as f64 / total as f64) * cells as f64) as usize;
    let arrow = if filled < cells { ">" } else { "" };
    let gauge = format!(
        "[{}{arrow}{}]",
        "=".repeat(filled),
        " ".repeat(cells - filled - arrow.len())
    );
    match hide_counts {
        true => gauge,
        false => format!("{gauge} {:>8}/{}", count(current), count(total)),
    }
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn bars_fill() {
        assert_eq!(bar(0, 100, true, "", 80), "[>                        ]");
        assert_eq!(bar(100, 100, true, "", 80), "[=========================]");
        assert_eq!(bar(50, 100, false, "", 80), "[============>            ]      50B/100B");
        assert_eq!(bar(7, 0, false, "", 80), "7B");
        assert_eq!(bar(7, 5, false, "", 80), "7B");
        assert_eq!(
            bar(3, 4, false, "files", 80).trim_start_matches(['[', '=', '>', ' ', ']']),
            "3 files/4 files"
        );
    }
}
