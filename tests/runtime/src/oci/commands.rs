//! The commands besides: exec, list, ps, pause, update, events, spec, features, and the log.

use harness::{Test, tests};
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        exec_takes_a_process_from_a_file,
        exec_takes_flags_over_the_configuration,
        exec_is_refused_unless_running,
        exec_into_a_paused_container_is_refused,
        list_shows_all_containers,
        ps_shows_the_processes,
        pause_and_resume,
        update_changes_limits,
        update_takes_a_file,
        events_has_statistics,
        spec_makes_a_configuration_that_runs,
        features_names_what_is_there,
        the_version_is_shown,
        errors_are_logged_as_json,
        errors_are_logged_as_text,
        unknown_commands_and_flags_are_errors,
    ]
}

fn exec_takes_a_process_from_a_file(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    let file = bundle.host("process.json");
    let process = json!({
        "args": ["sh", "-c", "id; pwd; echo $KEY; grep -e CapEff -e NoNewPrivs /proc/self/status; ulimit -n"],
        "env": ["PATH=/bin", "KEY=value"], "cwd": "/tmp", "user": {"uid": 0, "gid": 5, "additionalGids": [6]},
        "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]},
        "noNewPrivileges": true, "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 50}],
    });
    std::fs::write(&file, process.to_string()).unwrap();
    let out = bundle.call(&["exec", "--process", &file, &bundle.id]).output().ok();
    let lines: Vec<&str> = out.lines().collect();
    assert!(
        lines[0].starts_with("uid=0(root) gid=5") && lines[0].contains('6'),
        "{out}"
    );
    assert_eq!(lines[1..3], ["/tmp", "value"]);
    assert!(
        lines[3].ends_with("0000000000000020") && lines[4].ends_with('1'),
        "{out}"
    );
    assert_eq!(lines[5], "50");
}

fn exec_takes_flags_over_the_configuration(world: &World) {
    let mut bundle = world.bundle();
    bundle.env("FROM=configuration");
    bundle.sleeper();
    let flags = ["--cwd", "/tmp", "--env", "MORE=1", "--user", "1000:1000"];
    let out = bundle
        .exec_with(&flags, &["sh", "-c", "pwd; echo $FROM $MORE; id -u"])
        .ok();
    assert_eq!(out, "/tmp\nconfiguration 1\n1000");
}

fn exec_is_refused_unless_running(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    bundle.kill("KILL").ok();
    bundle.wait_for("stopped");
    let out = bundle.exec(&["true"]);
    assert!(out.code != 0 && !out.err.is_empty());
}

fn exec_into_a_paused_container_is_refused(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    bundle.call(&["pause", &bundle.id]).output().ok();
    let out = bundle.exec_call(&[], &["true"]).seconds(10).output();
    assert!(out.code != 0 && out.err.contains("paused"), "{out:?}");
    bundle.call(&["resume", &bundle.id]).output().ok();
    bundle.exec(&["true"]).ok();
}

fn list_shows_all_containers(world: &World) {
    let mut bundles: Vec<Bundle> = (0..3).map(|_| world.bundle()).collect();
    bundles[0].sleeper();
    bundles[1].args(&["sleep", "1000"]).shell("true");
    bundles[1].create().ok();
    let text = bundles[0].call(&["list", "--format", "json"]).output().ok();
    let list: Value = serde_json::from_str(&text).unwrap();
    let row = |id: &str| list.as_array().unwrap().iter().find(|row| row["id"] == id).cloned();
    let first = row(&bundles[0].id).unwrap_or_else(|| panic!("not in {list}"));
    assert_eq!(
        (first["status"].as_str(), first["pid"].as_i64()),
        (Some("running"), Some(bundles[0].init().0.into()))
    );
    assert_eq!(first["bundle"], bundles[0].folder().to_str().unwrap());
    assert_eq!(row(&bundles[1].id).unwrap()["status"], "created");
    assert!(row(&bundles[2].id).is_none());
    let quiet = bundles[0].call(&["list", "--quiet"]).output().ok();
    assert!(
        quiet.lines().any(|line| line == bundles[0].id) && quiet.lines().any(|line| line == bundles[1].id),
        "{quiet}"
    );
    let table = bundles[0].call(&["list"]).output().ok();
    let line = table.lines().find(|line| line.contains(&bundles[0].id)).unwrap();
    assert!(
        line.contains("running") && line.contains(&bundles[0].init().0.to_string()),
        "{table}"
    );
}

fn ps_shows_the_processes(world: &World) {
    let mut bundle = world.bundle();
    let process = bundle.sleeper();
    bundle.exec_with(&["--detach"], &["sleep", "1001"]).ok();
    let text = bundle.call(&["ps", "--format", "json", &bundle.id]).output().ok();
    let pids: Vec<i32> = serde_json::from_str(&text).unwrap();
    assert!(pids.len() == 2 && pids.contains(&process.0), "{text}");
    let table = bundle.call(&["ps", &bundle.id]).output();
    // The table is made by the host's `ps`, which there may not be.
    if table.code == 0 && !table.out.is_empty() {
        assert!(table.out.contains(&process.0.to_string()), "{}", table.out);
    }
}

fn pause_and_resume(world: &World) {
    let mut bundle = world.bundle();
    bundle.shell("while :; do echo tick; sleep 0.05; done");
    bundle.launch();
    bundle.expect("tick");
    bundle.call(&["pause", &bundle.id]).output().ok();
    assert_eq!(bundle.status(), "paused");
    let before = bundle.printed().len();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(bundle.printed().len(), before, "it goes on while paused");
    bundle.call(&["resume", &bundle.id]).output().ok();
    assert_eq!(bundle.status(), "running");
    harness::tools::eventually("it goes on", 5, || bundle.printed().len() > before);
}

fn update_changes_limits(world: &World) {
    let mut bundle = world.bundle();
    bundle.set("/linux/resources/pids", json!({"limit": 50}));
    let process = bundle.sleeper();
    let memory = (96 << 20).to_string();
    bundle
        .call(&[
            "update",
            "--pids-limit",
            "60",
            "--memory",
            &memory,
            "--cpu-quota",
            "30000",
            "--cpu-period",
            "100000",
            &bundle.id,
        ])
        .output()
        .ok();
    assert_eq!(process.control("pids", &["pids.max"]), "60");
    assert_eq!(
        process.control("memory", &["memory.limit_in_bytes", "memory.max"]),
        memory
    );
    assert!(
        process
            .control("cpu", &["cpu.cfs_quota_us", "cpu.max"])
            .starts_with("30000")
    );
    // The rules of devices are not touched by an update.
    assert!(
        bundle
            .inside("mknod /mem c 1 1; probe read-open /mem")
            .out
            .contains("EPERM")
    );
}

fn update_takes_a_file(world: &World) {
    let mut bundle = world.bundle();
    let process = bundle.sleeper();
    let resources = json!({"pids": {"limit": 44}}).to_string();
    let file = bundle.host("resources.json");
    std::fs::write(&file, &resources).unwrap();
    bundle.call(&["update", "--resources", &file, &bundle.id]).output().ok();
    assert_eq!(process.control("pids", &["pids.max"]), "44");
    bundle
        .call(&["update", "--resources", "-", &bundle.id])
        .input(json!({"pids": {"limit": 45}}).to_string())
        .output()
        .ok();
    assert_eq!(process.control("pids", &["pids.max"]), "45");
}

fn events_has_statistics(world: &World) {
    let mut bundle = world.bundle();
    bundle
        .set("/linux/resources/pids", json!({"limit": 50}))
        .set("/linux/resources/memory", json!({"limit": 64 << 20}));
    bundle.sleeper();
    let text = bundle.call(&["events", "--stats", &bundle.id]).output().ok();
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&event["type"], &event["id"]),
        (&json!("stats"), &json!(bundle.id.as_str()))
    );
    let data = &event["data"];
    assert_eq!(
        (data["pids"]["current"].as_u64(), data["pids"]["limit"].as_u64()),
        (Some(1), Some(50)),
        "{data}"
    );
    assert!(
        data["memory"]["usage"]["usage"].as_u64().is_some_and(|bytes| bytes > 0),
        "{data}"
    );
    assert_eq!(data["memory"]["usage"]["limit"], 64 << 20);
    assert!(
        data["cpu"]["usage"]["total"]
            .as_u64()
            .is_some_and(|nanoseconds| nanoseconds > 0),
        "{data}"
    );
}

fn spec_makes_a_configuration_that_runs(world: &World) {
    let bundle = world.bundle();
    let folder = bundle.folder().to_str().unwrap();
    bundle.call(&["spec", "--bundle", folder]).output().ok();
    let path = bundle.folder().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(
        (config["process"]["args"].clone(), config["process"]["terminal"].clone()),
        (json!(["sh"]), json!(true))
    );
    // A configuration that is there is not overwritten.
    assert_ne!(bundle.call(&["spec", "--bundle", folder]).output().code, 0);
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["echo", "runs"]);
    // Its group's name would not carry the tag.
    config["linux"]["cgroupsPath"] = json!(crate::world::cgroups_path(world.cgroup(), &bundle.id));
    std::fs::write(&path, config.to_string()).unwrap();
    assert_eq!(
        bundle.call(&["run", "--bundle", folder, &bundle.id]).output().ok(),
        "runs"
    );
}

fn features_names_what_is_there(world: &World) {
    let bundle = world.bundle();
    let text = bundle.call(&["features"]).output().ok();
    let features: Value = serde_json::from_str(&text).unwrap();
    assert!(
        features["ociVersionMin"].is_string() && features["ociVersionMax"].is_string(),
        "{features}"
    );
    let has = |pointer: &str, word: &str| {
        features
            .pointer(pointer)
            .and_then(Value::as_array)
            .is_some_and(|list| list.contains(&json!(word)))
    };
    for hook in [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ] {
        assert!(has("/hooks", hook), "{hook}");
    }
    for option in ["ro", "rbind", "nosuid", "rro", "rprivate"] {
        assert!(has("/mountOptions", option), "{option}");
    }
    for kind in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
        assert!(has("/linux/namespaces", kind), "{kind}");
    }
    assert!(has("/linux/capabilities", "CAP_SYS_ADMIN"));
    assert!(has("/linux/seccomp/actions", "SCMP_ACT_ERRNO"));
    assert_eq!(features["linux"]["cgroup"]["v1"], true);
}

fn the_version_is_shown(world: &World) {
    let bundle = world.bundle();
    let out = bundle.call(&["--version"]).output().ok();
    assert!(out.contains("version") && out.contains("spec"), "{out}");
}

fn log_of(bundle: &Bundle, flags: &[&str]) -> String {
    let (log, folder) = (bundle.host("log"), bundle.folder().to_str().unwrap());
    bundle.save();
    let words = [&["--log", &log][..], flags, &["create", "--bundle", folder, &bundle.id]].concat();
    assert_ne!(bundle.call(&words).output().code, 0);
    std::fs::read_to_string(log).unwrap()
}

/// What containerd and Docker read to say why a container did not start.
fn errors_are_logged_as_json(world: &World) {
    let mut bundle = world.bundle();
    bundle.args(&["no-such-program"]);
    let text = log_of(&bundle, &["--log-format", "json"]);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}")))
        .collect();
    let error = lines
        .iter()
        .rfind(|line| line["level"] == "error")
        .unwrap_or_else(|| panic!("no error in {text}"));
    assert!(
        error["msg"]
            .as_str()
            .is_some_and(|text| text.contains("no-such-program")),
        "{error}"
    );
    assert!(
        error["time"]
            .as_str()
            .is_some_and(|time| time.starts_with("20") && time.contains('T')),
        "{error}"
    );
}

fn errors_are_logged_as_text(world: &World) {
    let mut bundle = world.bundle();
    bundle.args(&["no-such-program"]);
    let text = log_of(&bundle, &[]);
    assert!(text.contains("no-such-program") && !text.starts_with('{'), "{text}");
}

fn unknown_commands_and_flags_are_errors(world: &World) {
    let bundle = world.bundle();
    for words in [
        &["no-such-command"][..],
        &["list", "--no-such-flag"],
        &["create"],
        &["state"],
        &["exec", "x"],
        &["list", "--format", "nothing"],
        &["--log-format", "nothing", "list"],
    ] {
        let out = bundle.call(words).output();
        assert!(out.code != 0, "{words:?}: {out:?}");
    }
}
