//! `changes=` of import: Dockerfile instructions that set an image's defaults, one for each value.

use std::collections::BTreeMap;

use agent_engine::view::RunConfig;
use serde_json::{Value, json};

use crate::error::{ApiError, ApiResult};

/// Applies every change in order to an empty configuration.
pub fn apply(changes: &[String]) -> ApiResult<RunConfig> {
    let mut config = RunConfig::default();
    for line in changes
        .iter()
        .flat_map(|change| change.lines())
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let (instruction, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        one(&mut config, &instruction.to_ascii_uppercase(), rest.trim())?;
    }
    Ok(config)
}

fn one(config: &mut RunConfig, instruction: &str, rest: &str) -> ApiResult<()> {
    if rest.is_empty() {
        return Err(ApiError::bad(format!("{instruction} requires at least one argument")));
    }
    match instruction {
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)),
        "SHELL" => config.shell = Some(list(rest).ok_or_else(|| bad(instruction, rest, "a JSON array of strings"))?),
        "USER" => config.user = rest.to_owned(),
        "STOPSIGNAL" => config.stop_signal = Some(rest.to_owned()),
        "WORKDIR" => config.working_dir = directory(&config.working_dir, rest),
        "ONBUILD" => config.on_build.get_or_insert_default().push(rest.to_owned()),
        "ENV" => {
            let env = config.env.get_or_insert_default();
            for (key, value) in pairs(instruction, rest)? {
                env.retain(|own| own.split('=').next() != Some(&key));
                env.push(format!("{key}={value}"));
            }
        }
        "LABEL" => config.labels.get_or_insert_default().extend(pairs(instruction, rest)?),
        "VOLUME" => {
            let paths = list(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
            config
                .volumes
                .get_or_insert_default()
                .extend(paths.into_iter().map(|path| (path, json!({}))));
        }
        "EXPOSE" => {
            let ports = config.exposed_ports.get_or_insert_default();
            for text in rest.split_whitespace() {
                expose(ports, text).ok_or_else(|| bad(instruction, text, "PORT[-PORT][/PROTOCOL]"))?;
            }
        }
        "HEALTHCHECK" => return Err(ApiError::unsupported("HEALTHCHECK as a change on import")),
        other => return Err(ApiError::bad(format!("{other} is not a valid change command"))),
    }
    Ok(())
}

fn bad(instruction: &str, text: &str, wanted: &str) -> ApiError {
    ApiError::bad(format!("invalid change \"{instruction} {text}\": expected {wanted}"))
}

/// A JSON array of strings.
fn list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// The words as they are, or a line for the shell.
fn command(text: &str) -> Vec<String> {
    list(text).unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
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
fn pairs(instruction: &str, text: &str) -> ApiResult<Vec<(String, String)>> {
    let words = words(text).ok_or_else(|| bad(instruction, text, "closed quotes"))?;
    if !words.first().is_some_and(|word| word.contains('=')) {
        let (key, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| bad(instruction, text, "KEY=VALUE"))?;
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(bad(instruction, word, "KEY=VALUE")),
        })
        .collect()
}

/// Words with quotes taken off; nothing where a quote stays open.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let (mut word, mut started, mut quote) = (String::new(), false, None);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn read(lines: &[&str]) -> Result<RunConfig, String> {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        apply(&lines).map_err(|error| error.message)
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
        assert_eq!(config.env.unwrap(), ["B=two words", "A=3", "OLD=the form of old"]);
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
            ("HEALTHCHECK NONE", "not supported"),
        ] {
            let error = read(&[line]).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(ENV|EXPOSE|CMD|VOLUME|LABEL) \\PC{0,40}") {
            let _ = apply(&[text]);
        }
    }
}
