//! Whether the client is still there, for answers that may have nothing to say for hours.
//!
//! hyper is told to tolerate clients that close their writing side and read on, so it does not notice one that went away
//! until it writes to it. The kernel knows: a unix socket hangs up when the other end is closed altogether, a TCP
//! connection at least says that the other end will send nothing more, which Go's server takes for a client that left.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use http::request::Parts;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

/// How long a client is waited for that does not read its answer; then the stream goes on behind it.
const CATCHING_UP: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The other end of a request's connection. Cheap to clone; costs nothing until it is asked.
#[derive(Clone, Default)]
pub struct Peer(Option<Arc<Socket>>);

enum Socket {
    Unix(OwnedFd),
    Tcp(OwnedFd),
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.as_deref() {
            Some(Socket::Unix(_)) => "Peer(unix)",
            Some(Socket::Tcp(_)) => "Peer(tcp)",
            None => "Peer(unknown)",
        })
    }
}

impl Peer {
    /// Of a unix socket. Without descriptors to spare, the peer is one that never leaves.
    pub fn unix(socket: BorrowedFd<'_>) -> Peer {
        Peer(socket.try_clone_to_owned().ok().map(|fd| Arc::new(Socket::Unix(fd))))
    }

    pub fn tcp(socket: BorrowedFd<'_>) -> Peer {
        Peer(socket.try_clone_to_owned().ok().map(|fd| Arc::new(Socket::Tcp(fd))))
    }

    /// Resolves when the client is gone.
    pub async fn gone(self) {
        if self.watch().await.is_err() {
            // Nothing to watch: the answer ends when it cannot be written.
            std::future::pending().await
        }
    }

    /// Resolves when a client that may half-close is gone altogether; never where that cannot be known.
    pub async fn hung_up(self) {
        match self.0.as_deref() {
            Some(Socket::Unix(_)) => self.gone().await,
            Some(Socket::Tcp(_)) | None => std::future::pending().await,
        }
    }

    /// Resolves when the client has read all that was written to it so far, or after a moment: some read only when they
    /// have said all they have to say. Of a TCP connection that cannot be known, and is not waited for.
    pub async fn caught_up(&self) {
        let Some(Socket::Unix(fd)) = self.0.as_deref() else {
            return;
        };
        let end = Instant::now() + CATCHING_UP;
        // The kernel wakes nobody up for this. It takes a client that waits for its answer some microseconds.
        while runtime_sys::socket::unread(fd).is_ok_and(|count| count > 0) && Instant::now() < end {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn watch(&self) -> io::Result<()> {
        match self.0.as_deref() {
            None => Err(io::ErrorKind::Unsupported.into()),
            Some(Socket::Unix(fd)) => {
                let socket = UnixStream::from_std(fd.as_fd().try_clone_to_owned()?.into())?;
                // "Write closed" is the hang-up of both directions; half a close shows only as "read closed".
                while !socket.ready(Interest::WRITABLE).await?.is_write_closed() {
                    forget(socket.try_io(Interest::WRITABLE, again));
                }
                Ok(())
            }
            Some(Socket::Tcp(fd)) => {
                let socket = TcpStream::from_std(fd.as_fd().try_clone_to_owned()?.into())?;
                while !socket.ready(Interest::READABLE).await?.is_read_closed() {
                    forget(socket.try_io(Interest::READABLE, again));
                }
                Ok(())
            }
        }
    }
}

/// "Would block" makes tokio wait for the kernel's next word instead of telling the last one again.
fn again() -> io::Result<()> {
    Err(io::ErrorKind::WouldBlock.into())
}

/// The answer to [`again`] is known.
fn forget(_: io::Result<()>) {}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn half_a_close_on_a_unix_socket_is_not_leaving() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let peer = Peer::unix(ours.as_fd());
        theirs.write_all(b"more").await.unwrap();
        theirs.shutdown().await.unwrap();
        assert!(timeout(SOON, peer.clone().gone()).await.is_err());
        drop(theirs);
        timeout(LONG, peer.gone()).await.unwrap();
    }

    #[tokio::test]
    async fn a_tcp_client_that_closes_is_gone_and_one_that_sends_is_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        let peer = Peer::tcp(ours.as_fd());
        theirs.write_all(b"more").await.unwrap();
        assert!(timeout(SOON, peer.clone().gone()).await.is_err());
        drop(theirs);
        timeout(LONG, peer.gone()).await.unwrap();
    }

    #[tokio::test]
    async fn a_client_has_caught_up_when_it_has_read() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let peer = Peer::unix(ours.as_fd());
        peer.caught_up().await;
        ours.write_all(b"answer").await.unwrap();
        assert!(timeout(SOON, peer.caught_up()).await.is_err());
        theirs.read_exact(&mut [0; 6]).await.unwrap();
        timeout(SOON, peer.caught_up()).await.unwrap();
        ours.write_all(b"never read").await.unwrap();
        timeout(LONG, peer.caught_up()).await.unwrap();
    }

    #[tokio::test]
    async fn an_unknown_peer_never_leaves() {
        assert!(timeout(SOON, Peer::default().gone()).await.is_err());
    }
}
