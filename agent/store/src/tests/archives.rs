//! Load, save, import, export.

use super::build::{Tar, gzip, head};
use super::{names, open};
use crate::*;
use std::collections::BTreeMap;
use std::sync::Arc;

fn options() -> LoadOptions<'static> {
    LoadOptions {
        normalise: &|name| (!name.contains(' ')).then(|| format!("docker.io/library/{name}")),
        architecture: "amd64".to_owned(),
        variant: String::new(),
        only: false,
    }
}

fn load(store: &Store, archive: &[u8]) -> Result<Loaded> {
    store.archive().load(archive, &options(), &mut |_| {})
}

fn save(store: &Store, images: &[Arc<Image>]) -> Vec<u8> {
    let images: Vec<SaveImage> = images
        .iter()
        .map(|image| {
            let familiar = |n: &String| n.rsplit('/').next().unwrap().to_owned();
            let names = image
                .names
                .iter()
                .map(|n| SaveName {
                    familiar: familiar(n),
                    normalised: n.clone(),
                })
                .collect();
            SaveImage {
                image: image.clone(),
                names,
            }
        })
        .collect();
    let mut archive = Vec::new();
    store.archive().save(&images, &mut archive).unwrap();
    archive
}

fn config(layers: &[&[u8]], architecture: &str) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|l| Digest::of(l).to_string()).collect();
    serde_json::to_vec(&serde_json::json!({
        "architecture": architecture, "os": "linux", "created": "2020-01-02T03:04:05Z",
        "config": {"Cmd": ["/bin/sh"], "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }))
    .unwrap()
}

fn layer(n: u8) -> Vec<u8> {
    Tar::new()
        .file(&format!("file-{n}"), &[n; 3000])
        .file("shared", &[n; 10])
        .end()
}

/// As skopeo writes it: layers by diff id, links for the old layout, documents last.
fn docker_archive(layers: &[&[u8]], tags: &[&str]) -> Vec<u8> {
    let config = config(layers, "amd64");
    let id = Digest::of(&config);
    let files: Vec<String> = layers.iter().map(|l| format!("{}.tar", Digest::of(l).hex())).collect();
    let mut tar = Tar::new();
    for (file, layer) in files.iter().zip(layers) {
        tar = tar.file(file, layer);
    }
    tar = tar.file(&format!("{}.json", id.hex()), &config);
    let linked: Vec<String> = (0..files.len()).map(|n| format!("old{n}/layer.tar")).collect();
    for (link, file) in linked.iter().zip(&files) {
        tar = tar
            .symlink(link, &format!("../{file}"))
            .file(&link.replace("layer.tar", "VERSION"), b"1.0");
    }
    let manifest = serde_json::json!([{"Config": format!("{}.json", id.hex()), "RepoTags": tags, "Layers": linked}]);
    tar.file("manifest.json", manifest.to_string().as_bytes()).end()
}

struct Oci {
    blobs: BTreeMap<String, Vec<u8>>,
    index: Vec<serde_json::Value>,
}

impl Oci {
    fn new() -> Oci {
        Oci {
            blobs: BTreeMap::new(),
            index: Vec::new(),
        }
    }

    fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> serde_json::Value {
        let digest = Digest::of(&bytes);
        let descriptor = serde_json::json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        self.blobs.insert(format!("blobs/sha256/{}", digest.hex()), bytes);
        descriptor
    }

    fn image(&mut self, layers: &[&[u8]], architecture: &str) -> serde_json::Value {
        let config = self.blob(OCI_CONFIG, config(layers, architecture));
        let layers: Vec<_> = layers
            .iter()
            .map(|l| self.blob("application/vnd.oci.image.layer.v1.tar+gzip", gzip(l)))
            .collect();
        let manifest =
            serde_json::json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
        self.blob(OCI_MANIFEST, manifest.to_string().into_bytes())
    }

    fn archive(&self) -> Vec<u8> {
        let mut tar = Tar::new().dir("blobs/").dir("blobs/sha256/");
        for (path, bytes) in &self.blobs {
            tar = tar.file(path, bytes);
        }
        let index = serde_json::json!({"schemaVersion": 2, "manifests": self.index});
        tar.file("index.json", index.to_string().as_bytes())
            .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
            .end()
    }
}

fn nothing_left(store: &Store) {
    assert!(store.images().list().is_empty());
    assert!(names(store, "layers").is_empty() && names(store, "tmp").is_empty());
}

#[test]
fn a_docker_archive_loads_compressed_or_not_and_saves_to_both_layouts() {
    let temp = tempfile::tempdir().unwrap();
    let (one, two, empty) = (layer(1), layer(2), vec![0; 1024]);
    // The same layer twice: chain ids differ, so each has its own place.
    let layers: [&[u8]; 4] = [&one, &two, &empty, &empty];
    let archive = docker_archive(&layers, &["app:1", "app:2"]);
    for (name, bytes) in [
        ("plain", archive.clone()),
        ("gzip", gzip(&archive)),
        ("zstd", zstd::encode_all(archive.as_slice(), 1).unwrap()),
    ] {
        let (store, _) = open(&temp.path().join(name));
        let mut events = Vec::new();
        let loaded = store
            .archive()
            .load(bytes.as_slice(), &options(), &mut |e| events.push(e))
            .unwrap();
        assert_eq!(
            events
                .iter()
                .filter(|e| matches!(e, LoadEvent::LayerDone { .. }))
                .count(),
            4,
            "{name}"
        );
        let [image] = loaded.images.as_slice() else { panic!() };
        assert_eq!(image.names, ["docker.io/library/app:1", "docker.io/library/app:2"]);
        assert_eq!(image.image.parsed.config.env, Some(vec!["A=b".to_owned()]));
        assert_eq!(names(&store, "layers").len(), 4);
        assert_eq!(
            store.images().get("docker.io/library/app:2").unwrap().id,
            image.image.id
        );

        let saved = save(&store, std::slice::from_ref(&image.image));
        let (again, _) = open(&temp.path().join(format!("{name}-again")));
        let back = load(&again, &saved).unwrap();
        assert_eq!(back.images[0].image.id, image.image.id);
        assert_eq!(back.images[0].names, image.names);
        // What was saved names its own manifest; saving it again gives the same bytes.
        assert!(back.images[0].image.manifest.is_some());
        assert!(save(&again, std::slice::from_ref(&back.images[0].image)) == saved);
        // Without manifest.json it is an OCI layout still.
        let (oci, _) = open(&temp.path().join(format!("{name}-oci")));
        let renamed = replace(&saved, b"manifest.json", b"manifest.jsox");
        let back = store_names(&load(&oci, &renamed).unwrap());
        assert_eq!(
            back,
            [
                "docker.io/library/docker.io/library/app:1",
                "docker.io/library/docker.io/library/app:2"
            ]
        );
        // Once more into a store that has it: nothing is unpacked, nothing changes.
        let before = names(&store, "layers");
        assert!(load(&store, &saved).unwrap().images[0].renamed.is_empty());
        assert_eq!(names(&store, "layers"), before);
    }
}

fn store_names(loaded: &Loaded) -> Vec<String> {
    loaded.images.iter().flat_map(|i| i.names.clone()).collect()
}

/// Renames an entry of a tar (same length), with a new checksum.
fn replace(tar: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut tar = tar.to_vec();
    for block in tar.chunks_exact_mut(512) {
        if block.starts_with(from) && block[257..].starts_with(b"ustar") {
            block[..to.len()].copy_from_slice(to);
            let mut header: [u8; 512] = block.try_into().unwrap();
            super::build::sum(&mut header);
            block.copy_from_slice(&header);
        }
    }
    tar
}

#[test]
fn an_oci_archive_gives_the_image_of_our_platform() {
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = open(temp.path());
    let (ours, theirs) = (layer(1), layer(2));
    let mut oci = Oci::new();
    let mut arm = oci.image(&[&theirs], "arm64");
    arm["platform"] = serde_json::json!({"os": "linux", "architecture": "arm64"});
    let mut amd = oci.image(&[&ours], "amd64");
    amd["platform"] = serde_json::json!({"os": "linux", "architecture": "amd64"});
    let mut attestation = oci.image(&[], "unknown");
    attestation["annotations"] = serde_json::json!({"vnd.docker.reference.type": "attestation-manifest"});
    let nested =
        serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [attestation, arm, amd.clone()]});
    let mut nested = oci.blob(OCI_INDEX, nested.to_string().into_bytes());
    nested["annotations"] =
        serde_json::json!({"io.containerd.image.name": "multi:1", "org.opencontainers.image.ref.name": "1"});
    oci.index.push(nested);
    let loaded = load(&store, &oci.archive()).unwrap();
    let [one] = loaded.images.as_slice() else { panic!() };
    assert_eq!(one.image.parsed.architecture, "amd64");
    assert_eq!(one.names, ["docker.io/library/multi:1"]);
    assert_eq!(
        one.image.manifest.as_ref().unwrap().digest.as_str(),
        amd["digest"].as_str().unwrap()
    );
    let layer = store.layers().get(&one.image.chain[0]).unwrap();
    assert_eq!(layer.sources[0].digest, Digest::of(&gzip(&ours)));
    assert_eq!(
        names(&store, "layers").len(),
        1,
        "the other platform's layer is not kept"
    );
    store.settle();
    assert!(names(&store, "trash").is_empty());
}

#[test]
fn a_name_moves_to_the_image_that_was_loaded_last() {
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = open(temp.path());
    let (one, two) = (layer(1), layer(2));
    let first = load(&store, &docker_archive(&[&one], &["app:1"]))
        .unwrap()
        .images
        .remove(0);
    let second = load(&store, &docker_archive(&[&one, &two], &["app:1"]))
        .unwrap()
        .images
        .remove(0);
    assert_eq!(
        second.renamed,
        [("docker.io/library/app:1".to_owned(), first.image.id.clone())]
    );
    assert!(store.images().by_id(&first.image.id).unwrap().names.is_empty());
    assert_eq!(names(&store, "layers").len(), 2, "the bottom layer is shared");

    // Both in one archive.
    let saved = save(&store, &[first.image.clone(), second.image.clone()]);
    let (other, _) = open(&temp.path().join("other"));
    assert_eq!(load(&other, &saved).unwrap().images.len(), 2);

    let removed = store.images().remove(&second.image.id).unwrap();
    assert_eq!(removed.layers, [second.image.chain[1].clone()]);
    store.images().remove(&first.image.id).unwrap();
    nothing_left(&store);
}

#[test]
fn folders_that_a_layer_does_not_mention_are_as_below() {
    use std::os::unix::fs::MetadataExt;
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = open(temp.path());
    let base = Tar::new()
        .head(&head("./", b'5').mode(0o711).owner(1, 2))
        .head(&head("tmp/", b'5').mode(0o1777).owner(3, 4))
        .head(&head("gone/", b'5').mode(0o700))
        .end();
    let middle = Tar::new().file("other/x", b"").file(".wh.gone", b"").end();
    let top = Tar::new()
        .file("tmp/f", b"")
        .file("gone/f", b"")
        .file("other/f", b"")
        .end();
    let image = load(&store, &docker_archive(&[&base, &middle, &top], &["app:1"]))
        .unwrap()
        .images
        .remove(0)
        .image;
    let look = |layer: usize, path: &str| {
        let meta = std::fs::metadata(store.layers().tree(&image.chain[layer]).join(path)).unwrap();
        (meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.mtime())
    };
    assert_eq!(look(2, "tmp"), (0o1777, 3, 4, 1_600_000_000));
    assert_eq!(look(1, ""), (0o711, 1, 2, 1_600_000_000));
    assert_eq!(look(2, ""), (0o711, 1, 2, 1_600_000_000));
    assert_eq!(look(2, "gone"), (0o755, 0, 0, 0), "hidden by a whiteout in between");
    assert_eq!(look(2, "other"), (0o755, 0, 0, 0));
    let rw = store.snapshots().create("c", &image.chain).unwrap();
    assert_eq!(std::fs::metadata(rw.upper).unwrap().mode() & 0o7777, 0o711);
    for chain in &image.chain {
        assert!(!store.layers().tree(chain).with_file_name("implied").exists());
    }
}

#[test]
fn wrong_archives_are_refused_with_nothing_left_behind() {
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = open(&temp.path().join("root"));
    let (one, two) = (layer(1), layer(2));
    let good = docker_archive(&[&one], &["app:1"]);
    let manifest = |value: serde_json::Value| {
        let config = config(&[&one], "amd64");
        Tar::new()
            .file("l.tar", &one)
            .file("c.json", &config)
            .file("manifest.json", value.to_string().as_bytes())
            .end()
    };
    let mut wrong_blob = Oci::new();
    let descriptor = wrong_blob.image(&[&one], "amd64");
    wrong_blob.index.push(descriptor);
    let mut missing_blob = Oci {
        blobs: wrong_blob.blobs.clone(),
        index: wrong_blob.index.clone(),
    };
    let gz = gzip(&one);
    let path = format!("blobs/sha256/{}", Digest::of(&gz).hex());
    missing_blob.blobs.remove(&path);
    wrong_blob.blobs.insert(path, gzip(&two));
    let mut only_arm = Oci::new();
    let mut arm = only_arm.image(&[&one], "arm64");
    arm["platform"] = serde_json::json!({"os": "linux", "architecture": "arm64"});
    let nested = serde_json::json!({"schemaVersion": 2, "manifests": [arm]});
    let nested = only_arm.blob(OCI_INDEX, nested.to_string().into_bytes());
    only_arm.index.push(nested);
    let mut artifact = Oci::new();
    let descriptor = artifact.blob("application/vnd.example", b"{}".to_vec());
    artifact.index.push(descriptor);
    let evil = Tar::new().file("../../evil", b"x").end();
    for (name, archive, says) in [
        ("nothing", Vec::new(), "empty"),
        ("an empty tar", vec![0; 1024], "empty"),
        ("noise", b"noise".repeat(1000), "checksum"),
        ("a root file system", one.clone(), "import"),
        ("cut short", good[..good.len() - 1546].to_vec(), "middle of a"),
        ("cut in a layer", good[..2000].to_vec(), "middle of a file"),
        ("bzip2", b"BZh91AY&SY".to_vec(), "cannot read"),
        (
            "garbage JSON",
            Tar::new().file("manifest.json", b"[{\"Config\":").end(),
            "parse",
        ),
        (
            "no configuration",
            manifest(serde_json::json!([{"Config": "x", "RepoTags": null, "Layers": ["l.tar"]}])),
            "lacks the configuration",
        ),
        (
            "no layer",
            manifest(serde_json::json!([{"Config": "c.json", "Layers": ["x.tar"]}])),
            "lacks layer",
        ),
        (
            "too few layers",
            manifest(serde_json::json!([{"Config": "c.json", "Layers": []}])),
            "expected 0, got 1",
        ),
        (
            "too many layers",
            manifest(serde_json::json!([{"Config": "c.json", "Layers": ["l.tar", "l.tar"]}])),
            "expected 2, got 1",
        ),
        (
            "a bad name",
            manifest(serde_json::json!([{"Config": "c.json", "RepoTags": ["a b"], "Layers": ["l.tar"]}])),
            "not a valid reference",
        ),
        (
            "a path above the archive",
            manifest(serde_json::json!([{"Config": "../../c.json", "Layers": ["l.tar"]}])),
            "lacks the configuration",
        ),
        (
            "another layer's content",
            {
                let config = config(&[&one], "amd64");
                let manifest = serde_json::json!([{"Config": "c.json", "Layers": ["l.tar"]}]).to_string();
                Tar::new()
                    .file("l.tar", &two)
                    .file("c.json", &config)
                    .file("manifest.json", manifest.as_bytes())
                    .end()
            },
            "as announced",
        ),
        ("a blob of another digest", wrong_blob.archive(), "as announced"),
        (
            "a blob name that is no digest",
            Tar::new().file("blobs/sha256/zz", b"{}").end(),
            "not a digest",
        ),
        ("a missing blob", missing_blob.archive(), "lacks layer"),
        ("only another platform", only_arm.archive(), "no image for linux/amd64"),
        ("an artifact", artifact.archive(), "unsupported media type"),
        ("a hostile layer", docker_archive(&[&evil], &["app:1"]), "outside"),
        (
            "a name above the archive",
            Tar::new().file("../manifest.json", b"[]").end(),
            "outside",
        ),
        (
            "a link above the archive",
            Tar::new().symlink("manifest.json", "../../etc/passwd").end(),
            "outside",
        ),
        (
            "a link loop",
            Tar::new().symlink("manifest.json", "manifest.json").end(),
            "neither",
        ),
        ("Docker 1.9", Tar::new().file("repositories", b"{}").end(), "1.9"),
    ] {
        let error = match load(&store, &archive) {
            Ok(_) => panic!("{name}: taken"),
            Err(error) => error,
        };
        assert!(error.to_string().contains(says), "{name}: {error}");
        assert!(error.kind() == Kind::Invalid, "{name}: {error:?}");
        nothing_left(&store);
    }
    assert!(!temp.path().join("evil").exists());
    load(&store, &good).unwrap();
}

#[test]
fn import_makes_an_image_and_export_gives_the_merged_view() {
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = open(temp.path());
    let tar = Tar::new()
        .dir("bin/")
        .entry(head("bin/sh", b'0').mode(0o4755).owner(1, 2), b"#!")
        .hard_link("bin/bash", "bin/sh")
        .symlink("link", "/bin/sh")
        .pax(&[("mtime", b"1000.5"), ("SCHILY.xattr.user.a", b"b")])
        .file("attributes", b"1")
        .head(&head("null", b'3').mode(0o666).device(1, 3))
        .file("gone", b"")
        .end();
    let image = store
        .archive()
        .import(
            gzip(&tar).as_slice(),
            ImportOptions {
                names: vec!["docker.io/library/imported:latest".to_owned()],
                message: "Imported from -".to_owned(),
                architecture: "amd64".to_owned(),
                created: "2024-01-01T00:00:00Z".to_owned(),
                ..ImportOptions::default()
            },
        )
        .unwrap();
    assert_eq!(image.parsed.comment, "Imported from -");
    assert_eq!(image.names, ["docker.io/library/imported:latest"]);
    let rw = store.snapshots().create("c1", &image.chain).unwrap();
    std::fs::write(rw.upper.join("added"), b"new").unwrap();
    nix::sys::stat::mknod(
        &rw.upper.join("gone"),
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::empty(),
        0,
    )
    .unwrap();
    assert_eq!(store.snapshots().size("c1").unwrap(), 3);

    let mut exported = Vec::new();
    store
        .archive()
        .export(&rw.lower, Some(&rw.upper), &ExportOptions::default(), &mut exported)
        .unwrap();
    let (other, _) = open(&temp.path().join("other"));
    let again = other
        .archive()
        .import(exported.as_slice(), ImportOptions::default())
        .unwrap();
    let tree = other.layers().tree(&again.chain[0]);
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let look = |name: &str| std::fs::symlink_metadata(tree.join(name)).unwrap();
    assert_eq!(look("bin/sh").mode() & 0o7777, 0o4755);
    assert_eq!(
        (look("bin/sh").uid(), look("bin/sh").gid(), look("bin/sh").nlink()),
        (1, 2, 2)
    );
    assert_eq!(look("bin/sh").ino(), look("bin/bash").ino());
    assert!(look("link").is_symlink());
    assert!(look("null").file_type().is_char_device());
    assert_eq!(
        (look("attributes").mtime(), look("attributes").mtime_nsec()),
        (1000, 500_000_000)
    );
    assert_eq!(std::fs::read(tree.join("added")).unwrap(), b"new");
    assert!(!tree.join("gone").exists());

    // The writable layer keeps the read-only one alive.
    assert!(store.images().remove(&image.id).unwrap().layers.is_empty());
    store.snapshots().remove("c1").unwrap();
    assert_eq!(store.gc().unwrap().layers, image.chain);
}

/// An index of amd64 and two of arm, below the one name.
fn several(oci: &mut Oci) -> serde_json::Value {
    let mut manifests = Vec::new();
    for (n, (architecture, variant)) in [("amd64", ""), ("arm", "v6"), ("arm", "v7")].into_iter().enumerate() {
        let mut one = oci.image(&[&layer(n as u8)], architecture);
        one["platform"] = serde_json::json!({"os": "linux", "architecture": architecture, "variant": variant});
        manifests.push(one);
    }
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    let mut index = oci.blob(OCI_INDEX, index.to_string().into_bytes());
    index["annotations"] = serde_json::json!({"io.containerd.image.name": "several:1"});
    index
}

#[test]
fn the_platform_that_is_asked_for_is_loaded_alone() {
    let loaded = |archive: &[u8], architecture: &str, variant: &str| {
        let temp = tempfile::tempdir().unwrap();
        let (store, _) = open(temp.path());
        let options = LoadOptions {
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            only: true,
            ..options()
        };
        let loaded = store.archive().load(archive, &options, &mut |_| {});
        let kept = names(&store, "layers").len();
        let seen = |one: &LoadedImage| {
            assert_eq!(kept, 1, "what was not asked for is not kept");
            (
                one.image.parsed.architecture.clone(),
                one.image.parsed.rootfs.diff_ids[0].clone(),
                one.names.clone(),
            )
        };
        match &loaded {
            Ok(loaded) => Ok(loaded.images.iter().map(seen).collect::<Vec<_>>()),
            Err(error) => {
                assert_eq!((error.kind(), kept), (Kind::Invalid, 0));
                Err(error.to_string())
            }
        }
    };
    let mut oci = Oci::new();
    let index = several(&mut oci);
    oci.index.push(index);
    let archive = oci.archive();
    for (architecture, variant, n) in [("amd64", "", 0), ("arm", "v6", 1), ("arm", "v7", 2), ("arm", "", 1)] {
        let expected = (
            architecture.to_owned(),
            Digest::of(&layer(n)),
            vec!["docker.io/library/several:1".to_owned()],
        );
        assert_eq!(
            loaded(&archive, architecture, variant),
            Ok(vec![expected]),
            "{architecture} {variant}"
        );
    }
    let words = "the image archive has no image for linux/arm64, only for linux/amd64, linux/arm/v6, linux/arm/v7";
    assert_eq!(loaded(&archive, "arm64", ""), Err(words.to_owned()));
    // What the descriptor does not say, the configuration does.
    let mut oci = Oci::new();
    let plain = oci.image(&[&layer(7)], "amd64");
    oci.index.push(plain);
    let archive = oci.archive();
    assert_eq!(loaded(&archive, "amd64", "").unwrap().len(), 1);
    let words = "the image archive has no image for linux/arm/v7, only for linux/amd64";
    assert_eq!(loaded(&archive, "arm", "v7"), Err(words.to_owned()));
    // Docker's own list beside the index has the platform of the machine that saved it.
    let mut oci = Oci::new();
    let index = several(&mut oci);
    oci.index.push(index);
    let (tar, config) = (layer(9), config(&[&layer(9)], "amd64"));
    let list = serde_json::json!([{"Config": "c.json", "RepoTags": ["listed:1"], "Layers": ["l.tar"]}]).to_string();
    let more = Tar::new().file("l.tar", &tar).file("c.json", &config);
    let more = more.file("manifest.json", list.as_bytes()).end();
    let archive = oci.archive();
    let both = [&archive[..archive.len() - 1024], &more].concat();
    assert_eq!(loaded(&both, "arm", "v7").unwrap()[0].1, Digest::of(&layer(2)));
    let only_list = [&more[..]].concat();
    assert_eq!(
        loaded(&only_list, "amd64", "").unwrap()[0].2,
        ["docker.io/library/listed:1"]
    );
    assert!(loaded(&only_list, "arm64", "").is_err());
}
