//! Sockets that hold a port of the host, so that no other program can take it.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket, sockopt,
};

/// Binds a TCP socket to `address` and keeps every other socket off it.
///
/// The socket does not listen: a connection that reaches it in spite of the address translation is refused at once,
/// not left hanging. Without SO_REUSEADDR that is enough to keep others away. Connections of an earlier server in
/// TIME_WAIT would make such a bind fail for a minute; then, and only then, SO_REUSEADDR is used and the socket
/// listens (with an empty queue), because only a listening socket refuses others that have the option too.
///
/// # Errors
/// The errno of bind(2): `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`…
pub fn hold_tcp(address: SocketAddrV4) -> io::Result<OwnedFd> {
    let open = || socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    let holder = open()?;
    match bind(holder.as_raw_fd(), &SockaddrIn::from(address)) {
        Ok(()) => return Ok(holder),
        Err(Errno::EADDRINUSE) => {}
        Err(error) => return Err(error.into()),
    }
    let holder = open()?;
    setsockopt(&holder, sockopt::ReuseAddr, &true)?;
    bind(holder.as_raw_fd(), &SockaddrIn::from(address))?;
    listen(&holder, Backlog::new(0)?)?;
    Ok(holder)
}

/// Binds a UDP socket to `address`. It is never read; what strays into it is dropped when its small buffer is full.
///
/// # Errors
/// The errno of bind(2).
pub fn hold_udp(address: SocketAddrV4) -> io::Result<OwnedFd> {
    let holder = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&holder, sockopt::RcvBuf, &0)?;
    bind(holder.as_raw_fd(), &SockaddrIn::from(address))?;
    Ok(holder)
}
