//! Mount targets that are not what their names say.

use std::os::unix::fs::symlink;
use std::path::Path;

use harness::kernel::own_mounts;
use harness::{Test, tests};

use crate::bundle::{Bundle, SECRET};
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        proc_linked_to_the_host,
        proc_linked_inside_of_the_rootfs,
        sys_linked_to_the_host,
        dev_linked_to_the_host,
        dev_shm_linked_to_the_host,
        dev_pts_linked_to_the_host,
        dev_mqueue_linked_to_the_host,
        cgroup_linked_to_the_host,
        a_folder_bound_behind_a_link_to_the_host,
        a_folder_bound_behind_a_relative_link_to_the_host,
        a_folder_bound_behind_a_dangling_link_to_the_host,
        a_file_bound_behind_a_link_to_the_host_makes_no_file_there,
        a_tmpfs_behind_a_link_of_a_volume,
        a_mount_onto_a_link_that_is_its_last_part,
        a_destination_with_dots_stays_inside,
        a_mount_over_the_root_does_not_show_the_host,
        a_rootfs_with_links_everywhere,
        a_cgroup_link_in_a_volume_is_not_followed,
    ]
}

const DEEP: &str = "../../../../../../../../../../../..";

/// Links that would lead from the rootfs to `target` if the host resolved them.
fn links(target: &str) -> [String; 4] {
    [
        target.to_owned(),
        format!("{DEEP}{target}"),
        format!("/proc/1/root{target}"),
        format!("/proc/self/cwd/{DEEP}{target}"),
    ]
}

/// Runs the bundle, whose rootfs is hostile: refused or confined, the host is as it was.
#[track_caller]
fn attempt(bundle: &mut Bundle) -> harness::Output {
    let mounts = own_mounts().len();
    let line = format!(
        "cat {} {DEEP}{}; touch {}/touched; cat /proc/self/mountinfo",
        bundle.secret(),
        bundle.secret(),
        bundle.victim()
    );
    bundle.shell(&line);
    let out = bundle.run();
    assert!(!out.out.contains(SECRET), "the host's file was read");
    bundle.host_is_untouched();
    // Another test may have added one of its own: only ones that stay are counted against this one.
    let grown = || own_mounts().iter().any(|mount| mount.target.contains(&bundle.id));
    assert!(!grown(), "mounts were left on the host (there were {mounts} before)");
    out
}

fn linked(world: &World, path: &str) {
    let mut bundle = world.bundle();
    for target in links(&bundle.victim()) {
        bundle.link(&target, path);
        attempt(&mut bundle);
    }
    // Dangling: nothing is to be made at the other end.
    bundle.link(&format!("{}/made", bundle.victim()), path);
    attempt(&mut bundle);
}

/// CVE-2019-19921, CVE-2023-27561.
fn proc_linked_to_the_host(world: &World) {
    linked(world, "/proc");
}

/// CVE-2023-27561: `/proc` leads to a folder of a volume that another container can change, so that what the runtime
/// masks there and writes there is not the kernel's.
fn proc_linked_inside_of_the_rootfs(world: &World) {
    let mut bundle = world.bundle();
    let volume = bundle.volume("");
    bundle.bind(&volume, "/vol");
    for target in ["/vol/proc", "vol/proc", "/tmp"] {
        bundle.link(target, "/proc");
        bundle.args(&[
            "probe",
            "write-open",
            "/proc/sys/kernel/core_pattern",
            "/proc/sysrq-trigger",
        ]);
        let out = bundle.run();
        assert!(!out.out.contains("opened"), "with /proc -> {target}: {}", out.out);
        // Masks come later, and by the same name: where it can be changed meanwhile, they are on something else.
        bundle.shell("cat /proc/self/mountinfo /vol/proc/self/mountinfo /tmp/self/mountinfo 2>&-");
        let out = bundle.run();
        for line in out.out.lines().filter(|line| line.contains(" - proc ")) {
            let at = line.split(' ').nth(4).unwrap_or_default();
            assert!(Path::new(at).starts_with("/proc"), "a procfs was mounted at {at}");
        }
    }
    bundle.host_is_untouched();
}

fn sys_linked_to_the_host(world: &World) {
    linked(world, "/sys");
}

fn dev_linked_to_the_host(world: &World) {
    linked(world, "/dev");
}

/// CVE-2021-30465's commonest targets lie in `/dev`, here one of the rootfs itself.
fn dev_shm_linked_to_the_host(world: &World) {
    linked_below_dev(world, "shm");
}

fn dev_pts_linked_to_the_host(world: &World) {
    linked_below_dev(world, "pts");
}

fn dev_mqueue_linked_to_the_host(world: &World) {
    linked_below_dev(world, "mqueue");
}

fn linked_below_dev(world: &World, name: &str) {
    let mut bundle = world.bundle();
    let dev = bundle.volume("dev");
    std::fs::create_dir(&dev).unwrap();
    // A volume in the place of the tmpfs, so that the link is there when the mount is made.
    bundle.without_mount("/dev");
    let mount =
        serde_json::json!({"destination": "/dev", "type": "bind", "source": dev.to_str(), "options": ["rbind"]});
    bundle.at("/mounts").as_array_mut().unwrap().insert(1, mount);
    for target in links(&bundle.victim()) {
        let _ = std::fs::remove_file(dev.join(name));
        symlink(target, dev.join(name)).unwrap();
        attempt(&mut bundle);
    }
}

fn cgroup_linked_to_the_host(world: &World) {
    let mut bundle = world.bundle();
    bundle.without_mount("/sys");
    for target in links(&bundle.victim()) {
        bundle.link(&target, "/sys/fs/cgroup");
        attempt(&mut bundle);
    }
}

/// Binds a volume at a destination below a link.
fn bound(world: &World, destination: &str, link: impl Fn(&Bundle) -> String) {
    let mut bundle = world.bundle();
    let volume = bundle.volume("");
    bundle.bind(&volume, destination);
    bundle.link(&link(&bundle), "/data");
    attempt(&mut bundle);
}

fn a_folder_bound_behind_a_link_to_the_host(world: &World) {
    bound(world, "/data/made/inside", Bundle::victim);
    bound(world, "/data", Bundle::victim);
}

fn a_folder_bound_behind_a_relative_link_to_the_host(world: &World) {
    bound(world, "/data/made/inside", |bundle| {
        format!("{DEEP}{}", bundle.victim())
    });
    bound(world, "/data", |_| "../host/victim".to_owned());
}

/// CVE-2024-45310: folders are made where a link of the rootfs leads.
fn a_folder_bound_behind_a_dangling_link_to_the_host(world: &World) {
    bound(world, "/data/made", |bundle| format!("{}/dangling", bundle.victim()));
    bound(world, "/data", |bundle| format!("{}/dangling", bundle.victim()));
}

/// CVE-2024-45310, for the empty file that a bound file is put onto.
fn a_file_bound_behind_a_link_to_the_host_makes_no_file_there(world: &World) {
    let mut bundle = world.bundle();
    let file = bundle.volume("file");
    std::fs::write(&file, "bound").unwrap();
    bundle.bind(&file, "/data/made").bind(&file, "/direct");
    bundle.link(&bundle.victim(), "/data");
    bundle.link(&format!("{}/made", bundle.victim()), "/direct");
    attempt(&mut bundle);
}

/// CVE-2021-30465 without the race: the link is in a volume that is mounted before.
fn a_tmpfs_behind_a_link_of_a_volume(world: &World) {
    let mut bundle = world.bundle();
    let volume = bundle.volume("");
    bundle
        .bind(&volume, "/vol")
        .mount("/vol/link/made", "tmpfs", "tmpfs", &["mode=755"]);
    bundle.mount("/vol/link", "tmpfs", "tmpfs", &["mode=755"]);
    for target in links(&bundle.victim()) {
        let _ = std::fs::remove_file(volume.join("link"));
        symlink(target, volume.join("link")).unwrap();
        attempt(&mut bundle);
    }
}

fn a_mount_onto_a_link_that_is_its_last_part(world: &World) {
    let mut bundle = world.bundle();
    bundle.mount("/target", "tmpfs", "tmpfs", &["mode=755"]);
    for target in links(&bundle.victim()) {
        bundle.link(&target, "/target");
        attempt(&mut bundle);
    }
}

fn a_destination_with_dots_stays_inside(world: &World) {
    for destination in [
        format!("/{DEEP}/made"),
        format!("{DEEP}/made"),
        format!("/tmp/{DEEP}/made"),
        "../host/victim".to_owned(),
        "/../host/victim".to_owned(),
        "../host/victim/made".to_owned(),
    ] {
        let mut bundle = world.bundle();
        let volume = bundle.volume("");
        bundle.bind(&volume, &destination);
        attempt(&mut bundle);
        assert!(!Path::new("/made").exists(), "{destination} made a folder on the host");
    }
}

/// A mount at `/` must not end in a root that is the host's.
fn a_mount_over_the_root_does_not_show_the_host(world: &World) {
    let mut bundle = world.bundle();
    bundle.mount("/", "tmpfs", "tmpfs", &["mode=755"]);
    attempt(&mut bundle);
}

/// Everything that a runtime makes or opens in a rootfs, as links to the host.
fn a_rootfs_with_links_everywhere(world: &World) {
    let mut bundle = world.bundle();
    bundle
        .without_mount("/dev")
        .without_mount("/dev/pts")
        .without_mount("/dev/shm")
        .without_mount("/dev/mqueue");
    let names = [
        "null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "fd", "stdin", "stdout", "stderr",
        "core", "fuse", "shm", "mqueue", "pts", "kmsg",
    ];
    for name in names {
        bundle.link(&format!("{}/{name}", bundle.victim()), &format!("/dev/{name}"));
    }
    for name in [
        "etc/mtab",
        "etc/resolv.conf",
        "etc/hosts",
        "etc/hostname",
        ".pivot_root",
        "run",
        "oldroot",
        ".oldroot",
    ] {
        bundle.link(&format!("{}/{}", bundle.victim(), name.replace('/', "-")), name);
    }
    attempt(&mut bundle);
}

/// The cgroup mount of version 1 is a tmpfs with a folder for each hierarchy and links for the names that share one.
fn a_cgroup_link_in_a_volume_is_not_followed(world: &World) {
    let mut bundle = world.bundle();
    let volume = bundle.volume("");
    bundle.without_mount("/sys").without_mount("/sys/fs/cgroup");
    bundle
        .bind(&volume, "/sys")
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    for target in links(&bundle.victim()) {
        let _ = std::fs::remove_file(volume.join("fs"));
        symlink(target, volume.join("fs")).unwrap();
        attempt(&mut bundle);
    }
}
