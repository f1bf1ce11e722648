//! What is written where on v1, and what is refused where.

use super::trees::{Trees, own, parent};
use crate::cgroup::*;
use crate::plan::CgroupJoin;

pub fn refused(trees: &Trees, resources: &Resources) -> String {
    let plan = trees.groups().plan(&parent(), "c1", resources);
    plan.map(|_| ()).unwrap_err().to_string()
}

pub fn network() -> Resources {
    Resources {
        net_class: Some(0x10_0001),
        net_priorities: vec![InterfacePriority {
            interface: "eth0".into(),
            priority: 5,
        }],
        ..Resources::default()
    }
}

pub fn rdma() -> Resources {
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

pub fn huge() -> Resources {
    Resources {
        hugepages: vec![("2MB".into(), 4 << 20)],
        ..Resources::default()
    }
}

pub fn unified(file: &str, value: &str) -> Resources {
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
