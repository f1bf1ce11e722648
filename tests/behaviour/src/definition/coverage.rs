//! What works, what comes later and what is refused, in two committed tables: `docs/coverage/api.md` for each operation and
//! parameter of Docker's API and ours, `docs/coverage/cli.md` for each command and flag of both command lines.
//!
//! The tables are kept by hand; what holds them to the truth is here: no row is missing or too many, and every test that is
//! named exists.

use std::collections::{BTreeMap, BTreeSet};

use super::repository;

/// What a row says.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// With the names of tests.
    Works(Vec<String>),
    /// The issue.
    Later(u32),
    /// The message.
    Refused(String),
}

/// The rows of a table by their first two columns: `` | `run` | `--memory` | works | `a_test` | ``.
pub fn table(file: &str) -> BTreeMap<(String, String), State> {
    let path = repository(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        // A message may have a bar in it, escaped as Markdown wants it.
        let line = line.replace("\\|", "\u{1}");
        let cells: Vec<String> = line
            .trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().replace('\u{1}', "|"))
            .collect();
        let [what, part, state, rest] = &cells[..] else {
            panic!("{file}: not four columns: {line}");
        };
        let quoted = || rest.split('`').skip(1).step_by(2).map(str::to_owned);
        let state = match state.as_str() {
            "works" => State::Works(quoted().collect()),
            "later" => {
                let issue = rest.strip_prefix("issue ").and_then(|number| number.parse().ok());
                State::Later(issue.unwrap_or_else(|| panic!("{file}: no issue: {line}")))
            }
            "refused" => State::Refused(quoted().next().unwrap_or_else(|| panic!("{file}: no message: {line}"))),
            _ => panic!("{file}: neither works, later nor refused: {line}"),
        };
        let key = (what.trim_matches('`').to_owned(), part.trim_matches('`').to_owned());
        assert!(!rows.contains_key(&key), "{file}: twice: {line}");
        rows.insert(key, state);
    }
    rows
}

/// The rows that `wanted` has and the table has not, the other way round, and what names no test that there is.
pub fn faults(file: &str, wanted: &BTreeSet<(String, String)>) -> Vec<String> {
    let rows = table(file);
    let known = crate::test_names();
    let mut faults = Vec::new();
    for (what, part) in wanted {
        if !rows.contains_key(&(what.clone(), part.clone())) {
            faults.push(format!("{file} lacks a row: {what} {part}"));
        }
    }
    for ((what, part), state) in &rows {
        if !wanted.contains(&(what.clone(), part.clone())) {
            faults.push(format!("{file} has a row of nothing: {what} {part}"));
        }
        let tests = match state {
            State::Works(tests) => tests,
            // Those before are closed.
            State::Later(issue) if *issue < 4 => {
                faults.push(format!(
                    "{file} waits for issue {issue}, which is closed: {what} {part}"
                ));
                continue;
            }
            State::Later(_) | State::Refused(_) => continue,
        };
        if tests.is_empty() {
            faults.push(format!("{file} names no test: {what} {part}"));
        }
        for test in tests.iter().filter(|test| !known.contains(test.as_str())) {
            faults.push(format!("{file} names a test that is not there: {test}"));
        }
    }
    faults
}
