//! Network namespaces: network_namespaces(7), unshare(2), setns(2).
//!
//! A namespace belongs to a thread. Everything here acts on the calling thread only.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::sched::{CloneFlags, setns, unshare};

use crate::cvt::{check, check_fd};

/// A handle on the calling thread's network namespace, which lives at least as long as the handle.
///
/// # Errors
/// The errno of open(2).
pub fn current() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// Moves the calling thread into a new, empty namespace (its loopback is down).
///
/// # Errors
/// The errno of unshare(2).
pub fn enter_new() -> io::Result<()> {
    Ok(unshare(CloneFlags::CLONE_NEWNET)?)
}

/// Moves the calling thread into `namespace`.
///
/// # Errors
/// The errno of setns(2); `EINVAL` if the descriptor is no network namespace.
pub fn enter(namespace: impl AsFd) -> io::Result<()> {
    Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
}

/// Whether the calling thread is in the namespace of the process's main thread.
///
/// # Errors
/// The errno of stat(2).
pub fn is_process_namespace() -> io::Result<bool> {
    let own = std::fs::metadata("/proc/thread-self/ns/net")?;
    let main = std::fs::metadata("/proc/self/ns/net")?;
    Ok((own.dev(), own.ino()) == (main.dev(), main.ino()))
}

/// Runs `work` in `namespace` and comes back.
///
/// # Errors
/// The errno of setns(2) on the way in. If the way back fails the process is aborted: a thread of a pool that stays
/// behind in a container's namespace would do the next caller's work there.
pub fn within<T>(namespace: impl AsFd, work: impl FnOnce() -> T) -> io::Result<T> {
    let home = current()?;
    enter(namespace)?;
    let back = Back(home);
    let result = work();
    drop(back);
    Ok(result)
}

/// Returns to the namespace it holds, also when `work` panics.
struct Back(OwnedFd);

impl Drop for Back {
    fn drop(&mut self) {
        if enter(&self.0).is_err() {
            std::process::abort();
        }
    }
}

/// Brings up the loopback interface of the calling thread's network namespace: `SIOCSIFFLAGS` of `netdevice(7)`.
///
/// # Errors
/// As `socket(2)` and `ioctl(2)`.
pub fn loopback_up() -> io::Result<()> {
    // SAFETY: takes numbers; the result is a new descriptor.
    let socket = unsafe { check_fd(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0).into()) }?;
    // SAFETY: all zeros is a value of this plain struct: an empty name, and 0 in the union.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request reads one ifreq, which lives across the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into()).map(drop)
}
