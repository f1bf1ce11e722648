//! A connection to where lines go.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::ServerName;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::fluentd::{self, Piece};
use crate::gelf::Gelf;
use crate::setup::Remote;
use crate::tls::TlsFiles;
use crate::{Message, Origin, Wanted, journald};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Udp,
    Tcp,
    /// `tcp+tls`
    Tls,
    /// `tls`, as fluentd's addresses have it.
    PlainTls,
    Unix,
    Unixgram,
}

/// `host:port`, or a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub scheme: Scheme,
    pub place: String,
}

impl Address {
    pub fn new(scheme: Scheme, place: &str) -> Address {
        Address {
            scheme,
            place: place.to_owned(),
        }
    }

    /// `proto://host[:port]` or `unix:///path`; None: not one of `schemes`, or no address.
    pub fn parse(text: &str, port: u16, schemes: &[Scheme]) -> Option<Address> {
        let (scheme, place) = text.split_once("://")?;
        let scheme = match scheme {
            "udp" => Scheme::Udp,
            "tcp" => Scheme::Tcp,
            "tcp+tls" => Scheme::Tls,
            "tls" => Scheme::PlainTls,
            "unix" => Scheme::Unix,
            "unixgram" => Scheme::Unixgram,
            _ => return None,
        };
        if !schemes.contains(&scheme) {
            return None;
        }
        if matches!(scheme, Scheme::Unix | Scheme::Unixgram) {
            return place.starts_with('/').then(|| Address::new(scheme, place));
        }
        let place = place.trim_end_matches('/');
        if place.is_empty() || place.contains(['/', '\0', ' ']) {
            return None;
        }
        let bare = place.rsplit_once(']').map_or(place, |(_, behind)| behind);
        let place = match bare.rsplit_once(':') {
            Some((_, number)) => {
                number.parse::<u16>().ok()?;
                place.to_owned()
            }
            None => format!("{place}:{port}"),
        };
        Some(Address { scheme, place })
    }

    fn host(&self) -> &str {
        let host = self.place.rsplit_once(':').map_or(&*self.place, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

enum Socket {
    Udp(UdpSocket),
    Datagram(UnixDatagram),
    Stream(Box<dyn Stream>),
}

/// For a connection, and for each batch.
const LIMIT: Duration = Duration::from_secs(10);

/// What is said of one container to one place. Lines are added, and go out together.
pub struct Link {
    remote: Remote,
    origin: Origin,
    tag: String,
    extra: Vec<(String, String)>,
    object: Map<String, Value>,
    fields: Vec<u8>,
    socket: Socket,
    batch: Vec<u8>,
    datagrams: Vec<Vec<u8>>,
    count: u32,
    /// Of each stream, the long line that is under way.
    pieces: [Option<Piece>; 2],
}

impl Remote {
    /// Bytes of text that go out together.
    pub fn batch(&self) -> usize {
        const BATCH: usize = 256 * 1024;
        match self {
            Remote::Fluentd(fluentd) => fluentd.batch.map_or(BATCH, |limit| BATCH.min(limit as usize)),
            _ => BATCH,
        }
    }

    /// How long to wait after so many failures; None: give the batch up.
    pub fn patience(&self, failures: u32) -> Option<Duration> {
        let doubled = |first: Duration| {
            (first * 2u32.saturating_pow(failures.saturating_sub(1).min(6))).min(Duration::from_secs(30).max(first))
        };
        match self {
            Remote::Fluentd(fluentd) => match fluentd.attempts {
                Some(most) if failures > most => None,
                _ => Some(doubled(fluentd.wait)),
            },
            Remote::Gelf(gelf) => (failures <= gelf.attempts).then_some(gelf.delay),
            Remote::Syslog(_) | Remote::Journald => Some(doubled(Duration::from_millis(500))),
        }
    }

    /// Whether the files that a connection needs can be read and understood. Not for an async thread.
    ///
    /// # Errors
    /// With the file's name, and what is wrong with it.
    pub fn check(&self) -> io::Result<()> {
        match self {
            Remote::Syslog(syslog) if syslog.address.scheme == Scheme::Tls => syslog.tls.config().map(drop),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// When nobody is there within ten seconds.
    pub async fn connect(&self, origin: &Origin, wanted: &Wanted) -> io::Result<Link> {
        let none = TlsFiles::default();
        let journal = Address::new(Scheme::Unixgram, journald::SOCKET);
        let (address, tls) = match self {
            Remote::Journald => (&journal, &none),
            Remote::Syslog(syslog) => (&syslog.address, &syslog.tls),
            Remote::Gelf(gelf) => (&gelf.address, &none),
            Remote::Fluentd(fluentd) => (&fluentd.address, &none),
        };
        let socket = limited(LIMIT, connect(address, tls)).await?;
        let (tag, extra) = (wanted.tag(origin), wanted.extra(origin));
        Ok(Link {
            object: Gelf::common(origin, &tag, &extra),
            fields: journald::common(origin, &tag, &extra),
            remote: self.clone(),
            origin: origin.clone(),
            tag,
            extra,
            socket,
            batch: Vec::new(),
            datagrams: Vec::new(),
            count: 0,
            pieces: [None, None],
        })
    }
}

async fn limited<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn connect(address: &Address, files: &TlsFiles) -> io::Result<Socket> {
    Ok(match address.scheme {
        Scheme::Udp => {
            let found = tokio::net::lookup_host(&address.place).await?.next();
            let found = found.ok_or(io::ErrorKind::AddrNotAvailable)?;
            let socket = UdpSocket::bind(if found.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).await?;
            socket.connect(found).await?;
            Socket::Udp(socket)
        }
        Scheme::Tcp => Socket::Stream(Box::new(TcpStream::connect(&address.place).await?)),
        Scheme::Tls | Scheme::PlainTls => {
            let files = files.clone();
            let config = tokio::task::spawn_blocking(move || files.config())
                .await
                .map_err(io::Error::other)??;
            let name = ServerName::try_from(address.host().to_owned()).map_err(io::Error::other)?;
            let stream = TcpStream::connect(&address.place).await?;
            let connector = TlsConnector::from(Arc::new(config));
            Socket::Stream(Box::new(connector.connect(name, stream).await?))
        }
        Scheme::Unix => Socket::Stream(Box::new(UnixStream::connect(&address.place).await?)),
        Scheme::Unixgram => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(&address.place)?;
            Socket::Datagram(socket)
        }
    })
}

impl Link {
    /// Adds a line to the batch.
    pub fn add(&mut self, message: &Message<'_>) {
        self.count += 1;
        match &self.remote {
            Remote::Journald => self.datagrams.push(journald::encode(&self.fields, message)),
            Remote::Syslog(syslog) => {
                let text = syslog.encode(&self.origin.hostname, &self.tag, message);
                match self.socket {
                    Socket::Stream(_) => self.batch.extend_from_slice(&text),
                    _ => self.datagrams.push(text),
                }
            }
            Remote::Gelf(gelf) => {
                let text = gelf.encode(&mut self.object, message);
                match self.socket {
                    Socket::Stream(_) => {
                        self.batch.extend_from_slice(&text);
                        self.batch.push(0);
                    }
                    _ => self.datagrams.extend(gelf.datagrams(&text)),
                }
            }
            Remote::Fluentd(fluentd) => {
                let piece = piece(&mut self.pieces[usize::from(message.stderr)], message.partial);
                fluentd.entry(&mut self.batch, &self.origin, &self.extra, piece.as_ref(), message);
            }
        }
    }

    /// Sends the batch; afterwards it is empty, also if that failed.
    ///
    /// # Errors
    /// When it did not go out (or, where that is asked for, was not acknowledged): the link is of no further use.
    pub async fn flush(&mut self) -> io::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let datagrams = std::mem::take(&mut self.datagrams);
        let count = std::mem::take(&mut self.count);
        if count == 0 {
            return Ok(());
        }
        match &mut self.socket {
            Socket::Udp(socket) => {
                for datagram in &datagrams {
                    whole(datagram, limited(LIMIT, socket.send(datagram)).await)?;
                }
                // A closed port of this machine says so, if one waits for it to.
                tokio::task::yield_now().await;
                socket.take_error()?.map_or(Ok(()), Err)
            }
            Socket::Datagram(socket) => {
                for datagram in &datagrams {
                    whole(datagram, limited(LIMIT, socket.send(datagram)).await)?;
                }
                Ok(())
            }
            Socket::Stream(stream) => match &self.remote {
                Remote::Fluentd(fluentd) => {
                    let chunk: String = rand::random::<[u8; 12]>()
                        .iter()
                        .map(|byte| format!("{byte:02x}"))
                        .collect();
                    let message = fluentd.batch(&self.tag, count, &batch, &chunk);
                    let write = fluentd.write_limit.filter(|limit| !limit.is_zero()).unwrap_or(LIMIT);
                    limited(write, write_all(stream, &message)).await?;
                    if !fluentd.acknowledged {
                        return Ok(());
                    }
                    let expected = fluentd::answer(&chunk);
                    let mut answer = vec![0; expected.len()];
                    let read = fluentd.read_limit.filter(|limit| !limit.is_zero()).unwrap_or(LIMIT);
                    limited(read, stream.read_exact(&mut answer)).await?;
                    if answer == expected {
                        Ok(())
                    } else {
                        Err(io::Error::other("the batch was not acknowledged"))
                    }
                }
                _ => limited(LIMIT, write_all(stream, &batch)).await,
            },
        }
    }
}

/// A datagram that is too long for its way is lost, and only it.
fn whole(_datagram: &[u8], sent: io::Result<usize>) -> io::Result<()> {
    match sent {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(90) => Ok(()), // EMSGSIZE
        Err(error) => Err(error),
    }
}

async fn write_all(stream: &mut Box<dyn Stream>, bytes: &[u8]) -> io::Result<()> {
    // What is written to a peer that has closed is lost without an error; its end of stream is there to be seen.
    let mut byte = [0];
    tokio::select! {
        biased;
        read = stream.read(&mut byte) => return Err(match read {
            Ok(0) => io::ErrorKind::BrokenPipe.into(),
            Ok(_) => io::Error::other("the server says something that nobody asked for"),
            Err(error) => error,
        }),
        () = std::future::ready(()) => {}
    }
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Numbers the pieces of a long line.
fn piece(under_way: &mut Option<Piece>, partial: bool) -> Option<Piece> {
    let now = match under_way.take() {
        Some(before) => Piece {
            ordinal: before.ordinal + 1,
            last: !partial,
            ..before
        },
        None if partial => Piece {
            id: rand::random::<[u8; 16]>()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            ordinal: 1,
            last: false,
        },
        None => return None,
    };
    if partial {
        *under_way = Some(now.clone());
    }
    Some(now)
}

pub(crate) fn rfc3339(nanoseconds: i64) -> String {
    Timestamp::from_nanosecond(i128::from(nanoseconds))
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: &[Scheme] = &[Scheme::Udp, Scheme::Tcp, Scheme::Tls, Scheme::Unix, Scheme::Unixgram];

    #[test]
    fn addresses_have_a_port_or_get_one() {
        let place = |text| Address::parse(text, 514, ALL).map(|address| address.place);
        assert_eq!(place("udp://1.2.3.4:5"), Some("1.2.3.4:5".into()));
        assert_eq!(place("tcp://host"), Some("host:514".into()));
        assert_eq!(place("tcp+tls://[::1]"), Some("[::1]:514".into()));
        assert_eq!(place("tcp://[::1]:9/"), Some("[::1]:9".into()));
        assert_eq!(place("unix:///a/b"), Some("/a/b".into()));
        for bad in [
            "udp://",
            "host",
            "unix://rel",
            "tcp://h:x",
            "ftp://h",
            "tcp://h:99999",
            "tls://h",
        ] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }

    #[test]
    fn pieces_of_a_line_are_numbered() {
        let mut under_way = None;
        assert!(piece(&mut under_way, false).is_none());
        let mut all = [true, true, false].map(|partial| piece(&mut under_way, partial));
        let all: Vec<(u32, bool)> = all
            .iter_mut()
            .flatten()
            .map(|piece| (piece.ordinal, piece.last))
            .collect();
        assert_eq!(all, [(1, false), (2, false), (3, true)]);
        assert!(piece(&mut under_way, false).is_none());
    }

    proptest! {
        #[test]
        fn no_address_panics(text in "(udp|tcp|unix|x)?:?/?/?.{0,12}") {
            Address::parse(&text, 1, ALL);
        }
    }
}
