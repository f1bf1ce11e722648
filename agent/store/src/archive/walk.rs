//! Folders as entries of a tar, for export, copies out of containers, and commits.

use super::writer::TarWriter;
use crate::error::{Error, Result};
use crate::extract::{OPAQUE, WHITEOUT, WHITEOUT_OPAQUE};
use crate::tar::{BLOCK, Header};
use crate::tree::{Owners, is_kernels, reopen};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, major, minor};
use runtime_sys::xattr;
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Directories inside each other: each level holds a descriptor, and only a hostile container has more.
pub(crate) const DEPTH: usize = 256;

/// What is walked.
enum Subject<'a> {
    /// Layers merged by a mount on which devices cannot be opened.
    View,
    /// A container's tree, with all its mounts, as it is changing; with whom the files belong to inside.
    Tree(&'a Owners),
    /// A writable layer alone, on such a mount; with what in it is no change: mount points.
    Layer(&'a HashSet<Vec<u8>>),
}

/// A walk through a tree, and where it is written.
pub(crate) struct Walk<'a, W> {
    tar: &'a mut TarWriter<W>,
    subject: Subject<'a>,
    /// Files with several names → the first of them.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<'a, W: Write> Walk<'a, W> {
    fn new(tar: &'a mut TarWriter<W>, subject: Subject<'a>) -> Walk<'a, W> {
        Walk {
            tar,
            subject,
            links: HashMap::new(),
            buffer: vec![0; 256 << 10],
        }
    }

    /// Of a read-only mount without devices.
    pub fn of_a_view(tar: &'a mut TarWriter<W>) -> Walk<'a, W> {
        Walk::new(tar, Subject::View)
    }

    /// Of what a container sees, while it may be changing it.
    pub fn of_a_tree(tar: &'a mut TarWriter<W>, owners: &'a Owners) -> Walk<'a, W> {
        Walk::new(tar, Subject::Tree(owners))
    }

    /// Of a writable layer, on a read-only mount without devices; what was deleted is written as layers have it. Paths in
    /// `skip` are left out.
    pub fn of_a_layer(tar: &'a mut TarWriter<W>, skip: &'a HashSet<Vec<u8>>) -> Walk<'a, W> {
        Walk::new(tar, Subject::Layer(skip))
    }

    /// Everything in a folder. `path` is its name in the archive, with a slash at its end.
    pub fn folder(&mut self, dir: OwnedFd, path: &[u8], depth: usize) -> Result<()> {
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
            if let Subject::Layer(skip) = self.subject
                && skip.contains(&child)
            {
                continue;
            }
            match self.entry(dir.as_fd(), &name, &child, depth) {
                // Deleted since it was listed.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// One file, link, device, or a folder with all that is in it.
    pub fn entry(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: &[u8], depth: usize) -> Result<()> {
        let no_follow = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        let fail = |what| move |e: Errno| at(what, path)(e.into());
        let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(fail("look at"))?;
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFDIR => {
                let fd = openat(dir, name, no_follow | OFlag::O_DIRECTORY, Mode::empty());
                let fd = fd.map_err(fail("open"))?;
                let below = [path, b"/"].concat();
                self.header(&stat, &below, b'5', dir, name)?;
                match self.subject {
                    Subject::View => {}
                    // A mount of a file system that is no storage.
                    Subject::Tree(_) => {
                        let above = fstat(dir).map_err(fail("look at"))?;
                        let inner = fstat(&fd).map_err(fail("look at"))?;
                        if above.st_dev != inner.st_dev && is_kernels(fd.as_fd()).map_err(at("look at", path))? {
                            return Ok(());
                        }
                    }
                    Subject::Layer(_) => {
                        if is_opaque(dir, name).map_err(at("read the attributes of", path))? {
                            let mark = [below.as_slice(), WHITEOUT_OPAQUE].concat();
                            self.tar.header(&Header::new(&mark, b'0'))?;
                        }
                    }
                }
                self.folder(fd, &below, depth + 1)
            }
            SFlag::S_IFREG => {
                if self.is_linked(&stat, path)? {
                    return Ok(());
                }
                let fd = self.open(dir, name).map_err(at("open", path))?;
                let stat = fstat(&fd).map_err(fail("look at"))?;
                if SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFREG {
                    return Ok(());
                }
                let size = self.header(&stat, path, b'0', dir, name)?;
                self.content(fd, size, path)
            }
            SFlag::S_IFLNK => {
                if self.is_linked(&stat, path)? {
                    return Ok(());
                }
                let link = readlinkat(dir, name).map_err(fail("read the link"))?;
                let mut header = self.describe(&stat, path, b'2', dir, name)?;
                header.link = link.as_bytes().to_vec();
                self.tar.header(&header)
            }
            // A whiteout; in a view, visible when there is no layer below.
            SFlag::S_IFCHR if stat.st_rdev == 0 => match self.subject {
                Subject::Layer(_) => {
                    let above = path.len() - name.to_bytes().len();
                    let mark = [&path[..above], WHITEOUT, &path[above..]].concat();
                    self.tar.header(&Header::new(&mark, b'0'))
                }
                Subject::View | Subject::Tree(_) => Ok(()),
            },
            SFlag::S_IFCHR => self.header(&stat, path, b'3', dir, name).map(drop),
            SFlag::S_IFBLK => self.header(&stat, path, b'4', dir, name).map(drop),
            SFlag::S_IFIFO => self.header(&stat, path, b'6', dir, name).map(drop),
            // Sockets mean nothing without their process; tar has no type for them.
            _ => Ok(()),
        }
    }

    fn open(&self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<File> {
        let no_follow = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match self.subject {
            // A device may have taken the file's place since, and opening one does something: that of a watchdog restarts
            // the machine.
            Subject::Tree(_) => {
                let seen = openat(dir, name, no_follow | OFlag::O_PATH, Mode::empty())?;
                reopen(seen.as_fd())
            }
            // Here the kernel refuses devices; but a named pipe may have come: do not wait for a writer.
            Subject::View | Subject::Layer(_) => {
                let flags = no_follow | OFlag::O_RDONLY | OFlag::O_NONBLOCK;
                Ok(File::from(openat(dir, name, flags, Mode::empty())?))
            }
        }
    }

    fn owner(&self, stat: &FileStat) -> (u32, u32) {
        match self.subject {
            Subject::Tree(owners) => owners.inside(stat.st_uid, stat.st_gid),
            Subject::View | Subject::Layer(_) => (stat.st_uid, stat.st_gid),
        }
    }

    fn time(&self, stat: &FileStat) -> (i64, u32) {
        match self.subject {
            // Whole seconds, as `docker cp`: a fraction takes two blocks more for each file.
            Subject::Tree(_) => (stat.st_mtime, 0),
            Subject::View | Subject::Layer(_) => (stat.st_mtime, stat.st_mtime_nsec as u32),
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
                header.mode = stat.st_mode & 0o7777;
                (header.uid, header.gid) = self.owner(stat);
                header.mtime = self.time(stat);
                self.tar.header(&header)?;
                Ok(true)
            }
            None => {
                self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
                Ok(false)
            }
        }
    }

    fn describe(&self, stat: &FileStat, path: &[u8], flag: u8, dir: BorrowedFd<'_>, name: &CStr) -> Result<Header> {
        let mut header = Header::new(path, flag);
        header.mode = stat.st_mode & 0o7777;
        (header.uid, header.gid) = self.owner(stat);
        header.mtime = self.time(stat);
        if flag == b'0' {
            header.size = stat.st_size as u64;
        }
        if matches!(flag, b'3' | b'4') {
            header.device = (major(stat.st_rdev), minor(stat.st_rdev));
        }
        header.xattrs = xattr::all_at(dir, name.to_bytes()).map_err(at("read the attributes of", path))?;
        header.xattrs.retain(|(key, _)| match self.subject {
            // What `docker cp` carries, and what a user set: the rest belongs to the file system it is on.
            Subject::Tree(_) => key == b"security.capability" || key.starts_with(b"user."),
            Subject::View | Subject::Layer(_) => !key.starts_with(b"trusted.overlay."),
        });
        Ok(header)
    }

    /// Writes the header of one entry; the bytes that must follow are returned.
    pub fn header(&mut self, stat: &FileStat, path: &[u8], flag: u8, dir: BorrowedFd<'_>, name: &CStr) -> Result<u64> {
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

/// Whether a folder of a writable layer hides what is below it.
pub(crate) fn is_opaque(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    let all = xattr::all_at(dir, name.to_bytes())?;
    Ok(all.iter().any(|(key, value)| key == OPAQUE && value == b"y"))
}

fn at(what: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> Error {
    Error::io(what, Path::new(std::ffi::OsStr::from_bytes(path)))
}
