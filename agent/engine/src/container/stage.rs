//! Sources that have no safe path of their own: views of images, and paths below volumes and images.
//!
//! A folder of a volume is found by `openat2` inside of the volume and cloned by its descriptor, so that no link in it,
//! also one that is put there in that very moment, leads out. The clone is attached below the daemon's own folder, where
//! nobody else can exchange it; the shim binds it from there into the container, and it is taken away again when the start
//! is over. What a crash leaves there goes at the next start of the daemon.

use std::fs::{self, DirBuilder, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use agent_store::Digest;
use nix::libc;
use runtime_sys::mount;
use runtime_sys::openat2::{Resolve, openat2};

use super::Record;
use super::mounts::{MountKind, MountPoint};
use crate::Engine;
use crate::disk;
use crate::error::{Error, Result};

/// Whether a mount's source is staged rather than bound from where it is.
pub(crate) fn is_staged(point: &MountPoint) -> bool {
    point.kind == MountKind::Image || (point.kind == MountKind::Volume && !point.subpath.is_empty())
}

/// Where the source of the mount with this number is during a start.
pub(crate) fn place(stage: &Path, number: usize) -> PathBuf {
    stage.join(number.to_string())
}

/// What is staged for one start; goes when it is dropped.
pub(crate) struct Staged(PathBuf);

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(error) = clear(&self.0) {
            tracing::warn!(folder = %self.0.display(), error = %error.chain(), "what was mounted for a start stays until the next one");
        }
    }
}

/// Unmounts and removes what is staged in a folder.
pub(crate) fn clear(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    disk::detach_below(folder)?;
    fs::remove_dir_all(folder).map_err(Error::io(format!("remove {}", folder.display())))
}

impl Engine {
    /// Mounts what the container's mounts need for a start. Blocks.
    pub(crate) fn stage(&self, record: &Record) -> Result<Option<Staged>> {
        if !record.mounts.iter().any(is_staged) {
            return Ok(None);
        }
        let folder = self.places(&record.id).stage;
        clear(&folder)?;
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(Error::io(format!("create {}", folder.display())))?;
        let staged = Staged(folder.clone());
        for (number, point) in record.mounts.iter().enumerate().filter(|(_, point)| is_staged(point)) {
            let tree = self.staged_tree(point)?;
            attach(tree.as_fd(), &place(&folder, number))
                .map_err(Error::io(format!("mount the source of {}", point.target)))?;
        }
        Ok(Some(staged))
    }

    /// The source of a mount that [`is_staged`], attached nowhere.
    pub(crate) fn staged_tree(&self, point: &MountPoint) -> Result<OwnedFd> {
        match point.kind {
            MountKind::Image => self.image_tree(point),
            _ => volume_tree(point),
        }
    }

    /// Removes what a crash left of starts.
    pub(crate) fn clear_stages(&self) -> Result<()> {
        let root = self.config.exec_root.join("stage");
        let entries = fs::read_dir(&root).map_err(Error::io(format!("list {}", root.display())))?;
        for entry in entries.flatten() {
            clear(&entry.path())?;
        }
        Ok(())
    }

    fn image_tree(&self, point: &MountPoint) -> Result<OwnedFd> {
        let gone = || Error::NoSuchImage(point.name.clone());
        let id = Digest::parse(&point.name).map_err(|_| gone())?;
        let image = self.store.images().by_id(&id).ok_or_else(gone)?;
        let view = self.store.snapshots().view(&image.chain)?;
        let view = view.ok_or_else(|| Error::invalid(format!("image {} has no files to mount", point.name)))?;
        match point.subpath.as_str() {
            "" => Ok(view),
            sub => inner(view.as_fd(), sub, &format!("image {}", point.name)),
        }
    }
}

fn volume_tree(point: &MountPoint) -> Result<OwnedFd> {
    let what = format!("volume {}", point.name);
    let root = File::open(&point.source).map_err(Error::io(format!("open {what}")))?;
    inner(root.as_fd(), &point.subpath, &what)
}

/// A clone of what lies at `sub` below a root; links lead at most to other places below it.
fn inner(root: BorrowedFd<'_>, sub: &str, what: &str) -> Result<OwnedFd> {
    let opened =
        openat2(root, Path::new(sub), libc::O_PATH, 0, Resolve::IN_ROOT).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::invalid(format!("cannot access path {sub} of {what}: no such file or directory"))
            }
            _ => Error::io(format!("open {sub} of {what}"))(error),
        })?;
    mount::clone_tree_of(opened.as_fd(), true).map_err(Error::io(format!("clone {sub} of {what}")))
}

/// Attaches a tree at a new place: a folder for a folder, a file for anything else.
fn attach(tree: BorrowedFd<'_>, place: &Path) -> std::io::Result<()> {
    let kind = nix::sys::stat::fstat(tree)?.st_mode & libc::S_IFMT;
    if kind == libc::S_IFDIR {
        fs::create_dir(place)?;
    } else {
        File::create_new(place)?;
    }
    let target = nix::fcntl::open(
        place,
        nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NOFOLLOW,
        nix::sys::stat::Mode::empty(),
    )?;
    // Nothing that happens to the original's mounts shall reach the copy, nor the other way round.
    let private = nix::mount::MsFlags::MS_PRIVATE.bits();
    mount::set_attributes(tree, 0, 0, private, true)?;
    mount::attach(tree, target.as_fd())
}
