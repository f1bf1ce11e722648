//! Archives that must be refused, and that must leave nothing behind.

use super::build::{Tar, gzip, head, sum};
use super::{names, open, unpack};
use crate::*;

fn case(name: &'static str, tar: Vec<u8>, says: &'static str) -> (&'static str, Vec<u8>, &'static str) {
    (name, tar, says)
}

fn table() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let file = |name: &str| Tar::new().file(name, b"evil").end();
    let sparse = |map: &str, size: &str, data: &[u8]| {
        Tar::new()
            .pax(&[("GNU.sparse.map", map.as_bytes()), ("GNU.sparse.size", size.as_bytes())])
            .entry(head("sparse", b'0'), data)
            .end()
    };
    let with = |change: fn(&mut [u8; 512])| {
        let mut block = head("odd", b'0').block();
        change(&mut block);
        sum(&mut block);
        Tar::new().raw(&block).end()
    };
    let mut wrong_sum = Tar::new().file("f", b"x").end();
    wrong_sum[0] ^= 1;
    let deep = "d/".repeat(3000) + "f";
    vec![
        case("name above the root", file("../evil"), "outside"),
        case("name above the root, hidden", file("a/b/../../../evil"), "outside"),
        case("absolute name above the root", file("/../../evil"), "outside"),
        case(
            "hard link above the root",
            Tar::new().hard_link("l", "../../etc/shadow").end(),
            "outside",
        ),
        case(
            "hard link to the host by an absolute name",
            Tar::new().hard_link("l", "/etc/shadow").end(),
            "not in the layer",
        ),
        case(
            "hard link through a symbolic link",
            Tar::new().symlink("s", "/etc").hard_link("l", "s/shadow").end(),
            "not in the layer",
        ),
        case(
            "hard link to itself",
            Tar::new().file("l", b"").hard_link("l", "l").end(),
            "itself",
        ),
        case(
            "hard link to a directory",
            Tar::new().dir("d").hard_link("l", "d").end(),
            "directory",
        ),
        case("hard link to the root", Tar::new().hard_link("l", "/").end(), "root"),
        case(
            "hard link to a whiteout",
            Tar::new().file(".wh.w", b"").hard_link("l", "w").end(),
            "not in the layer",
        ),
        case(
            "hard link that replaces its target's folder",
            Tar::new().file("d/f", b"").hard_link("d", "d/f").end(),
            "not in the layer",
        ),
        case(
            "symbolic link above the root",
            Tar::new().symlink("a/s", "../../etc").end(),
            "outside",
        ),
        case("symbolic link to nothing", Tar::new().symlink("s", "").end(), "nothing"),
        case(
            "link loop as a folder",
            Tar::new().symlink("a", "b").symlink("b", "a").file("a/f", b"").end(),
            "itself",
        ),
        case(
            "dangling link as a folder",
            Tar::new().symlink("a", "b").file("a/f", b"").end(),
            "nowhere",
        ),
        case(
            "file as a folder",
            Tar::new().file("a", b"").file("a/f", b"").end(),
            "a file stands",
        ),
        case("file as the root", Tar::new().file("./", b"x").end(), "root"),
        case("whiteout of nothing", file("d/.wh."), "whiteout"),
        case("whiteout of the folder", file("d/.wh.."), "whiteout"),
        case("whiteout of the parent", file("d/.wh..."), "whiteout"),
        case("empty name", file(""), "empty"),
        case(
            "name with a zero byte",
            Tar::new().pax(&[("path", b"a\0b")]).file("f", b"").end(),
            "zero byte",
        ),
        case(
            "component too long",
            Tar::new()
                .pax(&[("path", "x".repeat(300).as_bytes())])
                .file("f", b"")
                .end(),
            "too long",
        ),
        case(
            "path too long",
            Tar::new().pax(&[("path", deep.as_bytes())]).file("f", b"").end(),
            "too long",
        ),
        case(
            "PAX size contradicts the header",
            Tar::new().pax(&[("size", b"0")]).file("f", &[0; 600]).end(),
            "header block 600",
        ),
        case(
            "PAX size contradicts the header, larger",
            Tar::new().pax(&[("size", b"1024")]).file("f", b"x").end(),
            "1024",
        ),
        case(
            "global PAX path",
            {
                let data = super::build::record("path", b"evil");
                Tar::new().entry(head("g", b'g'), &data).file("f", b"").end()
            },
            "global",
        ),
        case(
            "PAX record beyond its header",
            Tar::new().entry(head("p", b'x'), b"99 path=x\n").file("f", b"").end(),
            "longer",
        ),
        case(
            "PAX header of 2 MiB",
            Tar::new()
                .entry(head("p", b'x'), &vec![b'1'; 2 << 20])
                .file("f", b"")
                .end(),
            "1 MiB",
        ),
        case(
            "PAX header without an entry",
            Tar::new().pax(&[("path", b"x")]).end(),
            "before the entry",
        ),
        case(
            "long name without an entry",
            Tar::new().long(b'L', "x").end(),
            "before the entry",
        ),
        case("negative size", with(|b| b[124..136].fill(0xff)), "size"),
        case(
            "size that is no number",
            with(|b| b[124..136].copy_from_slice(b"0000000009x\0")),
            "size",
        ),
        case(
            "user id beyond 32 bits",
            Tar::new().pax(&[("uid", b"4294967296")]).file("f", b"").end(),
            "user id",
        ),
        case(
            "user id -1",
            Tar::new().pax(&[("uid", b"4294967295")]).file("f", b"").end(),
            "user id",
        ),
        case("unknown type", with(|b| b[156] = b'M'), "type 'M'"),
        case("wrong checksum", wrong_sum, "checksum"),
        case("not a tar", b"{\"this\": \"is not a tar\"}".repeat(100), "checksum"),
        case("shorter than a block", b"short".to_vec(), "middle of a block"),
        case(
            "cut in a file",
            Tar::new().head(&head("f", b'0').size(10_000)).raw(&[1; 700]).0,
            "middle of a file",
        ),
        case(
            "cut in the padding",
            Tar::new().head(&head("f", b'0').size(10)).raw(&[1; 10]).0,
            "padding",
        ),
        case(
            "data behind a single zero block",
            Tar::new().file("f", b"").raw(&[0; 512]).file("g", b"").end(),
            "single zero",
        ),
        case(
            "size beyond the limit",
            Tar::new().head(&head("f", b'0').size(1 << 50)).end(),
            "limit",
        ),
        case("sparse: overlap", sparse("0,512,100,412", "2000", &[1; 924]), "overlap"),
        case(
            "sparse: beyond the end",
            sparse("0,512,1024,512", "1200", &[1; 1024]),
            "beyond the end",
        ),
        case(
            "sparse: less than the data",
            sparse("0,100", "2000", &[1; 512]),
            "does not fit",
        ),
        case(
            "sparse: overflow",
            sparse("18446744073709551615,100", "18446744073709551615", &[1; 100]),
            "beyond",
        ),
        case(
            "sparse: enormous",
            sparse("0,10", "9000000000000000000", &[1; 10]),
            "limit",
        ),
        case(
            "damaged gzip",
            {
                let mut stream = gzip(&Tar::new().file("f", &vec![3; 100_000]).end());
                let middle = stream.len() / 2;
                stream[middle] ^= 0xff;
                stream
            },
            "decompress",
        ),
        case(
            "cut gzip",
            {
                let stream = gzip(&Tar::new().file("f", &vec![3; 100_000]).end());
                stream[..stream.len() - 20].to_vec()
            },
            "decompress",
        ),
        case(
            "garbage behind gzip",
            {
                let mut stream = gzip(&Tar::new().file("f", b"x").end());
                stream.extend_from_slice(b"garbage");
                stream
            },
            "decompress",
        ),
    ]
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = open(&temp.path().join("root"));
    let outside = temp.path().join("evil");
    for (name, stream, says) in table() {
        // Plain archives announce their true digest: the refusal must come from the content.
        let error = match unpack(&store, &stream, &stream) {
            Ok(_) => panic!("{name}: taken"),
            Err(error) => error,
        };
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        assert!(text.contains(says), "{name}: {text}");
        assert!(
            matches!(error.kind(), Kind::Invalid | Kind::TooLarge),
            "{name}: {error:?}"
        );
        assert!(
            names(&store, "layers").is_empty() && names(&store, "tmp").is_empty(),
            "{name}"
        );
        assert!(store.layers().list().is_empty(), "{name}");
        assert!(!outside.exists(), "{name}");
    }
    store.settle();
    assert!(names(&store, "trash").is_empty());
}

#[test]
fn what_docker_contains_is_contained() {
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = open(&temp.path().join("root"));
    let tar = Tar::new()
        .file("/absolute", b"1")
        .symlink("etc-link", "/etc")
        .dir("etc")
        .file("etc-link/passwd", b"2")
        .symlink("up", "/../../../..")
        .file("up/top", b"3")
        .file("a/../b", b"4")
        .symlink("proc", "/proc/self/root")
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ])
        .file("forged", b"5")
        .end();
    let layer = unpack(&store, &tar, &tar).unwrap();
    let tree = store.layers().tree(&layer.chain);
    for (path, content) in [
        ("absolute", "1"),
        ("etc/passwd", "2"),
        ("top", "3"),
        ("b", "4"),
        ("forged", "5"),
    ] {
        assert_eq!(std::fs::read_to_string(tree.join(path)).unwrap(), content, "{path}");
    }
    let dir = std::fs::File::open(&tree).unwrap();
    let set = runtime_sys::xattr::all_at(std::os::fd::AsFd::as_fd(&dir), b"forged").unwrap();
    assert!(set.is_empty(), "{set:?}");
    assert_eq!(super::rebuilt(&store, &layer), tar);
}

#[test]
fn a_wrong_digest_or_size_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = open(temp.path());
    let tar = Tar::new().file("f", b"content").end();
    let stream = gzip(&tar);
    let (digest, size) = (Digest::of(&stream), stream.len() as u64);
    let other = Digest::of(b"other");
    for (name, diff_id, expected) in [
        ("wrong diff id", other.clone(), Some((digest.clone(), size))),
        ("wrong diff id, nothing announced", other.clone(), None),
        ("wrong digest", Digest::of(&tar), Some((other, size))),
        (
            "longer than announced",
            Digest::of(&tar),
            Some((digest.clone(), size - 1)),
        ),
        ("shorter than announced", Digest::of(&tar), Some((digest, size + 1))),
    ] {
        let lease = store.lease();
        let Begin::Write(writer) = store.layers().begin(&lease, None, &diff_id) else {
            panic!()
        };
        let unpack = Unpack {
            tree: false,
            compression: None,
            expected,
            progress: None,
        };
        let error = store.layers().unpack(writer, stream.as_slice(), unpack).unwrap_err();
        assert!(
            matches!(error, Error::DigestMismatch { .. } | Error::SizeMismatch { .. }),
            "{name}: {error}"
        );
        assert!(
            names(&store, "layers").is_empty() && names(&store, "tmp").is_empty(),
            "{name}"
        );
    }
}

#[test]
fn limits_stop_bombs() {
    let temp = tempfile::tempdir().unwrap();
    let limits = Limits {
        entries: 100,
        layer_bytes: 1 << 20,
        ..Limits::default()
    };
    let (store, _) = Store::open(StoreConfig {
        root: temp.path().join("root"),
        limits,
    })
    .unwrap();
    let many = (0..200)
        .fold(Tar::new(), |tar, n| tar.file(&format!("f{n}"), b""))
        .end();
    let zeros = Tar::new().file("zeros", &vec![0; 2 << 20]).end();
    for (stream, tar) in [(many.clone(), &many), (gzip(&zeros), &zeros), (zeros.clone(), &zeros)] {
        let error = unpack(&store, tar, &stream).unwrap_err();
        assert_eq!(error.kind(), Kind::TooLarge, "{error}");
        assert!(names(&store, "tmp").is_empty() && names(&store, "layers").is_empty());
    }
}

#[test]
fn a_reader_that_fails_leaves_nothing_and_keeps_its_reason() {
    struct Broken(usize);
    impl std::io::Read for Broken {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::Error::new(
                    std::io::ErrorKind::ConnectionReset,
                    "the peer hung up",
                ));
            }
            let n = buf.len().min(self.0);
            buf[..n].fill(0);
            self.0 -= n;
            Ok(n)
        }
    }
    let temp = tempfile::tempdir().unwrap();
    let (store, _) = open(temp.path());
    for before in [0, 3, 1 << 20] {
        let lease = store.lease();
        let Begin::Write(writer) = store.layers().begin(&lease, None, &Digest::of(b"")) else {
            panic!()
        };
        let error = store
            .layers()
            .unpack(writer, Broken(before), Unpack::default())
            .unwrap_err();
        let Error::Source { source, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(source.to_string(), "the peer hung up");
        assert!(names(&store, "tmp").is_empty());
    }
}
