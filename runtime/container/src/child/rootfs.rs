//! The root file system: an overlay or a plain folder.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sys::stat::Mode;
use runtime::plan::Root as RootSource;
use runtime::proto::Step;
use runtime_sys::mount::{self, Filesystem};

use super::root::Root;
use crate::failure::{At, Result, failure};

/// Makes the root, detached. `place` is a folder in which an overlay may be mounted for a moment on kernels that cannot
/// make it detached.
pub fn make(source: &RootSource, place: &Path) -> Result<OwnedFd> {
    match source {
        RootSource::Overlay {
            lower,
            upper,
            work,
            volatile,
        } => match overlay(lower, upper, work, *volatile) {
            Ok(made) => Ok(made),
            Err(error) => classic_overlay(lower, upper, work, *volatile, place, error),
        },
        // Bound onto itself, so that it is a mount of its own; mounts below come along.
        RootSource::Dir { path } => {
            let tree = mount::clone_tree(path, true).at(Step::Root, path)?;
            mount::set_attributes(tree.as_fd(), 0, 0, MsFlags::MS_PRIVATE.bits(), true).at(Step::Root, path)?;
            Ok(tree)
        }
    }
}

/// Attaches the root over that of the process, which stays what it is: nobody needs a folder for that, and nobody may
/// have to enter one that is closed to him. (A mount over a process' root does not hide it from that process.) Only hooks
/// need a path for it: then it is attached over the folder at `place`, if that is not empty.
pub fn attach(made: OwnedFd, place: &Path) -> Result<Root> {
    let place = match place.as_os_str().is_empty() {
        true => Path::new("/"),
        false => place,
    };
    let target = nix::fcntl::open(place, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).at(Step::Root, place)?;
    mount::attach(made.as_fd(), target.as_fd()).at(Step::Root, place)?;
    Ok(Root::new(made))
}

fn overlay(lower: &[PathBuf], upper: &Path, work: &Path, volatile: bool) -> io::Result<OwnedFd> {
    let fs = Filesystem::open("overlay")?;
    for layer in lower {
        fs.path("lowerdir+", layer)?;
    }
    fs.path("upperdir", upper)?;
    fs.path("workdir", work)?;
    // Whatever the kernel was built with: layers must not depend on the mount that wrote them, and a root that another
    // namespace still holds must not stop a restart.
    // (And no id of its own, which would be written to the upper folder.)
    for (key, value) in [
        ("index", "off"),
        ("metacopy", "off"),
        ("redirect_dir", "off"),
        ("uuid", "null"),
    ] {
        let _ = fs.string(key, value.as_bytes());
    }
    if volatile {
        fs.flag("volatile")?;
    }
    match fs.mount(0) {
        Ok(mount) => Ok(mount),
        Err(error) => {
            let complaint = fs.complaint();
            // The errno decides about the fallback; the kernel's words are better than its number.
            if complaint.is_empty() || fallback_errno(&error) {
                Err(error)
            } else {
                Err(io::Error::other(complaint))
            }
        }
    }
}

/// Whether an error may only mean that the kernel is older than `lowerdir+` (6.8) or its descriptor form (6.13).
fn fallback_errno(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::ENOSYS | libc::ENAMETOOLONG | libc::EBADF)
    )
}

/// `mount(2)` with one option string, for kernels before 6.8.
fn classic_overlay(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    volatile: bool,
    place: &Path,
    error: io::Error,
) -> Result<OwnedFd> {
    if !fallback_errno(&error) {
        return Err(error).at(Step::Root, upper);
    }
    let mut options = classic_options(lower, upper, work, volatile);
    let mut opened = Vec::new();
    if options.len() >= CLASSIC_LIMIT {
        // Too long for the page that the kernel copies: named by descriptor then, from the folder that lists them.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        for path in lower.iter().map(PathBuf::as_path).chain([upper, work]) {
            opened.push(nix::fcntl::open(path, flags, Mode::empty()).at(Step::Root, path)?);
        }
        let mut short: Vec<PathBuf> = opened.iter().map(|fd| fd.as_raw_fd().to_string().into()).collect();
        let names = short.split_off(lower.len());
        let [upper, work] = names.as_slice() else {
            return Err(failure(Step::Root, upper, Errno::EINVAL, ""));
        };
        options = classic_options(&short, upper, work, volatile);
        nix::unistd::chdir("/proc/self/fd").at(Step::Root, "/proc/self/fd")?;
    }
    let options = OsStr::from_bytes(&options);
    let kind = Some("overlay");
    nix::mount::mount(kind, place, kind, MsFlags::empty(), Some(options)).at(Step::Root, upper)?;
    nix::unistd::chdir("/").at(Step::Root, "/")?;
    let made = mount::clone_tree(place, false).at(Step::Root, upper)?;
    nix::mount::umount2(place, nix::mount::MntFlags::MNT_DETACH).at(Step::Root, place)?;
    Ok(made)
}

/// What the kernel copies of an option string, a page, with its end.
const CLASSIC_LIMIT: usize = 4095;

fn classic_options(lower: &[PathBuf], upper: &Path, work: &Path, volatile: bool) -> Vec<u8> {
    let mut options = b"lowerdir=".to_vec();
    for (index, layer) in lower.iter().enumerate() {
        if index > 0 {
            options.push(b':');
        }
        escape(layer, b":,\\", &mut options);
    }
    for (key, path) in [(",upperdir=", upper), (",workdir=", work)] {
        options.extend_from_slice(key.as_bytes());
        escape(path, b",\\", &mut options);
    }
    options.extend_from_slice(b",index=off,metacopy=off,redirect_dir=off");
    if volatile {
        options.extend_from_slice(b",volatile");
    }
    options
}

fn escape(path: &Path, special: &[u8], out: &mut Vec<u8>) {
    for &byte in path.as_os_str().as_bytes() {
        if special.contains(&byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }
}
