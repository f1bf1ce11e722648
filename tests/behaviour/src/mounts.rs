//! Bind mounts, volumes, tmpfs, and the files that every container gets.

use harness::tools::Folder;
use harness::{Test, tests};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        bind_shows_the_host_folder,
        bind_read_only_refuses_writes,
        bind_makes_the_missing_source,
        bind_of_a_file,
        bind_propagation_is_set,
        mount_flag_bind,
        mount_flag_refuses_a_missing_source,
        mount_flag_read_only_is_recursive,
        named_volume_outlives_the_container,
        named_volume_takes_the_image_content,
        anonymous_volume_goes_with_rm,
        volume_of_the_image_is_made,
        tmpfs_is_a_tmpfs,
        tmpfs_by_mount_flag,
        volumes_from_another_container,
        etc_files_are_mounted,
        mount_over_a_symlink_stays_inside,
    ]
}

fn bind_shows_the_host_folder(world: &World) {
    let folder = Folder::new("bind");
    std::fs::write(folder.at("from-host"), "hello\n").unwrap();
    let spec = format!("{}:/data", folder.path().display());
    assert_eq!(
        world.shell(&["-v", &spec], "cat /data/from-host; echo back > /data/from-container"),
        "hello"
    );
    assert_eq!(std::fs::read_to_string(folder.at("from-container")).unwrap(), "back\n");
}

fn bind_read_only_refuses_writes(world: &World) {
    let folder = Folder::new("bind");
    let spec = format!("{}:/data:ro", folder.path().display());
    let (name, process) = world.sleeper(&["-v", &spec]);
    assert!(process.mount("/data").unwrap().has("ro"));
    let output = world.run(&["exec", &name, "touch", "/data/file"]);
    assert!(output.err.contains("Read-only file system"), "{}", output.err);
    let mount = world.inspect(&name)["Mounts"][0].clone();
    assert_eq!(
        (
            mount["Type"].as_str(),
            mount["RW"].as_bool(),
            mount["Destination"].as_str()
        ),
        (Some("bind"), Some(false), Some("/data"))
    );
}

fn bind_makes_the_missing_source(world: &World) {
    let folder = Folder::new("bind");
    let spec = format!("{}:/data", folder.at("new/folder"));
    world.shell(&["-v", &spec], "touch /data/file");
    assert!(folder.path().join("new/folder/file").exists());
}

fn bind_of_a_file(world: &World) {
    let folder = Folder::new("bind");
    std::fs::write(folder.at("file"), "one\n").unwrap();
    let spec = format!("{}:/etc/one/file", folder.at("file"));
    assert_eq!(
        world.shell(&["-v", &spec], "cat /etc/one/file; echo two > /etc/one/file"),
        "one"
    );
    assert_eq!(std::fs::read_to_string(folder.at("file")).unwrap(), "two\n");
}

fn bind_propagation_is_set(world: &World) {
    let folder = Folder::new("bind");
    // A shared source: a mount of its own in the scratch folder.
    let source = folder.at("shared");
    std::fs::create_dir(&source).unwrap();
    harness::process::Run::new("mount".as_ref(), &["-t", "tmpfs", "none", &source])
        .output()
        .ok();
    harness::process::Run::new("mount".as_ref(), &["--make-shared", &source])
        .output()
        .ok();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        if world.is_foreign() {
            // That engine lives in a mount namespace of its own and does not see our mount.
            return;
        }
        let (_name, process) = world.sleeper(&["-v", &format!("{source}:/data:rslave")]);
        assert!(process.mount("/data").unwrap().optional.contains("master:"));
        let (_name, process) = world.sleeper(&["-v", &format!("{source}:/data:rshared")]);
        assert!(process.mount("/data").unwrap().optional.contains("shared:"));
        let (_name, process) = world.sleeper(&["-v", &format!("{source}:/data")]);
        assert_eq!(process.mount("/data").unwrap().optional, "", "private unless asked");
    }));
    harness::process::Run::new("umount".as_ref(), &["-l", &source])
        .output()
        .ok();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn mount_flag_bind(world: &World) {
    let folder = Folder::new("bind");
    std::fs::write(folder.at("file"), "content\n").unwrap();
    let spec = format!("type=bind,source={},target=/data,readonly", folder.path().display());
    assert_eq!(
        world.shell(
            &["--mount", &spec],
            "cat /data/file; touch /data/new 2>/dev/null || echo refused"
        ),
        "content\nrefused"
    );
}

fn mount_flag_refuses_a_missing_source(world: &World) {
    let folder = Folder::new("bind");
    let spec = format!("type=bind,source={},target=/data", folder.at("absent"));
    let error = world
        .run(&["run", "--rm", "--mount", &spec, "busybox", "true"])
        .fails(125);
    assert!(error.contains("bind source path does not exist"), "{error}");
    assert!(!folder.path().join("absent").exists());
}

fn mount_flag_read_only_is_recursive(world: &World) {
    if world.is_foreign() {
        harness::suite::skip("the other engine lives in a mount namespace of its own");
    }
    let folder = Folder::new("bind");
    let inner = folder.at("inner");
    std::fs::create_dir(&inner).unwrap();
    harness::process::Run::new("mount".as_ref(), &["-t", "tmpfs", "none", &inner])
        .output()
        .ok();
    let spec = format!("type=bind,source={},target=/data,readonly", folder.path().display());
    let output = world.run(&["run", "--rm", "--mount", &spec, "busybox", "touch", "/data/inner/file"]);
    harness::process::Run::new("umount".as_ref(), &["-l", &inner])
        .output()
        .ok();
    assert!(output.err.contains("Read-only file system"), "{}", output.err);
}

fn named_volume_outlives_the_container(world: &World) {
    let volume = format!("volume-{}", harness::tools::tag());
    let spec = format!("{volume}:/data");
    world.shell(&["-v", &spec], "echo kept > /data/file");
    assert_eq!(world.shell(&["-v", &spec], "cat /data/file"), "kept");
    let (name, _) = world.sleeper(&["-v", &spec]);
    let mount = world.inspect(&name)["Mounts"][0].clone();
    assert_eq!(
        (mount["Type"].as_str(), mount["Name"].as_str()),
        (Some("volume"), Some(volume.as_str()))
    );
    drop(name);
    let removal = world.server.call("DELETE", &format!("/volumes/{volume}"), None);
    assert!(matches!(removal.status, 204 | 404), "{}", removal.message());
}

fn named_volume_takes_the_image_content(world: &World) {
    let volume = format!("volume-{}", harness::tools::tag());
    let out = world.shell(&["-v", &format!("{volume}:/etc")], "head -n 1 /etc/passwd");
    assert!(
        out.starts_with("root:"),
        "a new volume starts with what the image has there: {out}"
    );
    let empty = format!("{volume}-2");
    assert_eq!(
        world.shell(
            &["-v", &format!("{empty}:/etc:nocopy")],
            "ls /etc/passwd 2>/dev/null || echo none"
        ),
        "none"
    );
    for name in [volume, empty] {
        world.server.call("DELETE", &format!("/volumes/{name}"), None);
    }
}

fn anonymous_volume_goes_with_rm(world: &World) {
    let name = world.name("anonymous");
    world
        .run(&["run", "--name", &name, "-v", "/data", "busybox", "touch", "/data/file"])
        .ok();
    let volume = world.inspect(&name)["Mounts"][0]["Name"].as_str().unwrap().to_owned();
    let source = world.inspect(&name)["Mounts"][0]["Source"].as_str().unwrap().to_owned();
    assert_eq!(volume.len(), 64);
    assert!(world.is_foreign() || std::path::Path::new(&source).join("file").exists());
    world.run(&["rm", "-v", &name]).ok();
    assert!(!std::path::Path::new(&source).exists(), "{source} is still there");
}

fn volume_of_the_image_is_made(world: &World) {
    use harness::image::Image;
    use serde_json::json;
    world.load(&Image::busybox().with("Volumes", json!({"/var/data": {}})), "volumes:1");
    let name = world.name("volumes");
    world
        .run(&["run", "-d", "--name", &name, "volumes:1", "sleep", "1000"])
        .ok();
    assert_eq!(world.inspect(&name)["Mounts"][0]["Destination"], "/var/data");
    assert!(world.process(&name).mount("/var/data").is_some());
    world.run(&["rm", "-fv", &name]).ok();
    world.run(&["rmi", "volumes:1"]).ok();
}

fn tmpfs_is_a_tmpfs(world: &World) {
    let (name, process) = world.sleeper(&["--tmpfs", "/scratch:size=1m,mode=1770"]);
    let mount = process.mount("/scratch").unwrap();
    assert_eq!(mount.kind, "tmpfs");
    assert!(mount.has("size=1024k"), "{}", mount.data);
    assert!(
        mount.has("noexec") && mount.has("nosuid") && mount.has("nodev"),
        "{}",
        mount.options
    );
    assert_eq!(world.inside(&name, "stat -c %a /scratch"), "1770");
    let full = world.run(&[
        "exec",
        &name,
        "sh",
        "-c",
        "dd if=/dev/zero of=/scratch/file bs=64k count=40",
    ]);
    assert!(full.err.contains("No space left on device"), "{}", full.err);
}

fn tmpfs_by_mount_flag(world: &World) {
    let (name, process) = world.sleeper(&[
        "--mount",
        "type=tmpfs,destination=/scratch,tmpfs-size=1m,tmpfs-mode=0700",
    ]);
    assert_eq!(process.mount("/scratch").unwrap().kind, "tmpfs");
    assert_eq!(world.inside(&name, "stat -c %a /scratch"), "700");
}

fn volumes_from_another_container(world: &World) {
    let (first, _) = world.sleeper(&["-v", "/data"]);
    world.inside(&first, "echo shared > /data/file");
    assert_eq!(world.shell(&["--volumes-from", &first], "cat /data/file"), "shared");
}

fn etc_files_are_mounted(world: &World) {
    let (name, process) = world.sleeper(&[
        "--add-host",
        "other:10.1.2.3",
        "--dns",
        "10.9.8.7",
        "--dns-search",
        "example.test",
    ]);
    for path in ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"] {
        assert!(process.mount(path).is_some(), "{path} is the daemon's file");
    }
    let hosts = world.inside(&name, "cat /etc/hosts");
    assert!(
        hosts.contains("127.0.0.1\tlocalhost") && hosts.contains("10.1.2.3\tother"),
        "{hosts}"
    );
    let resolver = world.inside(&name, "cat /etc/resolv.conf");
    assert!(
        resolver.contains("nameserver 10.9.8.7") && resolver.contains("search example.test"),
        "{resolver}"
    );
    // The image below is untouched.
    assert_eq!(
        world.shell(&["--network", "none"], "wc -l < /etc/hosts | grep -c ."),
        "1"
    );
}

fn mount_over_a_symlink_stays_inside(world: &World) {
    use harness::image::{Image, Layer};
    // /data of this image points out of any root; a runtime that follows it mounts over the host's folder.
    let folder = Folder::new("victim");
    let image =
        Image::busybox().layer(Layer::default().symlink("data", &format!("/../../../..{}", folder.path().display())));
    world.load(&image, "hostile-link:1");
    let source = Folder::new("source");
    std::fs::write(source.at("planted"), "").unwrap();
    let name = world.name("hostile");
    let run = world.run(&[
        "run",
        "-d",
        "--name",
        &name,
        "-v",
        &format!("{}:/data", source.path().display()),
        "hostile-link:1",
        "sleep",
        "1000",
    ]);
    assert!(
        !folder.path().join("planted").exists(),
        "the host's folder was mounted over"
    );
    if run.code == 0 {
        let seen = world.inside(&name, &format!("ls {}", folder.path().display()));
        assert_eq!(seen, "planted", "the link is followed inside of the root");
    }
    drop(name);
    world.run(&["rmi", "hostile-link:1"]).ok();
}
