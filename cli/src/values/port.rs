//! `-p [ip:][host[-range]:]container[-range][/proto]` and `--expose port[-range][/proto]`.

use std::net::IpAddr;

use agent_api::Set;
use agent_api::host_config::{PortBinding, PortMap};

/// Adds what one `-p` says.
///
/// # Errors
/// The text is no port specification.
pub fn publish(spec: &str, exposed: &mut Set, bindings: &mut PortMap) -> Result<(), String> {
    let spec = match spec.contains('=') {
        true => long_form(spec)?,
        false => spec.to_owned(),
    };
    let (rest, protocol) = protocol(&spec)?;
    let (ip, host, container) = parts(rest, &spec)?;
    if container.is_empty() {
        return Err(format!("no port specified: {spec}<empty>"));
    }
    if let Some(ip) = &ip {
        ip.parse::<IpAddr>().map_err(|_| format!("invalid IP address: {ip}"))?;
    }
    let (first, last) = range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
    let host_range = match host {
        "" => None,
        host => Some(range(host).map_err(|_| format!("invalid hostPort: {host}"))?),
    };
    if let Some((from, to)) = host_range
        && to - from != last - first
        // One container port may take any of a range of host ports.
        && first != last
    {
        return Err(format!(
            "invalid ranges specified for container and host Ports: {container} and {host}"
        ));
    }
    for port in first..=last {
        let host_port = match host_range {
            None => String::new(),
            Some((from, to)) if first == last && from != to => format!("{from}-{to}"),
            Some((from, _)) => (from + (port - first)).to_string(),
        };
        let key = format!("{port}/{protocol}");
        exposed.insert(key.clone(), agent_api::Empty {});
        let binding = PortBinding {
            host_ip: ip.clone().unwrap_or_default(),
            host_port,
        };
        bindings.entry(key).or_default().get_or_insert_default().push(binding);
    }
    Ok(())
}

/// Adds what one `--expose` says.
///
/// # Errors
/// The text is no port or range.
pub fn expose(spec: &str, exposed: &mut Set) -> Result<(), String> {
    let (ports, protocol) = protocol(spec)?;
    let (first, last) =
        range(ports).map_err(|reason| format!("invalid range format for --expose: {spec}, error: {reason}"))?;
    exposed.extend((first..=last).map(|port| (format!("{port}/{protocol}"), agent_api::Empty {})));
    Ok(())
}

/// `published=8080,target=80,protocol=tcp` → the short form.
fn long_form(spec: &str) -> Result<String, String> {
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for part in spec.split(',') {
        match part.split_once('=') {
            Some(("published", value)) => published = value,
            Some(("target", value)) => target = value,
            Some(("protocol", value)) => protocol = value,
            // "host" is what a container on one machine always gets.
            Some(("mode", "host")) => {}
            _ => return Err(format!("invalid port format (unexpected {part:?}): {spec}")),
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

fn protocol(spec: &str) -> Result<(&str, String), String> {
    let (ports, protocol) = spec.split_once('/').unwrap_or((spec, "tcp"));
    let protocol = if protocol.is_empty() {
        "tcp".to_owned()
    } else {
        protocol.to_ascii_lowercase()
    };
    if matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        Ok((ports, protocol))
    } else {
        Err(format!("invalid proto: {protocol}"))
    }
}

/// `[ip:]host:container` from behind, because an address may contain colons.
fn parts<'a>(text: &'a str, spec: &str) -> Result<(Option<String>, &'a str, &'a str), String> {
    let Some((rest, container)) = text.rsplit_once(':') else {
        return Ok((None, "", text));
    };
    let Some((ip, host)) = rest.rsplit_once(':') else {
        return Ok((None, rest, container));
    };
    let ip = match ip.strip_prefix('[') {
        Some(inner) => inner
            .strip_suffix(']')
            .ok_or_else(|| format!("invalid IP address: {spec}"))?,
        None => ip,
    };
    Ok(((!ip.is_empty()).then(|| ip.to_owned()), host, container))
}

/// `80` or `80-90`.
fn range(text: &str) -> Result<(u32, u32), String> {
    let number = |part: &str| {
        let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        plain
            .then(|| part.parse::<u16>().ok())
            .flatten()
            .map(u32::from)
            .ok_or_else(|| format!("invalid port {part:?}"))
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    if last < first {
        Err(format!("invalid range specified for port: {text}"))
    } else {
        Ok((first, last))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn parse(spec: &str) -> Result<Vec<(String, String, String)>, String> {
        let (mut exposed, mut bindings) = (Set::new(), PortMap::new());
        publish(spec, &mut exposed, &mut bindings)?;
        assert!(exposed.keys().eq(bindings.keys()));
        Ok(bindings
            .into_iter()
            .flat_map(|(key, ends)| {
                ends.unwrap()
                    .into_iter()
                    .map(move |end| (key.clone(), end.host_ip, end.host_port))
            })
            .collect())
    }

    #[test]
    fn ports_parse() {
        for (spec, want) in [
            ("80", vec![("80/tcp", "", "")]),
            ("8080:80", vec![("80/tcp", "", "8080")]),
            ("8080:80/udp", vec![("80/udp", "", "8080")]),
            ("127.0.0.1:8080:80", vec![("80/tcp", "127.0.0.1", "8080")]),
            ("127.0.0.1::80", vec![("80/tcp", "127.0.0.1", "")]),
            ("[::1]:8080:80/SCTP", vec![("80/sctp", "::1", "8080")]),
            ("::1:8080:80", vec![("80/tcp", "::1", "8080")]),
            ("8000-8001:80-81", vec![("80/tcp", "", "8000"), ("81/tcp", "", "8001")]),
            ("8000-8010:80", vec![("80/tcp", "", "8000-8010")]),
            ("80-81", vec![("80/tcp", "", ""), ("81/tcp", "", "")]),
            ("0:80", vec![("80/tcp", "", "0")]),
            ("published=5,target=6,protocol=udp", vec![("6/udp", "", "5")]),
        ] {
            let want: Vec<_> = want
                .into_iter()
                .map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()))
                .collect();
            assert_eq!(parse(spec).unwrap(), want, "{spec}");
        }
        for bad in [
            "",
            ":",
            "80:",
            "x",
            "80/icmp",
            "80-70",
            "1-2:3-5",
            "70000",
            "1.2.3:1:2",
            "[::1:1:2",
            "-1",
            "+1",
            "80-",
            "a=b",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn exposed_ports_parse() {
        let mut exposed = Set::new();
        expose("80-81/udp", &mut exposed).unwrap();
        expose("9", &mut exposed).unwrap();
        assert_eq!(exposed.into_keys().collect::<Vec<_>>(), ["80/udp", "81/udp", "9/tcp"]);
        assert!(expose("x", &mut Set::new()).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(spec in "[0-9:/.a-z\\[\\]=,é-]{0,20}") {
            let _ = parse(&spec);
        }
    }
}
