//! Directories that an archive does not mention.
//!
//! A layer may bring `tmp/file` without `tmp/`. The directory has to be made for the file, and overlayfs shows the topmost
//! directory's owner and mode: with a made-up 0755 such a layer would take the sticky bit from `/tmp`. So a layer keeps a
//! list of the directories that were made up, in `implied`, and when an image with it is recorded (all layers below are
//! complete then) they take owner, mode and time from the next layer below that has them. A chain id means one particular
//! set of layers below, so this is done once, before any container sees the layer.

use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown};
use runtime_sys::openat2::{Resolve, openat2};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const LIST: &str = "implied";

/// Writes the list into a layer's folder, if there is anything in it. The root of the tree is the empty path.
pub(crate) fn note<'p>(layer: &OwnedFd, paths: impl Iterator<Item = &'p [u8]>) -> Result<()> {
    let mut text = Vec::new();
    for path in paths {
        text.extend_from_slice(path);
        text.push(0);
    }
    if text.is_empty() {
        return Ok(());
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let file = openat(layer, LIST, flags, Mode::from_bits_truncate(0o600)).map_err(Error::sys("create", LIST))?;
    File::from(file).write_all(&text).map_err(Error::io("write", LIST))
}

/// Settles the lists of a whole chain of layer folders, bottom first.
pub(crate) fn adopt(chain: &[PathBuf]) -> Result<()> {
    for (at, layer) in chain.iter().enumerate() {
        let list = layer.join(LIST);
        let text = match std::fs::read(&list) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io("read", &list)(e)),
        };
        let open = |layer: &PathBuf| {
            let tree = layer.join("tree");
            File::open(&tree).map_err(Error::io("open", &tree))
        };
        let own = open(layer)?;
        let below = chain[..at].iter().rev().map(open).collect::<Result<Vec<File>>>()?;
        // Each path ends with a zero byte; what is behind the last one is nothing.
        let paths = text.strip_suffix(b"\0").unwrap_or(&text).split(|b| *b == 0);
        for path in paths {
            settle(&own, &below, path).map_err(Error::io("take over owner and mode for", tree_path(layer, path)))?;
        }
        std::fs::remove_file(&list).map_err(Error::io("remove", &list))?;
    }
    Ok(())
}

fn settle(own: &File, below: &[File], path: &[u8]) -> io::Result<()> {
    for tree in below {
        match look(tree, path) {
            Ok(found) if found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() => {
                return apply(own, path, &found);
            }
            Err(e) if e.raw_os_error() == Some(Errno::ENOENT as i32) => {}
            // A whiteout, a file or a link hides what is further down: the directory is a new one.
            Ok(_) => return Ok(()),
            Err(e)
                if matches!(
                    e.raw_os_error().map(Errno::from_raw),
                    Some(Errno::ENOTDIR | Errno::ELOOP)
                ) =>
            {
                return Ok(());
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn look(tree: &File, path: &[u8]) -> io::Result<FileStat> {
    let flags = nix::libc::O_PATH | nix::libc::O_NOFOLLOW;
    Ok(fstat(openat2(
        tree.as_fd(),
        relative(path),
        flags,
        0,
        Resolve::IN_ROOT_NO_SYMLINKS,
    )?)?)
}

fn apply(own: &File, path: &[u8], from: &FileStat) -> io::Result<()> {
    let flags = nix::libc::O_RDONLY | nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW;
    let fd = openat2(own.as_fd(), relative(path), flags, 0, Resolve::IN_ROOT_NO_SYMLINKS)?;
    fchown(&fd, Some(Uid::from_raw(from.st_uid)), Some(Gid::from_raw(from.st_gid)))?;
    fchmod(&fd, Mode::from_bits_truncate(from.st_mode & 0o7777))?;
    let time = TimeSpec::new(from.st_mtime, from.st_mtime_nsec);
    Ok(futimens(&fd, &time, &time)?)
}

fn relative(path: &[u8]) -> &Path {
    if path.is_empty() {
        Path::new(".")
    } else {
        Path::new(std::ffi::OsStr::from_bytes(path))
    }
}

fn tree_path(layer: &Path, path: &[u8]) -> PathBuf {
    layer.join("tree").join(std::ffi::OsStr::from_bytes(path))
}
