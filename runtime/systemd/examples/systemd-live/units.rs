//! Units come, are what they should be, and go.

use crate::rig::{Sleeper, Unit, fresh, plan, show, systemctl, until};
use runtime::cgroup::{DeviceRule, Resources, UnitPlace, user_properties};
use runtime::systemd::UnitProperty;
use runtime_systemd::{Error, Manager};
use std::fs;
use std::process::Command;

pub fn version() {
    let version = Manager::connect().unwrap().version().unwrap();
    let shown = systemctl(&["--version"]);
    assert_eq!(shown.split_whitespace().nth(1).unwrap(), version.to_string());
}

pub fn connections() {
    // The machine has just booted: systemd has its name on the bus a moment after the bus is there.
    until("systemd is on the bus", || Manager::connect_bus(None).is_ok());
    for _ in 0..100 {
        Manager::connect_private().unwrap().version().unwrap();
        Manager::connect_bus(None).unwrap().version().unwrap();
    }
}

pub fn scope() {
    let unit = Unit::start(fresh(":live"), &[], &Resources::default());
    let mut manager = Manager::connect().unwrap();
    assert_eq!(manager.control_group(unit.name()).unwrap(), unit.place.path.as_str());
    assert_eq!(unit.file("cgroup.procs"), unit.process.pid().to_string());
    for (property, value) in [
        ("ActiveState", "active"),
        ("Slice", "system.slice"),
        ("Description", "a test's container"),
        ("Delegate", "yes"),
        ("DefaultDependencies", "no"),
        ("CollectMode", "inactive-or-failed"),
        ("MemoryAccounting", "yes"),
        ("TasksMax", "infinity"),
        ("Transient", "yes"),
    ] {
        assert_eq!(show(unit.name(), property), value, "{property}");
    }
}

pub fn same_limits() {
    let resources = Resources {
        cpu_quota: Some(12_345),
        cpu_period: Some(50_000),
        cpu_shares: Some(512),
        memory: Some(64 << 20),
        memory_swap: Some(96 << 20),
        memory_reservation: Some(32 << 20),
        pids: Some(77),
        cpuset_cpus: Some("1".into()),
        cpuset_mems: Some("0".into()),
        blkio_weight: Some(500),
        unified: vec![("memory.high".into(), "60M".into())],
        ..Resources::default()
    };
    let unit = Unit::start(fresh(":live"), &[], &resources);
    let files = unit
        .plan
        .writes
        .iter()
        .filter_map(|write| write.path.file_name()?.to_str());
    let files: Vec<&str> = files.collect();
    assert!(files.len() >= 10, "{files:?}");
    let read = |unit: &Unit| files.iter().map(|file| (*file, unit.file(file))).collect::<Vec<_>>();
    let by_systemd = read(&unit);
    assert!(
        by_systemd.contains(&("cpu.max", "12500 50000".into())),
        "{by_systemd:?}"
    );
    assert!(
        by_systemd.contains(&("memory.high", (60u64 << 20).to_string())),
        "{by_systemd:?}"
    );
    unit.write();
    assert_eq!(read(&unit), by_systemd);
}

pub fn slices() {
    let unit = Unit::start(fresh("live-one-two.slice:live"), &[], &Resources::default());
    assert!(
        unit.place
            .path
            .as_str()
            .starts_with("/live.slice/live-one.slice/live-one-two.slice/live-")
    );
    assert_eq!(show(unit.name(), "ControlGroup"), unit.place.path.as_str());
    assert!(unit.folder().is_dir());
    let mut manager = Manager::connect().unwrap();
    assert_eq!(
        manager.control_group("live-one.slice").unwrap(),
        "/live.slice/live-one.slice"
    );
    drop(unit);
    manager.stop_unit("live.slice").unwrap();
    let root = Unit::start(fresh("-.slice:live"), &[], &Resources::default());
    assert_eq!(show(root.name(), "ControlGroup"), format!("/{}", root.name()));
}

pub fn slice_unit() {
    let place = UnitPlace::parse("::live-own.slice", "", "").unwrap();
    let resources = Resources {
        memory: Some(64 << 20),
        ..Resources::default()
    };
    let unit = Unit::start(place, &[], &resources);
    assert_eq!(show(unit.name(), "ControlGroup"), "/live.slice/live-own.slice");
    assert_eq!(unit.file("memory.max"), (64 << 20).to_string());
    // It takes no processes over the bus; by its group they get in.
    assert!(unit.can("grep -q ^0::/live.slice/live-own.slice$ /proc/self/cgroup"));
    let (_, again) = plan(&unit.place, &[], &resources);
    Manager::connect().unwrap().start_unit(&again, &[]).unwrap();
    drop(unit);
    Manager::connect().unwrap().stop_unit("live.slice").unwrap();
}

pub fn escaped() {
    for prefix in [":a+b", ":_x", ":cgroup.x", ":.x", ":", "cpu.slice:x", "_a-b.slice:x"] {
        let unit = Unit::start(fresh(prefix), &[], &Resources::default());
        let group = Manager::connect().unwrap().control_group(unit.name()).unwrap();
        assert_eq!(group, unit.place.path.as_str(), "{prefix}");
        assert!(unit.folder().is_dir(), "{prefix}");
    }
    for slice in ["cpu.slice", "_a.slice"] {
        Manager::connect().unwrap().stop_unit(slice).unwrap();
    }
}

pub fn stop() {
    let mut unit = Unit::start(fresh(":live"), &[], &Resources::default());
    let mut manager = Manager::connect().unwrap();
    manager.stop_unit(unit.name()).unwrap();
    until("the process is stopped", || !unit.process.alive());
    assert!(!unit.folder().exists());
    assert_eq!(show(unit.name(), "LoadState"), "not-found");
    // Again is fine.
    manager.stop_unit(unit.name()).unwrap();
}

pub fn last_process() {
    let mut unit = Unit::start(fresh(":live"), &[], &Resources::default());
    unit.process.0.kill().unwrap();
    unit.process.0.wait().unwrap();
    until("the unit is gone", || show(unit.name(), "LoadState") == "not-found");
    assert!(!unit.folder().exists());
}

/// Fails after a moment, by systemd's own clock.
fn short_lived(mode: &str) -> [UnitProperty; 2] {
    [
        UnitProperty::new("RuntimeMaxUSec", 300_000u64),
        UnitProperty::new("CollectMode", mode),
    ]
}

pub fn failed() {
    let short = &short_lived("")[..1];
    let mut unit = Unit::start(fresh(":live"), short, &Resources::default());
    until("the process is stopped", || !unit.process.alive());
    until("the unit is gone", || show(unit.name(), "LoadState") == "not-found");
    assert!(!unit.folder().exists());
}

pub fn failed_name() {
    let mut unit = Unit::start(fresh(":live"), &short_lived("inactive"), &Resources::default());
    until("the process is stopped", || !unit.process.alive());
    until("the unit has failed", || show(unit.name(), "ActiveState") == "failed");
    let again = Unit::start(unit.place.clone(), &[], &Resources::default());
    assert_eq!(show(again.name(), "ActiveState"), "active");
}

pub fn exists() {
    let mut unit = Unit::start(fresh(":live"), &[], &Resources::default());
    let other = Sleeper::start();
    let (_, again) = plan(&unit.place, &[], &Resources::default());
    let error = Manager::connect()
        .unwrap()
        .start_unit(&again, &[other.pid()])
        .unwrap_err();
    assert!(matches!(error, Error::UnitExists { .. }), "{error}");
    assert_eq!(show(unit.name(), "ActiveState"), "active");
    assert!(unit.process.alive());
}

pub fn refused() {
    let process = Sleeper::start();
    let mut manager = Manager::connect().unwrap();
    let place = fresh(":live");
    let (_, mut unit) = plan(&place, &[UnitProperty::new("NoSuchThing", true)], &Resources::default());
    let error = manager.start_unit(&unit, &[process.pid()]).unwrap_err().to_string();
    assert!(error.contains("NoSuchThing") && error.contains(&place.name), "{error}");
    unit.properties = vec![UnitProperty::new("MemoryMax", "text")];
    let error = manager.start_unit(&unit, &[process.pid()]).unwrap_err();
    assert!(matches!(error, Error::Call { .. }), "{error}");
    unit.properties.clear();
    let error = manager.start_unit(&unit, &[]).unwrap_err();
    assert!(matches!(error, Error::Call { .. }), "{error}");
    unit.name = "no such name.scope".into();
    assert!(manager.start_unit(&unit, &[process.pid()]).is_err());
    // The connection is as good as before.
    manager.version().unwrap();
    assert_eq!(show(&place.name, "LoadState"), "not-found");
}

pub fn bus() {
    let mut manager = Manager::connect_bus(None).unwrap();
    assert_eq!(
        manager.version().unwrap(),
        Manager::connect_private().unwrap().version().unwrap()
    );
    let process = Sleeper::start();
    for _ in 0..2 {
        let place = fresh(":live");
        let (_, unit) = plan(&place, &[], &Resources::default());
        manager.start_unit(&unit, &[process.pid()]).unwrap();
        assert_eq!(manager.control_group(&place.name).unwrap(), place.path.as_str());
        // The same process, moved on: the first scope is empty, and goes by itself.
        let other = fresh(":live");
        let (_, unit) = plan(&other, &[], &Resources::default());
        manager.start_unit(&unit, &[process.pid()]).unwrap();
        until("the first scope is gone", || {
            show(&place.name, "LoadState") == "not-found"
        });
        let next = Sleeper::start();
        fs::write(
            format!("/sys/fs/cgroup{}/cgroup.procs", other.path),
            next.pid().to_string(),
        )
        .unwrap();
        manager
            .set_properties(&other.name, true, &[UnitProperty::new("TasksMax", 9u64)])
            .unwrap();
        assert_eq!(show(&other.name, "TasksMax"), "9");
        // Stopping kills what is in it: that may be the other one alone.
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.trim().strip_prefix("0::").unwrap();
        fs::write(format!("/sys/fs/cgroup{own}/cgroup.procs"), process.pid().to_string()).unwrap();
        manager.stop_unit(&other.name).unwrap();
        assert_eq!(show(&other.name, "LoadState"), "not-found");
    }
    let none = Manager::connect_bus(Some("unix:path=/nowhere")).unwrap_err();
    assert!(matches!(none, Error::Connect { .. }), "{none}");
    let none = Manager::connect_bus(Some("tcp:host=x")).unwrap_err();
    assert!(matches!(none, Error::Address { .. }), "{none}");
}

/// What the process does that [`creator`] starts: asks, and ends.
pub fn create(path: &str, pid: i32) {
    let place = UnitPlace::parse(path, "", "").unwrap();
    let (_, unit) = plan(&place, &[], &Resources::default());
    Manager::connect().unwrap().start_unit(&unit, &[pid]).unwrap();
}

pub fn creator() {
    let mut sleeper = Sleeper::start();
    let path = format!(":live:{}created", std::process::id());
    let place = UnitPlace::parse(&path, "", "").unwrap();
    // In a scope of its own, which ends with it.
    let own = Unit::start(fresh(":live"), &[], &Resources::default());
    let program = std::env::current_exe().unwrap();
    assert!(own.can(&format!("exec {} --create {path} {}", program.display(), sleeper.pid())));
    Manager::connect().unwrap().stop_unit(own.name()).unwrap();
    assert!(sleeper.alive());
    assert_eq!(show(&place.name, "ActiveState"), "active");
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", sleeper.pid())).unwrap();
    assert_eq!(groups.trim(), format!("0::{}", place.path));
    Manager::connect().unwrap().stop_unit(&place.name).unwrap();
    until("the process is stopped", || !sleeper.alive());
}

pub fn placeholder() {
    let mut unit = Unit::start(fresh(":live"), &[], &Resources::default());
    let mut container = Sleeper::start();
    fs::write(unit.folder().join("cgroup.procs"), container.pid().to_string()).unwrap();
    unit.process.0.kill().unwrap();
    unit.process.0.wait().unwrap();
    // Whatever systemd does about it, it does at once.
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(show(unit.name(), "ActiveState"), "active");
    assert!(container.alive());
    // A group below it is the container's own affair.
    fs::create_dir(unit.folder().join("below")).unwrap();
    fs::write(unit.folder().join("below/cgroup.procs"), container.pid().to_string()).unwrap();
    fs::write(unit.folder().join("cgroup.subtree_control"), "+memory +pids").unwrap();
    systemctl(&["daemon-reload"]);
    assert_eq!(unit.file("cgroup.subtree_control"), "memory pids");
    let mut command = Command::new("cat");
    let out = command
        .arg(format!("/proc/{}/cgroup", container.pid()))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&out.stdout).trim().ends_with("/below"));
}

pub fn annotations() {
    let user = user_properties([
        ("org.systemd.property.TimeoutStopSec", "7"),
        ("org.systemd.property.CollectMode", "'inactive'"),
        ("org.systemd.property.SendSIGHUP", "true"),
        ("org.systemd.property.RuntimeMaxUSec", "uint64 3600000000"),
        ("org.systemd.property.After", "['x.service', 'y.service']"),
    ]);
    let resources = Resources {
        devices: vec![DeviceRule::all(true)],
        ..Resources::default()
    };
    let unit = Unit::start(fresh(":live"), &user.unwrap(), &resources);
    for (property, value) in [
        ("TimeoutStopUSec", "7s"),
        ("CollectMode", "inactive"),
        ("SendSIGHUP", "yes"),
        ("RuntimeMaxUSec", "1h"),
        ("DevicePolicy", "auto"),
    ] {
        assert_eq!(show(unit.name(), property), value, "{property}");
    }
    let after = show(unit.name(), "After");
    assert!(after.contains("x.service") && after.contains("y.service"), "{after}");
}
