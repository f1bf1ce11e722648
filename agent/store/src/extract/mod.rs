//! From tar entries to an overlay lower directory.
//!
//! Who can be trusted: nobody. Names are walked lexically first (`..` above the root is refused, a leading `/` means the
//! root of the layer, as in Docker), then by `openat2(RESOLVE_IN_ROOT)` from the tree's own descriptor, so that a symbolic
//! link of the archive leads at most to another place of the same tree. The last component is never followed.
//!
//! | in the archive | here |
//! | --- | --- |
//! | name with `..` above the root; hard link or relative symbolic link that leads above it | refused (as Docker) |
//! | absolute name | below the tree (as Docker; Nix and others write them) |
//! | `.wh.name` | character device 0/0 `name`; nothing if the same layer has `name`; opaque mark if that is a directory |
//! | `.wh..wh..opq` | `trusted.overlay.opaque=y` on its directory |
//! | other `.wh..wh.*` | no file (aufs' own bookkeeping) |
//! | attributes `trusted.overlay.*`, `user.overlay.*` | not set: they would forge overlay's own marks |
//! | an entry that exists already | replaced, except a directory by a directory |
//!
//! Directories get owner, mode, attributes and times last, because files made in them change their times, and because a
//! set-group-id or default-ACL directory would change what is made in it.

mod folders;

use crate::error::{Error, Result};
use crate::split::{Moves, SplitWriter};
use crate::store::Limits;
use crate::tar::{Entry, Kind, TarReader};
use folders::{Dir, DirMeta, meta_of, real_path};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmod, fstatat, futimens, makedev, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};
use runtime_sys::xattr;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

/// Marks a directory that hides everything below it.
pub(crate) const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// In front of a name: the file of that name in lower layers is gone.
pub(crate) const WHITEOUT: &[u8] = b".wh.";
pub(crate) const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";
const WHITEOUT_META: &[u8] = b".wh..wh.";

/// Builds one tree.
pub(crate) struct Extractor<'a> {
    root: Rc<Dir>,
    /// The root's path as `/proc/self/fd` shows it, to cut off.
    root_path: Vec<u8>,
    layer: OwnedFd,
    extra: Option<OwnedFd>,
    dirs: HashMap<Vec<u8>, Rc<Dir>>,
    pending: BTreeMap<Vec<u8>, DirMeta>,
    moves: Moves,
    replaced: u64,
    split: &'a mut SplitWriter,
    limits: Limits,
    /// The archive is a tree and no layer (see [`crate::Unpack::tree`]).
    pub is_tree: bool,
    entries: u64,
    file_bytes: u64,
}

/// Totals of a finished tree.
pub(crate) struct Built {
    pub entries: u64,
    pub file_bytes: u64,
}

impl<'a> Extractor<'a> {
    /// Builds below `layer/tree`, which is created. The calling thread's umask must be 0.
    pub fn new(layer: &Path, split: &'a mut SplitWriter, limits: &Limits) -> Result<Extractor<'a>> {
        let tree = layer.join("tree");
        std::fs::create_dir(&tree).map_err(Error::io("create", &tree))?;
        let fd = OwnedFd::from(File::open(&tree).map_err(Error::io("open", &tree))?);
        let root_path = real_path(&fd).map_err(Error::io("look up", &tree))?;
        let meta = DirMeta::implied();
        Ok(Extractor {
            root: Rc::new(Dir { fd, real: Vec::new() }),
            root_path,
            layer: File::open(layer).map_err(Error::io("open", layer))?.into(),
            extra: None,
            dirs: HashMap::new(),
            pending: BTreeMap::from([(Vec::new(), meta)]),
            moves: Moves::default(),
            replaced: 0,
            split,
            limits: *limits,
            is_tree: false,
            entries: 0,
            file_bytes: 0,
        })
    }

    /// Unpacks the whole archive.
    pub fn run<R: BufRead>(&mut self, tar: &mut TarReader<R>) -> Result<()> {
        while let Some(entry) = tar.next(self.split)? {
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(Error::Limit {
                    what: "the number of entries of a layer",
                    limit: self.limits.entries,
                });
            }
            self.entry(&entry, tar)?;
            runtime_sys::failpoint!("entry-extracted");
        }
        Ok(())
    }

    fn entry<R: BufRead>(&mut self, entry: &Entry, tar: &mut TarReader<R>) -> Result<()> {
        let mut names = clean(&entry.name).map_err(|reason| refuse(entry, reason))?;
        let Some(name) = names.pop() else {
            // "./": the root itself.
            if entry.kind != Kind::Directory {
                return Err(refuse(entry, "it would replace the root of the layer"));
            }
            self.pending.insert(Vec::new(), meta_of(entry));
            return self.keep_payload(tar);
        };
        let dir = self.dir(&names, entry)?;
        if let Some(hidden) = name.strip_prefix(WHITEOUT).filter(|_| !self.is_tree) {
            self.whiteout(entry, &dir, name, hidden)?;
            return self.keep_payload(tar);
        }
        match entry.kind {
            Kind::Directory => self.directory(entry, &dir, name),
            Kind::File => self.file(entry, &dir, name, tar),
            Kind::HardLink => self.hard_link(entry, &dir, name),
            Kind::Symlink => self.symlink(entry, &dir, name, &names),
            Kind::Char | Kind::BlockDevice | Kind::Fifo => self.node(entry, &dir, name),
        }
    }

    /// Bytes that go into no file (a whiteout with content) stay in the record.
    fn keep_payload<R: BufRead>(&mut self, tar: &mut TarReader<R>) -> Result<()> {
        use crate::tar::Raw;
        loop {
            let n = {
                let bytes = tar.payload(u64::MAX)?;
                self.split.raw(bytes)?;
                bytes.len()
            };
            if n == 0 {
                return Ok(());
            }
            tar.consume(n);
        }
    }

    fn directory(&mut self, entry: &Entry, dir: &Dir, name: &[u8]) -> Result<()> {
        // Its own metadata comes at the end; until then nobody else may look inside.
        let mode = Mode::from_bits_truncate(0o700);
        let mut opaque = false;
        match mkdirat(&dir.fd, name, mode) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                let found = stat(dir, name).map_err(|e| unpack_error("look at", entry, e.into()))?;
                if !is(found.st_mode, SFlag::S_IFDIR) {
                    // A whiteout of this layer and then a directory of that name: lower content stays hidden.
                    opaque = is(found.st_mode, SFlag::S_IFCHR) && found.st_rdev == 0;
                    self.displace(entry, dir, name, found.st_mode)?;
                    mkdirat(&dir.fd, name, mode).map_err(|e| unpack_error("create directory", entry, e.into()))?;
                }
            }
            Err(e) => return Err(unpack_error("create directory", entry, e.into())),
        }
        let real = dir.child(name);
        let mut meta = meta_of(entry);
        let was_opaque = self
            .pending
            .get(&real)
            .is_some_and(|m| m.xattrs.iter().any(|(key, _)| key == OPAQUE));
        if opaque || was_opaque {
            meta.xattrs.push((OPAQUE.to_vec(), b"y".to_vec()));
        }
        self.pending.insert(real, meta);
        Ok(())
    }

    fn file<R: BufRead>(&mut self, entry: &Entry, dir: &Dir, name: &[u8], tar: &mut TarReader<R>) -> Result<()> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(entry.mode);
        let file = self.retry(entry, dir, name, "create", || {
            nix::fcntl::openat(&dir.fd, name, flags, mode)
        })?;
        let file = File::from(file);
        let real = dir.child(name);
        match &entry.sparse {
            None => {
                self.write(entry, &file, &real, 0, entry.stored, tar)?;
            }
            Some(segments) => {
                for part in segments {
                    self.write(entry, &file, &real, part.offset, part.len, tar)?;
                }
                file.set_len(entry.size)
                    .map_err(|e| unpack_error("set the length of", entry, e))?;
            }
        }
        self.file_bytes += entry.size;
        let fail = |what: &'static str| move |e: Errno| unpack_error(what, entry, e.into());
        if (entry.uid, entry.gid) != (0, 0) {
            fchown(&file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
                .map_err(fail("set the owner of"))?;
        }
        if entry.mode & 0o7000 != 0 {
            // A change of owner takes set-id bits away, and creation may.
            fchmod(&file, mode).map_err(fail("set the mode of"))?;
        }
        for (key, value) in &entry.xattrs {
            self.attribute(entry, key, |key| xattr::set(file.as_fd(), key, value))?;
        }
        futimens(&file, &time(entry.mtime), &time(entry.mtime)).map_err(fail("set the time of"))
    }

    fn write<R: BufRead>(
        &mut self,
        entry: &Entry,
        file: &File,
        real: &[u8],
        mut offset: u64,
        len: u64,
        tar: &mut TarReader<R>,
    ) -> Result<()> {
        self.split.file(real, offset, len)?;
        let mut left = len;
        while left > 0 {
            let n = {
                let bytes = tar.payload(left)?;
                file.write_all_at(bytes, offset)
                    .map_err(|e| unpack_error("write", entry, e))?;
                bytes.len()
            };
            tar.consume(n);
            offset += n as u64;
            left -= n as u64;
        }
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, dir: &Dir, name: &[u8]) -> Result<()> {
        let mut target = clean(&entry.link).map_err(|_| refuse(entry, "its hard link leads outside of the layer"))?;
        let last = target
            .pop()
            .ok_or_else(|| refuse(entry, "it is a hard link to the root"))?;
        let missing = || {
            refuse(
                entry,
                &format!(
                    "it is a hard link to {:?}, which is not in the layer before it",
                    show(&entry.link)
                ),
            )
        };
        // The target's directory must exist: a hard link never makes directories on the target's side.
        let key = target.join(&b'/');
        let target_dir = if target.is_empty() {
            self.root.clone()
        } else if let Some(dir) = self.dirs.get(&key) {
            dir.clone()
        } else {
            Rc::new(self.open_dir(&key).map_err(|_| missing())?)
        };
        let (target_path, path) = (target_dir.child(last), dir.child(name));
        if target_path == path {
            return Err(refuse(entry, "it is a hard link to itself"));
        }
        if target_path
            .strip_prefix(path.as_slice())
            .is_some_and(|rest| rest.starts_with(b"/"))
        {
            // The entry would replace the directory that holds its target.
            return Err(missing());
        }
        match stat(&target_dir, last) {
            Ok(found) if is(found.st_mode, SFlag::S_IFDIR) => {
                return Err(refuse(entry, "it is a hard link to a directory"));
            }
            Ok(found) if is(found.st_mode, SFlag::S_IFCHR) && found.st_rdev == 0 => return Err(missing()),
            Ok(_) => {}
            Err(_) => return Err(missing()),
        }
        let link = || linkat(&target_dir.fd, last, &dir.fd, name, AtFlags::empty());
        self.retry(entry, dir, name, "link", link)
    }

    fn symlink(&mut self, entry: &Entry, dir: &Dir, name: &[u8], above: &[&[u8]]) -> Result<()> {
        if entry.link.is_empty() || entry.link.contains(&0) {
            return Err(refuse(entry, "it is a symbolic link to nothing"));
        }
        if !self.is_tree && !entry.link.starts_with(b"/") {
            // Every reader resolves links inside the root, but Docker refuses such an archive, and so do we.
            let joined = [above.join(&b'/').as_slice(), b"/", &entry.link].concat();
            let relative = joined.strip_prefix(b"/").unwrap_or(&joined);
            clean(relative).map_err(|_| {
                refuse(
                    entry,
                    &format!("its symbolic link {:?} leads outside of the layer", show(&entry.link)),
                )
            })?;
        }
        self.retry(entry, dir, name, "create the link", || {
            symlinkat(entry.link.as_slice(), &dir.fd, name)
        })?;
        self.finish_special(entry, dir, name)
    }

    fn node(&mut self, entry: &Entry, dir: &Dir, name: &[u8]) -> Result<()> {
        let kind = match entry.kind {
            Kind::Char => SFlag::S_IFCHR,
            Kind::BlockDevice => SFlag::S_IFBLK,
            _ => SFlag::S_IFIFO,
        };
        let (mode, device) = (
            Mode::from_bits_truncate(entry.mode),
            makedev(entry.device.0, entry.device.1),
        );
        self.retry(entry, dir, name, "create the device", || {
            mknodat(&dir.fd, name, kind, mode, device)
        })?;
        self.finish_special(entry, dir, name)
    }

    /// Owner, attributes and times of what cannot be opened.
    fn finish_special(&mut self, entry: &Entry, dir: &Dir, name: &[u8]) -> Result<()> {
        let fail = |what: &'static str| move |e: Errno| unpack_error(what, entry, e.into());
        if (entry.uid, entry.gid) != (0, 0) {
            let (uid, gid) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
            fchownat(&dir.fd, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(fail("set the owner of"))?;
        }
        for (key, value) in &entry.xattrs {
            self.attribute(entry, key, |key| xattr::set_at(dir.fd.as_fd(), name, key, value))?;
        }
        let time = time(entry.mtime);
        utimensat(&dir.fd, name, &time, &time, UtimensatFlags::NoFollowSymlink).map_err(fail("set the time of"))
    }

    fn whiteout(&mut self, entry: &Entry, dir: &Dir, name: &[u8], hidden: &[u8]) -> Result<()> {
        if name == WHITEOUT_OPAQUE {
            self.make_opaque(&dir.real);
            return Ok(());
        }
        if name.starts_with(WHITEOUT_META) {
            return Ok(());
        }
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(refuse(entry, "it is a whiteout of nothing"));
        }
        match mknodat(&dir.fd, hidden, SFlag::S_IFCHR, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            // What the same layer brings is not hidden by it, but what lies below a directory is.
            Err(Errno::EEXIST) => {
                let found = stat(dir, hidden).map_err(|e| unpack_error("look at", entry, e.into()))?;
                if is(found.st_mode, SFlag::S_IFDIR) {
                    self.make_opaque(&dir.child(hidden));
                }
                Ok(())
            }
            Err(e) => Err(unpack_error("create the whiteout", entry, e.into())),
        }
    }

    /// Runs `create`; when something is in the way, moves that away and runs it once more.
    fn retry<T>(
        &mut self,
        entry: &Entry,
        dir: &Dir,
        name: &[u8],
        what: &'static str,
        create: impl Fn() -> nix::Result<T>,
    ) -> Result<T> {
        match create() {
            Err(Errno::EEXIST) => {
                let found = stat(dir, name).map_err(|e| unpack_error("look at", entry, e.into()))?;
                self.displace(entry, dir, name, found.st_mode)?;
                create().map_err(|e| unpack_error(what, entry, e.into()))
            }
            done => done.map_err(|e| unpack_error(what, entry, e.into())),
        }
    }

    /// Takes away what a later entry of the layer replaces. Contents are kept: they are part of the tar.
    fn displace(&mut self, entry: &Entry, dir: &Dir, name: &[u8], mode: u32) -> Result<()> {
        let fail = |e: Errno| unpack_error("replace", entry, e.into());
        self.split.forget_last();
        // What goes may be a directory, or a link through which one was reached.
        self.dirs.clear();
        if !is(mode, SFlag::S_IFREG) && !is(mode, SFlag::S_IFDIR) {
            return unlinkat(&dir.fd, name, UnlinkatFlags::NoRemoveDir).map_err(fail);
        }
        let extra = match &self.extra {
            Some(extra) => extra,
            None => {
                let made = mkdirat(&self.layer, "extra", Mode::from_bits_truncate(0o700)).and_then(|()| {
                    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
                    nix::fcntl::openat(&self.layer, "extra", flags, Mode::empty())
                });
                self.extra.insert(made.map_err(fail)?)
            }
        };
        let number = self.replaced;
        self.replaced += 1;
        nix::fcntl::renameat(&dir.fd, name, extra, number.to_string().as_str()).map_err(fail)?;
        let real = dir.child(name);
        self.moves.add(self.split.files(), number, &real);
        if is(mode, SFlag::S_IFDIR) {
            let below = [real.as_slice(), b"/"].concat();
            self.pending
                .retain(|path, _| *path != real && !path.starts_with(&below));
        }
        Ok(())
    }

    /// Sets an attribute as Docker does: what this file system or kernel does not have is left out with a word in the log.
    fn attribute(&self, entry: &Entry, key: &[u8], set: impl Fn(&[u8]) -> io::Result<()>) -> Result<()> {
        if key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay.") {
            tracing::warn!(entry = entry.display(), key = %show(key), "overlay's own attribute in an archive is not set");
            return Ok(());
        }
        match set(key) {
            Ok(()) => Ok(()),
            Err(e) if e.raw_os_error() == Some(Errno::ENOTSUP as i32) => {
                tracing::warn!(entry = entry.display(), key = %show(key), "the file system does not take the attribute");
                Ok(())
            }
            // The kernel has no user attributes on links and devices.
            Err(e) if e.raw_os_error() == Some(Errno::EPERM as i32) && key.starts_with(b"user.") => Ok(()),
            Err(e) => Err(unpack_error("set an attribute of", entry, e)),
        }
    }
}

/// A thread that builds trees: it gets a umask of its own, and the rest of the process keeps its umask.
pub(crate) fn own_umask() -> Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)
        .map_err(Error::sys("give a thread its own umask for", "unpacking"))?;
    nix::sys::stat::umask(Mode::empty());
    Ok(())
}

/// Splits a name into components: `.` and empty ones fall out, `..` takes the one before it.
fn clean(name: &[u8]) -> std::result::Result<Vec<&[u8]>, &'static str> {
    if name.is_empty() || name.contains(&0) {
        return Err("its name is empty or has a zero byte");
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop().ok_or("its name leads outside of the layer")?),
            part => parts.push(part),
        }
    }
    Ok(parts)
}

fn stat(dir: &Dir, name: &[u8]) -> nix::Result<nix::sys::stat::FileStat> {
    fstatat(&dir.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

fn is(mode: u32, kind: SFlag) -> bool {
    mode & SFlag::S_IFMT.bits() == kind.bits()
}

fn time((seconds, nanos): (i64, u32)) -> TimeSpec {
    TimeSpec::new(seconds, nanos.into())
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(300).collect()
}

fn refuse(entry: &Entry, reason: &str) -> Error {
    Error::BadEntry {
        entry: entry.display(),
        reason: reason.to_owned(),
    }
}

fn unpack_error(what: &'static str, entry: &Entry, source: io::Error) -> Error {
    // What only a strange archive can cause is the archive's fault.
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENAMETOOLONG) => refuse(entry, "its name is too long for the file system"),
        Some(Errno::EFBIG) => refuse(entry, "it is too large for the file system"),
        Some(Errno::EMLINK) => refuse(entry, "it has more hard links than the file system allows"),
        _ => Error::Unpack {
            what,
            entry: entry.display(),
            source,
        },
    }
}
