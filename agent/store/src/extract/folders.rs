//! The directories of a tree: opened once, given their final look last.

use super::{Built, Extractor, OPAQUE, refuse, show, time, unpack_error};
use crate::error::{Error, Result};
use crate::tar::Entry;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, fchmod, futimens, mkdirat};
use nix::unistd::{Gid, Uid, fchown};
use runtime_sys::openat2::{Resolve, openat2};
use runtime_sys::xattr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

/// Open directories kept. Archives go through a tree folder by folder, so a few dozen serve nearly every entry; the bound
/// is for the file descriptors of several layers at once under the usual limit of 1,024.
const OPEN_DIRS: usize = 64;

/// What a directory looks like in the end.
pub(super) struct DirMeta {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub mtime: (i64, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Made because something lies in it; the archive says nothing about it.
    pub implied: bool,
}

impl DirMeta {
    pub(super) fn implied() -> DirMeta {
        DirMeta {
            uid: 0,
            gid: 0,
            mode: 0o755,
            mtime: (0, 0),
            xattrs: Vec::new(),
            implied: true,
        }
    }
}

/// An open directory of the tree.
pub(super) struct Dir {
    pub fd: OwnedFd,
    /// Its path without symbolic links, relative to the tree; empty for the root.
    pub real: Vec<u8>,
}

impl Dir {
    pub(super) fn child(&self, name: &[u8]) -> Vec<u8> {
        if self.real.is_empty() {
            name.to_vec()
        } else {
            [&self.real, b"/".as_slice(), name].concat()
        }
    }
}

impl Extractor<'_> {
    /// The directory of these components, made if it is missing.
    pub(super) fn dir(&mut self, names: &[&[u8]], entry: &Entry) -> Result<Rc<Dir>> {
        if names.is_empty() {
            return Ok(self.root.clone());
        }
        let key = names.join(&b'/');
        if let Some(dir) = self.dirs.get(&key) {
            return Ok(dir.clone());
        }
        let fail = |source: io::Error| unpack_error("enter the directory of", entry, source);
        let opened = match self.open_dir(&key) {
            Err(e) if e.raw_os_error() == Some(Errno::ENOENT as i32) => {
                // Not in the archive: as everyone, make it with root's ownership. (Each level in turn: a part of the way may
                // lead through a symbolic link.)
                let (last, above) = names.split_last().map_or((&[][..], &[][..]), |(l, a)| (*l, a));
                let parent = self.dir(above, entry)?;
                match mkdirat(&parent.fd, last, Mode::from_bits_truncate(0o755)) {
                    Ok(()) => {}
                    Err(Errno::EEXIST) => return Err(refuse(entry, "its directory is a symbolic link to nowhere")),
                    Err(e) => return Err(unpack_error("create the directory of", entry, e.into())),
                }
                self.pending.insert(parent.child(last), DirMeta::implied());
                self.open_dir(&key).map_err(fail)?
            }
            Err(e) if e.raw_os_error() == Some(Errno::ENOTDIR as i32) => {
                return Err(refuse(entry, "a file stands where its directory should be"));
            }
            Err(e) if e.raw_os_error() == Some(Errno::ELOOP as i32) => {
                return Err(refuse(entry, "its directory is a symbolic link that leads to itself"));
            }
            Err(e) => return Err(fail(e)),
            Ok(opened) => opened,
        };
        if self.dirs.len() >= OPEN_DIRS {
            self.dirs.clear();
        }
        let dir = Rc::new(opened);
        self.dirs.insert(key, dir.clone());
        Ok(dir)
    }

    pub(super) fn open_dir(&self, path: &[u8]) -> io::Result<Dir> {
        let flags = nix::libc::O_RDONLY | nix::libc::O_DIRECTORY;
        let as_path = Path::new(std::ffi::OsStr::from_bytes(path));
        match openat2(self.root.fd.as_fd(), as_path, flags, 0, Resolve::IN_ROOT_NO_SYMLINKS) {
            Ok(fd) => Ok(Dir {
                fd,
                real: path.to_vec(),
            }),
            Err(e) if e.raw_os_error() == Some(Errno::ELOOP as i32) => {
                let fd = openat2(self.root.fd.as_fd(), as_path, flags, 0, Resolve::IN_ROOT)?;
                let real = real_path(&fd)?;
                let real = real.strip_prefix(self.root_path.as_slice()).ok_or(Errno::EXDEV)?;
                Ok(Dir {
                    fd,
                    real: real.strip_prefix(b"/").unwrap_or(real).to_vec(),
                })
            }
            Err(e) => Err(e),
        }
    }

    pub(super) fn make_opaque(&mut self, real: &[u8]) {
        let meta = self.pending.entry(real.to_vec()).or_insert_with(DirMeta::implied);
        if !meta.xattrs.iter().any(|(key, _)| key == OPAQUE) {
            meta.xattrs.push((OPAQUE.to_vec(), b"y".to_vec()));
        }
    }

    /// Gives the directories their final look, deepest first, and ends the tree.
    pub fn finish(self) -> Result<Built> {
        // Deepest first, so that the times of a directory are not touched by work below it. The order of the map does it.
        for (real, meta) in self.pending.iter().rev() {
            self.finish_dir(real, meta).map_err(|source| Error::Unpack {
                what: "set owner, mode, attributes and times of",
                entry: show(real),
                source,
            })?;
        }
        if let Some(extra) = &self.extra
            && !self.moves.is_empty()
        {
            let path = Path::new("/proc/self/fd")
                .join(extra.as_raw_fd().to_string())
                .join("moves");
            self.moves.save(&path)?;
        }
        let implied = self
            .pending
            .iter()
            .filter(|(_, meta)| meta.implied)
            .map(|(real, _)| real.as_slice());
        crate::adopt::note(&self.layer, implied)?;
        Ok(Built {
            entries: self.entries,
            file_bytes: self.file_bytes,
        })
    }

    fn finish_dir(&self, real: &[u8], meta: &DirMeta) -> io::Result<()> {
        let opened;
        let fd: BorrowedFd<'_> = if real.is_empty() {
            self.root.fd.as_fd()
        } else {
            let flags = nix::libc::O_RDONLY | nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW;
            let path = Path::new(std::ffi::OsStr::from_bytes(real));
            opened = openat2(self.root.fd.as_fd(), path, flags, 0, Resolve::IN_ROOT_NO_SYMLINKS)?;
            opened.as_fd()
        };
        if (meta.uid, meta.gid) != (0, 0) {
            fchown(fd, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))?;
        }
        fchmod(fd, Mode::from_bits_truncate(meta.mode))?;
        for (key, value) in &meta.xattrs {
            if key == OPAQUE {
                xattr::set(fd, key, value)?;
                continue;
            }
            if key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay.") {
                continue;
            }
            match xattr::set(fd, key, value) {
                Err(e) if e.raw_os_error() == Some(Errno::ENOTSUP as i32) => {}
                done => done?,
            }
        }
        Ok(futimens(fd, &time(meta.mtime), &time(meta.mtime))?)
    }
}

pub(super) fn meta_of(entry: &Entry) -> DirMeta {
    let xattrs = entry.xattrs.iter().filter(|(key, _)| key != OPAQUE).cloned().collect();
    DirMeta {
        uid: entry.uid,
        gid: entry.gid,
        mode: entry.mode,
        mtime: entry.mtime,
        xattrs,
        implied: false,
    }
}

pub(super) fn real_path(fd: &OwnedFd) -> io::Result<Vec<u8>> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let path = nix::fcntl::readlinkat(AT_FDCWD, link.as_str())?;
    Ok(path.as_bytes().to_vec())
}
