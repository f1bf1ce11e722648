//! What is written where, in each layout.

use super::trees::{Trees, own, parent};
use crate::cgroup::*;
use crate::plan::CgroupJoin;

fn refused(trees: &Trees, resources: &Resources) -> String {
    let plan = trees.groups().plan(&parent(), "c1", resources);
    plan.map(|_| ()).unwrap_err().to_string()
}

fn network() -> Resources {
    Resources {
        net_class: Some(0x10_0001),
        net_priorities: vec![InterfacePriority {
            interface: "eth0".into(),
            priority: 5,
        }],
        ..Resources::default()
    }
}

fn rdma() -> Resources {
    Resources {
        rdma: vec![
            RdmaLimit {
                device: "mlx5_1".into(),
                handles: Some(3),
                objects: Some(1_000),
            },
            RdmaLimit {
                device: "ocrdma1".into(),
                handles: None,
                objects: Some(7),
            },
            RdmaLimit {
                device: "left".into(),
                handles: None,
                objects: None,
            },
        ],
        ..Resources::default()
    }
}

fn huge() -> Resources {
    Resources {
        hugepages: vec![("2MB".into(), 4 << 20)],
        ..Resources::default()
    }
}

fn unified(file: &str, value: &str) -> Resources {
    Resources {
        unified: vec![(file.into(), value.into())],
        ..Resources::default()
    }
}

#[test]
fn hierarchies_of_rare_controllers_are_joined_only_when_asked_for() {
    let trees = Trees::new()
        .v1("freezer")
        .v1("cpu,cpuacct")
        .v1("net_cls,net_prio")
        .v1("cpuset")
        .v1("rdma");
    let groups = trees.groups();
    let plan = groups.plan(&parent(), "c1", &Resources::default()).unwrap();
    assert_eq!(trees.own(&plan), ["freezer/iechor/c1", "cpu,cpuacct/iechor/c1"]);
    assert_eq!(groups.v1_mounts().len(), 2);

    let plan = groups.plan(&parent(), "c1", &network()).unwrap();
    assert_eq!(
        trees.own(&plan),
        [
            "freezer/iechor/c1",
            "cpu,cpuacct/iechor/c1",
            "net_cls,net_prio/iechor/c1"
        ]
    );
    assert_eq!(
        trees.lines(&plan.writes),
        [
            "net_cls,net_prio/iechor/c1/net_cls.classid=1048577",
            "net_cls,net_prio/iechor/c1/net_prio.ifpriomap=eth0 5",
        ]
    );
    assert!(matches!(&plan.join, CgroupJoin::Tasks { files } if files.len() == 3));
    assert!(plan.parents.contains(&trees.path().join("net_cls,net_prio/iechor")));

    let plan = groups.plan(&parent(), "c1", &rdma()).unwrap();
    assert_eq!(
        trees.lines(&plan.writes),
        [
            "rdma/iechor/c1/rdma.max=mlx5_1 hca_handle=3 hca_object=1000",
            "rdma/iechor/c1/rdma.max=ocrdma1 hca_object=7",
        ]
    );
    // A set needs both files before anybody can join.
    let cpus = Resources {
        cpuset_cpus: Some("1".into()),
        ..Resources::default()
    };
    let plan = groups.plan(&parent(), "c1", &cpus).unwrap();
    assert_eq!(
        trees.lines(&plan.writes),
        ["cpuset/iechor/c1/cpuset.cpus=1", "cpuset/iechor/c1/cpuset.mems=0"]
    );
}

#[test]
fn a_set_that_shares_a_hierarchy_with_others_is_filled_for_everybody() {
    let trees = Trees::new().v1("freezer").v1("cpu,cpuset");
    let plan = trees.groups().plan(&parent(), "c1", &Resources::default()).unwrap();
    assert_eq!(
        trees.lines(&plan.writes),
        [
            "cpu,cpuset/iechor/c1/cpuset.cpus=0-3",
            "cpu,cpuset/iechor/c1/cpuset.mems=0"
        ]
    );
}

#[test]
fn what_no_hierarchy_holds_is_refused_by_name() {
    let v1 = Trees::new().v1("freezer").v1("memory").v1("blkio");
    let absent = |what: &str, controller: &str| {
        format!("{what} needs the {controller} cgroup controller, which is not available on this machine")
    };
    let limit = |change: fn(&mut Resources)| {
        let mut resources = Resources::default();
        change(&mut resources);
        resources
    };
    for (resources, text) in [
        (network(), absent("linux.resources.network.classID", "net_cls")),
        (rdma(), absent("linux.resources.rdma", "rdma")),
        (huge(), absent("linux.resources.hugepageLimits", "hugetlb")),
        (
            limit(|r| r.pids = Some(5)),
            absent("linux.resources.pids.limit", "pids"),
        ),
        (
            unified("memory.high", "5"),
            "linux.resources.unified[\"memory.high\"] is not supported on cgroup v1".into(),
        ),
        (
            limit(|r| r.oom_group = Some(true)),
            "linux.resources.unified[\"memory.oom.group\"] is not supported on cgroup v1".into(),
        ),
        (
            limit(|r| r.kernel_tcp = Some(5)),
            "linux.resources.memory.kernelTCP is not supported by this kernel".into(),
        ),
        (
            limit(|r| r.blkio_leaf_weight = Some(50)),
            "linux.resources.blockIO.leafWeight is not supported by this kernel".into(),
        ),
        (
            limit(|r| r.memory_swap = Some(-1)),
            String::new(), // no limit needs no accounting
        ),
    ] {
        match text.as_str() {
            "" => drop(v1.groups().plan(&parent(), "c1", &resources).unwrap()),
            text => assert_eq!(refused(&v1, &resources), text),
        }
    }
    let v2 = Trees::new().v2("cpu memory io pids");
    let leaf = WeightDevice {
        major: 8,
        minor: 0,
        weight: 10,
    };
    for (resources, text) in [
        (
            network(),
            "linux.resources.network.classID is not supported on cgroup v2".into(),
        ),
        (rdma(), absent("linux.resources.rdma", "rdma")),
        (
            limit(|r| r.kernel_tcp = Some(5)),
            "linux.resources.memory.kernelTCP is not supported on cgroup v2".into(),
        ),
        (
            limit(|r| r.blkio_leaf_weight = Some(50)),
            "linux.resources.blockIO.leafWeight is not supported on cgroup v2".into(),
        ),
        (
            Resources {
                blkio_leaf_weight_device: vec![leaf],
                ..Resources::default()
            },
            "linux.resources.blockIO.weightDevice.leafWeight is not supported on cgroup v2".into(),
        ),
        (
            limit(|r| r.cpu_idle = Some(true)),
            "linux.resources.cpu.idle is not supported by this kernel".into(),
        ),
        (
            unified("rdma.max", "x"),
            absent("linux.resources.unified[\"rdma.max\"]", "rdma"),
        ),
        (
            unified("nonsense.max", "x"),
            absent("linux.resources.unified[\"nonsense.max\"]", "nonsense"),
        ),
    ] {
        assert_eq!(refused(&v2, &resources), text);
    }
    // Unlimited needs no file.
    v2.groups()
        .plan(&parent(), "c1", &limit(|r| r.kernel_tcp = Some(-1)))
        .unwrap();
}

#[test]
fn v1_holds_kernel_tcp_leaf_weights_and_reservations_where_the_kernel_has_them() {
    let trees = Trees::new()
        .v1("memory")
        .v1("blkio")
        .v1("hugetlb")
        .file("memory/iechor/memory.kmem.tcp.limit_in_bytes", "9223372036854771712\n")
        .file("blkio/iechor/blkio.leaf_weight", "500\n")
        .file("hugetlb/iechor/hugetlb.2MB.rsvd.limit_in_bytes", "0\n");
    let resources = Resources {
        kernel_tcp: Some(1 << 20),
        blkio_leaf_weight: Some(100),
        blkio_leaf_weight_device: vec![WeightDevice {
            major: 8,
            minor: 16,
            weight: 200,
        }],
        hugepages: vec![("2MB".into(), 4), ("1GB".into(), 8)],
        ..Resources::default()
    };
    let plan = trees.groups().plan(&parent(), "c1", &resources).unwrap();
    assert_eq!(
        trees.lines(&plan.writes),
        [
            "memory/iechor/c1/memory.kmem.tcp.limit_in_bytes=1048576",
            "blkio/iechor/c1/blkio.leaf_weight=100",
            "blkio/iechor/c1/blkio.leaf_weight_device=8:16 200",
            "hugetlb/iechor/c1/hugetlb.2MB.limit_in_bytes=4",
            "hugetlb/iechor/c1/hugetlb.2MB.rsvd.limit_in_bytes=4",
            "hugetlb/iechor/c1/hugetlb.1GB.limit_in_bytes=8",
        ]
    );
}

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
fn v1_writes_come_in_an_order_that_the_kernel_takes() {
    let trees = Trees::new().v1("cpu").v1("memory").v1("freezer");
    for (file, text) in [
        ("cpu.idle", "0"),
        ("cpu.shares", "1024"),
        ("cpu.cfs_quota_us", "50000"),
        ("cpu.cfs_period_us", "100000"),
        ("cpu.cfs_burst_us", "20000"),
        ("cpu.rt_period_us", "1000000"),
        ("cpu.rt_runtime_us", "0"),
    ] {
        trees.set(&format!("cpu/iechor/c1/{file}"), text);
    }
    let groups = trees.groups();
    let order = |resources: &Resources| -> Vec<String> {
        let writes = limits::limits(&groups.tree, &own(), resources).unwrap();
        trees
            .lines(&writes)
            .iter()
            .map(|line| line["cpu/iechor/c1/".len()..].to_owned())
            .collect()
    };
    // A smaller burst goes before the smaller quota, a shorter period after it.
    let less = Resources {
        cpu_burst: Some(5_000),
        cpu_quota: Some(10_000),
        cpu_period: Some(20_000),
        cpu_rt_period: Some(500_000),
        cpu_rt_runtime: Some(1_000),
        ..Resources::default()
    };
    assert_eq!(
        order(&less),
        [
            "cpu.cfs_burst_us=5000",
            "cpu.cfs_quota_us=10000",
            "cpu.cfs_period_us=20000",
            "cpu.rt_runtime_us=1000",
            "cpu.rt_period_us=500000",
        ]
    );
    let more = Resources {
        cpu_burst: Some(60_000),
        cpu_quota: Some(100_000),
        cpu_period: Some(200_000),
        cpu_rt_period: Some(2_000_000),
        cpu_rt_runtime: Some(1_000),
        cpu_shares: Some(2),
        cpu_idle: Some(false),
        ..Resources::default()
    };
    assert_eq!(
        order(&more),
        [
            "cpu.idle=0",
            "cpu.shares=2",
            "cpu.cfs_period_us=200000",
            "cpu.cfs_quota_us=100000",
            "cpu.cfs_burst_us=60000",
            "cpu.rt_period_us=2000000",
            "cpu.rt_runtime_us=1000",
        ]
    );
    // An idle group has the kernel's weight and refuses any other.
    let idle = Resources {
        cpu_shares: Some(2),
        cpu_idle: Some(true),
        ..Resources::default()
    };
    assert_eq!(order(&idle), ["cpu.idle=1"]);
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
