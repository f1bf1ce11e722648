//! `kill -9` at any moment: after the next start everything is whole or gone, and nothing is without an owner.
#![allow(clippy::unwrap_used)]

use agent_store::{Digest, Hasher, LoadOptions, SaveImage, SaveName, Store, StoreConfig};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const ROOT: &str = "STORE_CRASH_ROOT";
const ROUNDS: u64 = 25;

fn options() -> LoadOptions<'static> {
    LoadOptions {
        normalise: &|name| Some(name.to_owned()),
        architecture: "amd64".to_owned(),
        variant: String::new(),
        only: false,
    }
}

/// An image of some layers with many small files, as `docker save` writes it.
fn archive() -> Vec<u8> {
    let layer = |n: usize| {
        let mut tar = tar::Builder::new(Vec::new());
        for file in 0..60 {
            let data = vec![n as u8; file * 37];
            let mut header = tar::Header::new_ustar();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("dir{n}/{}/file{file}", file % 7), data.as_slice())
                .unwrap();
        }
        tar.into_inner().unwrap()
    };
    let layers: Vec<Vec<u8>> = (0..4).map(layer).collect();
    let diff_ids: Vec<String> = layers.iter().map(|l| Digest::of(l).to_string()).collect();
    let config =
        serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let manifest = serde_json::json!([{"Config": "c.json", "RepoTags": ["crash:1"], "Layers": names}]);
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, data: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        tar.append_data(&mut header, name, data).unwrap();
    };
    for (name, layer) in names.iter().zip(&layers) {
        add(name, layer);
    }
    add("c.json", config.to_string().as_bytes());
    add("manifest.json", manifest.to_string().as_bytes());
    tar.into_inner().unwrap()
}

/// Not a test of its own: what the process does that is killed.
#[test]
fn child() {
    let Ok(root) = std::env::var(ROOT) else { return };
    let (store, _) = Store::open(StoreConfig::new(root)).unwrap();
    let archive = archive();
    for round in 0.. {
        let loaded = store
            .archive()
            .load(archive.as_slice(), &options(), &mut |_| {})
            .unwrap();
        let image = &loaded.images[0].image;
        let id = format!("container-{}-{round}", std::process::id());
        store.snapshots().create(&id, &image.chain).unwrap();
        store.images().tag(&image.id, &format!("other:{}", round % 3)).unwrap();
        let names = vec![SaveName {
            familiar: "crash:1".to_owned(),
            normalised: "crash:1".to_owned(),
        }];
        store
            .archive()
            .save(
                &[SaveImage {
                    image: image.clone(),
                    names,
                }],
                std::io::sink(),
            )
            .unwrap();
        if round % 3 > 0 {
            store.snapshots().remove(&id).unwrap();
        }
        store.images().remove(&image.id).unwrap();
        store.gc().unwrap();
    }
}

fn names(root: &Path, folder: &str) -> BTreeSet<String> {
    std::fs::read_dir(root.join(folder))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_store_killed_while_it_is_made_opens() {
    let temp = tempfile::tempdir().unwrap();
    let mut unborn = 0;
    for round in 0..30u64 {
        let root = temp.path().join(round.to_string());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child"])
            .env(ROOT, &root)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // From the moment when the folder is there, in steps of half a millisecond.
        while !root.exists() {
            std::thread::sleep(Duration::from_micros(100));
        }
        std::thread::sleep(Duration::from_micros(round * 500));
        child.kill().unwrap();
        child.wait().unwrap();
        unborn += u32::from(!root.join("meta.redb").exists());
        Store::open(StoreConfig::new(&root)).unwrap();
        assert!(!root.join("meta.new").exists() || root.join("meta.redb").exists());
    }
    eprintln!("{unborn} of 30 had no database yet");
}

#[test]
fn a_killed_store_is_whole_after_the_next_start() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("root");
    let (mut orphans, mut images) = (0, 0);
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(ROOT, &root)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Spread over the first loads and everything after them.
        std::thread::sleep(Duration::from_millis(15 + round * round * 7 % 389));
        assert!(child.try_wait().unwrap().is_none(), "it must die by our hand");
        child.kill().unwrap();
        child.wait().unwrap();

        let (store, recovered) = Store::open(StoreConfig::new(&root)).unwrap();
        assert!(
            recovered.lost_images.is_empty() && recovered.lost_layers.is_empty(),
            "{recovered:?}"
        );
        orphans += recovered.orphans.len();
        images += store.images().count();
        assert!(names(&root, "tmp").is_empty());
        let layers: BTreeSet<String> = store
            .layers()
            .list()
            .iter()
            .map(|l| l.chain.digest().hex().to_owned())
            .collect();
        assert_eq!(names(&root, "layers"), layers);
        assert_eq!(names(&root, "rw"), store.snapshots().list().into_iter().collect());
        for layer in store.layers().list() {
            let mut hasher = Hasher::sha256();
            store.layers().tar(&layer.chain).unwrap().write_to(&mut hasher).unwrap();
            assert_eq!(hasher.finish(), layer.diff_id);
        }
        for image in store.images().list() {
            assert!(image.chain.iter().all(|c| store.layers().get(c).is_some()));
        }
        for id in store.snapshots().list() {
            assert!(store.snapshots().get(&id).unwrap().lower.iter().all(|l| l.is_dir()));
        }
        store.settle();
        assert!(names(&root, "trash").is_empty());
    }
    // The moments were spread: some hit work in progress, some found an image.
    eprintln!("{ROUNDS} kills: {orphans} folders were cleared away, {images} images were found whole");
    assert!(orphans > 0 && images > 0, "{orphans} {images}");
}
