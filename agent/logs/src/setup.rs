//! From a driver's name and options to what is to be done.

use std::collections::BTreeMap;

use crate::attributes::{self, Wanted};
use crate::fluentd::Fluentd;
use crate::gelf::Gelf;
use crate::options::Options;
use crate::syslog::Syslog;
use crate::{Refused, fluentd, gelf, syslog};

/// A log configuration that makes sense.
#[derive(Clone, Debug)]
pub struct Setup {
    pub keep: Keep,
    /// Whether what is kept may be read through the API.
    pub readable: bool,
    pub wanted: Wanted,
    pub remote: Option<Remote>,
    /// `mode=non-blocking` of a remote driver: how many bytes may wait for it before the oldest are given up.
    pub backlog: Option<u64>,
}

/// What the shim writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    Local(Files),
    JsonFile(Files),
}

/// Bounds of log files; what is `None` was not asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Files {
    pub max_size: Option<u64>,
    pub max_files: Option<u32>,
    pub compress: Option<bool>,
}

/// Where lines are sent.
#[derive(Clone, Debug)]
pub enum Remote {
    Journald,
    Syslog(Syslog),
    Gelf(Gelf),
    Fluentd(Fluentd),
}

const MODE: &[&str] = &["mode", "max-buffer-size"];
const FILES: &[&str] = &["max-size", "max-file", "compress"];
const CACHE: &[&str] = &["cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"];
/// Docker's default of `max-buffer-size`.
const BUFFER: u64 = 1 << 20;
/// What waits for a remote driver where nobody may read it.
const SPOOL: Files = Files {
    max_size: Some(10_000_000),
    max_files: Some(3),
    compress: Some(false),
};

impl Setup {
    /// # Errors
    /// An unknown driver or option, or a value that makes no sense.
    pub fn parse(driver: &str, all: &BTreeMap<String, String>) -> Result<Setup, Refused> {
        let options = Options { driver, all };
        let (keep, remote): (fn(Files) -> Keep, _) = match driver {
            "none" => {
                options.only(&[])?;
                (|_| Keep::Nothing, None)
            }
            "local" => (Keep::Local, None),
            "json-file" => (Keep::JsonFile, None),
            "journald" => {
                options.only(&[MODE, CACHE, attributes::KEYS])?;
                (Keep::Local, Some(Remote::Journald))
            }
            "syslog" => {
                options.only(&[MODE, CACHE, attributes::KEYS, syslog::KEYS])?;
                (Keep::Local, Some(Remote::Syslog(Syslog::parse(&options)?)))
            }
            "gelf" => {
                options.only(&[MODE, CACHE, attributes::KEYS, gelf::KEYS])?;
                (Keep::Local, Some(Remote::Gelf(Gelf::parse(&options)?)))
            }
            "fluentd" => {
                options.only(&[MODE, CACHE, attributes::KEYS, fluentd::KEYS])?;
                (Keep::Local, Some(Remote::Fluentd(Fluentd::parse(&options)?)))
            }
            "awslogs" | "gcplogs" | "splunk" | "etwlogs" => return Err(Refused::Unsupported(driver.to_owned())),
            other => {
                return Err(Refused::invalid(format!(
                    "logger: no log driver named '{other}' is registered"
                )));
            }
        };
        let non_blocking = match options.get("mode").unwrap_or_default() {
            "" | "blocking" => false,
            "non-blocking" => true,
            other => return Err(Refused::invalid(format!("logger: logging mode not supported: {other}"))),
        };
        if options.get("max-buffer-size").is_some() && !non_blocking {
            return Err(Refused::invalid(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            ));
        }
        let buffer = options.size("max-buffer-size", 1024)?.unwrap_or(BUFFER);
        let hidden = options.flag("cache-disabled")?.unwrap_or(false);
        let files = if remote.is_some() {
            let cache = files(&options, "cache-max-size", "cache-max-file", "cache-compress")?;
            if hidden { SPOOL } else { cache }
        } else {
            if driver != "none" {
                options.only(&[MODE, FILES, attributes::KEYS])?;
            }
            files(&options, "max-size", "max-file", "compress")?
        };
        Ok(Setup {
            keep: keep(files),
            readable: driver != "none" && !hidden,
            wanted: Wanted::parse(&options)?,
            backlog: (non_blocking && remote.is_some()).then_some(buffer),
            remote,
        })
    }
}

fn files(options: &Options<'_>, size: &str, count: &str, compress: &str) -> Result<Files, Refused> {
    let max_files = options.number(count)?;
    if max_files == Some(0) {
        return Err(Refused::invalid(format!(
            "invalid value for {count}: it cannot be less than 1"
        )));
    }
    let compress = options.flag(compress)?;
    if compress == Some(true) && max_files == Some(1) {
        return Err(Refused::invalid(
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ));
    }
    Ok(Files {
        max_size: options.size(size, 1000)?,
        max_files,
        compress,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(driver: &str, options: &[(&str, &str)]) -> Result<Setup, Refused> {
        let all = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Setup::parse(driver, &all.collect())
    }

    #[test]
    fn options_are_taken_by_the_drivers_that_have_them() {
        for (driver, options) in [
            (
                "local",
                &[("max-size", "1k"), ("max-file", "3"), ("compress", "false")][..],
            ),
            (
                "json-file",
                &[("labels", "a,b"), ("env-regex", "^A"), ("tag", "{{.Name}}")],
            ),
            ("none", &[]),
            ("journald", &[("tag", "x"), ("cache-disabled", "true")]),
            (
                "syslog",
                &[
                    ("syslog-address", "udp://1.2.3.4:5"),
                    ("syslog-facility", "local3"),
                    ("mode", "non-blocking"),
                    ("max-buffer-size", "4m"),
                ],
            ),
            (
                "gelf",
                &[("gelf-address", "udp://1.2.3.4:5"), ("gelf-compression-type", "zlib")],
            ),
            ("fluentd", &[("fluentd-async", "true"), ("fluentd-buffer-limit", "8MB")]),
        ] {
            parse(driver, options).unwrap();
        }
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        for (driver, options, word) in [
            ("pigeon", &[][..], "no log driver named 'pigeon'"),
            ("awslogs", &[], "awslogs"),
            (
                "json-file",
                &[("colour", "blue")],
                "unknown log opt 'colour' for json-file log driver",
            ),
            ("none", &[("max-size", "1m")], "unknown log opt 'max-size'"),
            ("local", &[("max-size", "0")], "max-size"),
            ("local", &[("max-size", "abc")], "max-size"),
            ("local", &[("max-file", "0")], "max-file"),
            ("local", &[("max-file", "-1")], "max-file"),
            ("local", &[("compress", "maybe")], "compress"),
            ("local", &[("syslog-address", "udp://1.2.3.4:5")], "syslog-address"),
            ("json-file", &[("labels-regex", "(")], "labels-regex"),
            ("json-file", &[("tag", "{{.Nonsense}}")], "Nonsense"),
            ("local", &[("mode", "sometimes")], "sometimes"),
            ("local", &[("max-buffer-size", "1m")], "max-buffer-size"),
            ("gelf", &[], "gelf-address is a required parameter"),
            ("gelf", &[("gelf-address", "unix:///x")], "gelf"),
            (
                "gelf",
                &[("gelf-address", "tcp://1.2.3.4:5"), ("gelf-compression-type", "gzip")],
                "gelf-compression-type",
            ),
            ("syslog", &[("syslog-address", "carrier://x")], "syslog-address"),
            ("syslog", &[("syslog-facility", "moon")], "facility"),
            ("syslog", &[("syslog-format", "rfc1")], "format"),
            ("fluentd", &[("fluentd-address", "ftp://x")], "fluentd-address"),
            ("fluentd", &[("fluentd-retry-wait", "x")], "fluentd-retry-wait"),
        ] {
            let said = parse(driver, options).unwrap_err().to_string();
            assert!(said.contains(word), "{driver} {options:?}: {said}");
        }
    }

    #[test]
    fn a_hidden_cache_is_small() {
        let setup = parse("journald", &[("cache-disabled", "true")]).unwrap();
        assert!(!setup.readable && setup.keep == Keep::Local(SPOOL));
        assert!(parse("journald", &[]).unwrap().readable);
    }
}
