//! One connection to a registry: name → address → TCP (perhaps through a proxy) → perhaps TLS.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::{ClientConfig, Insecure};
use crate::dial::{dial, io_words};
use crate::error::Result;
use crate::proxy::{Proxy, ProxyRules};
use crate::tls::Tls;

/// Plain-HTTP servers mostly refuse a TLS greeting at once; some wait for a line that never comes.
const INSECURE_HANDSHAKE: Duration = Duration::from_millis(1500);
const MAX_PROXY_ANSWER: usize = 16 * 1024;

/// Why there is no connection. The words are those of Go's network library, which Docker shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("dial tcp: lookup {host}: no such host")]
    NoSuchHost {
        /// The name.
        host: String,
    },
    /// The look-up failed for another reason.
    #[error("dial tcp: lookup {host}: {why}")]
    Lookup {
        /// The name.
        host: String,
        /// From the resolver.
        why: String,
    },
    /// TCP.
    #[error("dial tcp {address}: connect: {why}")]
    Dial {
        /// Where to.
        address: SocketAddr,
        /// From the kernel.
        why: String,
    },
    /// Nobody answered in time.
    #[error("dial tcp {host}: i/o timeout")]
    Timeout {
        /// Host and port.
        host: String,
    },
    /// The certificate cannot be verified.
    #[error("tls: failed to verify certificate: x509: {0}")]
    Certificate(String),
    /// The other side does not speak TLS.
    #[error("http: server gave HTTP response to HTTPS client")]
    NotTls,
    /// The other side fell silent or hung up at the TLS greeting.
    #[error("{0}")]
    NoHandshake(&'static str),
    /// TLS failed for another reason.
    #[error("tls: {0}")]
    Tls(String),
    /// The certificates to use cannot be read.
    #[error("{0}")]
    Certificates(String),
    /// The proxy did not let us through.
    #[error("proxyconnect tcp: {0}")]
    Proxy(String),
    /// An address that cannot be one.
    #[error("invalid address {0:?}")]
    Address(String),
}

impl ConnectError {
    /// Whether the other side was reached and shows no sign of speaking TLS.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, ConnectError::NotTls | ConnectError::NoHandshake(_))
    }

    /// Whether it may be otherwise in a moment, when the host was there a moment ago.
    pub(crate) fn is_passing(&self) -> bool {
        !matches!(
            self,
            ConnectError::Certificate(_)
                | ConnectError::Certificates(_)
                | ConnectError::NotTls
                | ConnectError::Address(_)
        )
    }
}

/// Makes connections for hyper's pool.
#[derive(Clone)]
pub(crate) struct Connector {
    shared: Arc<Shared>,
}

struct Shared {
    tls: Arc<Tls>,
    proxies: ProxyRules,
    insecure: Insecure,
    limit: Duration,
}

impl Connector {
    pub(crate) fn new(config: &ClientConfig) -> Result<Connector> {
        let shared = Shared {
            tls: Arc::new(Tls::new(config.certificates.clone())),
            proxies: ProxyRules::new(&config.proxies)?,
            insecure: Insecure::new(&config.insecure)?,
            limit: config.connect_timeout,
        };
        Ok(Connector {
            shared: Arc::new(shared),
        })
    }

    /// Who may be spoken to without verified TLS.
    pub(crate) fn insecure(&self) -> &Insecure {
        &self.shared.insecure
    }

    /// What a plain-HTTP request to this host must tell the proxy in its way.
    pub(crate) fn proxy_authorization(&self, host: &str, port: u16) -> Option<&str> {
        self.shared.proxies.select(false, host, port)?.authorization.as_deref()
    }

    pub(crate) async fn connect(&self, https: bool, host: &str, port: u16) -> Result<Conn, ConnectError> {
        let all = self.shared.connect(https, host, port);
        timeout(self.shared.limit, all).await.unwrap_or_else(|_| {
            Err(ConnectError::Timeout {
                host: format!("{host}:{port}"),
            })
        })
    }
}

impl Shared {
    async fn connect(&self, https: bool, host: &str, port: u16) -> Result<Conn, ConnectError> {
        let proxy = self.proxies.select(https, host, port);
        let stream: Box<dyn Stream> = match proxy {
            None => Box::new(dial(host, port).await?),
            Some(proxy) => self.through(proxy, https, host, port).await?,
        };
        if !https {
            return Ok(Conn {
                stream: TokioIo::new(stream),
                h2: false,
                proxied: proxy.is_some(),
            });
        }
        let insecure = self.insecure.allows(host, port);
        let stream = self.secure(stream, host, port, insecure);
        let stream = match insecure {
            true => timeout(INSECURE_HANDSHAKE, stream)
                .await
                .unwrap_or_else(|_| Err(ConnectError::NoHandshake("net/http: TLS handshake timeout")))?,
            false => stream.await?,
        };
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Conn {
            stream: TokioIo::new(Box::new(stream)),
            h2,
            proxied: false,
        })
    }

    async fn secure<S: Stream>(
        &self,
        stream: S,
        host: &str,
        port: u16,
        insecure: bool,
    ) -> Result<tokio_rustls::client::TlsStream<S>, ConnectError> {
        // The first time it reads files.
        let (tls, owned) = (self.tls.clone(), host.to_owned());
        let config = tokio::task::spawn_blocking(move || tls.config(&owned, port, insecure)).await;
        let config = config
            .unwrap_or_else(|error| Err(error.to_string()))
            .map_err(ConnectError::Certificates)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::Address(host.to_owned()))?;
        TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|error| tls_error(&error))
    }

    /// Connect to a proxy, and for HTTPS have it make a tunnel.
    async fn through(
        &self,
        proxy: &Proxy,
        https: bool,
        host: &str,
        port: u16,
    ) -> Result<Box<dyn Stream>, ConnectError> {
        let failed = |error: ConnectError| ConnectError::Proxy(error.to_string());
        let tcp = dial(&proxy.host, proxy.port).await.map_err(failed)?;
        let mut stream: Box<dyn Stream> = match proxy.tls {
            false => Box::new(tcp),
            true => Box::new(self.secure(tcp, &proxy.host, proxy.port, false).await.map_err(failed)?),
        };
        if https {
            tunnel(&mut stream, proxy, host, port).await?;
        }
        Ok(stream)
    }
}

/// `CONNECT host:port` (RFC 9110 §9.3.6).
async fn tunnel(stream: &mut Box<dyn Stream>, proxy: &Proxy, host: &str, port: u16) -> Result<(), ConnectError> {
    let failed = |why: &dyn std::fmt::Display| ConnectError::Proxy(format!("{}:{}: {why}", proxy.host, proxy.port));
    let target = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(authorization) = &proxy.authorization {
        request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
    }
    request.push_str("\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| failed(&error))?;
    stream.flush().await.map_err(|error| failed(&error))?;
    // The far end says nothing before our TLS greeting, so that reading past the head takes nothing away.
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 1024];
        let read = stream.read(&mut part).await.map_err(|error| failed(&error))?;
        if read == 0 || answer.len() > MAX_PROXY_ANSWER {
            return Err(failed(&"the proxy gave no proper answer"));
        }
        answer.extend_from_slice(&part[..read]);
    }
    let line = String::from_utf8_lossy(answer.split(|&b| b == b'\r').next().unwrap_or_default()).into_owned();
    match line.split_once(' ') {
        Some((version, status)) if version.starts_with("HTTP/1.") && status.starts_with('2') => Ok(()),
        Some((version, status)) if version.starts_with("HTTP/1.") => Err(failed(&status)),
        _ => Err(failed(&"the proxy gave no proper answer")),
    }
}

fn tls_error(error: &io::Error) -> ConnectError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidMessage(_)) => ConnectError::NotTls,
        Some(rustls::Error::InvalidCertificate(why)) => ConnectError::Certificate(certificate_words(why)),
        Some(other) => ConnectError::Tls(other.to_string()),
        None if matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
        ) =>
        {
            ConnectError::NoHandshake("EOF")
        }
        None => ConnectError::Tls(io_words(error)),
    }
}

fn certificate_words(why: &rustls::CertificateError) -> String {
    use rustls::CertificateError as E;
    match why {
        E::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        other => other.to_string(),
    }
}

/// What a connection is made of.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// A connection, as hyper's pool wants it.
pub(crate) struct Conn {
    stream: TokioIo<Box<dyn Stream>>,
    h2: bool,
    proxied: bool,
}

impl Connection for Conn {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.proxied);
        if self.h2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Conn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Conn;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Conn, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let https = uri.scheme_str() == Some("https");
            let host = uri.host().ok_or_else(|| ConnectError::Address(uri.to_string()))?;
            let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
            connector.connect(https, host.trim_matches(['[', ']']), port).await
        })
    }
}
