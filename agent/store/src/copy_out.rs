//! Copying a folder of an image into a new volume, as it looks through all layers of the image.
//!
//! The merged view is a detached overlay mount: no path leads to it, and it goes away with its descriptor. Everything below
//! is reached from that descriptor without following a link, so a hostile image can lead neither the reading nor the
//! writing side out of its folder.

use crate::error::{Error, Result};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, futimens, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, symlinkat};
use runtime_sys::mount::{self, attr};
use runtime_sys::openat2::{Resolve, openat2};
use runtime_sys::xattr;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A read-only view of `lower` (top first), as a container on it would see it. No device in it can be opened: whoever reads
/// it may be surprised by one.
pub(crate) fn view(lower: &[PathBuf]) -> io::Result<Option<OwnedFd>> {
    Ok(Some(match lower {
        [] => return Ok(None),
        // Overlayfs refuses a single layer without an upper one; the layer itself is the view then.
        [only] => {
            let tree = mount::clone_tree(only, false)?;
            mount::set_attributes(tree.as_fd(), attr::RDONLY | attr::NODEV, 0, 0, false)?;
            tree
        }
        several => crate::overlay::mount(several, None, attr::RDONLY | attr::NODEV)?,
    }))
}

/// Copies what `lower` shows at `path` into the empty folder `target`, with owners, modes, times and extended attributes;
/// the folder itself takes those of `path`. Nothing happens when `path` is absent or no folder.
pub(crate) fn copy_out(lower: &[PathBuf], path: &Path, target: &Path) -> Result<()> {
    let doing = |what: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| Error::io(what, &path)(source)
    };
    let Some(view) = view(lower).map_err(doing("mount the layers below", path))? else {
        return Ok(());
    };
    let flags = libc_flags(OFlag::O_DIRECTORY | OFlag::O_RDONLY);
    let source = match openat2(view.as_fd(), path, flags, 0, Resolve::IN_ROOT) {
        Ok(source) => source,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(doing("open in the image", path)(error)),
    };
    let into = File::open(target).map_err(doing("open", target))?;
    copy_folder(source, into.as_fd()).map_err(doing("copy from the image", path))
}

fn libc_flags(flags: OFlag) -> i32 {
    flags.bits()
}

fn copy_folder(source: OwnedFd, target: BorrowedFd<'_>) -> io::Result<()> {
    let stat = nix::sys::stat::fstat(&source)?;
    let mut names = Vec::new();
    let mut entries = Dir::from_fd(source.try_clone()?)?;
    for entry in entries.iter() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    for name in &names {
        copy_entry(source.as_fd(), name, target)?;
    }
    // The folder's own data last: filling it changes its times.
    nix::unistd::fchown(
        target,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    nix::sys::stat::fchmod(target, Mode::from_bits_truncate(stat.st_mode))?;
    copy_attributes(source.as_fd(), b".", target, b".")?;
    futimens(target, &accessed(&stat), &modified(&stat))?;
    Ok(())
}

fn copy_entry(source: BorrowedFd<'_>, name: &CStr, target: BorrowedFd<'_>) -> io::Result<()> {
    let stat = fstatat(source, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
    let no_follow = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match kind {
        SFlag::S_IFDIR => {
            mkdirat(target, name, Mode::S_IRWXU)?;
            let from = openat(
                source,
                name,
                OFlag::O_DIRECTORY | OFlag::O_RDONLY | no_follow,
                Mode::empty(),
            )?;
            let to = openat(
                target,
                name,
                OFlag::O_DIRECTORY | OFlag::O_RDONLY | no_follow,
                Mode::empty(),
            )?;
            return copy_folder(from, to.as_fd());
        }
        SFlag::S_IFREG => {
            let from = openat(source, name, OFlag::O_RDONLY | no_follow, Mode::empty())?;
            let to = openat(
                target,
                name,
                OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | no_follow,
                Mode::S_IRUSR,
            )?;
            io::copy(&mut File::from(from), &mut File::from(to))?;
        }
        SFlag::S_IFLNK => {
            let text = readlinkat(source, name)?;
            symlinkat(text.as_os_str(), target, name)?;
        }
        _ => mknodat(target, name, kind, mode, stat.st_rdev)?,
    }
    let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    fchownat(target, name, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if kind != SFlag::S_IFLNK {
        // After the owner: a change of owner takes the set-user-ID bit away.
        fchmodat(target, name, mode, FchmodatFlags::FollowSymlink)?;
        copy_attributes(source, name.to_bytes(), target, name.to_bytes())?;
    }
    utimensat(
        target,
        name,
        &accessed(&stat),
        &modified(&stat),
        UtimensatFlags::NoFollowSymlink,
    )?;
    Ok(())
}

fn copy_attributes(source: BorrowedFd<'_>, from: &[u8], target: BorrowedFd<'_>, to: &[u8]) -> io::Result<()> {
    for (name, value) in xattr::all_at(source, from)? {
        // Overlayfs' own marks say nothing outside of it.
        if !name.starts_with(b"trusted.overlay.") {
            xattr::set_at(target, to, &name, &value)?;
        }
    }
    Ok(())
}

fn accessed(stat: &FileStat) -> TimeSpec {
    TimeSpec::new(stat.st_atime, stat.st_atime_nsec)
}

fn modified(stat: &FileStat) -> TimeSpec {
    TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_folder_is_copied_as_all_layers_show_it() {
        let dir = tempfile::tempdir().unwrap();
        let (top, bottom, out) = (
            dir.path().join("top"),
            dir.path().join("bottom"),
            dir.path().join("out"),
        );
        for folder in [&top, &bottom] {
            fs::create_dir_all(folder.join("data/sub")).unwrap();
        }
        fs::create_dir(&out).unwrap();
        fs::write(bottom.join("data/a"), "old").unwrap();
        fs::write(top.join("data/a"), "new").unwrap();
        fs::write(bottom.join("data/sub/b"), "b").unwrap();
        fs::set_permissions(bottom.join("data/sub/b"), fs::Permissions::from_mode(0o4711)).unwrap();
        std::os::unix::fs::chown(bottom.join("data/sub/b"), Some(70_000), Some(7)).unwrap();
        fs::set_permissions(bottom.join("data/sub/b"), fs::Permissions::from_mode(0o4711)).unwrap();
        symlink("/etc/passwd", bottom.join("data/link")).unwrap();
        symlink("/data", top.join("alias")).unwrap();
        let lower = [top, bottom];
        copy_out(&lower, Path::new("/alias"), &out).unwrap();
        assert_eq!(fs::read_to_string(out.join("a")).unwrap(), "new");
        let meta = fs::metadata(out.join("sub/b")).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (70_000, 7, 0o4711));
        assert_eq!(fs::read_link(out.join("link")).unwrap(), Path::new("/etc/passwd"));
    }

    #[test]
    fn what_is_absent_or_leads_out_copies_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (layer, out) = (dir.path().join("layer"), dir.path().join("out"));
        fs::create_dir(&layer).unwrap();
        fs::create_dir(&out).unwrap();
        symlink("../../../../../../../../etc", layer.join("up")).unwrap();
        for path in ["/absent", "/up", "/up/ssl"] {
            copy_out(std::slice::from_ref(&layer), Path::new(path), &out).unwrap();
        }
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    }
}
