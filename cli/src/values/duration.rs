//! Go durations: `300ms`, `1h30m`, `1.5s`.

use std::time::Duration;

/// # Errors
/// The text is no duration, or a negative one.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("invalid duration {text:?}: expected a form like 300ms, 10s or 1h30m");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .ok_or_else(|| format!("missing unit in duration {text:?}"))?;
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            other => return Err(format!("unknown unit {other:?} in duration {text:?}")),
        };
        nanos += number * unit;
        rest = &rest[end..];
    }
    if nanos > i64::MAX as f64 {
        Err(wrong())
    } else {
        Ok(Duration::from_nanos(nanos.round() as u64))
    }
}

/// As the API carries it.
///
/// # Errors
/// As [`parse`].
pub fn nanoseconds(text: &str) -> Result<i64, String> {
    parse(text).map(|span| span.as_nanos() as i64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations_parse() {
        for (text, want) in [
            ("0", 0),
            ("300ms", 300),
            ("1.5s", 1500),
            ("1h30m", 5_400_000),
            ("1m0.5s", 60_500),
            ("+2s", 2000),
        ] {
            assert_eq!(parse(text).unwrap().as_millis(), want, "{text}");
        }
        for bad in ["", "5", "-1s", "1x", "s", "1s2", ".", "1..2s", "99999999999h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
