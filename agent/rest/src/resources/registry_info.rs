//! What `info` says of registries and the ways to them: the daemon's own settings, without the secrets in them.

use std::collections::BTreeMap;

use agent_api::system::{IndexConfig, RegistryConfig};
use agent_engine::view::ClientConfig;

/// Networks whose registries may always speak plain HTTP, as with dockerd.
const LOOPBACK: [&str; 2] = ["::1/128", "127.0.0.0/8"];

pub fn registries(default: &str, config: &ClientConfig) -> RegistryConfig {
    let index = |name: &str, secure: bool| IndexConfig {
        mirrors: Some(mirrors_of(config, name)),
        name: name.to_owned(),
        official: name == "docker.io",
        secure,
    };
    let mut indexes = BTreeMap::new();
    let mut ranges: Vec<String> = LOOPBACK.map(str::to_owned).into();
    for insecure in &config.insecure {
        match insecure.contains('/') {
            true if ranges.contains(insecure) => {}
            true => ranges.push(insecure.clone()),
            false => drop(indexes.insert(insecure.clone(), index(insecure, false))),
        }
    }
    indexes
        .entry(default.to_owned())
        .or_insert_with(|| index(default, true));
    RegistryConfig {
        index_configs: indexes,
        insecure_registry_cidrs: Some(ranges),
        mirrors: Some(mirrors_of(config, default)).filter(|list| !list.is_empty()),
    }
}

fn mirrors_of(config: &ClientConfig, registry: &str) -> Vec<String> {
    let mirrors = config.mirrors.iter();
    let own = mirrors.filter(|mirror| mirror.registry == registry || mirror.registry == "*");
    own.map(|mirror| masked(&mirror.url)).collect()
}

/// An address without user and password, in dockerd's way.
pub fn masked(address: &str) -> String {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), address),
    };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}xxxxx:xxxxx{}", &rest[at..]),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_of_addresses() {
        for (address, shown) in [
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            (
                "http://me:p@ss@proxy.example:3128/x@y",
                "http://xxxxx:xxxxx@proxy.example:3128/x@y",
            ),
            ("me:secret@proxy.example", "xxxxx:xxxxx@proxy.example"),
            ("", ""),
        ] {
            assert_eq!(masked(address), shown);
        }
    }
}
