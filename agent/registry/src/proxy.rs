//! Which proxy, if any, leads to a host: Docker's `proxies` settings and the usual environment variables.

use std::net::IpAddr;

use base64::Engine as _;
use url::Url;

use crate::config::is_loopback;
use crate::error::{Error, Result};

/// Proxy settings as users write them. Empty texts mean none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For plain-HTTP registries: `http://proxy.example:3128`.
    pub http: Option<String>,
    /// For HTTPS registries.
    pub https: Option<String>,
    /// Hosts to reach directly, separated by commas: `.example`, `host:port`, `10.0.0.0/8`, `*`.
    pub no_proxy: String,
}

impl Proxies {
    /// From `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, or the same in lower case.
    pub fn from_env() -> Proxies {
        let read = |name: &str| {
            let value = std::env::var(name).ok().filter(|value| !value.is_empty());
            value.or_else(|| {
                std::env::var(name.to_ascii_lowercase())
                    .ok()
                    .filter(|value| !value.is_empty())
            })
        };
        Proxies {
            http: read("HTTP_PROXY"),
            https: read("HTTPS_PROXY"),
            no_proxy: read("NO_PROXY").unwrap_or_default(),
        }
    }
}

impl std::fmt::Debug for Proxies {
    /// Without the passwords that proxy addresses may hold.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hide = |address: &Option<String>| address.as_deref().map(without_secret);
        f.debug_struct("Proxies")
            .field("http", &hide(&self.http))
            .field("https", &hide(&self.https))
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

fn without_secret(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((before, host)) => match before.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://…@{host}"),
            None => format!("…@{host}"),
        },
        None => address.to_owned(),
    }
}

/// A proxy to go through.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whether the proxy itself is spoken to by TLS.
    pub(crate) tls: bool,
    /// The value of `Proxy-Authorization`.
    pub(crate) authorization: Option<String>,
}

/// Checked settings.
#[derive(Clone, Default)]
pub(crate) struct ProxyRules {
    http: Option<Proxy>,
    https: Option<Proxy>,
    direct: Vec<Direct>,
}

#[derive(Clone, PartialEq, Eq)]
enum Direct {
    Everything,
    Name {
        name: String,
        subdomains_only: bool,
        port: Option<u16>,
    },
    Address {
        address: IpAddr,
        port: Option<u16>,
    },
    Network {
        address: IpAddr,
        length: u32,
    },
}

impl ProxyRules {
    pub(crate) fn new(settings: &Proxies) -> Result<ProxyRules> {
        let read = |address: &Option<String>| match address.as_deref() {
            None | Some("") => Ok(None),
            Some(address) => parse_proxy(address).map(Some),
        };
        let direct = settings
            .no_proxy
            .split([',', ' '])
            .map(str::trim)
            .filter(|entry| !entry.is_empty());
        Ok(ProxyRules {
            http: read(&settings.http)?,
            https: read(&settings.https)?,
            direct: direct.filter_map(Direct::parse).collect(),
        })
    }

    /// The proxy to `host` (without brackets), or `None` to connect directly. Loopback never goes through a proxy.
    pub(crate) fn select(&self, https: bool, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = if https { self.https.as_ref() } else { self.http.as_ref() }?;
        let direct = is_loopback(host) || self.direct.iter().any(|rule| rule.covers(host, port));
        (!direct).then_some(proxy)
    }
}

fn parse_proxy(address: &str) -> Result<Proxy> {
    let wrong = |why: &str| Error::Config {
        setting: format!("proxy {:?}", without_secret(address)),
        why: why.to_owned(),
    };
    let url = if address.contains("://") {
        Url::parse(address)
    } else {
        Url::parse(&format!("http://{address}"))
    };
    let url = url.map_err(|_| wrong("write it as http://[user:password@]host[:port]"))?;
    let tls = match url.scheme() {
        "http" => false,
        "https" => true,
        other => return Err(wrong(&format!("{other} proxies are not supported; use an HTTP proxy"))),
    };
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host
        .ok_or_else(|| wrong("it has no host"))?
        .trim_matches(['[', ']'])
        .to_owned();
    let port = url.port_or_known_default().unwrap_or(80);
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8_lossy()
            .into_owned()
    };
    let authorization = (!url.username().is_empty()).then(|| {
        let pair = format!("{}:{}", decode(url.username()), decode(url.password().unwrap_or("")));
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    });
    Ok(Proxy {
        host,
        port,
        tls,
        authorization,
    })
}

impl Direct {
    fn parse(entry: &str) -> Option<Direct> {
        let entry = entry.to_ascii_lowercase();
        if entry == "*" {
            return Some(Direct::Everything);
        }
        if let Some((address, length)) = entry.split_once('/') {
            return Some(Direct::Network {
                address: address.parse().ok()?,
                length: length.parse().ok()?,
            });
        }
        if let Ok(address) = entry.trim_matches(['[', ']']).parse() {
            return Some(Direct::Address { address, port: None });
        }
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (entry.as_str(), None),
        };
        if let Ok(address) = name.trim_matches(['[', ']']).parse() {
            return Some(Direct::Address { address, port });
        }
        // `*.example` and `.example` mean what is below, `example` itself and what is below.
        let bare = name.strip_prefix("*.").or_else(|| name.strip_prefix('.'));
        Some(Direct::Name {
            name: bare.unwrap_or(name).to_owned(),
            subdomains_only: bare.is_some(),
            port,
        })
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        let host = host.to_ascii_lowercase();
        let same_port = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        match self {
            Direct::Everything => true,
            Direct::Name {
                name,
                subdomains_only,
                port,
            } => {
                let below = host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'));
                same_port(port) && (below || (!subdomains_only && host == *name))
            }
            Direct::Address { address, port } => same_port(port) && host.parse() == Ok(*address),
            Direct::Network { address, length } => {
                host.parse::<IpAddr>().is_ok_and(|host| within(host, *address, *length))
            }
        }
    }
}

fn within(host: IpAddr, network: IpAddr, length: u32) -> bool {
    match (host, network) {
        (IpAddr::V4(host), IpAddr::V4(network)) => {
            let shift = 32u32.saturating_sub(length);
            u64::from(u32::from(host)) >> shift == u64::from(u32::from(network)) >> shift
        }
        (IpAddr::V6(host), IpAddr::V6(network)) => {
            let shift = 128u32.saturating_sub(length);
            u128::from(host).checked_shr(shift) == u128::from(network).checked_shr(shift)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rules(no_proxy: &str) -> ProxyRules {
        let settings = Proxies {
            http: Some("http://p.example:3128".into()),
            https: Some("https://u%40x:p@s.example".into()),
            no_proxy: no_proxy.into(),
        };
        ProxyRules::new(&settings).unwrap()
    }

    #[test]
    fn the_right_proxy_is_selected() {
        let none = rules("");
        let https = none.select(true, "registry.example", 443).unwrap();
        assert_eq!((https.host.as_str(), https.port, https.tls), ("s.example", 443, true));
        // "u@x:p" in base64
        assert_eq!(https.authorization.as_deref(), Some("Basic dUB4OnA="));
        assert_eq!(none.select(false, "registry.example", 80).unwrap().port, 3128);
        for host in ["localhost", "127.0.0.1", "::1"] {
            assert!(none.select(true, host, 443).is_none());
        }
        let rules =
            rules("a.example, .b.example,*.c.example,d.example:8443,10.0.0.0/8,1.2.3.4,[fd00::1]:5000 e.example");
        for (host, port, direct) in [
            ("a.example", 443, true),
            ("x.a.example", 443, true),
            ("xa.example", 443, false),
            ("b.example", 443, false),
            ("x.b.example", 443, true),
            ("x.c.example", 443, true),
            ("d.example", 443, false),
            ("d.example", 8443, true),
            ("10.9.8.7", 443, true),
            ("11.9.8.7", 443, false),
            ("1.2.3.4", 443, true),
            ("fd00::1", 5000, true),
            ("fd00::1", 5001, false),
            ("E.Example", 443, true),
        ] {
            assert_eq!(rules.select(true, host, port).is_none(), direct, "{host}:{port}");
        }
    }

    #[test]
    fn everything_direct_and_nothing_configured() {
        assert!(rules("*").select(true, "registry.example", 443).is_none());
        assert!(
            ProxyRules::new(&Proxies::default())
                .unwrap()
                .select(true, "registry.example", 443)
                .is_none()
        );
        assert!(within("1.1.1.1".parse().unwrap(), "9.9.9.9".parse().unwrap(), 0));
    }

    #[test]
    fn unusable_proxies_are_named_without_their_password() {
        for address in [
            "socks5://u:secret@p.example:1",
            "http://u:secret@",
            "http://u:secret@ p",
        ] {
            let error = ProxyRules::new(&Proxies {
                https: Some(address.into()),
                ..Proxies::default()
            })
            .err()
            .unwrap();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let debug = format!(
            "{:?}",
            Proxies {
                http: Some("http://u:secret@p.example".into()),
                ..Proxies::default()
            }
        );
        assert!(!debug.contains("secret"), "{debug}");
    }
}
