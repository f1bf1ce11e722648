//! Mounts of the user, and images that want to lead them astray.

use std::os::unix::fs::symlink;

use crate::rig;
use crate::rig::{bind, fs};
use runtime::plan::MountSource;

#[tokio::test]
async fn binds_show_folders_and_files_with_their_flags() {
    let rig = crate::new_rig!();
    let data = rig.folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), "content\n").unwrap();
    let script = "cat /deep/new/file /etc/one; touch /deep/new/x || echo readonly; touch /rw/made;
        grep -E ' /(rw|deep/new) ' /proc/self/mountinfo | cut -d' ' -f5,6,7";
    let seen = rig
        .sh_with("binds", &script.replace("cut", "busybox cut"), |plan| {
            plan.mounts.push(bind(
                &data,
                "/deep/new",
                libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV,
            ));
            plan.mounts.push(bind(&data.join("file"), "/etc/one", libc::MS_RDONLY));
            plan.mounts.push(bind(&data, "/rw", 0));
        })
        .await;
    assert!(seen.starts_with("content\ncontent\nreadonly\n"), "{seen}");
    assert!(
        seen.contains("/deep/new ro,nosuid,nodev,relatime -"),
        "private, and with the flags: {seen}"
    );
    assert!(data.join("made").exists());
}

#[tokio::test]
async fn recursive_readonly_covers_mounts_below() {
    let rig = crate::new_rig!();
    let data = rig.folder.path().join("tree");
    std::fs::create_dir_all(data.join("below")).unwrap();
    let below = data.join("below");
    nix::mount::mount(
        Some("t"),
        &below,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    let script = "touch /a/x 2>/dev/null || echo top; touch /a/below/x 2>/dev/null || echo below; ls /a/below";
    let plain = rig
        .sh_with("plainro", script, |plan| {
            plan.mounts.push(bind(&data, "/a", libc::MS_RDONLY))
        })
        .await;
    let deep = rig
        .sh_with("rro", script, |plan| {
            let mut mount = bind(&data, "/a", libc::MS_RDONLY);
            mount.recursive_set = runtime_sys::mount::attr::RDONLY;
            plan.mounts.push(mount);
        })
        .await;
    nix::mount::umount(&below).unwrap();
    assert_eq!((plain.as_str(), deep.as_str()), ("top\nx\n", "top\nbelow\nx\n"));
}

#[tokio::test]
async fn propagation_follows_the_plan() {
    let rig = crate::new_rig!();
    let data = rig.folder.path().join("prop");
    std::fs::create_dir_all(data.join("host")).unwrap();
    std::fs::create_dir_all(data.join("inside")).unwrap();
    use nix::mount::{MsFlags, mount, umount};
    mount(Some(&data), &data, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    mount(None::<&str>, &data, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
    for (id, flags, sees_host, shows_host) in [
        ("private", 0, false, false),
        ("slave", libc::MS_SLAVE | libc::MS_REC, true, false),
        ("shared", libc::MS_SHARED | libc::MS_REC, true, true),
    ] {
        let script =
            "until [ -e /p/go ]; do sleep 0.02; done; ls /p/host; mount -t tmpfs t /p/inside && touch /p/inside/mark;
            touch /p/done; until [ -e /p/end ]; do sleep 0.02; done";
        let mut plan = rig.plan(id, &["sh", "-c", script]);
        plan.process.caps.effective |= 1 << 21; // CAP_SYS_ADMIN
        plan.process.caps.permitted |= 1 << 21;
        plan.process.caps.bounding |= 1 << 21;
        let mut volume = bind(&data, "/p", 0);
        volume.propagation = flags;
        plan.mounts.push(volume);
        let (shim, stream) = rig.start_attached(plan).await;
        mount(
            Some("t"),
            &data.join("host"),
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
        std::fs::write(data.join("host/mark"), "").unwrap();
        std::fs::write(data.join("go"), "").unwrap();
        rig::until("the container's mount", || data.join("done").exists()).await;
        assert_eq!(
            data.join("inside/mark").exists(),
            shows_host,
            "{id}: the container's mount on the host"
        );
        std::fs::write(data.join("end"), "").unwrap();
        assert_eq!(shim.wait().await.code, 0);
        shim.release().await;
        let (out, _) = tokio::task::spawn_blocking(move || rig::read_frames(stream))
            .await
            .unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap().contains("mark"),
            sees_host,
            "{id}: the host's mount inside"
        );
        if shows_host {
            umount(&data.join("inside")).unwrap();
        }
        umount(&data.join("host")).unwrap();
        for name in ["go", "done", "end"] {
            std::fs::remove_file(data.join(name)).unwrap();
        }
    }
    umount(&data).unwrap();
}

#[tokio::test]
async fn symlinks_in_the_image_stay_inside_the_root() {
    let rig = crate::new_rig!();
    let outside = rig.folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let up = format!("{}{}", "../".repeat(20), &outside.to_str().unwrap()[1..]);
    symlink(&outside, rig.root.join("abs")).unwrap();
    symlink(&up, rig.root.join("rel")).unwrap();
    symlink("/proc/self/root", rig.root.join("magic")).unwrap();
    symlink("loop", rig.root.join("loop")).unwrap();
    let data = rig.folder.path().join("bound");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("mark"), "").unwrap();
    let inside = outside.to_str().unwrap();
    // Where a link points is made and mounted inside the root; the host's folder stays empty.
    let seen = rig
        .sh_with("links", &format!("ls /abs/x {inside}/x /rel/y"), |plan| {
            plan.mounts.push(bind(&data, "/abs/x", 0));
            plan.mounts.push(bind(&data, "/rel/y", 0));
            plan.process.cwd = format!("{inside}/cwd").into();
        })
        .await;
    assert_eq!(seen.matches("mark").count(), 3, "{seen}");
    assert_eq!(
        std::fs::read_dir(&outside).unwrap().count(),
        0,
        "something was made on the host"
    );
    for (id, target) in [
        ("magic", "/magic/etc"),
        ("loop", "/loop/x"),
        ("fd", "/proc/self/fd/3/x"),
    ] {
        let mut plan = rig.plan(id, &["true"]);
        plan.mounts.push(bind(&data, target, 0));
        assert!(rig.start(plan).await.is_err(), "{target}");
    }
    let mut plan = rig.plan("cwdfd", &["true"]);
    plan.process.cwd = "/proc/self/fd/7".into();
    assert!(rig.start(plan).await.is_err(), "a working folder behind a descriptor");
}

#[tokio::test]
async fn an_image_with_a_symlink_for_proc_is_refused() {
    let rig = crate::new_rig!();
    let root = &rig.root;
    std::fs::remove_dir(root.join("proc")).unwrap();
    symlink("tmp", root.join("proc")).unwrap();
    let error = rig
        .start(rig.plan("fakeproc", &["true"]))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("cannot mount /proc"), "{error}");
}

#[tokio::test]
async fn tmpfs_can_begin_with_what_the_image_has() {
    let rig = crate::new_rig!();
    let place = rig.root.join("srv");
    std::fs::create_dir_all(place.join("folder")).unwrap();
    std::fs::write(place.join("folder/file"), "kept\n").unwrap();
    symlink("folder/file", place.join("link")).unwrap();
    std::fs::set_permissions(
        place.join("folder"),
        std::os::unix::fs::PermissionsExt::from_mode(0o750),
    )
    .unwrap();
    nix::unistd::chown(&place.join("folder"), Some(33.into()), Some(34.into())).unwrap();
    let script = "cat /srv/link; stat -c '%a %u:%g' /srv/folder; readlink /srv/link; touch /srv/more";
    let seen = rig
        .sh_with("copyup", script, |plan| {
            let mut mount = fs("/srv", "tmpfs", libc::MS_NOEXEC, "size=1m");
            if let MountSource::Fs { copy_up, .. } = &mut mount.source {
                *copy_up = true;
            }
            plan.mounts.push(mount);
        })
        .await;
    assert_eq!(seen, "kept\n750 33:34\nfolder/file\n");
    assert!(!place.join("more").exists());
}

#[tokio::test]
async fn bad_options_are_the_kernels_words() {
    let rig = crate::new_rig!();
    let mut plan = rig.plan("badopt", &["true"]);
    plan.mounts.push(fs("/mnt", "tmpfs", 0, "nonsense=1"));
    let error = rig.start(plan).await.unwrap_err().to_string();
    assert!(
        error.starts_with("cannot mount /mnt: ") && error.contains("nonsense"),
        "{error}"
    );
    let mut plan = rig.plan("badfs", &["true"]);
    plan.mounts.push(fs("/mnt", "nosuchfs", 0, ""));
    let error = rig.start(plan).await.unwrap_err().to_string();
    assert_eq!(error, "cannot mount /mnt: no such device");
}

#[tokio::test]
async fn roots_of_many_layers_and_long_paths() {
    let rig = crate::new_rig!();
    let mut plan = rig.plan("layers", &["sh", "-c", "ls /layers | wc -l"]);
    let runtime::plan::Root::Overlay { lower, .. } = &mut plan.root else {
        panic!("an overlay")
    };
    for number in 0..40 {
        let layer = rig
            .folder
            .path()
            .join("l".repeat(200))
            .join(format!("{}{number}", "m".repeat(100)));
        std::fs::create_dir_all(layer.join("layers")).unwrap();
        std::fs::write(layer.join(format!("layers/{number}")), "").unwrap();
        lower.insert(0, layer);
    }
    assert_eq!(rig.run(plan).await.1, "40\n");
}

#[tokio::test]
async fn a_plain_folder_can_be_the_root() {
    let rig = crate::new_rig!();
    let root = rig.root.clone();
    let seen = rig
        .sh_with(
            "dir",
            "touch /made; grep -c ' / ' /proc/self/mounts; ls /proc/1/root/bin | wc -l",
            |plan| {
                plan.root = runtime::plan::Root::Dir { path: root.clone() };
                plan.root_propagation = libc::MS_SHARED | libc::MS_REC;
            },
        )
        .await;
    assert!(seen.starts_with("1\n"), "{seen}");
    assert!(root.join("made").exists(), "writes go through");
}

#[tokio::test]
async fn the_containers_own_cgroup_can_be_bound() {
    let rig = crate::new_rig!();
    let mut plan = rig.plan("groupbind", &["cat", "/mnt/cgroup.procs"]);
    let Some(own) = plan.head.cgroup.own.first().cloned() else {
        println!("skipped: no cgroups");
        return;
    };
    plan.mounts.push(bind(&own, "/mnt", libc::MS_RDONLY));
    assert_eq!(rig.run(plan).await.1, "1\n");
}
