//! Files in and out of a tree that somebody else may be changing: the root of a container.
//!
//! A [`Tree`] is an open root. Whose it is, is the caller's matter: that of a running container (`/proc/PID/root`, which
//! shows what the container sees without entering any of its namespaces), or a [`view`] of layers that nobody has mounted.
//!
//! What a container can do meanwhile, and why it gets nothing by it:
//!
//! | it | we |
//! | --- | --- |
//! | puts a link in the way, at any moment | walk by `openat2(RESOLVE_IN_ROOT)`: each link leads to a place of its own tree |
//! | replaces the last component | never follow it: `O_NOFOLLOW`, `O_EXCL`, `unlinkat`, or the descriptor that was looked at |
//! | puts a device or a pipe where a file was | look at it by `O_PATH` first, and open exactly what was looked at |
//! | moves an open folder away | write into that folder, wherever it is in its tree |
//! | grows or shrinks a file being read | stay true to the size in the header: cut, or fill with zeros |
//! | mounts a kernel file system where a folder was | show it empty, and write nothing to it |

mod into;
mod out;
mod path;
mod place;
mod view;

pub use into::{IntoOptions, Target};
pub use out::Source;
pub(crate) use out::reopen;
pub use view::{Bind, BindSource, View, view};

use crate::error::{Error, Result};
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, SFlag, fstat};
use runtime_sys::openat2::{Resolve, openat2};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Whom the files belong to, for somebody who looks from inside: ranges of `uid_map` and `gid_map`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    /// First id inside, first id outside, how many. None at all: everybody is the same inside and outside.
    pub users: Vec<(u32, u32, u32)>,
    /// As `users`.
    pub groups: Vec<(u32, u32, u32)>,
}

/// Whom the kernel shows where an id has no place in a namespace.
const NOBODY: u32 = 65534;

impl Owners {
    pub(crate) fn inside(&self, uid: u32, gid: u32) -> (u32, u32) {
        let find = |ranges: &[(u32, u32, u32)], id: u32| {
            if ranges.is_empty() {
                return id;
            }
            let range = ranges
                .iter()
                .find(|(_, outside, count)| id.wrapping_sub(*outside) < *count);
            range.map_or(NOBODY, |(inside, outside, _)| inside + (id - outside))
        };
        (find(&self.users, uid), find(&self.groups, gid))
    }

    fn outside(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let find = |ranges: &[(u32, u32, u32)], id: u32| {
            if ranges.is_empty() {
                return Some(id);
            }
            let range = ranges
                .iter()
                .find(|(inside, _, count)| id.wrapping_sub(*inside) < *count);
            range.map(|(inside, outside, _)| outside + (id - inside))
        };
        Some((find(&self.users, uid)?, find(&self.groups, gid)?))
    }
}

/// An open root.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    owners: Owners,
    /// What must stay open for as long as the root is used.
    _keep: Option<OwnedFd>,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The last component of what was asked for.
    pub name: String,
    /// Bytes, as `lstat` has them.
    pub size: u64,
    /// Type and permissions, as `lstat` has them.
    pub mode: u32,
    /// Seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Where a symbolic link leads in the end, as far as it leads anywhere; else empty.
    pub link_target: String,
}

impl Tree {
    /// `keep` lives as long as the tree.
    pub fn new(root: OwnedFd, owners: Owners, keep: Option<OwnedFd>) -> Tree {
        Tree {
            root,
            owners,
            _keep: keep,
        }
    }

    /// Looks at `path`. The last component is not followed, unless a slash comes after it.
    ///
    /// # Errors
    /// [`Error::NoSuchFile`], [`Error::NotAFolder`], and what the file system says.
    pub fn stat(&self, path: &str) -> Result<Found> {
        let path = path::absolute(path);
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        let stat = fstat(self.open(&path, flags)?).map_err(|e| self.failed("look at", &path, e.into()))?;
        let link_target = if is(&stat, SFlag::S_IFLNK) {
            path::evaluate(self.root.as_fd(), &path).map_err(|e| self.failed("follow", &path, e))?
        } else {
            String::new()
        };
        Ok(Found {
            name: path::base(&path).to_owned(),
            size: stat.st_size as u64,
            mode: stat.st_mode,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            link_target,
        })
    }

    /// Opens what [`Tree::stat`] found, to be written as an archive.
    ///
    /// # Errors
    /// As [`Tree::stat`].
    pub fn source(self: &Arc<Self>, path: &str) -> Result<(Found, Source)> {
        let found = self.stat(path)?;
        let source = Source::open(self.clone(), &path::absolute(path), found.mode)?;
        Ok((found, source))
    }

    /// Opens the folder at `path`, followed to its end, to unpack an archive into it.
    ///
    /// # Errors
    /// [`Error::NoSuchFile`]; [`Error::NotAFolder`]; [`Error::ReadOnlyPlace`] when nothing can be written there.
    pub fn target(self: &Arc<Self>, path: &str) -> Result<Target> {
        Target::open(self.clone(), &path::clean(path))
    }

    /// The content of a small file, as far as `limit`; `None` if there is none.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        use std::io::Read;
        let seen = match self.open(path, OFlag::O_PATH) {
            Ok(seen) => seen,
            Err(Error::NoSuchFile { .. } | Error::NotAFolder { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let failed = |e| self.failed("read", path, e);
        if !is(&fstat(&seen).map_err(|e| failed(e.into()))?, SFlag::S_IFREG) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let file = reopen(seen.as_fd()).map_err(failed)?;
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }

    fn open(&self, path: &str, flags: OFlag) -> Result<OwnedFd> {
        openat2(self.root.as_fd(), Path::new(path), flags.bits(), 0, Resolve::IN_ROOT)
            .map_err(|e| self.failed("open", path, e))
    }

    fn failed(&self, what: &'static str, path: &str, source: io::Error) -> Error {
        match source.raw_os_error() {
            Some(nix::libc::ENOENT) => Error::NoSuchFile { path: path.to_owned() },
            Some(nix::libc::ENOTDIR) => Error::NotAFolder { path: path.to_owned() },
            _ => Error::io(what, path)(source),
        }
    }
}

fn is(stat: &FileStat, kind: SFlag) -> bool {
    stat.st_mode & SFlag::S_IFMT.bits() == kind.bits()
}

fn os(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// File systems that are no storage but the kernel's face. Their files change what they are asked about, have no sizes, or
/// are commands: nothing of them is copied.
pub(crate) fn is_kernels(folder: BorrowedFd<'_>) -> io::Result<bool> {
    use nix::sys::statfs as fs;
    let kind = fs::fstatfs(folder)?.filesystem_type();
    // Without constants in nix: configfs, efivarfs, mqueue is storage of a sort but of no files.
    const OTHERS: [i64; 3] = [0x6265_6570, 0xde5e_81e4, 0x1980_0202];
    Ok([
        fs::PROC_SUPER_MAGIC,
        fs::SYSFS_MAGIC,
        fs::CGROUP_SUPER_MAGIC,
        fs::CGROUP2_SUPER_MAGIC,
        fs::DEVPTS_SUPER_MAGIC,
        fs::DEBUGFS_MAGIC,
        fs::TRACEFS_MAGIC,
        fs::SECURITYFS_MAGIC,
        fs::BPF_FS_MAGIC,
    ]
    .contains(&kind)
        || OTHERS.contains(&(kind.0 as i64)))
}
