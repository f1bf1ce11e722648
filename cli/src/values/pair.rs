//! `key=value` lists: environment, labels, and the files that hold them.

use std::path::Path;

use agent_api::StringMap;

/// Environment: the files' lines first, then the flags. A name without `=` takes its value from our own environment.
///
/// # Errors
/// A file cannot be read, or a name is empty or has a blank in it.
pub fn environment(files: &[String], flags: &[String]) -> Result<Vec<String>, String> {
    let mut list = Vec::new();
    for path in files {
        for line in lines(path)? {
            list.extend(resolve(&line));
        }
    }
    for flag in flags {
        if flag.is_empty() || flag.starts_with('=') {
            return Err(format!("invalid environment variable: {flag}"));
        }
        // Without a value anywhere the name goes as it is: it takes the variable away from what the image sets.
        list.push(resolve(flag).unwrap_or_else(|| flag.clone()));
    }
    Ok(list)
}

fn resolve(entry: &str) -> Option<String> {
    if entry.contains('=') {
        return Some(entry.to_owned());
    }
    std::env::var(entry).ok().map(|value| format!("{entry}={value}"))
}

/// Labels: the files' lines first, then the flags.
///
/// # Errors
/// As [`environment`].
pub fn labels(files: &[String], flags: &[String]) -> Result<StringMap, String> {
    let mut labels = StringMap::new();
    for path in files {
        // As docker reads them: a line without `=` gives nothing.
        labels.extend(
            lines(path)?
                .iter()
                .filter(|line| line.contains('='))
                .map(|line| split(line)),
        );
    }
    for flag in flags {
        if flag.starts_with('=') || flag.is_empty() {
            return Err(format!("invalid label {flag:?}: the name is missing"));
        }
        labels.extend([split(flag)]);
    }
    Ok(labels)
}

/// `key=value`; without `=` the value is empty.
pub fn split(entry: &str) -> (String, String) {
    let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
    (key.to_owned(), value.to_owned())
}

/// A map of which every entry must have a value.
///
/// # Errors
/// An entry has no `=`, or no name.
pub fn map(flag: &str, entries: &[String]) -> Result<StringMap, String> {
    entries
        .iter()
        .map(|entry| match entry.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(format!("invalid value {entry:?} for {flag}: expected KEY=VALUE")),
        })
        .collect()
}

/// A file's lines without comments and empty ones.
fn lines(path: &str) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(Path::new(path)).map_err(|error| format!("cannot read {path}: {error}"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut list = Vec::new();
    for (number, line) in text.lines().enumerate() {
        // Blanks at the end belong to the value.
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() {
            return Err(format!("{path}, line {}: no variable name in {line:?}", number + 1));
        }
        if name.contains(char::is_whitespace) {
            return Err(format!(
                "{path}, line {}: variable '{name}' contains whitespaces",
                number + 1
            ));
        }
        list.push(line.to_owned());
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_come_first_and_names_are_looked_up() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("env");
        std::fs::write(&file, "\u{feff}# note\n\n  A=1 \nHOME\nNOT_SET_ANYWHERE\nB=x=y\n").unwrap();
        let list = environment(
            &[file.display().to_string()],
            &["A=2".to_owned(), "ALSO_NOT_SET".to_owned()],
        )
        .unwrap();
        let home = format!("HOME={}", std::env::var("HOME").unwrap());
        assert_eq!(list, ["A=1 ", &home, "B=x=y", "A=2", "ALSO_NOT_SET"]);
        std::fs::write(&file, "A B=1\n").unwrap();
        assert!(
            environment(&[file.display().to_string()], &[])
                .unwrap_err()
                .contains("whitespaces")
        );
        std::fs::write(&file, "=1\n").unwrap();
        assert!(environment(&[file.display().to_string()], &[]).is_err());
        assert!(environment(&[], &["=x".to_owned()]).is_err());
        assert!(environment(&["/nope".to_owned()], &[]).is_err());
    }

    #[test]
    fn labels_and_maps() {
        assert_eq!(
            labels(&[], &["a=b=c".to_owned(), "d".to_owned()])
                .unwrap()
                .into_iter()
                .collect::<Vec<_>>(),
            [("a".to_owned(), "b=c".to_owned()), ("d".to_owned(), String::new())]
        );
        assert!(map("--log-opt", &["a".to_owned()]).is_err());
        assert!(map("--log-opt", &["=a".to_owned()]).is_err());
    }
}
