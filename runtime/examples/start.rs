//! How long a container takes: `start SHIM ROOTFS [RUNS]`, as root. Prints p50 and p95 in milliseconds.
//!
//! Each run has new mount, pid, uts, ipc and cgroup namespaces, an overlay on ROOTFS, the usual mounts, devices, masked
//! paths and cgroups with a memory and a pids limit. The network namespace is one made beforehand.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runtime::launcher::{Launcher, LauncherConfig, StartFds};
use runtime::plan::*;

const MS_NODEV: u64 = 4;
const MS_NOSUID: u64 = 2;
const MS_NOEXEC: u64 = 8;
const MS_RDONLY: u64 = 1;

fn fs(target: &str, fstype: &str, flags: u64, data: &str) -> Mount {
    let source = MountSource::Fs {
        fstype: fstype.into(),
        source: fstype.into(),
        data: data.into(),
        copy_up: false,
    };
    Mount {
        target: target.into(),
        source,
        flags,
        clear: 0,
        recursive_set: 0,
        recursive_clear: 0,
        propagation: 0,
        optional: false,
        id_map: None,
    }
}

fn plan(run: usize, folder: &Path, rootfs: &Path, argv: &[&str]) -> Plan {
    let own = folder.join(run.to_string());
    let (upper, work) = (own.join("upper"), own.join("work"));
    std::fs::create_dir_all(&upper).expect("scratch folder");
    std::fs::create_dir_all(&work).expect("scratch folder");
    let caps = 0xa80425fb; // Docker's 14
    Plan {
        head: Head {
            id: format!("bench{}-{run}", std::process::id()),
            exit_file: own.join("exit"),
            socket: PathBuf::new(),
            log: LogTarget::Local {
                path: own.join("log"),
                max_size: 0,
                max_files: 1,
            },
            namespaces: Namespaces {
                // NEWNS | NEWUTS | NEWIPC | NEWPID | NEWCGROUP
                new: 0x0002_0000 | 0x0400_0000 | 0x0800_0000 | 0x2000_0000 | 0x0200_0000,
                joined: vec![JoinedNamespace {
                    kind: 0x4000_0000,
                    fd: 0,
                }],
            },
            cgroup: cgroup(run),
            ..Head::default()
        },
        root: Root::Overlay {
            lower: vec![rootfs.into()],
            upper,
            work,
            volatile: false,
        },
        readonly_root: false,
        root_propagation: 0,
        mounts: vec![
            fs("/proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, ""),
            fs("/dev", "tmpfs", MS_NOSUID, "mode=755,size=65536k"),
            fs(
                "/dev/pts",
                "devpts",
                MS_NOSUID | MS_NOEXEC,
                "newinstance,ptmxmode=0666,mode=0620,gid=5",
            ),
            fs("/sys", "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, ""),
            fs("/dev/mqueue", "mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV, ""),
            fs(
                "/dev/shm",
                "tmpfs",
                MS_NOSUID | MS_NOEXEC | MS_NODEV,
                "mode=1777,size=65536k",
            ),
        ],
        devices: [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)]
            .iter()
            .map(|(name, minor)| Device {
                path: format!("/dev/{name}").into(),
                kind: DeviceKind::Char,
                major: 1,
                minor: *minor,
                mode: 0o666,
                uid: 0,
                gid: 0,
            })
            .collect(),
        symlinks: [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("ptmx", "pts/ptmx"),
        ]
        .iter()
        .map(|(path, target)| Symlink {
            path: format!("/dev/{path}").into(),
            target: target.into(),
        })
        .collect(),
        masked_paths: [
            "/proc/acpi",
            "/proc/kcore",
            "/proc/keys",
            "/proc/timer_list",
            "/sys/firmware",
        ]
        .iter()
        .map(PathBuf::from)
        .collect(),
        readonly_paths: ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
            .iter()
            .map(PathBuf::from)
            .collect(),
        hostname: "bench".into(),
        domainname: String::new(),
        sysctls: vec![("net/ipv4/ip_unprivileged_port_start".into(), "0".into())],
        process: ProcessPlan {
            argv: argv.iter().map(Into::into).collect(),
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
            cwd: "/".into(),
            user: User::Named {
                user: String::new(),
                extra_groups: Vec::new(),
            },
            umask: None,
            caps: Caps {
                bounding: caps,
                effective: caps,
                permitted: caps,
                inheritable: 0,
                ambient: 0,
            },
            no_new_privs: false,
            seccomp: Default::default(),
            seccomp_flags: 0,
            rlimits: Vec::new(),
            oom_score_adj: Some(OomScoreAdj {
                value: 0,
                strict: false,
            }),
            ..ProcessPlan::default()
        },
        ..Plan::default()
    }
}

fn cgroup(run: usize) -> CgroupPlan {
    let name = format!("iechor-bench/{}-{run}", std::process::id());
    let root = Path::new("/sys/fs/cgroup");
    let controllers = ["cpu", "cpuacct", "memory", "devices", "freezer", "blkio", "pids"];
    let own: Vec<PathBuf> = controllers
        .iter()
        .map(|c| root.join(c))
        .filter(|c| c.is_dir())
        .map(|c| c.join(&name))
        .collect();
    if own.is_empty() {
        let own = root.join(&name);
        return CgroupPlan {
            parents: vec![root.join("iechor-bench")],
            own: vec![own.clone()],
            oom: Some(own.join("memory.events")),
            join: CgroupJoin::Into { dir: own },
            ..CgroupPlan::none()
        };
    }
    let memory = root.join("memory").join(&name);
    CgroupPlan {
        parents: own.iter().filter_map(|own| own.parent().map(Path::to_owned)).collect(),
        writes: vec![
            CgroupWrite {
                path: memory.join("memory.limit_in_bytes"),
                value: "268435456".into(),
                optional: false,
            },
            CgroupWrite {
                path: root.join("pids").join(&name).join("pids.max"),
                value: "100".into(),
                optional: false,
            },
        ],
        join: CgroupJoin::Tasks {
            files: own.iter().map(|own| own.join("tasks")).collect(),
        },
        own,
        oom: Some(memory.join("memory.oom_control")),
        ..CgroupPlan::none()
    }
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| {
        times
            .get(times.len() * percent / 100)
            .map_or(0.0, |t| t.as_secs_f64() * 1e3)
    };
    println!("{what:28} p50 {:6.2} ms   p95 {:6.2} ms", at(50), at(95));
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, shim, rootfs, rest @ ..] = args.as_slice() else {
        eprintln!("usage: start SHIM ROOTFS [RUNS [PAUSE_MS]]");
        std::process::exit(2);
    };
    let runs: usize = rest.first().and_then(|n| n.parse().ok()).unwrap_or(60);
    let pause = Duration::from_millis(rest.get(1).and_then(|n| n.parse().ok()).unwrap_or(10));
    let folder = tempfile::tempdir().expect("scratch folder");
    // As in a daemon: state in memory, layers on disk.
    let state = tempfile::tempdir_in("/run").expect("state folder");
    let config = LauncherConfig {
        shim: shim.into(),
        state: state.path().join("shim"),
        warm: 2,
    };
    let launcher = Launcher::new(config).expect("launcher");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (mut to_exec, mut to_exit, mut to_release) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs {
        let plan = plan(run, folder.path(), rootfs.as_ref(), &["/bin/true"]);
        let netns: OwnedFd = std::fs::File::open("/proc/self/ns/net").expect("netns").into();
        let begin = Instant::now();
        let shim = match launcher
            .start(
                plan,
                StartFds {
                    joined: vec![netns],
                    attach: Vec::new(),
                },
            )
            .await
        {
            Ok(shim) => shim,
            Err(error) => {
                eprintln!("{error}");
                std::process::exit(1);
            }
        };
        to_exec.push(begin.elapsed());
        let exit = shim.wait().await;
        to_exit.push(begin.elapsed());
        shim.release().await;
        to_release.push(begin.elapsed());
        assert_eq!(exit.code, 0, "{exit:?}");
        drop(shim);
        tokio::time::sleep(pause).await;
    }
    execs(&launcher, folder.path(), rootfs.as_ref(), runs, pause).await;
    report("request to exec", to_exec);
    report("request to exit told", to_exit);
    report("request to released", to_release);
    memory(&launcher, folder.path(), rootfs.as_ref()).await;
    for controller in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let _ = std::fs::remove_dir(controller.path().join("iechor-bench"));
    }
    let _ = std::fs::remove_dir("/sys/fs/cgroup/iechor-bench");
}

/// Further processes in a running container.
async fn execs(launcher: &Launcher, folder: &Path, rootfs: &Path, runs: usize, pause: Duration) {
    let container = plan(99_999, folder, rootfs, &["/bin/sleep", "600"]);
    let process = plan(0, folder, rootfs, &["/bin/true"]).process;
    let netns: OwnedFd = std::fs::File::open("/proc/self/ns/net").expect("netns").into();
    let fds = StartFds {
        joined: vec![netns],
        attach: Vec::new(),
    };
    let shim = launcher.start(container, fds).await.expect("start");
    let (mut to_exec, mut to_exit) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let plan = ExecPlan {
            process: process.clone(),
            stdin: Stdin::Null,
            terminal: None,
        };
        let begin = Instant::now();
        let exec = shim.exec(plan, None).await.expect("exec");
        to_exec.push(begin.elapsed());
        assert_eq!(exec.wait().await.code, 0);
        to_exit.push(begin.elapsed());
        tokio::time::sleep(pause).await;
    }
    report("exec: request to exec", to_exec);
    report("exec: request to exit told", to_exit);
    let _ = shim.signal(9).await;
    shim.wait().await;
    shim.release().await;
}

/// What shims of idle containers cost.
async fn memory(launcher: &Launcher, folder: &Path, rootfs: &Path) {
    let mut shims = Vec::new();
    for run in 0..10 {
        let plan = plan(100_000 + run, folder, rootfs, &["/bin/sleep", "60"]);
        let netns: OwnedFd = std::fs::File::open("/proc/self/ns/net").expect("netns").into();
        let fds = StartFds {
            joined: vec![netns],
            attach: Vec::new(),
        };
        shims.push(launcher.start(plan, fds).await.expect("start"));
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    let (mut pss, mut dirty) = (0, 0);
    for shim in &shims {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", shim.shim_pid())).unwrap_or_default();
        let field = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
                .unwrap_or(0)
        };
        pss += field("Pss:");
        dirty += field("Private_Dirty:");
    }
    println!(
        "{} idle shims: PSS {} KiB, private dirty {} KiB each",
        shims.len(),
        pss / 10,
        dirty / 10
    );
    for shim in &shims {
        let _ = shim.signal(9).await;
        shim.wait().await;
        shim.release().await;
    }
}
