//! `changes=` of import and commit: Dockerfile instructions that set an image's defaults, one for each line.

use std::collections::BTreeMap;

use agent_store::{Healthcheck, RunConfig};
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Applies every change in order.
///
/// # Errors
/// Docker's words for what is no change, or none of ours for one that says nothing.
pub fn apply(mut config: RunConfig, changes: &[String]) -> Result<RunConfig> {
    let mut command_set = false;
    for line in changes
        .iter()
        .flat_map(|change| change.lines())
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let (instruction, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let instruction = instruction.to_ascii_uppercase();
        one(&mut config, &instruction, rest.trim())?;
        // A command that the base brought was for the base's entrypoint.
        command_set |= instruction == "CMD";
        if instruction == "ENTRYPOINT" && !command_set {
            config.cmd = None;
        }
    }
    Ok(config)
}

fn one(config: &mut RunConfig, instruction: &str, rest: &str) -> Result<()> {
    if rest.is_empty() {
        return Err(Error::invalid(format!("{instruction} requires at least one argument")));
    }
    match instruction {
        "CMD" => config.cmd = Some(command(config, rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(config, rest)),
        "SHELL" => config.shell = Some(list(rest).ok_or_else(|| bad(instruction, rest, "a JSON array of strings"))?),
        "USER" => config.user = expanded(config, instruction, rest)?,
        "STOPSIGNAL" => {
            let signal = expanded(config, instruction, rest)?;
            if runtime::signal::parse(&signal).is_err() {
                return Err(Error::invalid(format!("invalid signal: {signal}")));
            }
            config.stop_signal = Some(signal);
        }
        "WORKDIR" => config.working_dir = directory(&config.working_dir, &expanded(config, instruction, rest)?),
        "ONBUILD" => config.on_build.get_or_insert_default().push(rest.to_owned()),
        "ENV" => {
            let set = pairs(config, instruction, rest)?;
            let env = config.env.get_or_insert_default();
            for (key, value) in set {
                let line = format!("{key}={value}");
                match env.iter_mut().find(|own| own.split('=').next() == Some(&key)) {
                    Some(own) => *own = line,
                    None => env.push(line),
                }
            }
        }
        "LABEL" => {
            let set = pairs(config, instruction, rest)?;
            config.labels.get_or_insert_default().extend(set);
        }
        "VOLUME" => {
            let paths = match list(rest) {
                Some(paths) => paths,
                None => words(config, rest, true).ok_or_else(|| bad(instruction, rest, "closed quotes"))?,
            };
            if paths.iter().any(|path| path.trim().is_empty()) {
                return Err(Error::invalid("VOLUME specified can not be an empty string"));
            }
            config
                .volumes
                .get_or_insert_default()
                .extend(paths.into_iter().map(|path| (path, json!({}))));
        }
        "EXPOSE" => {
            let wanted = words(config, rest, true).ok_or_else(|| bad(instruction, rest, "closed quotes"))?;
            let ports = config.exposed_ports.get_or_insert_default();
            for text in wanted {
                expose(ports, &text).ok_or_else(|| bad(instruction, &text, "PORT[-PORT][/PROTOCOL]"))?;
            }
        }
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(config, rest)?),
        other => return Err(Error::invalid(format!("{other} is not a valid change command"))),
    }
    Ok(())
}

fn bad(instruction: &str, text: &str, wanted: &str) -> Error {
    Error::invalid(format!("invalid change \"{instruction} {text}\": expected {wanted}"))
}

/// A JSON array of strings.
fn list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// The words as they are, or a line for the shell.
fn command(config: &RunConfig, text: &str) -> Vec<String> {
    list(text).unwrap_or_else(|| {
        let shell = config.shell.clone().filter(|shell| !shell.is_empty());
        let mut argv = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
        argv.push(text.to_owned());
        argv
    })
}

/// `[--interval=30s …] CMD …` or `NONE`.
fn healthcheck(config: &RunConfig, text: &str) -> Result<Healthcheck> {
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        rest = after.trim_start();
        let (key, value) = flag
            .split_once('=')
            .ok_or_else(|| bad("HEALTHCHECK", flag, "--FLAG=VALUE"))?;
        let time = || {
            duration(value)
                .filter(|nanos| *nanos == 0 || *nanos >= 1_000_000)
                .ok_or_else(|| bad("HEALTHCHECK", flag, "a duration such as 1m30s, of at least 1ms"))
        };
        match key {
            "interval" => check.interval = time()?,
            "timeout" => check.timeout = time()?,
            "start-period" => check.start_period = time()?,
            "start-interval" => check.start_interval = time()?,
            "retries" => {
                let retries = value.parse().ok().filter(|n: &i64| *n >= 0);
                check.retries = retries.ok_or_else(|| bad("HEALTHCHECK", flag, "a number"))?;
            }
            _ => return Err(Error::invalid(format!("Unknown flag: {key}"))),
        }
    }
    let (kind, line) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let line = line.trim();
    check.test = Some(match kind.to_ascii_uppercase().as_str() {
        "NONE" if line.is_empty() => vec!["NONE".to_owned()],
        "NONE" => return Err(Error::invalid("HEALTHCHECK NONE takes no arguments")),
        "CMD" if line.is_empty() => {
            return Err(Error::invalid("Missing command after HEALTHCHECK CMD"));
        }
        "CMD" => match list(line) {
            Some(argv) => [vec!["CMD".to_owned()], argv].concat(),
            None if config.shell.as_ref().is_some_and(|shell| !shell.is_empty()) => {
                [vec!["CMD".to_owned()], command(config, line)].concat()
            }
            None => vec!["CMD-SHELL".to_owned(), line.to_owned()],
        },
        other => {
            return Err(Error::invalid(format!(
                "Unknown type \"{other}\" in HEALTHCHECK (try CMD)"
            )));
        }
    });
    Ok(check)
}

/// Go's durations, in nanoseconds.
fn duration(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut total) = (text, 0.0f64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let nanos = match &unit[..end] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += amount * nanos;
        rest = &unit[end..];
    }
    (!text.is_empty() && total < i64::MAX as f64).then_some(total.round() as i64)
}

/// One word, with what it says of variables replaced.
fn expanded(config: &RunConfig, instruction: &str, text: &str) -> Result<String> {
    let words = words(config, text, false).ok_or_else(|| bad(instruction, text, "closed quotes"))?;
    Ok(words.into_iter().next().unwrap_or_default())
}

fn directory(before: &str, path: &str) -> String {
    match path.strip_prefix('/') {
        Some(_) => path.to_owned(),
        None => format!("{}/{path}", before.trim_end_matches('/')),
    }
}

fn expose(ports: &mut BTreeMap<String, Value>, text: &str) -> Option<()> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let (low, high) = range.split_once('-').unwrap_or((range, range));
    let (low, high): (u16, u16) = (low.parse().ok()?, high.parse().ok()?);
    if low == 0 || low > high || !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return None;
    }
    ports.extend((low..=high).map(|port| (format!("{port}/{protocol}"), json!({}))));
    Some(())
}

/// `KEY=value KEY2="a b"`, or the old `KEY the rest`.
fn pairs(config: &RunConfig, instruction: &str, text: &str) -> Result<Vec<(String, String)>> {
    let words = words(config, text, true).ok_or_else(|| bad(instruction, text, "closed quotes"))?;
    if !words.first().is_some_and(|word| word.contains('=')) {
        let (key, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| bad(instruction, text, "KEY=VALUE"))?;
        return Ok(vec![(key.to_owned(), expanded(config, instruction, value.trim())?)]);
    }
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(bad(instruction, word, "KEY=VALUE")),
        })
        .collect()
}

/// Words (or one, with its spaces) with quotes taken off and `$NAME`, `${NAME}`, `${NAME:-word}`, `${NAME:+word}` replaced
/// by what `ENV` says; nothing where a quote or a brace stays open.
fn words(config: &RunConfig, text: &str, split: bool) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let (mut word, mut started, mut quote) = (String::new(), !split, None);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (None, c) if split && c.is_whitespace() => {
                if std::mem::take(&mut started) {
                    words.push(std::mem::take(&mut word));
                }
            }
            (None, '"' | '\'') => (quote, started) = (Some(c), true),
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                word.push(characters.next()?);
                started = true;
            }
            (None | Some('"'), '$') => {
                started = true;
                word.push_str(&variable(config, &mut characters)?);
            }
            (_, c) => {
                word.push(c);
                started = true;
            }
        }
    }
    if quote.is_some() {
        return None;
    }
    if started {
        words.push(word);
    }
    Some(words)
}

/// What stands behind a dollar sign.
fn variable(config: &RunConfig, characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let lookup = |name: &str| {
        let mut lines = config.env.iter().flatten();
        let found = lines.find_map(|line| line.split_once('=').filter(|(key, _)| *key == name));
        found.map(|(_, value)| value.to_owned())
    };
    let braces = characters.next_if_eq(&'{').is_some();
    let mut name = String::new();
    while let Some(c) = characters.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
        name.push(c);
    }
    if !braces {
        // A lone dollar is one.
        return Some(if name.is_empty() {
            "$".to_owned()
        } else {
            lookup(&name).unwrap_or_default()
        });
    }
    let mut rest = String::new();
    loop {
        match characters.next()? {
            '}' => break,
            c => rest.push(c),
        }
    }
    let value = lookup(&name);
    match rest.split_at_checked(2) {
        _ if name.is_empty() => None,
        _ if rest.is_empty() => Some(value.unwrap_or_default()),
        Some((":-", word)) => Some(value.filter(|value| !value.is_empty()).unwrap_or(word.to_owned())),
        Some((":+", word)) => Some(
            value
                .filter(|value| !value.is_empty())
                .map_or(String::new(), |_| word.to_owned()),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn read(lines: &[&str]) -> std::result::Result<RunConfig, String> {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        apply(RunConfig::default(), &lines).map_err(|error| error.to_string())
    }

    #[test]
    fn instructions_set_the_defaults() {
        let config = read(&[
            r#"CMD ["echo", "a b"]"#,
            "entrypoint /run me",
            r#"ENV A=1 B="two words" A=3"#,
            "ENV OLD the form of old",
            r"LABEL a=b 'c d'=e\ f",
            "EXPOSE 80 90-91/udp",
            "USER 5:6",
            "WORKDIR /a",
            "WORKDIR b",
            r#"VOLUME ["/x"]"#,
            "VOLUME /y /z",
            "STOPSIGNAL INT",
            "ONBUILD RUN x",
        ])
        .unwrap();
        assert_eq!(config.cmd.unwrap(), ["echo", "a b"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "/run me"]);
        assert_eq!(config.env.unwrap(), ["A=3", "B=two words", "OLD=the form of old"]);
        let labels = config.labels.unwrap();
        assert_eq!((labels["a"].as_str(), labels["c d"].as_str()), ("b", "e f"));
        let ports: Vec<_> = config.exposed_ports.unwrap().into_keys().collect();
        assert_eq!(ports, ["80/tcp", "90/udp", "91/udp"]);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("5:6", "/a/b"));
        assert_eq!(
            config.volumes.unwrap().into_keys().collect::<Vec<_>>(),
            ["/x", "/y", "/z"]
        );
        assert_eq!(config.stop_signal.unwrap(), "INT");
        assert_eq!(config.on_build.unwrap(), ["RUN x"]);
    }

    #[test]
    fn health_checks_in_all_forms() {
        let check = |lines: &[&str]| read(lines).unwrap().healthcheck.unwrap();
        assert_eq!(check(&["HEALTHCHECK NONE"]).test.unwrap(), ["NONE"]);
        let full = check(&[
            "HEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=1h --start-interval=5ms --retries=4 CMD curl x | y",
        ]);
        assert_eq!(full.test.unwrap(), ["CMD-SHELL", "curl x | y"]);
        assert_eq!((full.interval, full.timeout), (90_000_000_000, 1_500_000_000));
        assert_eq!(
            (full.start_period, full.start_interval, full.retries),
            (3_600_000_000_000, 5_000_000, 4)
        );
        assert_eq!(
            check(&[r#"HEALTHCHECK CMD ["a", "b c"]"#]).test.unwrap(),
            ["CMD", "a", "b c"]
        );
        assert_eq!(
            check(&[r#"SHELL ["/bin/ash", "-c"]"#, "HEALTHCHECK CMD x y"])
                .test
                .unwrap(),
            ["CMD", "/bin/ash", "-c", "x y"]
        );
    }

    #[test]
    fn the_base_shows_through() {
        let base = RunConfig {
            cmd: Some(vec!["old".into()]),
            env: Some(vec!["PATH=/bin".into(), "A=1".into()]),
            ..RunConfig::default()
        };
        let with = |lines: &[&str]| {
            let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            apply(base.clone(), &lines).unwrap()
        };
        let config = with(&[
            "ENV PATH=$PATH:/x B=${A} C=${NO:-none}${A:+some} D='$A' E=\\$A F=$",
            "USER $A",
        ]);
        assert_eq!(
            config.env.unwrap(),
            ["PATH=/bin:/x", "A=1", "B=1", "C=nonesome", "D=$A", "E=$A", "F=$"]
        );
        assert_eq!(config.user, "1");
        assert_eq!(config.cmd.unwrap(), ["old"]);
        // The old command is no argument of the new entrypoint.
        assert_eq!(with(&["ENTRYPOINT [\"x\"]"]).cmd, None);
        assert_eq!(
            with(&["CMD y", "ENTRYPOINT [\"x\"]"]).cmd.unwrap(),
            ["/bin/sh", "-c", "y"]
        );
    }

    #[test]
    fn what_is_no_change_is_refused() {
        for (line, words) in [
            ("RUN x", "RUN is not a valid change command"),
            ("CMD", "CMD requires at least one argument"),
            ("SHELL sh", "a JSON array"),
            ("ENV A", "KEY=VALUE"),
            ("ENV =x", "KEY=VALUE"),
            ("ENV A=\"x", "closed quotes"),
            ("EXPOSE 0", "PORT"),
            ("EXPOSE 9-8", "PORT"),
            ("EXPOSE 80/icmp", "PORT"),
            ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
            ("HEALTHCHECK --interval=1 CMD x", "a duration"),
            ("HEALTHCHECK --timeout=1us CMD x", "at least 1ms"),
            ("HEALTHCHECK --colour=red CMD x", "Unknown flag: colour"),
            ("HEALTHCHECK CMD", "Missing command"),
            ("HEALTHCHECK TRY x", "Unknown type \"TRY\""),
            ("HEALTHCHECK NONE x", "no arguments"),
            ("STOPSIGNAL SIGNOTHING", "invalid signal: SIGNOTHING"),
            ("VOLUME [\"\"]", "empty string"),
            ("USER ${A", "closed quotes"),
        ] {
            let error = read(&[line]).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(ENV|EXPOSE|CMD|VOLUME|LABEL|USER|HEALTHCHECK --interval=|HEALTHCHECK CMD) ?[$\"'{}:\\\\A-Z=\\PC]{0,40}") {
            let _ = apply(RunConfig::default(), &[text]);
        }
    }
}
