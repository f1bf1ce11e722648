//! Where a daemon listens: `unix://`, `tcp://`, `ssh://`, and plain `http(s)://` as another spelling of tcp.

use std::fmt;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// The address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Unix(PathBuf),
    Tcp {
        host: String,
        port: u16,
        tls: bool,
    },
    Ssh {
        user: Option<String>,
        host: String,
        port: Option<u16>,
        socket: Option<String>,
    },
}

/// Where docker's tcp listeners are by convention.
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

impl Endpoint {
    /// Parses a host as `-H` takes it. `tls` asks for TLS on tcp addresses.
    pub fn parse(text: &str, tls: bool) -> Result<Endpoint> {
        let wrong = |reason: &str| Error::Host {
            host: text.to_owned(),
            reason: reason.to_owned(),
        };
        let (scheme, rest) = match text.split_once("://") {
            Some(parts) => parts,
            None if text.starts_with('/') => ("unix", text),
            None => ("tcp", text),
        };
        match scheme {
            "unix" => {
                if rest.is_empty() {
                    return Err(wrong(
                        "the path of the socket is missing; write unix:///path/to/the.sock",
                    ));
                }
                Ok(Endpoint::Unix(PathBuf::from(rest)))
            }
            "tcp" | "http" | "https" => {
                let tls = tls || scheme == "https";
                let authority = rest.split('/').next().unwrap_or_default();
                if rest.len() > authority.len() + 1 {
                    return Err(wrong("a tcp address has no path"));
                }
                let default = if tls { TLS_PORT } else { PLAIN_PORT };
                let (host, port) = host_and_port(authority).ok_or_else(|| wrong("expected HOST:PORT"))?;
                let host = if host.is_empty() { "127.0.0.1" } else { host };
                Ok(Endpoint::Tcp {
                    host: host.to_owned(),
                    port: port.unwrap_or(default),
                    tls,
                })
            }
            "ssh" => {
                let (authority, path) = match rest.find('/') {
                    Some(at) => rest.split_at(at),
                    None => (rest, ""),
                };
                let (user, address) = match authority.rsplit_once('@') {
                    Some((user, address)) => (Some(user.to_owned()), address),
                    None => (None, authority),
                };
                if user.as_deref().is_some_and(|user| user.contains(':')) {
                    return Err(wrong(
                        "a password in an ssh address is not supported; use a key or an agent",
                    ));
                }
                let (host, port) = host_and_port(address).ok_or_else(|| wrong("expected ssh://[USER@]HOST[:PORT]"))?;
                // A leading dash would be read as an option by ssh.
                if host.is_empty() || host.starts_with('-') || user.as_deref().is_some_and(|u| u.starts_with('-')) {
                    return Err(wrong("expected ssh://[USER@]HOST[:PORT]"));
                }
                let socket = (path.len() > 1).then(|| path.to_owned());
                Ok(Endpoint::Ssh {
                    user,
                    host: host.to_owned(),
                    port,
                    socket,
                })
            }
            "npipe" => Err(wrong("named pipes exist on Windows only")),
            "fd" => Err(wrong(
                "fd:// is for the daemon; a client needs unix://, tcp:// or ssh://",
            )),
            other => Err(wrong(&format!(
                "unknown scheme {other:?}; use unix://, tcp:// or ssh://"
            ))),
        }
    }

    /// What goes into the `Host` header. Unix and ssh have no name: the placeholder is the one everybody sends.
    pub(crate) fn authority(&self) -> String {
        match self {
            Endpoint::Unix(_) => "localhost".to_owned(),
            Endpoint::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Endpoint::Tcp { host, port, .. } => format!("{host}:{port}"),
            Endpoint::Ssh { .. } => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp { .. } => write!(f, "tcp://{}", self.authority()),
            Endpoint::Ssh {
                user,
                host,
                port,
                socket,
            } => {
                f.write_str("ssh://")?;
                if let Some(user) = user {
                    write!(f, "{user}@")?;
                }
                if host.contains(':') {
                    write!(f, "[{host}]")?
                } else {
                    f.write_str(host)?
                }
                if let Some(port) = port {
                    write!(f, ":{port}")?;
                }
                f.write_str(socket.as_deref().unwrap_or_default())
            }
        }
    }
}

/// Splits `host[:port]`, IPv6 in brackets. `None` when the port is not a number.
fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let port = |text: &str| text.parse::<u16>().ok();
    if let Some(inner) = text.strip_prefix('[') {
        let (host, rest) = inner.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(digits) => Some((host, Some(port(digits)?))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match text.split_once(':') {
        None => Some((text, None)),
        // Two colons without brackets: an IPv6 address whose port cannot be told apart.
        Some((_, rest)) if rest.contains(':') => None,
        Some((host, "")) => Some((host, None)),
        Some((host, digits)) => Some((host, Some(port(digits)?))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hosts_parse() {
        let tcp = |host: &str, port, tls| Endpoint::Tcp {
            host: host.to_owned(),
            port,
            tls,
        };
        for (text, tls, want) in [
            ("unix:///run/x.sock", false, Endpoint::Unix("/run/x.sock".into())),
            ("/run/x.sock", false, Endpoint::Unix("/run/x.sock".into())),
            ("tcp://h:1", false, tcp("h", 1, false)),
            ("tcp://h", true, tcp("h", 2376, true)),
            ("tcp://:9", false, tcp("127.0.0.1", 9, false)),
            ("https://h:1", false, tcp("h", 1, true)),
            ("tcp://[::1]:5", false, tcp("::1", 5, false)),
            ("h:12", false, tcp("h", 12, false)),
        ] {
            assert_eq!(Endpoint::parse(text, tls).unwrap(), want, "{text}");
        }
        let ssh = Endpoint::parse("ssh://me@box:22/run/y.sock", false).unwrap();
        assert_eq!(ssh.to_string(), "ssh://me@box:22/run/y.sock");
        for bad in [
            "unix://",
            "tcp://h:x",
            "tcp://h:1/path",
            "ssh://",
            "ssh://-oProxyCommand=x",
            "npipe://x",
            "fd://",
            "gopher://x",
            "tcp://::1:5",
        ] {
            assert!(Endpoint::parse(bad, false).is_err(), "{bad}");
        }
    }
}
