//! What a layer's tree looks like, asked from the kernel.

use super::build::{Tar, gzip, head};
use super::{names, open, rebuilt, unpack};
use crate::*;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

fn tree(store: &Store, layer: &Layer) -> PathBuf {
    store.layers().tree(&layer.chain)
}

fn attributes(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let dir = fs::File::open(path.parent().unwrap()).unwrap();
    runtime_sys::xattr::all_at(dir.as_fd(), path.file_name().unwrap().as_encoded_bytes()).unwrap()
}

fn is_opaque(path: &Path) -> bool {
    attributes(path).contains(&(b"trusted.overlay.opaque".to_vec(), b"y".to_vec()))
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

#[test]
fn every_kind_of_entry_arrives_with_its_metadata() {
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = open(temp.path());
    let cap = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = Tar::new()
        .head(&head("./", b'5').mode(0o751))
        .head(&head("./d", b'5').mode(0o1777).owner(7, 8))
        .entry(head("./d/f", b'0').mode(0o4755).owner(70_000, 80_000), b"hello")
        .entry(head("./d/huge-ids", b'0').owner(4_000_000_000, 4_294_967_294), b"x")
        .head(&head("./d/l", b'2').mode(0o777).owner(3, 4).link("/etc/passwd"))
        .hard_link("h", "./d/f")
        .head(&head("dev/c", b'3').mode(0o666).device(1, 3))
        .head(&head("dev/b", b'4').mode(0o660).device(7, 300).owner(0, 6))
        .head(&head("dev/p", b'6').mode(0o600))
        .pax(&[
            ("mtime", b"1234567890.123456789"),
            ("SCHILY.xattr.user.note", b"a\0b"),
            ("SCHILY.xattr.security.capability", &cap),
        ])
        .file("pax", b"pax")
        .pax(&[("mtime", b"-5.5")])
        .dir("old")
        .file("old/inside", b"")
        .end();
    let layer = unpack(&store, &tar, &tar).unwrap();
    let tree = tree(&store, &layer);
    let look = |path: &str| {
        let m = fs::symlink_metadata(tree.join(path)).unwrap();
        (m.mode() & 0o7777, m.uid(), m.gid())
    };
    assert_eq!(look(""), (0o751, 0, 0));
    assert_eq!(look("d"), (0o1777, 7, 8));
    assert_eq!(look("d/f"), (0o4755, 70_000, 80_000));
    assert_eq!(look("d/huge-ids"), (0o644, 4_000_000_000, 4_294_967_294));
    assert_eq!(look("d/l"), (0o777, 3, 4));
    assert_eq!(fs::read_link(tree.join("d/l")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(
        fs::metadata(tree.join("h")).unwrap().ino(),
        fs::metadata(tree.join("d/f")).unwrap().ino()
    );
    assert_eq!(
        fs::symlink_metadata(tree.join("dev/c")).unwrap().rdev(),
        nix::libc::makedev(1, 3)
    );
    assert_eq!(look("dev/c").0, 0o666);
    assert_eq!(
        fs::symlink_metadata(tree.join("dev/b")).unwrap().rdev(),
        nix::libc::makedev(7, 300)
    );
    assert_eq!(look("dev/b"), (0o660, 0, 6));
    assert!(fs::symlink_metadata(tree.join("dev/p")).unwrap().file_type().is_fifo());
    assert_eq!(look("dev"), (0o755, 0, 0), "a missing parent is root's");
    let m = fs::metadata(tree.join("pax")).unwrap();
    assert_eq!((m.mtime(), m.mtime_nsec()), (1_234_567_890, 123_456_789));
    let set = attributes(&tree.join("pax"));
    assert!(set.contains(&(b"user.note".to_vec(), b"a\0b".to_vec())), "{set:?}");
    assert!(
        set.contains(&(b"security.capability".to_vec(), cap.to_vec())),
        "{set:?}"
    );
    let m = fs::metadata(tree.join("old")).unwrap();
    assert_eq!(
        (m.mtime(), m.mtime_nsec()),
        (-6, 500_000_000),
        "a directory's time survives what is made in it"
    );
    assert_eq!(fs::symlink_metadata(tree.join("d/l")).unwrap().mtime(), 1_600_000_000);
    assert_eq!((layer.entries, layer.bytes), (12, 9));
    assert_eq!(rebuilt(&store, &layer), tar);
}

#[test]
fn whiteouts_become_overlay_marks() {
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = open(temp.path());
    let tar = Tar::new()
        .file("a/.wh.gone", b"")
        .file("b/.wh..wh..opq", b"")
        .file("b/new", b"1")
        // The same layer's own content is not hidden by its whiteouts; a directory hides what is below it.
        .file("c", b"kept")
        .file(".wh.c", b"with content")
        .dir("d")
        .file("d/f", b"")
        .file(".wh.d", b"")
        .file(".wh.e", b"")
        .dir("e")
        .file(".wh.x", b"")
        .file("x", b"file after whiteout")
        .file(".wh..wh.plnk/1", b"aufs")
        .file(".wh..wh.aufs", b"aufs")
        .end();
    let layer = unpack(&store, &tar, &tar).unwrap();
    let tree = tree(&store, &layer);
    assert!(is_whiteout(&tree.join("a/gone")));
    assert!(is_opaque(&tree.join("b")) && tree.join("b/new").exists());
    assert_eq!(fs::read(tree.join("c")).unwrap(), b"kept");
    assert!(is_opaque(&tree.join("d")) && tree.join("d/f").exists());
    assert!(is_opaque(&tree.join("e")));
    assert!(!is_opaque(&tree.join("a")));
    assert_eq!(fs::read(tree.join("x")).unwrap(), b"file after whiteout");
    assert!(!tree.join(".wh..wh.aufs").exists());
    assert_eq!(rebuilt(&store, &layer), tar);
}

#[test]
fn later_entries_replace_earlier_ones_and_the_tar_still_comes_back() {
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = open(temp.path());
    let tar = Tar::new()
        .file("f", b"first")
        .hard_link("g", "f")
        .file("f", b"second, longer")
        .file("f", b"third")
        .file("d/one", b"one")
        .file("d/two", b"two")
        .symlink("d", "elsewhere")
        .dir("elsewhere")
        .file("d/through-link", b"via")
        .dir("d")
        .file("d/again", b"again")
        .file("d", b"now a file")
        .symlink("s", "f")
        .file("s", b"replaces the link, not its target")
        .end();
    let layer = unpack(&store, &tar, &tar).unwrap();
    let tree = tree(&store, &layer);
    assert_eq!(fs::read(tree.join("f")).unwrap(), b"third");
    assert_eq!(fs::read(tree.join("g")).unwrap(), b"first");
    assert_eq!(fs::read(tree.join("d")).unwrap(), b"now a file");
    assert_eq!(fs::read(tree.join("elsewhere/through-link")).unwrap(), b"via");
    assert_eq!(fs::read(tree.join("s")).unwrap(), b"replaces the link, not its target");
    assert_eq!(rebuilt(&store, &layer), tar);
}

#[test]
fn long_names_in_every_dialect() {
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = open(temp.path());
    let long = format!("{}/{}", "a".repeat(200), "b".repeat(200));
    let (gnu, pax) = (format!("gnu/{long}"), format!("pax/{long}"));
    let mut split = head("file", b'0');
    split.size = 3;
    let mut block = split.block();
    block[345..348].copy_from_slice(b"pre");
    super::build::sum(&mut block);
    let tar = Tar::new()
        .long(b'L', &gnu)
        .file("short", b"gnu")
        .long(b'L', "gnu-link")
        .long(b'K', &format!("/{gnu}"))
        .symlink("short", "short")
        .pax(&[("path", pax.as_bytes())])
        .file("short", b"pax")
        .pax(&[("path", b"pax-link"), ("linkpath", gnu.as_bytes())])
        .hard_link("short", "short")
        .raw(&block)
        .data(b"pre")
        .head(&head("v7-folder/", 0))
        .end();
    let layer = unpack(&store, &tar, &tar).unwrap();
    let tree = tree(&store, &layer);
    assert_eq!(fs::read(tree.join(&gnu)).unwrap(), b"gnu");
    assert_eq!(fs::read(tree.join(&pax)).unwrap(), b"pax");
    assert_eq!(fs::read(tree.join("pax-link")).unwrap(), b"gnu");
    assert_eq!(
        fs::read_link(tree.join("gnu-link")).unwrap(),
        Path::new(&format!("/{gnu}"))
    );
    assert_eq!(fs::read(tree.join("pre/file")).unwrap(), b"pre");
    assert!(tree.join("v7-folder").is_dir());
    assert_eq!(rebuilt(&store, &layer), tar);
}

#[test]
fn sparse_files_in_every_dialect() {
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = open(temp.path());
    let (one, two) = ([1u8; 512], [2u8; 100]);
    let data = [&one[..], &two[..]].concat();
    let real: u64 = 3 << 20;
    // Old GNU with an extension block: 4 parts in the header, the rest behind it.
    let mut gnu = head("gnu", b'S');
    gnu.gnu = true;
    gnu.size = data.len() as u64;
    let mut block = gnu.block();
    let pair = |at: u64, len: u64| format!("{at:011o}\0{len:011o}\0").into_bytes();
    for (n, (at, len)) in [(0, 0), (512, 512), (4096, 0), (8192, 0)].into_iter().enumerate() {
        block[386 + n * 24..410 + n * 24].copy_from_slice(&pair(at, len));
    }
    block[482] = 1;
    block[483..495].copy_from_slice(format!("{real:011o}\0").as_bytes());
    super::build::sum(&mut block);
    let mut extension = [0u8; 512];
    extension[..24].copy_from_slice(&pair(1 << 20, 100));
    extension[24..48].copy_from_slice(&pair(real, 0));
    let map = format!("2\n512\n512\n{}\n100\n", 1 << 20);
    let mut map = map.into_bytes();
    map.resize(512, 0);
    let size = real.to_string();
    let (at, count) = ((1u64 << 20).to_string(), b"2");
    let tar = Tar::new()
        .raw(&block)
        .raw(&extension)
        .data(&data)
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"pax10"),
            ("GNU.sparse.realsize", size.as_bytes()),
        ])
        .entry(head("GNUSparseFile.0/pax10", b'0'), &[map.as_slice(), &data].concat())
        .pax(&[
            ("GNU.sparse.size", size.as_bytes()),
            ("GNU.sparse.numblocks", count),
            ("GNU.sparse.name", b"pax01"),
            ("GNU.sparse.map", format!("512,512,{at},100").as_bytes()),
        ])
        .entry(head("GNUSparseFile.0/pax01", b'0'), &data)
        .pax(&[
            ("GNU.sparse.size", size.as_bytes()),
            ("GNU.sparse.numblocks", count),
            ("GNU.sparse.offset", b"512"),
            ("GNU.sparse.numbytes", b"512"),
            ("GNU.sparse.offset", at.as_bytes()),
            ("GNU.sparse.numbytes", b"100"),
        ])
        .entry(head("pax00", b'0'), &data)
        .end();
    let layer = unpack(&store, &tar, &tar).unwrap();
    let tree = tree(&store, &layer);
    let mut expected = vec![0u8; real as usize];
    expected[512..1024].copy_from_slice(&one);
    expected[1 << 20..(1 << 20) + 100].copy_from_slice(&two);
    for name in ["gnu", "pax10", "pax01", "pax00"] {
        assert!(fs::read(tree.join(name)).unwrap() == expected, "{name}");
        assert!(
            fs::metadata(tree.join(name)).unwrap().blocks() * 512 < real / 2,
            "{name} has holes"
        );
    }
    assert_eq!(rebuilt(&store, &layer), tar);
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An xz stream in which nothing is compressed; made by hand, as the library in use only reads.
fn xz_stored(bytes: &[u8]) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum().to_le_bytes()
    };
    let number = |mut n: u64| {
        let mut out = Vec::new();
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
        out
    };
    // Check: CRC32.
    let flags = [0u8, 1];
    let mut out = [&b"\xfd7zXZ\0"[..], &flags, &crc(&flags)].concat();
    // One block with LZMA2 and a dictionary of 1 MiB.
    let head = [2u8, 0, 0x21, 1, 16, 0, 0, 0];
    let mut block = [&head[..], &crc(&head)].concat();
    for (index, chunk) in bytes.chunks(1 << 16).enumerate() {
        block.push(if index == 0 { 1 } else { 2 });
        block.extend_from_slice(&((chunk.len() - 1) as u16).to_be_bytes());
        block.extend_from_slice(chunk);
    }
    block.push(0);
    let unpadded = block.len() as u64 + 4;
    block.resize(block.len().next_multiple_of(4), 0);
    block.extend_from_slice(&crc(bytes));
    out.extend_from_slice(&block);
    let mut index = [&[0u8, 1][..], &number(unpadded), &number(bytes.len() as u64)].concat();
    index.resize(index.len().next_multiple_of(4), 0);
    let sum = crc(&index);
    index.extend_from_slice(&sum);
    out.extend_from_slice(&index);
    let back = [&(index.len() as u32 / 4 - 1).to_le_bytes()[..], &flags].concat();
    [out.as_slice(), &crc(&back), &back, b"YZ"].concat()
}

#[test]
fn compressions_are_told_by_their_first_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let tar = Tar::new().file("f", &vec![7; 300_000]).end();
    let middle = tar.len() / 2;
    let two_members = [gzip(&tar[..middle]), gzip(&tar[middle..])].concat();
    let two_frames = [
        zstd::encode_all(&tar[..middle], 1).unwrap(),
        zstd::encode_all(&tar[middle..], 1).unwrap(),
    ]
    .concat();
    let two_streams = [bzip2(&tar[..middle]), bzip2(&tar[middle..])].concat();
    for (name, stream) in [
        ("plain", tar.clone()),
        ("gzip", two_members),
        ("zstd", two_frames),
        ("bzip2", two_streams),
        ("xz", xz_stored(&tar)),
    ] {
        let (store, _) = open(&temp.path().join(name));
        let lease = store.lease();
        let Begin::Write(writer) = store.layers().begin(&lease, None, &Digest::of(&tar)) else {
            panic!()
        };
        let seen = std::sync::atomic::AtomicU64::new(0);
        let progress = |n| seen.store(n, std::sync::atomic::Ordering::Relaxed);
        let expected = Some((Digest::of(&stream), stream.len() as u64));
        let layer = store
            .layers()
            .unpack(
                writer,
                stream.as_slice(),
                Unpack {
                    tree: false,
                    compression: None,
                    expected,
                    progress: Some(&progress),
                },
            )
            .unwrap();
        assert_eq!(seen.into_inner(), stream.len() as u64, "{name}");
        assert_eq!(
            layer.sources,
            [Source {
                digest: Digest::of(&stream),
                size: stream.len() as u64
            }],
            "{name}"
        );
        assert!(rebuilt(&store, &layer) == tar, "{name}");
    }
    let (store, _) = open(&temp.path().join("others"));
    for start in [&b"BZh91AY&SY"[..], b"\xfd7zXZ\0\0", b"\x04\x22\x4d\x18xx"] {
        let error = unpack(&store, &tar, start).unwrap_err();
        let damaged = matches!(error, Error::Decompress { .. }) && start[0] != 4;
        let unknown = matches!(error, Error::UnsupportedCompression { .. }) && start[0] == 4;
        assert!(damaged || unknown, "{error}");
    }
}

#[test]
fn two_who_want_the_same_layer_unpack_it_once() {
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = open(temp.path());
    let tar = Tar::new().file("f", b"x").end();
    let diff_id = Digest::of(&tar);
    let lease = store.lease();
    let Begin::Write(writer) = store.layers().begin(&lease, None, &diff_id) else {
        panic!()
    };
    let Begin::InProgress(waiter) = store.layers().begin(&lease, None, &diff_id) else {
        panic!()
    };
    let waiting = std::thread::spawn(move || waiter.wait());
    store
        .layers()
        .unpack(writer, tar.as_slice(), Unpack::default())
        .unwrap();
    assert!(waiting.join().unwrap());
    assert!(matches!(
        store.layers().begin(&lease, None, &diff_id),
        Begin::Present(_)
    ));

    // A writer that gives up lets the next one try.
    let parent = ChainId::base(&diff_id);
    let Begin::Write(writer) = store.layers().begin(&lease, Some(&parent), &diff_id) else {
        panic!()
    };
    let Begin::InProgress(waiter) = store.layers().begin(&lease, Some(&parent), &diff_id) else {
        panic!()
    };
    drop(writer);
    assert!(!waiter.wait());
    assert!(matches!(
        store.layers().begin(&lease, Some(&parent), &diff_id),
        Begin::Write(_)
    ));

    // Nothing needs the layer once the lease is gone.
    drop(lease);
    assert_eq!(store.gc().unwrap().layers, [parent]);
    assert!(names(&store, "layers").is_empty());
}

#[test]
fn a_layer_of_another_boot_is_checked_before_use() {
    let temp = tempfile::tempdir().unwrap();
    let (good, bad) = (Tar::new().file("f", b"good").end(), Tar::new().file("f", b"bad!").end());
    let (mut layers, mut batch) = (Vec::new(), Batch::new());
    {
        let (store, _) = open(temp.path());
        for tar in [&good, &bad] {
            let layer = unpack(&store, tar, tar).unwrap();
            record::put_layer(&mut batch, &layer, Some("another boot"));
            layers.push(layer);
        }
        store.db().commit_blocking(batch).unwrap();
        // As after a power failure: the length is there, the content is not.
        fs::write(tree(&store, &layers[1]).join("f"), [0; 4]).unwrap();
    }
    let (store, recovered) = open(temp.path());
    assert_eq!(recovered.lost_layers, [layers[1].chain.clone()]);
    assert_eq!(recovered.orphans.len(), 1);
    assert!(store.layers().get(&layers[0].chain).is_some() && store.layers().get(&layers[1].chain).is_none());
}
