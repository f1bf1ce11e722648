//! Settings of the client, checked once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::auth::Credentials;
use crate::error::{Error, Result};
use crate::proxy::Proxies;
use crate::reference::is_registry;

/// Settings of a [`Client`](crate::Client). The defaults are those of Docker where it has such a setting.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientConfig {
    /// Sent to every registry.
    pub user_agent: String,
    /// Registries (`host`, `host:port`) and networks (`10.0.0.0/8`) that may speak plain HTTP or show a certificate that
    /// nobody can verify. Loopback always may.
    pub insecure: Vec<String>,
    /// Other places to look before the registry itself, in order.
    pub mirrors: Vec<Mirror>,
    /// Folders like `/etc/docker/certs.d`: below, a folder per registry (`host:port`) with `*.crt` (authorities to trust)
    /// and pairs of `NAME.cert` and `NAME.key` (to show to the registry).
    pub certificates: Vec<PathBuf>,
    /// Proxies.
    pub proxies: Proxies,
    /// Blobs downloaded at once. Docker: 3.
    pub max_downloads: usize,
    /// Manifest, config and token requests at once.
    pub max_requests: usize,
    /// Limit of name look-up, TCP and TLS set-up of one connection.
    pub connect_timeout: Duration,
    /// Longest silence: before the answer begins and between two reads of it.
    pub stall_timeout: Duration,
    /// How often a request is tried before its failure is final; a download counts anew after each progress.
    pub attempts: u32,
    /// First pause between two attempts; it doubles each time.
    pub backoff: Duration,
    /// Longest pause between two attempts. A registry that asks for more (Retry-After) gets the failure shown instead.
    pub max_backoff: Duration,
    /// Largest manifest or index, in bytes. 4 MiB is what registries accept at most.
    pub max_manifest: u64,
    /// Largest image config, in bytes.
    pub max_config: u64,
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            user_agent: concat!("iechor/", env!("CARGO_PKG_VERSION")).to_owned(),
            insecure: Vec::new(),
            mirrors: Vec::new(),
            certificates: Vec::new(),
            proxies: Proxies::default(),
            max_downloads: 3,
            max_requests: 16,
            connect_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(30),
            attempts: 6,
            backoff: Duration::from_millis(250),
            max_backoff: Duration::from_secs(30),
            max_manifest: 4 << 20,
            max_config: 8 << 20,
        }
    }
}

/// Another place that has a registry's images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Whose images; `*` for every registry that has no mirror of its own.
    pub registry: String,
    /// `https://mirror.example[:port][/path]`. A path that begins with `/v2` stands for it (`/v2/proxy` asks for
    /// `/v2/proxy/library/busybox/…`), any other one comes before it. A written `http:` is taken at its word.
    pub url: String,
    /// Credentials of the mirror. Those of the registry are never shown to it.
    pub credentials: Option<Credentials>,
}

/// A network in CIDR form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cidr {
    address: u128,
    mask: u128,
    v4: bool,
}

impl Cidr {
    fn parse(text: &str) -> Option<Cidr> {
        let (address, length) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let length: u32 = length.parse().ok()?;
        let (v4, width) = (address.is_ipv4(), if address.is_ipv4() { 32 } else { 128 });
        if length > width {
            return None;
        }
        let mask = if length == 0 { 0 } else { u128::MAX << (width - length) };
        Some(Cidr {
            address: bits(address) & mask,
            mask,
            v4,
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.v4 && bits(address) & self.mask == self.address & self.mask
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// Which hosts may be spoken to without verified TLS.
#[derive(Debug, Clone, Default)]
pub(crate) struct Insecure {
    hosts: Vec<String>,
    networks: Vec<Cidr>,
}

impl Insecure {
    pub(crate) fn new(settings: &[String]) -> Result<Insecure> {
        let mut insecure = Insecure::default();
        for setting in settings {
            let wrong = |why: &str| Error::Config {
                setting: format!("insecure registry {setting:?}"),
                why: why.to_owned(),
            };
            if setting.contains("://") {
                return Err(wrong("write host, host:port or a network, without a scheme"));
            }
            if setting.contains('/') {
                insecure
                    .networks
                    .push(Cidr::parse(setting).ok_or_else(|| wrong("not a network like 10.0.0.0/8"))?);
            } else if is_registry(setting) {
                insecure.hosts.push(setting.to_ascii_lowercase());
            } else {
                return Err(wrong("not a host or host:port"));
            }
        }
        Ok(insecure)
    }

    /// Whether `host` (without brackets) at `port` is loopback or was configured.
    pub(crate) fn allows(&self, host: &str, port: u16) -> bool {
        is_loopback(host) || self.lists(host, port)
    }

    /// Whether `host` at `port` was configured.
    ///
    /// Names are not looked up for this: what a name means is in the hand of whoever answers the look-up, and could be
    /// another address when we connect. A name must be listed as a name.
    pub(crate) fn lists(&self, host: &str, port: u16) -> bool {
        let host = host.to_ascii_lowercase();
        let written = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let with_port = format!("{written}:{port}");
        // Without a port the entry means every port, as the standard ports are the ones that nobody writes.
        self.hosts.iter().any(|entry| *entry == written || *entry == with_port)
            || host
                .parse()
                .is_ok_and(|address| self.networks.iter().any(|network| network.contains(address)))
    }
}

/// `localhost`, `127.0.0.0/8`, `::1`.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || host
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Check and read the address of a mirror.
pub(crate) fn mirror_url(mirror: &Mirror) -> Result<Url> {
    let wrong = |why: &str| Error::Config {
        setting: format!("registry mirror {:?}", mirror.url),
        why: why.to_owned(),
    };
    let url = Url::parse(&mirror.url).map_err(|_| wrong("write it as https://host[:port][/path]"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("write it as https://host[:port][/path]"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("no user or password in the address"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("no query or fragment in the address"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn insecure(settings: &[&str]) -> Result<Insecure> {
        Insecure::new(&settings.iter().map(|setting| (*setting).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn loopback_and_what_is_listed_may_be_insecure() {
        let rules = insecure(&[
            "registry.example:5000",
            "Plain.example",
            "10.1.0.0/16",
            "fd00::/8",
            "[2001:db8::1]:80",
        ]);
        let rules = rules.unwrap();
        for (host, port, allowed) in [
            ("localhost", 5000, true),
            ("LOCALHOST", 1, true),
            ("127.0.0.1", 80, true),
            ("127.3.2.1", 80, true),
            ("::1", 80, true),
            ("::ffff:127.0.0.1", 80, true),
            ("localhost.example", 80, false),
            ("127.0.0.1.example", 80, false),
            ("128.0.0.1", 80, false),
            ("registry.example", 5000, true),
            ("registry.example", 443, false),
            ("plain.example", 443, true),
            ("plain.example", 8080, true),
            ("other.plain.example", 443, false),
            ("10.1.2.3", 443, true),
            ("10.2.2.3", 443, false),
            ("fd12::1", 443, true),
            ("fe12::1", 443, false),
            ("2001:db8::1", 80, true),
            ("2001:db8::1", 81, false),
        ] {
            assert_eq!(rules.allows(host, port), allowed, "{host}:{port}");
        }
        assert!(insecure(&["0.0.0.0/0"]).unwrap().allows("8.8.8.8", 443));
        for setting in [
            "https://registry.example",
            "10.0.0.0/33",
            "10.0.0/8",
            "a b",
            "",
            "host/path",
        ] {
            assert!(matches!(insecure(&[setting]), Err(Error::Config { .. })), "{setting}");
        }
    }

    #[test]
    fn mirrors_are_plain_addresses() {
        let mirror = |url: &str| Mirror {
            registry: "*".into(),
            url: url.into(),
            credentials: None,
        };
        for url in [
            "https://m.example",
            "http://127.0.0.1:5000/",
            "https://m.example:8443/v2/proxy",
        ] {
            assert!(mirror_url(&mirror(url)).is_ok(), "{url}");
        }
        for url in [
            "",
            "m.example",
            "ftp://m.example",
            "https://u:p@m.example",
            "https://m.example/?x",
            "https://",
        ] {
            assert!(matches!(mirror_url(&mirror(url)), Err(Error::Config { .. })), "{url}");
        }
    }
}
