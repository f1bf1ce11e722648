//! Committing: what a container changed becomes a layer, and what it is on becomes an image with it.
//!
//! The writable layer goes through the same pipeline as a pulled one: its tar is never on disk, its digest is known when
//! the tree is finished, and the tree is the only copy.

use super::walk::Walk;
use super::writer::TarWriter;
use crate::changes::{self, Changes};
use crate::copy_out::view;
use crate::digest::{ChainId, Digest, Hasher};
use crate::error::{Error, Result};
use crate::image::{History, Image, ImageConfig, RootFs, RunConfig};
use crate::images::NewImage;
use crate::layers::Begin;
use crate::lease::Lease;
use crate::pipeline::Unpack;
use crate::store::Store;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use std::io::{BufWriter, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the image is like beside its files.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Normalised names.
    pub names: Vec<String>,
    /// The run configuration.
    pub config: RunConfig,
    /// What the container was made from, if that is still known: its platform and its history go on.
    pub base: Option<Arc<Image>>,
    /// `--author`.
    pub author: String,
    /// `--message`.
    pub comment: String,
    /// The command that made the changes.
    pub created_by: String,
    /// RFC 3339, now.
    pub created: String,
    /// GOARCH, where there is no base.
    pub architecture: String,
}

pub(super) fn commit(store: &Store, id: &str, options: CommitOptions) -> Result<Arc<Image>> {
    let lease = store.lease();
    let rw = store.snapshots().get(id)?;
    let chain = store
        .snapshots()
        .chain(id)
        .ok_or_else(|| Error::NoSuchSnapshot { id: id.to_owned() })?;
    let mut diff_ids = Vec::new();
    for layer in &chain {
        lease.hold(layer);
        let found = store.layers().get(layer);
        diff_ids.push(
            found
                .ok_or_else(|| Error::NoSuchLayer { chain: layer.clone() })?
                .diff_id
                .clone(),
        );
    }
    let changes = changes::find(&rw.lower, &rw.upper)?;
    let changed = changes.root || !changes.list.is_empty();
    if changed {
        diff_ids.push(layer(store, &lease, chain.last(), &rw.upper, &changes)?);
    }
    // Removed meanwhile: what was read last was on its way out.
    store.snapshots().get(id)?;
    let base = options.base.as_ref().map(|image| &image.parsed);
    let mut history = base.map(|base| base.history.clone()).unwrap_or_default();
    let created = (!options.created.is_empty()).then_some(options.created);
    history.push(History {
        created: created.clone(),
        created_by: options.created_by,
        author: options.author.clone(),
        comment: options.comment.clone(),
        empty_layer: !changed,
    });
    let config = ImageConfig {
        created,
        author: options.author,
        architecture: base.map_or(options.architecture, |base| base.architecture.clone()),
        variant: base.map(|base| base.variant.clone()).unwrap_or_default(),
        os: "linux".to_owned(),
        comment: options.comment,
        config: options.config,
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids,
        },
        history,
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

/// Copies the writable layer into the store; its diff id is returned.
fn layer(store: &Store, lease: &Lease, parent: Option<&ChainId>, upper: &Path, changes: &Changes) -> Result<Digest> {
    let failed = |e| Error::io("make a pipe for", upper)(e);
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    // As much as a thread of the pipeline reads at once.
    let _ = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETPIPE_SZ(1 << 20));
    let (temp, done) = std::thread::scope(|scope| {
        let tar = std::thread::Builder::new().name("store-commit".into());
        let tar = tar
            .spawn_scoped(scope, move || write(upper, changes, writer))
            .map_err(failed)?;
        let staged = store.layers().stage(reader, Unpack::default(), Hasher::sha256());
        let written = tar.join().map_err(|_| Error::Closed)?;
        match (staged, written) {
            // The reading end's failure closes the pipe: the writer's is only its echo.
            (Err(error), Err(Error::Sink { .. }) | Ok(())) | (_, Err(error)) => Err(error),
            (staged, Ok(())) => staged,
        }
    })?;
    let diff_id = done.diff_id.clone();
    loop {
        match store.layers().begin(lease, parent, &diff_id) {
            Begin::Present(_) => break,
            Begin::InProgress(other) => drop(other.wait()),
            Begin::Write(writer) => {
                store.layers().install(writer, temp, done)?;
                break;
            }
        }
    }
    Ok(diff_id)
}

fn write(upper: &Path, changes: &Changes, writer: impl Write) -> Result<()> {
    let mut tar = TarWriter::new(BufWriter::with_capacity(256 << 10, writer));
    let layers: [PathBuf; 1] = [upper.to_owned()];
    if let Some(view) = view(&layers).map_err(Error::io("mount the writable layer", upper))? {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = openat(&view, ".", flags, Mode::empty()).map_err(Error::sys("open", upper))?;
        let mut walk = Walk::of_a_layer(&mut tar, &changes.mount_points);
        if changes.root {
            let stat = fstat(&root).map_err(Error::sys("look at", upper))?;
            walk.header(&stat, b"./", b'5', root.as_fd(), c".")?;
        }
        walk.folder(root, b"", 0)?;
    }
    tar.finish()
}
