//! Whole units, on trees that only look like control groups.
#![allow(clippy::unwrap_used)]

use super::super::detect::Tree;
use super::super::{DeviceRule, Throttle};
use super::*;
use crate::systemd::UnitValue;
use crate::wire::Blob;
use std::path::Path;

fn fake_v2() -> (tempfile::TempDir, Cgroups) {
    let root = tempfile::tempdir().unwrap();
    let controllers = "cpuset cpu io memory hugetlb pids rdma\n";
    // What the kernel would put into the slices that the plan is for.
    for folder in ["", "a.slice", "a.slice/a-b.slice", "system.slice"] {
        let folder = root.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("cgroup.controllers"), controllers).unwrap();
        fs::write(folder.join("cgroup.subtree_control"), "").unwrap();
    }
    let line = format!("41 31 0:38 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
    let groups = Cgroups::of(Tree::parse(&line).unwrap());
    (root, groups)
}

fn fake_v1() -> (tempfile::TempDir, Cgroups) {
    let root = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    for name in ["cpu", "memory", "pids", "devices"] {
        fs::create_dir(root.path().join(name)).unwrap();
        lines += &format!(
            "41 31 0:38 / {0}/{name} rw - cgroup cgroup rw,{name}\n",
            root.path().display()
        );
    }
    let groups = Cgroups::of(Tree::parse(&lines).unwrap());
    (root, groups)
}

fn place() -> UnitPlace {
    UnitPlace::parse("a-b.slice:iechor:c1", "", "").unwrap()
}

fn value<'a>(unit: &'a SystemdUnit, name: &str) -> Option<&'a UnitValue> {
    let found: Vec<_> = unit
        .properties
        .iter()
        .filter(|property| property.name == name)
        .collect();
    assert!(found.len() < 2, "{name} stands twice");
    found.first().map(|property| &property.value)
}

fn written(plan: &CgroupPlan, file: &str) -> Option<String> {
    let found = plan.writes.iter().rev().find(|write| write.path.ends_with(file));
    found.map(|write| write.value.clone())
}

#[test]
fn a_unit_and_its_files_say_the_same() {
    let (root, groups) = fake_v2();
    let resources = Resources {
        cpu_quota: Some(12_345),
        memory: Some(64 << 20),
        memory_swap: Some(96 << 20),
        memory_reservation: Some(32 << 20),
        cpu_shares: Some(1024),
        cpuset_cpus: Some("0-1".into()),
        write_bps: vec![Throttle {
            major: 8,
            minor: 0,
            rate: 5,
        }],
        unified: vec![("memory.high".into(), "60M".into())],
        devices: vec![DeviceRule::all(false), DeviceRule::parse(true, "c 1:3 rwm").unwrap()],
        ..Resources::default()
    };
    let user = [
        UnitProperty::new("CollectMode", "inactive"),
        UnitProperty::new("MemoryMax", 5u64),
        UnitProperty::new("TimeoutStopUSec", 9u64),
    ];
    let (plan, unit) = groups
        .plan_unit(&place(), "a container", &user, &resources, 252)
        .unwrap();
    assert_eq!(
        (unit.name.as_str(), unit.slice.as_str()),
        ("iechor-c1.scope", "a-b.slice")
    );
    for (name, expected) in [
        ("Delegate", UnitValue::from(true)),
        ("DefaultDependencies", false.into()),
        ("CPUAccounting", true.into()),
        ("IOAccounting", true.into()),
        ("CollectMode", "inactive".into()),
        ("TimeoutStopUSec", 9u64.into()),
        ("MemoryMax", (64u64 << 20).into()),
        ("MemorySwapMax", (32u64 << 20).into()),
        ("MemoryLow", (32u64 << 20).into()),
        ("MemoryHigh", (60u64 << 20).into()),
        ("CPUWeight", 100u64.into()),
        ("CPUQuotaPerSecUSec", 130_000u64.into()),
        ("CPUQuotaPeriodUSec", 100_000u64.into()),
        ("AllowedCPUs", Blob(vec![3]).into()),
        ("TasksMax", INFINITY.into()),
        ("DevicePolicy", "strict".into()),
        (
            "DeviceAllow",
            vec![("/dev/char/1:3".to_owned(), "rwm".to_owned())].into(),
        ),
    ] {
        assert_eq!(value(&unit, name), Some(&expected), "{name}");
    }
    assert_eq!(written(&plan, "cpu.max").unwrap(), "13000 100000");
    assert_eq!(written(&plan, "memory.max").unwrap(), (64u64 << 20).to_string());
    assert_eq!(written(&plan, "io.max").unwrap(), "8:0 wbps=5");
    assert!(!plan.devices.is_empty());
    let own = root.path().join("a.slice/a-b.slice/iechor-c1.scope");
    assert_eq!(plan.own, std::slice::from_ref(&own));
    assert!(!own.exists());
    assert_eq!(plan.parent_writes[0].path, root.path().join("cgroup.subtree_control"));
    assert_eq!(plan.parent_writes.len(), 3);
}

#[test]
fn a_slice_is_no_scope_and_the_root_has_no_parents() {
    let (root, groups) = fake_v2();
    let slice = UnitPlace::parse("::a-b.slice", "", "").unwrap();
    let (plan, unit) = groups.plan_unit(&slice, "", &[], &Resources::default(), 257).unwrap();
    assert!(unit.is_slice());
    assert_eq!((value(&unit, "Delegate"), value(&unit, "CollectMode")), (None, None));
    assert_eq!(plan.own, [root.path().join("a.slice/a-b.slice")]);
    let top = UnitPlace::parse("-:p:c", "", "").unwrap();
    let (plan, _) = groups.plan_unit(&top, "", &[], &Resources::default(), 257).unwrap();
    assert_eq!((plan.parents.len(), plan.parent_writes.len()), (0, 1));
}

#[test]
fn a_quota_or_a_period_alone_is_judged_with_what_is_in_force() {
    let (root, groups) = fake_v2();
    let own = root.path().join("a.slice/a-b.slice/iechor-c1.scope");
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("cpu.max"), "10000 20000\n").unwrap();
    let share = |resources: &Resources| {
        let (resources, properties) = groups.update_unit(&place().path, resources, 252).unwrap();
        let quota = UnitProperty::new("CPUQuotaPerSecUSec", 0u64).name;
        let found = properties.iter().find(|property| property.name == quota).unwrap();
        (resources.cpu_quota, resources.cpu_period, found.value.clone())
    };
    let quota = Resources {
        cpu_quota: Some(5_000),
        ..Resources::default()
    };
    assert_eq!(share(&quota), (Some(5_000), Some(20_000), 250_000u64.into()));
    let period = Resources {
        cpu_period: Some(30_000),
        ..Resources::default()
    };
    assert_eq!(share(&period), (Some(10_200), Some(30_000), 340_000u64.into()));
    let none = Resources {
        cpu_quota: Some(-1),
        ..Resources::default()
    };
    assert_eq!(share(&none), (Some(-1), None, INFINITY.into()));
    let unified = |value: &str| {
        let resources = Resources {
            unified: vec![("cpu.max".into(), value.into())],
            ..Resources::default()
        };
        groups
            .update_unit(&place().path, &resources, 252)
            .map(|(resources, _)| resources.unified[0].1.clone())
    };
    assert_eq!(unified("12345 100000").unwrap(), "13000 100000");
    assert_eq!(unified("2469").unwrap(), "2600 20000");
    assert_eq!(unified("max 50000").unwrap(), "max 50000");
    assert!(unified("5000 x").is_err());
    // Nothing that starts a unit alone is in an update.
    let (_, properties) = groups.update_unit(&place().path, &Resources::default(), 252).unwrap();
    assert!(properties.is_empty());
}

#[test]
fn v1_has_its_own_names_and_exact_devices() {
    let (_root, groups) = fake_v1();
    let mut resources = Resources {
        memory: Some(1 << 20),
        pids: Some(5),
        cpu_shares: Some(512),
        devices: vec![DeviceRule::all(false), DeviceRule::parse(true, "c 1:3 r").unwrap()],
        ..Resources::default()
    };
    let (plan, unit) = groups.plan_unit(&place(), "", &[], &resources, 252).unwrap();
    for (name, expected) in [
        ("MemoryLimit", UnitValue::from(1u64 << 20)),
        ("CPUShares", 512u64.into()),
        ("TasksMax", 5u64.into()),
        ("BlockIOAccounting", true.into()),
        ("DevicePolicy", "strict".into()),
    ] {
        assert_eq!(value(&unit, name), Some(&expected), "{name}");
    }
    assert_eq!(plan.own.len(), 4);
    // The kernel's own list can hold this, systemd's cannot.
    resources.devices.push(DeviceRule::parse(true, "c *:5 r").unwrap());
    let error = groups.plan_unit(&place(), "", &[], &resources, 252).unwrap_err();
    assert!(error.to_string().contains("by systemd on cgroup v1"), "{error}");
    let (_root, groups) = fake_v2();
    groups.plan_unit(&place(), "", &[], &resources, 252).unwrap();
}

#[test]
fn other_device_rules_replace_the_list() {
    let (_root, groups) = fake_v2();
    let change = |devices: Vec<DeviceRule>| {
        let resources = Resources {
            devices,
            ..Resources::default()
        };
        groups.update_unit(&place().path, &resources, 252).unwrap().1
    };
    let none = UnitProperty::new("DeviceAllow", Vec::<(String, String)>::new());
    let closed = change(vec![
        DeviceRule::all(false),
        DeviceRule::parse(true, "c 1:3 r").unwrap(),
    ]);
    let one = vec![("/dev/char/1:3".to_owned(), "r".to_owned())];
    assert_eq!(
        closed,
        [
            none.clone(),
            UnitProperty::new("DevicePolicy", "strict"),
            UnitProperty::new("DeviceAllow", one)
        ]
    );
    let open = change(vec![DeviceRule::all(true)]);
    assert_eq!(open, [none, UnitProperty::new("DevicePolicy", "auto")]);
}

#[test]
fn the_folder_is_named_as_the_path_says() {
    let (root, groups) = fake_v2();
    let place = UnitPlace::parse(":_x:c+d", "", "").unwrap();
    let (plan, unit) = groups.plan_unit(&place, "", &[], &Resources::default(), 252).unwrap();
    assert_eq!(unit.name, "_x-c\\x2bd.scope");
    let own = Path::new("system.slice/__x-c\\x2bd.scope");
    assert_eq!(plan.own, [root.path().join(own)]);
}
