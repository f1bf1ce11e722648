//! Volumes as archives, copies and under other names: extensions, described in `docs/extensions.md`.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::SystemTime;

use agent_store::{Batch, ExportOptions};

use super::{TABLE, Volume};
use crate::Engine;
use crate::disk;
use crate::error::{Error, Result};
use crate::events::EventKind;
use crate::ids::{random_hex, volume_name};

/// A volume that is mounted for as long as this lives, if it is one that is mounted at all.
struct Held<'a> {
    engine: &'a Engine,
    volume: String,
    holder: String,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.engine.volumes.let_go(&self.volume, &self.holder) {
            tracing::warn!(volume = self.volume, error = error.chain(), "a volume stays mounted");
        }
    }
}

fn taken(name: &str) -> Error {
    Error::Conflict(format!(
        "volume {name} exists already; choose another name, or remove it first"
    ))
}

impl Engine {
    fn held<'a>(&'a self, volume: &str) -> Result<Held<'a>> {
        let holder = format!("copy {}", random_hex());
        self.volumes.hold(volume, &holder)?;
        Ok(Held {
            engine: self,
            volume: volume.to_owned(),
            holder,
        })
    }

    /// Writes the volume's content as a tar. Blocks.
    ///
    /// # Errors
    /// The volume cannot be read, or the writer fails.
    pub fn export_volume(&self, name: &str, writer: impl Write) -> Result<()> {
        self.volumes.get(name)?;
        let _held = self.held(name)?;
        let data = self.volumes.mountpoint(name);
        let archive = self.store.archive();
        Ok(archive.export(&[data], None, &ExportOptions::default(), writer)?)
    }

    /// Makes a volume of a tar (compressed or not), whole or not at all. Blocks.
    ///
    /// # Errors
    /// `Conflict` for a name that is taken; a tar that is malformed or hostile.
    pub fn import_volume(&self, name: &str, labels: BTreeMap<String, String>, reader: impl Read) -> Result<Volume> {
        let name = volume_name(name)?;
        if self.volumes.get(&name).is_ok() {
            return Err(taken(&name));
        }
        self.adopt(name, labels, reader, || Ok(()))
    }

    /// Makes a volume with the same labels and content as another. Blocks.
    ///
    /// # Errors
    /// `NoSuchVolume`, `Conflict`; the content cannot be read.
    pub fn clone_volume(&self, name: &str, to: &str) -> Result<Volume> {
        let to = volume_name(to)?;
        let source = self.volumes.get(name)?;
        if self.volumes.get(&to).is_ok() {
            return Err(taken(&to));
        }
        let _held = self.held(name)?;
        let mut labels = source.labels.clone();
        labels.remove(super::ANONYMOUS_LABEL);
        let (reader, writer) = std::io::pipe().map_err(Error::io("make a pipe"))?;
        std::thread::scope(|scope| {
            let exported = scope.spawn(|| self.export_volume(name, writer));
            // What came is taken only when all of it was read from the source.
            let whole = || exported.join().unwrap_or(Err(Error::CutOff));
            let volume = self.adopt(to, labels, reader, whole)?;
            same_folder(&self.volumes.mountpoint(name), &self.volumes.mountpoint(&volume.name))?;
            Ok(volume)
        })
    }

    /// Unpacks, asks `agreed`, and only then puts the content in its place and records the volume.
    fn adopt(
        &self,
        name: String,
        labels: BTreeMap<String, String>,
        reader: impl Read,
        agreed: impl FnOnce() -> Result<()>,
    ) -> Result<Volume> {
        let volume = Volume {
            version: 1,
            name,
            labels,
            options: BTreeMap::new(),
            created: SystemTime::now(),
            anonymous: false,
            moved_from: None,
        };
        let mut outcome = Ok(());
        self.store.archive().unpack(reader, |tree| {
            outcome = agreed().and_then(|()| self.put_in_place(&volume, tree));
        })?;
        outcome?;
        let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
        self.journal
            .record(EventKind::Volume, "create", &volume.name, attributes);
        Ok(volume)
    }

    fn put_in_place(&self, volume: &Volume, tree: &Path) -> Result<()> {
        let folder = self.volumes.root.join(&volume.name);
        // A record of what a power loss leaves empty would be worse than none.
        disk::sync_tree(tree)?;
        // Held across all of it: nobody sees the volume before it is whole, nor makes another one of the name.
        let mut table = self.volumes.lock();
        if table.contains_key(&volume.name) {
            return Err(taken(&volume.name));
        }
        let done = fs::create_dir_all(&folder)
            .and_then(|()| fs::rename(tree, folder.join("_data")))
            .map_err(Error::io(format!("put the content of volume {} in place", volume.name)))
            .and_then(|()| {
                disk::sync_folder(&folder)?;
                disk::sync_folder(&self.volumes.root)?;
                runtime_sys::failpoint!("import-in-place");
                let mut batch = Batch::new();
                batch.put(TABLE, &volume.name, encoded(volume)?);
                Ok(self.store.db().commit_blocking(batch)?)
            });
        match done {
            Ok(()) => {
                table.insert(volume.name.clone(), volume.clone());
                Ok(())
            }
            Err(error) => {
                let _ = self.store.discard(&folder);
                Err(error)
            }
        }
    }

    /// Gives a volume that no container has another name. Blocks.
    ///
    /// # Errors
    /// `NoSuchVolume`; `Conflict` while a container has it, or when the name is taken.
    pub fn rename_volume(&self, name: &str, to: &str) -> Result<()> {
        let to = volume_name(to)?;
        let mut volume = self.volumes.get(name)?;
        let users = self.volume_users(name);
        if !users.is_empty() {
            let list: Vec<&str> = users.iter().map(crate::ids::ContainerId::as_str).collect();
            return Err(Error::Conflict(format!(
                "rename {name}: volume is in use - [{}]",
                list.join(", ")
            )));
        }
        self.volumes.unmount(name)?;
        let (old, new) = (self.volumes.root.join(name), self.volumes.root.join(&to));
        let mut table = self.volumes.lock();
        if table.contains_key(&to) {
            return Err(taken(&to));
        }
        if !disk::mounts_below(&old).is_empty() {
            return Err(Error::Conflict(format!(
                "rename {name}: something is mounted in the volume"
            )));
        }
        let before = encoded(&volume)?;
        volume.name.clone_from(&to);
        // A name of somebody's choice is no daemon's.
        volume.anonymous = false;
        volume.labels.remove(super::ANONYMOUS_LABEL);
        // The record first, with the way back to the folder: a crash between the two would else leave a folder that is
        // nobody's and goes at the next start, with all that is in it.
        volume.moved_from = Some(name.to_owned());
        let mut batch = Batch::new();
        batch.delete(TABLE, name);
        batch.put(TABLE, &to, encoded(&volume)?);
        self.store.db().commit_blocking(batch)?;
        runtime_sys::failpoint!("volume-rename-recorded");
        if let Err(error) = fs::rename(&old, &new).map_err(Error::io(format!("rename the folder of volume {name}"))) {
            let mut batch = Batch::new();
            batch.delete(TABLE, &to);
            batch.put(TABLE, name, before);
            self.store.db().commit_blocking(batch)?;
            return Err(error);
        }
        runtime_sys::failpoint!("volume-folder-renamed");
        // The way back is kept until the folder's new name has reached the disk: without both, a folder that is nobody's
        // goes at the next start.
        match disk::sync_folder(&self.volumes.root) {
            Ok(()) => {
                volume.moved_from = None;
                let mut batch = Batch::new();
                batch.put(TABLE, &to, encoded(&volume)?);
                // Nobody waits: until then the next start sees that the folder is in its place.
                drop(self.store.db().commit_soon(batch));
            }
            Err(error) => tracing::warn!(volume = %to, error = error.chain(), "the way back to the old name is kept"),
        }
        table.remove(name);
        table.insert(to.clone(), volume);
        drop(table);
        let attributes = BTreeMap::from([
            ("driver".to_owned(), "local".to_owned()),
            ("oldName".to_owned(), name.to_owned()),
        ]);
        self.journal.record(EventKind::Volume, "rename", &to, attributes);
        Ok(())
    }
}

fn encoded(volume: &Volume) -> Result<Vec<u8>> {
    serde_json::to_vec(volume).map_err(|source| Error::Record {
        what: format!("volume {}", volume.name),
        source,
    })
}

/// The folder itself is in no archive: its owner and mode are carried over.
fn same_folder(from: &Path, to: &Path) -> Result<()> {
    let copy = || {
        let meta = fs::symlink_metadata(from)?;
        chown(to, Some(meta.uid()), Some(meta.gid()))?;
        fs::set_permissions(to, Permissions::from_mode(meta.mode() & 0o7777))
    };
    copy().map_err(Error::io(format!("set owner and mode of {}", to.display())))
}
