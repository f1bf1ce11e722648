//! `name=soft[:hard]`, and sizes with units.

use anyhow::{Context, bail};

/// Limits that a kernel knows, by the names that people use.
const NAMES: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Name, soft and hard limit.
pub fn parse(text: &str) -> anyhow::Result<(String, i64, i64)> {
    let (name, limits) = text
        .split_once('=')
        .with_context(|| format!("invalid ulimit \"{text}\": expected NAME=SOFT[:HARD]"))?;
    if !NAMES.contains(&name) {
        bail!("invalid ulimit \"{text}\": there is no limit called {name}");
    }
    let number = |text: &str| match text {
        "unlimited" => Ok(-1),
        text => text.parse::<i64>(),
    };
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let invalid = || format!("invalid ulimit \"{text}\": limits are numbers, -1 or \"unlimited\"");
    let (soft, hard) = (number(soft).with_context(invalid)?, number(hard).with_context(invalid)?);
    if soft < -1 || hard < -1 || (hard != -1 && (soft == -1 || soft > hard)) {
        bail!("invalid ulimit \"{text}\": the soft limit must be at most the hard limit");
    }
    Ok((name.to_owned(), soft, hard))
}

/// Bytes: a number with `k`, `m`, `g` or `t` (powers of 1024), with or without a `b`.
pub fn size(text: &str) -> anyhow::Result<i64> {
    let invalid = || format!("invalid size \"{text}\": expected a number with an optional k, m, g or t");
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (number, shift) = match lower.chars().last() {
        Some('k') => (&lower[..lower.len() - 1], 10),
        Some('m') => (&lower[..lower.len() - 1], 20),
        Some('g') => (&lower[..lower.len() - 1], 30),
        Some('t') => (&lower[..lower.len() - 1], 40),
        _ => (lower, 0),
    };
    let number: i64 = number.parse().with_context(invalid)?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes >= 0)
        .with_context(invalid)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ulimits() {
        assert_eq!(parse("nofile=1024:2048").unwrap(), ("nofile".into(), 1024, 2048));
        assert_eq!(parse("core=0").unwrap(), ("core".into(), 0, 0));
        assert_eq!(parse("nproc=5:unlimited").unwrap(), ("nproc".into(), 5, -1));
        for bad in [
            "nofile",
            "x=1",
            "nofile=a",
            "nofile=2:1",
            "nofile=-1:5",
            "nofile=-2",
            "nofile=1:2:3",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("64m").unwrap(), 64 << 20);
        assert_eq!(size("1Gb").unwrap(), 1 << 30);
        assert_eq!(size("7").unwrap(), 7);
        for bad in ["", "m", "-1", "1x", "99999999999999t"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
