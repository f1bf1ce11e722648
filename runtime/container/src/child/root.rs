//! Paths inside a root that somebody else controls. Every one of them is walked by the kernel with the root's folder as
//! `/` (`RESOLVE_IN_ROOT`) and without magic links; what is made, is made relative to an open folder.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use runtime_sys::openat2::{Resolve, openat2};

/// An open root folder.
pub struct Root(OwnedFd);

/// Mode of folders that are made on the way.
const FOLDER: Mode = Mode::from_bits_truncate(0o755);

/// How many dangling symlinks are followed when a path is made; as many as the kernel follows in a walk.
const MAX_LINKS: u32 = 40;

impl Root {
    pub fn new(folder: OwnedFd) -> Root {
        Root(folder)
    }

    /// The folder that is `/` to this process.
    pub fn of_process() -> io::Result<Root> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Root(nix::fcntl::open("/", flags, Mode::empty())?))
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub fn open(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        openat2(self.fd(), relative(path), flags.bits(), 0, Resolve::IN_ROOT)
    }

    /// Opens a place without access to what is there.
    pub fn place(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open(path, OFlag::O_PATH)
    }

    /// As [`Root::place`], refusing symlinks on the way.
    pub fn place_without_symlinks(&self, path: &Path) -> io::Result<OwnedFd> {
        openat2(
            self.fd(),
            relative(path),
            OFlag::O_PATH.bits(),
            0,
            Resolve::IN_ROOT_NO_SYMLINKS,
        )
    }

    /// The folder at `path`, made with its parents when absent.
    pub fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        self.folder_through(path, 0)
    }

    fn folder_through(&self, path: &Path, links: u32) -> io::Result<OwnedFd> {
        let open = |path: &Path| self.open(path, OFlag::O_PATH | OFlag::O_DIRECTORY);
        match open(path) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            other => return other,
        }
        // Nearly always only the last one is missing.
        if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
            && let Ok(parent) = open(parent)
            && mkdirat(parent.as_fd(), name, FOLDER).is_ok()
        {
            return open(path);
        }
        let mut walked = PathBuf::new();
        let mut folder = open(Path::new("/"))?;
        for component in path.components() {
            let name = match component {
                Component::Normal(name) => name,
                Component::ParentDir => OsStr::new(".."),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
            };
            let parent = walked.clone();
            walked.push(name);
            folder = match open(&walked) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    match mkdirat(folder.as_fd(), name, FOLDER) {
                        Ok(()) => open(&walked)?,
                        // Something is there and leads nowhere: a dangling symlink, whose aim is made inside the root.
                        // (Or another process was quicker, which the second look shows.)
                        Err(Errno::EEXIST) if links < MAX_LINKS => match readlinkat(folder.as_fd(), name) {
                            Ok(aim) => self.folder_through(&parent.join(aim), links + 1)?,
                            Err(_) => open(&walked)?,
                        },
                        Err(Errno::EEXIST) => return Err(Errno::ELOOP.into()),
                        Err(errno) => return Err(errno.into()),
                    }
                }
                other => other?,
            };
        }
        Ok(folder)
    }

    /// The place at `path` itself, for something that is put there in place of whatever the image has: a symlink, which
    /// would lead elsewhere (CVE-2025-31133, CVE-2025-52565), gives way to an empty file.
    pub fn own_file(&self, path: &Path) -> io::Result<OwnedFd> {
        let name = path.file_name().ok_or(Errno::EINVAL)?;
        let parent = self.folder(path.parent().unwrap_or(Path::new("/")))?;
        let place = |flags: OFlag| {
            let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            nix::fcntl::openat(&parent, name, flags, Mode::from_bits_truncate(0o644))
        };
        let make = || place(OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY);
        match place(OFlag::O_PATH) {
            Err(Errno::ENOENT) => drop(make()?),
            Ok(there) if is_symlink(&there)? => {
                unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir)?;
                drop(make()?);
            }
            Ok(there) => return Ok(there),
            Err(errno) => return Err(errno.into()),
        }
        Ok(place(OFlag::O_PATH)?)
    }

    /// The place at `path`, made as an empty file (with the folders above) when absent.
    pub fn file(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.place(path) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            other => return other,
        }
        if let Some(parent) = path.parent() {
            self.folder(parent)?;
        }
        let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        openat2(self.fd(), relative(path), flags.bits(), 0o644, Resolve::IN_ROOT)?;
        self.place(path)
    }
}

fn is_symlink(file: &OwnedFd) -> nix::Result<bool> {
    Ok(SFlag::from_bits_truncate(fstat(file)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFLNK)
}

/// The folders in which nodes are made, one after the other and mostly in the same one.
pub struct Parents<'a> {
    root: &'a Root,
    last: Option<(PathBuf, OwnedFd)>,
}

impl<'a> Parents<'a> {
    pub fn new(root: &'a Root) -> Parents<'a> {
        Parents { root, last: None }
    }

    pub fn root(&self) -> &'a Root {
        self.root
    }

    /// The folder that holds `path`'s last name (made when absent), and that name.
    pub fn of<'p>(&mut self, path: &'p Path) -> io::Result<(BorrowedFd<'_>, &'p OsStr)> {
        let name = path
            .file_name()
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        if self.last.as_ref().is_none_or(|(last, _)| last != parent) {
            self.last = None;
        }
        let last = match &mut self.last {
            Some(last) => last,
            none => none.insert((parent.to_owned(), self.root.folder(parent)?)),
        };
        Ok((last.1.as_fd(), name))
    }
}

/// `openat2` takes an absolute path from the folder too, but an empty one never.
fn relative(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new("/")
    } else {
        path
    }
}
