//! The root of a container that does not run, put together as its next start would: its layers, and on them its volumes and
//! the host's folders.
//!
//! It is mounted in a mount namespace that one thread makes for itself and leaves behind when it ends; what keeps the
//! namespace is a descriptor. Nobody can reach it by a path, and it goes away with the descriptors, also when the daemon is
//! killed.

use crate::error::{Error, Result};
use crate::overlay::Writable;
use crate::snapshots::Rw;
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use runtime_sys::mount::{self, attr};
use runtime_sys::openat2::{Resolve, openat2};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Something of the host that is mounted on the root.
#[derive(Debug)]
pub struct Bind {
    pub source: BindSource,
    /// Absolute, in the container.
    pub target: PathBuf,
    /// Nothing is written to it.
    pub read_only: bool,
    /// With what is mounted below it.
    pub recursive: bool,
}

/// What of the host it is.
#[derive(Debug)]
pub enum BindSource {
    /// A folder or file.
    Path(PathBuf),
    /// A tree that is attached nowhere yet, and what it is of, for messages.
    Tree(OwnedFd, String),
}

/// A root that is mounted nowhere else.
#[derive(Debug)]
pub struct View {
    /// The root.
    pub root: OwnedFd,
    /// The namespace in which it is; the mounts below the root are gone without it.
    pub namespace: OwnedFd,
}

/// Puts the root together. One that is not `writable` may be looked at while others have the same layers; of a writable one
/// there may be only one, and no container may run on it.
///
/// `Ok(None)`: a target of `binds` is not there, which only a writable view can mend.
///
/// # Errors
/// The kernel refuses a mount; a source is missing.
pub fn view(rw: &Rw, binds: &[Bind], writable: bool, read_only_root: bool) -> Result<Option<View>> {
    let build = || {
        nix::sched::unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)
            .map_err(Error::sys("make a mount namespace for", &rw.upper))?;
        build(rw, binds, writable, read_only_root)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("store-view".into());
        let thread = thread
            .spawn_scoped(scope, build)
            .map_err(Error::io("start a thread for", &rw.upper))?;
        thread.join().map_err(|_| Error::Closed)?
    })
}

fn build(rw: &Rw, binds: &[Bind], writable: bool, read_only_root: bool) -> Result<Option<View>> {
    // What the host takes away goes away here too; nothing of ours gets out.
    let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    nix::mount::mount(None::<&str>, "/", None::<&str>, slave, None::<&str>)
        .map_err(Error::sys("set apart the mounts for", &rw.upper))?;
    let root = if writable {
        overlay(rw).map_err(Error::io("mount the layers of", &rw.upper))?
    } else {
        let layers: Vec<PathBuf> = [rw.upper.clone()].into_iter().chain(rw.lower.iter().cloned()).collect();
        let shown = crate::copy_out::view(&layers).map_err(Error::io("mount the layers of", &rw.upper))?;
        shown.ok_or(Error::Closed)?
    };
    let place = rw.upper.parent().unwrap_or(&rw.upper);
    let on = nix::fcntl::open(
        place,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(Error::sys("open", place))?;
    mount::attach(root.as_fd(), on.as_fd()).map_err(Error::io("attach the view of", place))?;
    for bind in binds {
        let name = match &bind.source {
            BindSource::Path(path) => path.as_path(),
            BindSource::Tree(_, what) => Path::new(what),
        };
        let failed = |e| Error::io("mount", name)(e);
        let cloned;
        let tree = match &bind.source {
            BindSource::Path(path) => {
                fs::metadata(path).map_err(Error::io("look at", path))?;
                cloned = mount::clone_tree(path, bind.recursive).map_err(failed)?;
                &cloned
            }
            BindSource::Tree(tree, _) => tree,
        };
        let kind = nix::sys::stat::fstat(tree).map_err(Error::sys("look at", name))?;
        let is_folder = kind.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR;
        let set = attr::NODEV | if bind.read_only { attr::RDONLY } else { 0 };
        let private = MsFlags::MS_PRIVATE.bits();
        mount::set_attributes(tree.as_fd(), set, 0, private, bind.recursive).map_err(failed)?;
        let Some(target) = target(root.as_fd(), &bind.target, is_folder, writable)
            .map_err(Error::io("make the mount point", &bind.target))?
        else {
            return Ok(None);
        };
        mount::attach(tree.as_fd(), target.as_fd()).map_err(Error::io("mount on", &bind.target))?;
    }
    if read_only_root && writable {
        mount::set_attributes(root.as_fd(), attr::RDONLY, 0, 0, false).map_err(Error::io("close", &rw.upper))?;
    }
    let namespace = File::open("/proc/thread-self/ns/mnt").map_err(Error::io("open the namespace of", place))?;
    Ok(Some(View {
        root,
        namespace: namespace.into(),
    }))
}

/// The layers with the writable one.
fn overlay(rw: &Rw) -> io::Result<OwnedFd> {
    if rw.lower.is_empty() {
        // Nothing to lay it on: the writable layer is the root.
        return mount::clone_tree(&rw.upper, false);
    }
    let writable = Writable {
        upper: &rw.upper,
        work: &rw.work,
    };
    crate::overlay::mount(&rw.lower, Some(writable), attr::NODEV)
}

/// The place for a mount, made if it may be: what a start would make too.
fn target(root: BorrowedFd<'_>, path: &Path, is_folder: bool, make: bool) -> io::Result<Option<OwnedFd>> {
    let open = |path: &Path| openat2(root, path, OFlag::O_PATH.bits(), 0, Resolve::IN_ROOT);
    match open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        found => return found.map(Some),
    }
    if !make {
        return Ok(None);
    }
    let mut above = root.try_clone_to_owned()?;
    let mut walked = PathBuf::from("/");
    let parts: Vec<_> = path.components().skip(1).collect();
    for (index, part) in parts.iter().enumerate() {
        walked.push(part);
        let found = match open(&walked) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if index + 1 < parts.len() || is_folder {
                    nix::sys::stat::mkdirat(&above, part.as_os_str(), Mode::from_bits_truncate(0o755))?;
                } else {
                    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                    drop(nix::fcntl::openat(
                        &above,
                        part.as_os_str(),
                        flags,
                        Mode::from_bits_truncate(0o644),
                    )?);
                }
                open(&walked)?
            }
            found => found?,
        };
        above = found;
    }
    Ok(Some(above))
}
