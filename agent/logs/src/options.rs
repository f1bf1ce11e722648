//! Reading options by name.

use std::collections::BTreeMap;

use crate::Refused;

/// The options of one driver.
pub(crate) struct Options<'a> {
    pub driver: &'a str,
    pub all: &'a BTreeMap<String, String>,
}

impl Options<'_> {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.all.get(key).map(String::as_str)
    }

    /// Refuses what is in none of the lists.
    pub fn only(&self, known: &[&[&str]]) -> Result<(), Refused> {
        let unknown = |key: &&String| !known.iter().any(|list| list.contains(&key.as_str()));
        match self.all.keys().find(unknown) {
            Some(key) => Err(Refused::invalid(format!(
                "unknown log opt '{key}' for {} log driver",
                self.driver
            ))),
            None => Ok(()),
        }
    }

    fn wrong(&self, key: &str) -> Refused {
        Refused::invalid(format!(
            "invalid value for {key}: \"{}\"",
            self.get(key).unwrap_or_default()
        ))
    }

    pub fn parsed<T>(&self, key: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Refused> {
        match self.get(key) {
            None | Some("") => Ok(None),
            Some(text) => parse(text).map(Some).ok_or_else(|| self.wrong(key)),
        }
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>, Refused> {
        // Go's strconv.ParseBool.
        self.parsed(key, |text| match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        })
    }

    pub fn number(&self, key: &str) -> Result<Option<u32>, Refused> {
        self.parsed(key, |text| text.parse().ok())
    }

    /// A size above zero; -1 is none.
    pub fn size(&self, key: &str, thousand: u64) -> Result<Option<u64>, Refused> {
        if self.get(key) == Some("-1") {
            return Ok(None);
        }
        self.parsed(key, |text| size(text, thousand).filter(|bytes| *bytes > 0))
    }

    /// A Go duration in seconds or milliseconds, or a plain number of the given unit.
    pub fn duration(&self, key: &str) -> Result<Option<std::time::Duration>, Refused> {
        self.parsed(key, duration)
    }
}

/// A size with a unit (`10m`, `1g`, `512k`, `1.5m`, `100`).
pub(crate) fn size(text: &str, thousand: u64) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let lower = lower.strip_suffix('i').unwrap_or(lower).trim_end();
    let power = match lower.as_bytes().last()? {
        b'k' => 1,
        b'm' => 2,
        b'g' => 3,
        b't' => 4,
        _ => 0,
    };
    let number = if power > 0 {
        lower[..lower.len() - 1].trim_end()
    } else {
        lower
    };
    let factor = thousand.pow(power);
    match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(factor),
        Err(_) => {
            let fraction: f64 = number.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)?;
            let bytes = fraction * factor as f64;
            (bytes < 1e18).then_some(bytes as u64)
        }
    }
}

fn duration(text: &str) -> Option<std::time::Duration> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let factor = match &rest[..unit] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        rest = &rest[unit..];
        total += number * factor;
    }
    std::time::Duration::try_from_secs_f64(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("10m", Some(10_000_000)),
            ("1Gb", Some(1_000_000_000)),
            ("7", Some(7)),
            ("1.5k", Some(1_500)),
            ("x", None),
            ("", None),
            ("-3", None),
            ("99999999t", None),
        ] {
            assert_eq!(size(text, 1000), bytes, "{text}");
        }
        assert_eq!(size("4m", 1024), Some(4 << 20));
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("3"), None);
        assert_eq!(duration("soon"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(text: String) {
            size(&text, 1000);
            duration(&text);
        }
    }
}
