//! Changes of a container that runs, asked of the kernel's own groups.

use super::live::Live;
use crate::cgroup::detect::Place;
use crate::cgroup::*;
use std::fs;
use std::process::{Command, Stdio};

fn rules(rules: &[&str]) -> Resources {
    let parse = |rule: &&str| {
        let (word, rule) = rule.split_once(' ').unwrap();
        DeviceRule::parse(word == "allow", rule).unwrap()
    };
    Resources {
        devices: rules.iter().map(parse).collect(),
        ..Resources::default()
    }
}

impl Live {
    /// Whether a shell in the group that holds `controller` can do it.
    fn can(&self, controller: &str, script: &str) -> bool {
        let place = self.groups.tree.place(controller, &self.path).unwrap();
        let join = format!("echo 0 > '{}/cgroup.procs' && {script}", place.folder().display());
        let mut shell = Command::new("/bin/sh");
        let status = shell.args(["-c", &join]).stderr(Stdio::null()).status().unwrap();
        status.success()
    }

    fn group_of_child(&self, controller: &str) -> String {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.split(':').nth(1) == Some(controller));
        line.unwrap().rsplit(':').next().unwrap().to_owned()
    }
}

#[test]
fn device_rules_change_while_the_container_runs() {
    let Some(live) = Live::start(&rules(&["deny a", "allow c 1:3 rwm", "allow c 5:* rwm"])) else {
        return;
    };
    let seen = || {
        let can = |script| live.can("devices", script);
        [
            can("echo > /dev/null"),
            can(": < /dev/zero"),
            can(": > /dev/full"),
            can(": <> /dev/zero"),
        ]
    };
    assert_eq!(seen(), [true, false, false, false]);
    let on_v1 = matches!(live.groups.tree.place("devices", &live.path), Some(Place::V1(_)));
    for (change, expected) in [
        // Closed to closed; reading by one rule and writing by another is both.
        (
            &["deny a", "allow c 1:* r", "allow c 1:5 w"][..],
            [false, true, false, true],
        ),
        (&["deny a", "allow c *:* rwm"], [true; 4]),
        (&["deny a", "allow c 1:7 w"], [false, false, true, false]),
        // Opened but for one thing, another thing, and altogether.
        (&["deny c 1:3 w"], [false, true, true, true]),
        (&["deny c 1:7 w"], [true, true, false, true]),
        (&["allow a"], [true; 4]),
        (&["deny a", "allow c 1:3 rw"], [true, false, false, false]),
    ] {
        live.groups.update(&live.path, &rules(change)).unwrap();
        assert_eq!(seen(), expected, "{change:?}");
        // The container runs on.
        assert_eq!(live.groups.freeze_state(&live.path).unwrap(), Freeze::Thawed);
    }
    let hole = rules(&["deny a", "allow c 1:* rw", "deny c 1:3 w"]);
    match live.groups.update(&live.path, &hole) {
        Err(error) if on_v1 => assert!(error.to_string().contains("deny c 1:3 w"), "{error}"),
        other => other.unwrap(),
    }
    if on_v1 {
        assert_eq!(seen(), [true, false, false, false]);
    }
    // A frozen container stays frozen.
    live.groups.freeze(&live.path).unwrap();
    live.groups.update(&live.path, &rules(&["deny c 1:3 w"])).unwrap();
    assert_eq!(live.groups.freeze_state(&live.path).unwrap(), Freeze::Frozen);
    live.groups.thaw(&live.path).unwrap();
    assert_eq!(seen(), [false, true, true, true]);
}

#[test]
fn a_cpu_set_is_given_to_a_container_started_without_one() {
    let Some(live) = Live::start(&Resources::default()) else {
        return;
    };
    if !matches!(live.groups.tree.place("cpuset", &live.path), Some(Place::V1(_))) {
        eprintln!("skipped: cpuset is not on v1 here");
        return;
    }
    let before = live.group_of_child("cpuset");
    assert!(!before.ends_with("/c1"));
    let files = |live: &Live| match live.groups.joined(&live.path) {
        CgroupJoin::Tasks { files } | CgroupJoin::Both { files, .. } => files.len(),
        other => panic!("{other:?}"),
    };
    let count = files(&live);
    let cpus = Resources {
        cpuset_cpus: Some("0".into()),
        ..Resources::default()
    };

    // A later step fails (v1 does not close a group that has others below it): all is as before.
    if let Some(Place::V1(folder)) = live.groups.tree.place("devices", &live.path) {
        let below = folder.join("below");
        fs::create_dir(&below).unwrap();
        let resources = Resources {
            pids: Some(77),
            devices: vec![DeviceRule::all(false)],
            ..cpus.clone()
        };
        let error = live.groups.update(&live.path, &resources).unwrap_err();
        fs::remove_dir(&below).unwrap();
        assert!(error.to_string().contains("devices.deny"), "{error}");
        assert_eq!(live.group_of_child("cpuset"), before);
        assert_eq!(
            (files(&live), live.file(("pids", "pids.max"), "pids.max")),
            (count, "max".into())
        );
        assert_eq!(live.groups.freeze_state(&live.path).unwrap(), Freeze::Thawed);
    }

    live.groups.update(&live.path, &cpus).unwrap();
    assert!(live.group_of_child("cpuset").ends_with("/c1"));
    assert_eq!(live.file(("cpuset", "cpuset.cpus"), "cpuset.cpus"), "0");
    assert_ne!(live.file(("cpuset", "cpuset.mems"), "cpuset.mems"), "");
    assert_eq!(files(&live), count + 1, "where an exec belongs");
    live.groups.update(&live.path, &cpus).unwrap();

    // A container that is gone gets no group.
    let gone = live.parent.child("gone").unwrap();
    assert!(live.groups.update(&gone, &cpus).is_err());
    assert!(!live.groups.exists(&gone));
}

#[test]
fn burst_idle_and_kernel_tcp_are_held_and_usage_is_respected() {
    let resources = Resources {
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        cpu_burst: Some(20_000),
        memory: Some(64 << 20),
        ..Resources::default()
    };
    let Some(live) = Live::start(&resources) else { return };
    assert_eq!(live.file(("cpu", "cpu.cfs_burst_us"), "cpu.max.burst"), "20000");
    // Down and up again: the kernel wants burst ≤ quota at every step.
    for (quota, burst) in [(10_000, 5_000), (80_000, 70_000), (20_000, 0)] {
        let change = Resources {
            cpu_quota: Some(quota),
            cpu_burst: Some(burst),
            ..Resources::default()
        };
        live.groups.update(&live.path, &change).unwrap();
        assert_eq!(
            live.file(("cpu", "cpu.cfs_burst_us"), "cpu.max.burst"),
            burst.to_string()
        );
    }
    for idle in [true, true, false] {
        let change = Resources {
            cpu_idle: Some(idle),
            cpu_shares: Some(512),
            ..Resources::default()
        };
        live.groups.update(&live.path, &change).unwrap();
        assert_eq!(live.file(("cpu", "cpu.idle"), "cpu.idle"), u8::from(idle).to_string());
    }
    if let Some(Place::V1(folder)) = live.groups.tree.place("memory", &live.path)
        && folder.join("memory.kmem.tcp.limit_in_bytes").exists()
    {
        let change = Resources {
            kernel_tcp: Some(1 << 20),
            ..Resources::default()
        };
        live.groups.update(&live.path, &change).unwrap();
        let stats = live.groups.stats(&live.path).unwrap();
        assert_eq!(stats.memory.kernel_tcp.unwrap().limit, Some(1 << 20));
        assert!(
            !stats.cpu.per_cpu_user.is_empty() && !stats.memory.numa.is_empty(),
            "{stats:?}"
        );
    }
    let little = Resources {
        memory: Some(4096),
        check_before_update: true,
        ..Resources::default()
    };
    let error = live.groups.update(&live.path, &little).unwrap_err().to_string();
    assert!(
        error.contains("linux.resources.memory.limit: 4096 is less than"),
        "{error}"
    );
}

#[test]
fn real_time_is_given_and_taken_on_v1() {
    let Some(live) = Live::start(&Resources::default()) else {
        return;
    };
    let Some(Place::V1(folder)) = live.groups.tree.place("cpu", &live.path) else {
        eprintln!("skipped: cpu is not on v1 here");
        return;
    };
    let parent = folder.parent().unwrap().join("cpu.rt_runtime_us");
    if !parent.exists() {
        eprintln!("skipped: this kernel has no groups of real time");
        return;
    }
    let change = |runtime, period| Resources {
        cpu_rt_runtime: Some(runtime),
        cpu_rt_period: Some(period),
        ..Resources::default()
    };
    // A group gives away what it has, and it is the administrator who gives it to our parent.
    live.groups.update(&live.path, &change(1_000, 1_000_000)).unwrap_err();
    fs::write(parent, "20000").unwrap();
    // Each step alone has to fit: 2 % of a period.
    for (runtime, period) in [
        (10_000, 1_000_000),
        (2_000, 100_000),
        (20_000, 1_000_000),
        (1_000, 500_000),
    ] {
        live.groups.update(&live.path, &change(runtime, period)).unwrap();
        assert_eq!(live.file(("cpu", "cpu.rt_runtime_us"), ""), runtime.to_string());
        assert_eq!(live.file(("cpu", "cpu.rt_period_us"), ""), period.to_string());
    }
}

/// As much as the machine has a place for, whichever that is.
fn everything(groups: &Cgroups, step: u64) -> Resources {
    let path = CgroupPath::new("iechor-test").unwrap();
    let place = |controller: &str| groups.tree.place(controller, &path);
    let on_v1 = |controller: &str| matches!(place(controller), Some(Place::V1(_)));
    let on_v2 = |controller: &str| matches!(place(controller), Some(Place::V2(_)));
    let mut all = Resources {
        devices: vec![DeviceRule::all(false), DeviceRule::parse(true, "c 1:3 rwm").unwrap()],
        ..Resources::default()
    };
    if place("cpu").is_some() {
        all.cpu_shares = Some(100 * step);
        all.cpu_period = Some(100_000 * step);
        all.cpu_quota = Some(50_000 * step as i64);
        all.cpu_burst = Some(10_000 * step);
    }
    if place("cpuset").is_some() {
        all.cpuset_cpus = Some("0".into());
    }
    if place("pids").is_some() {
        all.pids = Some(20 * step as i64);
    }
    if place("memory").is_some() {
        all.memory = Some((64 << 20) * step as i64);
        all.memory_swap = groups.support().swap.then_some((128 << 20) * step as i64);
        all.memory_reservation = Some((32 << 20) * step as i64);
        all.check_before_update = true;
    }
    if on_v1("memory") {
        all.swappiness = Some(10 * step);
    }
    if on_v2("memory") {
        all.oom_group = Some(step == 1);
        all.unified
            .push(("memory.high".into(), ((60 << 20) * step).to_string()));
    }
    // Where v2 is joined only when asked, nothing is enabled in its root group but by the test of just that.
    if on_v1("hugetlb") || on_v2("hugetlb") && groups.tree.joins_v2() {
        all.hugepages = vec![("2MB".into(), (2 << 20) * step)];
    }
    if on_v1("net_cls") {
        all.net_class = Some(step as u32);
    }
    if on_v1("net_prio") {
        all.net_priorities = vec![InterfacePriority {
            interface: "lo".into(),
            priority: step as u32,
        }];
    }
    if groups.tree.joins_v2() {
        all.unified.push(("cgroup.max.depth".into(), (5 * step).to_string()));
    }
    if on_v2("cpuset") && groups.tree.joins_v2() {
        all.unified.push(("cpuset.cpus.partition".into(), "member".into()));
    }
    all
}

#[test]
fn all_that_the_machine_has_is_held_changed_and_counted() {
    let Ok(groups) = Cgroups::detect() else { return };
    let Some(live) = Live::start(&everything(&groups, 1)) else {
        return;
    };
    let check = |step: u64| {
        let resources = everything(&groups, step);
        let mut writes = limits::limits(&groups.tree, &live.path, &resources).unwrap();
        // Lists of lines, and values in the kernel's own words.
        writes.retain(|write| !write.value.contains([' ', '=']));
        for write in writes {
            let text = fs::read_to_string(&write.path).unwrap();
            assert_eq!(text.trim(), write.value, "{}", write.path.display());
        }
        let stats = live.groups.stats(&live.path).unwrap();
        assert_eq!(stats.memory.limit.map(|limit| limit as i64), resources.memory);
        assert_eq!(stats.pids.limit.map(|limit| limit as i64), resources.pids);
        for (size, limit) in &resources.hugepages {
            let pages = stats.huge_pages.iter().find(|pages| pages.size == *size).unwrap();
            assert_eq!(
                (pages.pages.limit, pages.reserved.unwrap().limit),
                (Some(*limit), Some(*limit))
            );
        }
        assert!(stats.cpu.total > 0);
    };
    check(1);
    for step in [2, 1] {
        live.groups.update(&live.path, &everything(&groups, step)).unwrap();
        check(step);
        assert!(live.can("devices", "echo > /dev/null") && !live.can("devices", ": < /dev/zero"));
    }
}

/// Takes back what the test enabled in the root group, which is not ours.
struct Enabled<'a> {
    root: &'a Path,
    before: String,
}

impl Drop for Enabled<'_> {
    fn drop(&mut self) {
        let file = self.root.join("cgroup.subtree_control");
        for name in fs::read_to_string(&file).unwrap_or_default().split_whitespace() {
            if !self.before.split_whitespace().any(|other| other == name) {
                let _ = fs::write(&file, format!("-{name}"));
            }
        }
    }
}

#[test]
fn huge_pages_are_held_by_v2_also_beside_v1() {
    let Ok(groups) = Cgroups::detect() else { return };
    let own = CgroupPath::new("iechor-test").unwrap();
    let Some(root) = groups.tree.v2.as_deref() else { return };
    if !matches!(groups.tree.place("hugetlb", &own), Some(Place::V2(_))) {
        eprintln!("skipped: hugetlb is not on v2 here");
        return;
    }
    let _enabled = Enabled {
        root,
        before: fs::read_to_string(root.join("cgroup.subtree_control")).unwrap(),
    };
    let huge = |limit: u64| Resources {
        hugepages: vec![("2MB".into(), limit)],
        ..Resources::default()
    };
    let check = |live: &Live, limit: u64| {
        for file in ["hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"] {
            assert_eq!(live.file(("hugetlb", ""), file), limit.to_string());
        }
        assert!(live.group_of_child("").ends_with("/c1"));
        let stats = live.groups.stats(&live.path).unwrap();
        let pages = stats.huge_pages.iter().find(|pages| pages.size == "2MB").unwrap();
        assert_eq!(pages.pages.limit, Some(limit));
        assert!(stats.cpu.total > 0 && stats.memory.usage > 0);
        assert_eq!(stats.cpu.pressure.is_some(), Path::new("/proc/pressure/cpu").exists());
    };
    {
        let Some(live) = Live::start(&huge(4 << 20)) else {
            return;
        };
        check(&live, 4 << 20);
        live.groups.update(&live.path, &huge(8 << 20)).unwrap();
        check(&live, 8 << 20);
    }
    // Given later, to a container that has no group on v2 where the layout is mixed.
    let Some(live) = Live::start(&Resources::default()) else {
        return;
    };
    live.groups.update(&live.path, &huge(2 << 20)).unwrap();
    check(&live, 2 << 20);
    if matches!(live.groups.tree.place("memory", &live.path), Some(Place::V1(_))) {
        let high = Resources {
            unified: vec![("memory.high".into(), "max".into())],
            ..Resources::default()
        };
        let error = live.groups.update(&live.path, &high).unwrap_err();
        assert!(error.to_string().contains("unified[\"memory.high\"]"), "{error}");
    }
}
