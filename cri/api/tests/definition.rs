//! Our definition beside that of Kubernetes, which is in a Go module. Without Go there is nothing to compare with.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

/// The module, and the version whose numbers we have.
const MODULE: &str = "k8s.io/cri-api@v0.37.2";
const FILE: &str = "pkg/apis/runtime/v1/api.proto";

/// Everything that matters on the wire, as lines: name of a message, enum or service → its members.
fn members(set: &FileDescriptorSet) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for file in set.file.iter().filter(|file| file.package() == "runtime.v1") {
        for message in &file.message_type {
            add_message("", message, &mut found);
        }
        for one in &file.enum_type {
            add_enum("", one, &mut found);
        }
        for service in &file.service {
            let calls = service.method.iter().map(|call| {
                format!(
                    "{} {} -> {} {} {}",
                    call.name(),
                    call.input_type(),
                    call.output_type(),
                    call.client_streaming(),
                    call.server_streaming()
                )
            });
            found.insert(service.name().to_owned(), sorted(calls));
        }
    }
    found
}

fn sorted(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<_> = lines.collect();
    lines.sort();
    lines
}

fn add_message(within: &str, message: &DescriptorProto, found: &mut BTreeMap<String, Vec<String>>) {
    let name = format!("{within}{}", message.name());
    let fields = message.field.iter().map(|field| {
        format!(
            "{} = {}: {:?} {:?} {}",
            field.name(),
            field.number(),
            field.label(),
            field.r#type(),
            field.type_name()
        )
    });
    found.insert(name.clone(), sorted(fields));
    for inner in &message.nested_type {
        add_message(&format!("{name}."), inner, found);
    }
    for inner in &message.enum_type {
        add_enum(&format!("{name}."), inner, found);
    }
}

fn add_enum(within: &str, one: &EnumDescriptorProto, found: &mut BTreeMap<String, Vec<String>>) {
    let values = one
        .value
        .iter()
        .map(|value| format!("{} = {}", value.name(), value.number()));
    found.insert(format!("{within}{}", one.name()), sorted(values));
}

/// Where Go has put the module, if there is Go and it can get it.
fn module() -> Result<PathBuf, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("go.mod"), "module compared\n\ngo 1.24\n").unwrap();
    let got = Command::new("go")
        .args(["mod", "download", "-json", MODULE])
        .current_dir(folder.path())
        .output()
        .map_err(|error| format!("go: {error}"))?;
    let answer: serde_json::Value = serde_json::from_slice(&got.stdout).map_err(|error| error.to_string())?;
    match answer["Dir"].as_str() {
        Some(folder) => Ok(folder.into()),
        None => Err(answer["Error"].to_string()),
    }
}

#[test]
fn it_has_the_names_and_numbers_of_kubernetes() {
    let theirs = match module() {
        Ok(folder) => protox::compile([folder.join(FILE)], [folder]).unwrap(),
        Err(reason) => {
            println!("skipped: {MODULE} is not to be had: {reason}");
            return;
        }
    };
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let ours = members(&protox::compile(["service.proto"], [here]).unwrap());
    let theirs = members(&theirs);
    assert!(theirs.len() > 150, "{}", theirs.len());
    for (name, members) in &theirs {
        assert_eq!(ours.get(name), Some(members), "{name}");
    }
    assert_eq!(ours.len(), theirs.len());
}
