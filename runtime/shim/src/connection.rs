//! A daemon's connection. The shim never waits for one: what a connection does not take is queued, and a connection
//! that takes nothing is dropped.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime::proto::{Event, LARGEST_MESSAGE, Request};
use runtime::wire::Wire;
use runtime_sys::epoll::{Epoll, READ, WRITE};
use runtime_sys::seqpacket;

use crate::token::Token;

/// Connections at once: a daemon, one that takes over, and somebody who looks.
pub const MAX_CONNECTIONS: usize = 8;

/// Messages that wait for a connection to take them. An idle daemon's socket buffer holds hundreds before that.
const MAX_QUEUED: usize = 256;

pub struct Connection {
    pub number: u32,
    socket: OwnedFd,
    queue: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
}

/// What came in.
pub enum Incoming {
    /// Nothing more for now.
    Nothing,
    /// A request with its descriptors.
    Request(Box<Request>, Vec<OwnedFd>),
    /// The connection is of no further use.
    End,
}

impl Connection {
    pub fn new(number: u32, socket: OwnedFd, epoll: &Epoll) -> io::Result<Connection> {
        epoll.watch(socket.as_fd(), Token::Connection(number).pack(), READ)?;
        Ok(Connection {
            number,
            socket,
            queue: VecDeque::new(),
        })
    }

    /// Stops watching it, before it is dropped: a child in its set-up may still share it.
    pub fn forget(&self, epoll: &Epoll) {
        epoll.forget(self.socket.as_fd());
    }

    /// The next request. A message that is none ends the connection: who speaks another language gets no further.
    pub fn receive(&self) -> Incoming {
        let length = match seqpacket::next_length(self.socket.as_fd()) {
            Ok(Some(length)) if length <= LARGEST_MESSAGE => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Incoming::Nothing,
            Ok(_) | Err(_) => return Incoming::End,
        };
        let mut message = vec![0; length];
        match seqpacket::receive(self.socket.as_fd(), &mut message) {
            Ok((count, fds)) => match message.get(..count).map(Request::decode) {
                Some(Ok(request)) => Incoming::Request(Box::new(request), fds),
                _ => Incoming::End,
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Incoming::Nothing,
            Err(_) => Incoming::End,
        }
    }

    /// Sends an event, with a descriptor that belongs to it, or queues it. False: the connection is to be dropped.
    pub fn send(&mut self, event: &Event, fd: Option<BorrowedFd<'_>>, epoll: &Epoll) -> bool {
        let message = event.encode();
        if self.queue.is_empty() {
            match seqpacket::send(self.socket.as_fd(), &message, fd.as_slice()) {
                Ok(()) => return true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let token = Token::Connection(self.number).pack();
                    if epoll.change(self.socket.as_fd(), token, READ | WRITE).is_err() {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        let Ok(fd) = fd.map(|fd| fd.try_clone_to_owned()).transpose() else {
            return false;
        };
        self.queue.push_back((message, fd));
        self.queue.len() <= MAX_QUEUED
    }

    /// Whether everything that was sent is on its way.
    pub fn is_flushed(&self) -> bool {
        self.queue.is_empty()
    }

    /// Sends what is queued. False: the connection is to be dropped.
    pub fn flush(&mut self, epoll: &Epoll) -> bool {
        while let Some((message, fd)) = self.queue.front() {
            let fd = fd.as_ref().map(AsFd::as_fd);
            match seqpacket::send(self.socket.as_fd(), message, fd.as_slice()) {
                Ok(()) => drop(self.queue.pop_front()),
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        epoll
            .change(self.socket.as_fd(), Token::Connection(self.number).pack(), READ)
            .is_ok()
    }
}
