//! Names, folders, mounts and sockets at the boundary of container and host.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use harness::kernel::own_mounts;
use harness::{Test, tests};
use nix::mount::{MsFlags, mount};
use serde_json::json;

use crate::bundle::SECRET;
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        ids_that_leave_the_state_folder_are_refused,
        ids_that_are_no_names_are_refused,
        a_cgroup_path_with_dots_stays_below_the_mount,
        the_place_of_the_containers_group_is_not_visible,
        the_state_folder_is_not_reachable,
        hooks_of_the_rootfs_are_not_run_on_the_host,
        a_start_container_hook_runs_inside,
        a_configuration_in_the_rootfs_is_not_read,
        mounts_of_the_container_do_not_reach_the_host,
        mounts_of_a_slave_container_do_not_reach_the_host,
        mounts_of_the_host_do_not_reach_a_private_container,
        abstract_sockets_of_the_host_are_not_reachable,
        the_network_of_the_host_is_not_visible,
        the_name_of_the_host_is_not_changed,
        shared_memory_of_the_host_is_not_visible,
        root_of_a_user_namespace_is_nobody_on_the_host,
        maps_of_a_user_namespace_cannot_be_changed,
        a_user_namespace_does_not_open_the_hosts_files,
        files_of_the_container_are_not_the_runtimes_log,
    ]
}

/// CVE-2019-14891's kind: an id that is a path.
fn ids_that_leave_the_state_folder_are_refused(world: &World) {
    let bundle = world.bundle();
    bundle.save();
    let folder = bundle.folder().to_str().unwrap();
    let parent = bundle.state_root().parent().unwrap();
    let listing = || {
        let mut names: Vec<_> = std::fs::read_dir(parent)
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        names.retain(|name| !name.to_string_lossy().starts_with('s'));
        names
    };
    let before = listing();
    for id in [
        "../escaped",
        "../../escaped",
        "..",
        ".",
        "a/b",
        "/tmp/escaped",
        "a/../../escaped",
        "./x",
        "x/",
        "..\\x/..",
        "x/../x",
    ] {
        for words in [
            &["create", "--bundle", folder][..],
            &["state"],
            &["start"],
            &["kill"],
            &["delete", "--force"],
            &["exec"],
        ] {
            let tail: &[&str] = match words[0] {
                "exec" => &[id, "true"],
                "kill" => &[id, "KILL"],
                _ => &[id],
            };
            let out = bundle.call(&[words, tail].concat()).output();
            // `delete --force` of what does not exist may be no error; what counts is that nothing happens.
            assert!(out.code != 0 || words[0] == "delete", "{} took the id {id:?}", words[0]);
        }
    }
    assert_eq!(listing(), before);
    assert!(bundle.state_root().is_dir(), "the folder of the states was removed");
}

fn ids_that_are_no_names_are_refused(world: &World) {
    let bundle = world.bundle();
    bundle.save();
    let folder = bundle.folder().to_str().unwrap();
    let long = "x".repeat(5000);
    for id in [
        "",
        " ",
        "a b",
        "a\nb",
        "a\tb",
        "\u{1b}[2J",
        "a\u{7f}",
        "é",
        "a*b",
        "a:b",
        "$(id)",
        "a'b",
        &long,
    ] {
        let out = bundle.call(&["create", "--bundle", folder, "--", id]).output();
        assert_ne!(out.code, 0, "the id {id:?} was taken");
        assert!(!out.err.is_empty());
    }
}

fn a_cgroup_path_with_dots_stays_below_the_mount(world: &World) {
    let before = harness::kernel::cgroups_with("escaped").len();
    for path in [
        "/../../escaped",
        "../../../escaped",
        &format!("{}/../../../tmp/escaped", world.cgroup()),
    ] {
        let mut bundle = world.bundle();
        // The tag is in the name, so that what comes of it is found and removed.
        let path = format!("{path}-{}", bundle.id);
        bundle.set("/linux/cgroupsPath", path).shell("cat /proc/1/cgroup");
        bundle.run();
        assert!(!std::path::Path::new(&format!("/sys/fs/escaped-{}", bundle.id)).exists());
        assert!(!std::path::Path::new(&format!("/tmp/escaped-{}", bundle.id)).exists());
        assert!(!std::path::Path::new(&format!("/escaped-{}", bundle.id)).exists());
        assert!(!std::path::Path::new(&format!("/sys/fs/cgroup/escaped-{}", bundle.id)).exists());
    }
    assert_eq!(harness::kernel::cgroups_with("escaped").len(), before);
}

/// A control group namespace shows the container's own group as the root of all.
fn the_place_of_the_containers_group_is_not_visible(world: &World) {
    let mut bundle = world.bundle();
    bundle.shell("cat /proc/1/cgroup");
    let out = bundle.run().ok();
    let known: Vec<&str> = out.lines().filter(|line| !line.ends_with(":/")).collect();
    assert!(
        !out.is_empty() && known.is_empty(),
        "the host's groups are known: {known:?}"
    );
    bundle.sleeper();
    let out = bundle.inside("cat /proc/self/cgroup").ok();
    assert!(!out.contains(&bundle.id), "the host's groups are known: {out}");
}

fn the_state_folder_is_not_reachable(world: &World) {
    let mut bundle = world.bundle();
    let root = bundle.state_root().display().to_string();
    let line = format!(
        "ls {root} /proc/1/root{root}; find / -xdev -name '*{0}*'; grep -e {0} /proc/self/mountinfo",
        bundle.id
    );
    bundle
        .set("/linux/cgroupsPath", format!("{}/other", world.cgroup()))
        .shell(&line);
    // The rootfs is a mount whose root on its file system shows in mountinfo: that much every container may know.
    let out = bundle.run().out;
    let lines: Vec<&str> = out.lines().filter(|line| !line.contains(" / ")).collect();
    assert!(lines.is_empty(), "{lines:?}");
}

/// Hooks are the host's programs, by the host's paths.
fn hooks_of_the_rootfs_are_not_run_on_the_host(world: &World) {
    for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        let mut bundle = world.bundle();
        let path = format!("/hook-{}", bundle.id);
        bundle.put(
            &path,
            &format!(
                "#!/bin/sh\necho run > {}/by-hook; echo run > /by-hook\n",
                bundle.victim()
            ),
        );
        bundle.set("/hooks", json!({kind: [{"path": path}]})).shell("true");
        bundle.run();
        bundle.host_is_untouched();
        assert!(!bundle.rootfs("/by-hook").exists(), "{kind} was taken from the rootfs");
    }
}

/// `startContainer` is the one that the specification wants inside: with the container's root, it cannot reach out.
fn a_start_container_hook_runs_inside(world: &World) {
    let mut bundle = world.bundle();
    bundle.put(
        "/hook",
        &format!("#!/bin/sh\ncat {} > /by-hook\necho over >> /by-hook\n", bundle.secret()),
    );
    bundle
        .set("/hooks", json!({"startContainer": [{"path": "/hook"}]}))
        .shell("true");
    bundle.run().ok();
    assert_eq!(std::fs::read_to_string(bundle.rootfs("/by-hook")).unwrap(), "over\n");
}

fn a_configuration_in_the_rootfs_is_not_read(world: &World) {
    let mut bundle = world.bundle();
    let mut other = bundle.config.clone();
    other.shell("echo from the rootfs");
    bundle.put("/config.json", &other.0.to_string());
    bundle.put("/rootfs/bin/sh", "#!/bin/busybox sh\necho from the rootfs\n");
    bundle.shell("echo from the bundle");
    assert_eq!(bundle.run().ok(), "from the bundle");
}

/// The bundle lies on a mount that is shared with others of the host, as systemd makes all mounts.
fn propagation(world: &World, propagation: Option<&str>) {
    let mut bundle = world.bundle();
    let volume = bundle.volume("");
    for path in [bundle.rootfs(""), volume.clone()] {
        mount(Some(&path), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        mount(None::<&str>, &path, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
    }
    let id = bundle.id.clone();
    let count = || own_mounts().iter().filter(|mount| mount.target.contains(&id)).count();
    assert_eq!(count(), 2);
    let mut changed = bundle.config.clone();
    changed.more_capabilities(&["CAP_SYS_ADMIN"]).bind(&volume, "/vol");
    if let Some(propagation) = propagation {
        changed.set("/linux/rootfsPropagation", propagation);
    }
    // It says so only when each of them is there: what else may be printed, or could not be mounted, is no attempt.
    changed.shell(
        "mkdir /vol/made && mount -t tmpfs tmpfs /vol/made && mount -t tmpfs tmpfs /mnt && mount -t tmpfs tmpfs / && \
         grep -q ' /vol/made ' /proc/self/mountinfo && echo all mounted; sleep 1000",
    );
    bundle.config = changed;
    bundle.launch();
    bundle.expect("all mounted");
    assert_eq!(count(), 2, "mounts of the container are on the host");
}

fn mounts_of_the_container_do_not_reach_the_host(world: &World) {
    propagation(world, None);
    propagation(world, Some("rprivate"));
}

fn mounts_of_a_slave_container_do_not_reach_the_host(world: &World) {
    propagation(world, Some("rslave"));
}

fn mounts_of_the_host_do_not_reach_a_private_container(world: &World) {
    let mut bundle = world.bundle();
    let volume = bundle.volume("");
    std::fs::create_dir(bundle.volume("later")).unwrap();
    mount(Some(&volume), &volume, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    mount(None::<&str>, &volume, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
    let source = volume.to_str().unwrap().to_owned();
    bundle.mount("/vol", "bind", &source, &["rbind", "rprivate"]);
    bundle.sleeper();
    mount(
        Some("tmpfs"),
        &bundle.volume("later"),
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    std::fs::write(bundle.volume("later/file"), SECRET).unwrap();
    assert_eq!(bundle.inside("ls /vol/later").ok(), "");
}

fn abstract_sockets_of_the_host_are_not_reachable(world: &World) {
    let mut bundle = world.bundle();
    let name = format!("ietest-{}", bundle.id);
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    bundle.args(&["probe", "connect", &name]);
    let out = bundle.run();
    assert_eq!(out.out, "connect: ECONNREFUSED");
    bundle.shell("cat /proc/net/unix");
    assert!(!bundle.run().out.contains(&name));
}

fn the_network_of_the_host_is_not_visible(world: &World) {
    let mut bundle = world.bundle();
    bundle.shell("ls /sys/class/net; cat /proc/net/dev | tail -n +3 | cut -d: -f1; cat /proc/net/route | tail -n +2; cat /proc/net/tcp | tail -n +2");
    let out = bundle.run().ok();
    let links: Vec<&str> = out.split_whitespace().collect();
    let own = [
        "lo", "sit0", "tunl0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0",
    ];
    assert!(links.iter().all(|link| own.contains(link)), "{links:?}");
}

fn the_name_of_the_host_is_not_changed(world: &World) {
    let before = nix::unistd::gethostname().unwrap();
    let mut bundle = world.bundle();
    bundle
        .more_capabilities(&["CAP_SYS_ADMIN"])
        .shell("hostname renamed; hostname");
    assert_eq!(bundle.run().ok(), "renamed");
    assert_eq!(nix::unistd::gethostname().unwrap(), before);
    // Without a namespace of its own, a name is refused rather than given to the host.
    bundle.without_namespace("uts");
    assert_ne!(bundle.run().code, 0);
    assert_eq!(nix::unistd::gethostname().unwrap(), before);
}

fn shared_memory_of_the_host_is_not_visible(world: &World) {
    let name = format!("/dev/shm/ietest-{}", world.tag());
    std::fs::write(&name, SECRET).unwrap();
    let mut bundle = world.bundle();
    bundle.shell("ls -A /dev/shm /dev/mqueue; tail -n +2 /proc/sysvipc/shm /proc/sysvipc/sem /proc/sysvipc/msg | grep -v -e == -e '^$'");
    let out = bundle.run().out;
    std::fs::remove_file(&name).unwrap();
    let lines: Vec<&str> = out
        .lines()
        .filter(|line| !line.is_empty() && !line.ends_with(':'))
        .collect();
    assert!(lines.is_empty(), "{lines:?}");
}

fn root_of_a_user_namespace_is_nobody_on_the_host(world: &World) {
    let mut bundle = world.bundle();
    bundle.user_namespace(100_000, 65_536);
    super::chown_rootfs(&bundle);
    let process = bundle.sleeper();
    assert!(
        process.status("Uid").split_whitespace().all(|uid| uid == "100000"),
        "{}",
        process.status("Uid")
    );
    assert_eq!(bundle.inside("id -u").ok(), "0");
    let child = bundle.inside("cat /proc/self/uid_map").ok();
    assert_eq!(child.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
}

fn maps_of_a_user_namespace_cannot_be_changed(world: &World) {
    let mut bundle = world.bundle();
    bundle
        .user_namespace(100_000, 65_536)
        .more_capabilities(&["CAP_SYS_ADMIN"]);
    super::chown_rootfs(&bundle);
    bundle.sleeper();
    bundle.inside(
        "echo 0 0 4294967295 > /proc/self/uid_map; echo 0 0 4294967295 > /proc/1/uid_map; echo 0 0 1 > /proc/1/gid_map",
    );
    let map = bundle.inside("cat /proc/1/uid_map /proc/1/gid_map").ok();
    assert_eq!(
        map.split_whitespace().collect::<Vec<_>>(),
        ["0", "100000", "65536", "0", "100000", "65536"]
    );
}

/// A file of the host's root, mode 600, in a volume.
fn a_user_namespace_does_not_open_the_hosts_files(world: &World) {
    use std::os::unix::fs::PermissionsExt;
    let mut bundle = world.bundle();
    std::fs::write(bundle.volume("file"), SECRET).unwrap();
    std::fs::set_permissions(bundle.volume("file"), PermissionsExt::from_mode(0o600)).unwrap();
    let volume = bundle.volume("");
    bundle.user_namespace(100_000, 65_536).bind(&volume, "/vol");
    bundle.shell("cat /vol/file; chown 0 /vol/file; echo x > /vol/file; mknod /node b 8 0; probe read-open /node");
    super::chown_rootfs(&bundle);
    let out = bundle.run();
    assert!(!out.out.contains(SECRET) && !out.out.contains("opened"), "{}", out.out);
    assert_eq!(std::fs::read_to_string(bundle.volume("file")).unwrap(), SECRET);
}

/// `--log` names a file of the host, also when the container has one of that name.
fn files_of_the_container_are_not_the_runtimes_log(world: &World) {
    let mut bundle = world.bundle();
    let log = bundle.host("log.json");
    bundle.put(&log, "the container's own\n");
    bundle.args(&["/no-such-program"]);
    bundle.save();
    let folder = bundle.folder().to_str().unwrap().to_owned();
    bundle
        .call(&[
            "--log",
            &log,
            "--log-format",
            "json",
            "run",
            "--bundle",
            &folder,
            &bundle.id,
        ])
        .output();
    assert!(!std::fs::read_to_string(&log).unwrap().is_empty());
    assert_eq!(
        std::fs::read_to_string(bundle.rootfs(&log)).unwrap(),
        "the container's own\n"
    );
}
