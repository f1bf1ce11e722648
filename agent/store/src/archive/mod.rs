//! Images and trees as archives: load, save, import, export.

mod commit;
mod documents;
mod export;
mod import;
mod load;
mod platforms;
mod save;
mod stage;
mod walk;
mod writer;

pub use commit::CommitOptions;
pub use export::ExportOptions;
pub use import::ImportOptions;
pub use load::{LoadEvent, LoadOptions, Loaded, LoadedImage};
pub use save::{SaveImage, SaveName};
pub(crate) use walk::{DEPTH, Walk, is_opaque};
pub(crate) use writer::TarWriter;

use crate::digest::{Digest, Hasher};
use crate::error::Result;
use crate::image::{Image, Manifest, OCI_MANIFEST};
use crate::pipeline::Unpack;
use crate::store::Store;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Archives. From [`Store::archive`].
pub struct Archive<'a> {
    pub(crate) store: &'a Store,
}

impl Archive<'_> {
    /// Loads all images of an archive (OCI layout, docker-archive, or both in one; compressed or not) in a single pass.
    ///
    /// # Errors
    /// The archive is malformed, hostile or lacks what it names; then none of its images is added.
    pub fn load(
        &self,
        reader: impl Read,
        options: &LoadOptions<'_>,
        progress: &mut dyn FnMut(LoadEvent),
    ) -> Result<Loaded> {
        load::load(self.store, reader, options, progress)
    }

    /// Writes one tar that is an OCI layout and a docker-archive at once, as Docker 25 and later do.
    ///
    /// # Errors
    /// The writer fails; a layer is missing or was changed on disk.
    pub fn save(&self, images: &[SaveImage], writer: impl Write) -> Result<()> {
        save::save(self.store, images, writer)
    }

    /// The manifest that describes the image in an archive of ours: the one it came by, or else the one that [`Archive::save`]
    /// writes.
    ///
    /// # Errors
    /// A layer is missing.
    pub fn manifest(&self, image: &Image) -> Result<Manifest> {
        if let Some(known) = &image.manifest {
            return Ok(known.clone());
        }
        let bytes = save::manifest(self.store, image)?;
        Ok(Manifest {
            digest: Digest::of(&bytes),
            media_type: OCI_MANIFEST.to_owned(),
            bytes,
        })
    }

    /// Makes an image of one layer from the tar of a root file system (compressed or not).
    ///
    /// # Errors
    /// The tar is malformed or hostile.
    pub fn import(&self, reader: impl Read, options: ImportOptions) -> Result<Arc<Image>> {
        import::import(self.store, reader, options)
    }

    /// Makes an image of what a container is on and what it changed: its writable layer is copied into the store, once, as
    /// a layer of its own. Whether the container changes it meanwhile is the caller's question.
    ///
    /// # Errors
    /// There is no such writable layer; something in it cannot be read; the disk is full.
    pub fn commit(&self, id: &str, options: CommitOptions) -> Result<Arc<Image>> {
        commit::commit(self.store, id, options)
    }

    /// Unpacks a tar (compressed or not) into a folder below the root, hostile ones refused as for layers, and calls `place`
    /// with it: what is not renamed away by then is deleted.
    ///
    /// # Errors
    /// The tar is malformed or hostile, or the disk is full; `place` was not called then.
    pub fn unpack(&self, reader: impl Read, place: impl FnOnce(&Path)) -> Result<()> {
        let unpack = Unpack {
            tree: true,
            ..Unpack::default()
        };
        let (temp, _) = self.store.layers().stage(reader, unpack, Hasher::sha256())?;
        place(&temp.path.join("tree"));
        Ok(())
    }

    /// Writes the merged view of `lower` (top first) under `upper` as a tar. The view is a detached mount that no other
    /// process can see.
    ///
    /// # Errors
    /// The mount is refused; the writer fails.
    pub fn export(
        &self,
        lower: &[PathBuf],
        upper: Option<&Path>,
        options: &ExportOptions,
        writer: impl Write,
    ) -> Result<()> {
        export::export(lower, upper, options, writer)
    }
}
