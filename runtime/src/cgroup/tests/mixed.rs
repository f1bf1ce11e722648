//! What is written where on v2, alone and beside v1.

use super::layouts::{huge, network, rdma, refused, unified};
use super::trees::{Trees, own, parent};
use crate::cgroup::*;
use crate::plan::CgroupJoin;

#[test]
fn v2_enables_rare_controllers_only_when_asked_for() {
    let trees = Trees::new().v2("cpuset cpu io memory hugetlb pids rdma misc");
    let groups = trees.groups();
    groups.plan(&parent(), "c1", &Resources::default()).unwrap();
    let base = "+cpuset +cpu +io +memory +hugetlb +pids";
    assert_eq!(trees.get("v2/iechor/cgroup.subtree_control"), base);
    let misc = unified("misc.max", "res_a 3\nres_b max\n");
    for (resources, wanted) in [
        (rdma(), "+rdma"),
        (unified("rdma.max", "a hca_handle=1"), "+rdma"),
        (misc, "+misc"),
    ] {
        // As the kernel tells what is enabled.
        for folder in ["v2", "v2/iechor"] {
            trees.set(
                &format!("{folder}/cgroup.subtree_control"),
                "cpuset cpu io memory hugetlb pids\n",
            );
        }
        let plan = groups.plan(&parent(), "c1", &resources).unwrap();
        for folder in ["v2", "v2/iechor"] {
            assert_eq!(trees.get(&format!("{folder}/cgroup.subtree_control")), wanted);
        }
        assert_eq!(plan.parent_writes[0].value, format!("{base} {wanted}"));
    }
    // A set's partition, files of the core, and pressure need nothing further; a line per device is a write per line.
    let resources = Resources {
        oom_group: Some(true),
        unified: vec![
            ("cgroup.max.depth".into(), "3".into()),
            ("cpu.pressure".into(), "some 1 2".into()),
            ("cpuset.cpus.partition".into(), "root".into()),
            ("io.max".into(), "8:0 rbps=1\n8:16 wbps=2\n".into()),
        ],
        ..Resources::default()
    };
    let plan = groups.plan(&parent(), "c1", &resources).unwrap();
    assert_eq!(
        trees.lines(&plan.writes),
        [
            "v2/iechor/c1/memory.oom.group=1",
            "v2/iechor/c1/cgroup.max.depth=3",
            "v2/iechor/c1/cpu.pressure=some 1 2",
            "v2/iechor/c1/cpuset.cpus.partition=root",
            "v2/iechor/c1/io.max=8:0 rbps=1",
            "v2/iechor/c1/io.max=8:16 wbps=2",
        ]
    );
}

#[test]
fn a_mixed_layout_decides_controller_by_controller() {
    let trees = Trees::new()
        .v1("freezer")
        .v1("devices")
        .v1("cpu,cpuacct")
        .v1("memory")
        .v2("hugetlb rdma")
        .file("v2/iechor/hugetlb.2MB.rsvd.max", "max\n");
    let groups = trees.groups();
    assert_eq!(groups.mode(), Mode::Hybrid);
    // Nothing on v2 is needed: nobody pays for it.
    let limited = Resources {
        memory: Some(1 << 20),
        ..Resources::default()
    };
    let plan = groups.plan(&parent(), "c1", &limited).unwrap();
    assert!(matches!(plan.join, CgroupJoin::Tasks { .. }));
    assert_eq!(trees.get("v2/cgroup.subtree_control"), "");
    assert_eq!(
        trees.lines(&plan.writes),
        ["memory/iechor/c1/memory.limit_in_bytes=1048576"]
    );

    let both = Resources {
        devices: vec![DeviceRule::all(false)],
        ..huge()
    };
    let plan = groups
        .plan(
            &parent(),
            "c1",
            &Resources {
                memory: Some(1 << 20),
                ..both
            },
        )
        .unwrap();
    assert_eq!(trees.own(&plan).last().unwrap(), "v2/iechor/c1");
    let CgroupJoin::Both { dir, files } = &plan.join else {
        panic!("{:?}", plan.join)
    };
    assert_eq!((trees.short(dir), files.len()), ("v2/iechor/c1".into(), 4));
    assert_eq!(trees.get("v2/iechor/cgroup.subtree_control"), "+hugetlb");
    assert_eq!(plan.parent_writes[0].value, "+hugetlb");
    assert_eq!(
        trees.lines(&plan.writes),
        [
            "memory/iechor/c1/memory.limit_in_bytes=1048576",
            "v2/iechor/c1/hugetlb.2MB.max=4194304",
            "v2/iechor/c1/hugetlb.2MB.rsvd.max=4194304",
            "devices/iechor/c1/devices.deny=a",
        ]
    );
    assert!(plan.devices.is_empty());
    assert_eq!(trees.short(&plan.oom.unwrap()), "memory/iechor/c1/memory.oom_control");

    let plan = groups
        .plan(&parent(), "c1", &unified("rdma.max", "a hca_handle=1"))
        .unwrap();
    assert_eq!(trees.lines(&plan.writes), ["v2/iechor/c1/rdma.max=a hca_handle=1"]);
    assert_eq!(
        refused(&trees, &unified("memory.high", "1")),
        "linux.resources.unified[\"memory.high\"] is not supported where its controller is on cgroup v1"
    );
}

#[test]
fn a_mixed_layout_with_the_great_controllers_on_v2_joins_it_always() {
    let trees = Trees::new().v1("freezer").v1("cpuacct").v1("net_cls").v2("cpu memory");
    let groups = trees.groups();
    let resources = Resources {
        memory: Some(1 << 20),
        cpu_shares: Some(1_024),
        devices: vec![DeviceRule::all(false)],
        ..network()
    };
    let plan = groups.plan(&parent(), "c1", &Resources::default()).unwrap();
    assert!(matches!(plan.join, CgroupJoin::Both { .. }));
    assert_eq!(trees.short(&plan.oom.unwrap()), "v2/iechor/c1/memory.events");
    assert!(groups.support().memory && groups.support().cpu_cfs && !groups.support().swappiness);
    assert!(groups.support().devices, "eBPF");
    assert!(refused(&trees, &resources).contains("priorities needs the net_prio"));
    let resources = Resources {
        net_priorities: vec![],
        ..resources
    };
    let plan = groups.plan(&parent(), "c1", &resources).unwrap();
    assert_eq!(
        trees.lines(&plan.writes),
        [
            "v2/iechor/c1/cpu.weight=100",
            "v2/iechor/c1/memory.max=1048576",
            "net_cls/iechor/c1/net_cls.classid=1048577",
        ]
    );
    assert!(!plan.devices.is_empty());
}

#[test]
fn an_update_on_v2_enables_and_puts_back() {
    let trees = Trees::new()
        .v2("memory io rdma")
        .file("v2/iechor/c1/memory.current", "5000000\n")
        .file("v2/iechor/c1/memory.swap.current", "1000000\n")
        .file("v2/iechor/c1/memory.max", "max\n")
        .file("v2/iechor/c1/io.max", "8:0 rbps=5 wbps=max riops=max wiops=max\n")
        .file("v2/iechor/c1/rdma.max", "");
    let groups = trees.groups();
    let check = |memory, memory_swap| Resources {
        memory: Some(memory),
        memory_swap: Some(memory_swap),
        check_before_update: true,
        ..Resources::default()
    };
    let error = groups.update(&own(), &check(4_999_999, -1)).unwrap_err().to_string();
    assert!(
        error.contains("linux.resources.memory.limit") && error.contains("5000000"),
        "{error}"
    );
    let error = groups
        .update(&own(), &check(5_500_000, 5_999_999))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("linux.resources.memory.swap") && error.contains("6000000"),
        "{error}"
    );
    assert_eq!(trees.get("v2/iechor/c1/memory.max"), "max\n");
    groups.update(&own(), &check(5_000_000, 6_000_000)).unwrap();
    assert_eq!(trees.get("v2/iechor/c1/memory.swap.max"), "1000000");

    groups.update(&own(), &rdma()).unwrap();
    assert_eq!(trees.get("v2/iechor/c1/rdma.max"), "ocrdma1 hca_object=7");
    assert_eq!(trees.get("v2/iechor/cgroup.subtree_control"), "+io +memory +rdma");

    // The last write fails; lines of devices are put back as they were.
    std::fs::create_dir(trees.path().join("v2/iechor/c1/memory.high")).unwrap();
    let throttle = |major| Throttle {
        major,
        minor: 0,
        rate: 9,
    };
    let resources = |major| Resources {
        read_bps: vec![throttle(major)],
        ..unified("memory.high", "5")
    };
    for (major, after) in [
        (8, "8:0 rbps=5 wbps=max riops=max wiops=max"),
        (9, "9:0 rbps=max wbps=max riops=max wiops=max"),
    ] {
        trees.set("v2/iechor/c1/io.max", "8:0 rbps=5 wbps=max riops=max wiops=max\n");
        groups.update(&own(), &resources(major)).unwrap_err();
        assert_eq!(trees.get("v2/iechor/c1/io.max"), after);
    }
}
