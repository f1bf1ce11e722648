//! Our own verbs for volumes: export, import, clone and rename. Through our client alone; docker has none of them.

use harness::image::{Layer, entries};
use harness::tools::Folder;
use harness::{Test, tests};
use serde_json::{Value, json};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        exported_and_imported_it_is_the_same,
        import_is_whole_or_not_at_all,
        clone_is_a_volume_of_its_own,
        clone_of_a_mounted_volume_has_its_content,
        rename_moves_what_is_free,
        names_that_are_taken_or_bad_are_refused,
    ]
}

struct Own<'a>(&'a World, String);

impl std::ops::Deref for Own<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.1
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        let target = format!("/volumes/{}?force=1", self.1);
        let _ = self.0.server.try_send("DELETE", &target, &[], &[]);
    }
}

fn own<'a>(world: &'a World, what: &str) -> Own<'a> {
    Own(world, format!("{what}-{}", harness::tools::tag()))
}

fn mounted(volume: &str) -> String {
    format!("{volume}:/data")
}

const FILL: &str = "cd /data; mkdir -p a/b; echo text > a/b/file; ln a/b/file a/second; ln -s ../../../../etc/passwd a/link; \
                    chown 7:8 a/b/file; chmod 4751 a/b/file; mkfifo a/pipe; touch a/.wh.name a/.wh..wh..opq; chown 1000:100 /data; chmod 1770 /data";
const SHOW: &str =
    "cd /data; find . | sort | while read f; do stat -c '%n %f %u %g %s %h %Y' $f; readlink $f; done; cat a/b/file";

fn exported_and_imported_it_is_the_same(world: &World) {
    let (first, second, folder) = (own(world, "out"), own(world, "in"), Folder::new("volume"));
    world.shell(&["-v", &mounted(&first)], FILL);
    let file = folder.at("volume.tar");
    world.iechor(&["volume", "export", "-o", &file, &first]).ok();
    let tar = std::fs::read(&file).unwrap();
    assert!(
        entries(&tar)
            .iter()
            .any(|(name, bytes)| name == "a/b/file" && bytes == b"text\n")
    );
    let name = world
        .iechor(&["volume", "import", "--label", "from=export", &second, &file])
        .ok();
    assert_eq!(name, &*second);
    let show = |volume: &str| world.shell(&["-v", &format!("{}:nocopy", mounted(volume))], SHOW);
    let (one, two) = (show(&first), show(&second));
    // The folder itself is in no archive.
    let below = |text: &str| {
        text.lines()
            .filter(|line| !line.starts_with(". "))
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(below(&one), below(&two));
    assert!(two.contains("./a/b/file 89e9 7 8 5 2"), "{two}");
    let shown = world.server.get(&format!("/volumes/{}", &*second)).expect(200).json();
    assert_eq!(
        (&shown["Labels"], &shown["Driver"]),
        (&json!({"from": "export"}), &json!("local"))
    );
    // From stdin, compressed.
    let third = own(world, "stdin");
    harness::process::Run::new("gzip".as_ref(), &["-k", &file])
        .output()
        .ok();
    let import = format!("iechor -H {} volume import {} < {file}.gz", world.host(), &*third);
    let path = harness::tools::binary("iechor").parent().unwrap().display().to_string();
    harness::process::Run::new("sh".as_ref(), &["-c", &format!("PATH={path}:$PATH; {import}")])
        .output()
        .ok();
    assert_eq!(below(&show(&third)), below(&two));
}

fn import_is_whole_or_not_at_all(world: &World) {
    let volume = own(world, "broken");
    let good = Layer::default()
        .folder("a", 0o755)
        .file("a/file", 0o644, &[b'x'; 5000])
        .bytes();
    let target = format!("/volumes/{}/import", &*volume);
    let kind = [("Content-Type", "application/x-tar")];
    let outside = Folder::new("outside");
    let up = format!(
        "{}/planted",
        "../".repeat(12) + &outside.path().display().to_string()[1..]
    );
    let hostile = Layer::default()
        .hostile(up.as_bytes(), harness::image::FILE, b"", b"planted")
        .bytes();
    for (what, body) in [
        ("half", &good[..3000]),
        ("garbage", &b"not a tar at all"[..]),
        ("hostile", &hostile),
    ] {
        let reply = world.server.send("POST", &target, &kind, body);
        assert!((400..=500).contains(&reply.status), "{what}: {}", reply.status);
        assert_eq!(
            world.server.get(&format!("/volumes/{}", &*volume)).status,
            404,
            "{what}"
        );
    }
    assert!(!outside.path().join("planted").exists());
    let folders = world.places.data.join("root/volumes").join(&*volume);
    assert!(!folders.exists());
    world.server.send("POST", &target, &kind, &good).expect(201);
    assert_eq!(world.shell(&["-v", &mounted(&volume)], "wc -c < /data/a/file"), "5000");
}

fn clone_is_a_volume_of_its_own(world: &World) {
    let (first, second) = (own(world, "first"), own(world, "second"));
    world.run(&["volume", "create", "--label", "a=b", &first]).ok();
    world.shell(&["-v", &mounted(&first)], FILL);
    assert_eq!(world.iechor(&["volume", "clone", &first, &second]).ok(), &*second);
    let show = |volume: &str| world.shell(&["-v", &format!("{}:nocopy", mounted(volume))], SHOW);
    let without_time = |text: String| {
        let lines = text.lines().map(|line| {
            if line.starts_with(". ") {
                line.rsplit_once(' ').unwrap().0
            } else {
                line
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(without_time(show(&first)), without_time(show(&second)));
    let shown = world.server.get(&format!("/volumes/{}", &*second)).expect(200).json();
    assert_eq!(shown["Labels"], json!({"a": "b"}));
    world.shell(&["-v", &mounted(&second)], "echo other > /data/a/b/file");
    assert_eq!(world.shell(&["-v", &mounted(&first)], "cat /data/a/b/file"), "text");
}

fn clone_of_a_mounted_volume_has_its_content(world: &World) {
    let (bound, copy, folder) = (own(world, "bound"), own(world, "copy"), Folder::new("bound"));
    std::fs::write(folder.at("file"), "from the host").unwrap();
    let options = json!({"type": "none", "device": folder.path().display().to_string(), "o": "bind"});
    world
        .server
        .post("/volumes/create", &json!({"Name": &*bound, "DriverOpts": options}))
        .expect(201);
    world.iechor(&["volume", "clone", &bound, &copy]).ok();
    std::fs::write(folder.at("file"), "changed").unwrap();
    assert_eq!(world.shell(&["-v", &mounted(&copy)], "cat /data/file"), "from the host");
    let mounts = harness::kernel::own_mounts();
    assert!(
        !mounts.iter().any(|mount| mount.target.contains(&*bound)),
        "unmounted when it is done"
    );
}

fn rename_moves_what_is_free(world: &World) {
    let (old, new) = (own(world, "old"), own(world, "new"));
    world.shell(&["-v", &mounted(&old)], "echo kept > /data/file");
    let (name, _) = world.sleeper(&["-v", &mounted(&old)]);
    let error = world.iechor(&["volume", "rename", &old, &new]).fails(1);
    assert!(error.contains("volume is in use"), "{error}");
    drop(name);
    world.iechor(&["volume", "rename", &old, &new]).ok();
    assert_eq!(world.server.get(&format!("/volumes/{}", &*old)).status, 404);
    let shown = world.server.get(&format!("/volumes/{}", &*new)).expect(200).json();
    assert!(shown["Mountpoint"].as_str().unwrap().contains(&*new), "{shown}");
    assert_eq!(world.shell(&["-v", &mounted(&new)], "cat /data/file"), "kept");
    assert!(!world.places.data.join("root/volumes").join(&*old).exists());
}

fn names_that_are_taken_or_bad_are_refused(world: &World) {
    let (one, two) = (own(world, "one"), own(world, "two"));
    for name in [&one, &two] {
        world.run(&["volume", "create", name]).ok();
    }
    let post = |path: &str| world.server.post(path, &Value::Null);
    for verb in ["clone", "rename"] {
        let status = |from: &str, to: &str| post(&format!("/volumes/{from}/{verb}?name={to}")).status;
        assert_eq!(status(&one, &two), 409, "{verb}");
        assert_eq!(status("not-here", "free-name"), 404, "{verb}");
        assert_eq!(status(&one, "a%2Fb"), 400, "{verb}");
        assert_eq!(status(&one, ""), 400, "{verb}");
    }
    let tar = Layer::default().bytes();
    let kind = [("Content-Type", "application/x-tar")];
    assert_eq!(
        world
            .server
            .send("POST", &format!("/volumes/{}/import", &*one), &kind, &tar)
            .status,
        409
    );
    assert_eq!(world.server.get("/volumes/not-here/export").status, 404);
    assert_eq!(post(&format!("/volumes/{}/clone", &*one)).status, 400);
}
