//! A client attached to a process' streams.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, sendmsg, shutdown};
use runtime::proto::Streams as Interest;
use runtime_sys::epoll::{Epoll, HALF_CLOSED, READ, WRITE};

use crate::token::Token;

/// A client that takes part in a process' streams, over a stream socket.
pub struct Client {
    pub number: u32,
    pub socket: OwnedFd,
    pub interest: Interest,
    /// Output that the client has not taken yet: at most what one read brought, or what was left at the end.
    pub pending: Vec<u8>,
    /// It may still send input.
    pub open: bool,
    /// It has closed altogether; it stays until what it sent before is read.
    pub gone: bool,
}

impl Drop for Client {
    /// Closing a socket with unread input would end the client's output with an error instead of an end.
    fn drop(&mut self) {
        // From here on the client cannot send any more, so that what is in the queue is all.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        let mut unread = [0; 2048];
        while let Ok(1..) = recv(self.socket.as_raw_fd(), &mut unread, MsgFlags::MSG_DONTWAIT) {}
    }
}

impl Client {
    pub fn token(&self) -> u64 {
        Token::Client(self.number).pack()
    }

    pub fn wants(&self, stream: u8) -> bool {
        !self.gone
            && if stream == 2 {
                self.interest.stderr
            } else {
                self.interest.stdout
            }
    }

    pub fn interest(&self, take_input: bool) -> u32 {
        let mut interest = 0;
        if self.open && take_input {
            interest |= READ | HALF_CLOSED;
        }
        if !self.pending.is_empty() {
            interest |= WRITE;
        }
        interest
    }

    pub fn update(&self, take_input: bool, epoll: &Epoll) {
        if !self.gone {
            let _ = epoll.change(self.socket.as_fd(), self.token(), self.interest(take_input));
        }
    }

    /// Sends a frame; what the socket does not take stays pending.
    pub fn send(&mut self, header: &[u8], bytes: &[u8]) {
        let sent = if self.pending.is_empty() {
            transmit(&self.socket, header, bytes)
        } else {
            Ok(0)
        };
        match sent {
            Ok(sent) => {
                self.pending.extend_from_slice(header.get(sent..).unwrap_or_default());
                self.pending
                    .extend_from_slice(bytes.get(sent.saturating_sub(header.len())..).unwrap_or_default());
            }
            // Gone: the event about it comes by itself.
            Err(_) => self.pending = Vec::new(),
        }
    }

    pub fn flush(&mut self) {
        match transmit(&self.socket, &[], &self.pending) {
            Ok(sent) if sent < self.pending.len() => drop(self.pending.drain(..sent)),
            Ok(_) | Err(_) => self.pending = Vec::new(),
        }
    }
}

/// Sends as much as the socket takes.
fn transmit(socket: &OwnedFd, header: &[u8], bytes: &[u8]) -> nix::Result<usize> {
    let parts = [io::IoSlice::new(header), io::IoSlice::new(bytes)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    match sendmsg::<()>(socket.as_raw_fd(), &parts, &[], flags, None) {
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
        other => other,
    }
}
