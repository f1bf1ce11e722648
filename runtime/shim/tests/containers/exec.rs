//! Further processes in a running container.

use std::io::Write;
use std::os::unix::net::UnixStream;

use crate::rig::{Rig, attach, exec, read_frames, type_all};
use runtime::cgroup::Resources;
use runtime::launcher::Shim;
use runtime::plan::{ConsoleSize, ExecPlan, Stdin, User};

pub async fn output(shim: &Shim, plan: ExecPlan) -> (i32, String) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let handle = shim.exec(plan, Some(attach(theirs))).await.unwrap();
    let exit = handle.wait().await;
    let (out, err) = tokio::task::spawn_blocking(move || read_frames(ours)).await.unwrap();
    (
        exit.code,
        String::from_utf8(out).unwrap() + std::str::from_utf8(&err).unwrap(),
    )
}

pub async fn end(shim: Shim) {
    shim.signal(libc::SIGKILL).await.unwrap();
    shim.wait().await;
    shim.release().await;
}

async fn sleeper(rig: &Rig, id: &str) -> Shim {
    rig.start(rig.plan(id, &["sleep", "1000"])).await.unwrap()
}

#[tokio::test]
async fn an_exec_is_in_every_namespace_and_cgroup_of_the_container() {
    let rig = crate::new_rig!();
    let shim = sleeper(&rig, "inside").await;
    let kinds = ["mnt", "uts", "ipc", "net", "pid", "cgroup"];
    let script = "for n in mnt uts ipc net pid cgroup; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup";
    let (code, seen) = output(&shim, exec(&["sh", "-c", script])).await;
    assert_eq!(code, 0, "{seen}");
    let lines: Vec<&str> = seen.lines().collect();
    for (kind, inside) in kinds.iter().zip(&lines) {
        let outside = std::fs::read_link(format!("/proc/{}/ns/{kind}", shim.pid())).unwrap();
        assert_eq!(outside.to_str().unwrap(), *inside);
    }
    // Seen from outside as well: the same groups as the first process.
    let sleeping = shim.exec(exec(&["sleep", "1000"]), None).await.unwrap();
    let groups = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(groups(shim.pid()), groups(sleeping.pid()));
    let (_, processes) = output(&shim, exec(&["ps"])).await;
    assert_eq!(processes.matches("sleep 1000").count(), 2, "{processes}");
    end(shim).await;
    assert_eq!(sleeping.wait().await.code, 137, "ends with the container");
}

#[tokio::test]
async fn an_exec_joins_the_group_that_an_update_made() {
    let rig = crate::new_rig!();
    let Some((cgroups, parent)) = &rig.cgroups else {
        println!("skipped: no cgroups");
        return;
    };
    let plan = rig.plan("updated", &["sleep", "1000"]);
    let path = parent.child("updated").unwrap();
    let late = plan.head.cgroup.late.clone();
    let shim = rig.start(plan).await.unwrap();
    let limits = Resources {
        cpuset_cpus: Some("0".into()),
        ..Resources::default()
    };
    cgroups.update(&path, &limits).unwrap();
    let sleeping = shim.exec(exec(&["sleep", "1000"]), None).await.unwrap();
    let groups = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let line = groups(shim.pid());
    let line = line
        .lines()
        .find(|line| line.split(':').nth(1).unwrap().contains("cpuset"));
    assert!(line.is_none_or(|line| line.ends_with("/updated")), "{line:?}");
    assert_eq!(groups(shim.pid()), groups(sleeping.pid()));
    end(shim).await;
    assert!(late.iter().all(|folder| !folder.exists()), "{late:?} are left");
    assert!(!cgroups.exists(&path));
}

#[tokio::test]
async fn an_exec_leaks_no_descriptor_and_no_environment() {
    let rig = crate::new_rig!();
    let shim = sleeper(&rig, "tight").await;
    let (_, seen) = output(&shim, exec(&["sh", "-c", "ls /proc/self/fd; env"])).await;
    let want = ["0", "1", "2", "3"].join("\n");
    assert!(
        seen.starts_with(&want) && seen.contains("HOME=/root") && seen.contains("PATH=/usr/bin:/bin"),
        "{seen}"
    );
    assert_eq!(seen.lines().filter(|line| line.contains('=')).count(), 4, "{seen}"); // and SHLVL, PWD of the shell
    end(shim).await;
}

#[tokio::test]
async fn execs_have_users_folders_input_and_codes() {
    let rig = crate::new_rig!();
    let shim = sleeper(&rig, "varied").await;
    let mut plan = exec(&["sh", "-c", "id -un; pwd; exit 7"]);
    plan.process.user = User::Named {
        user: "web".into(),
        extra_groups: Vec::new(),
    };
    plan.process.cwd = "/tmp".into();
    assert_eq!(output(&shim, plan).await, (7, "web\n/tmp\n".into()));
    let mut plan = exec(&["sh", "-c", "cat; echo end"]);
    plan.stdin = Stdin::Pipe { once: true };
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let handle = shim.exec(plan, Some(attach(theirs))).await.unwrap();
    type_all(&mut ours, b"typed\n");
    assert_eq!(handle.wait().await.code, 0);
    let (out, _) = tokio::task::spawn_blocking(move || read_frames(ours)).await.unwrap();
    assert_eq!(out, b"typed\nend\n");
    let handle = shim.exec(exec(&["sleep", "1000"]), None).await.unwrap();
    handle.signal(libc::SIGTERM).await.unwrap();
    let exit = handle.wait().await;
    assert_eq!((exit.code, exit.signal), (143, Some(15)));
    end(shim).await;
}

#[tokio::test]
async fn an_exec_can_have_a_terminal() {
    let rig = crate::new_rig!();
    let shim = sleeper(&rig, "tty").await;
    let mut plan = exec(&["sh", "-c", "tty; stty size; read line; stty size; echo got $line"]);
    plan.terminal = Some(ConsoleSize { rows: 11, cols: 22 });
    plan.stdin = Stdin::Pipe { once: true };
    let (ours, theirs) = UnixStream::pair().unwrap();
    let handle = shim.exec(plan, Some(attach(theirs))).await.unwrap();
    handle.resize(33, 44).await.unwrap();
    (&ours).write_all(b"word\n").unwrap();
    assert_eq!(handle.wait().await.code, 0);
    let seen = tokio::task::spawn_blocking(move || std::io::read_to_string(ours).unwrap())
        .await
        .unwrap();
    assert!(
        seen.contains("/dev/pts/0\r\n") && seen.contains("33 44\r\ngot word\r\n"),
        "{seen:?}"
    );
    end(shim).await;
}

#[tokio::test]
async fn many_execs_at_once_and_large_ones() {
    let rig = crate::new_rig!();
    let shim = sleeper(&rig, "many").await;
    let runs = (0..16).map(|number| {
        let shim = shim.clone();
        tokio::spawn(async move { output(&shim, exec(&["sh", "-c", &format!("exit {number}")])).await.0 })
    });
    for (number, run) in runs.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(run.await.unwrap(), number as i32);
    }
    // Too large for a message: goes through memory.
    let mut plan = exec(&["sh", "-c", "echo ${#BIG}"]);
    plan.process.env.push(format!("BIG={}", "x".repeat(120_000)).into());
    plan.process.env.push(format!("MORE={}", "y".repeat(120_000)).into());
    assert_eq!(output(&shim, plan).await, (0, "120000\n".into()));
    let fds = std::fs::read_dir(format!("/proc/{}/fd", shim.shim_pid()))
        .unwrap()
        .count();
    assert!(fds < 20, "{fds} descriptors are open in the shim");
    end(shim).await;
}
