//! `cp` both ways: which name goes where, whom files belong to, and what a container in any state shows.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use harness::tools::Folder;
use harness::{Test, tests};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        every_row_of_the_table_into_a_container,
        every_row_of_the_table_out_of_a_container,
        containers_in_every_state,
        links_are_copied_or_followed,
        volumes_and_mounts_of_a_running_container,
        volumes_of_a_container_that_never_ran,
        read_only_places_are_refused,
        a_tar_on_stdin_and_stdout,
        owners_and_modes_are_kept,
        archive_mode_gives_files_to_the_user,
        refusals_are_dockers,
        events_tell_of_copies,
        a_start_waits_for_nobody,
    ]
}

/// Source, what is at the destination before, destination, where the file is then; nothing for a refusal with these words.
type Row = (&'static str, &'static str, Result<&'static str, &'static str>);

/// Destinations below `t`: `new` is absent, `file` a file, `dir` a folder. In the source, `f` is a file, `d` has `in/f`.
const TABLE: &[Row] = &[
    ("f", "t/new", Ok("t/new")),
    ("f", "t/new/", Err("no such directory")),
    ("f", "t/file", Ok("t/file")),
    ("f", "t/dir", Ok("t/dir/f")),
    ("f", "t/dir/", Ok("t/dir/f")),
    ("f", "t/dir/.", Ok("t/dir/f")),
    ("d", "t/new", Ok("t/new/in/f")),
    ("d", "t/new/", Ok("t/new/in/f")),
    ("d", "t/file", Err("cannot copy directory")),
    ("d", "t/dir", Ok("t/dir/d/in/f")),
    ("d/", "t/dir", Ok("t/dir/d/in/f")),
    ("d/.", "t/new", Ok("t/new/in/f")),
    ("d/.", "t/dir", Ok("t/dir/in/f")),
    ("d/.", "t/file", Err("cannot copy directory")),
    ("d/in/f", "t/dir", Ok("t/dir/f")),
];

fn every_row_of_the_table_into_a_container(world: &World) {
    let folder = Folder::new("cp-in");
    std::fs::create_dir_all(folder.path().join("d/in")).unwrap();
    for file in ["f", "d/in/f"] {
        std::fs::write(folder.path().join(file), "content").unwrap();
    }
    let (name, process) = world.sleeper(&[]);
    for (source, target, outcome) in TABLE {
        world.inside(&name, "rm -rf /x; mkdir -p /x/t/dir; echo old > /x/t/file");
        let to = format!("{}:/x/{target}", &*name);
        let from = folder.at(source);
        let copied = world.run(&["cp", &from, &to]);
        match outcome {
            Ok(place) => {
                copied.ok();
                let text = std::fs::read_to_string(process.root(&format!("/x/{place}")));
                assert_eq!(text.unwrap_or_default(), "content", "{source} to {target}");
            }
            Err(words) => {
                let error = copied.fails(1);
                assert!(error.contains(words), "{source} to {target}: {error}");
                assert_eq!(world.inside(&name, "cat /x/t/file"), "old");
            }
        }
    }
}

fn every_row_of_the_table_out_of_a_container(world: &World) {
    let folder = Folder::new("cp-out");
    let (name, _) = world.sleeper(&[]);
    world.inside(&name, "mkdir -p /x/d/in; echo -n content | tee /x/f > /x/d/in/f");
    for (source, target, outcome) in TABLE {
        let _ = std::fs::remove_dir_all(folder.path().join("t"));
        std::fs::create_dir_all(folder.path().join("t/dir")).unwrap();
        std::fs::write(folder.path().join("t/file"), "old").unwrap();
        let from = format!("{}:/x/{source}", &*name);
        let copied = world.run(&["cp", &from, &folder.at(target)]);
        match outcome {
            Ok(place) => {
                copied.ok();
                let text = std::fs::read_to_string(folder.path().join(place));
                assert_eq!(text.unwrap_or_default(), "content", "{source} to {target}");
            }
            Err(words) => {
                let error = copied.fails(1);
                assert!(error.contains(words), "{source} to {target}: {error}");
                assert_eq!(std::fs::read_to_string(folder.path().join("t/file")).unwrap(), "old");
            }
        }
    }
}

fn containers_in_every_state(world: &World) {
    let folder = Folder::new("cp-states");
    let file = folder.at("file");
    std::fs::write(&file, "one").unwrap();
    let name = world.name("states");
    let inside = format!("{}:/etc/copied", &*name);
    let line = "echo $(cat /etc/copied); exec sleep 1000";
    world
        .run(&["create", "--name", &name, "busybox", "sh", "-c", line])
        .ok();
    let back = |expected: &str| {
        let out = folder.at("back");
        world.run(&["cp", &inside, &out]).ok();
        assert_eq!(std::fs::read_to_string(&out).unwrap(), expected);
    };
    // Created: what is copied in is there at the start.
    world.run(&["cp", &file, &inside]).ok();
    back("one");
    world.run(&["start", &name]).ok();
    harness::tools::eventually("the container has read it", 20, || {
        world.run(&["logs", &name]).ok() == "one"
    });
    std::fs::write(&file, "two").unwrap();
    world.run(&["cp", &file, &inside]).ok();
    assert_eq!(world.inside(&name, "cat /etc/copied"), "two");
    back("two");
    world.run(&["pause", &name]).ok();
    std::fs::write(&file, "three").unwrap();
    world.run(&["cp", &file, &inside]).ok();
    back("three");
    world.run(&["unpause", &name]).ok();
    assert_eq!(world.inside(&name, "cat /etc/copied"), "three");
    world.run(&["kill", &name]).ok();
    back("three");
    std::fs::write(&file, "four").unwrap();
    world.run(&["cp", &file, &inside]).ok();
    back("four");
    world.run(&["start", &name]).ok();
    assert_eq!(world.inside(&name, "cat /etc/copied"), "four");
}

fn links_are_copied_or_followed(world: &World) {
    let folder = Folder::new("cp-links");
    let (name, process) = world.sleeper(&[]);
    world.inside(
        &name,
        "mkdir -p /x/real/sub && cd /x && echo -n text > real/f && ln -s real/f l && ln -s /x/real ld && ln -s ../../../../../../x/real up",
    );
    let from = |path: &str| format!("{}:{path}", &*name);
    world.run(&["cp", &from("/x/l"), &folder.at("as-link")]).ok();
    assert_eq!(std::fs::read_link(folder.at("as-link")).unwrap(), Path::new("real/f"));
    world.run(&["cp", "-L", &from("/x/l"), &folder.at("followed")]).ok();
    assert_eq!(std::fs::read_to_string(folder.at("followed")).unwrap(), "text");
    assert!(!folder.path().join("followed").is_symlink());
    // Put into a folder, it has the name of the link.
    std::fs::create_dir(folder.at("into")).unwrap();
    world.run(&["cp", "-L", &from("/x/l"), &folder.at("into")]).ok();
    assert_eq!(std::fs::read_to_string(folder.at("into/l")).unwrap(), "text");
    // A link on the way leads somewhere in the container, never out of it.
    world.run(&["cp", &from("/x/up/f"), &folder.at("up")]).ok();
    assert_eq!(std::fs::read_to_string(folder.at("up")).unwrap(), "text");
    // Into a link to a folder: into the folder.
    std::fs::write(folder.at("new"), "new").unwrap();
    world.run(&["cp", &folder.at("new"), &from("/x/ld")]).ok();
    assert_eq!(std::fs::read_to_string(process.root("/x/real/new")).unwrap(), "new");
    // Local links.
    symlink("new", folder.at("local")).unwrap();
    world.run(&["cp", &folder.at("local"), &from("/x/local")]).ok();
    assert_eq!(world.inside(&name, "readlink /x/local"), "new");
    world
        .run(&["cp", "-L", &folder.at("local"), &from("/x/real-local")])
        .ok();
    assert_eq!(world.inside(&name, "cat /x/real-local"), "new");
}

fn volumes_and_mounts_of_a_running_container(world: &World) {
    let folder = Folder::new("cp-mounts");
    std::fs::create_dir(folder.at("bound")).unwrap();
    std::fs::write(folder.at("bound/host"), "host").unwrap();
    std::fs::write(folder.at("f"), "file").unwrap();
    let bind = format!("{}:/bound", folder.at("bound"));
    let (name, _) = world.sleeper(&["-v", "/vol", "-v", &bind, "--tmpfs", "/tmp-fs"]);
    let at = |path: &str| format!("{}:{path}", &*name);
    for place in ["/vol", "/bound", "/tmp-fs"] {
        world.run(&["cp", &folder.at("f"), &at(place)]).ok();
        assert_eq!(world.inside(&name, &format!("cat {place}/f")), "file", "{place}");
        let out = folder.at("out");
        world.run(&["cp", &at(&format!("{place}/f")), &out]).ok();
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "file", "{place}");
    }
    assert_eq!(std::fs::read_to_string(folder.at("bound/f")).unwrap(), "file");
    // What lies below a mount is part of what is copied; what the kernel shows is not.
    world.run(&["cp", &at("/bound"), &folder.at("whole")]).ok();
    assert_eq!(std::fs::read_to_string(folder.at("whole/host")).unwrap(), "host");
    std::fs::create_dir(folder.at("root")).unwrap();
    world.run(&["cp", &at("/."), &folder.at("root")]).ok();
    assert_eq!(std::fs::read_to_string(folder.at("root/vol/f")).unwrap(), "file");
    for kernel in ["root/proc", "root/sys"] {
        let count = std::fs::read_dir(folder.at(kernel)).unwrap().count();
        assert_eq!(count, 0, "{kernel}");
    }
    let error = world.run(&["cp", &folder.at("f"), &at("/proc/self")]);
    assert_ne!(error.code, 0);
}

fn volumes_of_a_container_that_never_ran(world: &World) {
    let folder = Folder::new("cp-created");
    std::fs::create_dir(folder.at("bound")).unwrap();
    std::fs::write(folder.at("f"), "file").unwrap();
    let name = world.name("created");
    let volume = harness::tools::tag();
    let (vol, bind) = (format!("{volume}:/deep/vol"), format!("{}:/bound", folder.at("bound")));
    world
        .run(&[
            "create",
            "--name",
            &name,
            "-v",
            &vol,
            "-v",
            &bind,
            "busybox",
            "cat",
            "/deep/vol/f",
            "/bound/f",
        ])
        .ok();
    let at = |path: &str| format!("{}:{path}", &*name);
    world.run(&["cp", &at("/deep/vol"), &folder.at("empty")]).ok();
    world.run(&["cp", &folder.at("f"), &at("/deep/vol/f")]).ok();
    world.run(&["cp", &folder.at("f"), &at("/bound/f")]).ok();
    assert_eq!(std::fs::read_to_string(folder.at("bound/f")).unwrap(), "file");
    let mountpoint = world.run(&["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]).ok();
    assert_eq!(std::fs::read_to_string(format!("{mountpoint}/f")).unwrap(), "file");
    assert_eq!(world.run(&["start", "-a", &name]).ok(), "filefile");
    world.run(&["cp", &at("/deep/vol/f"), &folder.at("out")]).ok();
    assert_eq!(std::fs::read_to_string(folder.at("out")).unwrap(), "file");
    world.run(&["rm", &name]).ok();
    world.run(&["volume", "rm", &volume]).ok();
}

fn read_only_places_are_refused(world: &World) {
    let folder = Folder::new("cp-ro");
    std::fs::write(folder.at("f"), "file").unwrap();
    std::fs::create_dir(folder.at("bound")).unwrap();
    let bind = format!("{}:/bound:ro", folder.at("bound"));
    let name = world.name("ro");
    world
        .run(&[
            "create",
            "--name",
            &name,
            "--read-only",
            "-v",
            &bind,
            "-v",
            "/vol",
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    for state in ["created", "running"] {
        let error = world
            .run(&["cp", &folder.at("f"), &format!("{}:/etc/f", &*name)])
            .fails(1);
        assert!(
            error.contains("container rootfs is marked read-only"),
            "{state}: {error}"
        );
        let error = world
            .run(&["cp", &folder.at("f"), &format!("{}:/bound/f", &*name)])
            .fails(1);
        assert!(error.contains("mounted volume is marked read-only"), "{state}: {error}");
        world.run(&["cp", &folder.at("f"), &format!("{}:/vol/f", &*name)]).ok();
        if state == "created" {
            world.run(&["start", &name]).ok();
        }
    }
    assert_eq!(std::fs::read_dir(folder.at("bound")).unwrap().count(), 0);
}

fn a_tar_on_stdin_and_stdout(world: &World) {
    let (name, _) = world.sleeper(&[]);
    world.inside(&name, "mkdir -p /x/d /y; echo -n text > /x/d/f");
    let out = world.run(&["cp", &format!("{}:/x/d", &*name), "-"]);
    assert_eq!(out.code, 0, "{}", out.err);
    let entries = harness::image::entries(&out.bytes);
    let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["d/", "d/f"]);
    let to = format!("{}:/y", &*name);
    world.command(&["cp", "-", &to]).input(out.bytes.clone()).output().ok();
    assert_eq!(world.inside(&name, "cat /y/d/f"), "text");
    let refused = world
        .command(&["cp", "-", &format!("{}:/y/d/f", &*name)])
        .input(out.bytes.clone())
        .output();
    let error = refused.fails(1);
    assert!(error.contains("must be a directory"), "{error}");
}

fn owners_and_modes_are_kept(world: &World) {
    let folder = Folder::new("cp-owners");
    let file = folder.at("f");
    std::fs::write(&file, "file").unwrap();
    chown(&file, Some(1234), Some(70_000)).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o4751)).unwrap();
    std::fs::hard_link(&file, folder.at("g")).unwrap();
    let (name, process) = world.sleeper(&[]);
    world.run(&["cp", &folder.at(""), &format!("{}:/x", &*name)]).ok();
    let found = std::fs::metadata(process.root("/x/f")).unwrap();
    assert_eq!(
        (found.uid(), found.gid(), found.mode() & 0o7777),
        (1234, 70_000, 0o4751)
    );
    let own = std::fs::metadata(&file).unwrap();
    assert_eq!(found.mtime(), own.mtime());
    let other = std::fs::metadata(process.root("/x/g")).unwrap();
    assert_eq!((found.ino(), found.nlink()), (other.ino(), 2), "hard links stay such");
    // Out of the container, files belong to whoever asked for them.
    world.run(&["cp", &format!("{}:/x/f", &*name), &folder.at("back")]).ok();
    let back = std::fs::metadata(folder.at("back")).unwrap();
    assert_eq!((back.uid(), back.mode() & 0o777), (0, 0o751));
    // A pipe and a device too.
    world.inside(&name, "mkdir /n && mkfifo /n/pipe && mknod /n/null c 1 3");
    world.run(&["cp", &format!("{}:/n", &*name), &folder.at("nodes")]).ok();
    let null = std::fs::metadata(folder.at("nodes/null")).unwrap();
    assert_eq!(null.rdev(), nix::sys::stat::makedev(1, 3));
    world.run(&["cp", &folder.at("nodes"), &format!("{}:/m", &*name)]).ok();
    assert_eq!(world.inside(&name, "test -p /m/pipe && stat -c %t:%T /m/null"), "1:3");
}

fn archive_mode_gives_files_to_the_user(world: &World) {
    let folder = Folder::new("cp-a");
    std::fs::write(folder.at("f"), "file").unwrap();
    let (name, process) = world.sleeper(&["--user", "1234:77"]);
    world
        .run(&["cp", "-a", &folder.at("f"), &format!("{}:/tmp/f", &*name)])
        .ok();
    let found = std::fs::metadata(process.root("/tmp/f")).unwrap();
    assert_eq!((found.uid(), found.gid()), (1234, 77));
}

fn refusals_are_dockers(world: &World) {
    let folder = Folder::new("cp-refused");
    std::fs::write(folder.at("f"), "file").unwrap();
    let (name, _) = world.sleeper(&[]);
    let at = |path: &str| format!("{}:{path}", &*name);
    for (arguments, words) in [
        (
            vec!["cp".to_owned(), folder.at("f"), folder.at("g")],
            "must specify at least one container source",
        ),
        (
            vec!["cp".to_owned(), at("/a"), at("/b")],
            "copying between containers is not supported",
        ),
        (
            vec!["cp".to_owned(), at("/no/such"), folder.at("g")],
            "Could not find the file /no/such in container",
        ),
        (
            vec!["cp".to_owned(), folder.at("f"), at("/no/such/x")],
            "Could not find the file /no/such in container",
        ),
        (
            vec!["cp".to_owned(), at("/etc/passwd"), folder.at("no/such/g")],
            "does not exist",
        ),
        (vec!["cp".to_owned(), folder.at("absent"), at("/tmp")], "no such file"),
        (
            vec!["cp".to_owned(), "no-such-container:/a".to_owned(), folder.at("g")],
            "No such container: no-such-container",
        ),
    ] {
        let words_of: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let error = world.run(&words_of).fails(1);
        let fits = error.to_lowercase().contains(&words.to_lowercase());
        assert!(fits, "{arguments:?}: {error}");
    }
    // A folder does not take a file's place, and a file no folder's.
    world.inside(&name, "mkdir -p /x/f");
    let error = world.run(&["cp", &folder.at("f"), &at("/x")]).fails(1);
    assert!(error.contains("cannot overwrite directory"), "{error}");
}

fn events_tell_of_copies(world: &World) {
    let folder = Folder::new("cp-events");
    std::fs::write(folder.at("f"), "file").unwrap();
    let (name, _) = world.sleeper(&[]);
    let events = |until: &str| {
        let filter = format!("container={}", &*name);
        let arguments = [
            "events",
            "--since",
            "0",
            "--until",
            until,
            "--filter",
            &filter,
            "--format",
            "{{.Action}}",
        ];
        world.run(&arguments).ok()
    };
    world.run(&["cp", &folder.at("f"), &format!("{}:/f", &*name)]).ok();
    world.run(&["cp", &format!("{}:/f", &*name), &folder.at("g")]).ok();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let seen = events(&format!("{}", now.as_secs() + 1));
    let words: Vec<&str> = seen.lines().collect();
    assert!(words.ends_with(&["extract-to-dir", "archive-path"]), "{words:?}");
}

/// A copy leaves nothing mounted: the container starts at once, and its layer can go.
fn a_start_waits_for_nobody(world: &World) {
    let folder = Folder::new("cp-start");
    std::fs::write(folder.at("f"), "file").unwrap();
    let name = world.name("quick");
    world.run(&["create", "--name", &name, "busybox", "cat", "/f"]).ok();
    for _ in 0..5 {
        world.run(&["cp", &folder.at("f"), &format!("{}:/f", &*name)]).ok();
        assert_eq!(world.run(&["start", "-a", &name]).ok(), "file");
    }
    world.run(&["rm", &name]).ok();
}
