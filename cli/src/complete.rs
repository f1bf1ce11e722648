//! What may come next on a command line that is being typed: commands, flags, and names that the daemon knows.
//!
//! The scripts of all shells ask the same hidden command, `iechor __complete WORD...`, with the words so far and the one
//! that is being typed; it answers a candidate per line, a tab and what it is about behind it. The line `:files` asks the
//! shell for names of files.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Arg, ArgAction, Command};
use client::Filters;

use crate::cli::{Cli, Globals};
use crate::commands::{self, COMMANDS, Entry, GROUPS};
use crate::failure::{Failure, Result};
use crate::parse;

/// The command that the scripts call.
pub const COMMAND: &str = "__complete";
/// Asks the shell for files.
pub const FILES: &str = ":files";
/// A daemon that does not answer must not hold up whoever is typing.
const PATIENCE: Duration = Duration::from_secs(2);

/// A candidate and what it is about.
type Candidate = (String, String);

/// What a word stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Containers(Which),
    Images,
    Volumes,
    Networks,
    Contexts,
    Words(&'static [&'static str]),
    Files,
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    Running,
    Stopped,
}

/// The answer to `words`, of which the last is being typed.
pub fn answer(words: Vec<OsString>) -> String {
    let words: Vec<String> = words
        .into_iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let (typed, before) = words
        .split_last()
        .map_or((String::new(), &[][..]), |(last, rest)| (last.clone(), rest));
    let mut text = String::new();
    for (name, about) in candidates(before, &typed).unwrap_or_default() {
        if name.starts_with(&typed) || name == FILES {
            text.push_str(&name);
            if !about.is_empty() {
                text.push('\t');
                text.push_str(about.lines().next().unwrap_or_default());
            }
            text.push('\n');
        }
    }
    text
}

fn candidates(before: &[String], typed: &str) -> Result<Vec<Candidate>> {
    let globals = parse::prepare(parse::globals(Command::new("iechor")));
    let front = front(before, &globals);
    let (flags, words) = before.split_at(front);
    if let Some(flag) = pending(flags, &globals) {
        return names(wanted_by_flag(flag, None), flags);
    }
    let spelled: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some((first, _)) = spelled.split_first() else {
        return Ok(match typed.starts_with('-') {
            true => flags_of(&globals),
            false => tops(),
        });
    };
    if let Some((entry, used)) = commands::find(&spelled) {
        return of_command(entry, &words[used..], typed, flags);
    }
    let is_group = words.len() == 1 && GROUPS.iter().any(|(group, _)| group == first);
    let members = COMMANDS.iter().filter(|entry| is_group && entry.group == *first);
    Ok(members
        .map(|entry| (entry.name.to_owned(), entry.about.to_owned()))
        .collect())
}

/// How many of the words are global flags and their values.
fn front(words: &[String], globals: &Command) -> usize {
    let mut at = 0;
    while let Some(word) = words.get(at).filter(|word| word.starts_with('-')) {
        at += match find_flag(globals, word) {
            Some(flag) if takes_value(flag) && !word.contains('=') => 2,
            _ => 1,
        };
    }
    at.min(words.len())
}

fn tops() -> Vec<Candidate> {
    let groups = GROUPS
        .iter()
        .map(|(name, about)| ((*name).to_owned(), (*about).to_owned()));
    let tops = COMMANDS
        .iter()
        .filter_map(|entry| entry.top.map(|top| (top.to_owned(), entry.about.to_owned())));
    let mut all: Vec<Candidate> = groups.chain(tops).collect();
    all.sort_unstable();
    all
}

fn of_command(entry: &Entry, words: &[String], typed: &str, globals: &[String]) -> Result<Vec<Candidate>> {
    let command = parse::prepare(entry.command(entry.name));
    if let Some(flag) = pending(words, &command) {
        return names(wanted_by_flag(flag, Some(entry)), globals);
    }
    let place = positionals(words, &command);
    if typed.starts_with('-') && place.is_some_and(|place| place == 0 || !ends_flags(entry)) {
        return Ok(flags_of(&command));
    }
    let wanted = match place {
        Some(place) => wanted_at(entry, &command, place),
        // Behind `--`, or the command of a container: only the user knows.
        None => Wanted::Files,
    };
    let mut found = names(wanted, globals)?;
    // Those that were named already are not meant again.
    found.retain(|(name, _)| !words.contains(name));
    Ok(found)
}

/// How many words before stand for themselves; none when what follows is another command line.
fn positionals(words: &[String], command: &Command) -> Option<usize> {
    let (mut place, mut skip) = (0, false);
    for word in words {
        if std::mem::take(&mut skip) {
            continue;
        }
        match word.as_str() {
            "--" => return None,
            flag if flag.starts_with('-') && flag.len() > 1 => {
                let takes = find_flag(command, flag).is_some_and(takes_value);
                skip = takes && !flag.contains('=');
            }
            _ => place += 1,
        }
    }
    Some(place)
}

/// Whether flags behind the first word are another program's.
fn ends_flags(entry: &Entry) -> bool {
    matches!(entry.name, "run" | "create" | "exec" | "top") && entry.group == "container"
}

/// The flag whose value is being typed.
fn pending<'a>(words: &[String], command: &'a Command) -> Option<&'a Arg> {
    let last = words
        .last()
        .filter(|word| word.starts_with('-') && !word.contains('='))?;
    // `-it` is two flags; the last one may want a value.
    find_flag(command, last).filter(|flag| takes_value(flag))
}

fn find_flag<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let word = word.split('=').next().unwrap_or(word);
    command.get_arguments().find(|flag| match word.strip_prefix("--") {
        Some(long) => flag.get_long() == Some(long),
        None => flag.get_short().is_some() && flag.get_short() == word.chars().next_back(),
    })
}

fn takes_value(flag: &Arg) -> bool {
    matches!(flag.get_action(), ArgAction::Set | ArgAction::Append) && !flag.is_require_equals_set()
}

fn flags_of(command: &Command) -> Vec<Candidate> {
    let flags = command.get_arguments().filter(|flag| !flag.is_hide_set());
    flags
        .filter_map(|flag| {
            let about = flag.get_help().map(ToString::to_string).unwrap_or_default();
            Some((format!("--{}", flag.get_long()?), about))
        })
        .collect()
}

fn wanted_by_flag(flag: &Arg, entry: Option<&Entry>) -> Wanted {
    let in_group = |group| entry.is_some_and(|entry| entry.group == group);
    match flag.get_long().unwrap_or_default() {
        "context" | "from" => Wanted::Contexts,
        "network" if in_group("container") => Wanted::Networks,
        "volumes-from" | "link" => Wanted::Containers(Which::All),
        "volume" => Wanted::Volumes,
        "pull" => Wanted::Words(&["always", "missing", "never"]),
        "restart" => Wanted::Words(&["always", "no", "on-failure", "unless-stopped"]),
        "type" => Wanted::Words(&["container", "image", "network", "volume"]),
        "log-level" => Wanted::Words(&["debug", "error", "fatal", "info", "warn"]),
        _ => match flag
            .get_value_names()
            .and_then(|names| names.first())
            .map(|name| name.as_str())
        {
            Some("FILE" | "FOLDER" | "PATH") => Wanted::Files,
            _ => Wanted::Nothing,
        },
    }
}

/// By what the command's help calls it: `CONTAINER`, or `IMAGE [COMMAND] [ARG...]` for the words of one list.
fn wanted_at(entry: &Entry, command: &Command, place: usize) -> Wanted {
    let all: Vec<&Arg> = command.get_positionals().collect();
    let Some(last) = all.len().checked_sub(1) else {
        return Wanted::Nothing;
    };
    let argument = all[place.min(last)];
    let is_list = matches!(argument.get_action(), ArgAction::Append);
    if place > last && !is_list {
        return Wanted::Nothing;
    }
    if place > last && argument.is_trailing_var_arg_set() {
        return Wanted::Files;
    }
    let called = argument.get_value_names().and_then(|names| names.first());
    match called.and_then(|names| names.split(' ').next()).unwrap_or_default() {
        "CONTAINER" => Wanted::Containers(match entry.name {
            "attach" | "exec" | "kill" | "pause" | "port" | "restart" | "stats" | "stop" | "top" | "unpause" => {
                Which::Running
            }
            "start" => Which::Stopped,
            _ => Which::All,
        }),
        // A new name is nobody's yet.
        "CONTEXT" if matches!(entry.name, "create" | "import") => Wanted::Nothing,
        "IMAGE" => Wanted::Images,
        "VOLUME" => Wanted::Volumes,
        "NETWORK" => Wanted::Networks,
        "CONTEXT" => Wanted::Contexts,
        "SHELL" => Wanted::Words(&["bash", "fish", "zsh"]),
        "FILE" | "FOLDER" | "PATH" | "SOURCE" | "DESTINATION" | "COMMAND" | "ARGUMENT" => Wanted::Files,
        _ => Wanted::Nothing,
    }
}

/// Asks whoever knows; a daemon that cannot be reached knows nothing.
fn names(wanted: Wanted, globals: &[String]) -> Result<Vec<Candidate>> {
    match wanted {
        Wanted::Nothing => return Ok(Vec::new()),
        Wanted::Files => return Ok(vec![(FILES.to_owned(), String::new())]),
        Wanted::Words(words) => return Ok(words.iter().map(|word| ((*word).to_owned(), String::new())).collect()),
        _ => {}
    }
    let front = parse::prepare(parse::globals(Command::new("iechor"))).no_binary_name(true);
    let matches = front.try_get_matches_from(globals)?;
    let cli = Cli::new(<Globals as clap::FromArgMatches>::from_arg_matches(&matches)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(async { tokio::time::timeout(PATIENCE, ask(&cli, wanted)).await });
    runtime.shutdown_background();
    asked.map_err(|_| Failure::new("the daemon does not answer"))?
}

async fn ask(cli: &Cli, wanted: Wanted) -> Result<Vec<Candidate>> {
    let none = Filters::new();
    let mut found: Vec<Candidate> = match wanted {
        Wanted::Containers(which) => {
            let all = cli
                .client()?
                .containers(which != Which::Running, None, false, &none)
                .await?;
            let is_meant = |state: &str| match which {
                Which::All | Which::Running => true,
                Which::Stopped => !matches!(state, "running" | "paused" | "restarting"),
            };
            let containers = all.into_iter().filter(|container| is_meant(&container.state));
            containers
                .flat_map(|container| {
                    let about = format!("{}, {}", container.image, container.status);
                    let names = container.names.into_iter();
                    names.map(move |name| (name.trim_start_matches('/').to_owned(), about.clone()))
                })
                .collect()
        }
        Wanted::Images => {
            let images = cli.client()?.images(false, false, &none).await?;
            let tags = images.into_iter().flat_map(|image| image.repo_tags);
            tags.filter(|tag| tag != "<none>:<none>")
                .map(|tag| (tag, String::new()))
                .collect()
        }
        Wanted::Volumes => {
            let volumes = cli.client()?.volumes(&none).await?.volumes;
            volumes.into_iter().map(|volume| (volume.name, volume.driver)).collect()
        }
        Wanted::Networks => {
            let networks = cli.client()?.networks(&none).await?;
            networks
                .into_iter()
                .map(|network| (network.name, network.driver))
                .collect()
        }
        Wanted::Contexts => {
            let contexts = cli.contexts()?.list()?.into_iter();
            let named = contexts.map(|context| (context.name, context.endpoints.docker.host));
            named.chain([("default".to_owned(), String::new())]).collect()
        }
        Wanted::Words(_) | Wanted::Files | Wanted::Nothing => Vec::new(),
    };
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(line: &str) -> Vec<String> {
        let text = answer(line.split(' ').map(OsString::from).collect());
        let first = |line: &str| line.split('\t').next().unwrap_or_default().to_owned();
        text.lines().map(first).collect()
    }

    #[test]
    fn commands_and_groups() {
        assert_eq!(names("cont"), ["container", "context"]);
        assert_eq!(names("volume in"), ["inspect"]);
        assert_eq!(names("--debug -H unix:///x vers"), ["version"]);
        assert!(names("").contains(&"run".to_owned()));
        assert!(names("no-such x").is_empty());
    }

    #[test]
    fn flags_and_their_values() {
        assert_eq!(names("--tlsv"), ["--tlsverify"]);
        assert_eq!(names("ps --no-t"), ["--no-trunc"]);
        assert_eq!(names("run --pull "), ["always", "missing", "never"]);
        assert_eq!(names("run --pull ne"), ["never"]);
        assert_eq!(names("container run --restart un"), ["unless-stopped"]);
        assert_eq!(names("run --env-file "), [FILES]);
        // Behind the image, everything is the container's.
        assert_eq!(names("run -it busybox --no"), [FILES]);
        assert_eq!(names("completion "), ["bash", "fish", "zsh"]);
        assert!(names("completion bash ").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn any_line_has_an_answer(line in "[ -~]{0,40}") {
            // No daemon is asked: none is there.
            let mut words: Vec<OsString> = vec!["-H".into(), "unix:///nonexistent".into()];
            words.extend(line.split(' ').map(OsString::from));
            let _ = answer(words);
        }
    }
}
