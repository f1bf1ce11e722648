//! `--storage-opt size=`: what a container writes never takes more than that, whatever it tries.
//!
//! Where the machine's file systems or its kernel cannot hold it to that, it is refused (`refusals`). The rest is for a kernel
//! with quotas, that of the emulated machine: each test has a daemon on a disk of its own.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use harness::daemon::Cli;
use harness::http::Reply;
use harness::image::Layer;
use harness::process::{Output, Run};
use harness::tools::{Folder, eventually, unpacked};
use harness::{Test, tests};
use serde_json::json;

use crate::enospc::{Small, host};
use crate::node::Nothing;
use crate::runtimes::wrapper;

pub fn refusals() -> Vec<Test<Nothing>> {
    tests![a_size_that_nothing_holds_is_refused, sizes_and_keys_are_checked,]
}

pub fn tests() -> Vec<Test<Nothing>> {
    tests![
        a_full_container_is_told_and_others_go_on,
        a_size_on_xfs,
        a_limit_outlives_stops_and_daemons,
        a_limit_goes_with_its_container,
        quotas_that_were_turned_off_are_missed_at_the_start,
        layers_with_a_size_are_read_and_copied,
        no_program_leaves_its_project,
        a_size_with_users_of_its_own,
        a_size_with_other_runtimes,
        an_administrators_project_is_no_obstacle,
    ]
}

const MIB: u64 = 1 << 20;

/// ext4 that counts projects, on as small a disk as holds an image and some containers.
fn ext4(arguments: &[&str]) -> Small {
    let make = ["mke2fs", "-q", "-t", "ext4", "-m", "0", "-O", "quota,project"];
    Small::on_file(128, &make, "loop,prjquota", arguments)
}

/// What a client says who asks for a size.
fn asked(small: &Small, option: &str) -> [(&'static str, Output); 4] {
    let ask = |verb: &'static str, cli: Cli| {
        let arguments = [verb, "--storage-opt", option, "--network", "none", "busybox", "true"];
        match cli {
            Cli::Docker => small.daemon.docker(&arguments),
            Cli::Iechor => small.daemon.iechor(&arguments),
        }
    };
    [
        ("docker create", ask("create", Cli::Docker)),
        ("docker run", ask("run", Cli::Docker)),
        ("iechor create", ask("create", Cli::Iechor)),
        ("iechor run", ask("run", Cli::Iechor)),
    ]
}

fn is_refused(small: &Small, option: &str, words: &[&str]) {
    for (who, said) in asked(small, option) {
        assert!(said.code != 0, "{who} with {option} is taken");
        for word in words {
            assert!(
                said.err.contains(word),
                "{who} with {option}, without {word:?}: {}",
                said.err
            );
        }
    }
    let left = small.run(&["ps", "-aq"]);
    assert_eq!(left, "", "refused containers are there");
    assert_eq!(std::fs::read_dir(small.root.join("rw")).unwrap().count(), 0);
}

fn project_quota(small: &Small) -> (String, String) {
    let info = small.daemon.server.get("/info").expect(200).json();
    let status = |key: &str| {
        let pairs = info["DriverStatus"].as_array().unwrap();
        let pair = pairs.iter().find(|pair| pair[0] == key);
        pair.unwrap_or_else(|| panic!("no {key}: {pairs:?}"))[1]
            .as_str()
            .unwrap()
            .to_owned()
    };
    (status("Backing Filesystem"), status("Project Quota"))
}

fn a_size_that_nothing_holds_is_refused(_: &Nothing) {
    let small = Small::mounted(&[], |_, root| {
        host("mount", &["-t", "tmpfs", "-o", "size=200m", "none", root])
    });
    assert_eq!(project_quota(&small), ("tmpfs".into(), "false".into()));
    is_refused(&small, "size=10m", &["--storage-opt size", "tmpfs", "ext4 or XFS"]);
    small.finish();
    let small = Small::on_file(96, &["mkfs.ext4", "-q", "-m", "0"], "loop", &[]);
    assert_eq!(project_quota(&small), ("extfs".into(), "false".into()));
    is_refused(&small, "size=10m", &["--storage-opt size", "extfs", "prjquota"]);
    small.finish();
}

fn sizes_and_keys_are_checked(_: &Nothing) {
    let small = Small::mounted(&[], |_, root| {
        host("mount", &["-t", "tmpfs", "-o", "size=200m", "none", root])
    });
    is_refused(
        &small,
        "dm.basesize=10G",
        &["--storage-opt dm.basesize", "not supported"],
    );
    for wrong in ["size=", "size=ten", "size=-1", "size=10x", "size=1.2.3m"] {
        is_refused(&small, wrong, &["--storage-opt", wrong]);
    }
    is_refused(&small, "size=100k", &["size=100k", "at least 1m"]);
    // No option at all is no size.
    let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"StorageOpt": {}, "NetworkMode": "none"}});
    small
        .daemon
        .server
        .post("/containers/create?name=none", &body)
        .expect(201);
    small.finish();
}

/// Writes more than there is room for; says what the container was told.
fn overflow(small: &Small, container: &str, file: &str) -> String {
    let target = format!("of={file}");
    let said = small
        .daemon
        .docker(&["exec", container, "dd", "if=/dev/zero", &target, "bs=64k", "count=480"]);
    assert!(said.code != 0, "{container} wrote 30 MiB to {file}");
    let words = said.err.to_lowercase();
    assert!(
        words.contains("quota exceeded") || words.contains("no space left"),
        "{words}"
    );
    words
}

/// Bytes on the disk below a folder.
fn taken(folder: &Path) -> u64 {
    let own = std::fs::symlink_metadata(folder).unwrap();
    let below = match own.is_dir() {
        true => std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| taken(&entry.unwrap().path()))
            .sum(),
        false => 0,
    };
    own.blocks() * 512 + below
}

fn layer(small: &Small, container: &str) -> std::path::PathBuf {
    let id = small.daemon.inspect(container)["Id"].as_str().unwrap().to_owned();
    small.root.join("rw").join(id)
}

/// The number of its project.
fn project(folder: &Path) -> String {
    let shown = Run::new("lsattr".as_ref(), &["-p", "-d", &folder.display().to_string()])
        .output()
        .ok();
    shown.split_whitespace().next().unwrap_or_default().to_owned()
}

fn sleeper(small: &Small, name: &str, size: &str) {
    let option = format!("size={size}");
    small
        .daemon
        .sleeper(name, &["--network", "none", "--storage-opt", &option]);
}

fn is_held(small: &Small) {
    sleeper(small, "full", "8m");
    small.daemon.sleeper("other", &["--network", "none"]);
    assert_eq!(
        small.daemon.inspect("full")["HostConfig"]["StorageOpt"],
        json!({"size": "8m"})
    );
    overflow(small, "full", "/big");
    // The kernel's count, and ours.
    let used = taken(&layer(small, "full"));
    assert!((7 * MIB..=8 * MIB).contains(&used), "{used}");
    let list = small.daemon.server.get("/containers/json?size=1").expect(200).json();
    let full = list
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["Names"][0] == "/full")
        .unwrap();
    let shown = full["SizeRw"].as_u64().unwrap();
    assert!((7 * MIB..=8 * MIB).contains(&shown), "{shown}");
    let table = small.run(&["exec", "full", "df", "-k", "/"]);
    assert!(table.contains(" 8192 "), "{table}");
    // Nothing in the container takes more, also not what lies beside its layer.
    for file in ["/etc/more", "/etc/hosts", "/etc/resolv.conf"] {
        overflow(small, "full", file);
    }
    assert!(taken(&layer(small, "full")) <= 8 * MIB);
    // It goes on, and so does everybody else.
    assert_eq!(small.run(&["exec", "full", "echo", "there"]), "there");
    small.run(&["exec", "other", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=12"]);
    // A second one has a limit of its own.
    sleeper(small, "second", "8m");
    small.run(&["exec", "second", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=6"]);
    overflow(small, "second", "/big");
    // Room that is given back can be used.
    small.run(&[
        "exec",
        "full",
        "sh",
        "-c",
        "rm -f /big /etc/more; : > /etc/hosts; : > /etc/resolv.conf",
    ]);
    small.run(&["exec", "full", "dd", "if=/dev/zero", "of=/again", "bs=1M", "count=6"]);
}

fn a_full_container_is_told_and_others_go_on(_: &Nothing) {
    let small = ext4(&[]);
    assert_eq!(project_quota(&small), ("extfs".into(), "true".into()));
    is_held(&small);
    small.finish();
}

fn a_size_on_xfs(_: &Nothing) {
    let place = unpacked("xfsprogs");
    let program = place.join("sbin/mkfs.xfs").display().to_string();
    let libraries =
        ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|path| place.join(path).display().to_string());
    let path = format!("LD_LIBRARY_PATH={}", libraries.join(":"));
    // Less than 300 MiB is no size for XFS any more.
    let small = Small::on_file(320, &["env", &path, &program, "-q"], "loop,pquota", &[]);
    assert_eq!(project_quota(&small), ("xfs".into(), "true".into()));
    is_held(&small);
    small.finish();
}

fn a_limit_outlives_stops_and_daemons(_: &Nothing) {
    let small = ext4(&[]);
    sleeper(&small, "full", "4m");
    overflow(&small, "full", "/big");
    small.run(&["restart", "-t", "0", "full"]);
    overflow(&small, "full", "/big2");
    small.daemon.kill9();
    small.daemon.launch();
    overflow(&small, "full", "/big2");
    small.run(&["stop", "-t", "0", "full"]);
    small.daemon.stop();
    small.daemon.launch();
    small.run(&["start", "full"]);
    overflow(&small, "full", "/big2");
    assert!(taken(&layer(&small, "full")) <= 4 * MIB);
    assert_eq!(
        small.daemon.inspect("full")["HostConfig"]["StorageOpt"],
        json!({"size": "4m"})
    );
    // Whoever comes after a restart has nothing of it.
    sleeper(&small, "second", "4m");
    small.run(&["exec", "second", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=3"]);
    small.finish();
}

fn a_limit_goes_with_its_container(_: &Nothing) {
    let small = ext4(&[]);
    let mut numbers = std::collections::BTreeSet::new();
    let body = json!({
        "Image": "busybox",
        "Cmd": ["true"],
        "HostConfig": {"NetworkMode": "none", "StorageOpt": {"size": "4m"}},
    });
    for died in ["", "create-layer-made", "remove-recorded"] {
        let (verb, target, body) = match died {
            "create-layer-made" => ("POST", "/containers/create?name=full", body.to_string()),
            _ => ("DELETE", "/containers/full?force=1", String::new()),
        };
        if verb == "DELETE" {
            sleeper(&small, "full", "4m");
            numbers.insert(project(&layer(&small, "full")));
            overflow(&small, "full", "/big");
        }
        let kind = [("Content-Type", "application/json")];
        let ask = || small.daemon.server.try_send(verb, target, &kind, body.as_bytes());
        if died.is_empty() {
            ask().unwrap().expect(204);
        } else {
            // A layer without a record is left by that.
            small.daemon.stop();
            small.daemon.launch_with(&[("IECHOR_FAILPOINT", died)]);
            let _ = ask();
            assert_eq!(small.daemon.death(), 9, "{died}");
            assert_eq!(std::fs::read_dir(small.root.join("rw")).unwrap().count(), 1, "{died}");
            small.daemon.launch();
        }
        small.is_whole("a removal");
        // Neither the old limit nor what was used is left.
        sleeper(&small, "next", "16m");
        numbers.insert(project(&layer(&small, "next").join("upper")));
        small.run(&["exec", "next", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=12"]);
        overflow(&small, "next", "/big");
        small.daemon.remove("next");
        small.is_whole("the next removal");
    }
    // The lowest that is free, each time: as long as the kernel knows a limit or a use, it is not.
    assert_eq!(numbers.len(), 1, "{numbers:?}");
    assert!(
        numbers.iter().all(|number| number.parse::<u32>().unwrap() > 1 << 30),
        "{numbers:?}"
    );
    small.finish();
}

fn quotas_that_were_turned_off_are_missed_at_the_start(_: &Nothing) {
    let small = ext4(&[]);
    sleeper(&small, "full", "4m");
    small.run(&["stop", "-t", "0", "full"]);
    small.daemon.stop();
    small.mount_again("loop");
    small.daemon.launch();
    let said = small.daemon.docker(&["start", "full"]);
    assert!(said.code != 0 && said.err.contains("prjquota"), "{}", said.err);
    assert_eq!(project_quota(&small), ("extfs".into(), "false".into()));
    small.daemon.stop();
    small.mount_again("loop,prjquota");
    small.daemon.launch();
    small.run(&["start", "full"]);
    overflow(&small, "full", "/big");
    small.daemon.remove("full");
    small.finish();
}

fn layers_with_a_size_are_read_and_copied(_: &Nothing) {
    let small = ext4(&[]);
    sleeper(&small, "full", "8m");
    small.run(&["exec", "full", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=5"]);
    assert!(small.run(&["diff", "full"]).contains("A /big"));
    small.run(&["commit", "full", "made:1"]);
    let large = format!("{}", 5 * MIB);
    let count = ["run", "--rm", "--network", "none", "made:1", "sh", "-c", "wc -c < /big"];
    assert_eq!(small.run(&count), large);
    let exported = small.daemon.server.get("/containers/full/export").expect(200);
    assert!(exported.body.len() as u64 > 5 * MIB);
    // The image's files are not the container's: a container of it with a small size begins with nothing.
    let small_size = [
        "run",
        "--rm",
        "--network",
        "none",
        "--storage-opt",
        "size=2m",
        "made:1",
        "sh",
        "-c",
        "wc -c < /big",
    ];
    assert_eq!(small.run(&small_size), large);
    let archive = Layer::default()
        .file("fits", 0o644, b"text")
        .file("copied", 0o644, &vec![7; 6 << 20])
        .bytes();
    let kind = [("Content-Type", "application/x-tar")];
    let put = || -> Reply {
        small
            .daemon
            .server
            .send("PUT", "/containers/full/archive?path=/", &kind, &archive)
    };
    for state in ["running", "stopped"] {
        let reply = put();
        let told = reply.text().to_lowercase();
        assert_eq!(reply.status, 500, "{state}: {told}");
        assert!(
            told.contains("copied") && told.contains("quota exceeded"),
            "{state}: {told}"
        );
        // What came whole stays, as with every copy that breaks off; nothing is half there.
        let changed = small.run(&["diff", "full"]);
        assert!(
            changed.contains("A /fits") && !changed.contains("/copied"),
            "{state}: {changed}"
        );
        if state == "running" {
            small.run(&["stop", "-t", "0", "full"]);
        }
    }
    small.run(&["start", "full"]);
    small.run(&["exec", "full", "rm", "/big"]);
    put().expect(200);
    let out = Folder::new("sizes");
    small.run(&["cp", "full:/copied", &out.at("copied")]);
    assert_eq!(std::fs::metadata(out.at("copied")).unwrap().len(), 6 * MIB);
    small.is_whole("copies");
    small.finish();
}

/// Programs of this machine for a container: `chattr` with what it loads.
const PROGRAMS: [&str; 6] = [
    "-v",
    "/usr/bin:/programs:ro",
    "-v",
    "/lib/x86_64-linux-gnu:/lib/x86_64-linux-gnu:ro",
    "-v",
    "/lib64:/lib64:ro",
];

fn no_program_leaves_its_project(_: &Nothing) {
    let small = ext4(&[]);
    let flags = [&PROGRAMS[..], &["--network", "none", "--storage-opt", "size=4m"]].concat();
    small.daemon.sleeper("full", &flags);
    small.run(&["exec", "full", "sh", "-c", "mkdir /folder; echo text > /file"]);
    for line in [
        "/programs/chattr -p 0 /file",
        "/programs/chattr -p 1 /folder",
        "/programs/chattr -P /folder",
        "/programs/chattr +d /file",
    ] {
        let said = small.daemon.docker(&["exec", "full", "sh", "-c", line]);
        assert!(
            said.code != 0 && said.err.contains("not supported"),
            "{line}: {}",
            said.err
        );
    }
    overflow(&small, "full", "/folder/big");
    assert!(taken(&layer(&small, "full")) <= 4 * MIB);
    // It is this that keeps it: a container that is trusted with everything can.
    let trusted = [&flags[..], &["--security-opt", "seccomp=unconfined"]].concat();
    small.daemon.sleeper("trusted", &trusted);
    small.run(&[
        "exec",
        "trusted",
        "sh",
        "-c",
        "echo text > /file; /programs/chattr -p 0 /file",
    ]);
    small.run(&[
        "exec",
        "trusted",
        "dd",
        "if=/dev/zero",
        "of=/file",
        "bs=1M",
        "count=6",
        "conv=notrunc",
    ]);
    small.finish();
}

fn a_size_with_users_of_its_own(_: &Nothing) {
    let small = ext4(&[]);
    let option = [
        "--network",
        "none",
        "--storage-opt",
        "size=4m",
        "--annotation",
        "iechor.userns=auto",
    ];
    let process = small.daemon.sleeper("full", &option);
    assert_ne!(
        process.namespace("user"),
        harness::kernel::Process::own().namespace("user")
    );
    overflow(&small, "full", "/big");
    assert!(taken(&layer(&small, "full")) <= 4 * MIB);
    small.run(&["restart", "-t", "0", "full"]);
    overflow(&small, "full", "/big2");
    small.finish();
}

fn a_size_with_other_runtimes(_: &Nothing) {
    let folder = Folder::new("sizes");
    let added: Vec<String> = ["runc", "crun"]
        .iter()
        .map(|name| format!("--add-runtime={name}={}", wrapper(&folder, name).display()))
        .collect();
    let small = ext4(&[&added[0], &added[1]]);
    for runtime in ["runc", "crun"] {
        let flags = ["--runtime", runtime, "--network", "none", "--storage-opt", "size=4m"];
        small.daemon.sleeper(runtime, &[&PROGRAMS[..], &flags].concat());
        overflow(&small, runtime, "/big");
        let said = small
            .daemon
            .docker(&["exec", runtime, "/programs/chattr", "-p", "0", "/big"]);
        assert!(
            said.code != 0 && said.err.contains("not supported"),
            "{runtime}: {}",
            said.err
        );
    }
    small.finish();
}

/// All of the data root in a project, as an administrator does who gives the daemon a part of a disk.
fn an_administrators_project_is_no_obstacle(_: &Nothing) {
    let small = ext4(&[]);
    small.daemon.stop();
    for folder in ["rw", "trash"] {
        host(
            "chattr",
            &["-p", "5", "+P", &small.root.join(folder).display().to_string()],
        );
    }
    small.daemon.launch();
    sleeper(&small, "full", "4m");
    // Deeper than is deleted in place.
    small.run(&[
        "exec",
        "full",
        "sh",
        "-c",
        "for i in $(seq 100); do mkdir d; cd d; done; echo text > file",
    ]);
    overflow(&small, "full", "/big");
    assert_ne!(project(&layer(&small, "full")), "5");
    small.daemon.remove("full");
    eventually("all of it is deleted", 10, || {
        std::fs::read_dir(small.root.join("trash")).unwrap().count() == 0
    });
    sleeper(&small, "full", "4m");
    small.run(&["exec", "full", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=3"]);
    small.finish();
}
