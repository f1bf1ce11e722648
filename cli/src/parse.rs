//! Command line → command. Two steps: the global flags in front, then the flags of the one command that was named; the
//! other commands' arguments are never built.
//!
//! clap does the parsing; what it would do differently from docker's parser is adjusted in [`prepare`].

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Args, Command};

use crate::cli::Globals;
use crate::commands::{self, Entry};
use crate::complete;
use crate::failure::{Failure, REFUSED, Result};
use crate::help;
use crate::plugins::{self, Plugin};

/// What the command line asks for.
pub enum Asked {
    Run {
        globals: Box<Globals>,
        entry: &'static Entry,
        matches: Box<ArgMatches>,
    },
    /// A command of another program.
    Plugin {
        globals: Box<Globals>,
        plugin: Plugin,
        words: Vec<OsString>,
    },
    /// Print this and be done.
    Say(String),
}

/// Reads the arguments, without the program's name.
pub fn parse(arguments: Vec<OsString>) -> Result<Asked> {
    let front = prepare(globals(Command::new("iechor")).allow_external_subcommands(true));
    let matches = match front.try_get_matches_from(std::iter::once(OsString::from("iechor")).chain(arguments)) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => return Ok(Asked::Say(help::top())),
        Err(error) => return Err(refusal(&error, "iechor", REFUSED)),
    };
    if matches.get_flag("version") {
        return Ok(Asked::Say(format!("iechor version {}\n", env!("CARGO_PKG_VERSION"))));
    }
    let globals = <Globals as clap::FromArgMatches>::from_arg_matches(&matches)?;
    let Some((name, rest)) = matches.subcommand() else {
        return Ok(Asked::Say(help::top()));
    };
    let rest: Vec<OsString> = rest.get_many::<OsString>("").into_iter().flatten().cloned().collect();
    let mut words = vec![name];
    words.extend(rest.iter().map_while(|word| word.to_str()));
    if name == complete::COMMAND {
        return Ok(Asked::Say(complete::answer(rest)));
    }
    if name == "help" {
        return help::of(&words[1..]).map(Asked::Say);
    }
    let Some((entry, used)) = commands::find(&words) else {
        if let Some(plugin) = plugins::find(name, globals.config.as_deref())? {
            return Ok(Asked::Plugin {
                globals: Box::new(globals),
                plugin,
                words: rest,
            });
        }
        return group_or_unknown(&words);
    };
    let title = words[..used].join(" ");
    // clap wants names that live as long as the program; this is one of them.
    let name = if used == 1 {
        entry.top.unwrap_or(entry.name)
    } else {
        entry.name
    };
    let command = prepare(entry.command(name)).no_binary_name(true);
    match command.try_get_matches_from(&rest[used - 1..]) {
        Ok(matches) => Ok(Asked::Run {
            globals: Box::new(globals),
            entry,
            matches: Box::new(matches),
        }),
        Err(error) if error.kind() == ErrorKind::DisplayHelp => Ok(Asked::Say(help::command(entry, &title))),
        Err(error) => {
            let mut failure = refusal(&error, &format!("iechor {title}"), 1);
            let usage = help::usage(entry, &title);
            failure.message = failure.message.replacen("\n\n", &format!("\n\n{usage}\n\n"), 1);
            Err(failure)
        }
    }
}

/// The flags in front of the command.
pub fn globals(command: Command) -> Command {
    Globals::augment_args(command).arg(
        Arg::new("version")
            .long("version")
            .short('v')
            .action(ArgAction::SetTrue)
            .help("Print version information and quit"),
    )
}

/// A group without a command, or a word that is no command.
fn group_or_unknown(words: &[&str]) -> Result<Asked> {
    if let Some((group, _)) = commands::GROUPS.iter().find(|(group, _)| *group == words[0]) {
        return match words.get(1) {
            None | Some(&"--help" | &"help") => Ok(Asked::Say(help::group(group))),
            Some(other) => Err(Failure::new(format!(
                "iechor: unknown command: iechor {group} {other}\n\n{}",
                help::hint(&format!("iechor {group}"))
            ))),
        };
    }
    Err(Failure::new(format!(
        "iechor: unknown command: iechor {}\n\n{}",
        words[0],
        help::hint("iechor")
    )))
}

/// Makes clap read flags as docker's parser does: `--flag=false` for switches, the last of several wins, whatever follows
/// a flag that wants a value is its value (`--memory-swap -1`), and `-h` is not help.
pub fn prepare(command: Command) -> Command {
    command
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .mut_args(|arg| match arg.get_action() {
            ArgAction::SetTrue => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .default_value("false")
                .value_parser(switch),
            ArgAction::Set | ArgAction::Append if !arg.is_positional() => arg.allow_hyphen_values(true),
            _ => arg,
        })
        .arg(
            Arg::new("help")
                .long("help")
                .action(ArgAction::Help)
                .help("Print usage"),
        )
}

/// The words Go takes for true and false.
fn switch(text: &str) -> std::result::Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("{other:?} is neither true nor false")),
    }
}

/// clap's error in short words, with the way to the help. A wrong flag is 125, as in docker; a wrong number of arguments 1.
fn refusal(error: &clap::Error, title: &str, otherwise: u8) -> Failure {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let argument = context(ContextKind::InvalidArg);
    // "--flag <VALUE>": the flag is enough.
    let flag = argument.split([' ', '[', '=']).next().unwrap_or_default();
    let (words, code) = match error.kind() {
        ErrorKind::UnknownArgument if argument.starts_with("--") => (format!("unknown flag: {argument}"), REFUSED),
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            (format!("unknown shorthand flag: {argument}"), REFUSED)
        }
        ErrorKind::UnknownArgument => (format!("iechor: '{title}' does not take the argument {argument:?}"), 1),
        ErrorKind::MissingRequiredArgument | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            (format!("iechor: '{title}' requires more arguments"), 1)
        }
        ErrorKind::InvalidValue | ErrorKind::NoEquals if context(ContextKind::InvalidValue).is_empty() => {
            (format!("flag needs an argument: {flag}"), REFUSED)
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let value = context(ContextKind::InvalidValue);
            let reason = std::error::Error::source(error)
                .map(|source| format!(": {source}"))
                .unwrap_or_default();
            (format!("invalid argument {value:?} for {flag:?} flag{reason}"), REFUSED)
        }
        ErrorKind::ArgumentConflict => (
            format!(
                "conflicting options: {argument} cannot be used with {}",
                context(ContextKind::PriorArg)
            ),
            REFUSED,
        ),
        _ => (
            error.to_string().trim_start_matches("error: ").trim_end().to_owned(),
            otherwise,
        ),
    };
    Failure {
        message: format!("{words}\n\n{}", help::hint(title)),
        code,
    }
}
