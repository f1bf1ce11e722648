//! `--since` and `--until`: a Unix time, an RFC 3339 time (whole or cut short), or a duration back from now.

use jiff::Timestamp;
use jiff::civil;
use jiff::tz::TimeZone;

/// The moment as the API wants it: Unix seconds with a fraction.
///
/// # Errors
/// The text is none of the three.
pub fn parse(text: &str) -> Result<String, String> {
    parse_at(text, Timestamp::now())
}

fn parse_at(text: &str, now: Timestamp) -> Result<String, String> {
    let unix = text
        .split_once('.')
        .map_or((text, "0"), |(whole, fraction)| (whole, fraction));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if digits(unix.0) && digits(unix.1) {
        return Ok(text.to_owned());
    }
    if let Ok(back) = super::duration::parse(text) {
        let moment = now.checked_sub(back).map_err(|_| format!("{text} is too long ago"))?;
        return Ok(seconds(moment));
    }
    moment(text).map(seconds).ok_or_else(|| {
        format!("invalid time {text:?}: expected a Unix time, a time like 2026-01-02T15:04:05Z, or a duration like 10m")
    })
}

fn seconds(moment: Timestamp) -> String {
    format!("{}.{:09}", moment.as_second(), moment.subsec_nanosecond())
}

fn moment(text: &str) -> Option<Timestamp> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(moment);
    }
    // Without a zone it is local time; hours, minutes and seconds may be left out.
    let (day, clock) = text.split_once('T').unwrap_or((text, "00"));
    let clock = match clock.len() {
        2 => format!("{clock}:00:00"),
        5 => format!("{clock}:00"),
        _ => clock.to_owned(),
    };
    let date: civil::Date = day.parse().ok()?;
    let time: civil::Time = clock.parse().ok()?;
    Some(
        date.to_datetime(time)
            .to_zoned_datetime(TimeZone::system())
            .ok()?
            .timestamp(),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn moments_parse() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (text, want) in [
            ("1136073845", "1136073845"),
            ("1136073845.000000001", "1136073845.000000001"),
            ("10m", "999400.000000000"),
            ("1970-01-01T00:00:05Z", "5.000000000"),
            ("1970-01-01T01:00:05.5+01:00", "5.500000000"),
        ] {
            assert_eq!(parse_at(text, now).unwrap(), want, "{text}");
        }
        for text in ["2026-01-02", "2026-01-02T15", "2026-01-02T15:04", "2026-01-02T15:04:05"] {
            assert!(parse_at(text, now).is_ok(), "{text}");
        }
        for bad in ["", "yesterday", "2026-13-01", "1.x", "-5"] {
            assert!(parse_at(bad, now).is_err(), "{bad}");
        }
    }
}
