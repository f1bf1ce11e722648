//! Flags of commands other than `run` that no test by topic asks for.

use harness::tools::{Folder, tag};
use harness::{Test, tests};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        update_writes_each_limit_of_processors_and_memory,
        update_changes_every_rate_of_a_device,
        stats_of_all_shows_what_does_not_run,
        copying_quietly_says_nothing,
        import_keeps_message_and_platform,
        load_quietly_says_only_the_name,
        save_and_history_know_one_platform,
        df_in_a_format,
        volumes_with_driver_and_options,
        volumes_in_a_format,
        inspect_of_one_type,
        all_images_are_listed,
        removing_without_pruning,
    ]
}

fn update_writes_each_limit_of_processors_and_memory(world: &World) {
    let (name, process) = world.sleeper(&[]);
    let change = |flags: &[&str]| world.run(&[&["update"], flags, &[&name]].concat()).ok();
    change(&["--cpu-period", "50000", "--cpu-quota", "20000"]);
    if harness::kernel::is_cgroup_v2() {
        assert_eq!(process.control("cpu", &["cpu.max"]), "20000 50000");
    } else {
        assert_eq!(process.control("cpu", &["cpu.cfs_quota_us"]), "20000");
        assert_eq!(process.control("cpu", &["cpu.cfs_period_us"]), "50000");
    }
    change(&["--cpuset-mems", "0"]);
    assert_eq!(process.control("cpuset", &["cpuset.mems"]), "0");
    change(&["--memory-reservation", "32m"]);
    assert_eq!(
        process.control("memory", &["memory.low", "memory.soft_limit_in_bytes"]),
        "33554432"
    );
}

/// Flags of ours: docker's client asks for nothing of the kind.
fn update_changes_every_rate_of_a_device(world: &World) {
    let Some((path, number)) = crate::live::block_device() else {
        harness::suite::skip("this machine has no block device");
    };
    let (name, process) = world.sleeper(&["--device-read-bps", &format!("{path}:1mb")]);
    for (flag, asked, file, written) in [
        ("--device-read-bps", "3mb", "blkio.throttle.read_bps_device", "3145728"),
        (
            "--device-write-bps",
            "4mb",
            "blkio.throttle.write_bps_device",
            "4194304",
        ),
        ("--device-read-iops", "555", "blkio.throttle.read_iops_device", "555"),
        ("--device-write-iops", "666", "blkio.throttle.write_iops_device", "666"),
    ] {
        let value = format!("{path}:{asked}");
        world.iechor(&["update", flag, &value, &name]).ok();
        let now = process.control("blkio", &["io.max", file]);
        assert!(now.contains(&number) && now.contains(written), "{flag}: {now}");
    }
    let said = world.iechor(&["update", "--device-read-bps", "/dev/null:1mb", &name]);
    assert!(said.code == 1 && said.err.contains("/dev/null"), "{}", said.err);
}

fn stats_of_all_shows_what_does_not_run(world: &World) {
    let name = world.name("idle");
    world.run(&["create", "--name", &name, "busybox", "true"]).ok();
    let shown = |flags: &[&str]| {
        let words = [&["stats", "--no-stream", "--format", "{{.Name}}"], flags].concat();
        world.run(&words).ok().lines().any(|line| line == &*name)
    };
    assert!(shown(&["--all"]) && !shown(&[]));
}

fn copying_quietly_says_nothing(world: &World) {
    let (name, _) = world.sleeper(&[]);
    let folder = Folder::new("quiet");
    std::fs::write(folder.path().join("file"), "x").unwrap();
    let output = world.run(&["cp", "--quiet", &folder.at("file"), &format!("{}:/file", &*name)]);
    assert!(
        output.out.is_empty() && output.err.is_empty(),
        "{} {}",
        output.out,
        output.err
    );
    assert_eq!(world.inside(&name, "cat /file"), "x");
}

fn import_keeps_message_and_platform(world: &World) {
    let (name, _) = world.sleeper(&[]);
    let (folder, image) = (Folder::new("import"), format!("imported-{}:1", tag()));
    let file = folder.at("root.tar");
    world.run(&["export", "-o", &file, &name]).ok();
    world
        .run(&[
            "import",
            "--message",
            "from a test",
            "--platform",
            "linux/amd64",
            &file,
            &image,
        ])
        .ok();
    let shown = world
        .run(&[
            "image",
            "inspect",
            "--format",
            "{{.Comment}}|{{.Os}}/{{.Architecture}}",
            &image,
        ])
        .ok();
    assert_eq!(shown, "from a test|linux/amd64");
    world.run(&["rmi", &image]).ok();
}

fn load_quietly_says_only_the_name(world: &World) {
    let (folder, image) = (Folder::new("load"), format!("loaded-{}:1", tag()));
    let file = folder.at("image.tar");
    world.run(&["tag", "busybox", &image]).ok();
    world.run(&["save", "-o", &file, &image]).ok();
    world.run(&["rmi", &image]).ok();
    let said = world.run(&["load", "--quiet", "-i", &file]).ok();
    assert_eq!(said, format!("Loaded image: {image}"));
    world.run(&["rmi", &image]).ok();
}

fn save_and_history_know_one_platform(world: &World) {
    let folder = Folder::new("platform");
    let file = folder.at("image.tar");
    world
        .run(&["save", "--platform", "linux/amd64", "-o", &file, "busybox"])
        .ok();
    assert!(std::fs::metadata(&file).unwrap().len() > 100_000);
    world.run(&["history", "--platform", "linux/amd64", "busybox"]).ok();
    for words in [
        &["save", "--platform", "linux/s390x", "-o", &file, "busybox"][..],
        &["history", "--platform", "linux/s390x", "busybox"],
    ] {
        let said = world.run(words).fails(1);
        assert!(said.contains("does not provide the specified platform"), "{said}");
    }
}

fn df_in_a_format(world: &World) {
    let types = world.run(&["system", "df", "--format", "{{.Type}}"]).ok();
    assert_eq!(types, "Images\nContainers\nLocal Volumes\nBuild Cache");
}

fn volumes_with_driver_and_options(world: &World) {
    let volume = format!("flags-{}", tag());
    let words = ["volume", "create", "--driver", "local"];
    let options = ["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=1m"];
    world.run(&[&words[..], &options, &[&volume]].concat()).ok();
    let line = "mount | grep ' /data ' | cut -d' ' -f5";
    assert_eq!(world.shell(&["-v", &format!("{volume}:/data")], line), "tmpfs");
    world.run(&["volume", "rm", &volume]).ok();
    world.run(&["volume", "create", "--driver", "nobody", &volume]).fails(1);
}

fn volumes_in_a_format(world: &World) {
    let volume = format!("flags-{}", tag());
    world.run(&["volume", "create", &volume]).ok();
    let filter = format!("name={volume}");
    let shown = world
        .run(&["volume", "ls", "--filter", &filter, "--format", "{{.Name}} {{.Driver}}"])
        .ok();
    assert_eq!(shown, format!("{volume} local"));
    world.run(&["volume", "rm", &volume]).ok();
}

fn inspect_of_one_type(world: &World) {
    let (name, _) = world.sleeper(&[]);
    let shown = world
        .run(&["inspect", "--type", "container", "--format", "{{.Name}}", &name])
        .ok();
    assert_eq!(shown, format!("/{}", &*name));
    let said = world.run(&["inspect", "--type", "image", &name]).fails(1);
    assert!(said.to_lowercase().contains("no such image"), "{said}");
}

fn all_images_are_listed(world: &World) {
    let shown = world
        .run(&["image", "ls", "--all", "--format", "{{.Repository}}:{{.Tag}}"])
        .ok();
    assert!(shown.lines().any(|line| line == "busybox:latest"), "{shown}");
}

fn removing_without_pruning(world: &World) {
    let name = world.name("parent");
    let (parent, child) = (format!("parent-{}:1", tag()), format!("child-{}:1", tag()));
    world.run(&["run", "--name", &name, "busybox", "touch", "/one"]).ok();
    let id = world.run(&["commit", &name, &parent]).ok();
    let next = world.name("child");
    world.run(&["run", "--name", &next, &parent, "touch", "/two"]).ok();
    world.run(&["commit", &next, &child]).ok();
    world.run(&["rm", &next]).ok();
    // Nothing but the child needs the parent, once its name is gone; it stays as the child goes.
    world.run(&["rmi", "--no-prune", &parent]).ok();
    world.run(&["rmi", "--no-prune", &child]).ok();
    world.run(&["image", "inspect", &id]).ok();
    world.run(&["rmi", &id]).ok();
}
