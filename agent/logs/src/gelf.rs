//! GELF 1.1: a JSON object per message, over UDP compressed and in chunks, over TCP ended by a zero.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Map, Value};

use crate::link::{Address, Scheme};
use crate::options::Options;
use crate::{Message, Origin, Refused};

pub(crate) const KEYS: &[&str] = &[
    "gelf-address",
    "gelf-compression-type",
    "gelf-compression-level",
    "gelf-tcp-max-reconnect",
    "gelf-tcp-reconnect-delay",
];

/// Bytes of a datagram, as Docker's driver cuts them for an Ethernet frame.
const DATAGRAM: usize = 1420;
const CHUNK_HEADER: usize = 12;
/// The format's limit.
const MOST_CHUNKS: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zlib,
}

#[derive(Clone, Debug)]
pub struct Gelf {
    pub(crate) address: Address,
    packing: Packing,
    level: Compression,
    /// Between two attempts to connect.
    pub(crate) delay: Duration,
    /// Attempts before a batch is given up.
    pub(crate) attempts: u32,
}

impl Gelf {
    pub(crate) fn parse(options: &Options<'_>) -> Result<Gelf, Refused> {
        let text = options.get("gelf-address").unwrap_or_default();
        if text.is_empty() {
            return Err(Refused::invalid("gelf-address is a required parameter"));
        }
        let address = Address::parse(text, 12201, &[Scheme::Udp, Scheme::Tcp]).ok_or_else(|| {
            Refused::invalid("gelf: endpoint needs to be UDP or TCP: gelf-address should be in form proto://address")
        })?;
        let udp = address.scheme == Scheme::Udp;
        let other = if udp {
            ["gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"]
        } else {
            ["gelf-compression-type", "gelf-compression-level"]
        };
        if let Some(key) = other.iter().find(|key| options.get(key).is_some()) {
            let kind = if udp { "TCP" } else { "UDP" };
            return Err(Refused::invalid(format!("{key} option is only supported with {kind}")));
        }
        let packing = options.parsed("gelf-compression-type", |text| match text {
            "gzip" => Some(Packing::Gzip),
            "zlib" => Some(Packing::Zlib),
            "none" => Some(Packing::None),
            _ => None,
        })?;
        let level = options.parsed("gelf-compression-level", |text| {
            text.parse::<i32>().ok().filter(|level| (-1..=9).contains(level))
        })?;
        Ok(Gelf {
            address,
            packing: if udp {
                packing.unwrap_or(Packing::Gzip)
            } else {
                Packing::None
            },
            level: match level {
                None => Compression::fast(),
                Some(level) => u32::try_from(level).map_or(Compression::default(), Compression::new),
            },
            delay: Duration::from_secs(options.number("gelf-tcp-reconnect-delay")?.unwrap_or(1).into()),
            attempts: options.number("gelf-tcp-max-reconnect")?.unwrap_or(3),
        })
    }

    /// The object without what differs from message to message.
    pub(crate) fn common(origin: &Origin, tag: &str, extra: &[(String, String)]) -> Map<String, Value> {
        let mut object = Map::new();
        let mut put = |key: &str, value: &str| {
            object.insert(key.to_owned(), Value::String(value.to_owned()));
        };
        put("version", "1.1");
        put("host", &origin.hostname);
        put("_command", &origin.command);
        put("_container_id", &origin.id);
        put("_container_name", &origin.name);
        put("_created", &crate::link::rfc3339(origin.created));
        put("_image_id", &origin.image_id);
        put("_image_name", &origin.image);
        put("_tag", tag);
        for (key, value) in extra {
            // `_id` is the receiver's own.
            if key != "id" {
                put(&format!("_{key}"), value);
            }
        }
        object
    }

    pub(crate) fn encode(&self, common: &mut Map<String, Value>, message: &Message<'_>) -> Vec<u8> {
        common.insert("short_message".into(), String::from_utf8_lossy(message.text).into());
        // Seconds with a fraction: milliseconds, for which a double has room.
        let milliseconds = message.time.div_euclid(1_000_000);
        common.insert("timestamp".into(), (milliseconds as f64 / 1000.0).into());
        common.insert("level".into(), (if message.stderr { 3 } else { 6 }).into());
        serde_json::to_vec(common).unwrap_or_default()
    }

    /// The datagrams of a message; none for one that is too long for the format.
    pub(crate) fn datagrams(&self, text: &[u8]) -> Vec<Vec<u8>> {
        let packed = match self.packing {
            Packing::None => Ok(text.to_vec()),
            Packing::Gzip => pack(GzEncoder::new(Vec::new(), self.level), text, GzEncoder::finish),
            Packing::Zlib => pack(ZlibEncoder::new(Vec::new(), self.level), text, ZlibEncoder::finish),
        };
        let packed = packed.unwrap_or_default();
        if packed.len() <= DATAGRAM {
            return vec![packed];
        }
        let pieces = packed.chunks(DATAGRAM - CHUNK_HEADER);
        let count = pieces.len();
        if count > MOST_CHUNKS {
            return Vec::new();
        }
        let id: [u8; 8] = rand::random();
        let chunk = |(index, piece): (usize, &[u8])| {
            let head: &[&[u8]] = &[&[0x1e, 0x0f], &id, &[index as u8, count as u8], piece];
            head.concat()
        };
        pieces.enumerate().map(chunk).collect()
    }
}

fn pack<W: Write>(mut encoder: W, text: &[u8], finish: fn(W) -> std::io::Result<Vec<u8>>) -> std::io::Result<Vec<u8>> {
    encoder.write_all(text)?;
    finish(encoder)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn gelf(packing: &str) -> Gelf {
        let all = BTreeMap::from([
            ("gelf-address".to_owned(), "udp://h:1".to_owned()),
            ("gelf-compression-type".to_owned(), packing.to_owned()),
        ]);
        Gelf::parse(&Options {
            driver: "gelf",
            all: &all,
        })
        .unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn chunks_join_to_the_message(text in proptest::collection::vec(any::<u8>(), 0..20_000)) {
            let all = gelf("none").datagrams(&text);
            prop_assert!(all.iter().all(|one| one.len() <= DATAGRAM));
            let joined: Vec<u8> = match &all[..] {
                [whole] => whole.clone(),
                chunks => {
                    for (index, chunk) in chunks.iter().enumerate() {
                        prop_assert_eq!(&chunk[..2], &[0x1e, 0x0f]);
                        prop_assert_eq!(&chunk[2..10], &chunks[0][2..10]);
                        prop_assert_eq!(&chunk[10..12], &[index as u8, chunks.len() as u8]);
                    }
                    chunks.iter().flat_map(|chunk| chunk[12..].to_vec()).collect()
                }
            };
            prop_assert_eq!(joined, text);
        }
    }

    #[test]
    fn an_object_has_what_the_format_asks_for() {
        let origin = Origin {
            id: "abc".into(),
            hostname: "box".into(),
            ..Origin::default()
        };
        let mut common = Gelf::common(&origin, "t", &[("colour".into(), "blue".into())]);
        let message = Message {
            time: 1_700_000_000_123_456_789,
            stderr: true,
            partial: false,
            text: b"hi \xff",
        };
        let text = gelf("gzip").encode(&mut common, &message);
        let value: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["version"], "1.1");
        assert_eq!(value["host"], "box");
        assert_eq!(value["short_message"], "hi \u{fffd}");
        assert_eq!(value["timestamp"], 1_700_000_000.123);
        assert_eq!((&value["level"], &value["_colour"]), (&3.into(), &"blue".into()));
    }
}
