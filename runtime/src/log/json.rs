//! Docker's `json-file` line: `{"log":"text\n","stream":"stdout","attrs":{"k":"v"},"time":"2024-01-02T03:04:05.6789Z"}`.
//!
//! The escapes are those of Docker's own encoder, so that both files look alike: `<`, `>`, `&` and the two line
//! separators of JavaScript as `\u`, control characters as `\u00xx` except `\n` and `\r`, bytes that are not UTF-8 as
//! `\ufffd`.

use super::record::Stream;
use super::scan::plain;
use std::io::{self, Write};

/// What stands behind the text of every line that was read at one time: `","stream":"stdout","attrs":{…},"time":"…"}`.
/// `attrs` is empty or `"attrs":{…},`.
pub(super) fn trailer(out: &mut Vec<u8>, stream: Stream, time: i64, attrs: &[u8]) -> io::Result<()> {
    out.write_all(b"\",\"stream\":\"")?;
    out.write_all(stream.name().as_bytes())?;
    out.write_all(b"\",")?;
    out.write_all(attrs)?;
    out.write_all(b"\"time\":\"")?;
    write_time(out, time)?;
    out.write_all(b"\"}\n")
}

/// Appends one line for `text` to `out`. A partial piece has no `\n` at the end of its text: that is how Docker's
/// readers know that the next one goes on with the same line.
pub(super) fn encode(out: &mut impl Write, partial: bool, text: &[u8], trailer: &[u8]) -> io::Result<()> {
    out.write_all(b"{\"log\":\"")?;
    match std::str::from_utf8(text) {
        Ok(text) => escape(out, text)?,
        Err(_) => escape_lossy(out, text)?,
    }
    if !partial {
        out.write_all(b"\\n")?;
    }
    out.write_all(trailer)
}

fn escape_lossy(out: &mut impl Write, text: &[u8]) -> io::Result<()> {
    for chunk in text.utf8_chunks() {
        escape(out, chunk.valid())?;
        if !chunk.invalid().is_empty() {
            for _ in chunk.invalid() {
                out.write_all(b"\\ufffd")?;
            }
        }
    }
    Ok(())
}

fn escape(out: &mut impl Write, text: &str) -> io::Result<()> {
    let bytes = text.as_bytes();
    let mut done = 0;
    let mut at = 0;
    while at < bytes.len() {
        at += plain(&bytes[at..]);
        // In these eight is something to be looked at.
        let end = bytes.len().min(at + 8);
        while at < end {
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
    }
    out.write_all(&bytes[done..])
}

const DAY: i64 = 86_400;

/// RFC 3339 in UTC, the fraction without trailing zeros (Go's `RFC3339Nano`).
pub fn write_time(out: &mut impl Write, nanoseconds: i64) -> io::Result<()> {
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
pub fn parse_time(text: &str) -> Option<i64> {
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
        for at in 0..9 {
            let digit = fraction.as_bytes().get(at).filter(|_| at < digits);
            nanoseconds = nanoseconds * 10 + digit.map_or(0, |digit| i64::from(digit - b'0'));
        }
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

/// A line of the file; its text is in the line itself, or was decoded.
#[cfg(feature = "host")]
pub(super) struct Decoded {
    pub stream: Stream,
    pub time: i64,
    pub partial: bool,
    pub plain: Option<std::ops::Range<usize>>,
}

#[cfg(feature = "host")]
const PREFIX: &[u8] = b"{\"log\":\"";

/// Reads a line. One as it is mostly written is taken apart by hand, five times as fast as by a parser of all JSON.
#[cfg(feature = "host")]
pub(super) fn decode(line: &[u8], decoded: &mut Vec<u8>) -> Option<Decoded> {
    quick(line, decoded).or_else(|| thorough(line, decoded))
}

#[cfg(feature = "host")]
fn quick(line: &[u8], decoded: &mut Vec<u8>) -> Option<Decoded> {
    decoded.clear();
    let mut rest = line.strip_prefix(PREFIX)?;
    let mut plain = None;
    loop {
        let at = memchr::memchr2(b'"', b'\\', rest)?;
        let (run, behind) = rest.split_at(at);
        let first = rest.len() == line.len() - PREFIX.len();
        match behind {
            [b'\\', b'n', b'"', tail @ ..] if first => {
                plain = Some((PREFIX.len()..PREFIX.len() + at, false));
                rest = tail;
                break;
            }
            [b'"', tail @ ..] => {
                if first {
                    plain = Some((PREFIX.len()..PREFIX.len() + at, true));
                }
                decoded.extend_from_slice(run);
                rest = tail;
                break;
            }
            [b'\\', code, tail @ ..] => {
                decoded.extend_from_slice(run);
                rest = tail;
                match code {
                    b'n' => decoded.push(b'\n'),
                    b'r' => decoded.push(b'\r'),
                    b't' => decoded.push(b'\t'),
                    b'b' => decoded.push(8),
                    b'f' => decoded.push(12),
                    b'"' | b'\\' | b'/' => decoded.push(*code),
                    b'u' => {
                        let (digits, tail) = rest.split_at_checked(4)?;
                        let code = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
                        // Half of a pair: for the parser.
                        let letter = char::from_u32(code)?;
                        decoded.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                        rest = tail;
                    }
                    _ => return None,
                }
            }
            _ => return None,
        }
    }
    let rest = rest.strip_prefix(b",\"stream\":\"std")?;
    let (stream, rest) = match rest.split_at_checked(3)? {
        (b"out", rest) => (Stream::Stdout, rest),
        (b"err", rest) => (Stream::Stderr, rest),
        _ => return None,
    };
    let time = rest.strip_prefix(b"\",\"time\":\"")?.strip_suffix(b"\"}")?;
    let time = parse_time(std::str::from_utf8(time).ok()?)?;
    let (plain, partial) = match plain {
        Some((range, partial)) => (Some(range), partial),
        None => (None, decoded.pop_if(|last| *last == b'\n').is_none()),
    };
    Some(Decoded {
        stream,
        time,
        partial,
        plain,
    })
}

#[cfg(feature = "host")]
fn thorough(line: &[u8], decoded: &mut Vec<u8>) -> Option<Decoded> {
    use std::borrow::Cow;
    /// `attrs` of Docker's files is passed over: the engine knows them.
    #[derive(serde::Deserialize)]
    struct Line<'a> {
        #[serde(borrow, default)]
        log: Cow<'a, str>,
        #[serde(borrow)]
        stream: Cow<'a, str>,
        #[serde(borrow)]
        time: Cow<'a, str>,
    }
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let stream = match &*line.stream {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        _ => return None,
    };
    let time = parse_time(&line.time)?;
    decoded.clear();
    decoded.extend_from_slice(line.log.as_bytes());
    let partial = decoded.pop_if(|last| *last == b'\n').is_none();
    Some(Decoded {
        stream,
        time,
        partial,
        plain: None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn line(partial: bool, text: &[u8]) -> String {
        let mut out = Vec::new();
        let mut behind = Vec::new();
        trailer(&mut behind, Stream::Stderr, 1_700_000_000_120_000_000, b"").unwrap();
        encode(&mut out, partial, text, &behind).unwrap();
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
        fn both_ways_of_decoding_agree(text: String, cut in any::<prop::sample::Index>(), partial: bool) {
            let line = line(partial, text.as_bytes());
            let whole = line.trim_end().as_bytes();
            for line in [whole, &whole[..cut.index(whole.len())]] {
                let (mut first, mut second) = (Vec::new(), Vec::new());
                let (quick, thorough) = (quick(line, &mut first), thorough(line, &mut second));
                prop_assert_eq!(quick.is_some(), thorough.is_some());
                if let (Some(quick), Some(thorough)) = (quick, thorough) {
                    let text = quick.plain.map_or(&first[..], |range| &line[range]);
                    prop_assert_eq!((text, quick.time, quick.partial), (&second[..], thorough.time, thorough.partial));
                }
            }
        }

        #[test]
        fn every_text_comes_back(text: String) {
            let value: serde_json::Value = serde_json::from_str(&line(true, text.as_bytes())).unwrap();
            prop_assert_eq!(value["log"].as_str().unwrap(), text);
        }
    }
}
