//! Any tree, as a tar, unpacked, gives the same tar again.

use super::build::{Tar, head};
use super::{open, rebuilt, unpack};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Item {
    File(String, Vec<u8>, u64, u64),
    Dir(String, u64),
    Symlink(String, String),
    HardLink(String, prop::sample::Index),
    Whiteout(String),
    Opaque(String),
    Long(String, Vec<u8>),
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "ä", "long-name", "x y"]), 1..4)
        .prop_map(|parts| parts.join("/"))
}

fn item() -> impl Strategy<Value = Item> {
    let data = prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), 0..2000),
        (0usize..700_000, any::<u8>()).prop_map(|(n, b)| vec![b; n]),
    ];
    prop_oneof![
        4 => (path(), data.clone(), 0u64..0o10000, 0u64..100_000).prop_map(|(p, d, m, u)| Item::File(p, d, m, u)),
        3 => (path(), 0u64..0o10000).prop_map(|(p, m)| Item::Dir(p, m)),
        1 => (path(), path()).prop_map(|(p, to)| Item::Symlink(p, format!("/{to}"))),
        1 => (path(), any::<prop::sample::Index>()).prop_map(|(p, i)| Item::HardLink(p, i)),
        1 => path().prop_map(Item::Whiteout),
        1 => path().prop_map(Item::Opaque),
        1 => (path(), data).prop_map(|(p, d)| Item::Long(p, d)),
    ]
}

fn build(items: &[Item]) -> Vec<u8> {
    let mut tar = Tar::new();
    let mut files: Vec<String> = Vec::new();
    for item in items {
        tar = match item {
            Item::File(path, data, mode, uid) => {
                files.push(path.clone());
                tar.entry(head(path, b'0').mode(*mode).owner(*uid, 5), data)
            }
            Item::Dir(path, mode) => tar.head(&head(path, b'5').mode(*mode)),
            Item::Symlink(path, to) => tar.symlink(path, to),
            Item::HardLink(_, _) if files.is_empty() => tar,
            Item::HardLink(path, index) => tar.hard_link(path, index.get(files.as_slice()).as_str()),
            Item::Whiteout(path) => tar.file(&format!("{path}/.wh.gone"), b""),
            Item::Opaque(path) => tar.file(&format!("{path}/.wh..wh..opq"), b""),
            Item::Long(path, data) => {
                let path = format!("{path}/{}/{}", "n".repeat(150), "m".repeat(150));
                tar.long(b'L', &path).file("short", data)
            }
        };
    }
    tar.end()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Some of these trees contradict themselves (a file where a folder should be) and are refused: then nothing is left.
    #[test]
    fn the_exact_tar_comes_back(items in prop::collection::vec(item(), 0..25)) {
        let temp = tempfile::tempdir().unwrap();
        let (store, _) = open(temp.path());
        let tar = build(&items);
        match unpack(&store, &tar, &tar) {
            Ok(layer) => prop_assert!(rebuilt(&store, &layer) == tar),
            Err(error) => {
                prop_assert!(error.kind() == crate::Kind::Invalid, "{error:?}");
                prop_assert!(super::names(&store, "layers").is_empty() && super::names(&store, "tmp").is_empty());
            }
        }
    }

    /// No bytes whatsoever make the reader panic, loop, or leave anything.
    #[test]
    fn noise_is_refused(mut noise in prop::collection::vec(any::<u8>(), 0..3000), items in prop::collection::vec(item(), 0..4), at in any::<prop::sample::Index>()) {
        let temp = tempfile::tempdir().unwrap();
        let (store, _) = open(temp.path());
        let mut tar = build(&items);
        let at = at.index(tar.len());
        noise.truncate(tar.len() - at);
        tar[at..at + noise.len()].copy_from_slice(&noise);
        match unpack(&store, &tar, &tar) {
            Ok(layer) => prop_assert!(rebuilt(&store, &layer) == tar),
            Err(_) => prop_assert!(super::names(&store, "layers").is_empty() && super::names(&store, "tmp").is_empty()),
        }
    }
}
