//! Starts that fail: the words, the kind, and that nothing is left.

use crate::rig::{bind, exec};
use runtime::launcher::StartErrorKind::{self, NotExecutable, NotFound, Other, UserNotFound};
use runtime::plan::{Plan, Root, User};
use std::path::Path;

fn named(user: &str) -> User {
    User::Named {
        user: user.into(),
        extra_groups: Vec::new(),
    }
}

#[tokio::test]
async fn failed_starts_say_why_and_leave_nothing() {
    let rig = crate::new_rig!();
    let cases: [(&str, &[&str], fn(&mut Plan), StartErrorKind, &str); 13] = [
        (
            "absent",
            &["foo"],
            |_| {},
            NotFound,
            r#"exec: "foo": executable file not found in $PATH"#,
        ),
        (
            "path",
            &["/no/foo"],
            |_| {},
            NotFound,
            r#"exec: "/no/foo": stat /no/foo: no such file or directory"#,
        ),
        (
            "mode",
            &["/etc/passwd"],
            |_| {},
            NotExecutable,
            r#"exec: "/etc/passwd": permission denied"#,
        ),
        (
            "folder",
            &["/etc"],
            |_| {},
            NotExecutable,
            r#"exec: "/etc": is a directory"#,
        ),
        ("empty", &[], |_| {}, NotFound, "no command specified"),
        (
            "format",
            &["/tmp/bad"],
            |_| {},
            NotExecutable,
            "exec /tmp/bad: exec format error",
        ),
        (
            "init",
            &["foo"],
            |p| p.init = true,
            NotFound,
            r#"exec: "foo": executable file not found in $PATH"#,
        ),
        (
            "user",
            &["true"],
            |p| p.process.user = named("foo"),
            UserNotFound,
            "unable to find user foo: no matching entries in passwd file",
        ),
        (
            "group",
            &["true"],
            |p| p.process.user = named("web:foo"),
            UserNotFound,
            "unable to find group foo: no matching entries in group file",
        ),
        (
            "bind",
            &["true"],
            |p| p.mounts.push(bind(Path::new("/no/such/place"), "/mnt", 0)),
            Other,
            "cannot mount /no/such/place: no such file or directory",
        ),
        (
            "inproc",
            &["true"],
            |p| p.mounts.push(bind(Path::new("/etc"), "/proc/self", 0)),
            Other,
            "cannot mount /proc/self: cannot be mounted because it is inside /proc: operation not permitted",
        ),
        (
            "cwd",
            &["true"],
            |p| p.process.cwd = "/etc/passwd".into(),
            Other,
            r#"cannot change to working directory "/etc/passwd": not a directory"#,
        ),
        (
            "root",
            &["true"],
            |p| {
                p.root = Root::Dir {
                    path: "/no/root".into(),
                }
            },
            Other,
            "cannot mount the root file system at /no/root: no such file or directory",
        ),
    ];
    let bad = rig.root.join("tmp/bad");
    std::fs::write(&bad, "no program\n").unwrap();
    std::fs::set_permissions(&bad, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for (id, argv, change, kind, words) in cases {
        let mut plan = rig.plan(id, argv);
        change(&mut plan);
        let (exit_file, cgroups) = (plan.head.exit_file.clone(), plan.head.cgroup.own.clone());
        let error = rig.start(plan).await.expect_err(id);
        assert_eq!((error.to_string().as_str(), error.kind()), (words, kind), "{id}");
        assert!(cgroups.iter().all(|own| !own.exists()), "{id}: cgroups are left");
        assert!(
            !exit_file.exists(),
            "{id}: an exit record of a container that never ran"
        );
    }
    assert_eq!(rig.launcher.live().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn failed_execs_leave_the_container_alone() {
    let rig = crate::new_rig!();
    let shim = rig.start(rig.plan("host", &["sleep", "1000"])).await.unwrap();
    let error = shim.exec(exec(&["foo"]), None).await.unwrap_err();
    assert_eq!(error.to_string(), r#"exec: "foo": executable file not found in $PATH"#);
    assert_eq!(error.kind(), NotFound);
    let mut plan = exec(&["true"]);
    plan.process.user = named("foo");
    assert_eq!(shim.exec(plan, None).await.unwrap_err().kind(), UserNotFound);
    assert_eq!(shim.exec(exec(&["true"]), None).await.unwrap().wait().await.code, 0);
    shim.signal(libc::SIGKILL).await.unwrap();
    assert_eq!(shim.wait().await.code, 137);
    let error = shim.exec(exec(&["true"]), None).await.unwrap_err();
    assert_eq!(error.kind(), Other);
    shim.release().await;
}

#[tokio::test]
async fn bad_ids_never_become_paths() {
    let rig = crate::new_rig!();
    for id in ["", "../x", "a/b", ".hidden", "a b"] {
        let mut plan = rig.plan("good", &["true"]);
        plan.head.id = id.into();
        assert!(
            rig.start(plan)
                .await
                .unwrap_err()
                .to_string()
                .contains("no container id"),
            "{id}"
        );
        assert!(rig.launcher.reconnect(id).await.is_err(), "{id}");
    }
}

#[tokio::test]
async fn a_hostile_peer_does_not_stop_a_shim() {
    let rig = crate::new_rig!();
    let shim = rig.start(rig.plan("hostile", &["sleep", "1000"])).await.unwrap();
    let path = rig.folder.path().join("state/hostile.sock");
    use std::os::fd::AsFd;
    for garbage in [
        &b"\xff"[..],
        b"\x00\x00\x00",
        &[3; 4096],
        &[4; 60_000],
        &[0, 9, 9, 9, 9],
        &[1, 0, 0],
    ] {
        let peer = runtime_sys::seqpacket::connect(&path).unwrap();
        let _ = runtime_sys::seqpacket::send(peer.as_fd(), garbage, &[peer.as_fd(); 20]);
    }
    // More connections than it takes: the daemon's own stays.
    let many: Vec<_> = (0..40)
        .filter_map(|_| runtime_sys::seqpacket::connect(&path).ok())
        .collect();
    assert_eq!(shim.exec(exec(&["true"]), None).await.unwrap().wait().await.code, 0);
    drop(many);
    let fds = std::fs::read_dir(format!("/proc/{}/fd", shim.shim_pid()))
        .unwrap()
        .count();
    assert!(fds < 30, "{fds} descriptors are open in the shim");
    shim.signal(libc::SIGKILL).await.unwrap();
    shim.wait().await;
    shim.release().await;
}
