//! The kernel's own groups, v1 or v2, as this machine has them.

use crate::cgroup::detect::Place;
use crate::cgroup::*;
use crate::plan::CgroupJoin;
use std::fs;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A group with a process in it; both are gone at the end, whatever happens.
pub struct Live {
    pub groups: Cgroups,
    pub parent: CgroupPath,
    pub path: CgroupPath,
    pub child: Child,
}

impl Live {
    /// None where this machine lets us make no groups.
    pub fn start(resources: &Resources) -> Option<Live> {
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
        if let CgroupJoin::Into { dir } | CgroupJoin::Both { dir, .. } = &plan.join
            && !plan.devices.is_empty()
        {
            let group = fs::File::open(dir).unwrap();
            runtime_sys::bpf::load_device_program(&plan.devices)
                .and_then(|program| runtime_sys::bpf::attach_device_program(group.as_fd(), program.as_fd()))
                .unwrap();
        }
        let files: Vec<PathBuf> = match &plan.join {
            CgroupJoin::Into { dir } => vec![dir.join("cgroup.procs")],
            CgroupJoin::Tasks { files } => files.clone(),
            CgroupJoin::Both { files, dir } => files.iter().cloned().chain([dir.join("cgroup.procs")]).collect(),
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

    pub fn file(&self, v1: (&str, &str), v2: &str) -> String {
        let file = match self.groups.tree.place(v1.0, &self.path).unwrap() {
            Place::V1(folder) => folder.join(v1.1),
            Place::V2(folder) => folder.join(v2),
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
    let procs = match live.groups.tree.place("memory", &live.path).unwrap() {
        Place::V2(folder) => folder.join("cgroup.procs"),
        Place::V1(folder) => folder.join("tasks"),
    };
    let script = format!(
        "echo 0 > '{}'; exec dd if=/dev/zero of=/dev/null bs=64M count=1",
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
    // In place of the one, then of two, then none.
    let count = || {
        let group = fs::File::open(&folder).unwrap();
        runtime_sys::bpf::device_programs(group.as_fd()).unwrap().len()
    };
    let load = |rule: &str| {
        let rules = [DeviceRule::all(false), DeviceRule::parse(true, rule).unwrap()];
        runtime_sys::bpf::load_device_program(&devices::program(&rules)).unwrap()
    };
    let replace = |program: Option<&std::os::fd::OwnedFd>| {
        let group = fs::File::open(&folder).unwrap();
        runtime_sys::bpf::replace_device_programs(group.as_fd(), program.map(AsFd::as_fd)).unwrap();
        (count(), run("echo x > /dev/null"), run(": < /dev/zero"))
    };
    let replaced = attached.is_ok().then(|| {
        let zero = replace(Some(&load("c 1:5 rwm")));
        let group = fs::File::open(&folder).unwrap();
        runtime_sys::bpf::attach_device_program(group.as_fd(), load("c 1:7 rwm").as_fd()).unwrap();
        let two = (count(), run("echo x > /dev/null"), run(": < /dev/zero"));
        let null = replace(Some(&load("c 1:3 rwm")));
        [zero, two, null, replace(None)]
    });
    let _ = fs::remove_dir(&folder);
    match attached {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => eprintln!("skipped: no bpf here"),
        other => {
            other.unwrap();
            assert_eq!(answers, [true, true, true, false, false]);
            let expected = [(1, false, true), (2, false, false), (1, true, false), (0, true, true)];
            assert_eq!(replaced, Some(expected));
        }
    }
}
