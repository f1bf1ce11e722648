//! Exporting: the merged view of a container as a tar.
//!
//! The view is a detached read-only overlay mount, reached by its descriptor only. A running container may change files
//! meanwhile: each header is true to its file's length at that moment, and what grew is cut, what shrank is filled up.

use super::writer::TarWriter;
use crate::copy_out::view;
use crate::error::{Error, Result};
use crate::tar::{BLOCK, Header};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, major, minor};
use runtime_sys::xattr;
use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Directories inside each other: each level holds a descriptor, and only a hostile container has more.
const DEPTH: usize = 256;

/// How to export.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {}

pub(super) fn export(
    lower: &[PathBuf],
    upper: Option<&Path>,
    _options: &ExportOptions,
    writer: impl Write,
) -> Result<()> {
    let layers: Vec<PathBuf> = upper
        .iter()
        .map(|u| u.to_path_buf())
        .chain(lower.iter().cloned())
        .collect();
    let shown = layers.first().cloned().unwrap_or_default();
    let mut tar = TarWriter::new(writer);
    if let Some(view) = view(&layers).map_err(Error::io("mount the merged view of", &shown))? {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = openat(&view, ".", flags, Mode::empty()).map_err(Error::sys("open the merged view of", &shown))?;
        let mut walk = Walk {
            tar: &mut tar,
            links: HashMap::new(),
            buffer: vec![0; 256 << 10],
        };
        walk.folder(root, b"", 0)?;
    }
    tar.finish()
}

struct Walk<'a, W> {
    tar: &'a mut TarWriter<W>,
    /// Files with several names → the first of them.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<W: Write> Walk<'_, W> {
    fn folder(&mut self, dir: OwnedFd, path: &[u8], depth: usize) -> Result<()> {
        if depth > DEPTH {
            return Err(Error::Limit {
                what: "how deep folders lie inside each other",
                limit: DEPTH as u64,
            });
        }
        let mut names: Vec<CString> = Vec::new();
        let read = dir.try_clone().and_then(|fd| Ok(Dir::from_fd(fd)?));
        for entry in read.map_err(at("list", path))?.iter() {
            let entry = entry.map_err(|e| at("list", path)(e.into()))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        // The same container gives the same archive.
        names.sort();
        for name in names {
            let child = [path, name.to_bytes()].concat();
            match self.entry(dir.as_fd(), &name, &child, depth) {
                // Deleted since it was listed.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
        }
        Ok(())
    }

    fn entry(&mut self, dir: BorrowedFd<'_>, name: &CString, path: &[u8], depth: usize) -> Result<()> {
        let no_follow = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        let fail = |what| move |e: Errno| at(what, path)(e.into());
        let stat = fstatat(dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(fail("look at"))?;
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFDIR => {
                let fd = openat(dir, name.as_c_str(), no_follow | OFlag::O_DIRECTORY, Mode::empty());
                let fd = fd.map_err(fail("open"))?;
                let below = [path, b"/"].concat();
                self.header(&stat, &below, b'5', dir, name)?;
                self.folder(fd, &below, depth + 1)
            }
            SFlag::S_IFREG => {
                if self.is_linked(&stat, path)? {
                    return Ok(());
                }
                // A named pipe may have taken its place since: do not wait for a writer.
                let fd = openat(dir, name.as_c_str(), no_follow | OFlag::O_NONBLOCK, Mode::empty());
                let fd = fd.map_err(fail("open"))?;
                let stat = fstat(&fd).map_err(fail("look at"))?;
                if SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFREG {
                    return Ok(());
                }
                let size = self.header(&stat, path, b'0', dir, name)?;
                self.content(File::from(fd), size, path)
            }
            SFlag::S_IFLNK => {
                if self.is_linked(&stat, path)? {
                    return Ok(());
                }
                let link = readlinkat(dir, name.as_c_str()).map_err(fail("read the link"))?;
                let mut header = self.describe(&stat, path, b'2', dir, name)?;
                header.link = link.as_bytes().to_vec();
                self.tar.header(&header)
            }
            // A whiteout, visible when there is no layer below.
            SFlag::S_IFCHR if stat.st_rdev == 0 => Ok(()),
            SFlag::S_IFCHR => self.header(&stat, path, b'3', dir, name).map(drop),
            SFlag::S_IFBLK => self.header(&stat, path, b'4', dir, name).map(drop),
            SFlag::S_IFIFO => self.header(&stat, path, b'6', dir, name).map(drop),
            // Sockets mean nothing without their process; tar has no type for them.
            _ => Ok(()),
        }
    }

    /// Writes a hard link if the file was seen under another name.
    fn is_linked(&mut self, stat: &FileStat, path: &[u8]) -> Result<bool> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        match self.links.get(&(stat.st_dev, stat.st_ino)) {
            Some(first) => {
                let mut header = Header::new(path, b'1');
                header.link = first.clone();
                (header.mode, header.uid, header.gid) = (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
                header.mtime = (stat.st_mtime, stat.st_mtime_nsec as u32);
                self.tar.header(&header)?;
                Ok(true)
            }
            None => {
                self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
                Ok(false)
            }
        }
    }

    fn describe(&self, stat: &FileStat, path: &[u8], flag: u8, dir: BorrowedFd<'_>, name: &CString) -> Result<Header> {
        let mut header = Header::new(path, flag);
        header.mode = stat.st_mode & 0o7777;
        (header.uid, header.gid) = (stat.st_uid, stat.st_gid);
        header.mtime = (stat.st_mtime, stat.st_mtime_nsec as u32);
        if flag == b'0' {
            header.size = stat.st_size as u64;
        }
        if matches!(flag, b'3' | b'4') {
            header.device = (major(stat.st_rdev), minor(stat.st_rdev));
        }
        header.xattrs = xattr::all_at(dir, name.to_bytes()).map_err(at("read the attributes of", path))?;
        header.xattrs.retain(|(key, _)| !key.starts_with(b"trusted.overlay."));
        Ok(header)
    }

    fn header(&mut self, stat: &FileStat, path: &[u8], flag: u8, dir: BorrowedFd<'_>, name: &CString) -> Result<u64> {
        let header = self.describe(stat, path, flag, dir, name)?;
        self.tar.header(&header)?;
        Ok(header.size)
    }

    fn content(&mut self, mut file: File, size: u64, path: &[u8]) -> Result<()> {
        let mut left = size;
        while left > 0 {
            let want = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let n = match file.read(&mut self.buffer[..want]) {
                Ok(0) => {
                    self.buffer[..want].fill(0);
                    want
                }
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // The header is out: an archive with a lie in it is worse than none.
                Err(e) => {
                    return Err(Error::Source {
                        what: "a file to export",
                        source: e,
                    });
                }
            };
            self.tar.write(&self.buffer[..n])?;
            left -= n as u64;
        }
        tracing::trace!(path = %String::from_utf8_lossy(path), size, "exported");
        let padding = (BLOCK - (size % BLOCK as u64) as usize) % BLOCK;
        self.tar.write(&[0; BLOCK][..padding])
    }
}

fn at(what: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> Error {
    Error::io(what, Path::new(std::ffi::OsStr::from_bytes(path)))
}
