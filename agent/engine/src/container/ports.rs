//! Published ports: from `ExposedPorts` and `PortBindings` to what the network is asked for.

use std::net::IpAddr;

use network::{HostPort, Mac, PortRequest, Proto};

use super::spec::{Config, HostConfig};
use crate::error::{Error, Result};

/// `80/tcp` → port and protocol; without a protocol it is tcp.
pub fn container_port(text: &str) -> Result<(u16, Proto)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Proto::Tcp,
        "udp" => Proto::Udp,
        "sctp" => return Err(Error::unsupported("publishing of sctp ports")),
        other => {
            return Err(Error::invalid(format!(
                "invalid port specification: invalid proto: {other}"
            )));
        }
    };
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok((port, protocol)),
        _ => Err(Error::invalid(format!("invalid port specification: \"{text}\""))),
    }
}

/// A host port, a range, or nothing.
fn host_port(text: &str) -> Result<HostPort> {
    let bad = || Error::invalid(format!("invalid port specification: \"{text}\""));
    if text.is_empty() || text == "0" {
        return Ok(HostPort::Any);
    }
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high): (u16, u16) = (low.parse().map_err(|_| bad())?, high.parse().map_err(|_| bad())?);
    match (low, high) {
        (0, _) => Err(bad()),
        (low, high) if low == high => Ok(HostPort::Exactly(low)),
        (low, high) if low < high => Ok(HostPort::OneOf(low, high)),
        _ => Err(bad()),
    }
}

/// What to publish.
pub fn requests(config: &Config, host: &HostConfig) -> Result<Vec<PortRequest>> {
    let mut wanted = Vec::new();
    for (port, bindings) in &host.port_bindings {
        let (container_port, proto) = container_port(port)?;
        if bindings.is_empty() {
            wanted.push(PortRequest {
                container_port,
                proto,
                host_ip: None,
                host_port: HostPort::Any,
            });
        }
        for binding in bindings {
            let host_ip = match binding.host_ip.as_str() {
                "" => None,
                text => Some(
                    text.trim_start_matches('[')
                        .trim_end_matches(']')
                        .parse::<IpAddr>()
                        .map_err(|_| Error::invalid(format!("invalid host IP address: {text}")))?,
                ),
            };
            let host_port = host_port(&binding.host_port)?;
            wanted.push(PortRequest {
                container_port,
                proto,
                host_ip,
                host_port,
            });
        }
    }
    for port in &config.exposed_ports {
        // An exposed range is legal in a config; each port of it would be published by -P.
        let (container_port, proto) = container_port(port)?;
        let bound = wanted
            .iter()
            .any(|w| w.container_port == container_port && w.proto == proto);
        if host.publish_all_ports && !bound {
            wanted.push(PortRequest {
                container_port,
                proto,
                host_ip: None,
                host_port: HostPort::Any,
            });
        }
    }
    Ok(wanted)
}

/// A MAC address as people write it.
pub fn mac(text: &str) -> Result<Mac> {
    text.parse()
        .map_err(|_| Error::invalid(format!("invalid MAC address: {text}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::container::spec::PortBinding;

    #[test]
    fn port_forms() {
        assert_eq!(container_port("80").unwrap(), (80, Proto::Tcp));
        assert_eq!(container_port("53/UDP").unwrap(), (53, Proto::Udp));
        for bad in ["", "0", "65536", "80/icmp", "a", "80/tcp/udp", "-1"] {
            assert!(container_port(bad).is_err(), "{bad}");
        }
        assert_eq!(host_port("8000-8002").unwrap(), HostPort::OneOf(8000, 8002));
        assert_eq!(
            (host_port("").unwrap(), host_port("80").unwrap()),
            (HostPort::Any, HostPort::Exactly(80))
        );
        for bad in ["9-8", "x", "0-5", "70000"] {
            assert!(host_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn publish_all_adds_what_is_exposed_and_not_bound() {
        let config = Config {
            exposed_ports: ["80/tcp".into(), "81/tcp".into()].into(),
            ..Config::default()
        };
        let binding = PortBinding {
            host_ip: "127.0.0.1".into(),
            host_port: "8080".into(),
        };
        let host = HostConfig {
            publish_all_ports: true,
            port_bindings: [("80/tcp".to_owned(), vec![binding])].into(),
            ..HostConfig::default()
        };
        let all = requests(&config, &host).unwrap();
        assert_eq!(
            all.iter().map(|p| (p.container_port, p.host_port)).collect::<Vec<_>>(),
            [(80, HostPort::Exactly(8080)), (81, HostPort::Any)]
        );
    }
}
