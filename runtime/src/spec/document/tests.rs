#![allow(clippy::unwrap_used)]

use super::super::{Filters, Host, compile, compile_exec, load, load_process};
use super::*;
use crate::cgroup::Cgroups;
use crate::plan::{
    Caps, ConsoleSize, Head, JoinedNamespace, LogTarget, Mount, MountSource, Namespaces, OomScoreAdj, ProcessPlan,
    Rlimit, Root, Stdin, User, finish_document,
};
use crate::seccomp::{Context, Filter, Profile};
use nix::mount::MsFlags;

fn user() -> User {
    User::Ids {
        uid: 33,
        gid: 34,
        groups: vec![34, 44],
    }
}

fn process_plan() -> ProcessPlan {
    let caps = capabilities();
    ProcessPlan {
        argv: vec!["sh".into(), "-c".into(), "echo \"{\\\" ä\n".into()],
        env: vec!["PATH=/bin".into(), "X={\"".into()],
        cwd: "/work".into(),
        user: user(),
        umask: Some(0o27),
        caps: Caps {
            bounding: caps,
            effective: caps,
            permitted: caps,
            inheritable: 0,
            ambient: 0,
        },
        no_new_privs: true,
        rlimits: vec![Rlimit {
            resource: nix::libc::RLIMIT_NOFILE,
            soft: 1024,
            hard: u64::MAX,
            strict: true,
        }],
        oom_score_adj: Some(OomScoreAdj {
            value: 500,
            strict: true,
        }),
        ..ProcessPlan::default()
    }
}

fn capabilities() -> u64 {
    crate::capabilities::DEFAULT & crate::capabilities::available()
}

fn mount(target: &str, source: MountSource, flags: MsFlags) -> Mount {
    Mount {
        target: target.into(),
        source,
        flags: flags.bits(),
        clear: 0,
        recursive_set: 0,
        recursive_clear: 0,
        propagation: 0,
        optional: false,
        id_map: None,
    }
}

fn plan(cgroups: &Cgroups, own: &CgroupPath) -> Plan {
    let mut mounts = defaults::mounts(&defaults::MountOptions {
        v1_cgroups: cgroups.v1_mounts(),
        cgroup_path: Some(own.as_str().to_owned()),
        ..defaults::MountOptions::default()
    });
    let path = PathBuf::from("/etc");
    let mut bind = mount("/data", MountSource::Bind { path, recursive: true }, MsFlags::MS_RDONLY);
    bind.recursive_set = 1;
    bind.clear = MsFlags::MS_NOEXEC.bits();
    bind.propagation = (MsFlags::MS_PRIVATE | MsFlags::MS_REC).bits();
    mounts.push(bind);
    let source = MountSource::Fs {
        fstype: "tmpfs".into(),
        source: "tmpfs".into(),
        data: "size=64m,mode=1777".into(),
        copy_up: true,
    };
    mounts.push(mount("/scratch", source, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC));
    let mut devices = defaults::devices();
    devices.push(Device {
        path: "/dev/kmsg".into(),
        kind: DeviceKind::Char,
        major: 1,
        minor: 11,
        mode: 0o600,
        uid: 1,
        gid: 2,
    });
    let mut readonly: Vec<PathBuf> = defaults::READONLY_PATHS.iter().map(PathBuf::from).collect();
    if !cgroups.v1_mounts().is_empty() {
        readonly.push(defaults::V1_CGROUP_ROOT.into());
    }
    let new = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    Plan {
        head: Head {
            id: "c1".into(),
            namespaces: Namespaces {
                new: new.bits() as u64,
                joined: vec![JoinedNamespace {
                    kind: CloneFlags::CLONE_NEWNET.bits() as u64,
                    fd: 0,
                }],
            },
            terminal: Some(ConsoleSize { rows: 24, cols: 80 }),
            ..Head::default()
        },
        root: Root::Dir {
            path: "/bundle/rootfs".into(),
        },
        readonly_root: true,
        root_propagation: (MsFlags::MS_SLAVE | MsFlags::MS_REC).bits(),
        mounts,
        devices,
        symlinks: super::super::symlinks(),
        masked_paths: vec!["/proc/kcore".into()],
        readonly_paths: readonly,
        hostname: "c1".into(),
        domainname: String::new(),
        sysctls: vec![("net/ipv4/conf/eth0.1/forwarding".into(), "1".into())],
        process: process_plan(),
        ..Plan::default()
    }
}

/// Without what a configuration does not say: defaults that may be absent, an order of its own.
fn comparable(mut plan: Plan) -> Plan {
    for mount in &mut plan.mounts {
        mount.optional = false;
    }
    plan.mounts.sort_by(|a, b| a.target.cmp(&b.target));
    plan.head.cgroup = crate::plan::CgroupPlan::none();
    plan.head.hooks = crate::plan::RuntimeHooks::default();
    plan.process.seccomp = Vec::new().into();
    plan.process.seccomp_flags = 0;
    plan
}

#[test]
fn the_plan_of_a_plans_document_is_the_plan() {
    let cgroups = Cgroups::detect().unwrap();
    let parent = CgroupPath::new(&format!("iechor-document-{}", std::process::id())).unwrap();
    let own = parent.child("c1").unwrap();
    let plan = plan(&cgroups, &own);
    let limits = Resources {
        memory: Some(64 << 20),
        pids: Some(20),
        cpu_shares: Some(512),
        devices: defaults::device_rules(),
        ..Resources::default()
    };
    let seccomp = Profile::docker()
        .to_oci(&Context::of_machine(capabilities()).unwrap())
        .unwrap();
    let outside = Outside {
        cgroup: &own,
        limits: &limits,
        seccomp: Some(&seccomp),
        joined: &["/proc/1/ns/net".into()],
    };
    let begin = config(&plan, &outside).unwrap();
    let text = finish_document(&begin, &plan.process.user, plan.process.umask).unwrap();
    let spec = load(text.as_bytes()).unwrap().0;
    let resources = spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
    assert_eq!(Resources::try_from(resources).unwrap(), limits);
    let host = Host {
        id: "c1",
        bundle: Path::new("/bundle"),
        root: None,
        exit_file: PathBuf::new(),
        socket: PathBuf::new(),
        log: LogTarget::None,
        stdin: Stdin::Null,
        init: false,
        user: None,
        cgroups: &cgroups,
        cgroup_parent: &parent,
        systemd: None,
        filter: None,
        filters: &Filters::default(),
    };
    let compiled = compile(&spec, &host);
    let _ = cgroups.remove(&parent);
    let compiled = compiled.unwrap();
    assert_eq!(compiled.joined, outside.joined);
    assert_eq!(compiled.cgroup, own);
    let filter = Profile::docker()
        .compile(&Context::of_machine(capabilities()).unwrap())
        .unwrap();
    assert_eq!(*compiled.plan.process.seccomp, *filter.program);
    assert_eq!(comparable(compiled.plan), comparable(plan));
}

#[test]
fn an_execs_process_comes_back_too() {
    let plan = ExecPlan {
        process: process_plan(),
        stdin: Stdin::Null,
        terminal: None,
    };
    let text = finish_document(&process(&plan).unwrap(), &user(), Some(0o27)).unwrap();
    let read = load_process(text.as_bytes()).unwrap().0;
    let mut again = compile_exec(&read, None, Stdin::Null, &Filter::default()).unwrap();
    again.process.tuning = plan.process.tuning.clone();
    assert_eq!(again, plan);
}

#[test]
fn what_cannot_be_said_is_named() {
    let own = CgroupPath::new("/p/c1").unwrap();
    let limits = Resources::default();
    let outside = Outside {
        cgroup: &own,
        limits: &limits,
        seccomp: None,
        joined: &[],
    };
    let refusal = |change: fn(&mut Plan)| {
        let mut plan = Plan {
            process: process_plan(),
            ..Plan::default()
        };
        change(&mut plan);
        config(&plan, &outside).unwrap_err().to_string()
    };
    assert!(refusal(|plan| plan.init = true).contains("built-in init"));
    assert!(refusal(|plan| plan.process.keep_keyring = true).contains("keyring"));
    let from = |plan: &mut Plan| {
        let source = MountSource::BindFrom {
            namespace: 0,
            path: "/dev/shm".into(),
        };
        plan.mounts.push(mount("/dev/shm", source, MsFlags::empty()));
    };
    assert!(refusal(from).contains("/dev/shm"));
    let joined = |plan: &mut Plan| {
        let kind = CloneFlags::CLONE_NEWPID.bits() as u64;
        plan.head.namespaces.joined.push(JoinedNamespace { kind, fd: 3 });
    };
    assert!(refusal(joined).contains("linux.namespaces"));
    assert!(
        refusal(|plan| plan
            .process
            .argv
            .push(std::os::unix::ffi::OsStringExt::from_vec(vec![0xff])))
        .contains("UTF-8")
    );
}

#[test]
fn hooks_are_told_the_root_and_every_mount_once() {
    let cgroups = Cgroups::detect().unwrap();
    let own = CgroupPath::new("iechor-document").unwrap().child("c1").unwrap();
    let mut plan = plan(&cgroups, &own);
    // What another runtime could not be asked for is no reason not to tell the rest.
    plan.init = true;
    if let Some(mount) = plan.mounts.iter_mut().find(|mount| mount.target == Path::new("/proc")) {
        mount.id_map = Some(crate::plan::MountIdMap {
            map: 0,
            recursive: false,
        });
    }
    let annotations = [("a".to_owned(), "b".to_owned())].into();
    let text = for_hooks(&plan, Path::new("/run/b/rootfs"), &annotations).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["root"], json!({"path": "/run/b/rootfs", "readonly": true}));
    assert_eq!(document["annotations"]["a"], "b");
    let mut targets: Vec<&str> = document["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["destination"].as_str().unwrap())
        .collect();
    let count = targets.len();
    targets.sort_unstable();
    targets.dedup();
    assert_eq!(targets.len(), count);
    assert!(
        targets.contains(&"/proc") && targets.contains(&defaults::V1_CGROUP_ROOT),
        "{targets:?}"
    );
    assert!(document["process"]["args"].is_array());
    let kinds = document["linux"]["namespaces"].as_array().unwrap();
    assert!(
        kinds.contains(&json!({"type": "pid"})) && !kinds.contains(&json!({"type": "network"})),
        "{kinds:?}"
    );
}
