//! Where the API is served: unix sockets, TCP with or without TLS, and sockets handed over by the service manager.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use crate::tls::{self, TlsFiles};
use crate::unix_socket::{Made, UnixSocket};

/// What `--host` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `unix:///run/iechor/iechor.sock`
    Unix(PathBuf),
    /// `tcp://127.0.0.1:2375`
    Tcp(String),
    /// `fd://`, or `fd://name`: the sockets that the service manager opened.
    Activated(String),
}

/// An address that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid address \"{0}\": expected unix:///PATH, tcp://HOST:PORT or fd://")]
pub struct BadAddress(String);

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Address, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Address::Unix(path.into())),
            Some(("tcp", place)) => {
                let (host, port) = place.trim_end_matches('/').rsplit_once(':').ok_or_else(bad)?;
                let good = !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok();
                if good {
                    Ok(Address::Tcp(format!("{host}:{port}")))
                } else {
                    Err(bad())
                }
            }
            Some(("fd", name)) if !name.contains('/') => Ok(Address::Activated(name.trim_matches('*').to_owned())),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp(place) => write!(f, "tcp://{place}"),
            Address::Activated(name) => write!(f, "fd://{name}"),
        }
    }
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}")]
    Bind { address: Address, source: io::Error },
    #[error("cannot listen on {}: another process serves it; stop that one or choose another --host", .0.display())]
    InUse(PathBuf),
    #[error("cannot listen on {}: there is something that is no socket; move it away or choose another --host", .0.display())]
    NotASocket(PathBuf),
    #[error("cannot give the socket {} to group {group}", path.display())]
    Group {
        path: PathBuf,
        group: String,
        source: io::Error,
    },
    #[error("the group \"{0}\" does not exist; create it or give another --group")]
    NoGroup(String),
    #[error(
        "refusing to serve {0} without client certificates: whoever can connect is root on this machine; set --tlsverify with --tlscacert, --tlscert and --tlskey, or listen on a loopback address with --allow-insecure-tcp"
    )]
    Insecure(Address),
    #[error("{0} resolves to no address")]
    NoAddress(Address),
    #[error("fd:// was asked for, but the service manager handed over no such socket")]
    NotActivated,
    #[error("cannot serve metrics on {place}")]
    Metrics { place: String, source: io::Error },
    #[error(
        "refusing to serve metrics on {0}: whoever can connect could read them; use a loopback address, and let a proxy ask who is asking"
    )]
    OpenMetrics(String),
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// Who may connect, and how.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Owner group of unix sockets. The flag says that it was asked for by name, and must exist.
    pub group: Option<(String, bool)>,
    pub tls: Option<TlsFiles>,
    /// Plain TCP, on loopback only.
    pub insecure_tcp: bool,
}

/// A socket that the service manager opened, with its name.
#[derive(Debug)]
pub struct Activated {
    pub fd: OwnedFd,
    pub name: String,
}

/// Every listener of one daemon.
#[derive(Debug, Default)]
pub struct Listeners(Vec<Listener>);

impl Listeners {
    /// Opens `addresses`. Inside of a tokio runtime, since the sockets are watched from then on.
    ///
    /// # Errors
    /// The first one that cannot be opened; those opened before are closed again.
    pub async fn open(addresses: &[Address], access: &Access, activated: Vec<Activated>) -> Result<Listeners, Error> {
        let acceptor = access.tls.as_ref().map(TlsFiles::acceptor).transpose()?;
        let mut activated: Vec<Option<Activated>> = activated.into_iter().map(Some).collect();
        let mut list = Vec::new();
        for address in addresses {
            match address {
                Address::Unix(path) => list.push(Listener::unix(path, access)?),
                Address::Tcp(place) => list.extend(tcp(address, place, access, acceptor.as_ref()).await?),
                Address::Activated(name) => {
                    let before = list.len();
                    for slot in &mut activated {
                        if slot.as_ref().is_some_and(|one| name.is_empty() || one.name == *name)
                            && let Some(one) = slot.take()
                        {
                            list.push(Listener::adopt(one.fd, address, access, acceptor.as_ref())?);
                        }
                    }
                    if list.len() == before {
                        return Err(Error::NotActivated);
                    }
                }
            }
        }
        Ok(Listeners(list))
    }

    pub(crate) fn into_list(self) -> Vec<Listener> {
        self.0
    }

    /// Where it listens, for the log.
    pub fn addresses(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|listener| listener.shown.clone())
    }
}

/// One socket that accepts.
#[derive(Debug)]
pub struct Listener {
    inner: Inner,
    shown: String,
    /// Removed when the listener is dropped, if it is still the one we made.
    made: Option<Made>,
}

enum Inner {
    Unix(UnixListener),
    Tcp(TcpListener, Option<TlsAcceptor>),
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Inner::Unix(_) => f.write_str("Unix"),
            Inner::Tcp(_, None) => f.write_str("Tcp"),
            Inner::Tcp(_, Some(_)) => f.write_str("Tls"),
        }
    }
}

/// An accepted connection.
pub(crate) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(TcpStream, TlsAcceptor),
}

impl Listener {
    fn unix(path: &Path, access: &Access) -> Result<Listener, Error> {
        let (listener, made) = UnixSocket::bind(path, access)?.into_parts();
        Ok(Listener {
            inner: Inner::Unix(listener),
            shown: Address::Unix(path.to_owned()).to_string(),
            made: Some(made),
        })
    }

    /// Takes a socket that listens already.
    fn adopt(fd: OwnedFd, address: &Address, access: &Access, tls: Option<&TlsAcceptor>) -> Result<Listener, Error> {
        let bind = |source| Error::Bind {
            address: address.clone(),
            source,
        };
        let family = {
            use std::os::fd::AsRawFd;
            getsockname::<SockaddrStorage>(fd.as_fd().as_raw_fd())
                .map_err(|e| bind(e.into()))?
                .family()
        };
        if family == Some(AddressFamily::Unix) {
            let listener = std::os::unix::net::UnixListener::from(fd);
            listener.set_nonblocking(true).map_err(bind)?;
            let inner = Inner::Unix(UnixListener::from_std(listener).map_err(bind)?);
            return Ok(Listener {
                inner,
                shown: address.to_string(),
                made: None,
            });
        }
        let listener = std::net::TcpListener::from(fd);
        listener.set_nonblocking(true).map_err(bind)?;
        allow(address, listener.local_addr().map_err(bind)?, access)?;
        let inner = Inner::Tcp(TcpListener::from_std(listener).map_err(bind)?, tls.cloned());
        Ok(Listener {
            inner,
            shown: address.to_string(),
            made: None,
        })
    }

    pub(crate) async fn accept(&self) -> io::Result<Socket> {
        match &self.inner {
            Inner::Unix(listener) => Ok(Socket::Unix(listener.accept().await?.0)),
            Inner::Tcp(listener, tls) => {
                let stream = listener.accept().await?.0;
                // Answers are written whole; waiting to fill a segment would only delay typed characters.
                let _ = stream.set_nodelay(true);
                Ok(match tls {
                    Some(acceptor) => Socket::Tls(stream, acceptor.clone()),
                    None => Socket::Tcp(stream),
                })
            }
        }
    }

    /// Whether the socket file was made here.
    pub fn owns_path(&self) -> bool {
        self.made.is_some()
    }
}

async fn tcp(
    address: &Address,
    place: &str,
    access: &Access,
    tls: Option<&TlsAcceptor>,
) -> Result<Vec<Listener>, Error> {
    let bind = |source| Error::Bind {
        address: address.clone(),
        source,
    };
    let places: Vec<SocketAddr> = tokio::net::lookup_host(place).await.map_err(bind)?.collect();
    let mut list = Vec::new();
    for place in places {
        allow(address, place, access)?;
        let listener = TcpListener::bind(place).await.map_err(bind)?;
        let shown = format!("tcp://{}", listener.local_addr().map_err(bind)?);
        list.push(Listener {
            inner: Inner::Tcp(listener, tls.cloned()),
            shown,
            made: None,
        });
    }
    if list.is_empty() {
        Err(Error::NoAddress(address.clone()))
    } else {
        Ok(list)
    }
}

/// TCP needs client certificates; on loopback, where any local user can connect, at least the word of the administrator.
fn allow(address: &Address, place: SocketAddr, access: &Access) -> Result<(), Error> {
    let mutual = access.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let loopback = place.ip().is_loopback() && access.insecure_tcp;
    if mutual || loopback {
        Ok(())
    } else {
        Err(Error::Insecure(address.clone()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!("unix:///a/b.sock".parse(), Ok(Address::Unix("/a/b.sock".into())));
        assert_eq!(
            "tcp://127.0.0.1:2375".parse(),
            Ok(Address::Tcp("127.0.0.1:2375".into()))
        );
        assert_eq!("tcp://[::1]:0/".parse(), Ok(Address::Tcp("[::1]:0".into())));
        assert_eq!("fd://".parse(), Ok(Address::Activated(String::new())));
        assert_eq!("fd://*".parse(), Ok(Address::Activated(String::new())));
        for bad in [
            "",
            "unix://",
            "unix://relative",
            "/a/b",
            "tcp://:1",
            "tcp://a",
            "tcp://a:b",
            "tcp://a:99999",
            "ssh://x",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn plain_tcp_needs_loopback_and_a_word() {
        let open = |text: &str, insecure_tcp: bool| {
            let address: Address = text.parse().unwrap();
            async move {
                Listeners::open(
                    &[address],
                    &Access {
                        insecure_tcp,
                        ..Access::default()
                    },
                    Vec::new(),
                )
                .await
            }
        };
        assert!(matches!(
            open("tcp://127.0.0.1:0", false).await,
            Err(Error::Insecure(_))
        ));
        assert!(matches!(open("tcp://0.0.0.0:0", true).await, Err(Error::Insecure(_))));
        assert!(open("tcp://127.0.0.1:0", true).await.is_ok());
    }

    #[tokio::test]
    async fn a_group_that_is_asked_for_must_exist() {
        let folder = tempfile::tempdir().unwrap();
        let address = [Address::Unix(folder.path().join("x.sock"))];
        let access = |by_name| Access {
            group: Some(("no-such-group-here".into(), by_name)),
            ..Access::default()
        };
        assert!(matches!(
            Listeners::open(&address, &access(true), Vec::new()).await,
            Err(Error::NoGroup(_))
        ));
        assert!(Listeners::open(&address, &access(false), Vec::new()).await.is_ok());
        assert!(matches!(
            Listeners::open(&[Address::Activated(String::new())], &Access::default(), Vec::new()).await,
            Err(Error::NotActivated)
        ));
    }
}
