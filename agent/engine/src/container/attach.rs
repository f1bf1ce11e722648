//! Attach: a stream socket whose other end the shim writes to (and reads stdin from).

use std::os::fd::OwnedFd;
use std::sync::Arc;

use runtime::launcher::Attach;
use tokio::net::UnixStream;

use super::Container;
use super::state::{Phase, Request};
use crate::Engine;
use crate::error::{Error, Result};
use crate::events::EventKind;

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// Our end: Docker's frames (raw for a terminal) to read, stdin to write.
#[derive(Debug)]
pub struct Attachment {
    pub stream: UnixStream,
    pub tty: bool,
    /// What is written to `stream` reaches the process.
    pub stdin: bool,
}

/// A connected pair: ours for the async side, the other for the shim.
pub(crate) fn pair() -> Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(Error::io("make a socket pair"))?;
    ours.set_nonblocking(true)
        .map_err(Error::io("make a socket non-blocking"))?;
    let ours = UnixStream::from_std(ours).map_err(Error::io("watch a socket"))?;
    Ok((ours, theirs.into()))
}

impl Engine {
    /// Attaches to a container: to the running one, or to the next run of one that is not started yet.
    pub async fn attach(&self, container: &Arc<Container>, streams: Streams) -> Result<Attachment> {
        let (stream, theirs) = pair()?;
        let (shim, tty, stdin) = {
            let mut inner = container.lock();
            container.admit(&inner, Request::Attach)?;
            let stdin = streams.stdin && inner.record.config.open_stdin;
            let attach = Attach {
                socket: theirs,
                stdin,
                stdout: streams.stdout,
                stderr: streams.stderr,
            };
            let tty = inner.record.config.tty;
            match inner.run.as_ref().map(|run| run.shim.clone()) {
                Some(shim) => (Some((shim, attach)), tty, stdin),
                None => {
                    debug_assert!(matches!(inner.record.status.phase, Phase::Created | Phase::Exited));
                    inner.pending.push(attach);
                    (None, tty, stdin)
                }
            }
        };
        if let Some((shim, attach)) = shim {
            shim.attach(attach).await.map_err(|source| Error::Runtime {
                id: container.id.clone(),
                source,
            })?;
        }
        self.journal.record(
            EventKind::Container,
            "attach",
            container.id.as_str(),
            container.event_attributes(),
        );
        Ok(Attachment { stream, tty, stdin })
    }

    /// A client detached by its keys.
    pub fn note_detach(&self, container: &Container) {
        self.journal.record(
            EventKind::Container,
            "detach",
            container.id.as_str(),
            container.event_attributes(),
        );
    }

    /// Sets the size of a container's terminal.
    pub async fn resize(&self, container: &Arc<Container>, rows: u16, cols: u16) -> Result<()> {
        let shim = {
            let inner = container.lock();
            container.admit(&inner, Request::Resize)?;
            inner
                .run
                .as_ref()
                .map(|run| run.shim.clone())
                .ok_or_else(|| Error::NotRunning(container.id.clone()))?
        };
        // One that has no terminal has none to resize, and is told that all is well, as by dockerd.
        if container.is_tty() {
            shim.resize(rows, cols).await.map_err(|source| Error::Runtime {
                id: container.id.clone(),
                source,
            })?;
        }
        let attributes = super::create::with(
            container.event_attributes(),
            [("height", rows.to_string()), ("width", cols.to_string())],
        );
        self.journal
            .record(EventKind::Container, "resize", container.id.as_str(), attributes);
        Ok(())
    }
}
