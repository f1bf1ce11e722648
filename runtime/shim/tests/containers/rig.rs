//! What a test needs: a root file system of busybox, a launcher, plans as a daemon makes them.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use runtime::cgroup::{CgroupPath, Cgroups, Resources};
use runtime::exit::Exit;
use runtime::launcher::{Attach, Launcher, LauncherConfig, Shim, StartError, StartFds};
use runtime::plan::*;

/// Docker's default capabilities.
pub const CAPS: u64 = 0xa804_25fb;

/// Where a static busybox may be: what `tests/setup` unpacks, or Debian's busybox-static.
fn busybox() -> Option<PathBuf> {
    let unpacked = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../target/test-tools/busybox/bin/busybox"
    );
    let named = std::env::var_os("IECHOR_TEST_BUSYBOX").map(PathBuf::from);
    let known = [unpacked, "/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    named.into_iter().chain(known).find(|path| path.is_file())
}

pub struct Rig {
    pub folder: tempfile::TempDir,
    pub root: PathBuf,
    pub launcher: Launcher,
    pub cgroups: Option<(Cgroups, CgroupPath)>,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Rig {
    /// `None`, with a word about it, where containers cannot be run.
    pub fn new() -> Option<Rig> {
        Rig::with_warm(0)
    }

    pub fn with_warm(warm: usize) -> Option<Rig> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: containers need root");
            return None;
        }
        let Some(busybox) = busybox() else {
            println!("skipped: no static busybox (run tests/setup, or install busybox-static)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("rootfs");
        for name in ["bin", "dev", "proc", "sys", "tmp", "etc", "root", "var", "home"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
        std::fs::copy(&busybox, root.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "true", "false", "cat", "echo", "id", "ls", "sleep", "mount", "grep", "wc", "head", "dd", "kill",
            "ps", "stat", "tty", "stty", "touch", "hostname", "pwd", "env", "mknod", "readlink", "umount", "yes",
            "tail", "rm", "mkdir", "seq", "sync", "od", "tr", "setsid", "ln",
        ] {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        std::fs::write(
            root.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:w:/var:/bin/sh\n",
        )
        .unwrap();
        std::fs::write(root.join("etc/group"), "root:x:0:\nweb:x:34:\naudio:x:29:web\n").unwrap();
        std::fs::write(root.join("etc/noexec"), "not a program\n").unwrap();
        let state = folder.path().join("state");
        let shim = PathBuf::from(env!("CARGO_BIN_EXE_iechor-shim"));
        let launcher = Launcher::new(LauncherConfig { shim, state, warm }).unwrap();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroups = Cgroups::detect().ok().map(|cgroups| {
            let parent = CgroupPath::new(&format!("/iechor-test-{}-{number}", std::process::id())).unwrap();
            cgroups.prepare(&parent).unwrap();
            (cgroups, parent)
        });
        Some(Rig {
            folder,
            root,
            launcher,
            cgroups,
        })
    }

    /// A container as Docker makes it by default.
    pub fn plan(&self, id: &str, argv: &[&str]) -> Plan {
        let own = self.folder.path().join("containers").join(id);
        let (upper, work) = (own.join("upper"), own.join("work"));
        std::fs::create_dir_all(&upper).unwrap();
        std::fs::create_dir_all(&work).unwrap();
        let new = libc::CLONE_NEWNS
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWCGROUP;
        let quiet = libc::MS_NOSUID | libc::MS_NOEXEC | libc::MS_NODEV;
        Plan {
            head: Head {
                id: id.into(),
                exit_file: own.join("exit"),
                socket: PathBuf::new(),
                log: LogTarget::Local {
                    path: own.join("log"),
                    max_size: 0,
                    max_files: 1,
                },
                namespaces: Namespaces {
                    new: new as u64,
                    joined: Vec::new(),
                },
                cgroup: self.cgroup(id, &Resources::default()),
                ..Head::default()
            },
            root: Root::Overlay {
                lower: vec![self.root.clone()],
                upper,
                work,
                volatile: false,
            },
            readonly_root: false,
            root_propagation: 0,
            mounts: vec![
                fs("/proc", "proc", quiet, ""),
                fs("/dev", "tmpfs", libc::MS_NOSUID, "mode=755,size=65536k"),
                fs(
                    "/dev/pts",
                    "devpts",
                    libc::MS_NOSUID | libc::MS_NOEXEC,
                    "newinstance,ptmxmode=0666,mode=0620,gid=5",
                ),
                fs("/sys", "sysfs", quiet | libc::MS_RDONLY, ""),
                fs("/dev/shm", "tmpfs", quiet, "mode=1777,size=65536k"),
            ],
            devices: [("null", 3), ("zero", 5), ("urandom", 9)]
                .map(|(name, minor)| device(name, 1, minor))
                .to_vec(),
            symlinks: [
                ("fd", "/proc/self/fd"),
                ("stdout", "/proc/self/fd/1"),
                ("ptmx", "pts/ptmx"),
            ]
            .map(|(path, target)| Symlink {
                path: format!("/dev/{path}").into(),
                target: target.into(),
            })
            .to_vec(),
            masked_paths: [
                "/proc/kcore",
                "/proc/keys",
                "/proc/timer_list",
                "/sys/firmware",
                "/proc/acpi",
            ]
            .map(PathBuf::from)
            .to_vec(),
            readonly_paths: ["/proc/sys", "/proc/bus", "/proc/sysrq-trigger", "/absent"]
                .map(PathBuf::from)
                .to_vec(),
            hostname: "box".into(),
            domainname: String::new(),
            sysctls: Vec::new(),
            process: process(argv),
            ..Plan::default()
        }
    }

    pub fn cgroup(&self, id: &str, resources: &Resources) -> CgroupPlan {
        match &self.cgroups {
            Some((cgroups, parent)) => cgroups.plan(parent, id, resources).unwrap(),
            None => CgroupPlan::none(),
        }
    }

    pub async fn start(&self, plan: Plan) -> Result<Shim, StartError> {
        self.launcher.start(plan, StartFds::default()).await
    }

    /// Starts with a client on all streams.
    pub async fn start_attached(&self, plan: Plan) -> (Shim, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let fds = StartFds {
            joined: Vec::new(),
            attach: vec![attach(theirs)],
        };
        (self.launcher.start(plan, fds).await.unwrap(), ours)
    }

    /// Runs to the end; the exit, and what went to standard output and error.
    pub async fn run(&self, plan: Plan) -> (Exit, String, String) {
        let (shim, stream) = self.start_attached(plan).await;
        let reader = tokio::task::spawn_blocking(move || read_frames(stream));
        let exit = shim.wait().await;
        shim.release().await;
        let (out, err) = reader.await.unwrap();
        (
            exit,
            String::from_utf8_lossy(&out).into_owned(),
            String::from_utf8_lossy(&err).into_owned(),
        )
    }

    /// Runs a shell script; standard output of one that succeeded.
    pub async fn sh(&self, id: &str, script: &str) -> String {
        self.sh_with(id, script, |_| {}).await
    }

    pub async fn sh_with(&self, id: &str, script: &str, change: impl FnOnce(&mut Plan)) -> String {
        let mut plan = self.plan(id, &["sh", "-c", script]);
        change(&mut plan);
        let (exit, out, err) = self.run(plan).await;
        assert_eq!(exit.code, 0, "{out}{err}");
        out
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some((cgroups, parent)) = &self.cgroups {
            for child in cgroups.children(parent).unwrap_or_default() {
                if let Ok(child) = parent.child(&child) {
                    let _ = cgroups.kill_all(&child);
                }
            }
            if let Err(error) = cgroups.remove(parent) {
                println!("left behind: {error}");
            }
        }
    }
}

pub fn attach(socket: UnixStream) -> Attach {
    Attach {
        socket: OwnedFd::from(socket),
        stdin: true,
        stdout: true,
        stderr: true,
    }
}

pub fn fs(target: &str, fstype: &str, flags: u64, data: &str) -> Mount {
    let source = MountSource::Fs {
        fstype: fstype.into(),
        source: fstype.into(),
        data: data.into(),
        copy_up: false,
    };
    mount(target, source, flags)
}

pub fn bind(source: &Path, target: &str, flags: u64) -> Mount {
    mount(
        target,
        MountSource::Bind {
            path: source.into(),
            recursive: true,
        },
        flags,
    )
}

fn mount(target: &str, source: MountSource, flags: u64) -> Mount {
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

pub fn device(name: &str, major: u32, minor: u32) -> Device {
    let path = format!("/dev/{name}").into();
    Device {
        path,
        kind: DeviceKind::Char,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    }
}

pub fn process(argv: &[&str]) -> ProcessPlan {
    ProcessPlan {
        argv: argv.iter().map(Into::into).collect(),
        env: vec!["PATH=/usr/bin:/bin".into()],
        cwd: "/".into(),
        user: User::Named {
            user: String::new(),
            extra_groups: Vec::new(),
        },
        umask: None,
        caps: Caps {
            bounding: CAPS,
            effective: CAPS,
            permitted: CAPS,
            inheritable: 0,
            ambient: 0,
        },
        no_new_privs: false,
        seccomp: Vec::new().into(),
        seccomp_flags: 0,
        rlimits: Vec::new(),
        ..ProcessPlan::default()
    }
}

pub fn exec(argv: &[&str]) -> ExecPlan {
    ExecPlan {
        process: process(argv),
        stdin: Stdin::Null,
        terminal: None,
    }
}

/// Takes Docker's frames apart until the end.
pub fn read_frames(mut stream: UnixStream) -> (Vec<u8>, Vec<u8>) {
    let mut streams = (Vec::new(), Vec::new());
    let mut header = [0; 8];
    while stream.read_exact(&mut header).is_ok() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).unwrap();
        match header[..4] {
            [1, 0, 0, 0] => streams.0.extend(payload),
            [2, 0, 0, 0] => streams.1.extend(payload),
            _ => panic!("frame {header:?}"),
        }
    }
    streams
}

/// Types, and says that nothing more comes.
pub fn type_all(stream: &mut UnixStream, text: &[u8]) {
    stream.write_all(text).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Waits until something holds; a test that needs longer than 5 s has failed.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 5 s: {what}");
}
