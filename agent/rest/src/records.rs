//! Streams of JSON records: the media types there are, which of them a client wants, and how a record is written.

use http::{HeaderMap, header};
use serde::Serialize;

pub const JSON_LINES: &str = "application/jsonl";
pub const ND_JSON: &str = "application/x-ndjson";
pub const JSON_SEQ: &str = "application/json-seq";

/// In dockerd's order: of two that a client likes equally, the first.
const OFFERED: [&str; 3] = [JSON_LINES, ND_JSON, JSON_SEQ];

/// One media range of `Accept`, and how much it is wanted.
struct Range<'a> {
    media: &'a str,
    quality: f32,
}

impl Range<'_> {
    fn is(&self, media: &str) -> bool {
        self.media.eq_ignore_ascii_case(media)
    }

    /// More is more specific; 0 does not fit.
    fn fit(&self, media: &str) -> u8 {
        if self.is(media) {
            3
        } else if self.is("application/*") {
            2
        } else {
            u8::from(self.is("*/*"))
        }
    }
}

fn ranges(headers: &HeaderMap) -> impl Iterator<Item = Range<'_>> {
    let values = headers.get_all(header::ACCEPT).iter();
    let parts = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let ranges = parts.map(|part| {
        let mut words = part.split(';').map(str::trim);
        let media = words.next().unwrap_or_default();
        let quality = words.find_map(|word| word.strip_prefix("q="));
        let quality = quality.map_or(Some(1.0), |text| text.parse().ok());
        Range {
            media,
            quality: quality.unwrap_or(0.0),
        }
    });
    ranges.filter(|range| range.quality > 0.0)
}

/// What fits best: by the client's wish, then by how exactly it was named, then by our order.
fn best(headers: &HeaderMap, least_fit: u8) -> Option<&'static str> {
    let mut best: Option<(&'static str, f32, u8)> = None;
    for offer in OFFERED {
        for range in ranges(headers) {
            let (quality, fit) = (range.quality, range.fit(offer));
            let better = best.is_none_or(|(_, q, f)| quality > q || (quality >= q && fit > f));
            if fit >= least_fit && better {
                best = Some((offer, quality, fit));
            }
        }
    }
    best.map(|(offer, ..)| offer)
}

/// The type of a stream of records that the client names in `Accept`. A wildcard names nothing.
pub fn named(headers: &HeaderMap) -> Option<&'static str> {
    best(headers, 3)
}

/// The type for a client that wants records anyway: what it names or what its wildcards leave to us.
pub fn negotiated(headers: &HeaderMap) -> &'static str {
    best(headers, 1).unwrap_or(ND_JSON)
}

/// Appends `record` to a stream of this type.
pub fn write<T: Serialize>(media_type: &str, record: &T, out: &mut Vec<u8>) {
    if media_type == JSON_SEQ {
        out.push(0x1e); // RFC 7464's record separator
    }
    // A struct of strings and numbers always serialises.
    let _ = serde_json::to_writer(&mut *out, record);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(header::ACCEPT, accept.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_type_has_to_be_named() {
        for (accept, expected) in [
            ("", None),
            ("*/*", None),
            ("application/*", None),
            ("application/json", None),
            ("application/x-ndjson", Some(ND_JSON)),
            ("Application/X-NDJSON", Some(ND_JSON)),
            ("text/plain, application/json-seq;q=1", Some(JSON_SEQ)),
            ("application/json-seq, application/x-ndjson", Some(ND_JSON)),
            ("application/x-ndjson;q=0.5, application/json-seq", Some(JSON_SEQ)),
            ("application/x-ndjson; q=0", None),
            ("application/x-ndjson;q=x", None),
        ] {
            assert_eq!(named(&headers(accept)), expected, "{accept}");
        }
    }

    #[test]
    fn wildcards_leave_the_choice_to_us() {
        for (accept, expected) in [
            ("", ND_JSON),
            ("text/html", ND_JSON),
            ("*/*", JSON_LINES),
            ("application/*;q=0.2", JSON_LINES),
            ("application/json-seq", JSON_SEQ),
            ("*/*, application/x-ndjson", ND_JSON),
            ("*/*, application/x-ndjson;q=0.9", JSON_LINES),
        ] {
            assert_eq!(negotiated(&headers(accept)), expected, "{accept}");
        }
    }

    #[test]
    fn only_a_sequence_has_separators() {
        let written = |media| {
            let mut out = Vec::new();
            write(media, &1, &mut out);
            out
        };
        assert_eq!(written(JSON_LINES), b"1\n");
        assert_eq!(written(JSON_SEQ), b"\x1e1\n");
    }
}
