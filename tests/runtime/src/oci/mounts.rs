//! Mounts, their options and propagation, the root.

use harness::kernel::Mount;
use harness::{Test, tests};
use nix::mount::{MsFlags, mount};
use serde_json::json;

use crate::bundle::Bundle;
use crate::escapes::chown_rootfs;
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        options_of_a_bound_folder,
        options_are_set_on_what_is_mounted_below_when_recursive,
        options_that_are_not_recursive_leave_what_is_mounted_below,
        options_contradicting_each_other_end_as_the_last,
        propagation_of_a_mount,
        propagation_of_the_root,
        a_read_only_root,
        a_tmpfs_has_size_mode_and_owner,
        a_tmpfs_with_tmpcopyup_has_what_was_there,
        mounts_are_made_in_their_order,
        destinations_are_made,
        a_file_is_bound_onto_a_file,
        a_source_that_does_not_exist_is_refused,
        a_relative_source_is_of_the_bundle,
        an_unknown_file_system_is_refused,
        an_unknown_option_is_data_or_refused,
        an_idmapped_mount_by_mappings,
        an_idmapped_mount_by_option,
        an_idmapped_mount_of_mounts_below,
        overlay_is_mounted,
        the_usual_devices_and_links_are_there,
        the_cgroup_mount_shows_its_own_groups,
    ]
}

fn at(bundle: &Bundle, target: &str) -> Mount {
    let found = bundle.init().mount(target);
    found.unwrap_or_else(|| panic!("nothing is mounted on {target}"))
}

fn options_of_a_bound_folder(world: &World) {
    let mut bundle = world.bundle();
    let options = [
        "ro",
        "nosuid",
        "nodev",
        "noexec",
        "noatime",
        "nodiratime",
        "nosymfollow",
    ];
    let source = bundle.volume("").display().to_string();
    for option in options {
        bundle.mount(&format!("/mnt/{option}"), "bind", &source, &["bind", option]);
    }
    bundle.mount("/mnt/many", "none", &source, &["rbind", "ro", "nosuid", "noexec"]);
    bundle.mount("/mnt/strict", "bind", &source, &["bind", "strictatime"]);
    bundle.sleeper();
    for option in options {
        assert!(
            at(&bundle, &format!("/mnt/{option}")).has(option),
            "{option}: {:?}",
            at(&bundle, &format!("/mnt/{option}"))
        );
    }
    for option in ["ro", "nosuid", "noexec"] {
        assert!(at(&bundle, "/mnt/many").has(option));
    }
    let strict = at(&bundle, "/mnt/strict").options;
    assert!(!strict.contains("relatime") && !strict.contains("noatime"), "{strict}");
}

/// A volume with a mount of its own below it.
fn with_submount(bundle: &Bundle) -> String {
    let (volume, below) = (bundle.volume(""), bundle.volume("below"));
    std::fs::create_dir(&below).unwrap();
    mount(Some(&volume), &volume, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    mount(None::<&str>, &volume, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    mount(Some("tmpfs"), &below, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    volume.to_str().unwrap().to_owned()
}

fn options_are_set_on_what_is_mounted_below_when_recursive(world: &World) {
    let pairs = [
        ("rro", "ro"),
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnoatime", "noatime"),
        ("rnodiratime", "nodiratime"),
        ("rnosymfollow", "nosymfollow"),
    ];
    let mut bundle = world.bundle();
    let source = with_submount(&bundle);
    for (option, _) in pairs {
        bundle.mount(&format!("/mnt/{option}"), "bind", &source, &["rbind", option]);
    }
    bundle.sleeper();
    for (option, shown) in pairs {
        for target in [format!("/mnt/{option}"), format!("/mnt/{option}/below")] {
            let mount = at(&bundle, &target);
            assert!(mount.has(shown), "{option} of {target}: {mount:?}");
        }
    }
    assert!(bundle.inside("touch /mnt/rro/below/file").code != 0);
}

fn options_that_are_not_recursive_leave_what_is_mounted_below(world: &World) {
    let mut bundle = world.bundle();
    let source = with_submount(&bundle);
    bundle.mount("/mnt/one", "bind", &source, &["rbind", "ro"]);
    bundle.sleeper();
    assert!(at(&bundle, "/mnt/one").has("ro"));
    assert!(at(&bundle, "/mnt/one/below").options.starts_with("rw"));
}

fn options_contradicting_each_other_end_as_the_last(world: &World) {
    let mut bundle = world.bundle();
    let source = bundle.volume("").display().to_string();
    bundle.mount("/mnt/rw", "bind", &source, &["bind", "ro", "nosuid", "rw", "suid"]);
    bundle.mount("/mnt/ro", "bind", &source, &["bind", "rw", "exec", "ro", "noexec"]);
    bundle.sleeper();
    let (one, other) = (at(&bundle, "/mnt/rw"), at(&bundle, "/mnt/ro"));
    assert!(one.has("rw") && !one.has("nosuid"), "{one:?}");
    assert!(other.has("ro") && other.has("noexec"), "{other:?}");
}

fn propagation_of_a_mount(world: &World) {
    let mut bundle = world.bundle();
    let source = with_submount(&bundle);
    mount(
        None::<&str>,
        source.as_str(),
        None::<&str>,
        MsFlags::MS_SHARED | MsFlags::MS_REC,
        None::<&str>,
    )
    .unwrap();
    for kind in [
        "private",
        "slave",
        "shared",
        "unbindable",
        "rprivate",
        "rslave",
        "rshared",
        "runbindable",
    ] {
        bundle.mount(&format!("/mnt/{kind}"), "bind", &source, &["rbind", kind]);
    }
    bundle.sleeper();
    let shown = |target: &str| at(&bundle, target).optional;
    for (kind, prefix) in [
        ("private", ""),
        ("slave", "master:"),
        ("shared", "shared:"),
        ("unbindable", "unbindable"),
    ] {
        for (target, recursive) in [
            (format!("/mnt/{kind}"), true),
            (format!("/mnt/r{kind}"), true),
            (format!("/mnt/r{kind}/below"), true),
        ] {
            let found = shown(&target);
            let right = if prefix.is_empty() {
                found.is_empty()
            } else {
                found.contains(prefix)
            };
            assert!(right && recursive, "{target} is {found:?}");
        }
    }
}

fn propagation_of_the_root(world: &World) {
    for (kind, prefix) in [
        ("private", ""),
        ("rprivate", ""),
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("unbindable", "unbindable"),
    ] {
        let mut bundle = world.bundle();
        let root = bundle.rootfs("");
        mount(Some(&root), &root, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        mount(None::<&str>, &root, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
        bundle.set("/linux/rootfsPropagation", kind);
        bundle.sleeper();
        let found = at(&bundle, "/").optional;
        let right = if prefix.is_empty() {
            found.is_empty()
        } else {
            found.contains(prefix)
        };
        assert!(right, "{kind} is {found:?}");
    }
}

fn a_read_only_root(world: &World) {
    let mut bundle = world.bundle();
    bundle.set("/root/readonly", true);
    bundle.sleeper();
    assert!(at(&bundle, "/").has("ro"));
    let out = bundle.inside("touch /file; touch /dev/shm/file && echo there");
    assert!(out.err.contains("Read-only") && out.out == "there", "{out:?}");
}

fn a_tmpfs_has_size_mode_and_owner(world: &World) {
    let mut bundle = world.bundle();
    bundle.mount(
        "/mnt/t",
        "tmpfs",
        "tmpfs",
        &["size=1m", "mode=1750", "uid=12", "gid=34", "nr_inodes=50", "noexec"],
    );
    bundle.sleeper();
    let mount = at(&bundle, "/mnt/t");
    assert!(
        mount.kind == "tmpfs" && mount.has("size=1024k") && mount.has("noexec") && mount.has("nr_inodes=50"),
        "{mount:?}"
    );
    assert_eq!(bundle.inside("stat -c '%a %u %g' /mnt/t").ok(), "1750 12 34");
}

fn a_tmpfs_with_tmpcopyup_has_what_was_there(world: &World) {
    let mut bundle = world.bundle();
    bundle.put("/data/inner/file", "text");
    bundle.link("file", "/data/inner/link");
    bundle.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup", "mode=755"]);
    bundle.shell("cat /data/inner/file; readlink /data/inner/link; echo more > /data/inner/file; grep -c ' /data ' /proc/self/mountinfo");
    assert_eq!(bundle.run().ok(), "textfile\n1");
    assert_eq!(
        std::fs::read_to_string(bundle.rootfs("/data/inner/file")).unwrap(),
        "text"
    );
}

fn mounts_are_made_in_their_order(world: &World) {
    let mut bundle = world.bundle();
    std::fs::write(bundle.volume("file"), "").unwrap();
    let volume = bundle.volume("");
    bundle
        .bind(&volume, "/mnt/a")
        .mount("/mnt/a", "tmpfs", "tmpfs", &[])
        .mount("/mnt/b", "tmpfs", "tmpfs", &[])
        .bind(&volume, "/mnt/b");
    bundle.shell("ls /mnt/a; echo -; ls /mnt/b");
    assert_eq!(bundle.run().ok(), "-\nfile");
}

fn destinations_are_made(world: &World) {
    let mut bundle = world.bundle();
    std::fs::write(bundle.volume("file"), "text").unwrap();
    let (folder, file) = (bundle.volume(""), bundle.volume("file"));
    bundle
        .bind(&folder, "/made/one/two")
        .bind(&file, "/made/three/file")
        .mount("relative/four", "tmpfs", "tmpfs", &[]);
    bundle.shell("cat /made/one/two/file /made/three/file; grep -c -e ' /relative/four ' /proc/self/mountinfo");
    assert_eq!(bundle.run().ok(), "texttext1");
}

fn a_file_is_bound_onto_a_file(world: &World) {
    let mut bundle = world.bundle();
    std::fs::write(bundle.volume("file"), "bound").unwrap();
    let file = bundle.volume("file");
    bundle
        .bind(&file, "/etc/passwd")
        .mount("/etc/group", "bind", file.to_str().unwrap(), &["bind", "ro"]);
    bundle.shell("cat /etc/passwd; echo x > /etc/group; cat /etc/group");
    assert_eq!(bundle.run().out, "boundbound");
}

fn a_source_that_does_not_exist_is_refused(world: &World) {
    let mut bundle = world.bundle();
    bundle.bind("/no/such/source", "/mnt").shell("true");
    let out = bundle.run();
    assert!(out.code != 0 && out.err.contains("/no/such/source"), "{out:?}");
}

fn a_relative_source_is_of_the_bundle(world: &World) {
    let mut bundle = world.bundle();
    std::fs::write(bundle.volume("file"), "text").unwrap();
    bundle.bind("volume", "/mnt").shell("cat /mnt/file");
    assert_eq!(bundle.run().ok(), "text");
}

fn an_unknown_file_system_is_refused(world: &World) {
    let mut bundle = world.bundle();
    bundle.mount("/mnt", "nosuchfs", "none", &[]).shell("true");
    let out = bundle.run();
    assert!(out.code != 0 && out.err.contains("mnt"), "{out:?}");
}

/// What no mount flag is called goes to the file system, which knows best.
fn an_unknown_option_is_data_or_refused(world: &World) {
    let mut bundle = world.bundle();
    bundle
        .mount("/mnt", "tmpfs", "tmpfs", &["nosuchoption=1"])
        .shell("true");
    assert_ne!(bundle.run().code, 0);
}

/// A volume whose file belongs to uid 1000 and gid 2000 of the host.
fn owned(bundle: &Bundle, name: &str) -> String {
    let folder = bundle.volume(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("file"), "").unwrap();
    std::os::unix::fs::chown(folder.join("file"), Some(1000), Some(2000)).unwrap();
    folder.to_str().unwrap().to_owned()
}

fn an_idmapped_mount_by_mappings(world: &World) {
    let mut bundle = world.bundle();
    let source = owned(&bundle, "own");
    bundle.push(
        "/mounts",
        json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["rbind"],
            "uidMappings": [{"containerID": 0, "hostID": 5000, "size": 2000}],
            "gidMappings": [{"containerID": 0, "hostID": 7000, "size": 3000}]}),
    );
    bundle.shell("stat -c %u:%g /mnt/file");
    let out = bundle.run();
    if out.err.contains("not supported") || out.err.contains("invalid argument") {
        harness::suite::skip("the file system of the temporary folder has no idmapped mounts");
    }
    assert_eq!(out.ok(), "6000:9000");
}

/// `idmap` takes the maps of the container, so that files are the same ids' inside as they are outside.
fn an_idmapped_mount_by_option(world: &World) {
    let mut bundle = world.bundle();
    bundle.user_namespace(100_000, 65_536);
    let source = owned(&bundle, "own");
    bundle
        .mount("/mnt", "bind", &source, &["bind", "idmap"])
        .shell("stat -c %u:%g /mnt/file");
    chown_rootfs(&bundle);
    assert_eq!(bundle.run().ok(), "1000:2000");
}

fn an_idmapped_mount_of_mounts_below(world: &World) {
    let mut bundle = world.bundle();
    bundle.user_namespace(100_000, 65_536);
    let source = with_submount(&bundle);
    std::fs::write(bundle.volume("below/file"), "").unwrap();
    std::os::unix::fs::chown(bundle.volume("below/file"), Some(1000), Some(2000)).unwrap();
    bundle
        .mount("/mnt", "bind", &source, &["rbind", "ridmap"])
        .shell("stat -c %u:%g /mnt/below/file");
    chown_rootfs(&bundle);
    let out = bundle.run();
    if out.err.contains("cannot be idmapped by this kernel") {
        // The tmpfs below, before Linux 6.3.
        return;
    }
    assert_eq!(out.ok(), "1000:2000");
}

fn overlay_is_mounted(world: &World) {
    let mut bundle = world.bundle();
    let mut folders = Vec::new();
    for name in ["lower", "upper", "work"] {
        std::fs::create_dir(bundle.volume(name)).unwrap();
        folders.push(bundle.volume(name).display().to_string());
    }
    std::fs::write(bundle.volume("lower/file"), "text").unwrap();
    let options = [
        format!("lowerdir={}", folders[0]),
        format!("upperdir={}", folders[1]),
        format!("workdir={}", folders[2]),
    ];
    bundle.mount(
        "/mnt",
        "overlay",
        "overlay",
        &options.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    bundle.shell("cat /mnt/file; echo new > /mnt/file");
    assert_eq!(bundle.run().ok(), "text");
    assert_eq!(std::fs::read_to_string(bundle.volume("upper/file")).unwrap(), "new\n");
}

fn the_usual_devices_and_links_are_there(world: &World) {
    let mut bundle = world.bundle();
    bundle.shell("cd /dev; for n in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' $n; done; for n in fd stdin stdout stderr ptmx; do echo $n $(readlink $n); done");
    let out = bundle.run().ok();
    let expected = [
        "null character special file 1:3 666",
        "zero character special file 1:5 666",
        "full character special file 1:7 666",
        "random character special file 1:8 666",
        "urandom character special file 1:9 666",
        "tty character special file 5:0 666",
        "fd /proc/self/fd",
        "stdin /proc/self/fd/0",
        "stdout /proc/self/fd/1",
        "stderr /proc/self/fd/2",
        "ptmx pts/ptmx",
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
}

fn the_cgroup_mount_shows_its_own_groups(world: &World) {
    let mut bundle = world.bundle();
    bundle.set("/linux/resources/pids", json!({"limit": 77}));
    bundle.shell("cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; grep -c . /proc/self/cgroup");
    let out = bundle.run().ok();
    assert_eq!(out.lines().next(), Some("77"));
}
