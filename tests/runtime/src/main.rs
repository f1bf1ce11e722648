//! An OCI runtime's command line judged from outside: what the container and the kernel see of it.
//!
//! ```text
//! runtime-tests [--runtime PATH] SUITE... [-- PART-OF-A-TEST-NAME...]
//! runtime-tests --list            the suites
//! ```
//!
//! The runtime is `--runtime`, else `IECHOR_OCI_RUNTIME`, else `iechor-runtime` beside this program. Any runtime with
//! runc's command line may be judged, which is how the tests themselves are checked. crun wants no version 2
//! controllers beside version 1: `unshare -m sh -c 'umount /sys/fs/cgroup/unified; exec runtime-tests …'`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

mod bundle;
mod config;
mod console;
mod invoke;
mod rootfs;
mod world;

mod escapes;
mod oci;
mod random;

use std::process::ExitCode;

use harness::suite::Tally;
use world::World;

type Runner = fn(&[String]) -> Tally;

const SUITES: &[(&str, Runner)] = &[
    ("escapes", escapes),
    ("oci", oci),
    ("random", random),
    ("systemd", systemd),
];

/// What a hostile container, bundle or rootfs tries, and does not get.
fn escapes(filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name: "escapes",
        jobs: world::jobs(),
        tests: escapes::tests(),
    };
    suite.run(filters, World::start, World::finish)
}

/// Each field of the runtime specification, as the kernel shows it.
fn oci(filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name: "oci",
        jobs: world::jobs(),
        tests: oci::tests(),
    };
    suite.run(filters, World::start, World::finish)
}

/// The same, and more, with control groups that systemd makes.
fn systemd(filters: &[String]) -> Tally {
    if !std::path::Path::new("/run/systemd/system").is_dir() {
        println!("suite systemd: 0 passed, 0 failed, 1 skipped (systemd is not process 1 here)");
        return Tally::default();
    }
    world::with_systemd();
    let suite = harness::Suite {
        name: "systemd",
        jobs: world::jobs(),
        tests: oci::with_systemd(),
    };
    suite.run(filters, World::start, World::finish)
}

/// Whole configurations by chance, valid ones and broken ones.
fn random(filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name: "random",
        jobs: world::jobs(),
        tests: random::tests(),
    };
    suite.run(filters, random::start, random::finish)
}

fn main() -> ExitCode {
    // Test names and panics are reported by the suites; the default hook would print them a second time.
    std::panic::set_hook(Box::new(|_| {}));
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|first| first == "--runtime").is_some() {
        let Some(path) = arguments.next() else {
            eprintln!("--runtime wants a path");
            return ExitCode::from(2);
        };
        world::choose_runtime(path.into());
    }
    let names: Vec<String> = arguments.by_ref().take_while(|word| word != "--").collect();
    let filters: Vec<String> = arguments.collect();
    if names.is_empty() || names[0] == "--list" {
        for (name, _) in SUITES {
            println!("{name}");
        }
        return if names.is_empty() {
            ExitCode::from(2)
        } else {
            ExitCode::SUCCESS
        };
    }
    let mut total = Tally::default();
    for name in &names {
        let Some((_, run)) = SUITES.iter().find(|(known, _)| known == name) else {
            eprintln!("no suite is called {name}; --list shows them");
            return ExitCode::from(2);
        };
        total.add(run(&filters));
    }
    if total.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
