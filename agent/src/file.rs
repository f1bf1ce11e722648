//! The configuration file: our TOML, or dockerd's `daemon.json`; and how it goes together with the flags.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Deserializer};

use crate::flags::{Options, is_refused};

/// Looked for in this order when no file is named; none needs to be there.
const DEFAULT_FILES: [&str; 2] = ["/etc/iechor/daemon.toml", "/etc/iechor/daemon.json"];

/// Reads the named file, or the default one if there is one.
pub fn read(named: Option<&Path>) -> anyhow::Result<Options> {
    if let Some(path) = named {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        return parse(path, &text);
    }
    for path in DEFAULT_FILES.map(PathBuf::from) {
        match fs::read_to_string(&path) {
            Ok(text) => return parse(&path, &text),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
    Ok(Options::default())
}

fn parse(path: &Path, text: &str) -> anyhow::Result<Options> {
    let json = path.extension().is_some_and(|extension| extension == "json");
    let mut table: serde_json::Map<String, serde_json::Value> = if json {
        // An empty file is an empty object to dockerd.
        serde_json::from_str(if text.trim().is_empty() { "{}" } else { text })
            .with_context(|| format!("{} is not a JSON object", path.display()))?
    } else {
        toml::from_str(text).with_context(|| format!("{} is not TOML", path.display()))?
    };
    if let Some(key) = table.keys().find(|key| is_refused(key)) {
        bail!(
            "{}: \"{key}\" is not supported by this version of iEchor; remove it",
            path.display()
        );
    }
    // dockerd's name for the list of addresses.
    if let Some(hosts) = table.remove("hosts")
        && table.insert("host".to_owned(), hosts).is_some()
    {
        bail!("{}: \"hosts\" and \"host\" mean the same; keep one", path.display());
    }
    // dockerd's group of three.
    if let Some(proxies) = table.remove("proxies") {
        let serde_json::Value::Object(proxies) = proxies else {
            bail!("{}: \"proxies\" is not a table", path.display())
        };
        for (key, value) in proxies {
            if table.insert(key.clone(), value).is_some() {
                bail!("{}: \"{key}\" is given twice", path.display());
            }
        }
    }
    serde_json::from_value(table.into()).with_context(|| format!("{}", path.display()))
}

/// Puts flags and file together.
///
/// # Errors
/// Names every option that is given in both, as dockerd does: nobody could know which one was meant.
pub fn merge(flags: Options, file: Options) -> anyhow::Result<Options> {
    let mut twice = Vec::new();
    macro_rules! join {
        ($($field:ident)*) => {
            Options { $($field: match (flags.$field, file.$field) {
                (Some(flag), Some(own)) => {
                    let name = stringify!($field).replace('_', "-");
                    twice.push(format!("{name}: (from flag: {flag:?}, from file: {own:?})"));
                    Some(flag)
                }
                (flag, own) => flag.or(own),
            },)* }
        };
    }
    let joined = join!(
        host group tls tlsverify tlscacert tlscert tlskey allow_insecure_tcp cri_socket data_root exec_root pidfile shim warm
        shutdown_timeout metrics_addr debug log_level log_format labels exec_opts cgroup_parent runtimes default_runtime default_ulimits default_shm_size init
        userns_remap cdi_spec_dirs no_new_privileges live_restore storage_driver log_driver log_opts bridge bip mtu default_address_pools nft_table
        ip_masq ip_forward userland_proxy dns dns_opts dns_search default_registry insecure_registries registry_mirrors
        max_concurrent_downloads http_proxy https_proxy no_proxy
        image_gc_high image_gc_low image_gc_min_age image_gc_interval image_gc_pins
    );
    if !twice.is_empty() {
        bail!(
            "the following directives are specified both as a flag and in the configuration file: {}",
            twice.join(", ")
        );
    }
    Ok(joined)
}

/// A table of texts or numbers → `key=value`.
pub fn pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let table: BTreeMap<String, Text> = BTreeMap::deserialize(deserializer)?;
    Ok(Some(
        table
            .into_iter()
            .map(|(key, value)| format!("{key}={}", value.0))
            .collect(),
    ))
}

/// `{"nofile": {"Name": "nofile", "Hard": 2, "Soft": 1}}`, or `nofile = "1:2"` → `nofile=1:2`.
pub fn ulimits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Limit {
        Text(String),
        #[serde(rename_all = "PascalCase")]
        Table {
            hard: i64,
            soft: i64,
        },
    }
    let table: BTreeMap<String, Limit> = BTreeMap::deserialize(deserializer)?;
    let text = |(name, limit)| match limit {
        Limit::Text(text) => format!("{name}={text}"),
        Limit::Table { hard, soft } => format!("{name}={soft}:{hard}"),
    };
    Ok(Some(table.into_iter().map(text).collect()))
}

/// `[{"base": "10.0.0.0/8", "size": 24}]` → `base=10.0.0.0/8,size=24`.
pub fn pools<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pool {
        base: String,
        size: u8,
    }
    let list: Vec<Pool> = Vec::deserialize(deserializer)?;
    Ok(Some(
        list.into_iter()
            .map(|pool| format!("base={},size={}", pool.base, pool.size))
            .collect(),
    ))
}

/// A size may be a number of bytes or a text with a unit.
pub fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Some(Text::deserialize(deserializer)?.0))
}

struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Number(i64),
            Flag(bool),
        }
        Ok(Text(match Either::deserialize(deserializer)? {
            Either::Text(text) => text,
            Either::Number(number) => number.to_string(),
            Either::Flag(flag) => flag.to_string(),
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn toml(text: &str) -> Result<Options, String> {
        parse(Path::new("daemon.toml"), text).map_err(|error| format!("{error:#}"))
    }

    fn json(text: &str) -> Result<Options, String> {
        parse(Path::new("daemon.json"), text).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn dockerds_file_is_understood() {
        let options = json(
            r#"{"hosts":["unix:///a"],"debug":true,"log-opts":{"max-size":"10m","max-file":3},
                "default-ulimits":{"nofile":{"Name":"nofile","Hard":64000,"Soft":1024}},
                "default-address-pools":[{"base":"10.10.0.0/16","size":24}],
                "insecure-registries":["a:5000"],"default-shm-size":"32m","proxies":{"http-proxy":"http://p"}}"#,
        )
        .unwrap();
        assert_eq!(options.host.unwrap(), ["unix:///a"]);
        assert_eq!(options.log_opts.unwrap(), ["max-file=3", "max-size=10m"]);
        assert_eq!(options.default_ulimits.unwrap(), ["nofile=1024:64000"]);
        assert_eq!(options.default_address_pools.unwrap(), ["base=10.10.0.0/16,size=24"]);
        assert_eq!(options.http_proxy.unwrap(), "http://p");
        assert_eq!(json("").unwrap(), Options::default());
    }

    #[test]
    fn toml_says_the_same() {
        let options = toml("host = [\"fd://\"]\ndebug = true\nmtu = 1400\n[log-opts]\nmax-size = \"1m\"\n").unwrap();
        assert_eq!(options.host.unwrap(), ["fd://"]);
        assert_eq!(
            (options.mtu, options.log_opts.unwrap()),
            (Some(1400), vec!["max-size=1m".to_owned()])
        );
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert!(
            json(r#"{"seccomp-profile":"x"}"#)
                .unwrap_err()
                .contains("\"seccomp-profile\" is not supported")
        );
        assert!(
            json(r#"{"features":{}}"#)
                .unwrap_err()
                .contains("\"features\" is not supported")
        );
        assert!(toml("no-such-key = 1").unwrap_err().contains("no-such-key"));
        assert!(toml("debug = \"x\"").is_err() && toml("=").is_err() && json("[]").is_err());
        assert!(json(r#"{"hosts":[],"host":[]}"#).unwrap_err().contains("mean the same"));
    }

    #[test]
    fn an_option_in_both_places_is_an_error() {
        let with = |debug| Options {
            debug,
            ..Options::default()
        };
        let error = merge(with(Some(true)), with(Some(false))).unwrap_err().to_string();
        assert_eq!(
            error,
            "the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, from file: false)"
        );
        assert_eq!(merge(with(Some(true)), with(None)).unwrap().debug, Some(true));
        assert_eq!(merge(with(None), with(Some(true))).unwrap().debug, Some(true));
    }
}
