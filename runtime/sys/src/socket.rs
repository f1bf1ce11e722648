//! What became of the bytes that were written to a socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::cvt::check;

/// Zero once the other end of a unix socket has read all that was written to it: `SIOCOUTQ`. What it has not read counts
/// with the kernel's own keeping, so that the number says nothing else.
///
/// # Errors
/// As `ioctl(2)`; for what is no socket `ENOTTY`.
pub fn unread(socket: impl AsFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: the request (for sockets the same number as TIOCOUTQ) writes one int, which lives across the call.
    check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) }.into())?;
    Ok(usize::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_was_read_is_not_unread() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        assert_eq!(unread(&ours).unwrap(), 0);
        ours.write_all(b"four").unwrap();
        assert!(unread(&ours).unwrap() > 0);
        theirs.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(unread(&ours).unwrap(), 0);
        ours.write_all(b"more").unwrap();
        drop(theirs);
        assert_eq!(
            unread(&ours).unwrap(),
            0,
            "of a peer that is gone nothing is waited for"
        );
    }

    #[test]
    fn a_file_has_no_such_number() {
        assert!(unread(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
