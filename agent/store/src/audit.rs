//! Whether folders and records agree while the store is in use.

use crate::digest::{ChainId, Digest};
use crate::error::{Error, Result};
use crate::store::{Store, names_in};
use std::path::{Path, PathBuf};

/// Differences between records and folders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Folders below `layers` and `rw` that no record owns, relative to the root.
    pub orphans: Vec<PathBuf>,
    /// Layers whose folder, or the tree in it, is gone; and an image that needs each, if there is one.
    pub missing_layers: Vec<(ChainId, Option<Digest>)>,
    /// Writable layers whose folder is gone.
    pub missing_snapshots: Vec<String>,
}

impl Store {
    /// Compares records and folders. Holds up nobody for longer than listing two folders takes.
    ///
    /// # Errors
    /// A folder cannot be listed.
    pub fn audit(&self) -> Result<Audit> {
        let inner = &*self.inner;
        // Whoever makes or removes something changes the state under this lock before and after the folder.
        let state = inner.state();
        let mut audit = Audit::default();
        for (folder, is_known) in [("layers", true), ("rw", false)] {
            for name in names_in(&inner.root.join(folder))? {
                let known = name.to_str().is_some_and(|name| match is_known {
                    true => state
                        .layers
                        .keys()
                        .chain(state.busy.keys())
                        .any(|chain| chain.folder() == name),
                    false => state.snapshots.contains_key(name),
                });
                if !known {
                    audit.orphans.push(Path::new(folder).join(name));
                }
            }
        }
        for chain in state.layers.keys() {
            if !inner.layer_dir(chain).join("tree").is_dir() {
                let user = state.images.values().find(|image| image.chain.contains(chain));
                audit
                    .missing_layers
                    .push((chain.clone(), user.map(|image| image.id.clone())));
            }
        }
        for id in state.snapshots.keys() {
            if !inner.root.join("rw").join(id).join("upper").is_dir() {
                audit.missing_snapshots.push(id.clone());
            }
        }
        audit.orphans.sort();
        audit.missing_snapshots.sort();
        Ok(audit)
    }

    /// Moves a folder that [`Store::audit`] found to the trash, if still nobody owns it.
    ///
    /// # Errors
    /// It has an owner by now; the rename fails.
    pub fn discard_orphan(&self, orphan: &Path) -> Result<()> {
        if !self.audit()?.orphans.iter().any(|known| known == orphan) {
            return Err(Error::OwnedFolder {
                path: orphan.to_owned(),
            });
        }
        let path = self.inner.root.join(orphan);
        crate::quota::release_orphan(&path);
        self.inner.trash.discard(&path)
    }
}
