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
