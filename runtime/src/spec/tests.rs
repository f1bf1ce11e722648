#![allow(clippy::unwrap_used)]

use super::*;
use crate::plan::{CgroupJoin, DeviceKind, JoinedNamespace, MountSource};
use crate::wire::Wire;
use crate::{capabilities, plan};
use nix::mount::MsFlags;
use oci_spec::runtime::LinuxNamespaceType;
use serde_json::{Value, json};

struct Fixture {
    cgroups: Cgroups,
    parent: CgroupPath,
    filters: Filters,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture {
            cgroups: Cgroups::detect().unwrap(),
            parent: CgroupPath::new(&format!(
                "iechor-spec-{}-{:?}",
                std::process::id(),
                std::thread::current().id()
            ))
            .unwrap(),
            filters: Filters::default(),
        }
    }

    fn host(&self) -> Host<'_> {
        Host {
            id: "c1",
            bundle: Path::new("/bundle"),
            root: None,
            exit_file: "/state/exit".into(),
            socket: "/state/c1.sock".into(),
            log: LogTarget::None,
            stdin: Stdin::Null,
            init: false,
            user: None,
            cgroups: &self.cgroups,
            cgroup_parent: &self.parent,
            systemd: None,
            filter: None,
            filters: &self.filters,
        }
    }

    fn compile(&self, spec: &Spec) -> Result<Compiled> {
        compile(spec, &self.host())
    }

    /// The default configuration with the value at `pointer` replaced.
    fn with(&self, pointer: &str, value: Value) -> Result<Compiled> {
        self.compile(&changed(pointer, value))
    }

    /// What is said about it.
    fn refusal(&self, pointer: &str, value: Value) -> String {
        let spec = match try_changed(pointer, &value) {
            Ok(spec) => spec,
            Err(error) => return error.to_string(),
        };
        let error: Box<dyn std::error::Error> = match self.compile(&spec) {
            Ok(_) => panic!("{pointer} = {value} was accepted"),
            Err(error) => error.into(),
        };
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = self.cgroups.remove(&self.parent);
    }
}

fn default_spec() -> Spec {
    defaults::spec(vec!["/bin/true".into()])
}

fn try_changed(pointer: &str, value: &Value) -> serde_json::Result<Spec> {
    let mut spec = serde_json::to_value(default_spec()).unwrap();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let place = spec.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}"));
    match place {
        Value::Object(map) => drop(map.insert(name.to_owned(), value.clone())),
        Value::Array(list) => list.push(value.clone()),
        other => panic!("{pointer} is in {other}"),
    }
    serde_json::from_value(spec)
}

fn changed(pointer: &str, value: Value) -> Spec {
    try_changed(pointer, &value).unwrap()
}

#[test]
fn the_default_configuration_becomes_dockers_container() {
    let fixture = Fixture::new();
    let Compiled { plan, joined, cgroup } = fixture.compile(&default_spec()).unwrap();
    assert!(joined.is_empty());
    assert_eq!(cgroup, fixture.parent.child("c1").unwrap());
    assert_eq!(
        plan.root,
        Root::Dir {
            path: "/bundle/rootfs".into()
        }
    );
    assert_eq!(plan.head.namespaces.new, 0x6e02_0000);
    let available = capabilities::available();
    assert_eq!(plan.process.caps.bounding, capabilities::DEFAULT & available);
    assert_eq!(plan.process.caps.ambient, 0);
    assert_eq!(
        default_spec()
            .process()
            .as_ref()
            .unwrap()
            .capabilities()
            .as_ref()
            .unwrap()
            .bounding()
            .as_ref()
            .unwrap()
            .len(),
        14
    );
    assert_eq!(plan.process.argv, ["/bin/true"]);
    assert_eq!(plan.devices, defaults::devices());
    assert!(plan.masked_paths.contains(&"/proc/kcore".into()));
    assert_eq!(plan.head.terminal, None);
    match fixture.cgroups.mode() {
        crate::cgroup::Mode::V2 => assert!(!plan.head.cgroup.devices.is_empty()),
        _ => {
            assert!(matches!(plan.head.cgroup.join, CgroupJoin::Tasks { .. }));
            assert_eq!(plan.head.cgroup.writes[0].value, "a");
            assert!(plan.readonly_paths.contains(&"/sys/fs/cgroup".into()));
        }
    }
    assert_eq!(Plan::decode(&plan.encode()).unwrap(), plan);

    // What the engine makes by hand is the same as what the configuration says.
    let options = defaults::MountOptions {
        v1_cgroups: fixture.cgroups.v1_mounts(),
        cgroup_path: Some(cgroup.as_str().to_owned()),
        ..defaults::MountOptions::default()
    };
    let shape = |mounts: &[plan::Mount]| -> Vec<(PathBuf, MountSource, u64)> {
        mounts
            .iter()
            .map(|mount| (mount.target.clone(), mount.source.clone(), mount.flags))
            .collect()
    };
    assert_eq!(shape(&plan.mounts), shape(&defaults::mounts(&options)));
}

#[test]
fn changes_arrive_in_the_plan() {
    let fixture = Fixture::new();
    let plan = |pointer: &str, value: Value| fixture.with(pointer, value).unwrap().plan;
    assert_eq!(plan("/hostname", json!("web")).hostname, "web");
    assert!(plan("/root/readonly", json!(true)).readonly_root);
    assert_eq!(
        plan(
            "/process/user",
            json!({"uid": 5, "gid": 6, "umask": 63, "additionalGids": [7]})
        )
        .process
        .user,
        User::Ids {
            uid: 5,
            gid: 6,
            groups: vec![7]
        }
    );
    assert_eq!(
        plan(
            "/linux/sysctl",
            json!({"net.ipv4.ip_forward": "1", "kernel.shmmax": "5"})
        )
        .sysctls,
        [
            // First, since the kernel resets settings of single interfaces with it.
            ("net/ipv4/ip_forward".into(), "1".into()),
            ("kernel/shmmax".into(), "5".into())
        ]
    );
    assert_eq!(
        plan("/linux/sysctl", json!({"net/ipv4/conf/eth0.1/mtu": "1"})).sysctls[0].0,
        "net/ipv4/conf/eth0.1/mtu"
    );
    let rlimits = plan(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20}]),
    )
    .process
    .rlimits;
    assert_eq!(
        rlimits,
        [plan::Rlimit {
            resource: 7,
            soft: 10,
            hard: 20,
            strict: true
        }]
    );
    let mut spec = default_spec();
    let process = spec.process_mut().as_mut().unwrap();
    process.set_terminal(Some(true));
    assert_eq!(
        fixture.compile(&spec).unwrap().plan.head.terminal,
        Some(ConsoleSize { rows: 0, cols: 0 })
    );

    let device = json!([{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 33206},
        {"path": "/dev/p", "type": "p", "major": 0, "minor": 0, "uid": 3}]);
    let devices = plan("/linux/devices", device).devices;
    assert_eq!(devices.len(), 7);
    assert_eq!(devices[5].mode, 0o666);
    assert_eq!((&devices[6].kind, devices[6].uid), (&DeviceKind::Fifo, 3));

    let compiled = fixture
        .with(
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "pid"},
        {"type": "network", "path": "/run/netns/x"}, {"type": "ipc", "path": "/proc/7/ns/ipc"}]),
        )
        .unwrap();
    assert_eq!(
        compiled.joined,
        [Path::new("/run/netns/x"), Path::new("/proc/7/ns/ipc")]
    );
    assert_eq!(
        compiled.plan.head.namespaces.joined,
        [
            JoinedNamespace {
                kind: 0x4000_0000,
                fd: 0
            },
            JoinedNamespace {
                kind: 0x0800_0000,
                fd: 1
            }
        ]
    );
}

#[test]
fn mount_options_are_sorted_out() {
    let fixture = Fixture::new();
    let mount = |options: Value, kind: &str| {
        let mount = json!({"destination": "/data", "type": kind, "source": "vol", "options": options});
        fixture.with("/mounts/-", mount).unwrap().plan.mounts.pop().unwrap()
    };
    let bound = mount(json!(["rbind", "ro", "rw", "nosuid", "rshared", "rro"]), "none");
    assert_eq!(
        bound.source,
        MountSource::Bind {
            path: "/bundle/vol".into(),
            recursive: true
        }
    );
    assert_eq!(bound.flags, MsFlags::MS_NOSUID.bits());
    assert_eq!(bound.clear, MsFlags::MS_RDONLY.bits());
    assert_eq!(bound.propagation, (MsFlags::MS_SHARED | MsFlags::MS_REC).bits());
    assert_eq!((bound.recursive_set, bound.recursive_clear), (1, 0));
    let times = mount(json!(["bind", "rnoatime", "rstrictatime"]), "");
    assert_eq!((times.recursive_set, times.recursive_clear), (0x20, 0x70));
    let tmpfs = mount(json!(["noexec", "size=1m", "mode=700", "tmpcopyup"]), "tmpfs");
    assert_eq!(
        tmpfs.source,
        MountSource::Fs {
            fstype: "tmpfs".into(),
            source: "vol".into(),
            data: "size=1m,mode=700".into(),
            copy_up: true
        }
    );
}

/// Each with words that its refusal must hold.
#[test]
fn what_is_wrong_is_refused_by_name() {
    let fixture = Fixture::new();
    let mount = |more: Value| {
        let mut mount = json!({"destination": "/data", "type": "bind", "source": "/v"});
        mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        mount
    };
    let notify = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
    for (pointer, value, word) in [
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/hooks", json!({"poststop": [{"path": "bin/x"}]}), "hooks.poststop"),
        (
            "/hooks",
            json!({"prestart": [{"path": "/x", "timeout": 0}]}),
            "hooks.prestart",
        ),
        ("/process/args", json!([]), "process.args"),
        ("/process/args", json!(["a\0b"]), "NUL"),
        ("/process/cwd", json!("relative"), "process.cwd"),
        ("/process/cwd", json!("/a/../b"), "process.cwd"),
        ("/process/env", json!(["NOVALUE"]), "NOVALUE"),
        ("/process/env", json!(["=x"]), "=x"),
        (
            "/process/apparmorProfile",
            json!("docker\ndefault"),
            "process.apparmorProfile",
        ),
        ("/process/selinuxLabel", json!("a\0b:c"), "process.selinuxLabel"),
        ("/process/oomScoreAdj", json!(1001), "1001"),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_FIFO"}),
            "process.scheduler",
        ),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_IDLE", "priority": 8}),
            "process.ioPriority",
        ),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]),
            "above",
        ),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}, {"type": "RLIMIT_CPU", "soft": 1, "hard": 1}]),
            "twice",
        ),
        (
            "/process/capabilities",
            json!({"effective": ["CAP_CHOWN"], "permitted": []}),
            "CAP_CHOWN",
        ),
        (
            "/process/capabilities",
            json!({"ambient": ["CAP_KILL"], "permitted": ["CAP_KILL"]}),
            "ambient",
        ),
        ("/process/capabilities", json!({"bounding": ["CAP_FLY"]}), "CAP_FLY"),
        ("/process/consoleSize", json!({"height": 70_000, "width": 1}), ""),
        ("/process/user/umask", json!(65_535), "umask"),
        ("/linux", Value::Null, "no linux"),
        (
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "pid"}, {"type": "pid"}]),
            "twice",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "user"}]),
            "needs maps",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "pid", "path": "x/y"}]),
            "x/y",
        ),
        (
            "/linux/uidMappings",
            json!([{"hostID": 0, "containerID": 0, "size": 1}]),
            "linux.gidMappings",
        ),
        ("/linux/intelRdt", json!({}), "linux.intelRdt"),
        (
            "/linux/personality",
            json!({"domain": "LINUX32", "flags": ["X"]}),
            "linux.personality.flags",
        ),
        ("/linux/timeOffsets", json!({"boottime": {"secs": 1}}), "time namespace"),
        ("/linux/timeOffsets", json!({"realtime": {"secs": 1}}), "realtime"),
        ("/linux/netDevices", json!({"eth/0": {}}), "eth/0"),
        (
            "/linux/netDevices",
            json!({"a": {"name": "x"}, "b": {"name": "x"}}),
            "two interfaces",
        ),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_BIND"}),
            "linux.memoryPolicy.nodes",
        ),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_BIND", "nodes": "3-1"}),
            "linux.memoryPolicy.nodes",
        ),
        ("/linux/rootfsPropagation", json!("odd"), "odd"),
        ("/linux/cgroupsPath", json!("a.slice:b:c"), "systemd"),
        ("/linux/cgroupsPath", json!("/../x"), ".."),
        ("/linux/maskedPaths", json!([""]), "linux.maskedPaths"),
        ("/linux/readonlyPaths", json!(["/a\0b"]), "linux.readonlyPaths"),
        ("/linux/sysctl", json!({"vm.swappiness": "1"}), "vm.swappiness"),
        ("/linux/sysctl", json!({"net..x": "1"}), "net..x"),
        ("/linux/sysctl", json!({"net/../../x": "1"}), "net/../../x"),
        ("/linux/sysctl", json!({"kernel.hostname": "x"}), "use hostname"),
        (
            "/linux/devices",
            json!([{"path": "dev/x", "type": "c", "major": 1, "minor": 1}]),
            "dev/x",
        ),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "c", "major": -5, "minor": 1}]),
            "-5",
        ),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "a", "major": 1, "minor": 1}]),
            "type a",
        ),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 1}, {"path": "/dev/x", "type": "b", "major": 1, "minor": 1}]),
            "twice",
        ),
        ("/linux/seccomp", notify, "listenerPath"),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x"}),
            "default action",
        ),
        (
            "/linux/resources",
            json!({"memory": {"useHierarchy": false}}),
            "linux.resources.memory.useHierarchy",
        ),
        (
            "/linux/resources",
            json!({"rdma": {"two words": {"hcaHandles": 3}}}),
            "linux.resources.rdma",
        ),
        ("/linux/resources", json!({"memory": {"limit": -7}}), "-7"),
        (
            "/linux/resources",
            json!({"devices": [{"allow": true, "access": "q"}]}),
            "\"q\"",
        ),
        ("/mounts/-", mount(json!({"destination": ""})), "is not a path"),
        ("/mounts/-", mount(json!({"source": null})), "source"),
        ("/mounts/-", mount(json!({"options": ["idmap"]})), "idmap"),
        (
            "/mounts/-",
            json!({"destination": "/t", "type": "tmpfs", "uidMappings": [{"hostID": 5, "containerID": 0, "size": 1}],
                "gidMappings": [{"hostID": 5, "containerID": 0, "size": 1}]}),
            "only bind mounts",
        ),
        ("/mounts/-", mount(json!({"type": null})), "type"),
        ("/mounts/-", mount(json!({"options": ["tmpcopyup"]})), "tmpcopyup"),
        (
            "/mounts/-",
            mount(json!({"uidMappings": [{"hostID": 0, "containerID": 0, "size": 1}]})),
            "gidMappings in mounts of /data",
        ),
        ("/hostname", json!("x".repeat(65)), "64"),
    ] {
        let text = fixture.refusal(pointer, value.clone());
        assert!(text.contains(word), "{pointer} = {value}: {text}");
    }
    let mut shared = default_spec();
    let namespaces = shared.linux_mut().as_mut().unwrap().namespaces_mut().as_mut().unwrap();
    namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::Uts);
    shared.set_hostname(Some("x".into()));
    assert!(fixture.compile(&shared).unwrap_err().to_string().contains("UTS"));
}

#[test]
fn filters_are_compiled_once() {
    let fixture = Fixture::new();
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]});
    let spec = changed("/linux/seccomp", profile);
    let first = fixture.compile(&spec).unwrap().plan.process.seccomp;
    assert!(!first.is_empty());
    let oci = spec.linux().as_ref().unwrap().seccomp().as_ref().unwrap();
    let again = fixture.filters.get(oci, capabilities::DEFAULT).unwrap();
    assert!(Arc::ptr_eq(
        &again,
        &fixture.filters.get(oci, capabilities::DEFAULT).unwrap()
    ));
    assert_eq!(again.program, *first);
    let mut host = fixture.host();
    host.filter = Some(Arc::default());
    assert!(
        compile(&spec, &host)
            .unwrap_err()
            .to_string()
            .contains("another filter")
    );
}

/// A figure, not a promise: run with `--nocapture`, in release for the real one.
#[test]
fn compiling_is_quick() {
    let fixture = Fixture::new();
    let mut host = fixture.host();
    let filter = seccomp::Cache::default()
        .get(&Profile::docker(), capabilities::DEFAULT)
        .unwrap();
    host.filter = Some(filter);
    let spec = default_spec();
    compile(&spec, &host).unwrap();
    let started = std::time::Instant::now();
    for _ in 0..200 {
        compile(&spec, &host).unwrap();
    }
    println!("compile: {:?} each", started.elapsed() / 200);
}
