//! What another runtime cannot do by itself: it takes a root that is mounted, and a user by number.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use runtime::plan::{Root, User};
use runtime::proto::Step;

use crate::child::root::Root as Inside;
use crate::child::{rootfs, users};
use crate::failure::{At, Result};

/// Gives this process mounts of its own: what it mounts from now on nobody else sees, and it ends with the process. What
/// the host mounts and unmounts is followed.
///
/// # Errors
/// As `unshare(2)`, `mount(2)`.
pub fn own_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).at(Step::Root, "mount namespace")?;
    let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, slave, None::<&str>).at(Step::Root, "/")
}

/// Mounts a container's root at `place`, a folder.
///
/// # Errors
/// As for a container of ours.
pub fn mount_root(source: &Root, place: &Path) -> Result<()> {
    let made = rootfs::make(source, place)?;
    let target = open(place, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).at(Step::Root, place)?;
    runtime_sys::mount::attach(made.as_fd(), target.as_fd()).at(Step::Root, place)
}

/// A user by number, looked up in the files of the root at `place`, which are never left.
///
/// # Errors
/// In Docker's words, when there is none of that name.
pub fn user_of(place: &Path, user: &User) -> Result<User> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root: OwnedFd = open(place, flags, Mode::empty()).at(Step::User, place)?;
    // `HOME` is found by the runtime, as every one of them does where the environment has none.
    let found = users::resolve(&Inside::new(root), user, false)?;
    Ok(User::Ids {
        uid: found.uid,
        gid: found.gid,
        groups: found.groups,
    })
}
