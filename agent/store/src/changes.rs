//! What a container changed: its writable layer, compared with what lies below it.
//!
//! Only the writable layer is walked, however large the image is. The rules are those by which `docker diff` compares two
//! whole trees: a folder is changed when its owner or mode is, or when something in it is; a file when its size, time,
//! owner, mode or capabilities are; what is below a deleted folder is not listed.

use crate::archive::{DEPTH, is_opaque};
use crate::copy_out::view;
use crate::error::{Error, Result};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use runtime_sys::xattr;
use std::collections::{BTreeSet, HashSet};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute.
    pub path: String,
    /// In which way.
    pub kind: Changed,
}

/// How a path differs from the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It is another.
    Modified,
    /// The image has none.
    Added,
    /// The image has one.
    Deleted,
}

/// Everything that differs.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Folders before what is in them.
    pub list: Vec<Change>,
    /// Places that were made to mount something on, as a layer's tar would name them: no change of anybody's.
    pub mount_points: HashSet<Vec<u8>>,
    /// The root's own owner or mode.
    pub root: bool,
}

/// Where every container has something mounted. Docker keeps these places in a layer of their own, which is neither shown
/// nor committed.
const MOUNT_POINTS: [&str; 7] = [
    "dev",
    "proc",
    "sys",
    "etc",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
];

/// Compares `upper` with `lower` (top first).
pub(crate) fn find(lower: &[PathBuf], upper: &Path) -> Result<Changes> {
    let open = |layers: &[PathBuf]| -> io::Result<Option<OwnedFd>> {
        let Some(view) = view(layers)? else { return Ok(None) };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Some(openat(&view, ".", flags, Mode::empty())?))
    };
    let failed = |e| Error::io("compare", upper)(e);
    let below = open(lower).map_err(failed)?;
    let Some(own) = open(&[upper.to_owned()]).map_err(failed)? else {
        return Ok(Changes::default());
    };
    let mut changes = Changes::default();
    if let Some(below) = &below {
        let (new, old) = (fstat(&own), fstat(below));
        changes.root = differs(&new.map_err(|e| failed(e.into()))?, &old.map_err(|e| failed(e.into()))?);
    }
    changes.folder(&own, below.as_ref(), b"", false, 0).map_err(failed)?;
    Ok(changes)
}

impl Changes {
    fn folder(
        &mut self,
        own: &OwnedFd,
        below: Option<&OwnedFd>,
        path: &[u8],
        opaque: bool,
        depth: usize,
    ) -> io::Result<()> {
        if depth > DEPTH {
            return Err(io::Error::other("folders lie too deep inside each other"));
        }
        let mut names = list(own)?;
        let mine = names.clone();
        if let Some(below) = below.filter(|_| opaque) {
            names.extend(list(below)?);
        }
        for name in names {
            let child = join(path, &name);
            let old = below.and_then(|below| look(below.as_fd(), &name));
            let new = match mine.contains(&name) {
                true => look(own.as_fd(), &name),
                false => None,
            };
            match (new, old) {
                (None, None) => {}
                (None, Some(_)) => self.add(&child, Changed::Deleted),
                (Some(new), old) if is_folder(&new) => {
                    self.inner(own, below, (&name, &child), (&new, old), opaque, depth)?
                }
                (Some(new), None) => {
                    if new.st_size == 0 && is_mount_point(&child) {
                        self.mount_points.insert(child);
                    } else {
                        self.add(&child, Changed::Added);
                    }
                }
                (Some(new), Some(old)) => {
                    let capabilities = |dir: BorrowedFd<'_>| capabilities(dir, &name);
                    if differs(&new, &old)
                        || capabilities(own.as_fd())? != below.map_or(Ok(None), |below| capabilities(below.as_fd()))?
                    {
                        self.add(&child, Changed::Modified);
                    }
                }
            }
        }
        Ok(())
    }

    fn inner(
        &mut self,
        own: &OwnedFd,
        below: Option<&OwnedFd>,
        (name, path): (&CStr, &[u8]),
        (new, old): (&FileStat, Option<FileStat>),
        opaque: bool,
        depth: usize,
    ) -> io::Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = match openat(own, name, flags, Mode::empty()) {
            Ok(opened) => opened,
            // Gone since it was listed.
            Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let inner = match (below, &old) {
            (Some(below), Some(old)) if is_folder(old) => Some(openat(below, name, flags, Mode::empty())?),
            _ => None,
        };
        let opaque = opaque || is_opaque(own.as_fd(), name)?;
        let start = self.list.len();
        self.folder(&opened, inner.as_ref(), path, opaque, depth + 1)?;
        let kind = match &old {
            None if self.list.len() == start && is_mount_point(path) => {
                self.mount_points.insert(path.to_vec());
                return Ok(());
            }
            None => Changed::Added,
            Some(old) if differs(new, old) || self.list.len() > start => Changed::Modified,
            Some(_) => return Ok(()),
        };
        self.add(path, kind);
        // Before what is in it.
        self.list[start..].rotate_right(1);
        Ok(())
    }

    fn add(&mut self, path: &[u8], kind: Changed) {
        self.list.push(Change {
            path: format!("/{}", String::from_utf8_lossy(path)),
            kind,
        });
    }
}

/// Whether something is another; the times of folders change with everything in them and say nothing.
fn differs(new: &FileStat, old: &FileStat) -> bool {
    let kept = (new.st_mode, new.st_uid, new.st_gid, new.st_rdev) == (old.st_mode, old.st_uid, old.st_gid, old.st_rdev);
    let content = |stat: &FileStat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    !kept || !is_folder(old) && content(new) != content(old)
}

fn capabilities(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let all = xattr::all_at(dir, name.to_bytes())?;
    Ok(all
        .into_iter()
        .find(|(key, _)| key == b"security.capability")
        .map(|(_, value)| value))
}

fn is_folder(stat: &FileStat) -> bool {
    stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits()
}

fn is_mount_point(path: &[u8]) -> bool {
    MOUNT_POINTS.iter().any(|known| known.as_bytes() == path)
}

/// `None` for what is absent, and for whiteouts.
fn look(dir: BorrowedFd<'_>, name: &CStr) -> Option<FileStat> {
    let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
    let whiteout = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits() && stat.st_rdev == 0;
    (!whiteout).then_some(stat)
}

fn list(folder: &OwnedFd) -> io::Result<BTreeSet<CString>> {
    let mut names = BTreeSet::new();
    for entry in Dir::from_fd(folder.try_clone()?)?.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.insert(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

fn join(path: &[u8], name: &CStr) -> Vec<u8> {
    if path.is_empty() {
        return name.to_bytes().to_vec();
    }
    [path, b"/", name.to_bytes()].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn layers_are_compared_as_whole_trees_would_be() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
        for folder in ["same", "mode", "opaque/inner", "gone", "file-now", "touched"] {
            fs::create_dir_all(lower.join(folder)).unwrap();
        }
        for file in [
            "same/f",
            "opaque/kept",
            "opaque/lost",
            "opaque/inner/x",
            "gone/a",
            "touched/f",
        ] {
            fs::write(lower.join(file), "old").unwrap();
        }
        for folder in ["same", "mode", "opaque", "etc", "new/sub", "dev"] {
            fs::create_dir_all(upper.join(folder)).unwrap();
        }
        fs::set_permissions(upper.join("mode"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(upper.join("opaque/kept"), "another").unwrap();
        fs::write(upper.join("opaque/fresh"), "").unwrap();
        fs::write(upper.join("file-now"), "").unwrap();
        fs::write(upper.join("etc/hosts"), "").unwrap();
        let opaque = fs::File::open(upper.join("opaque")).unwrap();
        xattr::set(opaque.as_fd(), b"trusted.overlay.opaque", b"y").unwrap();
        let whiteout = |path: &str| {
            nix::sys::stat::mknod(&upper.join(path), SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
        };
        whiteout("gone");
        whiteout("never");
        let changes = find(&[lower], &upper).unwrap();
        let shown: Vec<String> = changes
            .list
            .iter()
            .map(|change| format!("{:?} {}", change.kind, change.path))
            .collect();
        assert_eq!(
            shown,
            [
                "Modified /file-now",
                "Deleted /gone",
                "Modified /mode",
                "Added /new",
                "Added /new/sub",
                "Modified /opaque",
                "Added /opaque/fresh",
                "Deleted /opaque/inner",
                "Modified /opaque/kept",
                "Deleted /opaque/lost",
            ]
        );
        let mut skipped: Vec<_> = changes.mount_points.into_iter().collect();
        skipped.sort();
        assert_eq!(skipped, [b"dev".to_vec(), b"etc".to_vec(), b"etc/hosts".to_vec()]);
    }
}
