//! Importing: the tar of a root file system becomes an image of one layer.

use crate::digest::{Digest, Hasher};
use crate::error::Result;
use crate::image::{History, Image, ImageConfig, RootFs, RunConfig};
use crate::images::NewImage;
use crate::layers::Begin;
use crate::pipeline::Unpack;
use crate::store::Store;
use std::io::Read;
use std::sync::Arc;

/// What the image is like beside its files.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Normalised names.
    pub names: Vec<String>,
    /// The run configuration (made from `--change` by the caller).
    pub config: RunConfig,
    /// `--message`; Docker's default is "Imported from -".
    pub message: String,
    /// GOARCH.
    pub architecture: String,
    /// May be empty.
    pub variant: String,
    /// RFC 3339, now.
    pub created: String,
}

pub(super) fn import(store: &Store, reader: impl Read, options: ImportOptions) -> Result<Arc<Image>> {
    let lease = store.lease();
    let (temp, done) = store.layers().stage(reader, Unpack::default(), Hasher::sha256())?;
    let diff_id: Digest = done.diff_id.clone();
    loop {
        match store.layers().begin(&lease, None, &diff_id) {
            Begin::Present(_) => break,
            Begin::InProgress(other) => drop(other.wait()),
            Begin::Write(writer) => {
                store.layers().install(writer, temp, done)?;
                break;
            }
        }
    }
    let created = (!options.created.is_empty()).then(|| options.created.clone());
    let config = ImageConfig {
        created: created.clone(),
        architecture: options.architecture,
        variant: options.variant,
        os: "linux".to_owned(),
        comment: options.message.clone(),
        config: options.config,
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: vec![diff_id],
        },
        history: vec![History {
            created,
            comment: options.message,
            ..History::default()
        }],
        ..ImageConfig::default()
    };
    let config = serde_json::to_vec(&config).expect("configurations have string keys only");
    let put = store.images().put(NewImage {
        config,
        manifest: None,
        names: options.names,
        digests: Vec::new(),
    });
    drop(lease);
    if put.is_err() {
        crate::gc::collect(store, None)?;
    }
    put
}
