//! What the store takes and refuses: archives made to harm, and one copy of what is good.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use harness::image::{FILE, Image, LINK, Layer, Packing, digest, entries};
use harness::tools::{Folder, eventually};
use harness::{Test, tests};
use serde_json::{Value, json};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        hostile_archives_are_refused_or_harmless,
        archives_that_lie_are_refused,
        truncated_archives_are_refused,
        a_layer_is_on_disk_once,
        removed_images_give_their_space_back,
        sparse_files_take_no_space,
        save_gives_the_exact_layers_back,
        several_images_in_one_archive,
        big_layer_comes_and_goes,
    ]
}

/// The bytes that a folder takes on disk; a file with several names counts once.
fn usage(folder: &Path) -> u64 {
    fn walk(folder: &Path, seen: &mut std::collections::HashSet<(u64, u64)>) -> u64 {
        let mut sum = 0;
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.path().symlink_metadata() else {
                continue;
            };
            if seen.insert((meta.dev(), meta.ino())) {
                sum += meta.blocks() * 512;
            }
            if meta.is_dir() {
                sum += walk(&entry.path(), seen);
            }
        }
        sum
    }
    walk(folder, &mut std::collections::HashSet::new())
}

/// The data root, once what earlier tests threw away has been deleted: it is deleted when the store is at rest.
fn root(world: &World) -> std::path::PathBuf {
    if world.is_foreign() {
        harness::suite::skip("looks into our own data root");
    }
    world.places.rest();
    world.places.data.join("root")
}

/// The folders of layers and work in progress.
fn folders(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    for part in ["layers", "tmp", "trash", "rw"] {
        for entry in std::fs::read_dir(root(world).join(part))
            .into_iter()
            .flatten()
            .flatten()
        {
            found.push(format!("{part}/{}", entry.file_name().to_string_lossy()));
        }
    }
    found.sort();
    found
}

/// Loads an archive that must be refused; nothing of it may stay.
#[track_caller]
fn refused(world: &World, what: &str, archive: &[u8]) -> String {
    let (before, images) = (folders(world), world.server.get("/images/json?all=1").text());
    let reply = world.server.send(
        "POST",
        "/images/load?quiet=1",
        &[("Content-Type", "application/x-tar")],
        archive,
    );
    let text = reply.text();
    assert!(
        reply.status >= 400 || text.contains("errorDetail"),
        "{what} was taken: {} {text}",
        reply.status
    );
    eventually(&format!("{what}: nothing is left"), 10, || {
        folders(world).iter().all(|folder| before.contains(folder))
    });
    assert_eq!(world.server.get("/images/json?all=1").text(), images, "{what}");
    text
}

fn hostile_archives_are_refused_or_harmless(world: &World) {
    root(world);
    let victim = Folder::new("victim");
    std::fs::write(victim.at("kept"), "kept").unwrap();
    let path = victim.path().to_str().unwrap().to_owned();
    let outside = format!("{path}/planted");
    let traps: Vec<(&str, Layer)> = vec![
        (
            "an absolute name",
            Layer::default().hostile(outside.as_bytes(), FILE, b"", b"planted"),
        ),
        (
            "dot-dot",
            Layer::default().hostile(
                format!("../../../../../../../..{outside}").as_bytes(),
                FILE,
                b"",
                b"planted",
            ),
        ),
        (
            "a link out, then through it",
            Layer::default()
                .symlink("out", &path)
                .file("out/planted", 0o644, b"planted"),
        ),
        (
            "a link up, then through it",
            Layer::default()
                .symlink("up", "../../../../../../../..")
                .file(&format!("up{outside}"), 0o644, b"planted"),
        ),
        (
            "a hard link out",
            Layer::default().hostile(b"stolen", LINK, b"../../../../../../../../etc/shadow", b""),
        ),
        (
            "an absolute hard link",
            Layer::default().hostile(b"stolen", LINK, b"/etc/shadow", b""),
        ),
        (
            "a whiteout out",
            Layer::default().hostile(
                format!("../../../../../../../..{path}/.wh.kept").as_bytes(),
                FILE,
                b"",
                b"",
            ),
        ),
        ("a whiteout of dot-dot", Layer::default().file("a/.wh...", 0o644, b"")),
        ("a whiteout of nothing", Layer::default().file("a/.wh.", 0o644, b"")),
        (
            "an opaque mark through a link",
            Layer::default()
                .symlink("out", &path)
                .file("out/.wh..wh..opq", 0o644, b""),
        ),
        (
            "a file as a folder",
            Layer::default().file("a", 0o644, b"").file("a/b", 0o644, b""),
        ),
    ];
    for (what, trap) in traps {
        let before = folders(world);
        let name = format!("hostile:{}", harness::tools::tag());
        let archive = Image::busybox().layer(trap).docker_archive(&name);
        let reply = world.server.send(
            "POST",
            "/images/load?quiet=1",
            &[("Content-Type", "application/x-tar")],
            &archive,
        );
        assert!(
            !victim.path().join("planted").exists(),
            "{what}: a file was planted on the host"
        );
        assert!(
            victim.path().join("kept").exists(),
            "{what}: a file of the host is gone"
        );
        if reply.status == 200 && !reply.text().contains("errorDetail") {
            // Read as a path inside of the root: then a container sees nothing of the host.
            let shown = world.run(&[
                "run",
                "--rm",
                "--network",
                "none",
                &name,
                "sh",
                "-c",
                "cat /stolen 2>/dev/null || true",
            ]);
            assert!(!shown.out.contains("root:"), "{what}: {}", shown.out);
            world.run(&["rmi", "-f", &name]).ok();
        } else {
            world.run(&["image", "inspect", &name]).fails(1);
        }
        eventually(&format!("{what}: nothing is left"), 10, || folders(world) == before);
    }
}

/// Rewrites one file of an archive.
fn with_file(archive: &[u8], name: &str, change: impl Fn(Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut rewritten = Layer::default();
    for (path, bytes) in entries(archive) {
        if path.ends_with('/') {
            continue;
        }
        let bytes = if path.ends_with(name) {
            change(bytes)
        } else {
            Some(bytes)
        };
        if let Some(bytes) = bytes {
            rewritten = rewritten.file(&path, 0o644, &bytes);
        }
    }
    rewritten.bytes()
}

fn with_json(archive: &[u8], name: &str, change: impl Fn(&mut Value)) -> Vec<u8> {
    with_file(archive, name, |bytes| {
        let mut value: Value = serde_json::from_slice(&bytes).unwrap();
        change(&mut value);
        Some(value.to_string().into_bytes())
    })
}

fn archives_that_lie_are_refused(world: &World) {
    root(world);
    let image = Image::busybox().layer(Layer::default().file("own", 0o644, harness::tools::tag().as_bytes()));
    let docker = image.docker_archive("liar:1");
    let oci = image.oci_archive("docker.io/library/liar:1", Packing::Gzip);
    let top = format!("{}/layer.tar", &digest(&image.layers[1])[7..]);
    let (manifest, blobs) = image.manifest(true, Packing::Gzip);
    let blob = digest(&blobs[2])[7..].to_owned();
    let manifest_name = digest(&manifest)[7..].to_owned();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing at all", Vec::new()),
        ("an archive of nothing", Layer::default().bytes()),
        (
            "a manifest that is no JSON",
            with_file(&docker, "manifest.json", |_| Some(b"[{".to_vec())),
        ),
        (
            "a manifest of nothing",
            with_json(&docker, "manifest.json", |value| *value = json!([])),
        ),
        (
            "a config that is not there",
            with_json(&docker, "manifest.json", |value| {
                value[0]["Config"] = json!("absent.json")
            }),
        ),
        (
            "a config outside of the archive",
            with_json(&docker, "manifest.json", |value| {
                value[0]["Config"] = json!("../../../../etc/passwd")
            }),
        ),
        (
            "a layer that is not there",
            with_json(&docker, "manifest.json", |value| {
                value[0]["Layers"][1] = json!("absent/layer.tar")
            }),
        ),
        (
            "fewer layers than the config has",
            with_json(&docker, "manifest.json", |value| {
                value[0]["Layers"] = json!([value[0]["Layers"][0]])
            }),
        ),
        (
            "a layer with other bytes",
            with_file(&docker, &top, |_| {
                Some(Layer::default().file("other", 0o644, b"").bytes())
            }),
        ),
        (
            "a layer that is no tar",
            with_file(&docker, &top, |_| Some(b"no tar at all".to_vec())),
        ),
        (
            "a bad name for the image",
            with_json(&docker, "manifest.json", |value| {
                value[0]["RepoTags"] = json!(["UPPER:1"])
            }),
        ),
        (
            "a blob with other bytes",
            with_file(&oci, &blob, |mut bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                Some(bytes)
            }),
        ),
        (
            "a blob that is too long",
            with_file(&oci, &blob, |mut bytes| {
                bytes.extend_from_slice(&[0; 512]);
                Some(bytes)
            }),
        ),
        ("a blob that is not there", with_file(&oci, &blob, |_| None)),
        (
            "a manifest with other bytes",
            with_json(&oci, &manifest_name, |value| value["annotations"] = json!({"a": "b"})),
        ),
        (
            "an index that points nowhere",
            with_json(&oci, "index.json", |value| {
                value["manifests"][0]["digest"] = json!(format!("sha256:{}", "0".repeat(64)))
            }),
        ),
        (
            "an index with a digest that is none",
            with_json(&oci, "index.json", |value| {
                value["manifests"][0]["digest"] = json!("sha256:../../../etc/passwd")
            }),
        ),
        (
            "a layout of another age",
            with_json(&with_file(&oci, "manifest.json", |_| None), "oci-layout", |value| {
                value["imageLayoutVersion"] = json!("9.9.9")
            }),
        ),
    ];
    for (what, archive) in cases {
        let said = refused(world, what, &archive);
        assert!(said.len() > 20, "{what}: {said}");
    }
}

fn truncated_archives_are_refused(world: &World) {
    root(world);
    let image = Image::busybox().layer(Layer::default().file("own", 0o644, harness::tools::tag().as_bytes()));
    let archive = image.docker_archive("cut:1");
    // The manifest stands at the end of such an archive, so every cut loses something.
    for part in [
        100,
        512,
        5000,
        archive.len() / 3,
        archive.len() / 2,
        archive.len() - 3000,
    ] {
        refused(world, &format!("{part} of {} bytes", archive.len()), &archive[..part]);
    }
}

fn noise(length: usize) -> Vec<u8> {
    // Does not compress, so that sizes mean something.
    (0..length).map(|_| rand::random()).collect()
}

fn a_layer_is_on_disk_once(world: &World) {
    let root = root(world);
    let before = usage(&root);
    let size = 8 << 20;
    let layer = Layer::default().file("noise", 0o644, &noise(size));
    let name = format!("once:{}", harness::tools::tag());
    world.load(&Image::busybox().layer(layer), &name);
    let grown = usage(&root).saturating_sub(before);
    assert!(grown < size as u64 * 5 / 4, "{grown} bytes on disk for {size}");
    world.run(&["tag", &name, "once-more:1"]).ok();
    world.run(&["run", "--rm", "--network", "none", &name, "true"]).ok();
    assert!(usage(&root).saturating_sub(before) < size as u64 * 5 / 4);
    world.run(&["rmi", "once-more:1", &name]).ok();
}

fn removed_images_give_their_space_back(world: &World) {
    let root = root(world);
    let name = format!("space:{}", harness::tools::tag());
    let before = usage(&root);
    world.load(
        &Image::busybox().layer(Layer::default().file("noise", 0o644, &noise(4 << 20))),
        &name,
    );
    assert!(usage(&root) > before + (3 << 20));
    world.run(&["rmi", &name]).ok();
    eventually("the space is free again", 10, || usage(&root) < before + (1 << 20));
}

fn sparse_files_take_no_space(world: &World) {
    let root = root(world);
    let folder = Folder::new("sparse");
    std::fs::File::create(folder.at("hole"))
        .unwrap()
        .set_len(200 << 20)
        .unwrap();
    let tar = folder.at("layer.tar");
    harness::process::Run::new(
        "tar".as_ref(),
        &["--sparse", "-C", folder.path().to_str().unwrap(), "-cf", &tar, "hole"],
    )
    .output()
    .ok();
    let mut image = Image::busybox();
    image.layers.push(std::fs::read(&tar).unwrap());
    let name = format!("sparse:{}", harness::tools::tag());
    let before = usage(&root);
    world.load(&image, &name);
    assert!(usage(&root) < before + (20 << 20), "a hole of 200 MiB takes space");
    assert_eq!(
        world
            .run(&["run", "--rm", "--network", "none", &name, "stat", "-c", "%s", "/hole"])
            .ok(),
        (200 << 20).to_string()
    );
    world.run(&["rmi", &name]).ok();
}

fn save_gives_the_exact_layers_back(world: &World) {
    if world.is_foreign() {
        harness::suite::skip("Docker refuses a layer that names a path twice");
    }
    let folder = Folder::new("exact");
    // Dialects and oddities of tar that a rewritten archive would lose.
    let layer = Layer::default()
        .folder("dir", 0o2755)
        .file("dir/first", 0o600, b"1")
        .file("dir/first", 0o644, b"again, with other bytes")
        .symlink("dir/link", "first")
        .hardlink("dir/hard", "dir/first", 0o644, (0, 0))
        .pax("SCHILY.xattr.user.colour", b"blue")
        .file("coloured", 0o644, b"xattr")
        .file(&format!("{}/{}", "n".repeat(90), "m".repeat(150)), 0o644, b"long");
    let image = Image::busybox().layer(layer);
    let name = format!("exact:{}", harness::tools::tag());
    world.load(&image, &name);
    let file = folder.at("saved.tar");
    world.run(&["save", "-o", &file, &name]).ok();
    let saved = std::fs::read(&file).unwrap();
    let all = entries(&saved);
    for layer in &image.layers {
        assert!(
            all.iter().any(|(_, bytes)| bytes == layer),
            "a layer of {} bytes is not in the archive, byte for byte",
            layer.len()
        );
    }
    assert!(
        all.iter().any(|(_, bytes)| *bytes == image.config_bytes()),
        "the config is the same"
    );
    world.run(&["rmi", &name]).ok();
}

fn several_images_in_one_archive(world: &World) {
    let folder = Folder::new("several");
    let names: Vec<String> = (0..3)
        .map(|number| format!("several-{number}:{}", harness::tools::tag()))
        .collect();
    for name in &names {
        world.load(
            &Image::busybox().layer(Layer::default().file("name", 0o644, name.as_bytes())),
            name,
        );
    }
    let file = folder.at("all.tar");
    world.run(&["save", "-o", &file, &names[0], &names[1], &names[2]]).ok();
    world.run(&["rmi", &names[0], &names[1], &names[2]]).ok();
    let out = world.run(&["load", "-i", &file]).ok();
    for name in &names {
        assert!(out.contains(&format!("Loaded image: {name}")), "{out}");
        assert_eq!(
            world
                .run(&["run", "--rm", "--network", "none", name, "cat", "/name"])
                .ok(),
            *name
        );
    }
    world.run(&["rmi", &names[0], &names[1], &names[2]]).ok();
}

fn big_layer_comes_and_goes(world: &World) {
    let bytes = noise(64 << 20);
    let sum = digest(&bytes);
    let name = format!("big:{}", harness::tools::tag());
    world.load(
        &Image::busybox().layer(Layer::default().file("big", 0o644, &bytes)),
        &name,
    );
    let out = world
        .run(&["run", "--rm", "--network", "none", &name, "sha256sum", "/big"])
        .ok();
    assert_eq!(out.split(' ').next(), Some(&sum[7..]));
    world.run(&["rmi", &name]).ok();
}
