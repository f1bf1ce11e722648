//! The user's view of iEchor: every promise is asked for through a client and checked with the kernel.
//!
//! ```text
//! behaviour SUITE... [-- PART-OF-A-TEST-NAME...]
//! behaviour --list            the suites
//! behaviour --check-clean     fails if a test daemon has left anything on the machine
//! behaviour --beside NAME COMMAND…   a private daemon for another test program (tests/clients)
//! ```
//!
//! `IECHOR_TEST_HOST=unix:///…` runs the suites that any engine can pass against another one, to check the tests.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

mod shim_failpoints;
mod world;

mod archive;
mod bad_input;
mod beside;
mod changes;
mod client;
mod command_flags;
mod commits;
mod contexts;
mod copies;
mod cri;
mod daemon;
mod definition;
mod devices;
mod enospc;
mod enospc_changes;
mod failpoints;
mod faults;
mod flags;
mod image_failpoints;
mod image_imports;
mod image_platforms;
mod image_rules;
mod images;
mod isolation;
mod lifecycle;
mod limits;
mod links;
mod live;
mod log_records;
mod log_servers;
mod log_tls;
mod logs;
mod mounts;
mod networks;
mod node;
mod own_users;
mod power;
mod process;
mod pull;
mod quotas;
mod recovery;
mod registries;
mod runtimes;
mod scale;
mod schema;
mod security;
mod sessions;
mod shells;
mod store;
mod terminal;
mod users;
mod volume_copies;
mod volumes;

use harness::Test;
use harness::daemon::Cli;
use harness::suite::Tally;
use std::collections::BTreeSet;
use std::process::ExitCode;

use world::World;

type Runner = fn(&[String]) -> Tally;

const SUITES: &[(&str, Runner)] = &[
    ("docker", docker),
    ("iechor", iechor),
    ("terminal", terminals),
    ("bad-input", bad_input),
    ("client", client),
    ("definition", definition),
    ("daemon", daemon),
    ("pull", pull),
    ("cri", cri),
    ("store", store),
    ("archive", archive),
    ("node", node),
    ("recovery", recovery),
    ("faults", faults),
    ("enospc", full_disks),
    ("failpoints", failpoints),
    ("power", power),
    ("logs", own_logs),
    ("runtimes", other_runtimes),
    ("users", users),
    ("schema", schema),
    ("devices", by_name),
    ("scale", scale),
    ("v2", v2),
    ("quotas", sizes),
];

fn docker(filters: &[String]) -> Tally {
    everyday("docker", Cli::Docker, filters)
}

/// The same tests through our own client.
fn iechor(filters: &[String]) -> Tally {
    everyday("iechor", Cli::Iechor, filters)
}

fn everyday_tests() -> Vec<Test<World>> {
    let mut tests = process::tests();
    tests.extend(isolation::tests());
    tests.extend(limits::tests());
    tests.extend(mounts::tests());
    tests.extend(networks::tests());
    tests.extend(changes::tests());
    tests.extend(sessions::tests());
    tests.extend(lifecycle::tests());
    tests.extend(live::tests());
    tests.extend(logs::everyday());
    tests.extend(log_records::everyday());
    tests.extend(images::tests());
    tests.extend(copies::tests());
    tests.extend(commits::tests());
    tests.extend(image_rules::tests());
    tests.extend(image_imports::everyday());
    tests.extend(image_platforms::everyday());
    tests.extend(volumes::tests());
    tests.extend(registries::tests());
    tests.extend(flags::tests());
    tests.extend(command_flags::tests());
    tests.extend(own_users::tests());
    tests.extend(links::tests());
    tests.extend(security::tests());
    tests
}

fn everyday(name: &'static str, cli: Cli, filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name,
        jobs: world::jobs(),
        tests: everyday_tests(),
    };
    suite.run(filters, || World::start(cli), World::finish)
}

/// One at a time: each request is followed by a look at everything the daemon holds.
fn bad_input(filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name: "bad-input",
        jobs: 1,
        tests: bad_input::tests(),
    };
    suite.run(filters, || World::start(Cli::Docker), World::finish)
}

fn pull(filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name: "pull",
        jobs: world::jobs(),
        tests: pull::tests(),
    };
    let mut total = suite.run(filters, pull::Port::start, pull::Port::finish);
    let faults = harness::Suite {
        name: "pull-faults",
        jobs: 1,
        tests: pull::faults::tests(),
    };
    total.add(faults.run(filters, pull::Port::start, pull::Port::finish));
    total
}

fn client(filters: &[String]) -> Tally {
    let mut tests = client::tests();
    tests.extend(contexts::tests());
    tests.extend(shells::tests());
    tests.extend(volume_copies::tests());
    let suite = harness::Suite {
        name: "client",
        jobs: world::jobs(),
        tests,
    };
    suite.run(filters, || World::start(Cli::Iechor), World::finish)
}

/// What the API's definition says, and what it says beside Docker's.
fn definition(filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name: "definition",
        jobs: world::jobs(),
        tests: definition::tests(),
    };
    suite.run(filters, || World::start(Cli::Iechor), World::finish)
}

fn daemon(filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name: "daemon",
        jobs: world::jobs(),
        tests: daemon::tests(),
    };
    suite.run(filters, || daemon::Nothing, drop)
}

fn cri(filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name: "cri",
        jobs: world::jobs(),
        tests: cri::tests(),
    };
    suite.run(filters, cri::Node::start, cri::Node::finish)
}

/// One at a time: they look at what the store has on disk.
fn store(filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name: "store",
        jobs: 1,
        tests: store::tests(),
    };
    suite.run(filters, || World::start(Cli::Docker), World::finish)
}

fn archive(filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name: "archive",
        jobs: world::jobs(),
        tests: archive::tests(),
    };
    suite.run(filters, || World::start(Cli::Docker), World::finish)
}

/// Each with a daemon of its own.
fn node(filters: &[String]) -> Tally {
    let mut tests = node::tests();
    tests.extend(quotas::refusals());
    let suite = harness::Suite {
        name: "node",
        jobs: world::jobs(),
        tests,
    };
    suite.run(filters, || node::Nothing, drop)
}

fn recovery(filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name: "recovery",
        jobs: world::jobs(),
        tests: recovery::tests(),
    };
    suite.run(filters, || recovery::Nothing, drop)
}

fn faults(filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name: "faults",
        jobs: 1,
        tests: faults::tests(),
    };
    suite.run(filters, || faults::Nothing, drop)
}

/// One after the other, each with the daemon that the one before left.
fn failpoints(filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name: "failpoints",
        jobs: 1,
        tests: failpoints::tests(),
    };
    suite.run(filters, || failpoints::Nothing, drop)
}

/// A disk that loses what was not flushed.
fn power(filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name: "power",
        jobs: 1,
        tests: power::tests(),
    };
    suite.run(filters, || power::Nothing, drop)
}

/// Each with a daemon on a small disk of its own.
fn full_disks(filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name: "enospc",
        jobs: world::jobs(),
        tests: enospc::tests(),
    };
    suite.run(filters, || enospc::Nothing, drop)
}

/// Log drivers with servers, and disks that are full.
fn own_logs(filters: &[String]) -> Tally {
    let mut tests = logs::own();
    tests.extend(log_servers::tests());
    tests.extend(log_tls::tests());
    let suite = harness::Suite {
        name: "logs",
        jobs: world::jobs(),
        tests,
    };
    suite.run(filters, || logs::Nothing, drop)
}

/// The same questions to each of the runtimes that are there.
fn other_runtimes(filters: &[String]) -> Tally {
    let mut total = Tally::default();
    for (suite, runtime) in [("runtimes-runc", "runc"), ("runtimes-crun", "crun")] {
        let suite = harness::Suite {
            name: suite,
            jobs: world::jobs(),
            tests: runtimes::tests(),
        };
        total.add(suite.run(filters, || runtimes::Bench::start(runtime), runtimes::Bench::finish));
    }
    total
}

fn users(filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name: "users",
        jobs: world::jobs(),
        tests: users::tests(),
    };
    suite.run(filters, users::Remapped::start, users::Remapped::finish)
}

fn schema(filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name: "schema",
        jobs: 1,
        tests: schema::tests(),
    };
    suite.run(filters, || schema::Nothing, drop)
}

/// Devices that vendors describe, with our client and with docker's.
fn by_name(filters: &[String]) -> Tally {
    let mut total = Tally::default();
    for (name, cli) in [("devices", Cli::Iechor), ("devices-docker", Cli::Docker)] {
        let suite = harness::Suite {
            name,
            jobs: world::jobs(),
            tests: devices::tests(),
        };
        total.add(suite.run(filters, || devices::Vendor::start(cli), devices::Vendor::finish));
    }
    total
}

/// One after the other: they share many containers, and the last ones restart the daemon and stop them.
fn scale(filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name: "scale",
        jobs: 1,
        tests: scale::tests(),
    };
    suite.run(filters, scale::Crowd::start, scale::Crowd::finish)
}

/// What depends on the cgroup version or the kernel's age, for the emulated machine of `tests/qemu`.
fn v2(filters: &[String]) -> Tally {
    let mut tests = limits::tests();
    tests.extend(isolation::tests());
    tests.extend(networks::tests());
    let suite = harness::Suite {
        name: "v2",
        jobs: world::jobs(),
        tests,
    };
    let mut total = suite.run(filters, || World::start(Cli::Docker), World::finish);
    // crun runs on v2 alone.
    total.add(other_runtimes(filters));
    total
}

/// Each with a daemon on a disk that counts projects, for a kernel that does: that of the emulated machine.
fn sizes(filters: &[String]) -> Tally {
    let suite = harness::Suite {
        name: "quotas",
        jobs: world::jobs(),
        tests: quotas::tests(),
    };
    suite.run(filters, || node::Nothing, drop)
}

/// A real terminal, with our client and with docker's.
fn terminals(filters: &[String]) -> Tally {
    let mut total = Tally::default();
    for (name, cli) in [("terminal", Cli::Iechor), ("terminal-docker", Cli::Docker)] {
        let suite = harness::Suite {
            name,
            jobs: world::jobs(),
            tests: terminal::tests(),
        };
        total.add(suite.run(filters, || terminal::Desk::start(cli), terminal::Desk::finish));
    }
    total
}

/// The name of every test of every suite.
fn test_names() -> BTreeSet<&'static str> {
    fn of<T>(tests: Vec<Test<T>>) -> impl Iterator<Item = &'static str> {
        tests.into_iter().map(|test| test.name)
    }
    let mut names = BTreeSet::new();
    for tests in [
        everyday_tests(),
        bad_input::tests(),
        definition::tests(),
        client::tests(),
        contexts::tests(),
        shells::tests(),
        volume_copies::tests(),
        store::tests(),
        archive::tests(),
    ] {
        names.extend(of(tests));
    }
    names.extend(of(pull::tests()));
    names.extend(of(cri::tests()));
    names.extend(of(pull::faults::tests()));
    names.extend(of(daemon::tests()));
    names.extend(of(node::tests()));
    names.extend(of(quotas::refusals()));
    names.extend(of(quotas::tests()));
    names.extend(of(recovery::tests()));
    names.extend(of(faults::tests()));
    names.extend(of(logs::own()));
    names.extend(of(log_servers::tests()));
    names.extend(of(log_tls::tests()));
    names.extend(of(runtimes::tests()));
    names.extend(of(users::tests()));
    names.extend(of(devices::tests()));
    names.extend(of(terminal::tests()));
    names.extend(of(schema::tests()));
    names.extend(of(scale::tests()));
    names
}

fn main() -> ExitCode {
    // Test names and panics are reported by the suites; the default hook would print them a second time.
    std::panic::set_hook(Box::new(|_| {}));
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == "--check-clean") {
        return check_clean();
    }
    if arguments.peek().is_some_and(|first| first == "--beside") {
        let words: Vec<String> = arguments.skip(1).collect();
        return match words.split_first() {
            Some((name, command)) if !command.is_empty() => beside::run(name, command),
            _ => ExitCode::from(2),
        };
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

fn check_clean() -> ExitCode {
    let orphans = harness::leaks::reap_orphans();
    for tag in &orphans {
        eprintln!("the test daemon {tag} had not been cleaned up");
    }
    if orphans.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
