//! A byte stream to the daemon, whatever lies between: a unix socket, TCP, TLS, or an `ssh` child's pipes.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_rustls::TlsConnector;

use crate::endpoint::Endpoint;
use crate::error::{Error, Result};

/// Anything HTTP can be spoken over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens one connection.
pub(crate) async fn dial(endpoint: &Endpoint, tls: Option<&Arc<rustls::ClientConfig>>) -> Result<Box<dyn Stream>> {
    let failed = |source: io::Error| {
        let host = endpoint.to_string();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Error::Denied { host, source },
            _ => Error::Connect { host, source },
        }
    };
    match endpoint {
        Endpoint::Unix(path) => Ok(Box::new(Deaf::new(UnixStream::connect(path).await.map_err(failed)?))),
        Endpoint::Tcp { host, port, .. } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
            // Keystrokes are small writes that must not wait for each other.
            stream.set_nodelay(true).map_err(failed)?;
            let stream = Deaf::new(stream);
            let Some(config) = tls else { return Ok(Box::new(stream)) };
            let name = ServerName::try_from(host.clone()).map_err(|error| Error::Host {
                host: endpoint.to_string(),
                reason: error.to_string(),
            })?;
            Ok(Box::new(
                TlsConnector::from(config.clone())
                    .connect(name, stream)
                    .await
                    .map_err(failed)?,
            ))
        }
        Endpoint::Ssh {
            user,
            host,
            port,
            socket,
        } => {
            let child = ssh(user.as_deref(), host, *port, socket.as_deref());
            Ok(Box::new(Piped::spawn(child).map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => Error::Host {
                    host: endpoint.to_string(),
                    reason: "ssh:// needs the `ssh` program, which is not installed".to_owned(),
                },
                _ => failed(source),
            })?))
        }
    }
}

/// A daemon that refuses an upload answers and hangs up while we still send. HTTP libraries then report the failed write
/// and drop the answer, which has the reason: so after a write that nobody hears, writing goes on into the void, and
/// what is read (the answer, or the end) decides.
struct Deaf<S> {
    inner: S,
    deaf: bool,
}

impl<S> Deaf<S> {
    fn new(inner: S) -> Deaf<S> {
        Deaf { inner, deaf: false }
    }

    fn heard(&mut self, written: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(error))
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                self.deaf = true;
                Poll::Ready(Ok(length))
            }
            other => other,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Deaf<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Deaf<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.deaf {
            return Poll::Ready(Ok(data.len()));
        }
        let written = Pin::new(&mut this.inner).poll_write(cx, data);
        this.heard(written, data.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = data.iter().map(|part| part.len()).sum();
        if this.deaf {
            return Poll::Ready(Ok(length));
        }
        let written = Pin::new(&mut this.inner).poll_write_vectored(cx, data);
        this.heard(written, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// The ssh command: whichever of the two clients exists at the far end turns its stdio into a connection.
fn ssh(user: Option<&str>, host: &str, port: Option<u16>, socket: Option<&str>) -> Command {
    let target = match socket {
        // Single quotes protect everything but themselves.
        Some(path) => format!(" --host 'unix://{}'", path.replace('\'', r"'\''")),
        None => String::new(),
    };
    let script = format!(
        "if command -v iechor >/dev/null 2>&1; then exec iechor{target} system dial-stdio; \
         else exec docker{target} system dial-stdio; fi"
    );
    let mut command = Command::new("ssh");
    command.args(["-o", "ConnectTimeout=30", "-T"]);
    if let Some(user) = user {
        command.args(["-l", user]);
    }
    if let Some(port) = port {
        command.args(["-p", &port.to_string()]);
    }
    // The login shell at the far end may be any: only `sh -c 'quoted'` means the same in all of them.
    command
        .args(["--", host, "sh", "-c"])
        .arg(format!("'{}'", script.replace('\'', r"'\''")));
    command
}

/// A child process's stdin and stdout as one stream. Its stderr stays the user's, so ssh can say what it wants to say.
struct Piped {
    // Held for `kill_on_drop`.
    _child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
}

impl Piped {
    fn spawn(mut command: Command) -> io::Result<Piped> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let missing = || io::Error::other("the child has no pipes");
        let input = Some(child.stdin.take().ok_or_else(missing)?);
        let output = child.stdout.take().ok_or_else(missing)?;
        Ok(Piped {
            _child: child,
            input,
            output,
        })
    }

    fn input(&mut self) -> io::Result<Pin<&mut ChildStdin>> {
        self.input
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncRead for Piped {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().output).poll_read(cx, buf)
    }
}

impl AsyncWrite for Piped {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().input()?.poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().input() {
            Ok(input) => input.poll_flush(cx),
            Err(_) => Poll::Ready(Ok(())),
        }
    }

    /// Closing the pipe is the half-close.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().input = None;
        Poll::Ready(Ok(()))
    }
}
