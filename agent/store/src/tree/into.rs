//! Into a tree: the entries of a tar below one of its folders.
//!
//! As `docker cp` has it: what is there is replaced, except a folder by a folder, which are merged; links in the names lead
//! wherever they lead in the container; names that leave the folder by `..` are refused, and so are hard links and relative
//! symbolic links out of it.

use super::{Owners, Tree, is, is_kernels, os};
use crate::decompress::plain;
use crate::error::{Error, Result};
use crate::extract::own_umask;
use crate::tar::{Entry, Kind, TarReader};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, futimens, mkdirat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::sys::time::TimeSpec;
use runtime_sys::openat2::{Resolve, openat2};
use std::collections::HashMap;
use std::io::{self, BufRead, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

/// Open folders kept, as for layers.
const OPEN_FOLDERS: usize = 64;
/// Entries of one archive.
const ENTRIES: u64 = 1 << 24;

/// How to unpack.
#[derive(Debug, Clone, Default)]
pub struct IntoOptions {
    /// A folder is never replaced by something else, nor something else by a folder.
    pub keep_kinds: bool,
    /// Everything belongs to this user and group (as the container numbers them), whatever the archive says.
    pub owner: Option<(u32, u32)>,
}

/// The folder to unpack into, opened.
#[derive(Debug)]
pub struct Target {
    tree: Arc<Tree>,
    folder: OwnedFd,
    /// Its path in the container.
    path: String,
}

impl Target {
    pub(super) fn open(tree: Arc<Tree>, path: &str) -> Result<Target> {
        let failed = |e: io::Error| tree.failed("open", path, e);
        let folder = tree.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let flags = fstatvfs(&folder).map_err(|e| failed(e.into()))?.flags();
        if flags.contains(FsFlags::ST_RDONLY) {
            let device = |fd: &OwnedFd| fstat(fd).map(|stat| stat.st_dev);
            let on_root = device(&folder) == device(&tree.root);
            return Err(Error::ReadOnlyPlace {
                what: if on_root { "container rootfs" } else { "mounted volume" },
            });
        }
        if is_kernels(folder.as_fd()).map_err(failed)? {
            return Err(Error::KernelFiles { path: path.to_owned() });
        }
        Ok(Target {
            path: path.to_owned(),
            folder,
            tree,
        })
    }

    /// Unpacks an archive, compressed or not. Blocks.
    ///
    /// # Errors
    /// The reader fails; the archive is malformed or leaves the folder; the file system refuses something. What was
    /// unpacked before stays, as with every copy that breaks off.
    pub fn unpack(self, reader: impl Read + Send, options: &IntoOptions) -> Result<()> {
        std::thread::scope(|scope| {
            // A thread of its own, for its umask and its file system user.
            let thread = std::thread::Builder::new().name("store-into".into());
            let thread = thread
                .spawn_scoped(scope, move || self.run(reader, options))
                .map_err(Error::io("start a thread for", "an archive"))?;
            thread.join().map_err(|_| Error::Closed)?
        })
    }

    fn run(self, reader: impl Read, options: &IntoOptions) -> Result<()> {
        own_umask()?;
        self.tree.owners.act_as_root_inside()?;
        let owner = |owner: Option<(u32, u32)>| match owner {
            None => Ok(None),
            Some((uid, gid)) => match self.tree.owners.outside(uid, gid) {
                Some(outside) => Ok(Some(outside)),
                None => Err(Error::NoSuchOwner { uid, gid }),
            },
        };
        let mut unpacking = Unpacking {
            root_owner: owner(Some((0, 0)))?.unwrap_or_default(),
            owner: owner(options.owner)?,
            keep_kinds: options.keep_kinds,
            base: Rc::new(self.folder.try_clone().map_err(Error::io("keep open", &self.path))?),
            into: &self,
            folders: HashMap::new(),
            times: Vec::new(),
        };
        let mut tar = TarReader::new(plain(reader, "the archive")?, u64::MAX);
        let mut count = 0;
        while let Some(entry) = tar.next(&mut ())? {
            count += 1;
            if count > ENTRIES {
                return Err(Error::Limit {
                    what: "the number of entries of an archive",
                    limit: ENTRIES,
                });
            }
            unpacking.entry(&entry, &mut tar)?;
            // A body that nobody wanted.
            while let n @ 1.. = tar.payload(u64::MAX)?.len() {
                tar.consume(n);
            }
        }
        unpacking.finish()
    }
}

impl Owners {
    /// Who is not in the map cannot make files in a mount that maps: the thread makes them as whoever is root inside, with
    /// the rights that it has.
    fn act_as_root_inside(&self) -> Result<()> {
        let Some((uid, gid)) = self.outside(0, 0).filter(|owner| *owner != (0, 0)) else {
            return Ok(());
        };
        let rights = runtime_sys::privilege::capabilities().map_err(Error::io("read the rights of", "a thread"))?;
        nix::unistd::setfsgid(nix::unistd::Gid::from_raw(gid));
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(uid));
        // The change of user has taken those over files.
        runtime_sys::privilege::set_capabilities(rights).map_err(Error::io("keep the rights of", "a thread"))
    }
}

/// An archive being unpacked.
pub(super) struct Unpacking<'a> {
    into: &'a Target,
    base: Rc<OwnedFd>,
    keep_kinds: bool,
    /// As the kernel numbers them here.
    owner: Option<(u32, u32)>,
    root_owner: (u32, u32),
    folders: HashMap<Vec<u8>, Rc<OwnedFd>>,
    /// Folders get their times last.
    times: Vec<(Vec<u8>, (i64, u32))>,
}

impl Unpacking<'_> {
    fn entry<R: BufRead>(&mut self, entry: &Entry, tar: &mut TarReader<R>) -> Result<()> {
        let mut names = parts(&entry.name).ok_or_else(|| {
            let name = entry.display();
            self.refuse(entry, format!("{name:?} is outside of {:?}", self.into.path))
        })?;
        let Some(name) = names.pop() else {
            // The folder itself: it is there, and stays as it is.
            return match entry.kind {
                Kind::Directory => Ok(()),
                _ => Err(self.refuse(entry, "it would replace the folder to unpack into".to_owned())),
            };
        };
        let folder = self.folder(&names, entry)?;
        self.make_room(entry, &folder, name)?;
        match entry.kind {
            Kind::Directory => {
                self.make_folder(entry, &folder, name)?;
                let mut whole = names;
                whole.push(name);
                self.times.push((whole.join(&b'/'), entry.mtime));
                Ok(())
            }
            Kind::File => self.make_file(entry, &folder, name, tar),
            Kind::HardLink => {
                let target = parts(&entry.link).and_then(|mut parts| parts.pop().map(|last| (parts, last)));
                let (above, last) = target.ok_or_else(|| self.refuse_link(entry, "hardlink"))?;
                let target = self
                    .existing(&above.join(&b'/'))
                    .map_err(|e| self.failed_link(entry, e))?;
                self.make_hard_link(entry, &folder, name, &target, last)
            }
            Kind::Symlink => {
                let out = !entry.link.starts_with(b"/")
                    && parts(&[names.join(&b'/').as_slice(), b"/", &entry.link].concat()).is_none();
                if out {
                    return Err(self.refuse_link(entry, "symlink"));
                }
                self.make_symlink(entry, &folder, name)
            }
            Kind::Char | Kind::BlockDevice | Kind::Fifo => self.make_node(entry, &folder, name),
        }
    }

    /// Takes away what the entry replaces.
    fn make_room(&mut self, entry: &Entry, folder: &OwnedFd, name: &[u8]) -> Result<()> {
        let found: FileStat = match fstatat(folder, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::ENOENT) => return Ok(()),
            Err(e) => return Err(self.failed("look at", entry, e.into())),
        };
        let (there, here) = (is(&found, SFlag::S_IFDIR), entry.kind == Kind::Directory);
        if there && here {
            return Ok(());
        }
        if self.keep_kinds && there != here {
            let kind = |folder| if folder { "directory" } else { "non-directory" };
            let path = self.shown(entry);
            return Err(self.refuse(
                entry,
                format!(
                    "cannot overwrite {} {path:?} with {} {:?}",
                    kind(there),
                    kind(here),
                    self.into.path
                ),
            ));
        }
        // A folder that goes may be one of those kept open, or a link through which one was reached.
        self.folders.clear();
        super::place::remove(folder.as_fd(), name, 0).map_err(|e| self.failed("replace", entry, e))
    }

    /// The folder of these names, made if it is missing.
    fn folder(&mut self, names: &[&[u8]], entry: &Entry) -> Result<Rc<OwnedFd>> {
        if names.is_empty() {
            return Ok(self.base.clone());
        }
        let key = names.join(&b'/');
        if let Some(folder) = self.folders.get(&key) {
            return Ok(folder.clone());
        }
        let opened = match self.existing(&key) {
            Err(e) if e.raw_os_error() == Some(nix::libc::ENOENT) => {
                let (last, above) = names.split_last().map_or((&[][..], &[][..]), |(l, a)| (*l, a));
                let parent = self.folder(above, entry)?;
                mkdirat(&*parent, last, Mode::from_bits_truncate(0o755))
                    .map_err(|e| self.failed("create the folder of", entry, e.into()))?;
                let made = self
                    .existing(&key)
                    .map_err(|e| self.failed("enter the folder of", entry, e))?;
                self.own(&made, self.root_owner)
                    .map_err(|e| self.failed("set the owner of the folder of", entry, e.into()))?;
                made
            }
            opened => opened.map_err(|e| self.failed("enter the folder of", entry, e))?,
        };
        if is_kernels(opened.as_fd()).map_err(|e| self.failed("look at the folder of", entry, e))? {
            let path = format!(
                "{}/{}",
                self.into.path.trim_end_matches('/'),
                String::from_utf8_lossy(&key)
            );
            return Err(Error::KernelFiles { path });
        }
        if self.folders.len() >= OPEN_FOLDERS {
            self.folders.clear();
        }
        let opened = Rc::new(opened);
        self.folders.insert(key, opened.clone());
        Ok(opened)
    }

    /// Opens a folder below the one to unpack into. Links on the way mean what they mean in the container, which is why
    /// they cannot be walked from here, but only from its root.
    fn existing(&self, key: &[u8]) -> io::Result<OwnedFd> {
        if key.is_empty() {
            return self.base.try_clone();
        }
        let flags = (OFlag::O_RDONLY | OFlag::O_DIRECTORY).bits();
        match openat2(self.base.as_fd(), os(key), flags, 0, Resolve::IN_ROOT_NO_SYMLINKS) {
            Err(e) if e.raw_os_error() == Some(nix::libc::ELOOP) => {
                let path = [self.into.path.as_bytes(), b"/", key].concat();
                openat2(self.into.tree.root.as_fd(), os(&path), flags, 0, Resolve::IN_ROOT)
            }
            opened => opened,
        }
    }

    fn finish(self) -> Result<()> {
        for (key, (seconds, nanos)) in self.times.iter().rev() {
            // Moved or removed since by the container: its times are its own matter.
            let Ok(folder) = self.existing(key) else { continue };
            let time = TimeSpec::new(*seconds, i64::from(*nanos));
            futimens(&folder, &time, &time).map_err(Error::sys("set the times of", os(key)))?;
        }
        Ok(())
    }

    /// Whom the entry is to belong to, as the kernel numbers them here.
    pub(super) fn owner_of(&self, entry: &Entry) -> Result<(u32, u32)> {
        match self.owner {
            Some(owner) => Ok(owner),
            None => {
                let (uid, gid) = (entry.uid, entry.gid);
                self.into
                    .tree
                    .owners
                    .outside(uid, gid)
                    .ok_or(Error::NoSuchOwner { uid, gid })
            }
        }
    }

    fn refuse(&self, entry: &Entry, reason: String) -> Error {
        Error::BadEntry {
            entry: entry.display(),
            reason,
        }
    }

    /// The entry's path in the container.
    fn shown(&self, entry: &Entry) -> String {
        let folder = self.into.path.trim_end_matches('/');
        format!("{folder}/{}", entry.display().trim_matches('/'))
    }

    fn refuse_link(&self, entry: &Entry, kind: &str) -> Error {
        let link = String::from_utf8_lossy(&entry.link)
            .chars()
            .take(300)
            .collect::<String>();
        let path = self.shown(entry);
        self.refuse(entry, format!("invalid {kind} {path:?} -> {link:?}"))
    }

    /// A hard link must lead to something that is there.
    pub(super) fn failed_link(&self, entry: &Entry, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::NotFound => self.refuse_link(entry, "hardlink"),
            _ => self.failed("link", entry, source),
        }
    }

    pub(super) fn failed(&self, what: &'static str, entry: &Entry, source: io::Error) -> Error {
        match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EROFS) => Error::ReadOnlyPlace { what: "mounted volume" },
            Some(Errno::ENAMETOOLONG) => self.refuse(entry, "its name is too long for the file system".to_owned()),
            Some(Errno::ENOTDIR) => self.refuse(entry, "a file stands where its folder should be".to_owned()),
            Some(Errno::ELOOP) => self.refuse(entry, "its folder is a symbolic link that leads to itself".to_owned()),
            Some(Errno::EEXIST) => self.refuse(entry, "its folder is a symbolic link to nowhere".to_owned()),
            _ => Error::Unpack {
                what,
                entry: entry.display(),
                source,
            },
        }
    }
}

/// A name's components; `None` when it leads out. (An absolute name begins at the folder to unpack into.)
pub(super) fn parts(name: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part if part.contains(&0) => return None,
            part => parts.push(part),
        }
    }
    Some(parts)
}
