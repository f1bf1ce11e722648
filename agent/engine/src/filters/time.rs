//! Moments as clients write them: seconds, dates, durations before now.

use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};

/// Seconds since 1970 with a fraction, RFC 3339, or a Go duration before now.
pub fn point_in_time(text: &str) -> Result<SystemTime> {
    let bad = || Error::invalid(format!("invalid time: \"{text}\": neither a timestamp nor a duration"));
    if let Some(duration) = go_duration(text) {
        return SystemTime::now().checked_sub(duration).ok_or_else(bad);
    }
    if let Some((seconds, fraction)) = text.split_once('.').or(Some((text, "")))
        && let Ok(seconds) = seconds.parse::<u64>()
        && fraction.bytes().all(|b| b.is_ascii_digit())
        && fraction.len() <= 9
    {
        let nanos = format!("{fraction:0<9}").parse::<u32>().map_err(|_| bad())?;
        return SystemTime::UNIX_EPOCH
            .checked_add(Duration::new(seconds, nanos))
            .ok_or_else(bad);
    }
    rfc3339(text).or_else(|| local_time(text)).ok_or_else(bad)
}

/// `2026-11-25`, `2026-11-25T10:00`, `2026-11-25T10:00:00.5`: without a zone the daemon's own is meant.
fn local_time(text: &str) -> Option<SystemTime> {
    let (text, utc) = text.strip_suffix('Z').map_or((text, false), |text| (text, true));
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    let zone = if utc {
        jiff::tz::TimeZone::UTC
    } else {
        jiff::tz::TimeZone::system()
    };
    let stamp = zone.to_timestamp(civil).ok()?;
    let nanoseconds = u64::try_from(stamp.as_nanosecond()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanoseconds))
}

/// A point in time as image configurations and clients write it.
pub(crate) fn rfc3339(text: &str) -> Option<SystemTime> {
    let stamp: jiff::Timestamp = text.parse().ok()?;
    let nanoseconds = u64::try_from(stamp.as_nanosecond()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanoseconds))
}

/// `1h30m`, `1.5s`, `300ms`; at least one unit.
pub fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0f64;
    if rest.is_empty() || !rest.bytes().any(|b| b.is_ascii_alphabetic()) {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        total += number
            * match &rest[..letters] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[letters..];
    }
    Duration::try_from_secs_f64(total).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_and_times() {
        assert_eq!(go_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(go_duration("1.5s"), Some(Duration::from_millis(1500)));
        for bad in ["", "5", "h", "1x", "-1s"] {
            assert_eq!(go_duration(bad), None, "{bad}");
        }
        let at = |text: &str| {
            point_in_time(text)
                .unwrap()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
        };
        assert_eq!(at("12.5"), Duration::from_millis(12_500));
        assert_eq!(at("1970-01-01T00:01:00Z"), Duration::from_secs(60));
        for day in ["1970-01-03Z", "1970-01-03T00:00Z", "1970-01-03T00:00:00Z"] {
            assert_eq!(at(day), Duration::from_secs(2 * 86_400), "{day}");
        }
        let apart = at("1970-01-04T12:00") - at("1970-01-03");
        assert_eq!(apart, Duration::from_secs(36 * 3600), "whatever the zone is");
        assert!(point_in_time("yesterday").is_err());
    }

    proptest! {
        #[test]
        fn times_never_panic(text in "\\PC{0,30}") {
            let _ = point_in_time(&text);
            let _ = go_duration(&text);
        }
    }
}
