//! The commands and flags of a command line, as its own help tells them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use harness::process::Run;

/// Flags by command; a command that only holds others is none.
pub type Commands = BTreeMap<String, BTreeSet<String>>;

/// Flags that every command has, and `--help`.
const GLOBAL: &[&str] = &[
    "config",
    "context",
    "debug",
    "help",
    "host",
    "log-level",
    "tls",
    "tlscacert",
    "tlscert",
    "tlskey",
    "tlsverify",
    "version",
];

struct Help {
    commands: Vec<String>,
    flags: BTreeSet<String>,
    /// The management form where this is a short one: `container run` of `run`.
    long: Option<String>,
}

pub fn commands(program: &Path) -> Commands {
    let mut found = Commands::new();
    walk(program, &[], &mut found);
    found
}

fn walk(program: &Path, words: &[&str], found: &mut Commands) {
    let help = help(program, words);
    for command in &help.commands {
        walk(program, &[words, &[command]].concat(), found);
    }
    if help.commands.is_empty() {
        // Short forms are the same command under another name.
        let name = help.long.unwrap_or_else(|| words.join(" "));
        found.entry(name).or_default().extend(help.flags);
    }
}

fn help(program: &Path, words: &[&str]) -> Help {
    let output = Run::new(program, &[words, &["--help"]].concat())
        .env("COLUMNS", "200")
        .env("NO_COLOR", "1")
        .output();
    parse(&output.ok(), words)
}

fn parse(text: &str, words: &[&str]) -> Help {
    let mut help = Help {
        commands: Vec::new(),
        flags: BTreeSet::new(),
        long: None,
    };
    let mut section = "";
    for line in text.lines() {
        if !line.starts_with(' ') {
            section = line.split(':').next().unwrap_or_default();
            continue;
        }
        let first = line.split_whitespace().next().unwrap_or_default();
        if section == "Aliases" {
            let names = line.split(',').filter_map(|name| name.trim().split_once(' '));
            let names: Vec<&str> = names.map(|(_, name)| name).collect();
            let longest = names.iter().max_by_key(|name| (name.split(' ').count(), name.len()));
            // `docker image rm` has `image remove` beside it: the first of those with two words is the name.
            let count = longest.map_or(0, |name| name.split(' ').count());
            help.long = names
                .iter()
                .find(|name| name.split(' ').count() == count)
                .map(|name| (*name).to_owned());
        } else if section.to_lowercase().contains("commands") {
            let indent = line.len() - line.trim_start().len();
            // Plugins of the client have a star behind their names.
            let command = !first.ends_with('*') && first.starts_with(|c: char| c.is_ascii_lowercase());
            if indent == 2 && command && first != "help" {
                help.commands.push(first.to_owned());
            }
        } else if let Some(flag) = flag(line)
            && (words.is_empty() || !GLOBAL.contains(&flag))
        {
            help.flags.insert(flag.to_owned());
        }
    }
    help
}

/// `  -m, --memory bytes  …` and `      --memory-swap …`; a description that goes on in the next line is no flag.
fn flag(line: &str) -> Option<&str> {
    let indent = line.len() - line.trim_start().len();
    let text = line.trim_start();
    let text = match text.split_once(", --") {
        Some((short, rest)) if short.len() == 2 && short.starts_with('-') => rest,
        _ => text.strip_prefix("--").filter(|_| indent <= 6)?,
    };
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .unwrap_or(text.len());
    Some(&text[..end]).filter(|name| !name.is_empty())
}
