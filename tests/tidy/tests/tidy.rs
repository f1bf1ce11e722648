//! The tree keeps its own rules: who may depend on whom, where `unsafe` is, what is named after this machine.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Every edge between packages of the workspace that is allowed. A new one is a decision: it belongs here, and
/// into ARCHITECTURE.md.
const EDGES: &[(&str, &[&str])] = &[
    ("agent-api", &[]),
    (
        "agent-engine",
        &[
            "agent-logs",
            "agent-registry",
            "agent-store",
            "network",
            "runtime",
            "runtime-sys",
            "runtime-systemd",
        ],
    ),
    ("agent-logs", &[]),
    ("agent-registry", &[]),
    ("agent-rest", &["agent-api", "agent-engine", "runtime-sys"]),
    ("agent-store", &["runtime-sys"]),
    ("cli-client", &["agent-api"]),
    ("cri", &["agent-engine", "cri-api"]),
    ("cri-api", &[]),
    ("iechor", &["agent-api", "cli-client"]),
    (
        "iechor-runtime",
        &["runtime", "runtime-container", "runtime-sys", "runtime-systemd"],
    ),
    ("iechor-shim", &["runtime", "runtime-container", "runtime-sys"]),
    ("iechord", &["agent-engine", "agent-rest", "cri", "runtime-sys"]),
    ("network", &["runtime-sys"]),
    ("runtime", &["runtime-sys"]),
    ("runtime-container", &["runtime", "runtime-sys", "runtime-systemd"]),
    ("runtime-probe", &["runtime-sys"]),
    ("runtime-sys", &[]),
    ("runtime-systemd", &["runtime"]),
    ("tests-behaviour", &["cri-api", "tests-harness"]),
    ("tests-harness", &[]),
    ("tests-runtime", &["runtime-sys", "tests-harness"]),
    ("tests-tidy", &[]),
];

/// Lines after which a file is asked which second idea moved in. Not a limit: longer files are listed, and only a
/// file of twice this length fails.
const LONG: usize = 400;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn git_files() -> Vec<PathBuf> {
    let out = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(out.status.success(), "git ls-files");
    let text = String::from_utf8(out.stdout).unwrap();
    let files = text.split_terminator('\0').map(|name| root().join(name));
    files.filter(|path| path.is_file()).collect()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn rust_files() -> Vec<(String, String)> {
    let files = git_files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    files
        .map(|path| (shown(&path), std::fs::read_to_string(&path).unwrap()))
        .collect()
}

fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let out = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn dependencies_point_one_way() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let Some(allowed) = allowed.get(name) else {
            wrong.push(format!(
                "{name} is not in the list of tests/tidy: who may it depend on?"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let target = dependency["name"].as_str().unwrap();
            // What only tests need is no edge of the architecture.
            if dependency["kind"] != "dev" && names.contains(target) && !allowed.contains(&target) {
                wrong.push(format!("{name} depends on {target}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "edges that nobody decided on:\n  {}",
        wrong.join("\n  ")
    );
}

#[test]
fn unsafe_is_in_runtime_sys_alone() {
    let metadata = metadata();
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        if package["name"] == "runtime-sys" {
            continue;
        }
        for target in package["targets"].as_array().unwrap() {
            let path = PathBuf::from(target["src_path"].as_str().unwrap());
            let text = std::fs::read_to_string(&path).unwrap();
            let kind = target["kind"][0].as_str().unwrap();
            // Tests and examples need no attribute as long as they have nothing that it would forbid.
            let fine = match kind {
                "lib" | "bin" => text.contains("#![forbid(unsafe_code)]"),
                _ => !text.contains(&["unsafe", " {"].concat()) && !text.contains(&["unsafe", " fn"].concat()),
            };
            if !fine {
                wrong.push(shown(&path));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "without #![forbid(unsafe_code)]:\n  {}",
        wrong.join("\n  ")
    );
}

#[test]
fn every_unsafe_block_says_why_it_is_right() {
    let mut wrong = Vec::new();
    for (name, text) in rust_files() {
        if !name.starts_with("runtime/sys/") {
            continue;
        }
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if code.contains(&["unsafe", " {"].concat()) {
                let before = lines[number.saturating_sub(12)..=number].join("\n");
                if !before.contains("SAFETY:") {
                    wrong.push(format!("{name}:{}", number + 1));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "unsafe without a SAFETY comment:\n  {}",
        wrong.join("\n  ")
    );
}

#[test]
fn nothing_names_this_machine() {
    // Put together here, or this file would find itself.
    let places = [
        ["/wo", "rk/"].concat(),
        ["/opt/", "peers"].concat(),
        ["/run/", "peers"].concat(),
        ["process", "_api"].concat(),
    ];
    let mut wrong = Vec::new();
    for path in git_files() {
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            if places.iter().any(|place| line.contains(place.as_str())) {
                wrong.push(format!("{}:{}: {}", shown(&path), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "paths of one machine:\n  {}", wrong.join("\n  "));
}

#[test]
fn files_are_of_a_length_to_read() {
    let mut long: Vec<(usize, String)> = rust_files()
        .into_iter()
        .map(|(name, text)| (text.lines().count(), name))
        .collect();
    long.retain(|(lines, _)| *lines > LONG);
    long.sort_by(|one, other| other.cmp(one));
    for (lines, name) in &long {
        println!("{lines:5} {name}");
    }
    let too_long: Vec<_> = long.iter().filter(|(lines, _)| *lines > 2 * LONG).collect();
    assert!(too_long.is_empty(), "more than one idea lives in {too_long:?}");
}

#[test]
fn no_work_is_left_for_later_in_the_code() {
    let words = [
        ["to", "do!("].concat(),
        ["unimple", "mented!("].concat(),
        ["d", "bg!("].concat(),
        ["FIX", "ME"].concat(),
    ];
    let mut wrong = Vec::new();
    for (name, text) in rust_files() {
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word.as_str())) {
                wrong.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "unfinished:\n  {}", wrong.join("\n  "));
}

#[test]
fn every_named_point_of_death_is_driven_by_a_test() {
    let mut named = BTreeSet::new();
    let mut driven = BTreeSet::new();
    for (path, text) in rust_files() {
        if path.starts_with("tests/") {
            if path.ends_with("failpoints.rs") {
                let rows = text.lines().filter_map(|line| line.trim().strip_prefix("(\""));
                driven.extend(rows.filter_map(|row| Some(row.split_once("\", Verb::")?.0.to_owned())));
            }
            continue;
        }
        for part in text.split("failpoint!(\"").skip(1) {
            let name = part.split('"').next().unwrap_or_default().to_owned();
            assert!(named.insert(name.clone()), "two points are called {name}");
        }
    }
    assert!(named.len() >= 30, "{} points", named.len());
    assert_eq!(named, driven);
}

#[test]
fn ignored_tests_have_a_reason() {
    let bare = ["#[ig", "nore]"].concat();
    let wrong: Vec<_> = rust_files()
        .into_iter()
        .filter(|(_, text)| text.contains(&bare))
        .map(|(name, _)| name)
        .collect();
    assert!(wrong.is_empty(), "ignored without a reason in {wrong:?}");
}

#[test]
fn decisions_are_numbered_and_whole() {
    let folder = root().join("docs/adr");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".md") && name != "README.md")
        .collect();
    names.sort();
    for (index, name) in names.iter().enumerate() {
        assert_eq!(
            name.get(..5),
            Some(format!("{:04}-", index + 1).as_str()),
            "{name} breaks the numbering"
        );
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        for part in ["## Context", "## Decision", "## Alternatives", "## Consequences"] {
            assert!(text.contains(part), "{name} has no part {part:?}");
        }
    }
    assert!(!names.is_empty());
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    for path in git_files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
    {
        let text = std::fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.contains(' ') {
                continue;
            }
            if !path.parent().unwrap().join(target).exists() {
                wrong.push(format!("{}: {link}", shown(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "dead links:\n  {}", wrong.join("\n  "));
}

#[test]
fn scripts_have_the_right_to_run_and_stop_at_errors() {
    use std::os::unix::fs::PermissionsExt;
    let mut wrong = Vec::new();
    for path in git_files() {
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        if !text.starts_with("#!/bin/bash") {
            continue;
        }
        if std::fs::metadata(&path).unwrap().permissions().mode() & 0o111 == 0 {
            wrong.push(format!("{} cannot be executed", shown(&path)));
        }
        if !text.contains("\nset -") {
            wrong.push(format!("{} does not stop at errors", shown(&path)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
