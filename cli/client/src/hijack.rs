//! A hijacked connection: raw bytes in both directions after the `101`, with a half-close.

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::mux::{Frame, Frames};

/// Big enough for one read to take what the daemon's socket buffer holds.
const BUFFER: usize = 64 << 10;

/// Both directions of an attached container or exec.
pub struct Hijacked {
    /// What the daemon said about framing; `None` when its API version does not tell.
    pub multiplexed: Option<bool>,
    pub input: Input,
    pub output: Output,
}

/// Towards the container.
pub struct Input(WriteHalf<TokioIo<Upgraded>>);

/// From the container.
pub struct Output(ReadHalf<TokioIo<Upgraded>>);

impl Hijacked {
    pub(crate) fn new(upgraded: Upgraded, multiplexed: Option<bool>) -> Hijacked {
        let (read, write) = tokio::io::split(TokioIo::new(upgraded));
        Hijacked {
            multiplexed,
            input: Input(write),
            output: Output(read),
        }
    }

    /// Collects everything until the end, demultiplexed: (stdout, stderr). For tests and small outputs.
    ///
    /// # Errors
    /// The connection broke, or the frames are not well-formed.
    pub async fn collect(mut self) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
        let mut frames = Frames::new(self.multiplexed.unwrap_or(true));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = self.output.read(&mut buffer).await?;
            if count == 0 {
                return frames.end().map(|()| (out, err));
            }
            frames.feed(&buffer[..count], |frame, bytes| match frame {
                Frame::Stdin | Frame::Stdout => out.extend_from_slice(bytes),
                Frame::Stderr | Frame::Daemon => err.extend_from_slice(bytes),
            })?;
        }
    }
}

impl Input {
    /// # Errors
    /// The connection broke.
    pub async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }

    /// The half-close: the container sees the end of its stdin, its output still arrives.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn close(&mut self) -> std::io::Result<()> {
        self.0.shutdown().await
    }
}

impl Output {
    /// # Errors
    /// The connection broke.
    pub async fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer).await
    }
}
