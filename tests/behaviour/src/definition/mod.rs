//! The API's definition (`docs/openapi.json`) beside Docker's, and what of the API and of the command line works.

mod commands;
mod coverage;
mod facts;
mod operations;

use std::collections::BTreeSet;
use std::path::PathBuf;

use harness::suite::skip;
use harness::{Test, tests};
use serde_json::Value;

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        the_daemon_serves_its_own_definition,
        what_dockers_api_has_beyond_ours_is_listed,
        every_operation_and_parameter_is_accounted_for,
        every_command_and_flag_is_accounted_for,
        refused_ones_say_so,
        operations::what_is_not_there_is_said,
        operations::image_lists_have_digests_and_shared_sizes,
        operations::terminals_are_resized,
        operations::create_and_start_refuse_what_does_not_fit,
        operations::attach_shows_the_past_alone,
        operations::an_archive_becomes_an_image,
        operations::a_file_does_not_take_the_place_of_a_folder,
    ]
}

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path)
}

fn the_daemon_serves_its_own_definition(world: &World) {
    let reply = world.server.get("/v1.55/openapi.json").expect(200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(
        reply.text() == harness::definition::DOCUMENT,
        "another document than docs/openapi.json"
    );
    assert_eq!(reply.json()["openapi"], "3.1.0");
}

/// One line of `docs/coverage/docker-api.txt`: what is not as Docker has it, and why.
struct Difference {
    pattern: String,
    line: String,
}

fn differences() -> Vec<Difference> {
    let file = repository("docs/coverage/docker-api.txt");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (pattern, reason) = line
                .split_once(" | ")
                .unwrap_or_else(|| panic!("no reason in {line:?}"));
            let reason = reason.trim();
            let known = ["later: issue ", "refused: ", "differs: "];
            assert!(
                known
                    .iter()
                    .any(|word| reason.strip_prefix(word).is_some_and(|rest| !rest.is_empty())),
                "neither later, refused nor differs, with a reason: {line:?}"
            );
            Difference {
                pattern: pattern.trim().to_owned(),
                line: line.to_owned(),
            }
        })
        .collect()
}

/// Docker's definition, where it is.
fn dockers() -> Value {
    let file = std::env::var_os("IECHOR_DOCKER_API")
        .map_or_else(|| repository("../shared/reference/engine-api.yaml"), PathBuf::from);
    match std::fs::read_to_string(&file) {
        Ok(text) => serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())),
        Err(_) => skip("Docker's engine-api.yaml is not here (IECHOR_DOCKER_API says where it is)"),
    }
}

fn what_dockers_api_has_beyond_ours_is_listed(_: &World) {
    let ours = facts::facts(&serde_json::from_str(harness::definition::DOCUMENT).unwrap());
    let theirs = facts::facts(&dockers());
    assert!(
        ours.len() > 1000 && theirs.len() > 2000,
        "{} and {} facts",
        ours.len(),
        theirs.len()
    );
    let lacking: BTreeSet<&String> = theirs.difference(&ours).collect();
    let listed = differences();
    let mut wrong: Vec<String> = Vec::new();
    for fact in &lacking {
        if !listed.iter().any(|one| facts::fits(&one.pattern, fact)) {
            wrong.push(format!("not served, and not in docs/coverage/docker-api.txt: {fact}"));
        }
    }
    for one in &listed {
        if !lacking.iter().any(|fact| facts::fits(&one.pattern, fact)) {
            wrong.push(format!(
                "in docs/coverage/docker-api.txt, and no difference: {}",
                one.line
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Operations with their parameters, as rows: `("GET /info", "")`, `("GET /events", "?since")`.
fn operations(document: &Value) -> impl Iterator<Item = (String, String)> {
    facts::facts(document).into_iter().filter_map(|fact| {
        let mut words = fact.splitn(3, ' ').map(str::to_owned);
        let operation = format!("{} {}", words.next()?, words.next()?);
        let part = words.next().unwrap_or_default();
        // Members of bodies are told of where they differ, in the other file.
        let row = part.is_empty() || part.starts_with(['?', '#']);
        row.then_some((operation, part))
    })
}

fn every_operation_and_parameter_is_accounted_for(_: &World) {
    let mut wanted: BTreeSet<_> = operations(&serde_json::from_str(harness::definition::DOCUMENT).unwrap()).collect();
    wanted.extend(operations(&dockers()));
    let faults = coverage::faults("docs/coverage/api.md", &wanted);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn every_command_and_flag_is_accounted_for(_: &World) {
    let version = harness::process::Run::new(&harness::tools::docker(), &["--version"])
        .output()
        .ok();
    if !version.starts_with("Docker version 28.2") {
        skip("the table is of docker's client 28.2, and another one is here");
    }
    let mut wanted = BTreeSet::new();
    for program in [harness::tools::docker(), harness::tools::binary("iechor")] {
        for (command, flags) in commands::commands(&program) {
            wanted.extend(flags.into_iter().map(|flag| (command.clone(), format!("--{flag}"))));
            wanted.insert((command, String::new()));
        }
    }
    assert!(
        wanted.len() > 700,
        "the help of the command lines was not understood: {} rows",
        wanted.len()
    );
    let faults = coverage::faults("docs/coverage/cli.md", &wanted);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Whatever the tables call refused is asked for, and says what they say.
fn refused_ones_say_so(world: &World) {
    let (name, _) = world.sleeper(&[]);
    let mut wrong = Vec::new();
    let mut heard = BTreeSet::new();
    for ((command, flag), state) in coverage::table("docs/coverage/cli.md") {
        let coverage::State::Refused(message) = state else {
            continue;
        };
        // A command that is not there has no flags either: once is enough.
        if flag.is_empty() || message.contains(&flag) || !heard.contains(&message) {
            let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
            if !flag.is_empty() {
                // What reads as nothing that the flag takes is refused for that.
                let value = if flag == "--link-local-ip" { "169.254.1.1" } else { "1" };
                words.push(format!("{flag}={value}"));
            }
            match command.as_str() {
                "container run" | "container create" => words.extend(["busybox", "true"].map(str::to_owned)),
                "container update" => words.push(name.to_string()),
                _ => {}
            }
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let output = world.iechor(&words);
            if output.code == 0 || !output.err.contains(&message) {
                wrong.push(format!("{words:?} says {}: {}", output.code, output.err));
            }
        }
        heard.insert(message);
    }
    for ((operation, parameter), state) in coverage::table("docs/coverage/api.md") {
        let coverage::State::Refused(message) = state else {
            continue;
        };
        let (method, path) = operation.split_once(' ').unwrap();
        let path = match path.starts_with("/images/") {
            true => path.replace("{name}", "busybox"),
            false => path.replace("{id}", &name).replace("{name}", "nobody"),
        };
        let query = parameter
            .strip_prefix('?')
            .map(|name| format!("?{name}=1"))
            .unwrap_or_default();
        let reply = world.server.call(method, &format!("{path}{query}"), None);
        if reply.status < 400 || !reply.message().contains(&message) {
            wrong.push(format!(
                "{method} {path}{query} says {}: {}",
                reply.status,
                reply.message()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
