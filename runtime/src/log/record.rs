//! The `local` record format.
//!
//! ```text
//! ┌────────┬───────┬────────┬───────┬──────────┬─────────┬────────┐
//! │ length │ magic │ stream │ flags │ time     │ bytes…  │ length │
//! │ u32    │ u8    │ u8     │ u16   │ i64 ns   │         │ u32    │
//! └────────┴───────┴────────┴───────┴──────────┴─────────┴────────┘
//! ```
//!
//! All numbers are little endian; `length` counts the bytes of the text only. Standing in front *and* behind, it lets
//! a reader walk forwards and backwards without an index, and it shows a record that a crash cut short: the two
//! do not agree.
//!
//! A record is what one read of the shim brought, as it came: whole lines with their line ends (`LINES`), which have one
//! time because they were read at one time; or a piece of a line without its end (`PARTIAL`). So a record costs the
//! shim one system call and no look at the lines, and a hundred bytes of output cost a hundred bytes of disk.

use std::ops::Range;

/// What a log line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Stream {
    /// File descriptor 1 of the container (or its terminal).
    Stdout = 1,
    /// File descriptor 2.
    Stderr = 2,
}

impl Stream {
    /// Docker's name, as in `json-file`.
    pub const fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }

    const fn from_byte(byte: u8) -> Option<Stream> {
        match byte {
            1 => Some(Stream::Stdout),
            2 => Some(Stream::Stderr),
            _ => None,
        }
    }
}

/// The longest piece of a line in one record. Docker's figure: longer lines become several records, all but the
/// last flagged partial.
pub const MAX_LINE: usize = 16 * 1024;

/// The most text in one record: the shim's buffer.
pub const MAX_BLOCK: usize = 64 * 1024;

pub(super) const HEAD: usize = 16;
pub(super) const TAIL: usize = 4;
const MAGIC: u8 = 0xec;
const PARTIAL: u16 = 1;
const LINES: u16 = 2;

/// What a record's text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Whole lines, each with its `\n`.
    Lines,
    /// A line without its `\n`.
    Line,
    /// A piece of a line: it goes on in the next record of this stream, or ended without `\n`.
    Piece,
}

/// The fixed part in front of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub length: usize,
    pub stream: Stream,
    pub kind: Kind,
    /// Nanoseconds since 1970.
    pub time: i64,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEAD] {
        let mut out = [0; HEAD];
        out[..4].copy_from_slice(&(self.length as u32).to_le_bytes());
        out[4] = MAGIC;
        out[5] = self.stream as u8;
        let flags = match self.kind {
            Kind::Lines => LINES,
            Kind::Line => 0,
            Kind::Piece => PARTIAL,
        };
        out[6..8].copy_from_slice(&flags.to_le_bytes());
        out[8..].copy_from_slice(&self.time.to_le_bytes());
        out
    }

    /// None when the bytes cannot be the start of a record.
    pub(super) fn decode(bytes: &[u8]) -> Option<Header> {
        let bytes: &[u8; HEAD] = bytes.get(..HEAD)?.try_into().ok()?;
        let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        let kind = match u16::from_le_bytes([bytes[6], bytes[7]]) {
            LINES => Kind::Lines,
            0 => Kind::Line,
            PARTIAL => Kind::Piece,
            _ => return None,
        };
        if length > MAX_BLOCK || bytes[4] != MAGIC {
            return None;
        }
        Some(Header {
            length,
            stream: Stream::from_byte(bytes[5])?,
            kind,
            time: i64::from_le_bytes(bytes[8..].try_into().ok()?),
        })
    }

    /// Bytes of the whole record in the file.
    pub(super) fn record_length(&self) -> usize {
        HEAD + self.length + TAIL
    }
}

/// What stands at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A whole record; the range is its text.
    Record(Header, Range<usize>),
    /// The record goes on past the end of the buffer.
    Short,
    /// No record can start like this.
    Broken,
}

pub(super) fn parse(bytes: &[u8]) -> Parsed {
    if bytes.len() < HEAD {
        return Parsed::Short;
    }
    let Some(header) = Header::decode(bytes) else {
        return Parsed::Broken;
    };
    if bytes.len() < header.record_length() {
        return Parsed::Short;
    }
    let end = HEAD + header.length;
    if bytes[end..end + TAIL] != (header.length as u32).to_le_bytes() {
        return Parsed::Broken;
    }
    Parsed::Record(header, HEAD..end)
}
