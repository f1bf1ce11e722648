//! What a shim may still do when it has made its process, as the kernel tells it; and that containers and execs lose
//! nothing by it.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::rig::{CAPS, attach, bind, exec, read_frames, until};
use runtime::launcher::Shim;
use runtime::plan::{Caps, ConsoleSize, ExecPlan, LogTarget, Stdin, User};

const DAC_OVERRIDE: u64 = 1 << 1;
const KILL: u64 = 1 << 5;

fn status(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap()
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim_start_matches(':').trim()
}

fn set(status: &str, name: &str) -> u64 {
    u64::from_str_radix(field(status, name), 16).unwrap()
}

/// Everything that the kernel has and we do.
fn all() -> u64 {
    set(&status(std::process::id() as i32), "CapPrm")
}

fn parent(pid: i32) -> i32 {
    field(&status(pid), "PPid").parse().unwrap()
}

async fn assert_confined(pid: i32, kept: u64) {
    // Right after it has told of the start.
    until("the shim is confined", || field(&status(pid), "Seccomp") == "2").await;
    let status = status(pid);
    assert_eq!(field(&status, "Name"), "iechor-shim");
    for (name, want) in [
        ("CapInh", 0),
        ("CapPrm", kept),
        ("CapEff", kept),
        ("CapBnd", 0),
        ("CapAmb", 0),
    ] {
        assert_eq!(set(&status, name), want & all(), "{name} of {status}");
    }
    assert_eq!((field(&status, "NoNewPrivs"), field(&status, "Seccomp")), ("1", "2"));
    assert_eq!(field(&status, "Threads"), "1");
}

async fn output(shim: &Shim, plan: ExecPlan) -> (i32, String) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let handle = shim.exec(plan, Some(attach(theirs))).await.unwrap();
    let exit = handle.wait().await;
    let (out, err) = tokio::task::spawn_blocking(move || read_frames(ours)).await.unwrap();
    (exit.code, String::from_utf8_lossy(&[out, err].concat()).into_owned())
}

async fn end(shim: Shim) {
    shim.signal(libc::SIGKILL).await.unwrap();
    shim.wait().await;
    shim.release().await;
}

#[tokio::test]
async fn a_shim_keeps_next_to_nothing() {
    let rig = crate::new_rig!();
    let shim = rig.start(rig.plan("kept", &["sleep", "1000"])).await.unwrap();
    assert_confined(shim.shim_pid(), KILL | DAC_OVERRIDE).await;
    // That of an exec even less; and it goes with the exec.
    let run = shim.exec(exec(&["sleep", "1000"]), None).await.unwrap();
    let other = parent(run.pid());
    assert_ne!(other, shim.shim_pid());
    assert_confined(other, KILL).await;
    run.signal(libc::SIGKILL).await.unwrap();
    assert_eq!(run.wait().await.code, 137);
    until("the exec's shim is gone", || {
        !std::path::Path::new(&format!("/proc/{other}")).exists()
    })
    .await;
    end(shim).await;
}

/// What a container is, does not depend on what its shim has given up.
#[tokio::test]
async fn nothing_of_it_reaches_containers_and_execs() {
    let rig = crate::new_rig!();
    let script = "grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp:|Seccomp_filters)' /proc/self/status | tr -d '\\n\\t'";
    let want = |caps: u64| format!("CapEff:{caps:016x}CapBnd:{caps:016x}NoNewPrivs:0Seccomp:0Seccomp_filters:0");
    assert_eq!(rig.sh("plain", script).await, want(CAPS));
    let every = Caps {
        bounding: all(),
        effective: all(),
        permitted: all(),
        inheritable: 0,
        ambient: 0,
    };
    let privileged = rig
        .sh_with("privileged", script, |plan| plan.process.caps = every)
        .await;
    assert_eq!(privileged, want(all()));
    let shim = rig.start(rig.plan("execs", &["sleep", "1000"])).await.unwrap();
    let script = ["sh", "-c", script];
    assert_eq!(output(&shim, exec(&script)).await, (0, want(CAPS)));
    // As `docker exec --privileged` does in a container that is not.
    let mut plan = exec(&script);
    plan.process.caps = every;
    assert_eq!(output(&shim, plan).await, (0, want(all())));
    let mut plan = exec(&[
        "sh",
        "-c",
        "mount -t tmpfs none /tmp && grep -c ' /tmp tmpfs' /proc/mounts",
    ]);
    plan.process.caps = every;
    assert_eq!(
        output(&shim, plan).await,
        (0, "1\n".into()),
        "a mount by a privileged exec"
    );
    end(shim).await;
}

#[tokio::test]
async fn a_program_with_the_set_user_bit_still_becomes_its_owner() {
    let rig = crate::new_rig!();
    let folder = rig.folder.path().join("setuid");
    std::fs::create_dir(&folder).unwrap();
    let program = folder.join("busybox");
    std::fs::copy(rig.root.join("bin/busybox"), &program).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    let user = User::Ids {
        uid: 33,
        gid: 34,
        groups: vec![34],
    };
    for no_new_privs in [false, true] {
        let mut plan = rig.plan(&format!("as{no_new_privs}"), &["/tmp/busybox", "su", "-c", "id -u"]);
        plan.mounts.push(bind(&folder, "/tmp", 0));
        plan.process.user = user.clone();
        plan.process.no_new_privs = no_new_privs;
        let (_, _, said) = rig.run(plan).await;
        // busybox' su insists on being root: without the bit's effect it says so.
        assert_eq!(said.contains("must be suid"), no_new_privs, "{said}");
    }
}

/// The work that is left for a confined shim: every kind of file and signal that it has to do with.
#[tokio::test]
async fn a_confined_shim_does_its_work() {
    let rig = crate::new_rig!();
    let mut plan = rig.plan("works", &["sh", "-c", "seq 1 20000; exec sleep 1000"]);
    let log = rig.folder.path().join("containers/works/log");
    plan.head.log = LogTarget::Local {
        path: log.clone(),
        max_size: 16 * 1024,
        max_files: 3,
    };
    // Of another user, so that the signal takes a right.
    plan.process.user = User::Ids {
        uid: 33,
        gid: 34,
        groups: vec![34],
    };
    let (exit_file, own) = (plan.head.exit_file.clone(), plan.head.cgroup.own.clone());
    let shim = rig.start(plan).await.unwrap();
    let mut rotated = log.clone().into_os_string();
    rotated.push(".1");
    until("the log is rotated", || PathBuf::from(&rotated).exists()).await;
    // Groups that the container made and gave away.
    let mut below = Vec::new();
    for folder in &own {
        let group = folder.join("a");
        std::fs::create_dir_all(group.join("b")).unwrap();
        std::os::unix::fs::chown(&group, Some(33), Some(34)).unwrap();
        below.push(group);
    }
    shim.signal(libc::SIGKILL).await.unwrap();
    assert_eq!(shim.wait().await.code, 137);
    let pid = shim.shim_pid();
    drop(shim);
    until("the exit record", || exit_file.exists()).await;
    until("the shim is gone", || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    })
    .await;
    assert!(
        below.iter().chain(&own).all(|group| !group.exists()),
        "{own:?} are left"
    );
    assert!(rig.launcher.live().unwrap().is_empty(), "the socket is left");
}

#[tokio::test]
async fn a_confined_shim_serves_a_terminal() {
    let rig = crate::new_rig!();
    let mut plan = rig.plan("tty", &["sh", "-c", "read x; stty size; tty"]);
    plan.head.terminal = Some(ConsoleSize { rows: 1, cols: 2 });
    plan.head.stdin = Stdin::Pipe { once: false };
    let (shim, mut stream) = rig.start_attached(plan).await;
    shim.resize(30, 40).await.unwrap();
    std::io::Write::write_all(&mut stream, b"\n").unwrap();
    assert_eq!(shim.wait().await.code, 0);
    shim.release().await;
    let seen = tokio::task::spawn_blocking(move || std::io::read_to_string(stream).unwrap())
        .await
        .unwrap();
    assert!(
        seen.contains("30 40\r\n/dev/console") || seen.contains("30 40\r\n/dev/pts/0"),
        "{seen:?}"
    );
}

/// Process 1 of `--init` is the shim's own code, but it stands in the container, where a process may be allowed to take
/// it over (`CAP_SYS_PTRACE`).
#[tokio::test]
async fn the_built_in_init_has_no_more_than_its_container() {
    let rig = crate::new_rig!();
    let instruction =
        |code: u16, jt: u8, jf: u8, k: u32| [&code.to_ne_bytes()[..], &[jt, jf], &k.to_ne_bytes()].concat();
    // One system call fails with EPERM, all else is allowed.
    let refuse = |call: libc::c_long| {
        [
            instruction(0x20, 0, 0, 0),
            instruction(0x15, 0, 1, call as u32),
            instruction(0x06, 0, 0, 0x0005_0001),
            instruction(0x06, 0, 0, 0x7fff_0000),
        ]
        .concat()
    };
    let script = "grep -E '^(CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp:)' /proc/1/status | tr -d '\\n\\t'; exit 3";
    // Also where it cannot wait for signals: it still tells the end.
    for (id, call) in [("plain", libc::SYS_uname), ("deaf", libc::SYS_rt_sigtimedwait)] {
        for no_new_privs in [false, true] {
            let mut plan = rig.plan(&format!("{id}{no_new_privs}"), &["sh", "-c", script]);
            plan.init = true;
            plan.process.seccomp = refuse(call).into();
            plan.process.no_new_privs = no_new_privs;
            let (exit, seen, _) = rig.run(plan).await;
            let no_new_privs = u8::from(no_new_privs);
            let want =
                format!("CapPrm:{CAPS:016x}CapEff:{CAPS:016x}CapBnd:{CAPS:016x}NoNewPrivs:{no_new_privs}Seccomp:2");
            assert_eq!((exit.code, seen), (3, want), "{id}");
        }
    }
}
