//! Tests of the store as a whole. They make device nodes and overlay attributes: they need root.

mod archives;
mod build;
mod full;
mod hostile;
mod layers;
mod roundtrip;

use crate::*;
use std::sync::Arc;

pub(super) fn open(root: &std::path::Path) -> (Store, Recovered) {
    Store::open(StoreConfig::new(root)).unwrap()
}

/// Unpacks one layer without parents.
pub(super) fn unpack(store: &Store, tar: &[u8], stream: &[u8]) -> Result<Arc<Layer>> {
    let lease = store.lease();
    match store.layers().begin(&lease, None, &Digest::of(tar)) {
        Begin::Write(writer) => store.layers().unpack(writer, stream, Unpack::default()),
        Begin::Present(layer) => Ok(layer),
        Begin::InProgress(_) => panic!("nobody else is at work"),
    }
}

/// Names in a folder of the store's root.
pub(super) fn names(store: &Store, folder: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(store.root().join(folder))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The exact tar of a layer.
pub(super) fn rebuilt(store: &Store, layer: &Layer) -> Vec<u8> {
    let mut tar = Vec::new();
    store.layers().tar(&layer.chain).unwrap().write_to(&mut tar).unwrap();
    tar
}
