//! `--network name` or `--network name=…,alias=…,ip=…,…`, and the addresses of `--add-host` and `--dns`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use agent_api::network::{EndpointIpam, EndpointSettings};

use super::{csv, pair};

/// One network to join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachment {
    pub name: String,
    pub endpoint: EndpointSettings,
}

/// # Errors
/// A key is not known, or an address is none.
pub fn attachment(spec: &str) -> Result<Attachment, String> {
    if !spec.contains('=') {
        return Ok(Attachment {
            name: spec.to_owned(),
            ..Attachment::default()
        });
    }
    let mut found = Attachment::default();
    let endpoint = &mut found.endpoint;
    for field in csv::fields(spec)? {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("invalid field {field} in --network: expected KEY=VALUE"))?;
        let value = value.trim();
        match key.trim().to_lowercase().as_str() {
            "name" => found.name = value.to_owned(),
            "alias" => endpoint.aliases.get_or_insert_default().push(value.to_owned()),
            "ip" => {
                endpoint
                    .ipam_config
                    .get_or_insert_with(EndpointIpam::default)
                    .ipv4_address = ipv4(value)?
            }
            "ip6" => endpoint.ipam_config.get_or_insert_default().ipv6_address = ipv6(value)?,
            "mac-address" => endpoint.mac_address = mac(value)?,
            "link-local-ip" => {
                let local = ip(value)?;
                endpoint
                    .ipam_config
                    .get_or_insert_default()
                    .link_local_ips
                    .get_or_insert_default()
                    .push(local);
            }
            "gw-priority" => {
                endpoint.gw_priority = value
                    .parse()
                    .map_err(|_| format!("invalid gw-priority ({value}): expected a whole number"))?;
            }
            "driver-opt" => {
                let (key, value) = value
                    .split_once('=')
                    .ok_or("invalid key value pair format in driver options")?;
                endpoint
                    .driver_opts
                    .get_or_insert_default()
                    .insert(key.to_owned(), value.to_owned());
            }
            other => return Err(format!("invalid field key {other} in --network")),
        }
    }
    if found.name.is_empty() {
        Err(format!("network name/id is not specified in {spec:?}"))
    } else {
        Ok(found)
    }
}

/// # Errors
/// Not an IPv4 address.
pub fn ipv4(text: &str) -> Result<String, String> {
    text.parse::<Ipv4Addr>()
        .map(|_| text.to_owned())
        .map_err(|_| format!("invalid IPv4 address: {text}"))
}

/// # Errors
/// Not an IPv6 address.
pub fn ipv6(text: &str) -> Result<String, String> {
    text.parse::<Ipv6Addr>()
        .map(|_| text.to_owned())
        .map_err(|_| format!("invalid IPv6 address: {text}"))
}

/// # Errors
/// Not an address.
pub fn ip(text: &str) -> Result<String, String> {
    text.parse::<IpAddr>()
        .map(|ip| ip.to_string())
        .map_err(|_| format!("IP address is not correctly formatted: {text}"))
}

/// # Errors
/// Not six bytes in hexadecimal.
pub fn mac(text: &str) -> Result<String, String> {
    let bytes: Vec<&str> = text.split([':', '-']).collect();
    let valid = bytes.len() == 6
        && bytes
            .iter()
            .all(|byte| byte.len() == 2 && byte.bytes().all(|b| b.is_ascii_hexdigit()));
    if valid {
        Ok(text.to_owned())
    } else {
        Err(format!("{text} is not a valid mac address"))
    }
}

/// `name:ip` or `name=ip`; the address may be `host-gateway`.
///
/// # Errors
/// No name, or no address.
pub fn host(text: &str) -> Result<String, String> {
    let wrong = || format!("bad format for add-host: {text:?}: expected HOST:IP or HOST=IP");
    // With `=` first, so that an IPv6 address needs no guess.
    let (name, address) = match text.contains('=') {
        true => pair::split(text),
        false => text
            .split_once(':')
            .map(|(name, ip)| (name.to_owned(), ip.to_owned()))
            .ok_or_else(wrong)?,
    };
    if name.is_empty() || address.is_empty() {
        return Err(wrong());
    }
    if address == "host-gateway" {
        return Ok(format!("{name}:{address}"));
    }
    let plain = address
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(&address);
    plain
        .parse::<IpAddr>()
        .map_err(|_| format!("invalid IP address in add-host: {address:?}"))?;
    Ok(format!("{name}:{plain}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn networks_parse() {
        assert_eq!(attachment("container:abc").unwrap().name, "container:abc");
        let long = attachment("name=net,alias=a,alias=b,ip=10.0.0.2,ip6=fd00::2,gw-priority=5,driver-opt=k=v,mac-address=02:42:ac:11:00:02")
            .unwrap();
        assert_eq!(long.name, "net");
        assert_eq!(long.endpoint.aliases.unwrap(), ["a", "b"]);
        assert_eq!(long.endpoint.ipam_config.unwrap().ipv4_address, "10.0.0.2");
        assert_eq!(
            (
                long.endpoint.gw_priority,
                long.endpoint.driver_opts.unwrap()["k"].as_str()
            ),
            (5, "v")
        );
        for bad in [
            "alias=a",
            "name=n,ip=x",
            "name=n,nope=1",
            "name=n,gw-priority=x",
            "name=n,driver-opt=k",
            "name=n,mac-address=1",
        ] {
            assert!(attachment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_parse() {
        for (text, want) in [
            ("a:1.2.3.4", "a:1.2.3.4"),
            ("a=1.2.3.4", "a:1.2.3.4"),
            ("a:::1", "a:::1"),
            ("a=[::1]", "a:::1"),
            ("a:host-gateway", "a:host-gateway"),
        ] {
            assert_eq!(host(text).unwrap(), want);
        }
        for bad in ["", "a", "a:", ":1.2.3.4", "a:x", "=1.2.3.4"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }
}
