//! The processes of a container, as `ps` on the host shows them.
//!
//! What everybody asks for, `ps -ef`, is read from `/proc` here: no process is started, and it works where there is no
//! `ps`. With other options the host's own `ps` is run and its lines are filtered, as Docker does.

mod full;

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use super::Container;
use super::state::{Denied, Request};
use crate::Engine;
use crate::error::{Error, Result};
use crate::events::EventKind;

/// What `ps` is called with when nobody says otherwise.
const DEFAULT_ARGUMENTS: &str = "-ef";
/// How long `ps` may take.
const PS_LIMIT: Duration = Duration::from_secs(10);
/// More than a machine full of processes makes.
const MAX_OUTPUT: usize = 64 << 20;

/// A table of processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Top {
    pub titles: Vec<String>,
    pub processes: Vec<Vec<String>>,
}

impl Engine {
    /// Lists the processes of a running container with the columns that `arguments` ask `ps` for.
    ///
    /// # Errors
    /// It does not run, `ps` refuses its arguments or is not there, or shows no process ids.
    pub async fn top(&self, container: &Arc<Container>, arguments: &str) -> Result<Top> {
        let arguments = if arguments.trim().is_empty() {
            DEFAULT_ARGUMENTS
        } else {
            arguments
        };
        check(arguments)?;
        let cgroup = {
            let inner = container.lock();
            match inner.record.status.phase.admit(Request::Top) {
                Err(Denied::NotRunning) => return Err(Error::NotRunning(container.id.clone())),
                _ => container.admit(&inner, Request::Top)?,
            }
            let run = inner.run.as_ref().map(|run| run.cgroup.clone());
            run.ok_or_else(|| Error::NotRunning(container.id.clone()))?
        };
        let pids = self.blocking(move |engine| Ok(engine.cgroups.pids(&cgroup)?)).await?;
        let top = if arguments.split_whitespace().eq([DEFAULT_ARGUMENTS]) {
            self.blocking(move |_| full::listing(&pids)).await?
        } else {
            filter(&ps(arguments).await?, &pids)?
        };
        self.journal.record(
            EventKind::Container,
            "top",
            container.id.as_str(),
            container.event_attributes(),
        );
        Ok(top)
    }
}

/// A column of another kind under the title of the process ids would let through what is not the container's.
fn check(arguments: &str) -> Result<()> {
    for word in arguments.split_whitespace() {
        for part in word.split(',') {
            if let Some((field, title)) = part.split_once('=')
                && title.trim_start().starts_with("PID")
                && field.trim_start_matches("-o") != "pid"
            {
                return Err(Error::invalid(format!("specifying \"{field}={title}\" is not allowed")));
            }
        }
    }
    Ok(())
}

/// The output of the host's `ps`.
async fn ps(arguments: &str) -> Result<String> {
    let mut command = tokio::process::Command::new("ps");
    command
        .args(arguments.split_whitespace())
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = match tokio::time::timeout(PS_LIMIT, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::Unsupported {
                feature: "listing processes with other options than -ef on a machine without `ps`".to_owned(),
            });
        }
        Ok(Err(error)) => return Err(Error::io("run ps")(error)),
        Err(_) => {
            return Err(Error::io("run ps")(std::io::ErrorKind::TimedOut.into()));
        }
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().find(|line| !line.trim().is_empty());
        return Err(Error::invalid(format!(
            "error running ps: {}",
            first.unwrap_or("it failed").trim()
        )));
    }
    let kept = &output.stdout[..output.stdout.len().min(MAX_OUTPUT)];
    Ok(String::from_utf8_lossy(kept).into_owned())
}

/// The lines of a listing whose process is one of `pids`. A line that has no number belongs to the one above it: threads
/// are shown so.
fn filter(listing: &str, pids: &[i32]) -> Result<Top> {
    let mut lines = listing.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let Some(column) = titles.iter().position(|title| title == "PID") else {
        return Err(Error::invalid("Couldn't find PID field in ps output"));
    };
    let mut processes = Vec::new();
    let mut ours = false;
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.get(column) {
            None => continue,
            Some(&"-") => {}
            Some(word) => match word.parse::<i32>() {
                Ok(pid) => ours = pids.binary_search(&pid).is_ok(),
                Err(_) => return Err(Error::invalid(format!("Unexpected pid '{word}' in ps output"))),
            },
        }
        if ours {
            // The last column has spaces of its own.
            let split = words.len().min(titles.len().saturating_sub(1));
            let (single, rest) = words.split_at(split);
            let mut row: Vec<String> = single.iter().map(|word| (*word).to_owned()).collect();
            row.push(rest.join(" "));
            processes.push(row);
        }
    }
    Ok(Top { titles, processes })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_of_other_processes_are_dropped() {
        let listing = "USER PID COMMAND\nroot 1 init of all\nroot 7 sleep 10\nroot - sleep 10\nroot 8 x\nroot - x\n";
        let top = filter(listing, &[7]).unwrap();
        assert_eq!(top.titles, ["USER", "PID", "COMMAND"]);
        assert_eq!(top.processes, [["root", "7", "sleep 10"], ["root", "-", "sleep 10"]]);
        assert!(filter("USER COMMAND\nroot init\n", &[1]).is_err());
        assert!(filter("PID\nx\n", &[1]).is_err());
    }

    #[test]
    fn nothing_stands_under_a_false_title() {
        for bad in ["-o ppid=PID", "-eo user,uid=PID", "-opgid=PID"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        for good in ["aux", "-eo pid,ppid,comm", "-o pid=PID", "-o user=NAME"] {
            assert!(check(good).is_ok(), "{good}");
        }
    }

    proptest! {
        #[test]
        fn any_listing_shows_only_what_is_asked_for(text in r"(PID|USER|[0-9]{1,3}|-| |\n|x){0,60}", pid in 1i32..200) {
            if let Ok(top) = filter(&text, &[pid]) {
                let column = top.titles.iter().position(|title| title == "PID").unwrap();
                let shown = |row: &Vec<String>| {
                    let cell = row[column].split(' ').next().unwrap_or_default().to_owned();
                    cell == "-" || cell.parse::<i32>() == Ok(pid)
                };
                prop_assert!(top.processes.iter().all(shown));
            }
        }
    }
}
