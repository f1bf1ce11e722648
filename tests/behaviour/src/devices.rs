//! Devices by what they are (Container Device Interface) and GPUs: what the vendors' files say is so in the container.

use std::ops::Deref;
use std::path::Path;

use harness::daemon::{Cli, Daemon, Options};
use harness::image::Image;
use harness::suite::skip;
use harness::tools::{Folder, eventually, scratch};
use harness::{Test, tests};
use serde_json::{Value, json};

use crate::world::World;

pub fn tests() -> Vec<Test<Vendor>> {
    tests![
        all_edits_are_in_the_container,
        a_node_gives_no_more_than_its_permissions,
        owners_and_modes_are_the_files,
        devices_of_one_file_are_joined,
        the_more_important_folder_wins,
        unresolvable_devices_are_named,
        what_is_not_carried_out_is_refused_by_name,
        hooks_run_and_know_the_container,
        hooks_find_configuration_and_root_in_the_bundle,
        a_hook_that_fails_fails_the_start,
        gpus_are_devices_of_a_vendors_file,
        requests_that_make_no_sense_are_refused,
        info_tells_folders_and_devices,
        inspect_shows_the_request,
        a_user_namespace_has_the_node_too,
        another_runtime_has_the_device_too,
    ]
}

/// A daemon with two folders of descriptions.
pub struct Vendor {
    world: World,
    low: Folder,
    high: Folder,
    _runtime: Folder,
}

impl Deref for Vendor {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Vendor {
    pub fn start(cli: Cli) -> Vendor {
        if std::env::var_os("IECHOR_TEST_HOST").is_some() {
            skip("needs a daemon that is told where the files are");
        }
        let (low, high) = (Folder::new("cdi-low"), Folder::new("cdi-high"));
        let runtime = Folder::new("cdi-runc");
        let runc = crate::runtimes::wrapper(&runtime, "runc");
        let folders = [low.path(), high.path()].map(|folder| format!("--cdi-spec-dir={}", folder.display()));
        let flags = folders
            .into_iter()
            .chain([format!("--add-runtime=runc={}", runc.display())]);
        let mut daemon = Daemon::start(Options {
            arguments: flags.collect(),
            ..Options::default()
        });
        daemon.cli = cli;
        daemon.load(&Image::busybox(), "busybox:latest");
        let world = World { daemon };
        Vendor {
            world,
            low,
            high,
            _runtime: runtime,
        }
    }

    pub fn finish(self) {
        self.world.finish();
    }

    /// A file of a kind that nobody else has, in the less important folder; returns the kind.
    fn describe(&self, devices: &Value) -> String {
        let kind = format!("v{}.com/class", harness::tools::tag());
        write(&self.low, &kind, devices);
        kind
    }
}

fn write(folder: &Folder, kind: &str, devices: &Value) {
    let file = json!({"cdiVersion": "1.1.0", "kind": kind, "devices": devices});
    let name = format!("{}.json", kind.replace('/', "-"));
    std::fs::write(folder.path().join(name), file.to_string()).expect("a description");
}

fn all_edits_are_in_the_container(vendor: &Vendor) {
    let files = Folder::new("vendor-files");
    std::fs::write(files.path().join("word"), "from the host").expect("a file");
    // As vendors' own tools write them.
    let kind = format!("v{}.com/class", harness::tools::tag());
    let text = format!(
        "---\ncdiVersion: \"0.7.0\"\nkind: {kind}\ncontainerEdits:\n  env:\n  - OF_ALL=1\ndevices:\n- name: one\n  \
         containerEdits:\n    env:\n    - OF_ONE=first\n    - COLOUR=theirs\n    deviceNodes:\n    - path: /dev/vendor/zero\n      \
         hostPath: /dev/zero\n    mounts:\n    - hostPath: {}\n      containerPath: /opt/vendor\n      options: [ro, nosuid, rbind]\n    \
         additionalGids: [4242]\n",
        files.path().display()
    );
    std::fs::write(vendor.low.path().join("yaml.yaml"), text).expect("a description");
    let seen = vendor.shell(
        &["--env=COLOUR=mine", &format!("--device={kind}=one")],
        "env; head -c 3 /dev/vendor/zero | od -An -tx1; cat /opt/vendor/word; touch /opt/vendor/new; id -G",
    );
    let has = |wanted: &str| assert!(seen.lines().any(|line| line.trim() == wanted), "{wanted}: {seen}");
    for wanted in ["OF_ALL=1", "OF_ONE=first", "COLOUR=theirs", "00 00 00"] {
        has(wanted);
    }
    assert!(seen.contains("from the host"), "{seen}");
    assert!(!files.path().join("new").exists(), "it is mounted read-only");
    let groups = seen.lines().last().unwrap_or_default();
    assert!(groups.split(' ').any(|group| group == "4242"), "{groups}");
}

/// A device that no container may use unasked.
fn loop_control() -> &'static str {
    let path = "/dev/loop-control";
    if !Path::new(path).exists() {
        skip("needs /dev/loop-control");
    }
    path
}

fn a_node_gives_no_more_than_its_permissions(vendor: &Vendor) {
    let host = loop_control();
    let node = |permissions: &str| json!({"path": "/dev/mine", "hostPath": host, "permissions": permissions});
    let kind = vendor.describe(&json!([
        {"name": "all", "containerEdits": {"deviceNodes": [node("")]}},
        {"name": "reads", "containerEdits": {"deviceNodes": [node("r")]}},
        {"name": "none", "containerEdits": {"deviceNodes": [node("none")]}},
    ]));
    let line = "(exec 3</dev/mine) 2>&1 && echo reads; (exec 3>/dev/mine) 2>&1 && echo writes; true";
    for (name, reads, writes) in [("all", true, true), ("reads", true, false), ("none", false, false)] {
        let seen = vendor.shell(&[&format!("--device={kind}={name}")], line);
        let said = |word: &str| seen.lines().any(|line| line == word);
        assert_eq!((said("reads"), said("writes")), (reads, writes), "{name}: {seen}");
    }
}

fn owners_and_modes_are_the_files(vendor: &Vendor) {
    let kind = vendor.describe(&json!([{"name": "d", "containerEdits": {"deviceNodes": [
        {"path": "/dev/a", "hostPath": "/dev/null", "fileMode": 0o640, "uid": 12, "gid": 34},
        {"path": "/dev/b", "type": "c", "major": 1, "minor": 5},
        {"path": "/dev/null", "hostPath": "/dev/full"},
        {"path": "/dev/pipe", "type": "p"},
    ]}}]));
    let seen = vendor.shell(
        &["--user=77:88", &format!("--device={kind}=d")],
        "stat -c '%n %F %a %u:%g %t:%T' /dev/a /dev/b /dev/null /dev/pipe",
    );
    let lines: Vec<&str> = seen.lines().collect();
    let expected = [
        "/dev/a character special file 640 12:34 1:3",
        "/dev/b character special file 666 77:88 1:5",
        "/dev/null character special file 666 77:88 1:7",
        "/dev/pipe fifo 666 77:88 0:0",
    ];
    assert_eq!(lines, expected);
}

fn devices_of_one_file_are_joined(vendor: &Vendor) {
    let kind = vendor.describe(&json!([
        {"name": "1", "containerEdits": {"env": ["FIRST=1", "BOTH=1"]}},
        {"name": "2", "containerEdits": {"env": ["SECOND=2", "BOTH=2"]}},
    ]));
    let flags = [format!("--device={kind}=1"), format!("--device={kind}=2")];
    let seen = vendor.shell(&[&flags[0], &flags[1]], "echo $FIRST$SECOND$BOTH");
    assert_eq!(seen, "122");
}

fn the_more_important_folder_wins(vendor: &Vendor) {
    let device = |word: &str| json!([{"name": "d", "containerEdits": {"env": [format!("WORD={word}")]}}]);
    let kind = vendor.describe(&device("low"));
    let flag = format!("--device={kind}=d");
    assert_eq!(vendor.shell(&[&flag], "echo $WORD"), "low");
    // The files are read for each start.
    write(&vendor.high, &kind, &device("high"));
    assert_eq!(vendor.shell(&[&flag], "echo $WORD"), "high");
}

#[track_caller]
fn refused(vendor: &Vendor, flags: &[&str], words: &[&str]) {
    let name = vendor.name("refused");
    let output = vendor.run(&[&["run", "--name", &name], flags, &["busybox", "true"]].concat());
    assert!(output.code != 0, "{flags:?}: {}", output.out);
    for word in words {
        assert!(output.err.contains(word), "{flags:?}: {}", output.err);
    }
    vendor.run(&["rm", "-f", &name]);
}

fn unresolvable_devices_are_named(vendor: &Vendor) {
    let kind = vendor.describe(&json!([{"name": "there", "containerEdits": {"env": ["A=1"]}}]));
    let [there, none, other] = ["there", "none", "other"].map(|name| format!("--device={kind}={name}"));
    let words = format!("CDI device injection failed: unresolvable CDI devices {kind}=none, {kind}=other");
    refused(vendor, &[&there, &none, &other], &[&words]);
    // A file with a word that nobody knows gives nothing, and is named.
    let broken = vendor.describe(&json!([{"name": "d", "containerEdits": {"teleport": true}}]));
    let words = format!("unresolvable CDI devices {broken}=d");
    refused(vendor, &[&format!("--device={broken}=d")], &[&words, "teleport"]);
    let gone =
        vendor.describe(&json!([{"name": "d", "containerEdits": {"deviceNodes": [{"path": "/dev/no-such-node"}]}}]));
    refused(vendor, &[&format!("--device={gone}=d")], &["/dev/no-such-node"]);
}

fn what_is_not_carried_out_is_refused_by_name(vendor: &Vendor) {
    let hook = |name: &str| json!({"hooks": [{"hookName": name, "path": "/bin/true"}]});
    let kind = vendor.describe(&json!([
        {"name": "rdt", "containerEdits": {"intelRdt": {"closID": "x"}}},
        {"name": "net", "containerEdits": {"netDevices": [{"hostInterfaceName": "x", "name": "y"}]}},
        {"name": "after", "containerEdits": hook("poststart")},
        {"name": "end", "containerEdits": hook("poststop")},
    ]));
    for (name, word) in [
        ("rdt", "intelRdt"),
        ("net", "netDevices"),
        ("after", "poststart"),
        ("end", "poststop"),
    ] {
        refused(
            vendor,
            &[&format!("--device={kind}={name}")],
            &[word, "is not supported"],
        );
    }
}

fn hooks_run_and_know_the_container(vendor: &Vendor) {
    let told = Folder::new("hooks");
    let hook = |name: &str, line: &str| {
        json!({"hookName": name, "path": "/bin/sh", "args": ["sh", "-c", line],
            "env": ["PATH=/usr/bin:/bin", "WORD=hooked"], "timeout": 60})
    };
    let outside = |name: &str| hook(name, &format!("cat > {}; echo $WORD >> {0}", told.at(name)));
    let kind = vendor.describe(&json!([{"name": "d", "containerEdits": {"hooks": [
        outside("prestart"),
        outside("createRuntime"),
        outside("createContainer"),
        hook("startContainer", "echo $WORD > /started"),
    ]}}]));
    let (name, _) = vendor.sleeper(&[&format!("--device={kind}=d")]);
    assert_eq!(vendor.inside(&name, "cat /started"), "hooked");
    let id = vendor.inspect(&name)["Id"].as_str().expect("an id").to_owned();
    for hook in ["prestart", "createRuntime", "createContainer"] {
        let text = std::fs::read_to_string(told.at(hook)).expect("the hook has run");
        assert!(
            text.contains(&format!("\"id\":\"{id}\"")) && text.contains("hooked"),
            "{hook}: {text}"
        );
    }
}

/// As vendors' hooks do: the bundle out of the state, the root out of the bundle's configuration.
const FIND_ROOT: &str = r#"bundle=$(sed 's/.*"bundle":"\([^"]*\)".*/\1/'); root=$(sed 's/.*"root":{"path":"\([^"]*\)".*/\1/' "$bundle/config.json")"#;

fn hooks_find_configuration_and_root_in_the_bundle(vendor: &Vendor) {
    let told = Folder::new("bundles");
    let hook = |name: &str, line: &str| {
        json!({"hookName": name, "path": "/bin/sh", "args": ["sh", "-ec", format!("{FIND_ROOT}; {line}")],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "timeout": 60})
    };
    let (config, inside, place) = (told.at("config.json"), told.at("inside"), told.at("place"));
    // Root of a user namespace writes into it.
    std::fs::set_permissions(told.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("its mode");
    let kind = vendor.describe(&json!([
        {"name": "d", "containerEdits": {"hooks": [
            hook("prestart", &format!("cp \"$bundle/config.json\" {config}; echo \"$bundle\" > {place}")),
            // What it makes and mounts below the root is there for the container.
            hook("createContainer", &format!(
                "echo \"$root\" > {inside}; ls \"$root/bin/busybox\"; echo hooked > \"$root/made\"; \
                 mkdir -p \"$root/place\"; mount -t tmpfs -o size=64k none \"$root/place\"; echo word > \"$root/place/in\""
            )),
        ]}},
        {"name": "fails", "containerEdits": {"hooks": [hook("createRuntime", &format!("echo \"$bundle\" > {place}; exit 3"))]}},
    ]));
    let device = format!("--device={kind}=d");
    for users in [None, Some("--annotation=iechor.userns=auto")] {
        let flags: Vec<&str> = users.into_iter().chain([device.as_str(), "--env=WORD=1"]).collect();
        let (name, _) = vendor.sleeper(&flags);
        let seen = vendor.inside(
            &name,
            "cat /made /place/in; grep -c ' /place ' /proc/self/mountinfo; ls /",
        );
        assert!(seen.starts_with("hooked\nword\n1\n"), "{users:?}: {seen}");
        let read = |path: &str| std::fs::read_to_string(path).expect("the hook has run");
        let document: Value = serde_json::from_str(&read(&config)).expect("a configuration");
        let root = read(&inside).trim().to_owned();
        assert_eq!(document["root"], json!({"path": root, "readonly": false}));
        assert_eq!(document["process"]["args"], json!(["sleep", "1000"]));
        let has = |list: &Value, wanted: &str| list.as_array().is_some_and(|list| list.contains(&json!(wanted)));
        assert!(has(&document["process"]["env"], "WORD=1"), "{document}");
        let mounts = document["mounts"].as_array().expect("mounts");
        for target in ["/proc", "/dev", "/etc/hosts"] {
            let found = mounts.iter().filter(|mount| mount["destination"] == target).count();
            assert_eq!(found, 1, "{target}: {document}");
        }
        let bundle = read(&place).trim().to_owned();
        assert_eq!(root, format!("{bundle}/rootfs"));
        // The host sees none of the container's mounts there.
        assert_eq!(std::fs::read_dir(&root).expect("the folder").count(), 0);
        vendor.run(&["kill", &name]).ok();
        eventually("the bundle goes with the run", 10, || !Path::new(&bundle).exists());
        vendor.run(&["start", &name]).ok();
        assert_eq!(
            vendor.inside(&name, "cat /place/in"),
            "word",
            "and comes with the next one"
        );
        vendor.run(&["rm", "-f", &name]).ok();
        std::fs::remove_file(&inside).expect("what a user of the namespace has made");
    }
    refused(vendor, &[&format!("--device={kind}=fails")], &["exit status: 3"]);
    let bundle = std::fs::read_to_string(&place).expect("the hook has run");
    eventually("nor does one stay of a start that failed", 10, || {
        !Path::new(bundle.trim()).exists()
    });
}

fn a_hook_that_fails_fails_the_start(vendor: &Vendor) {
    let kind = vendor.describe(&json!([{"name": "d", "containerEdits": {"hooks": [
        {"hookName": "createContainer", "path": "/bin/sh", "args": ["sh", "-c", "echo no such card >&2; exit 3"]},
    ]}}]));
    refused(vendor, &[&format!("--device={kind}=d")], &["no such card"]);
}

/// Nobody else here describes GPUs.
fn gpus_are_devices_of_a_vendors_file(vendor: &Vendor) {
    let words = "could not select device driver \"\" with capabilities: [[gpu]]";
    refused(vendor, &["--gpus=all"], &[words]);
    let gpu = |name: &str| json!({"name": name, "containerEdits": {"env": [format!("GPU_{name}=yes")]}});
    write(&vendor.high, "nvidia.com/gpu", &json!([gpu("0"), gpu("1"), gpu("2")]));
    let seen = |flag: &str| vendor.shell(&[flag], "env | grep -c ^GPU_; env | grep ^GPU_ | sort | tr '\\n' ' '");
    assert_eq!(seen("--gpus=all"), "3\nGPU_0=yes GPU_1=yes GPU_2=yes");
    assert_eq!(seen("--gpus=2"), "2\nGPU_0=yes GPU_1=yes");
    assert_eq!(seen("--gpus=device=2"), "1\nGPU_2=yes");
    refused(vendor, &["--gpus=4"], &["unresolvable CDI devices nvidia.com/gpu=3"]);
    // What the vendor says to be all of them.
    write(&vendor.high, "nvidia.com/gpu", &json!([gpu("0"), gpu("all")]));
    assert_eq!(seen("--gpus=all"), "1\nGPU_all=yes");
}

fn requests_that_make_no_sense_are_refused(vendor: &Vendor) {
    for (request, words) in [
        (
            json!({"Driver": "cdi", "Count": 1, "DeviceIDs": ["a.com/b=c"]}),
            "cannot set both Count and DeviceIDs on device request",
        ),
        (
            json!({"Driver": "cdi", "Count": 1}),
            "unexpected count in CDI device request",
        ),
        (
            json!({"Driver": "cdi", "Options": {"a": "b"}}),
            "unexpected options in CDI device request",
        ),
        (
            json!({"Driver": "warp", "Capabilities": [["a", "b"], ["c"]]}),
            "could not select device driver \"warp\" with capabilities: [[a b] [c]]",
        ),
    ] {
        let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"DeviceRequests": [request]}});
        let created = vendor.server.call("POST", "/v1.48/containers/create", Some(&body));
        if created.status != 201 {
            assert!(
                created.status == 400 && created.message().contains(words),
                "{}",
                created.text()
            );
            continue;
        }
        let id = created.json()["Id"].as_str().expect("an id").to_owned();
        let started = vendor
            .server
            .call("POST", &format!("/v1.48/containers/{id}/start"), None);
        assert!(
            started.status >= 400 && started.message().contains(words),
            "{}",
            started.text()
        );
        vendor.run(&["rm", "-f", &id]).ok();
    }
}

fn info_tells_folders_and_devices(vendor: &Vendor) {
    let kind = vendor.describe(&json!([{"name": "d", "containerEdits": {"env": ["A=1"]}}]));
    let info = vendor.server.get("/v1.50/info").expect(200).json();
    let folders = [vendor.low.path(), vendor.high.path()].map(|path| path.display().to_string());
    assert_eq!(info["CDISpecDirs"], json!(folders));
    let device = json!({"Source": "cdi", "ID": format!("{kind}=d")});
    let found = info["DiscoveredDevices"].as_array().expect("devices");
    assert!(found.contains(&device), "{found:?}");
    assert!(vendor.server.get("/v1.49/info").expect(200).json()["DiscoveredDevices"].is_null());
    assert!(vendor.run(&["info"]).ok().contains(&folders[0]));
}

fn inspect_shows_the_request(vendor: &Vendor) {
    let name = vendor.name("shown");
    vendor
        .run(&["create", "--name", &name, "--device=vendor.com/class=c", "busybox"])
        .ok();
    let request = &vendor.inspect(&name)["HostConfig"]["DeviceRequests"][0];
    assert_eq!(
        (&request["Driver"], &request["DeviceIDs"]),
        (&json!("cdi"), &json!(["vendor.com/class=c"]))
    );
}

fn a_user_namespace_has_the_node_too(vendor: &Vendor) {
    let kind = vendor.describe(&json!([{"name": "d", "containerEdits": {
        "deviceNodes": [{"path": "/dev/mine", "hostPath": "/dev/zero"}], "env": ["A=1"],
    }}]));
    let flags = ["--annotation=iechor.userns=auto", &format!("--device={kind}=d")];
    let seen = vendor.shell(
        &flags,
        "head -c 2 /dev/mine | od -An -tx1; echo $A; cat /proc/self/uid_map",
    );
    assert!(seen.trim_start().starts_with("00 00\n1\n"), "{seen}");
    assert!(!seen.contains("4294967295"), "{seen}");
}

fn another_runtime_has_the_device_too(vendor: &Vendor) {
    let host = loop_control();
    let shown = scratch();
    let kind = vendor.describe(&json!([
        {"name": "d", "containerEdits": {
            "deviceNodes": [{"path": "/dev/mine", "hostPath": host}], "env": ["A=1"],
            "mounts": [{"hostPath": shown, "containerPath": "/opt/shown", "options": ["ro", "rbind"]}],
        }},
        {"name": "hooked", "containerEdits": {"hooks": [{"hookName": "prestart", "path": "/bin/true"}]}},
    ]));
    let flags = ["--runtime=runc", &format!("--device={kind}=d")];
    let line = "(exec 3<>/dev/mine) && echo opened$A; grep -c ' /opt/shown ' /proc/self/mountinfo";
    assert_eq!(vendor.shell(&flags, line), "opened1\n1");
    refused(
        vendor,
        &["--runtime=runc", &format!("--device={kind}=hooked")],
        &["hooks", "runc"],
    );
}
