//! Masked and read-only paths, and the `/dev/null` that covers them.

use std::os::unix::fs::symlink;
use std::path::Path;

use harness::{Test, tests};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;

use crate::bundle::{Bundle, SECRET};
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        masked_files_are_empty_and_not_writable,
        masked_paths_are_covered_when_null_is_a_link_to_a_gadget,
        masked_paths_are_covered_when_null_is_a_link_to_the_host,
        masked_paths_are_covered_when_null_is_a_file,
        masked_paths_are_covered_when_null_is_another_device,
        masked_paths_are_covered_when_null_is_a_folder,
        a_masked_link_covers_nothing_of_the_host,
        a_read_only_link_changes_nothing_of_the_host,
        masks_cannot_be_taken_off,
        masks_cannot_be_taken_off_in_a_namespace_of_ones_own,
        a_fresh_proc_in_a_namespace_of_ones_own_is_refused,
        a_fresh_sysfs_in_a_namespace_of_ones_own_is_refused,
    ]
}

/// What of the masked paths this kernel has, and can be read from.
const SAMPLES: &[&str] = &[
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/interrupts",
    "/proc/sched_debug",
];

/// Nothing is redirected to `/dev/null`, which is the attack itself here: with masks that fail, it would be written to.
fn look() -> String {
    format!(
        "for f in {}; do test -e $f || continue; echo $f $(head -c 64 $f 2>&- | wc -c); done; \
         for d in /proc/acpi /proc/scsi /sys/firmware /proc/asound; do ls -A $d 2>&-; done; true",
        SAMPLES.join(" ")
    )
}

#[track_caller]
fn covered(text: &str) {
    assert!(!text.trim().is_empty(), "the container has seen nothing at all");
    for line in text.lines() {
        assert!(
            line.starts_with("/proc/") && line.ends_with(" 0"),
            "not covered: {line}"
        );
    }
}

fn masked_files_are_empty_and_not_writable(world: &World) {
    let mut bundle = world.bundle();
    bundle.shell(&look());
    covered(&bundle.run().ok());
    // What covers them takes what is written, and forgets it.
    bundle.shell(
        "for f in /proc/kcore /proc/keys; do echo text > $f; cat $f; done; touch /sys/firmware/made; ls /sys/firmware",
    );
    assert_eq!(bundle.run().out, "");
}

/// A container whose `/dev` is a volume with this `null`.
fn with_null(world: &World, make: impl Fn(&Path, &Bundle)) {
    let mut bundle = world.bundle();
    let dev = bundle.volume("dev");
    std::fs::create_dir_all(dev.join("pts")).unwrap();
    make(&dev.join("null"), &bundle);
    bundle
        .without_mount("/dev")
        .without_mount("/dev/shm")
        .without_mount("/dev/mqueue")
        .without_mount("/dev/pts");
    let mount = json!({"destination": "/dev", "type": "bind", "source": dev.to_str(), "options": ["rbind"]});
    bundle.at("/mounts").as_array_mut().unwrap().insert(1, mount);
    check(&mut bundle);
    // The same in the rootfs itself, without any mount.
    let mut bundle = world.bundle();
    bundle
        .without_mount("/dev")
        .without_mount("/dev/shm")
        .without_mount("/dev/mqueue")
        .without_mount("/dev/pts");
    make(&bundle.rootfs("/dev/null"), &bundle);
    check(&mut bundle);
}

#[track_caller]
fn check(bundle: &mut Bundle) {
    bundle.shell(&look());
    let out = bundle.run();
    // crun's containers are silent here: their standard streams are this file.
    if out.code == 0 && !out.out.is_empty() {
        covered(&out.out);
    }
    // A mount of something else than null would be named by its root in the list.
    bundle.args(&[
        "probe",
        "write-open",
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
    ]);
    let out = bundle.run();
    assert!(!out.out.contains("opened"), "{}", out.out);
    bundle.shell(&format!("cat {}; cat /proc/kcore /proc/keys | head -c 100", SAMPLES[1]));
    assert!(
        !bundle.run().out.contains(SECRET),
        "a masked path shows the host's file"
    );
    bundle.host_is_untouched();
}

/// CVE-2025-31133.
fn masked_paths_are_covered_when_null_is_a_link_to_a_gadget(world: &World) {
    with_null(world, |null, _| symlink("/proc/sys/kernel/core_pattern", null).unwrap());
    with_null(world, |null, _| symlink("/proc/sysrq-trigger", null).unwrap());
}

/// CVE-2025-31133.
fn masked_paths_are_covered_when_null_is_a_link_to_the_host(world: &World) {
    with_null(world, |null, bundle| symlink(bundle.secret(), null).unwrap());
    with_null(world, |null, bundle| {
        symlink(format!("../../../../../../../../../../../..{}", bundle.secret()), null).unwrap()
    });
}

/// CVE-2025-31133: a file of the rootfs would give every masked path one content, and nothing more, but it would also
/// take what is written.
fn masked_paths_are_covered_when_null_is_a_file(world: &World) {
    with_null(world, |null, _| std::fs::write(null, "written by the image").unwrap());
}

/// CVE-2025-31133.
fn masked_paths_are_covered_when_null_is_another_device(world: &World) {
    // /dev/zero, and a disk that no driver answers for.
    for (major, minor) in [(1, 5), (240, 0)] {
        with_null(world, |null, _| {
            mknod(
                null,
                SFlag::S_IFCHR,
                Mode::from_bits_truncate(0o666),
                makedev(major, minor),
            )
            .unwrap();
        });
    }
}

fn masked_paths_are_covered_when_null_is_a_folder(world: &World) {
    with_null(world, |null, _| std::fs::create_dir(null).unwrap());
}

fn a_masked_link_covers_nothing_of_the_host(world: &World) {
    let mut bundle = world.bundle();
    bundle.link(&bundle.secret(), "/masked");
    bundle.link(&bundle.victim(), "/masked-folder");
    bundle.link(&format!("{}/dangling", bundle.victim()), "/masked-dangling");
    for path in [
        "/masked",
        "/masked-folder",
        "/masked-dangling",
        "/../host/secret",
        "../host/secret",
    ] {
        bundle.push("/linux/maskedPaths", path);
    }
    bundle.shell("cat /masked; ls /masked-folder");
    assert!(!bundle.run().out.contains(SECRET));
    bundle.host_is_untouched();
}

fn a_read_only_link_changes_nothing_of_the_host(world: &World) {
    let mut bundle = world.bundle();
    bundle.link(&bundle.secret(), "/locked");
    bundle.link(&bundle.victim(), "/locked-folder");
    for path in ["/locked", "/locked-folder", "/../host/victim"] {
        bundle.push("/linux/readonlyPaths", path);
    }
    bundle.shell("cat /locked; touch /locked-folder/made");
    assert!(!bundle.run().out.contains(SECRET));
    bundle.host_is_untouched();
    std::fs::write(format!("{}/by-the-host", bundle.victim()), "").unwrap();
    std::fs::remove_file(format!("{}/by-the-host", bundle.victim())).unwrap();
}

/// Without CAP_SYS_ADMIN nothing is unmounted or mounted again with other options.
fn masks_cannot_be_taken_off(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    bundle.inside("umount /proc/kcore; umount /proc/keys; umount /proc/sys; umount -l /proc/sys; umount /sys/firmware; umount -l /proc");
    for target in ["/proc/sys", "/proc/sysrq-trigger", "/sys"] {
        let out = bundle.exec(&["probe", "mount", "", target, "", "bind,remount"]);
        assert!(
            out.out.contains("EPERM") || out.out.contains("ENOENT"),
            "{target}: {}",
            out.out
        );
    }
    covered(&bundle.inside(&look()).ok());
    let out = bundle.exec(&[
        "probe",
        "write-open",
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
    ]);
    assert!(!out.out.contains("opened"), "{}", out.out);
}

/// A user namespace gives capabilities over mount namespaces of its own: what was mounted before is locked there.
fn masks_cannot_be_taken_off_in_a_namespace_of_ones_own(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    let line = format!(
        "umount /proc/kcore; umount /proc/keys; umount -l /proc/sys; umount -l /sys/firmware; {}; \
         probe mount '' /proc/sys '' bind,remount; probe mount '' /proc/sysrq-trigger '' bind,remount; \
         probe write-open /proc/sys/kernel/core_pattern /proc/sysrq-trigger",
        look()
    );
    let out = bundle.exec(&["probe", "unshare", "user,mount", "--", "sh", "-c", &line]);
    assert!(
        !out.out.contains("opened") && !out.out.contains("mounted"),
        "{}",
        out.out
    );
    let (mounts, files): (Vec<&str>, Vec<&str>) = out
        .out
        .lines()
        .partition(|line| !line.starts_with("/proc/") || line.contains(": "));
    covered(&files.join("\n"));
    assert!(mounts.iter().all(|line| line.contains(": E")), "{mounts:?}");
}

/// The kernel gives a new /proc only to whom the present one is wholly visible (`mount_too_revealing`).
fn a_fresh_proc_in_a_namespace_of_ones_own_is_refused(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    let words = [
        "probe",
        "unshare",
        "user,mount,pid",
        "--",
        "probe",
        "mount",
        "proc",
        "/mnt",
        "proc",
    ];
    let out = bundle.exec(&words);
    assert!(out.out.contains("EPERM"), "{}", out.out);
}

fn a_fresh_sysfs_in_a_namespace_of_ones_own_is_refused(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    let words = [
        "probe",
        "unshare",
        "user,mount,net",
        "--",
        "probe",
        "mount",
        "sysfs",
        "/mnt",
        "sysfs",
    ];
    let out = bundle.exec(&words);
    assert!(out.out.contains("EPERM") || out.out.contains("EBUSY"), "{}", out.out);
}
