//! Raw netlink sockets: netlink(7). Encoding and meaning belong to the callers.
//!
//! A netlink socket stays in the network namespace it was made in, whatever its user's thread does later.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// No kernel answer takes this long; a thread must not hang for ever on one that was lost.
const ANSWER_LIMIT_SECONDS: i64 = 30;

/// Which part of the kernel a socket talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes: rtnetlink(7).
    Route,
    /// nftables and conntrack.
    Netfilter,
}

/// One netlink socket, close-on-exec, unbound (the kernel assigns its address at the first send).
#[derive(Debug)]
pub struct NetlinkSocket {
    fd: OwnedFd,
}

impl NetlinkSocket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// The errno of socket(2) or setsockopt(2).
    pub fn open(protocol: Protocol) -> io::Result<Self> {
        let protocol = match protocol {
            Protocol::Route => SockProtocol::NetlinkRoute,
            Protocol::Netfilter => SockProtocol::NetlinkNetFilter,
        };
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        // Errors with the kernel's own sentence, and without a copy of the whole request in them.
        set_flag(fd.as_fd(), libc::NETLINK_EXT_ACK)?;
        set_flag(fd.as_fd(), libc::NETLINK_CAP_ACK)?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_LIMIT_SECONDS))?;
        Ok(Self { fd })
    }

    /// Lets one request be up to `bytes` long (the default is some 200 KiB). Needs CAP_NET_ADMIN.
    ///
    /// # Errors
    /// The errno of setsockopt(2).
    pub fn allow_requests_of(&self, bytes: usize) -> io::Result<()> {
        Ok(setsockopt(&self.fd, sockopt::SndBufForce, &bytes)?)
    }

    /// Sends one request (of one or more messages). The kernel has handled it when this returns.
    ///
    /// # Errors
    /// The errno of send(2).
    pub fn send(&self, request: &[u8]) -> io::Result<()> {
        let sent = send(self.fd.as_raw_fd(), request, MsgFlags::empty())?;
        if sent != request.len() {
            return Err(io::Error::new(
                io::ErrorKind::WriteZero,
                "the kernel took only part of a netlink request",
            ));
        }
        Ok(())
    }

    /// Waits for the next answer datagram.
    ///
    /// # Errors
    /// The errno of recv(2); `TimedOut` after half a minute; `InvalidData` if it is larger than `buffer`.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.receive_with(buffer, MsgFlags::empty()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "no answer from the kernel"))
            }
            other => other,
        }
    }

    /// The next answer that is there already, if any.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn receive_ready(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.receive_with(buffer, MsgFlags::MSG_DONTWAIT) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            other => other.map(Some),
        }
    }

    fn receive_with(&self, buffer: &mut [u8], flags: MsgFlags) -> io::Result<usize> {
        loop {
            match recv(self.fd.as_raw_fd(), buffer, flags | MsgFlags::MSG_TRUNC) {
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(length) if length > buffer.len() => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a netlink answer was cut off",
                    ));
                }
                Ok(length) => return Ok(length),
            }
        }
    }
}

impl AsFd for NetlinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sets a boolean SOL_NETLINK option; nix has none of them.
fn set_flag(fd: BorrowedFd<'_>, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: `fd` is open for the call; the value pointer and its length describe `on`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
