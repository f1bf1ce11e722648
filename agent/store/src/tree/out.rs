//! Out of a tree: one path, and what is below it, as a tar.

use super::{Tree, is, path};
use crate::archive::{TarWriter, Walk};
use crate::error::{Error, Result};
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// What is to be written, opened.
#[derive(Debug)]
pub struct Source {
    tree: Arc<Tree>,
    /// The folder itself, or the one in which the file is.
    folder: OwnedFd,
    /// The file's name in it.
    name: Option<CString>,
    /// The name in the archive.
    shown: String,
}

impl Source {
    pub(super) fn open(tree: Arc<Tree>, path: &str, mode: u32) -> Result<Source> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let shown = path::base(path).to_owned();
        let is_folder = mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
        let (folder, name) = if is_folder {
            (tree.open(path, flags)?, None)
        } else {
            let (above, name) = path::split(path);
            let name = CString::new(name).map_err(|_| Error::NoSuchFile { path: path.to_owned() })?;
            (tree.open(above, flags)?, Some(name))
        };
        Ok(Source {
            tree,
            folder,
            name,
            shown,
        })
    }

    /// Writes it, as `docker cp` has it: a folder's entries begin with its name, which is `.` when the path said so.
    ///
    /// # Errors
    /// The writer fails; something cannot be read.
    pub fn write(self, writer: impl Write) -> Result<()> {
        let mut tar = TarWriter::new(writer);
        let mut walk = Walk::of_a_tree(&mut tar, &self.tree.owners);
        match &self.name {
            Some(name) => walk.entry(self.folder.as_fd(), name, self.shown.as_bytes(), 0)?,
            None => {
                let stat = fstat(&self.folder).map_err(Error::sys("look at", &self.shown))?;
                // The root's entries begin with the slash alone.
                let prefix = format!("{}/", self.shown.trim_end_matches('/'));
                walk.header(&stat, prefix.as_bytes(), b'5', self.folder.as_fd(), c".")?;
                walk.folder(self.folder, prefix.as_bytes(), 0)?;
            }
        }
        tar.finish()
    }
}

/// Opens for reading what was opened to be looked at, if it is a file: nothing else is ever opened for its content, because
/// opening alone does something with devices, and waits with pipes.
pub(crate) fn reopen(seen: BorrowedFd<'_>) -> io::Result<File> {
    let stat = fstat(seen)?;
    if !is(&stat, SFlag::S_IFREG) {
        return Err(io::Error::from_raw_os_error(nix::libc::ENOENT));
    }
    File::open(format!("/proc/self/fd/{}", seen.as_raw_fd()))
}
