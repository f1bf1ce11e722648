//! Docker's `json-file` line: `{"log":"text\n","stream":"stdout","time":"2024-01-02T03:04:05.6789Z"}`.
//!
//! The escapes are those of Docker's own encoder, so that both files look alike: `<`, `>`, `&` and the two line
//! separators of JavaScript as `\u`, control characters as `\u00xx` except `\n` and `\r`, bytes that are not UTF-8 as
//! `\ufffd`.

use super::record::Stream;
use std::io::{self, Write};

/// Appends one line for `text` to `out`. A partial piece has no `\n` at the end of its text: that is how Docker's
/// readers know that the next one goes on with the same line.
pub(super) fn encode(out: &mut impl Write, stream: Stream, time: i64, partial: bool, text: &[u8]) -> io::Result<()> {
    out.write_all(b"{\"log\":\"")?;
    for chunk in text.utf8_chunks() {
        escape(out, chunk.valid())?;
        if !chunk.invalid().is_empty() {
            for _ in chunk.invalid() {
                out.write_all(b"\\ufffd")?;
            }
        }
    }
    if !partial {
        out.write_all(b"\\n")?;
    }
    out.write_all(b"\",\"stream\":\"")?;
    out.write_all(stream.name().as_bytes())?;
    out.write_all(b"\",\"time\":\"")?;
    write_time(out, time)?;
    out.write_all(b"\"}\n")
}

fn escape(out: &mut impl Write, text: &str) -> io::Result<()> {
    let bytes = text.as_bytes();
    let mut done = 0;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        let width = match byte {
            // U+2028 and U+2029 are e2 80 a8 and e2 80 a9.
            0xe2 if bytes[at + 1] == 0x80 && bytes[at + 2] & 0xfe == 0xa8 => 3,
            0x20.. if !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&') => {
                at += 1;
                continue;
            }
            _ => 1,
        };
        out.write_all(&bytes[done..at])?;
        match byte {
            b'"' => out.write_all(b"\\\"")?,
            b'\\' => out.write_all(b"\\\\")?,
            b'\n' => out.write_all(b"\\n")?,
            b'\r' => out.write_all(b"\\r")?,
            0xe2 => write!(out, "\\u202{:x}", bytes[at + 2] & 0xf)?,
            _ => write!(out, "\\u{byte:04x}")?,
        }
        at += width;
        done = at;
    }
    out.write_all(&bytes[done..])
}

const DAY: i64 = 86_400;

/// RFC 3339 in UTC, the fraction without trailing zeros (Go's `RFC3339Nano`).
pub(super) fn write_time(out: &mut impl Write, nanoseconds: i64) -> io::Result<()> {
    let seconds = nanoseconds.div_euclid(1_000_000_000);
    let mut fraction = nanoseconds.rem_euclid(1_000_000_000);
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    let clock = seconds.rem_euclid(DAY);
    write!(
        out,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        clock / 3600,
        clock / 60 % 60,
        clock % 60
    )?;
    if fraction != 0 {
        let mut width = 9;
        while fraction % 10 == 0 {
            fraction /= 10;
            width -= 1;
        }
        write!(out, ".{fraction:0width$}")?;
    }
    out.write_all(b"Z")
}

/// Days since 1970 → year, month, day in the Gregorian calendar. Years are counted from March, so that the leap day
/// is the last one and every month's start is a linear function of its number.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468; // 0000-03-01 to 1970-01-01
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil`].
#[cfg(feature = "host")]
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Parses what [`write_time`] and Docker write: `2006-01-02T15:04:05[.fraction]Z`, or with a numeric offset.
#[cfg(feature = "host")]
pub(super) fn parse_time(text: &str) -> Option<i64> {
    let (date, clock) = text.split_at_checked(10)?;
    let number = |text: &str| -> Option<i64> {
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse().ok())
            .flatten()
    };
    let (year, month, day) = (
        number(date.get(..4)?)?,
        number(date.get(5..7)?)?,
        number(date.get(8..)?)?,
    );
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || clock.len() < 10 {
        return None;
    }
    let (hour, minute, second) = (
        number(clock.get(1..3)?)?,
        number(clock.get(4..6)?)?,
        number(clock.get(7..9)?)?,
    );
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = clock.get(9..)?;
    let mut nanoseconds = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        nanoseconds = number(&format!("{:0<9.9}", &fraction[..digits]))?;
        rest = &fraction[digits..];
    }
    let offset = match rest.as_bytes() {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), ..] => {
            let minutes = number(rest.get(1..3)?)? * 60 + number(rest.get(4..6)?)?;
            if *sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    let seconds = days(year, month, day) * DAY + hour * 3600 + (minute - offset) * 60 + second;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn line(partial: bool, text: &[u8]) -> String {
        let mut out = Vec::new();
        encode(&mut out, Stream::Stderr, 1_700_000_000_120_000_000, partial, text).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_looks_like_dockers() {
        assert_eq!(
            line(false, b"hello <b>\t\"x\"\\ \r"),
            "{\"log\":\"hello \\u003cb\\u003e\\u0009\\\"x\\\"\\\\ \\r\\n\",\"stream\":\"stderr\",\
             \"time\":\"2023-11-14T22:13:20.12Z\"}\n"
        );
        assert_eq!(
            line(true, "ä\u{2028}".as_bytes()),
            "{\"log\":\"ä\\u2028\",\"stream\":\"stderr\",\"time\":\"2023-11-14T22:13:20.12Z\"}\n"
        );
        assert!(line(true, b"a\xffb").contains("a\\ufffdb"));
    }

    #[test]
    fn times_have_gos_form() {
        let text = |time| {
            let mut out = Vec::new();
            write_time(&mut out, time).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
        assert_eq!(text(951_782_400_000_000_001), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999999999Z");
    }

    #[cfg(feature = "host")]
    proptest! {
        #[test]
        fn every_time_comes_back(time: i64) {
            let mut out = Vec::new();
            write_time(&mut out, time).unwrap();
            prop_assert_eq!(parse_time(std::str::from_utf8(&out).unwrap()), Some(time));
        }

        #[test]
        fn parsing_a_time_never_panics(text: String) {
            parse_time(&text);
        }

        #[test]
        fn every_text_comes_back(text: String) {
            let value: serde_json::Value = serde_json::from_str(&line(true, text.as_bytes())).unwrap();
            prop_assert_eq!(value["log"].as_str().unwrap(), text);
        }
    }
}
