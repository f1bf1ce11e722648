//! `…/archive` as programs call it: the header, every compression, and archives that mean harm.

use std::io::{BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use harness::http::{Connection, Reply, read_reply};
use harness::image::{CHARACTER, FILE, LINK, Layer, SYMLINK, entries};
use harness::process::Run;
use harness::tools::{Folder, eventually};
use harness::{Test, tests};
use serde_json::Value;

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        the_header_says_what_is_there,
        names_in_the_archive_begin_with_what_was_asked_for,
        bodies_in_every_compression,
        what_is_no_archive_is_refused,
        hostile_archives_stay_inside,
        links_of_an_archive_mean_what_they_mean_inside,
        folders_and_files_replace_each_other_only_when_told_to,
        attributes_and_holes,
        bad_requests,
        a_container_that_swaps_folders_gets_nothing_out,
        a_container_that_swaps_files_shows_nothing_of_the_host,
        devices_and_pipes_are_not_opened,
        a_start_waits_for_a_copy,
        a_copy_ends_in_the_run_in_which_it_began,
    ]
}

fn put(world: &World, name: &str, path: &str, more: &str, body: &[u8]) -> Reply {
    let target = format!("/containers/{name}/archive?path={path}{more}");
    let kind = [("Content-Type", "application/x-tar")];
    world.server.send("PUT", &target, &kind, body)
}

fn get(world: &World, name: &str, path: &str) -> Reply {
    world.server.get(&format!("/containers/{name}/archive?path={path}"))
}

#[track_caller]
fn stat(reply: &Reply) -> Value {
    let header = reply.header("X-Docker-Container-Path-Stat").expect("the header");
    serde_json::from_slice(&base64(header)).unwrap()
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        bits = bits << 6 | DIGITS.iter().position(|digit| *digit == byte).unwrap() as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

fn the_header_says_what_is_there(world: &World) {
    let (name, _) = world.sleeper(&[]);
    world.inside(
        &name,
        "mkdir -p /x/d && cd /x && echo -n text > f && chmod 4755 f && touch -d @1600000000 f && ln -s d/../f l && ln -s /x/no/where gone && mkfifo p && mknod c c 1 3 && chmod 1777 d",
    );
    const DIR: u64 = 1 << 31;
    for (path, shown, mode, size, link) in [
        ("/x/f", "f", 0o755 | 1 << 23, Some(4), ""),
        ("/x/l", "l", 0o777 | 1 << 27, None, "/x/f"),
        ("/x/gone", "gone", 0o777 | 1 << 27, None, "/x/no/where"),
        ("/x/d", "d", 0o777 | DIR | 1 << 20, None, ""),
        ("/x/d/", "d", 0o777 | DIR | 1 << 20, None, ""),
        ("/x/d/.", ".", 0o777 | DIR | 1 << 20, None, ""),
        ("/x/p", "p", 0o644 | 1 << 25, Some(0), ""),
        ("/x/c", "c", 0o644 | 1 << 26 | 1 << 21, Some(0), ""),
        ("/", "/", 0o755 | DIR, None, ""),
        ("x/../x//f", "f", 0o755 | 1 << 23, Some(4), ""),
    ] {
        let target = format!("/containers/{}/archive?path={path}", &*name);
        let reply = world.server.call("HEAD", &target, None).expect(200);
        let found = stat(&reply);
        assert_eq!(found["name"], shown, "{path}");
        assert_eq!(found["mode"], mode, "{path}");
        assert_eq!(found["linkTarget"], link, "{path}");
        if let Some(size) = size {
            assert_eq!(found["size"], size, "{path}");
        }
        if shown == "f" {
            assert_eq!(found["mtime"], "2020-09-13T12:26:40Z");
        }
        assert_eq!(stat(&world.server.get(&target).expect(200)), found, "{path}");
    }
}

fn names_in_the_archive_begin_with_what_was_asked_for(world: &World) {
    let (name, _) = world.sleeper(&[]);
    world.inside(
        &name,
        "mkdir -p /x/d/e && echo -n text > /x/d/f && ln -s d /x/l && ln /x/d/f /x/d/g",
    );
    for (path, names) in [
        ("/x/d", &["d/", "d/e/", "d/f", "d/g"][..]),
        ("/x/d/", &["d/", "d/e/", "d/f", "d/g"]),
        ("/x/d/.", &["./", "./e/", "./f", "./g"]),
        ("/x/d/f", &["f"]),
        ("/x/l", &["l"]),
        ("/x/l/", &["l/", "l/e/", "l/f", "l/g"]),
    ] {
        let reply = get(world, &name, path).expect(200);
        assert_eq!(reply.header("Content-Type"), Some("application/x-tar"));
        let raw: Vec<String> = harness::image::raw_names(&reply.body);
        assert_eq!(raw, names, "{path}");
    }
}

fn bodies_in_every_compression(world: &World) {
    let folder = Folder::new("archive-packed");
    let (name, process) = world.sleeper(&[]);
    let content: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    for program in ["", "gzip", "bzip2", "xz", "zstd"] {
        let file = format!("from-{program}");
        let plain = Layer::default().file(&file, 0o644, &content).bytes();
        let body = if program.is_empty() {
            plain
        } else {
            std::fs::write(folder.at("t"), &plain).unwrap();
            let path = std::path::PathBuf::from("/usr/bin").join(program);
            let Some(path) = Some(path).filter(|path| path.exists()) else {
                // Not on every machine; gzip is.
                assert_ne!(program, "gzip");
                continue;
            };
            let packed = Run::new(&path, &["-c", &folder.at("t")]).output();
            assert_eq!(packed.code, 0, "{}", packed.err);
            packed.bytes
        };
        put(world, &name, "/tmp", "", &body).expect(200);
        let there = std::fs::read(process.root(&format!("/tmp/{file}"))).unwrap();
        assert!(there == content, "{program}");
        // Half of it is no archive.
        let half = put(world, &name, "/tmp", "", &body[..body.len() / 2]);
        assert_eq!(half.status, 400, "{program}: {}", half.message());
    }
}

fn what_is_no_archive_is_refused(world: &World) {
    let (name, _) = world.sleeper(&[]);
    for body in [
        &b"not an archive at all"[..],
        &[7; 2048],
        b"\x1f\x8bxxxxxxxx",
        b"\xfd7zXZ\0xxxx",
        b"BZh9xxxx",
    ] {
        let reply = put(world, &name, "/tmp", "", body);
        assert_eq!(reply.status, 400, "{body:?}: {}", reply.message());
    }
    put(world, &name, "/tmp", "", b"").expect(200);
}

fn hostile_archives_stay_inside(world: &World) {
    let folder = Folder::new("archive-hostile");
    std::fs::write(folder.at("secret"), "secret").unwrap();
    let (name, process) = world.sleeper(&[]);
    world.inside(&name, "mkdir /x");
    let outside = folder.at("planted");
    let up = format!("../../../../../../..{outside}");
    let secret = format!("../../../../../../..{}", folder.at("secret"));
    let many = format!("{}f", "d/".repeat(3000));
    for (what, archive, refused) in [
        (
            "dots",
            Layer::default().hostile(up.as_bytes(), FILE, b"", b"planted"),
            true,
        ),
        (
            "dots behind a folder",
            Layer::default()
                .folder("a", 0o755)
                .hostile(b"a/../../f", FILE, b"", b"x"),
            true,
        ),
        (
            "a hard link out",
            Layer::default().hostile(b"h", LINK, secret.as_bytes(), b""),
            true,
        ),
        (
            "a hard link to nothing",
            Layer::default().hostile(b"h", LINK, b"none", b""),
            true,
        ),
        (
            "a link out",
            Layer::default().hostile(b"s", SYMLINK, secret.as_bytes(), b""),
            true,
        ),
        (
            "a name of 256 bytes",
            Layer::default().file(&"n".repeat(256), 0o644, b"x"),
            true,
        ),
        ("a path of 6,001 bytes", Layer::default().file(&many, 0o644, b"x"), true),
        // Absolute names begin at the folder that was asked for.
        (
            "an absolute name",
            Layer::default().hostile(outside.as_bytes(), FILE, b"", b"planted"),
            false,
        ),
        (
            "through a link",
            Layer::default()
                .symlink("through", folder.path().to_str().unwrap())
                .file("through/planted", 0o644, b"x"),
            true,
        ),
    ] {
        let reply = put(world, &name, "/x", "", &archive.bytes());
        let expected = if refused { 400 } else { 200 };
        assert!(
            reply.status == expected || refused && reply.status == 404,
            "{what}: {} {}",
            reply.status,
            reply.message()
        );
        assert!(!std::path::Path::new(&outside).exists(), "{what}");
        assert_eq!(std::fs::metadata(folder.at("secret")).unwrap().nlink(), 1, "{what}");
    }
    let inside = process.root(&format!("/x{outside}"));
    assert_eq!(std::fs::read_to_string(inside).unwrap(), "planted");
    for words in [
        put(
            world,
            &name,
            "/x",
            "",
            &Layer::default().hostile(b"h", LINK, b"../f", b"").bytes(),
        )
        .message(),
        put(
            world,
            &name,
            "/x",
            "",
            &Layer::default().hostile(b"s", SYMLINK, b"../f", b"").bytes(),
        )
        .message(),
    ] {
        assert!(
            words.contains("invalid hardlink") || words.contains("invalid symlink"),
            "{words}"
        );
    }
}

fn links_of_an_archive_mean_what_they_mean_inside(world: &World) {
    let (name, process) = world.sleeper(&[]);
    world.inside(&name, "mkdir -p /x /target && ln -s ../target /x/there");
    let archive = Layer::default()
        .symlink("abs", "/target")
        .file("abs/one", 0o644, b"1")
        .file("there/two", 0o644, b"2")
        .hardlink("three", "there/two", 0o644, (0, 0))
        .device("null", CHARACTER, 1, 3);
    put(world, &name, "/x", "", &archive.bytes()).expect(200);
    assert_eq!(world.inside(&name, "cat /target/one /target/two /x/three"), "122");
    assert_eq!(
        std::fs::metadata(process.root("/x/null")).unwrap().rdev(),
        nix::sys::stat::makedev(1, 3)
    );
    // The folder to unpack into may be reached by a link too.
    let archive = Layer::default().file("four", 0o644, b"4");
    put(world, &name, "/x/there", "", &archive.bytes()).expect(200);
    assert_eq!(world.inside(&name, "cat /target/four"), "4");
}

fn folders_and_files_replace_each_other_only_when_told_to(world: &World) {
    let (name, _) = world.sleeper(&[]);
    world.inside(&name, "mkdir -p /x/d/inner && touch /x/f");
    let (file, folder) = (
        Layer::default().file("d", 0o644, b"file").bytes(),
        Layer::default().folder("f", 0o700).bytes(),
    );
    for (body, words) in [
        (&file, "cannot overwrite directory \"/x/d\" with non-directory \"/x\""),
        (&folder, "cannot overwrite non-directory \"/x/f\" with directory \"/x\""),
    ] {
        let reply = put(world, &name, "/x", "&noOverwriteDirNonDir=true", body).expect(400);
        assert!(reply.message().contains(words), "{}", reply.message());
    }
    assert_eq!(
        world.inside(&name, "test -d /x/d/inner && test -f /x/f && echo same"),
        "same"
    );
    put(world, &name, "/x", "", &file).expect(200);
    put(world, &name, "/x", "", &folder).expect(200);
    assert_eq!(world.inside(&name, "cat /x/d; stat -c %a /x/f"), "file700");
}

fn attributes_and_holes(world: &World) {
    let (name, process) = world.sleeper(&[]);
    let archive = Layer::default()
        .pax("SCHILY.xattr.user.colour", b"red")
        .file("f", 0o644, b"x")
        .pax("SCHILY.xattr.trusted.overlay.opaque", b"y")
        .folder("d", 0o755);
    put(world, &name, "/tmp", "", &archive.bytes()).expect(200);
    let back = get(world, &name, "/tmp/f").expect(200);
    let text = String::from_utf8_lossy(&back.body).into_owned();
    assert!(text.contains("SCHILY.xattr.user.colour=red"), "the attribute came back");
    let marks = Run::new(
        std::path::Path::new("/usr/bin/getfattr"),
        &["-d", "-m", "-", process.root("/tmp/d").to_str().unwrap()],
    );
    if std::path::Path::new("/usr/bin/getfattr").exists() {
        assert!(
            !marks.output().ok().contains("overlay"),
            "no mark of overlay was forged"
        );
    }
}

fn bad_requests(world: &World) {
    let (name, _) = world.sleeper(&[]);
    let call = |method: &str, target: &str| world.server.send(method, target, &[], b"");
    for method in ["HEAD", "GET", "PUT"] {
        assert_eq!(
            call(method, "/containers/no-such-thing/archive?path=/").status,
            404,
            "{method}"
        );
        assert_eq!(
            call(method, &format!("/containers/{}/archive", &*name)).status,
            400,
            "{method}"
        );
        let absent = call(method, &format!("/containers/{}/archive?path=/no/such", &*name));
        assert_eq!(absent.status, 404, "{method}");
        if method != "HEAD" {
            let words = format!("Could not find the file /no/such in container {}", &*name);
            assert_eq!(absent.message(), words, "{method}");
        }
    }
    let reply = put(world, &name, "/etc/passwd", "", b"").expect(400);
    assert!(reply.message().contains("not a directory"), "{}", reply.message());
    put(world, &name, "/tmp", "&copyUIDGID=true", b"").expect(200);
}

/// Runs a shell line in the container over and over while `work` is done.
fn meanwhile(world: &World, name: &str, line: &str, work: impl FnOnce()) {
    world
        .run(&[
            "exec",
            "-d",
            name,
            "sh",
            "-c",
            &format!("while [ ! -e /stop ]; do {line}; done"),
        ])
        .ok();
    work();
    world.inside(name, "touch /stop");
}

fn a_container_that_swaps_folders_gets_nothing_out(world: &World) {
    let folder = Folder::new("archive-race");
    let (name, _) = world.sleeper(&[]);
    let host = folder.path().to_str().unwrap().to_owned();
    world.inside(&name, &format!("mkdir -p /x {host}"));
    let swap = format!(
        "rm -rf /x/d; mkdir -p /x/d; mv /x/d /x/e 2>/dev/null; ln -sfn ../../../../../../..{host} /x/d; rm -rf /x/d /x/e; ln -s {host} /x/d"
    );
    let mut tar = Layer::default();
    for number in 0..50 {
        tar = tar.file(&format!("d/planted-{number}"), 0o644, b"x");
    }
    let body = tar.bytes();
    meanwhile(world, &name, &swap, || {
        let end = Instant::now() + Duration::from_secs(3);
        let mut done = 0;
        while Instant::now() < end {
            // Whether it works out is the container's doing; where it ends is not.
            put(world, &name, "/x", "", &body);
            let reply = put(world, &name, "/x/d", "", &body);
            assert!(matches!(reply.status, 200 | 400 | 404 | 500), "{}", reply.status);
            done += 1;
        }
        assert!(done > 5, "only {done} copies");
    });
    let planted: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(planted.is_empty(), "{planted:?} outside of the container");
    // The container's own folder of that name did get some: the links were followed, inside.
    let inside = world.inside(&name, &format!("ls {host} | wc -l"));
    assert_ne!(inside, "0", "no copy met a link: the race was none");
}

fn a_container_that_swaps_files_shows_nothing_of_the_host(world: &World) {
    let folder = Folder::new("archive-race-out");
    std::fs::write(folder.at("secret"), "the host's secret").unwrap();
    let (name, _) = world.sleeper(&[]);
    let host = folder.path().to_str().unwrap().to_owned();
    world.inside(&name, &format!("mkdir -p /x/d {host}; echo inside > {host}/secret"));
    let swap = format!(
        "rm -rf /x/d; mkdir /x/d; echo a > /x/d/secret; rm -rf /x/d; ln -s ../../../../../..{host} /x/d; rm /x/d; mkdir /x/d; ln -s {host}/secret /x/d/secret; rm /x/d/secret; mkfifo /x/d/secret"
    );
    meanwhile(world, &name, &swap, || {
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            for path in ["/x", "/x/d/", "/x/d/secret"] {
                let target = format!("/containers/{}/archive?path={path}", &*name);
                // Cut off when a folder went away under the walk.
                let Ok(reply) = world.server.try_send("GET", &target, &[], b"") else {
                    continue;
                };
                let text = String::from_utf8_lossy(&reply.body).into_owned();
                assert!(!text.contains("the host's secret"), "{path}");
            }
        }
    });
}

fn devices_and_pipes_are_not_opened(world: &World) {
    let (name, _) = world.sleeper(&[]);
    world.inside(
        &name,
        "mkdir /x && mkfifo /x/pipe && mknod /x/tape c 9 0 && echo -n f > /x/file",
    );
    let started = Instant::now();
    let reply = get(world, &name, "/x").expect(200);
    let names: Vec<String> = entries(&reply.body).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["x/", "x/file", "x/pipe", "x/tape"]);
    assert!(started.elapsed() < Duration::from_secs(5), "nobody waited for the pipe");
}

/// A copy of which the second half has not come yet.
struct Half {
    connection: Connection,
    rest: Vec<u8>,
}

impl Half {
    fn begin(world: &World, name: &str, body: &[u8]) -> Half {
        let mut connection = world.server.connect();
        let head = format!(
            "PUT /containers/{name}/archive?path=/ HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        connection.write_all(head.as_bytes()).unwrap();
        let (now, later) = body.split_at(body.len() / 2);
        connection.write_all(now).unwrap();
        Half {
            connection,
            rest: later.to_vec(),
        }
    }

    fn end(mut self) -> Reply {
        self.connection.write_all(&self.rest).unwrap();
        read_reply(&mut BufReader::new(self.connection), false).unwrap()
    }
}

/// The layers of a container that rests belong to one at a time: who copies, or who starts.
fn a_start_waits_for_a_copy(world: &World) {
    let name = world.name("waits");
    let create = [
        "create",
        "--name",
        &name,
        "busybox",
        "sh",
        "-c",
        "md5sum /f; sleep 1000",
    ];
    world.run(&create).ok();
    let content = vec![b'x'; 3 << 20];
    let half = Half::begin(world, &name, &Layer::default().file("f", 0o644, &content).bytes());
    eventually("the copy has begun", 20, || {
        // A second one would wait: what is there is seen without.
        let target = format!("/containers/{}/archive?path=/f", &*name);
        world.server.send("HEAD", &target, &[], b"").status == 200
    });
    let start = world.background(&["start", &name]);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(world.inspect(&name)["State"]["Status"], "created");
    assert_eq!(half.end().status, 200);
    assert_eq!(start.finish(20).0, 0);
    eventually("the program has read all of it", 20, || {
        world.run(&["logs", &name]).ok().ends_with("/f")
    });
    let size = world.inside(&name, "stat -c %s /f");
    assert_eq!(size, content.len().to_string());
    // And a copy that never ends does not hold a start for ever: it is refused with the reason.
    world.run(&["kill", &name]).ok();
    let half = Half::begin(world, &name, &Layer::default().file("g", 0o644, &content).bytes());
    std::thread::sleep(Duration::from_millis(500));
    let error = world.run(&["start", &name]).fails(1);
    assert!(error.contains("files are being copied into container"), "{error}");
    assert_eq!(half.end().status, 200);
    world.run(&["start", &name]).ok();
}

fn a_copy_ends_in_the_run_in_which_it_began(world: &World) {
    let (name, _) = world.sleeper(&["-v", "/vol"]);
    let content = vec![b'x'; 3 << 20];
    let body = Layer::default()
        .file("vol/f", 0o644, &content)
        .file("vol/g", 0o644, b"last")
        .bytes();
    let half = Half::begin(world, &name, &body);
    eventually("the copy has begun", 20, || {
        world.run(&["exec", &name, "test", "-e", "/vol/f"]).code == 0
    });
    world.run(&["kill", &name]).ok();
    // Its mounts stay until the copy has ended: what was for the volume gets there, and nowhere else.
    assert_eq!(half.end().status, 200);
    world.run(&["start", &name]).ok();
    assert_eq!(
        world.inside(&name, "cat /vol/g; stat -c %s /vol/f"),
        format!("last{}", content.len())
    );
    let shown = world.run(&["diff", &name]).ok();
    assert_eq!(shown, "A /vol");
}
