//! Writable layers: one `upper` and one `work` directory for each container.

use crate::changes::Change;
use crate::db::Batch;
use crate::digest::ChainId;
use crate::error::{Error, Result};
use crate::quota::Quota;
use crate::record;
use crate::store::{Inner, Store};
use nix::dir::Dir;
use nix::fcntl::AtFlags;
use nix::sys::stat::{SFlag, fstatat};
use runtime_sys::openat2::{Resolve, openat2};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Writable layers. From [`Store::snapshots`].
pub struct Snapshots<'a> {
    pub(crate) store: &'a Store,
}

/// What an overlay mount needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rw {
    /// Read-only layers, top first. Empty for an image without layers.
    pub lower: Vec<PathBuf>,
    /// Takes the container's changes.
    pub upper: PathBuf,
    /// Overlay's scratch space, on the same file system.
    pub work: PathBuf,
}

impl Snapshots<'_> {
    /// Makes a writable layer on top of `chain` (bottom first), durable on return.
    ///
    /// # Errors
    /// See [`Snapshots::create_in`]; the database fails.
    pub fn create(&self, id: &str, chain: &[ChainId]) -> Result<Rw> {
        let mut batch = Batch::new();
        let rw = self.create_in(&mut batch, id, chain, None)?;
        if let Err(error) = self.store.inner.db.commit_blocking(batch) {
            self.forget(id);
            return Err(error);
        }
        Ok(rw)
    }

    /// As [`Snapshots::create`], but the record goes into the caller's batch, so that a container and its layer cost one
    /// commit. From now on the layer exists and protects `chain`; if the batch is never committed, call
    /// [`Snapshots::removed`], or a restart removes the folder.
    ///
    /// With a `size` in bytes, what is in the layer never takes more than that.
    ///
    /// # Errors
    /// A bad id, an id in use, a missing layer, a full disk, a size where [`Store::quotas`] says no.
    pub fn create_in(&self, batch: &mut Batch, id: &str, chain: &[ChainId], size: Option<u64>) -> Result<Rw> {
        check_id(id)?;
        let inner = &*self.store.inner;
        let folder = inner.root.join("rw");
        let quota = {
            let mut state = inner.state();
            if state.snapshots.contains_key(id) {
                return Err(Error::SnapshotExists { id: id.to_owned() });
            }
            if let Some(missing) = chain.iter().find(|c| !state.layers.contains_key(*c)) {
                return Err(Error::NoSuchLayer { chain: missing.clone() });
            }
            // Under this lock, so that no two get the same project.
            let quota = size
                .map(|bytes| Quota::allot(&folder, &state.quotas, bytes))
                .transpose()?;
            state.snapshots.insert(id.to_owned(), chain.to_vec());
            state.quotas.extend(quota.map(|quota| (id.to_owned(), quota)));
            quota
        };
        let rw = self.rw(id, chain);
        if let Err(error) = make(&folder.join(id), rw.lower.first().map(PathBuf::as_path), quota) {
            self.forget(id);
            return Err(error);
        }
        record::put_snapshot(batch, id, chain, quota, &inner.boot_id);
        Ok(rw)
    }

    /// What the overlay mount of this layer needs.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`].
    pub fn get(&self, id: &str) -> Result<Rw> {
        let state = self.store.inner.state();
        let chain = state
            .snapshots
            .get(id)
            .ok_or_else(|| Error::NoSuchSnapshot { id: id.to_owned() })?;
        Ok(self.rw(id, chain))
    }

    /// Makes sure that a layer with a size is held to it, as before each use: the file system may have been mounted without
    /// quotas, or brought back from a backup.
    ///
    /// # Errors
    /// [`Error::NoQuotas`]; the limit cannot be set.
    pub fn hold_size(&self, id: &str) -> Result<()> {
        let inner = &*self.store.inner;
        let quota = inner.state().quotas.get(id).copied();
        match quota {
            Some(quota) => quota.hold(&inner.root.join("rw").join(id)),
            None => Ok(()),
        }
    }

    /// Counts a file of a container that is not in its layer as if it were, where the layer has a size.
    ///
    /// # Errors
    /// It is not there, or not on the layer's file system.
    pub fn count_in(&self, id: &str, file: &Path) -> Result<()> {
        let quota = self.store.inner.state().quotas.get(id).copied();
        quota.map_or(Ok(()), |quota| quota.include(file))
    }

    /// The read-only layers below it, bottom first.
    pub fn chain(&self, id: &str) -> Option<Vec<ChainId>> {
        self.store.inner.state().snapshots.get(id).cloned()
    }

    /// Ids of all writable layers.
    pub fn list(&self) -> Vec<String> {
        self.store.inner.state().snapshots.keys().cloned().collect()
    }

    /// Removes a writable layer; the record first, its files in the background. Read-only layers that it alone kept are
    /// left to [`Store::gc`].
    ///
    /// # Errors
    /// It is not there; the database fails.
    pub fn remove(&self, id: &str) -> Result<()> {
        if !self.store.inner.state().snapshots.contains_key(id) {
            return Err(Error::NoSuchSnapshot { id: id.to_owned() });
        }
        let mut batch = Batch::new();
        batch.delete(record::SNAPSHOTS, id);
        self.store.inner.db.commit_blocking(batch)?;
        self.forget(id);
        Ok(())
    }

    /// As [`Snapshots::remove`] with the deletion of the record in the caller's batch. When the batch is durable, call
    /// [`Snapshots::removed`]: files that go before their record would leave a container without its layer after a crash.
    ///
    /// # Errors
    /// It is not there.
    pub fn remove_in(&self, batch: &mut Batch, id: &str) -> Result<()> {
        if !self.store.inner.state().snapshots.contains_key(id) {
            return Err(Error::NoSuchSnapshot { id: id.to_owned() });
        }
        batch.delete(record::SNAPSHOTS, id);
        Ok(())
    }

    /// The second half of [`Snapshots::remove_in`]: the files go, in the background.
    pub fn removed(&self, id: &str) {
        self.forget(id);
    }

    /// Copies what an image shows at `path` into the empty folder `target`: the first content of a new volume. An absent
    /// path copies nothing.
    ///
    /// # Errors
    /// The layers cannot be mounted; reading or writing fails.
    pub fn copy_out(&self, chain: &[ChainId], path: &Path, target: &Path) -> Result<()> {
        crate::copy_out::copy_out(&self.store.layers().lower(chain), path, target)
    }

    /// A read-only view of what an image shows, as a detached mount; `None` for an image without layers.
    ///
    /// # Errors
    /// The kernel refuses the mount.
    pub fn view(&self, chain: &[ChainId]) -> Result<Option<std::os::fd::OwnedFd>> {
        let lower = self.store.layers().lower(chain);
        let about = lower.first().cloned().unwrap_or_default();
        crate::copy_out::view(&lower).map_err(Error::io("mount", about))
    }

    /// Bytes of the files in the writable layer (Docker's `SizeRw`): what the container added or changed.
    ///
    /// # Errors
    /// It is not there or cannot be read.
    pub fn size(&self, id: &str) -> Result<u64> {
        let rw = self.get(id)?;
        tree_size(&rw.upper).map_err(Error::io("measure", &rw.upper))
    }

    /// What a container changed, from its writable layer alone.
    ///
    /// # Errors
    /// It is not there or cannot be read.
    pub fn changes(&self, id: &str) -> Result<Vec<Change>> {
        let rw = self.get(id)?;
        Ok(crate::changes::find(&rw.lower, &rw.upper)?.list)
    }

    fn rw(&self, id: &str, chain: &[ChainId]) -> Rw {
        let dir = self.store.inner.root.join("rw").join(id);
        Rw {
            lower: self.store.layers().lower(chain),
            upper: dir.join("upper"),
            work: dir.join("work"),
        }
    }

    fn forget(&self, id: &str) {
        let inner = &*self.store.inner;
        let dir = inner.root.join("rw").join(id);
        let quota = inner.state().quotas.get(id).copied();
        if let Some(quota) = quota {
            quota.release(&inner.root.join("rw"));
        }
        if let Err(error) = inner.trash.discard(&dir) {
            tracing::warn!(id, %error, "a removed writable layer stays until the next start");
        }
        let mut state = inner.state();
        state.snapshots.remove(id);
        state.quotas.remove(id);
    }
}

/// Makes the folders of a layer again whose record is there.
pub(crate) fn remake(inner: &Inner, id: &str, chain: &[ChainId], quota: Option<Quota>) -> Result<()> {
    let dir = inner.root.join("rw").join(id);
    // Without its upper folder there is nothing in it.
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &dir)(error)),
        _ => {}
    }
    let top = chain.last().map(|chain| inner.layer_dir(chain).join("tree"));
    make(&dir, top.as_deref(), None)?;
    if let Some(Err(error)) = quota.map(|quota| quota.hold(&dir)) {
        // The layer is there, and a start will say the same.
        tracing::warn!(id, %error, "a writable layer is not held to its size");
    }
    Ok(())
}

/// `top`: the uppermost read-only layer.
fn make(dir: &Path, top: Option<&Path>, quota: Option<Quota>) -> Result<()> {
    let mkdir = |path: &Path, mode| {
        fs::DirBuilder::new()
            .mode(mode)
            .create(path)
            .map_err(Error::io("create", path))
    };
    mkdir(dir, 0o700)?;
    let made = (|| {
        let upper = dir.join("upper");
        mkdir(&upper, 0o755)?;
        mkdir(&dir.join("work"), 0o700)?;
        // The merged root has the mode and owner of the upper directory: take over what the image says about `/`.
        if let Some(top) = top {
            let meta = fs::metadata(top).map_err(Error::io("look at", top))?;
            let mode = fs::Permissions::from_mode(meta.mode() & 0o7777);
            std::os::unix::fs::chown(&upper, Some(meta.uid()), Some(meta.gid()))
                .and_then(|()| fs::set_permissions(&upper, mode))
                .map_err(Error::io("set owner and mode of", &upper))?;
        }
        quota.map_or(Ok(()), |quota| quota.hold(dir))
    })();
    if made.is_err() {
        drop(fs::remove_dir_all(dir));
    }
    made
}

fn check_id(id: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if id.is_empty() || id.len() > 128 || id.starts_with('.') || !id.bytes().all(good) {
        return Err(Error::BadSnapshotId {
            id: id.chars().take(160).collect(),
        });
    }
    Ok(())
}

/// The container may be running: what it deletes or replaces meanwhile does not count, and no link of it is followed.
pub(crate) fn tree_size(upper: &Path) -> io::Result<u64> {
    let root = File::open(upper)?;
    let flags = nix::libc::O_RDONLY | nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW;
    let (mut sum, mut seen) = (0, HashSet::new());
    let mut folders = vec![PathBuf::from(".")];
    while let Some(path) = folders.pop() {
        // Deeper than a path goes (a hostile container can do that) is not counted either.
        let Ok(fd) = openat2(root.as_fd(), &path, flags, 0, Resolve::IN_ROOT_NO_SYMLINKS) else {
            continue;
        };
        let mut folder = Dir::from_fd(fd)?;
        let fd = folder.as_fd().try_clone_to_owned()?;
        for entry in folder.iter() {
            let Ok(entry) = entry else { break };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(meta) = fstatat(&fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) else {
                continue;
            };
            match SFlag::from_bits_truncate(meta.st_mode & SFlag::S_IFMT.bits()) {
                SFlag::S_IFDIR => folders.push(path.join(OsStr::from_bytes(name.to_bytes()))),
                SFlag::S_IFREG | SFlag::S_IFLNK if meta.st_nlink < 2 || seen.insert(meta.st_ino) => {
                    sum += meta.st_size as u64;
                }
                _ => {}
            }
        }
    }
    Ok(sum)
}
