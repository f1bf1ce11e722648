//! The control groups of a container by systemd: a scope that holds what was asked for, whatever happens around it.

use std::process::Command;

use harness::Test;
use serde_json::json;

use crate::bundle::Bundle;
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    harness::tests![
        a_scope_holds_the_container_and_its_limits,
        a_reload_of_systemd_changes_nothing,
        an_update_is_systemds_too,
        the_scope_ends_with_the_container,
        a_scope_of_a_failed_start_is_gone,
        an_exec_is_in_the_scope,
        pause_stops_the_scope,
        a_path_of_the_file_system_is_refused,
    ]
}

fn show(unit: &str, property: &str) -> String {
    let out = Command::new("systemctl")
        .args(["show", "--value", "-p", property, unit])
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

fn scope(world: &World, bundle: &Bundle) -> String {
    format!(
        "{}-{}.scope",
        world.cgroup().trim_start_matches('/').replace('/', "_"),
        bundle.id
    )
}

fn limited(world: &World) -> (Bundle, String) {
    let mut bundle = world.bundle();
    bundle.set(
        "/linux/resources",
        json!({
            "memory": {"limit": 64 << 20},
            "pids": {"limit": 77},
            "cpu": {"quota": 50_000, "period": 100_000},
            "devices": [{"allow": false, "access": "rwm"}]
        }),
    );
    let unit = scope(world, &bundle);
    (bundle, unit)
}

fn group_file(bundle: &Bundle, file: &str) -> String {
    let groups = bundle.cgroups();
    let found = groups
        .iter()
        .find_map(|group| std::fs::read_to_string(group.join(file)).ok());
    found
        .unwrap_or_else(|| panic!("no {file} in {groups:?}"))
        .trim()
        .to_owned()
}

fn a_scope_holds_the_container_and_its_limits(world: &World) {
    let (mut bundle, unit) = limited(world);
    let process = bundle.sleeper();
    assert_eq!(show(&unit, "ActiveState"), "active");
    assert_eq!(show(&unit, "Slice"), "system.slice");
    let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", process.0)).unwrap();
    assert!(cgroup.contains(&format!("/system.slice/{unit}")), "{cgroup}");
    assert_eq!(show(&unit, "ControlGroup"), format!("/system.slice/{unit}"));
    assert_eq!(show(&unit, "MemoryMax"), (64 << 20).to_string());
    assert_eq!(show(&unit, "TasksMax"), "77");
    assert_eq!(group_file(&bundle, "memory.max"), (64 << 20).to_string());
    assert_eq!(group_file(&bundle, "pids.max"), "77");
    assert_eq!(group_file(&bundle, "cpu.max"), "50000 100000");
}

fn a_reload_of_systemd_changes_nothing(world: &World) {
    let (mut bundle, _) = limited(world);
    let process = bundle.sleeper();
    assert!(
        Command::new("systemctl")
            .arg("daemon-reload")
            .status()
            .unwrap()
            .success()
    );
    assert!(process.is_alive());
    assert_eq!(group_file(&bundle, "memory.max"), (64 << 20).to_string());
    assert_eq!(group_file(&bundle, "pids.max"), "77");
    assert_eq!(group_file(&bundle, "cpu.max"), "50000 100000");
    // The device program too.
    assert!(
        bundle
            .inside("mknod /mem c 1 1; probe read-open /mem")
            .out
            .contains("EPERM")
    );
}

fn an_update_is_systemds_too(world: &World) {
    let (mut bundle, unit) = limited(world);
    let _process = bundle.sleeper();
    let id = bundle.id.clone();
    bundle
        .call(&["update", "--memory", "100663296", "--pids-limit", "55", &id])
        .output()
        .ok();
    assert_eq!(show(&unit, "MemoryMax"), "100663296");
    assert_eq!(show(&unit, "TasksMax"), "55");
    assert!(
        Command::new("systemctl")
            .arg("daemon-reload")
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(group_file(&bundle, "memory.max"), "100663296");
    assert_eq!(group_file(&bundle, "pids.max"), "55");
}

fn the_scope_ends_with_the_container(world: &World) {
    let (mut bundle, unit) = limited(world);
    let _process = bundle.sleeper();
    bundle.delete(&["--force"]).ok();
    harness::tools::eventually("the scope is gone", 10, || show(&unit, "LoadState") == "not-found");
    assert!(bundle.cgroups().is_empty());
}

fn a_scope_of_a_failed_start_is_gone(world: &World) {
    let (mut bundle, unit) = limited(world);
    bundle.args(&["/no/such/program"]);
    assert_ne!(bundle.run().code, 0);
    harness::tools::eventually("the scope is gone", 10, || show(&unit, "LoadState") == "not-found");
}

fn an_exec_is_in_the_scope(world: &World) {
    let (mut bundle, unit) = limited(world);
    let process = bundle.sleeper();
    let pids = bundle.exec_with(&["--detach"], &["sleep", "1000"]);
    pids.ok();
    let members = group_file(&bundle, "cgroup.procs");
    assert_eq!(members.lines().count(), 2, "{members} in {unit}");
    assert!(members.lines().any(|pid| pid == process.0.to_string()));
}

fn pause_stops_the_scope(world: &World) {
    let (mut bundle, _) = limited(world);
    let _process = bundle.sleeper();
    let id = bundle.id.clone();
    bundle.call(&["pause", &id]).output().ok();
    assert_eq!(bundle.status(), "paused");
    bundle.call(&["resume", &id]).output().ok();
    assert_eq!(bundle.status(), "running");
}

fn a_path_of_the_file_system_is_refused(world: &World) {
    let mut bundle = world.bundle();
    bundle.set("/linux/cgroupsPath", "/some/path");
    let out = bundle.run();
    assert!(out.code != 0 && out.err.contains("slice:prefix:name"), "{out:?}");
}
