#![allow(clippy::unwrap_used)]

use super::detect::Tree;
use super::*;
use crate::plan::{CgroupJoin, CgroupWrite};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

// ---- v2 on a fake tree -------------------------------------------------------------------------------------------

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
        "memory swappiness is not supported on cgroup v2"
    );
    assert_eq!(
        refused(Resources {
            oom_kill_disable: true,
            ..Resources::default()
        }),
        "disabling the OOM killer is not supported on cgroup v2"
    );
    assert_eq!(
        refused(Resources {
            cpu_rt_runtime: Some(10),
            ..Resources::default()
        }),
        "a real-time CPU limit is not supported on cgroup v2"
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
            limit: Some(10)
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

// ---- the kernel's own, v1 or v2, as this machine has it ------------------------------------------------------------

/// A group with a process in it; both are gone at the end, whatever happens.
struct Live {
    groups: Cgroups,
    parent: CgroupPath,
    path: CgroupPath,
    child: Child,
}

impl Live {
    /// None where this machine lets us make no groups.
    fn start(resources: &Resources) -> Option<Live> {
        let groups = Cgroups::detect().ok()?;
        let parent = CgroupPath::new(&format!(
            "iechor-test-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ))
        .unwrap();
        let plan = match groups.plan(&parent, "c1", resources) {
            Ok(plan) => plan,
            Err(CgroupError::Io { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                eprintln!("skipped: no permission to make cgroups here");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        for folder in &plan.own {
            fs::create_dir(folder).unwrap();
        }
        for write in &plan.writes {
            fs::write(&write.path, &write.value).unwrap_or_else(|error| panic!("{write:?}: {error}"));
        }
        let files: Vec<PathBuf> = match &plan.join {
            CgroupJoin::Into { dir } => vec![dir.join("cgroup.procs")],
            CgroupJoin::Tasks { files } | CgroupJoin::Both { files, .. } => files.clone(),
            CgroupJoin::None => vec![],
        };
        let script: String = files
            .iter()
            .map(|file| format!("echo 0 > '{}' && ", file.display()))
            .collect();
        let child = Command::new("/bin/sh")
            .args(["-c", &format!("{script} echo ready && exec sleep 1000")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut live = Live {
            path: parent.child("c1").unwrap(),
            groups,
            parent,
            child,
        };
        let mut ready = [0; 6];
        io::Read::read_exact(live.child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        Some(live)
    }

    fn file(&self, v1: (&str, &str), v2: &str) -> String {
        let file = match self.groups.mode() {
            Mode::V2 => v2::folder(&self.groups.tree, &self.path).unwrap().join(v2),
            _ => self.groups.tree.v1_group(v1.0, &self.path).unwrap().join(v1.1),
        };
        fs::read_to_string(file).unwrap().trim().to_owned()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.groups.thaw(&self.path);
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.groups.remove(&self.parent);
    }
}

#[test]
fn a_real_group_is_limited_frozen_updated_counted_killed_and_removed() {
    let resources = Resources {
        memory: Some(64 << 20),
        memory_swap: Some(128 << 20),
        pids: Some(20),
        cpu_shares: Some(512),
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        cpuset_cpus: Some("0".into()),
        devices: vec![DeviceRule::all(false), DeviceRule::parse(true, "c 1:3 rwm").unwrap()],
        ..Resources::default()
    };
    let Some(mut live) = Live::start(&resources) else {
        return;
    };
    assert_eq!(
        live.file(("memory", "memory.limit_in_bytes"), "memory.max"),
        (64 << 20).to_string()
    );
    assert_eq!(live.file(("pids", "pids.max"), "pids.max"), "20");
    assert_eq!(live.file(("cpuset", "cpuset.cpus"), "cpuset.cpus"), "0");
    let pid = live.child.id() as i32;
    assert!(live.groups.pids(&live.path).unwrap().contains(&pid));

    // Up and down again: the order of memory and swap matters on v1.
    for memory in [256 << 20, 16 << 20, 512 << 20] {
        let limits = Resources {
            memory: Some(memory),
            memory_swap: Some(memory * 2),
            ..Resources::default()
        };
        live.groups.update(&live.path, &limits).unwrap();
        assert_eq!(
            live.file(("memory", "memory.limit_in_bytes"), "memory.max"),
            memory.to_string()
        );
    }
    let unlimited = Resources {
        memory: Some(-1),
        ..Resources::default()
    };
    live.groups.update(&live.path, &unlimited).unwrap();
    assert_eq!(live.groups.stats(&live.path).unwrap().memory.limit, None);
    let quota = |quota, period| Resources {
        cpu_quota: Some(quota),
        cpu_period: Some(period),
        ..Resources::default()
    };
    for change in [quota(10_000, 20_000), quota(200_000, 200_000), quota(-1, 100_000)] {
        live.groups.update(&live.path, &change).unwrap();
    }

    let stats = live.groups.stats(&live.path).unwrap();
    assert!(
        stats.cpu.total > 0 && stats.memory.usage > 0 && stats.pids.current >= 1,
        "{stats:?}"
    );
    assert_eq!(live.groups.oom_kills(&live.path).unwrap(), 0);

    live.groups.freeze(&live.path).unwrap();
    assert_eq!(live.groups.freeze_state(&live.path).unwrap(), Freeze::Frozen);
    live.groups.thaw(&live.path).unwrap();
    assert_eq!(live.groups.freeze_state(&live.path).unwrap(), Freeze::Thawed);

    // A frozen one is killed as well.
    live.groups.freeze(&live.path).unwrap();
    let reaper = std::thread::spawn({
        let mut child = std::mem::replace(&mut live.child, Command::new("true").spawn().unwrap());
        move || child.wait().unwrap()
    });
    live.groups.kill_all(&live.path).unwrap();
    assert!(!reaper.join().unwrap().success());
    assert!(live.groups.pids(&live.path).unwrap().is_empty());

    // Groups that the container made itself go too.
    for folder in live.groups.tree.groups(&live.path) {
        if folder.is_dir() {
            fs::create_dir_all(folder.join("inner/most")).unwrap();
        }
    }
    live.groups.remove(&live.path).unwrap();
    assert!(!live.groups.exists(&live.path));
    live.groups.remove(&live.path).unwrap();
    live.groups.kill_all(&live.path).unwrap();
}

#[test]
fn an_oom_kill_is_counted() {
    let resources = Resources {
        memory: Some(8 << 20),
        memory_swap: Some(8 << 20),
        ..Resources::default()
    };
    let Some(live) = Live::start(&resources) else { return };
    let procs = match live.groups.mode() {
        Mode::V2 => v2::folder(&live.groups.tree, &live.path).unwrap().join("cgroup.procs"),
        _ => live.groups.tree.v1_group("memory", &live.path).unwrap().join("tasks"),
    };
    let script = format!(
        "echo 0 > '{}'; exec head -c 64M /dev/zero | tail -c 64M >/dev/null",
        procs.display()
    );
    let _ = Command::new("/bin/sh")
        .args(["-c", &script])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let mut kills = 0;
    for _ in 0..50 {
        kills = live.groups.oom_kills(&live.path).unwrap();
        if kills > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(kills > 0);
}

/// A v2 hierarchy takes device programs even where the controllers are on v1, so this can be asked of the kernel in
/// either layout.
#[test]
fn the_kernel_accepts_and_obeys_the_device_program() {
    use std::os::fd::AsFd;
    let Some(root) = Cgroups::detect().ok().and_then(|groups| groups.tree.v2.clone()) else {
        return;
    };
    let folder = root.join(format!("iechor-test-bpf-{}", std::process::id()));
    if fs::create_dir(&folder).is_err() {
        eprintln!("skipped: no permission to make cgroups here");
        return;
    }
    let rules = [
        DeviceRule::all(false),
        DeviceRule::parse(true, "c *:* m").unwrap(),
        DeviceRule::parse(true, "c 1:* r").unwrap(),
        DeviceRule::parse(true, "c 1:3 w").unwrap(),
        DeviceRule::parse(false, "c 1:5 r").unwrap(),
    ];
    let attached = runtime_sys::bpf::load_device_program(&devices::program(&rules)).and_then(|program| {
        let group = fs::File::open(&folder)?;
        runtime_sys::bpf::attach_device_program(group.as_fd(), program.as_fd())
    });
    let run = |script: &str| {
        let join = format!("echo 0 > '{}/cgroup.procs' && {script}", folder.display());
        Command::new("/bin/sh")
            .args(["-c", &join])
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    };
    let answers = [
        run(": < /dev/null"),
        run("echo x > /dev/null"),
        run(": < /dev/full"),
        run(": > /dev/full"),
        run(": < /dev/zero"),
    ];
    let _ = fs::remove_dir(&folder);
    match attached {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => eprintln!("skipped: no bpf here"),
        other => {
            other.unwrap();
            assert_eq!(answers, [true, true, true, false, false]);
        }
    }
}
