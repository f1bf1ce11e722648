//! Containers with a user namespace: root inside is nobody outside, and no file is given to somebody else for it.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;

use runtime::plan::*;

use crate::rig::{self, Rig, bind};

const FIRST: u32 = 100_000;
const COUNT: u32 = 65_536;

fn remapped(rig: &Rig, id: &str, argv: &[&str]) -> Plan {
    let mut plan = rig.plan(id, argv);
    let range = vec![IdRange {
        inside: 0,
        outside: FIRST,
        count: COUNT,
    }];
    let map = IdMap {
        users: range.clone(),
        groups: range,
    };
    plan.head.namespaces.new |= libc::CLONE_NEWUSER as u64;
    plan.head.users = Some(map.clone());
    plan.head.id_maps = vec![map];
    plan.root_id_map = Some(0);
    plan
}

fn upper(plan: &Plan) -> PathBuf {
    match &plan.root {
        Root::Overlay { upper, .. } => upper.clone(),
        Root::Dir { path } => path.clone(),
    }
}

fn status(pid: i32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap()
        .trim()
        .replace('\t', " ")
}

#[tokio::test]
async fn root_is_nobody_outside() {
    let rig = crate::new_rig!();
    let plan = remapped(&rig, "outside", &["sleep", "1000"]);
    let shim = rig.start(plan).await.unwrap();
    let pid = shim.pid();
    assert_eq!(status(pid, "Uid:"), "100000 100000 100000 100000");
    assert_eq!(status(pid, "Gid:"), "100000 100000 100000 100000");
    let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    crate::exec::end(shim).await;
}

#[tokio::test]
async fn files_have_the_owners_of_the_image_and_stay_so_on_disk() {
    let rig = crate::new_rig!();
    std::fs::write(rig.root.join("etc/web"), "x").unwrap();
    chown(rig.root.join("etc/web"), Some(33), Some(34)).unwrap();
    let plan = remapped(
        &rig,
        "owners",
        &[
            "sh",
            "-c",
            "id -u; stat -c %u:%g / /etc /etc/passwd /etc/web /bin/busybox; echo new > /etc/new;
             mkdir /etc/dir; echo more:x:1:1::/:/bin/sh >> /etc/passwd; echo y >> /etc/web; rm /etc/noexec; touch /tmp/t;
             ln -s x /etc/link; busybox chown 7:8 /etc/dir; stat -c %u:%g /etc/new /etc/dir /etc/web /tmp/t /etc/passwd",
        ],
    );
    let upper = upper(&plan);
    let (exit, out, err) = rig.run(plan).await;
    assert_eq!(exit.code, 0, "{out}{err}");
    let seen: Vec<_> = out.lines().collect();
    assert_eq!(
        seen,
        [
            "0", "0:0", "0:0", "0:0", "33:34", "0:0", "0:0", "7:8", "33:34", "0:0", "0:0"
        ],
        "{err}"
    );
    for (name, owner) in [
        ("etc/new", (0, 0)),
        ("etc/dir", (7, 8)),
        ("etc/web", (33, 34)),
        ("etc/passwd", (0, 0)),
        ("etc/link", (0, 0)),
        ("etc/noexec", (0, 0)),
        ("tmp/t", (0, 0)),
    ] {
        let about = std::fs::symlink_metadata(upper.join(name)).unwrap();
        assert_eq!((about.uid(), about.gid()), owner, "{name} in the writable layer");
    }
    let below = std::fs::metadata(rig.root.join("etc/web")).unwrap();
    assert_eq!((below.uid(), below.gid(), below.size()), (33, 34, 1), "the layer below");
}

/// The same writable layer with and without a user namespace, back and forth.
#[tokio::test]
async fn a_layer_serves_containers_with_and_without() {
    let rig = crate::new_rig!();
    for (round, apart) in [(0, false), (1, true), (2, true), (3, false), (4, true)] {
        let script = format!(
            "for n in $(seq 0 {round}); do [ $n = {round} ] || stat -c %u /root/$n; done; echo x > /root/{round}"
        );
        let argv = ["sh", "-c", &script];
        let plan = if apart {
            remapped(&rig, "both", &argv)
        } else {
            rig.plan("both", &argv)
        };
        let (exit, out, err) = rig.run(plan).await;
        assert_eq!((exit.code, out.as_str()), (0, &*"0\n".repeat(round)), "{round}: {err}");
    }
}

#[tokio::test]
async fn volumes_are_mapped_and_other_binds_are_not() {
    let rig = crate::new_rig!();
    let folder = |name: &str| {
        let path = rig.folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("old"), "x").unwrap();
        path
    };
    let (volume, plain) = (folder("volume"), folder("plain"));
    let script = "stat -c %u /v /v/old /p/old; echo y > /v/new; echo z >> /v/old; touch /p/new 2>/dev/null || echo no";
    let mut plan = remapped(&rig, "volumes", &["sh", "-c", script]);
    let mut mapped = bind(&volume, "/v", 0);
    mapped.id_map = Some(MountIdMap {
        map: 0,
        recursive: false,
    });
    plan.mounts.push(mapped);
    plan.mounts.push(bind(&plain, "/p", 0));
    let (exit, out, err) = rig.run(plan).await;
    assert_eq!((exit.code, out.as_str()), (0, "0\n0\n65534\nno\n"), "{err}");
    assert_eq!(std::fs::metadata(volume.join("new")).unwrap().uid(), 0);
}

#[tokio::test]
async fn further_processes_and_users_have_their_places_and_streams() {
    let rig = crate::new_rig!();
    let shim = rig.start(remapped(&rig, "exec", &["sleep", "1000"])).await.unwrap();
    for (user, seen) in [("", "0 0"), ("web", "33 34")] {
        let mut plan = rig::exec(&[
            "sh",
            "-c",
            "echo $(id -u) $(id -g) > /dev/stdout; readlink /proc/self/ns/user",
        ]);
        plan.process.user = User::Named {
            user: user.into(),
            extra_groups: Vec::new(),
        };
        let (code, out) = crate::exec::output(&shim, plan).await;
        let namespace = std::fs::read_link(format!("/proc/{}/ns/user", shim.pid())).unwrap();
        assert_eq!((code, out), (0, format!("{seen}\n{}\n", namespace.display())));
    }
    crate::exec::end(shim).await;
    // The same for the first process.
    for user in ["", "web"] {
        let mut plan = remapped(
            &rig,
            "streams",
            &["sh", "-c", "echo out > /dev/stdout; echo err > /proc/self/fd/2"],
        );
        plan.process.user = User::Named {
            user: user.into(),
            extra_groups: Vec::new(),
        };
        let (exit, out, err) = rig.run(plan).await;
        assert_eq!((exit.code, out.as_str(), err.as_str()), (0, "out\n", "err\n"), "{user}");
    }
}

#[tokio::test]
async fn a_terminal_belongs_to_the_user() {
    let rig = crate::new_rig!();
    for (user, seen) in [("", "0"), ("web", "33")] {
        let mut plan = remapped(
            &rig,
            "tty",
            &["sh", "-c", "stat -c %u $(tty); echo yes > $(tty); stty size"],
        );
        plan.head.terminal = Some(ConsoleSize { rows: 24, cols: 80 });
        plan.process.user = User::Named {
            user: user.into(),
            extra_groups: Vec::new(),
        };
        let (shim, stream) = rig.start_attached(plan).await;
        let reader = tokio::task::spawn_blocking(move || std::io::read_to_string(stream).unwrap());
        let exit = shim.wait().await;
        shim.release().await;
        assert_eq!(
            (exit.code, reader.await.unwrap()),
            (0, format!("{seen}\r\nyes\r\n24 80\r\n"))
        );
    }
}

/// A network namespace of the host's, as the daemon makes them: parameters are set and sysfs shows it all the same.
#[tokio::test]
async fn a_joined_network_is_shown_and_set_up() {
    let rig = crate::new_rig!();
    let (netns, name) = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let file = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        (
            std::os::fd::OwnedFd::from(file),
            std::fs::read_link("/proc/thread-self/ns/net").unwrap(),
        )
    })
    .join()
    .unwrap();
    let script = "ls /sys/class/net; cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/shmmni; hostname;
         cat /proc/sys/kernel/domainname; readlink /proc/self/ns/net; busybox hostname other && hostname; touch /sys/x 2>/dev/null || echo readonly";
    let mut plan = remapped(&rig, "net", &["sh", "-c", script]);
    plan.head.namespaces.new &= !(libc::CLONE_NEWNET as u64);
    plan.head.namespaces.joined.push(JoinedNamespace {
        kind: libc::CLONE_NEWNET as u64,
        fd: 0,
    });
    plan.sysctls = vec![
        ("net/ipv4/ip_default_ttl".into(), "77".into()),
        ("kernel/shmmni".into(), "99".into()),
    ];
    plan.domainname = "example".into();
    plan.process.caps.bounding |= 1 << 21;
    plan.process.caps.permitted |= 1 << 21;
    plan.process.caps.effective |= 1 << 21;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let fds = runtime::launcher::StartFds {
        joined: vec![netns],
        attach: vec![rig::attach(theirs)],
    };
    let shim = rig.launcher.start(plan, fds).await.unwrap();
    let reader = tokio::task::spawn_blocking(move || rig::read_frames(ours));
    let exit = shim.wait().await;
    shim.release().await;
    let (out, err) = reader.await.unwrap();
    let out = String::from_utf8(out).unwrap();
    let expected = format!("lo\n77\n99\nbox\nexample\n{}\nother\nreadonly\n", name.display());
    assert_eq!((exit.code, out), (0, expected), "{}", String::from_utf8_lossy(&err));
}
