//! `systemctl daemon-reload` makes systemd write its own idea of every group: it must be ours.

use crate::rig::{Unit, fresh, systemctl};
use runtime::cgroup::{Cgroups, DeviceRule, Resources, Throttle};
use runtime_systemd::Manager;

/// Files whose content is to stay; that of a group which never had the controller is empty.
const FILES: [&str; 16] = [
    "cpu.max",
    "cpu.max.burst",
    "cpu.weight",
    "cpu.idle",
    "cpuset.cpus",
    "cpuset.mems",
    "io.max",
    "io.weight",
    "memory.high",
    "memory.low",
    "memory.max",
    "memory.min",
    "memory.oom.group",
    "memory.swap.max",
    "pids.max",
    "hugetlb.2MB.max",
];

fn files(unit: &Unit) -> Vec<(&'static str, String)> {
    let read = |file| std::fs::read_to_string(unit.folder().join(file)).unwrap_or_default();
    FILES.iter().map(|file| (*file, read(file))).collect()
}

/// Twice, for what is only written down at the first time.
fn reload() {
    for _ in 0..2 {
        systemctl(&["daemon-reload"]);
    }
}

fn stays(resources: &Resources, expected: &[(&str, &str)]) {
    let unit = Unit::finished(fresh("live-reload.slice:live"), resources);
    let before = files(&unit);
    for (file, value) in expected {
        assert_eq!(unit.file(file), *value, "{file}");
    }
    reload();
    assert_eq!(files(&unit), before);
    // Another unit of the slice makes systemd go over it again.
    let _other = Unit::start(fresh("live-reload.slice:live"), &[], &Resources::default());
    assert_eq!(files(&unit), before);
}

pub fn limits() {
    stays(
        &Resources {
            cpu_quota: Some(12_345),
            cpu_shares: Some(512),
            memory: Some(64 << 20),
            memory_swap: Some(96 << 20),
            memory_reservation: Some(32 << 20),
            pids: Some(77),
            cpuset_cpus: Some("0".into()),
            blkio_weight: Some(500),
            ..Resources::default()
        },
        &[
            ("cpu.max", "13000 100000"),
            ("memory.max", "67108864"),
            ("memory.swap.max", "33554432"),
            ("memory.low", "33554432"),
            ("pids.max", "77"),
            ("cpuset.cpus", "0"),
        ],
    );
    stays(
        &Resources {
            cpu_idle: Some(true),
            pids: Some(-1),
            memory: Some(-1),
            // A percent of so short a period is below the kernel's shortest quota: both sides take a longer one.
            cpu_quota: Some(1_000),
            cpu_period: Some(1_000_000),
            ..Resources::default()
        },
        &[("cpu.idle", "1"), ("pids.max", "max"), ("cpu.max", "10000 1000000")],
    );
}

pub fn unified() {
    let set = |file: &str, value: &str| (file.to_owned(), value.to_owned());
    let mut resources = Resources {
        unified: vec![
            set("cpu.max", "2469 20000"),
            set("cpu.weight", "33"),
            set("cpuset.cpus", "0-1"),
            set("cpuset.mems", "0"),
            set("memory.high", "60M"),
            set("memory.low", "1M"),
            set("memory.max", "64M"),
            set("memory.min", "4096"),
            set("memory.swap.max", "0"),
            set("pids.max", "9"),
        ],
        ..Resources::default()
    };
    let mut expected = vec![
        ("cpu.max", "2600 20000"),
        ("cpu.weight", "33"),
        ("memory.min", "4096"),
        ("memory.high", "62914560"),
        ("pids.max", "9"),
    ];
    if Manager::connect().unwrap().version().unwrap() >= 253 {
        // Before, it is written anew for every group, and scopes have no property that says what.
        resources.unified.push(set("memory.oom.group", "1"));
        expected.push(("memory.oom.group", "1"));
    }
    stays(&resources, &expected);
}

pub fn updated() {
    let first = Resources {
        cpu_quota: Some(50_000),
        memory: Some(64 << 20),
        pids: Some(77),
        cpu_idle: Some(true),
        ..Resources::default()
    };
    let unit = Unit::finished(fresh(":live"), &first);
    let change = Resources {
        cpu_quota: Some(33_333),
        memory: Some(128 << 20),
        pids: Some(-1),
        cpu_idle: Some(false),
        cpuset_cpus: Some("1".into()),
        ..Resources::default()
    };
    update(&unit, change);
    let before = files(&unit);
    for (file, value) in [
        ("cpu.max", "34000 100000"),
        ("memory.max", "134217728"),
        ("pids.max", "max"),
        ("cpu.idle", "0"),
        ("cpu.weight", "100"),
        ("cpuset.cpus", "1"),
    ] {
        assert_eq!(unit.file(file), value, "{file}");
    }
    reload();
    assert_eq!(files(&unit), before);
}

const READ_NULL: &str = "head -c 1 </dev/null";
const READ_ZERO: &str = "head -c 1 </dev/zero >/dev/null";
const READ_FULL: &str = "head -c 1 </dev/full 2>/dev/null";

pub fn devices() {
    let resources = Resources {
        devices: vec![
            DeviceRule::all(false),
            DeviceRule::parse(true, "c *:* m").unwrap(),
            DeviceRule::parse(true, "c 1:3 rwm").unwrap(),
            DeviceRule::parse(true, "c 5:* rwm").unwrap(),
            // More than what is allowed in the end, which is for our program to hold back.
            DeviceRule::parse(true, "c 1:* r").unwrap(),
            DeviceRule::parse(false, "c 1:7 r").unwrap(),
        ],
        ..Resources::default()
    };
    let unit = Unit::finished(fresh(":live"), &resources);
    let check = |when: &str| {
        assert!(unit.can(READ_NULL), "null {when}");
        assert!(unit.can(READ_ZERO), "zero {when}");
        assert!(!unit.can(READ_FULL), "full {when}");
        assert!(!unit.can("head -c 1 </dev/vda 2>/dev/null"), "vda {when}");
        assert!(unit.can("mknod /tmp/node c 9 9 && rm /tmp/node"), "mknod {when}");
        assert!(
            !unit.can("mknod /tmp/node b 9 9 2>/dev/null"),
            "mknod of a block device {when}"
        );
    };
    check("before");
    reload();
    check("after");
    update(
        &unit,
        Resources {
            memory: Some(64 << 20),
            ..Resources::default()
        },
    );
    check("after an update");
    // Other rules: what was allowed is not, and the other way round.
    update(
        &unit,
        Resources {
            devices: vec![
                DeviceRule::all(false),
                DeviceRule::parse(true, "c 1:3 rw").unwrap(),
                DeviceRule::parse(true, "c 1:7 r").unwrap(),
            ],
            ..Resources::default()
        },
    );
    for when in ["after other rules", "after their reload"] {
        assert!(unit.can(READ_FULL), "full {when}");
        assert!(!unit.can(READ_ZERO), "zero {when}");
        reload();
    }
}

fn update(unit: &Unit, change: Resources) {
    let groups = Cgroups::detect().unwrap();
    let mut manager = Manager::connect().unwrap();
    let version = manager.version().unwrap();
    let (change, properties) = groups.update_unit(&unit.place.path, &change, version).unwrap();
    manager.set_properties(unit.name(), true, &properties).unwrap();
    groups.update(&unit.place.path, &change).unwrap();
}

pub fn denied() {
    let resources = Resources {
        devices: vec![DeviceRule::all(true), DeviceRule::parse(false, "c 1:7 rwm").unwrap()],
        ..Resources::default()
    };
    let unit = Unit::finished(fresh(":live"), &resources);
    for when in ["before", "after"] {
        assert!(unit.can(READ_ZERO), "zero {when}");
        assert!(!unit.can(READ_FULL), "full {when}");
        reload();
    }
}

pub fn unknown() {
    let disk = std::fs::read_to_string("/sys/block/vda/dev").unwrap();
    let number: Vec<u32> = disk.trim().split(':').map(|part| part.parse().unwrap()).collect();
    stays(
        &Resources {
            cpu_quota: Some(50_000),
            cpu_burst: Some(10_000),
            write_bps: vec![Throttle {
                major: number[0],
                minor: number[1],
                rate: 1 << 20,
            }],
            hugepages: vec![("2MB".into(), 0)],
            ..Resources::default()
        },
        &[("cpu.max.burst", "10000"), ("hugetlb.2MB.max", "0")],
    );
}
