//! `--help`: the commands in groups at the top, and for each command its usage, flags under headings, and examples.

use clap::Command;

use crate::commands::{self, COMMANDS, Entry, GROUPS};
use crate::failure::{Failure, Result};
use crate::parse;
use crate::plugins;

/// The line under an error.
pub fn hint(title: &str) -> String {
    format!("Run '{title} --help' for more information")
}

/// `iechor --help`.
pub fn top() -> String {
    let mut text = String::from("Usage:  iechor [OPTIONS] COMMAND\n\nRun and manage containers\n");
    let mut section = |title: &str, rows: Vec<(&str, &str)>| {
        text.push_str(&format!("\n{title}:\n"));
        for (name, about) in rows {
            text.push_str(&format!("  {name:<12}{about}\n"));
        }
    };
    let tops = |common: bool| {
        let mut rows: Vec<_> = COMMANDS
            .iter()
            .filter(|entry| entry.common == common)
            .filter_map(|entry| entry.top.map(|top| (top, entry.about)))
            .collect();
        if !common {
            rows.sort_unstable();
        }
        rows
    };
    section("Common Commands", tops(true));
    section("Management Commands", GROUPS.to_vec());
    section("Commands", tops(false));
    let plugins = plugins::all(None);
    if !plugins.is_empty() {
        let rows = plugins
            .iter()
            .map(|plugin| (plugin.name.as_str(), plugin.about.as_str()));
        section("Commands of plugins", rows.collect());
    }
    let globals = parse::globals(Command::new("iechor"))
        .disable_help_flag(true)
        .disable_version_flag(true);
    text.push_str("\nGlobal Options:\n");
    text.push_str(&flags(globals));
    text.push_str("\nRun 'iechor COMMAND --help' for more information on a command.\n");
    text
}

/// The groups and commands at the top, each without what is in it: for the manual's first page.
pub fn tree() -> Command {
    let plain = |name: &'static str, about: &'static str| Command::new(name).about(about).disable_help_flag(true);
    let tops = COMMANDS.iter().filter_map(|entry| Some(plain(entry.top?, entry.about)));
    parse::globals(Command::new("iechor"))
        .about("Run and manage containers")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .subcommands(GROUPS.iter().map(|(name, about)| plain(name, about)))
        .subcommands(tops)
}

/// `iechor container --help`.
pub fn group(group: &str) -> String {
    let about = GROUPS
        .iter()
        .find(|(name, _)| *name == group)
        .map_or("", |(_, about)| about);
    let mut text = format!("Usage:  iechor {group} COMMAND\n\n{about}\n\nCommands:\n");
    let mut rows: Vec<_> = COMMANDS
        .iter()
        .filter(|entry| entry.group == group)
        .map(|entry| (entry.name, entry.about))
        .collect();
    rows.sort_unstable();
    for (name, about) in rows {
        text.push_str(&format!("  {name:<12}{about}\n"));
    }
    text.push_str(&format!(
        "\nRun 'iechor {group} COMMAND --help' for more information on a command.\n"
    ));
    text
}

/// `iechor help [COMMAND…]`.
pub fn of(words: &[&str]) -> Result<String> {
    match words {
        [] => Ok(top()),
        [name] if GROUPS.iter().any(|(group, _)| group == name) => Ok(group(name)),
        words => match commands::find(words) {
            Some((entry, used)) => Ok(command(entry, &words[..used].join(" "))),
            None => Err(Failure::new(format!(
                "iechor: unknown command: iechor {}\n\n{}",
                words.join(" "),
                hint("iechor")
            ))),
        },
    }
}

/// `iechor run --help`.
pub fn command(entry: &Entry, title: &str) -> String {
    let mut command = entry.command(entry.name).disable_help_flag(true);
    let mut text = format!("{}\n\n{}\n", usage(entry, title), entry.about);
    let spellings = entry.spellings();
    if spellings.len() > 1 {
        text.push_str(&format!("\nAliases:\n  {}\n", spellings.join(", ")));
    }
    let examples = command.get_after_help().map(ToString::to_string);
    command = command.after_help("");
    let flags = flags(command);
    text.push_str(&flags);
    if let Some(examples) = examples {
        text.push_str(&format!("\nExamples:\n{}\n", examples.trim_end()));
    }
    text
}

/// `Usage:  iechor run [OPTIONS] IMAGE …`
pub fn usage(entry: &Entry, title: &str) -> String {
    let command = entry.command(entry.name).disable_help_flag(true);
    let usage = command
        .get_overridden_usage()
        .map(ToString::to_string)
        .unwrap_or_else(|| {
            let flagged = command.get_arguments().any(|arg| !arg.is_positional());
            let mut usage = if flagged { "[OPTIONS]".to_owned() } else { String::new() };
            for arg in command.get_positionals() {
                let name = arg.get_value_names().map(|names| names.join(" ")).unwrap_or_default();
                let many = matches!(arg.get_action(), clap::ArgAction::Append);
                usage.push_str(&match (arg.is_required_set(), many) {
                    (true, false) => format!(" {name}"),
                    // Its name says already how many there are.
                    (true, true) if name.ends_with("...]") => format!(" {name}"),
                    (true, true) => format!(" {name} [{name}...]"),
                    (false, false) => format!(" [{name}]"),
                    (false, true) => format!(" [{name}...]"),
                });
            }
            usage
        });
    format!("Usage:  iechor {title} {}", usage.trim()).trim_end().to_owned()
}

/// The flags as clap lays them out, with their headings and without its headline.
fn flags(command: Command) -> String {
    let mut command = command.mut_args(|arg| match arg.get_action() {
        _ if arg.is_positional() => arg.hide(true),
        // The texts say what matters about defaults.
        clap::ArgAction::Set | clap::ArgAction::Append => arg.hide_default_value(true),
        _ => arg,
    });
    let text = command.render_help().to_string();
    // What follows clap's usage line begins with a heading: clap's own, or one of the flags' where each has one.
    let from_usage = text.find("Usage:").map_or(text.as_str(), |at| &text[at..]);
    match from_usage.split_once("\n\n") {
        Some((_, flags)) if !flags.trim().is_empty() => format!("\n{}\n", flags.trim_end()),
        _ => String::new(),
    }
}
