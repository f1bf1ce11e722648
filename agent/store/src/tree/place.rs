//! Making one entry in a folder that is open, and taking one away.

use super::into::Unpacking;
use crate::error::Result;
use crate::tar::{Entry, Kind, TarReader};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, futimens, makedev, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};
use runtime_sys::xattr;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// Folders inside each other that are removed; each level holds a descriptor.
const DEPTH: usize = 512;

impl Unpacking<'_> {
    pub(super) fn make_folder(&self, entry: &Entry, folder: &OwnedFd, name: &[u8]) -> Result<()> {
        match mkdirat(folder, name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(self.failed("create the folder", entry, e.into())),
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = openat(folder, name, flags, Mode::empty()).map_err(|e| self.failed("enter", entry, e.into()))?;
        let owner = self.owner_of(entry)?;
        self.own(&made, owner)
            .and_then(|()| fchmod(&made, Mode::from_bits_truncate(entry.mode)))
            .map_err(|e| self.failed("set owner and mode of", entry, e.into()))?;
        self.attributes(entry, |key, value| xattr::set(made.as_fd(), key, value))
    }

    pub(super) fn make_file<R: BufRead>(
        &self,
        entry: &Entry,
        folder: &OwnedFd,
        name: &[u8],
        tar: &mut TarReader<R>,
    ) -> Result<()> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fail = |what: &'static str| move |e: Errno| self.failed(what, entry, e.into());
        let file = openat(folder, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(fail("create"))?;
        let done = self.fill_file(entry, &File::from(file), tar);
        if done.is_err() {
            // Half a file is worse than none, and takes the room that there was too little of. (By name: whatever a container
            // has put there meanwhile is its own.)
            let _ = unlinkat(folder, name, UnlinkatFlags::NoRemoveDir);
        }
        done
    }

    fn fill_file<R: BufRead>(&self, entry: &Entry, file: &File, tar: &mut TarReader<R>) -> Result<()> {
        let fail = |what: &'static str| move |e: Errno| self.failed(what, entry, e.into());
        match &entry.sparse {
            None => self.content(entry, file, 0, entry.stored, tar)?,
            Some(segments) => {
                for part in segments {
                    self.content(entry, file, part.offset, part.len, tar)?;
                }
                file.set_len(entry.size)
                    .map_err(|e| self.failed("set the length of", entry, e))?;
            }
        }
        let owner = self.owner_of(entry)?;
        self.own(file, owner).map_err(fail("set the owner of"))?;
        fchmod(file, Mode::from_bits_truncate(entry.mode)).map_err(fail("set the mode of"))?;
        // After the owner: a change of owner takes capabilities away.
        self.attributes(entry, |key, value| xattr::set(file.as_fd(), key, value))?;
        futimens(file, &time(entry), &time(entry)).map_err(fail("set the time of"))
    }

    fn content<R: BufRead>(
        &self,
        entry: &Entry,
        file: &File,
        mut offset: u64,
        mut left: u64,
        tar: &mut TarReader<R>,
    ) -> Result<()> {
        while left > 0 {
            let bytes = tar.payload(left)?;
            let n = bytes.len();
            file.write_all_at(bytes, offset)
                .map_err(|e| self.failed("write", entry, e))?;
            tar.consume(n);
            offset += n as u64;
            left -= n as u64;
        }
        Ok(())
    }

    pub(super) fn make_hard_link(
        &self,
        entry: &Entry,
        folder: &OwnedFd,
        name: &[u8],
        target: &OwnedFd,
        last: &[u8],
    ) -> Result<()> {
        linkat(target, last, folder, name, AtFlags::empty()).map_err(|e| self.failed_link(entry, e.into()))
    }

    pub(super) fn make_symlink(&self, entry: &Entry, folder: &OwnedFd, name: &[u8]) -> Result<()> {
        symlinkat(entry.link.as_slice(), folder, name).map_err(|e| self.failed("create the link", entry, e.into()))?;
        self.dress(entry, folder, name)
    }

    pub(super) fn make_node(&self, entry: &Entry, folder: &OwnedFd, name: &[u8]) -> Result<()> {
        let kind = match entry.kind {
            Kind::Char => SFlag::S_IFCHR,
            Kind::BlockDevice => SFlag::S_IFBLK,
            _ => SFlag::S_IFIFO,
        };
        let (mode, device) = (
            Mode::from_bits_truncate(entry.mode),
            makedev(entry.device.0, entry.device.1),
        );
        mknodat(folder, name, kind, mode, device).map_err(|e| self.failed("create the node", entry, e.into()))?;
        self.dress(entry, folder, name)
    }

    /// Owner, mode, attributes and times of what cannot be opened. By name: a container that replaces it in between has a
    /// file of its own with these, for nothing here follows a link.
    fn dress(&self, entry: &Entry, folder: &OwnedFd, name: &[u8]) -> Result<()> {
        let fail = |what: &'static str| move |e: Errno| self.failed(what, entry, e.into());
        let (uid, gid) = self.owner_of(entry)?;
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        fchownat(folder, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(fail("set the owner of"))?;
        if entry.kind != Kind::Symlink {
            match fchmodat(
                folder,
                name,
                Mode::from_bits_truncate(entry.mode),
                FchmodatFlags::NoFollowSymlink,
            ) {
                // Became a link meanwhile, or a kernel without the call: the mode of its making stays.
                Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {}
                Err(e) => return Err(fail("set the mode of")(e)),
            }
        }
        self.attributes(entry, |key, value| xattr::set_at(folder.as_fd(), name, key, value))?;
        utimensat(
            folder,
            name,
            &time(entry),
            &time(entry),
            UtimensatFlags::NoFollowSymlink,
        )
        .map_err(fail("set the time of"))
    }

    pub(super) fn own(&self, file: impl AsFd, (uid, gid): (u32, u32)) -> nix::Result<()> {
        fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
    }

    /// As Docker: what this file system does not have, or does not let us have, is left out.
    fn attributes(&self, entry: &Entry, set: impl Fn(&[u8], &[u8]) -> io::Result<()>) -> Result<()> {
        for (key, value) in &entry.xattrs {
            // They would forge overlay's own marks.
            if key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay.") {
                continue;
            }
            match set(key, value) {
                Err(e) if matches!(e.raw_os_error(), Some(nix::libc::ENOTSUP | nix::libc::EPERM)) => {
                    tracing::debug!(entry = entry.display(), key = %String::from_utf8_lossy(key), "an attribute is left out");
                }
                done => done.map_err(|e| self.failed("set an attribute of", entry, e))?,
            }
        }
        Ok(())
    }
}

fn time(entry: &Entry) -> TimeSpec {
    TimeSpec::new(entry.mtime.0, entry.mtime.1.into())
}

/// Removes what is there, a folder with all that is in it. No link is followed.
pub(super) fn remove(folder: BorrowedFd<'_>, name: &[u8], depth: usize) -> io::Result<()> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(e) => return Err(e.into()),
    }
    if depth > DEPTH {
        return Err(Errno::ENAMETOOLONG.into());
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let inner = openat(folder, name, flags, Mode::empty())?;
    let mut names: Vec<CString> = Vec::new();
    for entry in Dir::from_fd(inner.try_clone()?)?.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    for name in names {
        remove(inner.as_fd(), name.to_bytes(), depth + 1)?;
    }
    match unlinkat(folder, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
