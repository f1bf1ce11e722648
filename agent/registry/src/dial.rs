//! From a name to a TCP connection: look-up, and addresses tried so that a dead one costs little.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connect::ConnectError;

/// A second address is tried when the first has not answered for this long (RFC 8305 recommends 250 ms).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Look up and connect to the first address that answers, IPv6 and IPv4 by turns.
pub(crate) async fn dial(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let addresses = lookup(host, port).await?;
    let mut attempts = tokio::task::JoinSet::new();
    let mut first_error = None;
    for address in addresses {
        attempts.spawn(async move {
            TcpStream::connect(address)
                .await
                .map_err(|error| dial_error(address, &error))
        });
        match timeout(NEXT_ADDRESS, attempts.join_next()).await {
            Ok(Some(Ok(Ok(stream)))) => return Ok(ready(stream)),
            Ok(Some(Ok(Err(error)))) => first_error = first_error.or(Some(error)),
            _ => {}
        }
    }
    while let Some(ended) = attempts.join_next().await {
        match ended {
            Ok(Ok(stream)) => return Ok(ready(stream)),
            Ok(Err(error)) => first_error = first_error.or(Some(error)),
            Err(_) => {}
        }
    }
    Err(first_error.unwrap_or_else(|| ConnectError::NoSuchHost { host: host.to_owned() }))
}

fn ready(stream: TcpStream) -> TcpStream {
    // Requests are small and followed by silence: waiting to fill a packet only costs time.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    stream
}

async fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| {
        // getaddrinfo's reasons only come as text; that it failed for now is the one that matters.
        let why = error.to_string();
        match why.contains("Temporary failure") || error.raw_os_error().is_some() {
            true => ConnectError::Lookup {
                host: host.to_owned(),
                why: "temporary failure in name resolution".to_owned(),
            },
            false => ConnectError::NoSuchHost { host: host.to_owned() },
        }
    })?;
    let (v6, v4): (Vec<SocketAddr>, Vec<SocketAddr>) = found.partition(SocketAddr::is_ipv6);
    // "localhost" on a machine whose registry listens on 127.0.0.1 only is the usual case.
    let (first, second) = if crate::config::is_loopback(host) {
        (v4, v6)
    } else {
        (v6, v4)
    };
    let mut turns = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let pair = (first.next(), second.next());
        if pair == (None, None) {
            return Ok(turns);
        }
        turns.extend(pair.0);
        turns.extend(pair.1);
    }
}

fn dial_error(address: SocketAddr, error: &io::Error) -> ConnectError {
    ConnectError::Dial {
        address,
        why: io_words(error),
    }
}

/// The kernel's words, as Go and so Docker print them.
pub(crate) fn io_words(error: &io::Error) -> String {
    let text = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "connection reset by peer",
        io::ErrorKind::BrokenPipe => "broken pipe",
        io::ErrorKind::HostUnreachable => "no route to host",
        io::ErrorKind::NetworkUnreachable => "network is unreachable",
        io::ErrorKind::TimedOut => "i/o timeout",
        io::ErrorKind::UnexpectedEof => "unexpected EOF",
        _ => {
            let text = error.to_string();
            return text.split(" (os error").next().unwrap_or_default().to_owned();
        }
    };
    text.to_owned()
}
