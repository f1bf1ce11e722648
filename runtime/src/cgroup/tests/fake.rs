//! v2 on a fake tree: what is written, converted, read and refused.

use crate::cgroup::detect::Tree;
use crate::cgroup::*;
use crate::plan::{CgroupJoin, CgroupWrite};
use std::fs;

struct Fake {
    root: tempfile::TempDir,
    groups: Cgroups,
}

/// A folder that looks like the root of a v2 tree with a parent `iechor` in it. Files that the kernel would make for a
/// new group are made by hand.
fn fake() -> Fake {
    let root = tempfile::tempdir().unwrap();
    let group = |folder: &Path| {
        fs::create_dir_all(folder).unwrap();
        for (file, text) in [
            ("cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma\n"),
            ("cgroup.subtree_control", ""),
            ("cgroup.procs", ""),
            ("cpu.idle", "0\n"),
            ("cpu.max.burst", "0\n"),
        ] {
            fs::write(folder.join(file), text).unwrap();
        }
    };
    group(root.path());
    group(&root.path().join("iechor"));
    let line = format!("41 31 0:38 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
    let groups = Cgroups::of(Tree::parse(&line).unwrap());
    Fake { root, groups }
}

fn parent() -> CgroupPath {
    CgroupPath::new("iechor").unwrap()
}

fn pairs(writes: &[CgroupWrite]) -> Vec<(String, String)> {
    writes
        .iter()
        .map(|write| {
            (
                write.path.file_name().unwrap().to_str().unwrap().to_owned(),
                write.value.clone(),
            )
        })
        .collect()
}

fn v2_files(resources: &Resources) -> Vec<(String, String)> {
    pairs(&fake().groups.plan(&parent(), "c1", resources).unwrap().writes)
}

fn expect(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files
        .iter()
        .map(|(file, value)| ((*file).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn v2_enables_controllers_down_to_the_parent() {
    let fake = fake();
    let plan = fake.groups.plan(&parent(), "c1", &Resources::default()).unwrap();
    for folder in [fake.root.path().to_owned(), fake.root.path().join("iechor")] {
        let text = fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap();
        assert_eq!(text, "+cpuset +cpu +io +memory +hugetlb +pids");
    }
    let own = fake.root.path().join("iechor/c1");
    assert_eq!(plan.own, std::slice::from_ref(&own));
    assert_eq!(plan.join, CgroupJoin::Into { dir: own.clone() });
    assert_eq!(plan.oom, Some(own.join("memory.events")));
    assert!(plan.writes.is_empty() && plan.devices.is_empty());
    // Should somebody remove the parent, the shim can make it again.
    assert_eq!(plan.parents, [fake.root.path().join("iechor")]);
    assert_eq!(plan.parent_writes[0].value, "+cpuset +cpu +io +memory +hugetlb +pids");
}

#[test]
fn v2_limits_are_converted() {
    let throttle = Throttle {
        major: 8,
        minor: 16,
        rate: 1_000,
    };
    let mut resources = Resources {
        cpu_shares: Some(1024),
        cpu_burst: Some(500),
        cpuset_cpus: Some("0-1".into()),
        memory: Some(100 << 20),
        memory_swap: Some(300 << 20),
        memory_reservation: Some(50 << 20),
        pids: Some(64),
        blkio_weight: Some(500),
        read_bps: vec![throttle],
        write_iops: vec![Throttle { rate: 0, ..throttle }],
        hugepages: vec![("2MB".into(), 4 << 20)],
        unified: vec![("memory.oom.group".into(), "1".into())],
        devices: vec![DeviceRule::all(false)],
        ..Resources::default()
    };
    resources.set_nano_cpus(1_500_000_000);
    assert_eq!(
        v2_files(&resources),
        expect(&[
            ("cpu.weight", "100"),
            ("cpu.max", "150000 100000"),
            ("cpu.max.burst", "500"),
            ("memory.swap.max", "209715200"),
            ("memory.max", "104857600"),
            ("memory.low", "52428800"),
            ("pids.max", "64"),
            ("cpuset.cpus", "0-1"),
            ("io.weight", "default 4950"),
            ("io.max", "8:16 rbps=1000"),
            ("io.max", "8:16 wiops=max"),
            ("hugetlb.2MB.max", "4194304"),
            ("memory.oom.group", "1"),
        ])
    );
    let plan = fake().groups.plan(&parent(), "c1", &resources).unwrap();
    assert!(!plan.devices.is_empty() && plan.devices.len().is_multiple_of(8));
}

#[test]
fn v2_unlimited_is_max() {
    let unlimited = |memory, memory_swap| Resources {
        memory,
        memory_swap,
        ..Resources::default()
    };
    assert_eq!(
        v2_files(&unlimited(Some(-1), None)),
        expect(&[("memory.swap.max", "max"), ("memory.max", "max")])
    );
    assert_eq!(
        v2_files(&unlimited(Some(1 << 20), Some(-1))),
        expect(&[("memory.swap.max", "max"), ("memory.max", "1048576")])
    );
    assert_eq!(
        v2_files(&unlimited(Some(1 << 20), Some(1 << 20))),
        expect(&[("memory.swap.max", "0"), ("memory.max", "1048576")])
    );
    assert_eq!(v2_files(&unlimited(Some(0), Some(0))), []);
    for pids in [-1, 0] {
        let resources = Resources {
            pids: Some(pids),
            ..Resources::default()
        };
        assert_eq!(v2_files(&resources), expect(&[("pids.max", "max")]));
    }
    let quota = Resources {
        cpu_quota: Some(-1),
        cpu_period: Some(50_000),
        ..Resources::default()
    };
    assert_eq!(v2_files(&quota), expect(&[("cpu.max", "max 50000")]));
}

#[test]
fn shares_keep_minimum_default_and_maximum() {
    let weights: Vec<u64> = [0, 2, 512, 1024, 2048, 262_144, u64::MAX]
        .map(v2::weight_of_shares)
        .to_vec();
    assert_eq!(weights, [1, 1, 59, 100, 174, 10_000, 10_000]);
    let mut last = 0;
    for shares in 2..262_145 {
        let weight = v2::weight_of_shares(shares);
        assert!(weight >= last && weight <= 10_000);
        last = weight;
    }
}

#[test]
fn what_v2_cannot_hold_is_refused_by_name() {
    let refused = |resources: Resources| {
        fake()
            .groups
            .plan(&parent(), "c1", &resources)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(Resources {
            swappiness: Some(10),
            ..Resources::default()
        }),
        "linux.resources.memory.swappiness is not supported on cgroup v2"
    );
    assert_eq!(
        refused(Resources {
            oom_kill_disable: true,
            ..Resources::default()
        }),
        "linux.resources.memory.disableOOMKiller is not supported on cgroup v2"
    );
    assert_eq!(
        refused(Resources {
            cpu_rt_runtime: Some(10),
            ..Resources::default()
        }),
        "linux.resources.cpu.realtimeRuntime is not supported on cgroup v2"
    );
}

#[test]
fn senseless_values_are_refused() {
    let bad = [
        Resources {
            memory: Some(10),
            memory_swap: Some(5),
            ..Resources::default()
        },
        Resources {
            memory_swap: Some(5),
            ..Resources::default()
        },
        Resources {
            memory: Some(-2),
            ..Resources::default()
        },
        Resources {
            memory: Some(10),
            memory_reservation: Some(11),
            ..Resources::default()
        },
        Resources {
            swappiness: Some(101),
            ..Resources::default()
        },
        Resources {
            cpu_period: Some(999),
            ..Resources::default()
        },
        Resources {
            cpu_quota: Some(999),
            ..Resources::default()
        },
        Resources {
            blkio_weight: Some(5),
            ..Resources::default()
        },
        Resources {
            cpuset_cpus: Some("a".into()),
            ..Resources::default()
        },
        Resources {
            cpuset_cpus: Some("3-1".into()),
            ..Resources::default()
        },
        Resources {
            cpuset_mems: Some("0-".into()),
            ..Resources::default()
        },
        Resources {
            hugepages: vec![("../x".into(), 1)],
            ..Resources::default()
        },
        Resources {
            unified: vec![("../memory.max".into(), "1".into())],
            ..Resources::default()
        },
        Resources {
            unified: vec![("cgroup.procs".into(), "1".into())],
            ..Resources::default()
        },
    ];
    for resources in bad {
        assert!(
            matches!(resources.validate(), Err(CgroupError::Invalid { .. })),
            "{resources:?}"
        );
    }
    for list in ["0", "0-3", "0-3,7", "1,2,3", "0-31:2/4"] {
        Resources {
            cpuset_cpus: Some(list.into()),
            ..Resources::default()
        }
        .validate()
        .unwrap();
    }
}

#[test]
fn v2_statistics_are_read() {
    let fake = fake();
    let own = fake.root.path().join("iechor/c1");
    fs::create_dir(&own).unwrap();
    for (file, text) in [
        (
            "cpu.stat",
            "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 5\nnr_throttled 2\nthrottled_usec 7\n",
        ),
        ("memory.current", "4096\n"),
        ("memory.peak", "8192\n"),
        ("memory.max", "max\n"),
        ("memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n"),
        ("memory.stat", "anon 1\nfile 2\ninactive_file 3\n"),
        ("pids.current", "4\n"),
        ("pids.max", "10\n"),
        ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
        ("cgroup.freeze", "1\n"),
        ("cgroup.events", "populated 1\nfrozen 1\n"),
        ("cgroup.procs", "12\n7\n"),
    ] {
        fs::write(own.join(file), text).unwrap();
    }
    let path = parent().child("c1").unwrap();
    let stats = fake.groups.stats(&path).unwrap();
    assert_eq!(
        (stats.cpu.total, stats.cpu.throttled, stats.cpu.periods),
        (30_000, 7_000, 5)
    );
    assert_eq!(
        (stats.memory.usage, stats.memory.limit, stats.memory.failures),
        (4096, None, 3)
    );
    assert_eq!(stats.memory.get("inactive_file"), Some(3));
    assert_eq!(
        stats.pids,
        PidsStats {
            current: 4,
            limit: Some(10),
            peak: None,
        }
    );
    let entry = |op: &str, value| IoEntry {
        major: 8,
        minor: 0,
        op: op.into(),
        value,
    };
    assert_eq!(stats.io.service_bytes, [entry("read", 1), entry("write", 2)]);
    assert_eq!(stats.io.serviced, [entry("read", 3), entry("write", 4)]);
    assert_eq!(fake.groups.oom_kills(&path).unwrap(), 2);
    assert_eq!(fake.groups.freeze_state(&path).unwrap(), Freeze::Frozen);
    assert_eq!(fake.groups.pids(&path).unwrap(), [7, 12]);
    assert_eq!(fake.groups.children(&parent()).unwrap(), ["c1"]);
    assert!(fake.groups.stats(&parent().child("absent").unwrap()).is_err());
}

#[test]
fn a_failed_update_puts_back_what_it_changed() {
    let fake = fake();
    let own = fake.root.path().join("iechor/c1");
    fs::create_dir(&own).unwrap();
    fs::write(own.join("memory.max"), "max\n").unwrap();
    fs::create_dir(own.join("pids.max")).unwrap(); // a write to it fails
    let path = parent().child("c1").unwrap();
    let resources = Resources {
        memory: Some(1 << 30),
        pids: Some(5),
        ..Resources::default()
    };
    let error = fake.groups.update(&path, &resources).unwrap_err();
    assert!(error.to_string().contains("pids.max"), "{error}");
    assert_eq!(fs::read_to_string(own.join("memory.max")).unwrap(), "max");
    let swap_alone = Resources {
        memory_swap: Some(1 << 30),
        ..Resources::default()
    };
    fs::write(own.join("memory.max"), "1048576\n").unwrap();
    fake.groups.update(&path, &swap_alone).unwrap();
    assert_eq!(
        fs::read_to_string(own.join("memory.swap.max")).unwrap(),
        ((1 << 30) - (1 << 20)).to_string()
    );
}

#[test]
fn paths_stay_below_the_root() {
    for bad in ["", "/", "..", "/a/../b", "a/./b", "a/\n", "//"] {
        assert!(CgroupPath::new(bad).is_err(), "{bad:?}");
    }
    assert_eq!(CgroupPath::new("//a///b/").unwrap().as_str(), "/a/b");
    for bad in ["", "a/b", "..", "."] {
        assert!(parent().child(bad).is_err(), "{bad:?}");
    }
}
