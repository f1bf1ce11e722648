#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A folder with files in it.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn wanted(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

const YAML: &str = r#"
cdiVersion: "0.7.0"
kind: vendor.com/class
containerEdits:
  env: [ALL=1]
devices:
  - name: one
    containerEdits:
      env: ["ONE=1"]
      deviceNodes:
        - {path: /dev/one, hostPath: /dev/null, fileMode: 0640, permissions: rw}
      mounts:
        - {hostPath: /etc, containerPath: /mnt/etc, options: [ro, rbind]}
      hooks:
        - {hookName: createContainer, path: /bin/true, args: ["true"], timeout: 5}
      additionalGids: [7, 8]
  - name: "2"
    containerEdits:
      env: ["TWO=2"]
"#;

#[test]
fn a_file_is_read_and_its_devices_are_joined() {
    let dir = folder(&[("v.yaml", YAML), ("README.md", "no CDI"), ("v.yml", "neither")]);
    let registry = Registry::read(&[dir.path().to_owned(), "/nonexistent".into()]);
    assert_eq!(registry.errors(), &[] as &[String]);
    let names: Vec<&str> = registry.names().collect();
    assert_eq!(names, ["vendor.com/class=2", "vendor.com/class=one"]);
    let edits = registry
        .edits(&wanted(&["vendor.com/class=2", "vendor.com/class=one"]))
        .unwrap();
    // What holds for the whole file comes once.
    assert_eq!(edits.env, ["ALL=1", "TWO=2", "ONE=1"]);
    assert_eq!(edits.additional_gids, [7, 8]);
    let node = &edits.device_nodes[0];
    assert_eq!((node.file_mode, node.permissions.as_str()), (Some(0o640), "rw"));
    assert_eq!(edits.hooks[0].hook_name, HookName::CreateContainer);
    assert_eq!(edits.mounts[0].options, ["ro", "rbind"]);
}

#[test]
fn later_folders_win_and_equal_ones_take_a_device_away() {
    let spec = |value: &str| {
        json!({"cdiVersion": "0.3.0", "kind": "v.com/c", "devices": [{"name": "d", "containerEdits": {"env": [value]}}]})
            .to_string()
    };
    let low = folder(&[("a.json", &spec("X=low"))]);
    let high = folder(&[("a.json", &spec("X=high"))]);
    let both = folder(&[("a.json", &spec("X=1")), ("b.json", &spec("X=2"))]);
    let env = |folders: &[&tempfile::TempDir]| {
        let folders: Vec<PathBuf> = folders.iter().map(|dir| dir.path().to_owned()).collect();
        Registry::read(&folders)
            .edits(&wanted(&["v.com/c=d"]))
            .map(|edits| edits.env)
    };
    assert_eq!(env(&[&low, &high]).unwrap(), ["X=high"]);
    assert_eq!(env(&[&high, &low]).unwrap(), ["X=low"]);
    assert_eq!(env(&[&both, &low]).unwrap(), ["X=low"]);
    let error = env(&[&low, &both]).unwrap_err().to_string();
    assert!(error.contains("v.com/c=d") && error.contains("b.json"), "{error}");
}

#[test]
fn all_missing_devices_are_named_with_the_files_that_were_no_use() {
    let dir = folder(&[(
        "bad.json",
        r#"{"cdiVersion":"1.0.0","kind":"v.com/c","devices":[],"colour":"red"}"#,
    )]);
    let registry = Registry::read(&[dir.path().to_owned()]);
    let error = registry
        .edits(&wanted(&["v.com/c=a", "nonsense"]))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("unresolvable CDI devices v.com/c=a, nonsense"),
        "{error}"
    );
    assert!(error.contains("bad.json") && error.contains("colour"), "{error}");
}

#[test]
fn what_makes_no_sense_is_refused_with_the_word_for_it() {
    let with = |edits: serde_json::Value| json!({"cdiVersion": "0.3.0", "kind": "v.com/c", "devices": [{"name": "d", "containerEdits": edits}]});
    let cases = [
        (json!({"cdiVersion": "9.9.9", "kind": "v.com/c"}), "9.9.9"),
        (json!({"cdiVersion": "0.3.0", "kind": "nothing"}), "nothing"),
        (json!({"cdiVersion": "0.3.0", "kind": "v.com/c"}), "no devices"),
        (with(json!({})), "changes nothing"),
        (with(json!({"env": ["=x"]})), "=x"),
        (with(json!({"gpus": 1})), "gpus"),
        (with(json!({"deviceNodes": [{"path": "x"}]})), "absolute"),
        (with(json!({"deviceNodes": [{"path": "/x", "type": "z"}]})), "\"z\""),
        (
            with(json!({"deviceNodes": [{"path": "/x", "permissions": "rwx"}]})),
            "rwx",
        ),
        (
            with(json!({"deviceNodes": [{"path": "/x", "hostPath": "/y"}]})),
            "0.5.0",
        ),
        (
            with(json!({"mounts": [{"hostPath": "/x", "containerPath": "/y", "type": "bind"}]})),
            "0.4.0",
        ),
        (with(json!({"mounts": [{"hostPath": "/x"}]})), "containerPath"),
        (with(json!({"hooks": [{"hookName": "never", "path": "/x"}]})), "never"),
        (with(json!({"additionalGids": [1]})), "0.7.0"),
        (with(json!({"intelRdt": {}})), "0.7.0"),
        (with(json!({"netDevices": []})), "1.1.0"),
    ];
    for (file, word) in cases {
        let error = Spec::parse(&file.to_string(), true).unwrap_err();
        assert!(error.contains(word), "{file}: {error}");
    }
}

#[test]
fn edits_that_we_do_not_make_are_refused_by_name() {
    let file = json!({"cdiVersion": "1.1.0", "kind": "v.com/c", "devices": [
        {"name": "rdt", "containerEdits": {"intelRdt": {"closID": "x"}}},
        {"name": "net", "containerEdits": {"netDevices": [{"hostInterfaceName": "a", "name": "b"}]}},
        {"name": "fine", "containerEdits": {"env": ["A=1"]}},
    ]});
    let dir = folder(&[("v.json", &file.to_string())]);
    let registry = Registry::read(&[dir.path().to_owned()]);
    for (name, word) in [("v.com/c=rdt", "intelRdt"), ("v.com/c=net", "netDevices")] {
        let error = registry
            .edits(&wanted(&["v.com/c=fine", name]))
            .unwrap_err()
            .to_string();
        assert!(error.contains(name) && error.contains(word), "{error}");
    }
    assert!(registry.edits(&wanted(&["v.com/c=fine"])).is_ok());
}

proptest! {
    #[test]
    fn a_name_is_what_it_was_read_from(
        vendor in "[a-zA-Z]([a-z0-9_.-]{0,8}[a-zA-Z0-9])?",
        class in "[a-zA-Z]([a-z0-9_.-]{0,8}[a-zA-Z0-9])?",
        device in "[a-zA-Z0-9]([a-z0-9_.:-]{0,8}[a-zA-Z0-9])?",
    ) {
        let text = format!("{vendor}/{class}={device}");
        prop_assert_eq!(Name::parse(&text).unwrap().to_string(), text);
    }

    #[test]
    fn no_text_is_read_as_another_name(text in "\\PC{0,24}") {
        if let Ok(name) = Name::parse(&text) {
            prop_assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn no_file_makes_the_reader_panic(text in "\\PC{0,200}") {
        let _ = Spec::parse(&text, true);
        let _ = Spec::parse(&text, false);
    }

    /// Against a model: the last folder that has a device decides, and only when one file there has it.
    #[test]
    fn the_most_important_folder_decides(
        files in prop::collection::vec((0usize..3, 0u32..3), 1..8),
        asked in 0u32..3,
    ) {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        for (number, (dir, device)) in files.iter().enumerate() {
            let spec = json!({"cdiVersion": "0.3.0", "kind": "v.com/c", "devices": [
                {"name": format!("d{device}"), "containerEdits": {"env": [format!("FILE={number}")]}},
            ]});
            fs::write(dirs[*dir].path().join(format!("{number}.json")), spec.to_string()).unwrap();
        }
        let folders: Vec<PathBuf> = dirs.iter().map(|dir| dir.path().to_owned()).collect();
        let found = Registry::read(&folders).edits(&[format!("v.com/c=d{asked}")]);
        let having = |dir: usize| {
            let all = files.iter().enumerate();
            all.filter(|(_, file)| **file == (dir, asked)).map(|(number, _)| number).collect::<Vec<_>>()
        };
        match (0..3).rev().map(having).find(|numbers| !numbers.is_empty()).as_deref() {
            Some([only]) => prop_assert_eq!(found.unwrap().env, [format!("FILE={only}")]),
            _ => prop_assert!(found.is_err()),
        }
    }
}
