//! Log drivers and what is read of them, local and remote.

use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use harness::daemon::{Daemon, Options};
use harness::image::Image;
use harness::tools::{Folder, eventually, patience};
use harness::{Test, tests};
use serde_json::Value;

use crate::world::World;

/// Asked through both clients, of one daemon.
pub fn everyday() -> Vec<Test<World>> {
    tests![
        log_options_are_checked_by_name,
        log_details_show_labels_env_and_tag,
        json_file_is_dockers_on_disk,
        logs_of_none_cannot_be_read,
        rotated_files_are_compressed_and_read_as_one,
        logs_follow_across_rotation_and_compression,
        logs_of_a_burst_come_back_whole,
        logs_through_the_api_have_a_frame_per_line,
        tail_of_a_big_log_is_near,
        log_configuration_is_shown,
    ]
}

fn create_with(world: &World, kind: &str, options: Value) -> (u16, String) {
    let body = serde_json::json!({
        "Image": "busybox", "Cmd": ["true"],
        "HostConfig": {"LogConfig": {"Type": kind, "Config": options}}
    });
    let reply = world.server.call("POST", "/containers/create", Some(&body));
    let said = reply.json();
    if let Some(id) = said["Id"].as_str() {
        let _ = world
            .server
            .try_send("DELETE", &format!("/containers/{id}?force=1"), &[], &[]);
    }
    (reply.status, said["message"].as_str().unwrap_or_default().to_owned())
}

fn log_options_are_checked_by_name(world: &World) {
    for (kind, options, status, word) in [
        (
            "local",
            serde_json::json!({"colour": "blue"}),
            400,
            "unknown log opt 'colour' for local log driver",
        ),
        ("json-file", serde_json::json!({"max-size": "much"}), 400, "max-size"),
        (
            "syslog",
            serde_json::json!({"syslog-address": "pigeon://x"}),
            400,
            "syslog-address",
        ),
        (
            "syslog",
            serde_json::json!({"gelf-address": "udp://x"}),
            400,
            "unknown log opt 'gelf-address' for syslog",
        ),
        (
            "gelf",
            serde_json::json!({}),
            400,
            "gelf-address is a required parameter",
        ),
        (
            "fluentd",
            serde_json::json!({"fluentd-async": "perhaps"}),
            400,
            "fluentd-async",
        ),
        (
            "local",
            serde_json::json!({"mode": "now-and-then"}),
            400,
            "logging mode not supported",
        ),
        (
            "local",
            serde_json::json!({"max-buffer-size": "1m"}),
            400,
            "max-buffer-size",
        ),
        ("awslogs", serde_json::json!({}), 501, "awslogs"),
        ("splunk", serde_json::json!({}), 501, "splunk"),
        (
            "pigeon",
            serde_json::json!({}),
            400,
            "no log driver named 'pigeon' is registered",
        ),
        (
            "syslog",
            serde_json::json!({"syslog-address": "udp://127.0.0.1:9", "mode": "non-blocking", "max-buffer-size": "2m", "cache-disabled": "true"}),
            201,
            "",
        ),
        ("journald", serde_json::json!({"tag": "{{.Name}}"}), 201, ""),
    ] {
        let (code, said) = create_with(world, kind, options.clone());
        assert_eq!(code, status, "{kind} {options}: {said}");
        assert!(said.contains(word), "{kind} {options}: {said}");
    }
}

fn log_details_show_labels_env_and_tag(world: &World) {
    for driver in ["local", "json-file"] {
        let name = world.name("details");
        world
            .run(&[
                "run",
                "--name",
                &name,
                "--log-driver",
                driver,
                "--log-opt",
                "labels=colour",
                "--log-opt",
                "env-regex=^(A|B)$",
                "--log-opt",
                "tag=t/{{.Name}}",
                "-l",
                "colour=deep blue",
                "-l",
                "shape=round",
                "-e",
                "A=1",
                "-e",
                "C=3",
                "busybox",
                "echo",
                "hi",
            ])
            .ok();
        let tag = format!("t%2F{}", &*name);
        assert_eq!(
            world.run(&["logs", "--details", &name]).ok(),
            format!("A=1,colour=deep+blue,tag={tag} hi")
        );
        assert_eq!(world.run(&["logs", &name]).ok(), "hi");
        let both = world.run(&["logs", "-t", "--details", &name]).ok();
        let (time, rest) = both.split_once(' ').unwrap();
        assert_eq!(time.len(), "2006-01-02T15:04:05.000000000Z".len());
        assert!(rest.starts_with("A=1,"), "{both}");
    }
}

fn json_file_is_dockers_on_disk(world: &World) {
    let name = world.name("json");
    world
        .run(&[
            "run", "--name", &name, "--log-driver", "json-file", "--log-opt", "max-size=20k", "--log-opt", "max-file=3",
            "--log-opt", "compress=true", "--log-opt", "labels=l", "-l", "l=<v>", "busybox", "sh", "-c",
            "printf 'a\\tb<\\n'; echo err >&2; sleep 0.2; i=0; while [ $i -lt 700 ]; do echo line number $i; i=$((i+1)); done; printf end",
        ])
        .ok();
    let path = world.inspect(&name)["LogPath"].as_str().unwrap().to_owned();
    let id = world.inspect(&name)["Id"].as_str().unwrap().to_owned();
    assert!(path.ends_with(&format!("{id}-json.log")), "{path}");
    let text = std::fs::read_to_string(&path).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    // A line that the stream's end cut off has no end of its own, as with Docker.
    assert_eq!(
        (&last["log"], &last["stream"], &last["attrs"]["l"]),
        (&"end".into(), &"stdout".into(), &"<v>".into())
    );
    let keys: Vec<&String> = last.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 4);
    assert!(
        text.contains("\",\"stream\":\"stdout\",\"attrs\":{\"l\":\"\\u003cv\\u003e\"},\"time\":\""),
        "{text}"
    );
    eventually("the rotated files are compressed", 10, || {
        Path::new(&format!("{path}.1.gz")).exists() && !Path::new(&format!("{path}.1")).exists()
    });
    assert!(std::fs::metadata(&path).unwrap().len() < 21_000);
    assert!(!Path::new(&format!("{path}.3.gz")).exists());
    // What is left of it reads as one.
    let lines = world.run(&["logs", &name]).ok();
    let lines: Vec<&str> = lines.lines().collect();
    let first: usize = lines[0].rsplit(' ').next().unwrap().parse().unwrap();
    for (index, line) in lines[..lines.len() - 1].iter().enumerate() {
        assert_eq!(*line, format!("line number {}", first + index));
    }
    assert_eq!(lines[lines.len() - 2..], ["line number 699", "end"]);
}

fn logs_of_none_cannot_be_read(world: &World) {
    for flags in [
        &["--log-driver", "none"][..],
        &[
            "--log-driver",
            "syslog",
            "--log-opt",
            "syslog-address=udp://127.0.0.1:9",
            "--log-opt",
            "cache-disabled=true",
        ],
    ] {
        let name = world.name("none");
        let arguments = [&["run", "--name", &name], flags, &["busybox", "echo", "hi"]].concat();
        assert_eq!(world.run(&arguments).ok(), "hi");
        let said = world.run(&["logs", &name]).fails(1);
        assert!(
            said.contains("configured logging driver does not support reading"),
            "{said}"
        );
        let reply = world.server.get(&format!("/containers/{}/logs?stdout=1", &*name));
        assert_eq!(
            (reply.status, reply.message().as_str()),
            (501, "configured logging driver does not support reading")
        );
        assert_eq!(world.inspect(&name)["LogPath"], "");
    }
}

fn log_folder(world: &World, name: &str) -> std::path::PathBuf {
    let id = world.inspect(name)["Id"].as_str().unwrap().to_owned();
    world.places.data.join("root/containers").join(id)
}

fn compressed_in(folder: &Path) -> usize {
    let names = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".gz")).count()
}

const COUNT: &str = "i=0; while [ $i -lt 4000 ]; do echo line $i of some length; i=$((i+1)); done";

fn rotated_files_are_compressed_and_read_as_one(world: &World) {
    let name = world.name("rotated");
    world
        .run(&[
            "run",
            "--name",
            &name,
            "--log-opt",
            "max-size=10k",
            "--log-opt",
            "max-file=40",
            "busybox",
            "sh",
            "-c",
            COUNT,
        ])
        .ok();
    let folder = log_folder(world, &name);
    eventually("all but the newest rotated file are compressed", 10, || {
        compressed_in(&folder) >= 5
    });
    let all = world.run(&["logs", &name]).ok();
    let expected: Vec<String> = (0..4000).map(|i| format!("line {i} of some length")).collect();
    assert_eq!(all.lines().collect::<Vec<_>>(), expected);
    for count in [1, 10, 1500, 3999, 4000, 5000] {
        let tail = world.run(&["logs", "-n", &count.to_string(), &name]).ok();
        assert_eq!(
            tail.lines().collect::<Vec<_>>(),
            expected[4000usize.saturating_sub(count)..]
        );
    }
}

fn logs_follow_across_rotation_and_compression(world: &World) {
    let name = world.name("follow");
    world
        .run(&[
            "run", "-d", "--name", &name, "--log-opt", "max-size=5k", "--log-opt", "max-file=90", "busybox", "sh", "-c",
            "i=0; while [ $i -lt 3000 ]; do echo line $i of some length; i=$((i+1)); [ $((i % 150)) = 0 ] && sleep 0.05; done",
        ])
        .ok();
    let (code, text) = world.background(&["logs", "-f", &name]).finish(60);
    assert_eq!(code, 0);
    let expected: Vec<String> = (0..3000).map(|i| format!("line {i} of some length")).collect();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

/// As many bytes as were written, though the default driver keeps no more than that.
fn logs_of_a_burst_come_back_whole(world: &World) {
    let name = world.name("burst");
    let line = format!("yes {} | head -c {}", "x".repeat(99), 100 << 20);
    let started = Instant::now();
    world
        .run(&["run", "-d", "--name", &name, "busybox", "sh", "-c", &line])
        .ok();
    assert_eq!(world.command(&["wait", &name]).seconds(120).output().ok(), "0");
    let written = started.elapsed();
    let started = Instant::now();
    let program = if world.cli == harness::daemon::Cli::Docker {
        harness::tools::docker()
    } else {
        harness::tools::binary("iechor")
    };
    let mut reader = Command::new(program)
        .args(["-H", world.host(), "logs", &name])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = reader.stdout.take().unwrap();
    let (mut count, mut block) = (0, vec![0; 1 << 20]);
    loop {
        match out.read(&mut block).unwrap() {
            0 => break,
            read => count += read,
        }
    }
    assert!(reader.wait().unwrap().success());
    assert_eq!(count, 100 << 20);
    println!(
        "        100 MiB written in {written:?}, read in {:?}",
        started.elapsed()
    );
}

fn logs_through_the_api_have_a_frame_per_line(world: &World) {
    let name = world.name("frames");
    world
        .run(&[
            "run",
            "--name",
            &name,
            "busybox",
            "sh",
            "-c",
            "echo a; echo b; sleep 0.1; echo c >&2",
        ])
        .ok();
    let target = format!("/containers/{}/logs?stdout=1&stderr=1", &*name);
    let plain = world.server.get(&target);
    let expected = [(1, b"a\n".to_vec()), (1, b"b\n".to_vec()), (2, b"c\n".to_vec())];
    assert_eq!(harness::http::frames(&plain.body), expected);
    let joined = world
        .server
        .send("GET", &target, &[("User-Agent", "Docker-Client/28.2.2 (linux)")], &[]);
    assert_eq!(
        harness::http::frames(&joined.body),
        [(1, b"a\nb\n".to_vec()), (2, b"c\n".to_vec())]
    );
}

/// 1 GiB of log without writing it: a hole in the file, and whole records behind it.
fn tail_of_a_big_log_is_near(world: &World) {
    for driver in ["local", "json-file"] {
        let name = world.name("big");
        world
            .run(&[
                "run",
                "--name",
                &name,
                "--log-driver",
                driver,
                "--log-opt",
                "max-size=2g",
                "busybox",
                "sh",
                "-c",
                "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done",
            ])
            .ok();
        let folder = log_folder(world, &name);
        let file = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.to_string_lossy().ends_with(".log"))
            .unwrap();
        let records = std::fs::read(&file).unwrap();
        let big = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
        let at = (1 << 30) - records.len() as u64;
        big.set_len(at).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&big, b"\n", at - 1).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&big, &records, at).unwrap();
        let target = format!("/containers/{}/logs?stdout=1&tail=100", &*name);
        let best = (0..5)
            .map(|_| {
                let started = Instant::now();
                let frames = harness::http::frames(&world.server.get(&target).body);
                let took = started.elapsed();
                assert_eq!(frames.len(), 100);
                assert_eq!(frames[99].1, b"line 499\n");
                took
            })
            .min()
            .unwrap();
        assert!(best < patience(1) / 20, "{driver}: {best:?}");
        println!("        tail of 1 GiB of {driver}: {best:?}");
    }
}

fn log_configuration_is_shown(world: &World) {
    let name = world.name("shown");
    world
        .run(&[
            "create",
            "--name",
            &name,
            "--log-driver",
            "json-file",
            "--log-opt",
            "max-size=1m",
            "busybox",
            "true",
        ])
        .ok();
    let shown = world.inspect(&name)["HostConfig"]["LogConfig"].clone();
    assert_eq!(
        shown,
        serde_json::json!({"Type": "json-file", "Config": {"max-size": "1m"}})
    );
    let info = world.server.get("/info").json();
    assert_eq!(info["LoggingDriver"], "local");
    let drivers = info["Plugins"]["Log"].as_array().unwrap();
    for driver in ["local", "json-file", "none", "syslog", "journald", "gelf", "fluentd"] {
        assert!(drivers.contains(&driver.into()), "{drivers:?}");
    }
}

pub struct Nothing;

/// Each with a daemon of its own, which is restarted, or whose disk is full.
pub fn own() -> Vec<Test<Nothing>> {
    tests![
        a_full_disk_costs_the_log_and_nothing_else,
        daemon_wide_defaults_are_merged
    ]
}

pub(crate) fn daemon(arguments: &[&str]) -> Daemon {
    let daemon = Daemon::start(Options {
        arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
        ..Options::default()
    });
    daemon.load(&Image::busybox(), "busybox:latest");
    daemon
}

fn daemon_wide_defaults_are_merged(_: &Nothing) {
    let daemon = daemon(&[
        "--log-driver",
        "json-file",
        "--log-opt",
        "max-size=1m",
        "--log-opt",
        "labels=a",
    ]);
    let config = |flags: &[&str]| {
        daemon
            .docker(&[&["create", "--name", "xx"], flags, &["busybox", "true"]].concat())
            .ok();
        let config = daemon.inspect("xx")["HostConfig"]["LogConfig"].clone();
        daemon.docker(&["rm", "xx"]).ok();
        config
    };
    let all = serde_json::json!({"Type": "json-file", "Config": {"max-size": "1m", "labels": "a"}});
    assert_eq!(config(&[]), all);
    assert_eq!(
        config(&["--log-driver", "json-file", "--log-opt", "max-size=2m"])["Config"]["max-size"],
        "2m"
    );
    assert_eq!(
        config(&["--log-opt", "max-file=2"])["Config"],
        serde_json::json!({"max-size": "1m", "max-file": "2", "labels": "a"})
    );
    // Another driver does not get the options of this one.
    assert_eq!(config(&["--log-driver", "local"])["Config"], serde_json::json!({}));
    assert_eq!(daemon.server.get("/info").json()["LoggingDriver"], "json-file");
    daemon.finish();
}

/// A small file system in the place of a container's folder, taken away again whatever happens.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn over(folder: &Path) -> SmallDisk {
        let options = Some("size=256k,mode=0700");
        nix::mount::mount(
            Some("tmpfs"),
            folder,
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            options,
        )
        .unwrap();
        SmallDisk(folder.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

fn a_full_disk_costs_the_log_and_nothing_else(_: &Nothing) {
    let daemon = daemon(&[]);
    let control = Folder::new("full");
    let mount = format!("{}:/control", control.path().display());
    let script = "i=0; until [ -e /control/stop ]; do echo line $i; i=$((i+1)); echo $i > /control/now; sleep 0.02; done; echo over";
    daemon
        .docker(&[
            "create",
            "--name",
            "full",
            "-v",
            &mount,
            "--log-driver",
            "json-file",
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .ok();
    let id = daemon.inspect("full")["Id"].as_str().unwrap().to_owned();
    let folder = daemon.places.data.join("root/containers").join(&id);
    // What the folder has is to be found on the small disk too.
    let kept: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    let disk = SmallDisk::over(&folder);
    for (name, content) in kept {
        std::fs::write(folder.join(name), content).unwrap();
    }
    let log = format!("{id}-json.log");
    let ballast = folder.join("ballast");
    daemon.docker(&["start", "full"]).ok();
    let now = || {
        std::fs::read_to_string(control.path().join("now"))
            .unwrap_or_default()
            .trim()
            .parse::<u64>()
            .unwrap_or(0)
    };
    eventually("lines are logged", 10, || {
        std::fs::metadata(folder.join(&log)).is_ok_and(|found| found.len() > 0)
    });
    let _ = std::fs::write(&ballast, vec![0; 1 << 20]); // as much as there is room for
    let said = |text: &str| daemon.log_tail().matches(text).count();
    eventually("the daemon says so", 20, || said("the log cannot be written") == 1);
    let (before, size) = (now(), std::fs::metadata(folder.join(&log)).unwrap().len());
    eventually("the container goes on", 10, || now() > before + 20);
    assert_eq!(std::fs::metadata(folder.join(&log)).unwrap().len(), size);
    assert_eq!(said("the log cannot be written"), 1, "once is enough");
    std::fs::remove_file(&ballast).unwrap();
    eventually("the daemon says that it works again", 10, || {
        said("the log can be written again") == 1
    });
    std::fs::write(control.path().join("stop"), "").unwrap();
    assert_eq!(daemon.docker(&["wait", "full"]).ok(), "0");
    let lines = daemon.docker(&["logs", "full"]).ok();
    assert!(lines.starts_with("line 0") && lines.ends_with("over"), "{lines}");
    assert!(lines.lines().all(|line| line.starts_with("line ") || line == "over"));
    drop(disk);
    daemon.docker(&["rm", "full"]).ok();
    daemon.finish();
}
