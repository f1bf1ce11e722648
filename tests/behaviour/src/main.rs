//! The user's view of iEchor: every promise is asked for through a client and checked with the kernel.
//!
//! ```text
//! behaviour SUITE... [-- PART-OF-A-TEST-NAME...]
//! behaviour --list            the suites
//! behaviour --check-clean     fails if a test daemon has left anything on the machine
//! ```
//!
//! `IECHOR_TEST_HOST=unix:///…` runs the suites that any engine can pass against another one, to check the tests.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

mod world;

mod isolation;
mod limits;
mod mounts;
mod networks;
mod process;
mod verbs;

use harness::suite::Tally;
use std::process::ExitCode;

use world::World;

type Runner = fn(&[String]) -> Tally;

const SUITES: &[(&str, Runner)] = &[
    ("docker", docker),
    ("iechor", iechor),
];

fn docker(filters: &[String]) -> Tally {
    everyday("docker", harness::daemon::Cli::Docker, filters)
}

/// The same tests through our own client.
fn iechor(filters: &[String]) -> Tally {
    everyday("iechor", harness::daemon::Cli::Iechor, filters)
}

fn everyday(name: &'static str, cli: harness::daemon::Cli, filters: &[String]) -> Tally {
    let mut tests = process::tests();
    tests.extend(isolation::tests());
    tests.extend(limits::tests());
    tests.extend(mounts::tests());
    tests.extend(networks::tests());
    tests.extend(verbs::tests());
    let suite = harness::Suite { name, jobs: world::jobs(), tests };
    suite.run(filters, || World::start(cli), World::finish)
}

fn main() -> ExitCode {
    // Test names and panics are reported by the suites; the default hook would print them a second time.
    std::panic::set_hook(Box::new(|_| {}));
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == "--check-clean") {
        return check_clean();
    }
    let names: Vec<String> = arguments.by_ref().take_while(|word| word != "--").collect();
    let filters: Vec<String> = arguments.collect();
    if names.is_empty() || names[0] == "--list" {
        for (name, _) in SUITES {
            println!("{name}");
        }
        return if names.is_empty() { ExitCode::from(2) } else { ExitCode::SUCCESS };
    }
    let mut total = Tally::default();
    for name in &names {
        let Some((_, run)) = SUITES.iter().find(|(known, _)| known == name) else {
            eprintln!("no suite is called {name}; --list shows them");
            return ExitCode::from(2);
        };
        total.add(run(&filters));
    }
    if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check_clean() -> ExitCode {
    let orphans = harness::leaks::reap_orphans();
    for tag in &orphans {
        eprintln!("the test daemon {tag} had not been cleaned up");
    }
    if orphans.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
