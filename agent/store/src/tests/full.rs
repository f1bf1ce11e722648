//! A disk that is full.

use super::build::Tar;
use super::{names, open, unpack};
use crate::*;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::path::PathBuf;

/// A small file system of its own, in the mount namespace of the test process.
struct Small(PathBuf);

impl Small {
    fn new(path: PathBuf, size: &str) -> Small {
        std::fs::create_dir(&path).unwrap();
        let options = format!("size={size}");
        mount(
            Some("tmpfs"),
            &path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .unwrap();
        Small(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let disk = Small::new(temp.path().join("disk"), "6m");
    let (store, _) = open(&disk.0.join("root"));
    let small = Tar::new().file("small", &[1; 1000]).end();
    let large = (0..20)
        .fold(Tar::new(), |tar, n| tar.file(&format!("large{n}"), &vec![n; 500_000]))
        .end();
    let before = unpack(&store, &small, &small).unwrap();
    let error = unpack(&store, &large, &large).unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace, "{error:?}");
    store.settle();
    assert!(names(&store, "tmp").is_empty() && names(&store, "trash").is_empty());
    assert_eq!(names(&store, "layers").len(), 1);
    // What was there still works, and so does what fits.
    assert!(super::rebuilt(&store, &before) == small);
    let other = Tar::new().file("other", &[2; 1000]).end();
    unpack(&store, &other, &other).unwrap();
}

/// Takes all the room there is, and gives it back.
struct Ballast(PathBuf);

impl Ballast {
    fn new(disk: &Small) -> Ballast {
        let path = disk.0.join("ballast");
        let mut file = std::fs::File::create(&path).unwrap();
        for portion in [vec![0; 1 << 16], vec![0; 1]] {
            while std::io::Write::write_all(&mut file, &portion).is_ok() {}
        }
        Ballast(path)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// A batch with one record of about 10 KiB.
fn record(key: usize) -> Batch {
    let mut batch = Batch::new();
    batch.put("t", &format!("{key:06}"), vec![key as u8; 10_000]);
    batch
}

/// Adds records until one is refused; how many there are then.
fn fill(store: &Store, from: usize) -> usize {
    for key in from..from + 5_000 {
        if let Err(error) = store.db().commit_blocking(record(key)) {
            assert_eq!(error.kind(), Kind::NoSpace, "{error:?}");
            let text = error.to_string();
            assert!(text.contains("no space left") && text.contains("meta.redb"), "{text}");
            return key;
        }
    }
    panic!("a full disk took 50 MB of records");
}

#[test]
fn a_full_disk_refuses_new_records_and_takes_removals() {
    let temp = tempfile::tempdir().unwrap();
    let disk = Small::new(temp.path().join("disk"), "24m");
    let (store, _) = open(&disk.0.join("root"));
    store.db().commit_blocking(record(0)).unwrap();
    let ballast = Ballast::new(&disk);
    let count = fill(&store, 1);
    // What is there can be read and changed, and goes, although there is no room at all.
    assert_eq!(store.db().scan("t").unwrap().len(), count);
    let mut changed = Batch::new();
    changed.put("t", "000000", vec![7; 10_000]);
    store.db().commit_blocking(changed).unwrap();
    for key in 1..count {
        let mut batch = Batch::new();
        batch.delete("t", &format!("{key:06}"));
        store.db().commit_blocking(batch).unwrap();
    }
    assert_eq!(store.db().scan("t").unwrap().len(), 1);
    // A restart on the full disk loses nothing, and removals still work.
    drop(store);
    let (store, _) = open(&disk.0.join("root"));
    assert_eq!(store.db().get("t", "000000").unwrap(), Some(vec![7; 10_000]));
    let mut batch = Batch::new();
    batch.delete("t", "000000");
    store.db().commit_blocking(batch).unwrap();
    drop(ballast);
    for key in 0..count {
        store.db().commit_blocking(record(key)).unwrap();
    }
    assert_eq!(store.db().scan("t").unwrap().len(), count);
}

#[tokio::test]
async fn what_nobody_waits_for_is_written_when_there_is_room_again() {
    let temp = tempfile::tempdir().unwrap();
    let disk = Small::new(temp.path().join("disk"), "24m");
    let (store, _) = open(&disk.0.join("root"));
    let ballast = Ballast::new(&disk);
    let count = fill(&store, 0);
    let kept = store.db().commit_soon(record(count));
    let taken_back = store.db().commit_soon(record(count + 1));
    let mut batch = Batch::new();
    batch.delete("t", &format!("{:06}", count + 1));
    store.db().commit_blocking(batch).unwrap();
    assert_eq!(store.db().get("t", &format!("{count:06}")).unwrap(), None);
    taken_back.await.unwrap();
    // Not everything before it is on the disk.
    assert_eq!(store.db().commit(Batch::new()).await.unwrap_err().kind(), Kind::NoSpace);
    drop(ballast);
    kept.await.unwrap();
    let there = |key: usize| store.db().get("t", &format!("{key:06}")).unwrap().is_some();
    assert!(there(count) && !there(count + 1));
}
