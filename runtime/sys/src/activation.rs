//! Sockets that a service manager opened for us (`sd_listen_fds(3)`).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cvt::check;

/// The first descriptor that is handed over, by definition.
const FIRST: i32 = 3;
/// More than any unit file has; a larger number is a mistake.
const MOST: i32 = 64;

/// Takes over the sockets that `LISTEN_FDS` and `LISTEN_FDNAMES` announce to this process, with their names. Nothing the
/// second time, and nothing when the variables are meant for another process.
///
/// # Errors
/// When the variables announce descriptors that are not there.
pub fn take() -> io::Result<Vec<(OwnedFd, String)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    let ours = number("LISTEN_PID").is_some_and(|pid| pid == std::process::id() as i32);
    let count = number("LISTEN_FDS").unwrap_or(0);
    if !ours || count <= 0 || TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    if count > MOST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("LISTEN_FDS={count} is more than {MOST}"),
        ));
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut taken = Vec::new();
    for fd in FIRST..FIRST + count {
        // SAFETY: asks for a flag of a number; that also tells whether it is open.
        check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
        // SAFETY: the service manager opened it for this process alone (LISTEN_PID), nothing else here owns a number it
        // was told nothing of, and the flag above makes sure that each is taken once.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        taken.push((owned, names.next().unwrap_or_default().to_owned()));
    }
    Ok(taken)
}
