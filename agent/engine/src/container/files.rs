//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a container.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use super::{Places, Record};
use crate::config::EngineConfig;
use crate::error::{Error, Result};

/// What a host's resolver configuration says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolv {
    pub nameservers: Vec<IpAddr>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

impl Resolv {
    /// Reads `resolv.conf(5)`; lines that are none of ours are passed over.
    pub fn parse(text: &str) -> Resolv {
        let mut found = Resolv::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                // A zone (`fe80::1%eth0`) names a host interface and means nothing inside.
                Some("nameserver") => found
                    .nameservers
                    .extend(words.next().and_then(|word| word.parse::<IpAddr>().ok())),
                Some("search" | "domain") => found.search = words.map(str::to_owned).collect(),
                Some("options") => found.options = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        found
    }

    fn render(&self) -> String {
        let mut text = String::new();
        for server in &self.nameservers {
            let _ = writeln!(text, "nameserver {server}");
        }
        // `--dns-search .` means: no search list at all.
        if !self.search.is_empty() && self.search != ["."] {
            let _ = writeln!(text, "search {}", self.search.join(" "));
        }
        if !self.options.is_empty() {
            let _ = writeln!(text, "options {}", self.options.join(" "));
        }
        text
    }
}

/// Public resolvers that Docker falls back to when the host has only loopback ones, which a container cannot reach.
const FALLBACK_DNS: [[u8; 4]; 2] = [[8, 8, 8, 8], [8, 8, 4, 4]];

/// The resolver file of a container: the user's settings, else the daemon's, else the host's.
pub fn resolv_conf(record: &Record, config: &EngineConfig, host_text: &str, host_network: bool) -> Result<String> {
    let own = &record.host;
    let untouched = own.dns.is_empty() && own.dns_search.is_empty() && own.dns_options.is_empty();
    if host_network && untouched {
        return Ok(host_text.to_owned());
    }
    let mut resolv = Resolv::parse(host_text);
    if !host_network {
        resolv.nameservers.retain(|address| !address.is_loopback());
    }
    let asked: Vec<IpAddr> = own
        .dns
        .iter()
        .map(|text| {
            text.parse()
                .map_err(|_| Error::invalid(format!("invalid IP address in Dns: {text}")))
        })
        .collect::<Result<_>>()?;
    for (target, own, daemon) in [
        (&mut resolv.search, &own.dns_search, &config.dns_search),
        (&mut resolv.options, &own.dns_options, &config.dns_options),
    ] {
        if !own.is_empty() {
            target.clone_from(own);
        } else if !daemon.is_empty() {
            target.clone_from(daemon);
        }
    }
    if !asked.is_empty() {
        resolv.nameservers = asked;
    } else if !config.dns.is_empty() {
        resolv.nameservers.clone_from(&config.dns);
    }
    if resolv.nameservers.is_empty() {
        resolv.nameservers = FALLBACK_DNS.iter().map(|bytes| IpAddr::from(*bytes)).collect();
    }
    Ok(resolv.render())
}

/// One `--add-host` entry: `name:address` or `name=address`, with `host-gateway` for the host.
pub fn extra_host(text: &str, gateway: Option<IpAddr>) -> Result<(String, String)> {
    let bad = || Error::invalid(format!("invalid add-host: {text:?}: must be host:ip"));
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(bad)?;
    if name.is_empty() || address.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(bad());
    }
    if address == "host-gateway" {
        let gateway = gateway.ok_or_else(|| {
            Error::invalid("unable to derive the IP value for host-gateway: the container has no network of its own")
        })?;
        return Ok((name.to_owned(), gateway.to_string()));
    }
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let parsed: IpAddr = address
        .parse()
        .map_err(|_| Error::invalid(format!("invalid IP address in add-host: {address:?}")))?;
    Ok((name.to_owned(), parsed.to_string()))
}

/// `/etc/hosts` for a container with its own network.
pub fn hosts(
    record: &Record,
    address: Option<IpAddr>,
    gateway: Option<IpAddr>,
    links: &[(IpAddr, String)],
) -> Result<String> {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for entry in &record.host.extra_hosts {
        let (name, address) = extra_host(entry, gateway)?;
        let _ = writeln!(text, "{address}\t{name}");
    }
    for (address, names) in links {
        let _ = writeln!(text, "{address}\t{names}");
    }
    if let Some(address) = address {
        let host = &record.config.hostname;
        let names = match record.config.domainname.as_str() {
            "" => host.clone(),
            domain => format!("{host}.{domain} {host}"),
        };
        let _ = writeln!(text, "{address}\t{names}");
    }
    Ok(text)
}

/// Writes the three files. They are bind-mounted into the container, so they are rewritten in place, never replaced.
pub fn write(
    places: &Places,
    record: &Record,
    config: &EngineConfig,
    host_network: bool,
    address: Option<IpAddr>,
    gateway: Option<IpAddr>,
    links: &[(IpAddr, String)],
) -> Result<()> {
    let host_resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let resolv = resolv_conf(record, config, &host_resolv, host_network)?;
    let mut hosts = if host_network && record.host.extra_hosts.is_empty() {
        fs::read_to_string("/etc/hosts").unwrap_or_default()
    } else {
        hosts(record, address, gateway, links)?
    };
    if !hosts.ends_with('\n') {
        hosts.push('\n');
    }
    put(&places.resolv_conf(), &resolv)?;
    put(&places.hosts(), &hosts)?;
    put(&places.hostname(), &format!("{}\n", record.config.hostname))
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::io(format!("write {}", path.display())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn resolv_conf_is_read_leniently() {
        let found =
            Resolv::parse("# c\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch a b\noptions ndots:2\nbogus\n");
        assert_eq!(found.nameservers, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(found.search, ["a", "b"]);
        assert_eq!(found.options, ["ndots:2"]);
    }

    #[test]
    fn extra_hosts_in_both_notations() {
        let gateway = Some("172.17.0.1".parse().unwrap());
        assert_eq!(extra_host("a:1.2.3.4", None).unwrap(), ("a".into(), "1.2.3.4".into()));
        assert_eq!(extra_host("a=[::1]", None).unwrap().1, "::1");
        assert_eq!(extra_host("a:::1", None).unwrap().1, "::1");
        assert_eq!(extra_host("h:host-gateway", gateway).unwrap().1, "172.17.0.1");
        for bad in ["a", "a:", ":1.2.3.4", "a b:1.2.3.4", "a:1.2.3", "a\n:1.2.3.4"] {
            assert!(extra_host(bad, gateway).is_err(), "{bad}");
        }
    }
}
