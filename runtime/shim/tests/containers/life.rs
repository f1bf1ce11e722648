//! From start to end, with and without a daemon.

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::rig;
use crate::rig::{Rig, exec, until};
use runtime::exit::read_exit;
use runtime::launcher::{Launcher, LauncherConfig, ShimError, StartFds};
use runtime::plan::JoinedNamespace;

fn alive(pid: i32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

#[tokio::test]
async fn codes_and_signals_are_told() {
    let rig = crate::new_rig!();
    for (id, script, code, signal) in [
        ("zero", "exit 0", 0, None),
        ("seven", "exit 7", 7, None),
        ("high", "exit 255", 255, None),
    ] {
        let (exit, _, _) = rig.run(rig.plan(id, &["sh", "-c", script])).await;
        assert_eq!((exit.code, exit.signal, exit.oom), (code, signal, false), "{id}");
    }
    let shim = rig.start(rig.plan("killed", &["sleep", "1000"])).await.unwrap();
    shim.signal(libc::SIGKILL).await.unwrap();
    let exit = shim.wait().await;
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    assert!(matches!(shim.signal(libc::SIGTERM).await, Err(ShimError::NoProcess)));
    assert!(matches!(shim.resize(1, 1).await, Err(ShimError::NoProcess)));
    shim.release().await;
}

#[tokio::test]
async fn a_released_container_leaves_nothing() {
    let rig = crate::new_rig!();
    let plan = rig.plan("clean", &["true"]);
    let own = plan.head.cgroup.own.clone();
    let shim = rig.start(plan).await.unwrap();
    shim.wait().await;
    let process = shim.shim_pid();
    shim.release().await;
    assert!(
        own.iter().all(|own| !own.exists()),
        "cgroups are left after the release"
    );
    assert!(
        rig.launcher.live().unwrap().is_empty(),
        "the socket is left after the release"
    );
    until("the shim ends and is reaped", || {
        !std::path::Path::new(&format!("/proc/{process}")).exists()
    })
    .await;
}

#[tokio::test]
async fn a_container_can_be_started_again_at_once_but_not_twice() {
    let rig = crate::new_rig!();
    for run in 0..5 {
        let mut plan = rig.plan("again", &["sh", "-c", "cat /count; echo x >> /count"]);
        plan.process.cwd = "/".into();
        let (_, out, _) = rig.run(plan).await;
        assert_eq!(out.len(), run * 2, "sees what the runs before wrote");
    }
    let shim = rig.start(rig.plan("again", &["sleep", "1000"])).await.unwrap();
    let error = rig.start(rig.plan("again", &["true"])).await.unwrap_err();
    assert!(error.to_string().contains("still has a shim"), "{error}");
    assert_eq!(
        rig.launcher.reconnect("again").await.unwrap().unwrap().pid(),
        shim.pid()
    );
    shim.signal(libc::SIGKILL).await.unwrap();
    shim.wait().await;
    shim.release().await;
}

#[tokio::test]
async fn a_container_outlives_its_daemon() {
    let rig = crate::new_rig!();
    let plan = rig.plan("lives", &["sh", "-c", "sleep 0.3; echo after; exit 5"]);
    let exit_file = plan.head.exit_file.clone();
    let shim = rig.start(plan).await.unwrap();
    let (pid, started) = (shim.pid(), shim.started_at());
    drop(shim);
    assert_eq!(rig.launcher.live().unwrap(), ["lives"]);
    let found = rig.launcher.reconnect("lives").await.unwrap().expect("the shim lives");
    assert_eq!((found.pid(), found.started_at()), (pid, started));
    assert!(alive(found.shim_pid()));
    let run = found.exec(exec(&["true"]), None).await.unwrap();
    assert_eq!(run.wait().await.code, 0);
    let shim_pid = found.shim_pid();
    drop((found, run));
    // Nobody is there at the end: the exit is on disk, and the shim is gone.
    until("the exit record", || exit_file.exists()).await;
    assert_eq!(read_exit(&exit_file).unwrap().unwrap().code, 5);
    until("the shim ends", || !alive(shim_pid)).await;
    assert!(rig.launcher.live().unwrap().is_empty());
    assert!(rig.launcher.reconnect("lives").await.unwrap().is_none());
}

#[tokio::test]
async fn a_daemon_that_comes_back_after_the_end_finds_it() {
    let rig = crate::new_rig!();
    let plan = rig.plan("late", &["sleep", "0.1"]);
    let exit_file = plan.head.exit_file.clone();
    let shim = rig.start(plan).await.unwrap();
    let second = rig.launcher.reconnect("late").await.unwrap().unwrap();
    drop(shim);
    // Not released within the daemon's turn: the shim records it on its own.
    assert_eq!(second.wait().await.code, 0);
    until("the exit record", || exit_file.exists()).await;
    let third = rig
        .launcher
        .reconnect("late")
        .await
        .unwrap()
        .expect("stays until it is released");
    assert_eq!(third.wait().await.code, 0);
    third.release().await;
    assert!(rig.launcher.reconnect("late").await.unwrap().is_none());
}

#[tokio::test]
async fn a_killed_shim_is_told_and_its_socket_cleared() {
    let rig = crate::new_rig!();
    let shim = rig.start(rig.plan("shot", &["sleep", "1000"])).await.unwrap();
    let pid = shim.pid();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(shim.shim_pid()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    assert_eq!(shim.wait().await.code, 255);
    assert!(matches!(shim.signal(9).await, Err(ShimError::Gone)));
    assert!(rig.launcher.reconnect("shot").await.unwrap().is_none());
    rig.launcher.sweep("shot");
    assert!(rig.launcher.live().unwrap().is_empty());
    until("its container ends with it", || !alive(pid)).await;
}

/// Children of this test program with this name.
fn children(name: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((start, rest)) = stat.rsplit_once(')') else {
            continue;
        };
        let Some((pid, comm)) = start.split_once(" (") else {
            continue;
        };
        let parent = rest.split_whitespace().nth(1).and_then(|word| word.parse::<u32>().ok());
        if parent == Some(std::process::id()) && comm == name {
            found.push(pid.parse().unwrap());
        }
    }
    found
}

#[tokio::test]
async fn warm_shims_are_kept_used_and_ended() {
    let Some(rig) = Rig::with_warm(2) else { return };
    // Other tests of this process have shims too, so only the change counts, and only in one direction.
    until("two warm shims", || children("iechor-shim").len() >= 2).await;
    for run in 0..5 {
        assert_eq!(rig.run(rig.plan(&format!("warm{run}"), &["true"])).await.0.code, 0);
    }
}

#[tokio::test]
async fn copies_are_as_good_as_the_first_and_it_can_be_lost() {
    let Some(rig) = Rig::with_warm(2) else { return };
    // As low as this machine lets us.
    let lowered = std::process::Command::new("sh")
        .args([
            "-c",
            "echo -999 2>/dev/null >/proc/self/oom_score_adj; exec cat /proc/self/oom_score_adj",
        ])
        .output();
    let lowered = String::from_utf8(lowered.unwrap().stdout).unwrap();
    for round in 0..3 {
        // A moment in which there is none may be seen while it is replaced.
        until("shims have somewhere to come from", || {
            !children("iechor-nursery").is_empty()
        })
        .await;
        for nursery in children("iechor-nursery") {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(nursery), nix::sys::signal::SIGKILL);
        }
        for run in 0..4 {
            let shim = rig.start(rig.plan(&format!("copy{round}{run}"), &["sleep", "1000"]));
            let shim = shim.await.unwrap();
            let place = format!("/proc/{}", shim.shim_pid());
            let stat = std::fs::read_to_string(format!("{place}/stat")).unwrap();
            let session = stat.rsplit(')').next().unwrap().split_whitespace().nth(3).unwrap();
            assert_eq!(session, shim.shim_pid().to_string(), "a session of its own");
            let score = std::fs::read_to_string(format!("{place}/oom_score_adj")).unwrap();
            assert_eq!(score, lowered);
            shim.signal(libc::SIGKILL).await.unwrap();
            assert_eq!(shim.wait().await.signal, Some(libc::SIGKILL));
            shim.release().await;
        }
    }
}

#[tokio::test]
async fn init_reaps_forwards_and_tells_the_code() {
    let rig = crate::new_rig!();
    let mut plan = rig.plan(
        "init",
        &[
            "sh",
            "-c",
            "trap 'exit 9' TERM; sleep 1000 & echo $$; ps -o pid,comm; wait",
        ],
    );
    plan.init = true;
    let (shim, stream) = rig.start_attached(plan).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    shim.signal(libc::SIGTERM).await.unwrap();
    assert_eq!(shim.wait().await.code, 9);
    let (out, _) = tokio::task::spawn_blocking(move || rig::read_frames(stream))
        .await
        .unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(out.starts_with("2\n") && out.contains("1 init"), "{out}");
    shim.release().await;
    // Orphans become its children and do not stay as zombies.
    let mut plan = rig.plan(
        "orphans",
        &[
            "sh",
            "-c",
            "sh -c 'sh -c true & exec true' & sleep 0.3; ps -o stat | grep -c Z; true",
        ],
    );
    plan.init = true;
    assert_eq!(rig.run(plan).await.1, "0\n");
}

#[tokio::test]
async fn what_a_container_with_the_hosts_processes_started_ends_with_it() {
    let rig = crate::new_rig!();
    if rig.cgroups.is_none() {
        println!("skipped: no cgroups");
        return;
    }
    let mut plan = rig.plan("hostpid", &["sh", "-c", "sleep 1234 & sleep 1234 & sleep 0.2; echo $!"]);
    plan.head.namespaces.new &= !(libc::CLONE_NEWPID as u64);
    let own = plan.head.cgroup.own.clone();
    let (exit, out, _) = rig.run(plan).await;
    assert_eq!(exit.code, 0);
    let pid: i32 = out.trim().parse().unwrap();
    until("its children are gone", || !alive(pid)).await;
    assert!(own.iter().all(|own| !own.exists()), "cgroups are left");
}

#[tokio::test]
async fn a_container_joins_namespaces_of_another() {
    let rig = crate::new_rig!();
    let first = rig.start(rig.plan("first", &["sleep", "1000"])).await.unwrap();
    let mut plan = rig.plan(
        "second",
        &["sh", "-c", "ps; readlink /proc/self/ns/net; readlink /proc/self/ns/ipc"],
    );
    let kinds = [
        ("net", libc::CLONE_NEWNET),
        ("ipc", libc::CLONE_NEWIPC),
        ("pid", libc::CLONE_NEWPID),
    ];
    for (index, (_, kind)) in kinds.iter().enumerate() {
        plan.head.namespaces.new &= !(*kind as u64);
        plan.head.namespaces.joined.push(JoinedNamespace {
            kind: *kind as u64,
            fd: index as u32,
        });
    }
    let open = |name: &str| OwnedFd::from(std::fs::File::open(format!("/proc/{}/ns/{name}", first.pid())).unwrap());
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let fds = StartFds {
        joined: kinds.iter().map(|(name, _)| open(name)).collect(),
        attach: vec![rig::attach(theirs)],
    };
    let second = rig.launcher.start(plan, fds).await.unwrap();
    assert_eq!(second.wait().await.code, 0);
    let (out, _) = tokio::task::spawn_blocking(move || rig::read_frames(ours))
        .await
        .unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(out.contains("sleep 1000"), "{out}");
    for name in ["net", "ipc"] {
        let link = std::fs::read_link(format!("/proc/{}/ns/{name}", first.pid())).unwrap();
        assert!(out.contains(link.to_str().unwrap()), "{out}");
    }
    second.release().await;
    first.signal(libc::SIGKILL).await.unwrap();
    first.wait().await;
    first.release().await;
}

#[tokio::test]
async fn many_containers_at_once() {
    let Some(rig) = Rig::with_warm(2) else { return };
    let rig = std::sync::Arc::new(rig);
    let runs: Vec<_> = (0..12)
        .map(|number| {
            let rig = std::sync::Arc::clone(&rig);
            tokio::spawn(async move {
                let plan = rig.plan(
                    &format!("par{number}"),
                    &["sh", "-c", &format!("echo {number}; exit {number}")],
                );
                rig.run(plan).await
            })
        })
        .collect();
    for (number, run) in runs.into_iter().enumerate() {
        let (exit, out, _) = run.await.unwrap();
        assert_eq!((exit.code, out), (number as i32, format!("{number}\n")));
    }
}

#[tokio::test]
async fn the_state_folder_may_have_a_long_path() {
    let Some(mut rig) = Rig::new() else { return };
    let state = rig.folder.path().join("long".repeat(40));
    let shim = env!("CARGO_BIN_EXE_iechor-shim").into();
    rig.launcher = Launcher::new(LauncherConfig { shim, state, warm: 0 }).unwrap();
    let id = "0123456789abcdef".repeat(4);
    let shim = rig.start(rig.plan(&id, &["sleep", "1000"])).await.unwrap();
    assert_eq!(rig.launcher.reconnect(&id).await.unwrap().unwrap().pid(), shim.pid());
    shim.signal(libc::SIGKILL).await.unwrap();
    shim.wait().await;
    shim.release().await;
}
