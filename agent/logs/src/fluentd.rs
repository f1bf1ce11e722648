//! fluentd's forward protocol: msgpack, `[tag, [[time, record], …], {options}]`, answered by `{"ack": chunk}` if asked for.

use std::time::Duration;

use rmp::encode as pack;

use crate::link::{Address, Scheme};
use crate::options::Options;
use crate::{Message, Origin, Refused};

pub(crate) const KEYS: &[&str] = &[
    "fluentd-address",
    "fluentd-async",
    "fluentd-async-reconnect-interval",
    "fluentd-buffer-limit",
    "fluentd-max-retries",
    "fluentd-read-timeout",
    "fluentd-request-ack",
    "fluentd-retry-wait",
    "fluentd-sub-second-precision",
    "fluentd-write-timeout",
];

#[derive(Clone, Debug)]
pub struct Fluentd {
    pub(crate) address: Address,
    pub(crate) acknowledged: bool,
    fractions: bool,
    /// Bytes of text in one batch, at most.
    pub(crate) batch: Option<u64>,
    /// Between two attempts.
    pub(crate) wait: Duration,
    /// Attempts before a batch is given up; `None`: never.
    pub(crate) attempts: Option<u32>,
    pub(crate) write_limit: Option<Duration>,
    pub(crate) read_limit: Option<Duration>,
}

impl Fluentd {
    pub(crate) fn parse(options: &Options<'_>) -> Result<Fluentd, Refused> {
        let address = match options.get("fluentd-address").unwrap_or_default() {
            "" => Address::new(Scheme::Tcp, "127.0.0.1:24224"),
            text => {
                let whole = if text.contains("://") {
                    text.to_owned()
                } else {
                    format!("tcp://{text}")
                };
                Address::parse(&whole, 24224, &[Scheme::Tcp, Scheme::PlainTls, Scheme::Unix])
                    .ok_or_else(|| Refused::invalid(format!("invalid fluentd-address ({text})")))?
            }
        };
        // Here the container never waits for the connection; what differs is how long is waited between two attempts.
        let background = options.flag("fluentd-async")?.unwrap_or(false);
        let interval = options
            .duration("fluentd-async-reconnect-interval")?
            .filter(|_| background);
        Ok(Fluentd {
            address,
            acknowledged: options.flag("fluentd-request-ack")?.unwrap_or(false),
            fractions: options.flag("fluentd-sub-second-precision")?.unwrap_or(false),
            batch: options.size("fluentd-buffer-limit", 1024)?,
            wait: interval
                .or(options.duration("fluentd-retry-wait")?)
                .unwrap_or(Duration::from_secs(1)),
            attempts: options.number("fluentd-max-retries")?,
            write_limit: options.duration("fluentd-write-timeout")?,
            read_limit: options.duration("fluentd-read-timeout")?,
        })
    }

    /// Appends `[time, record]` to a batch.
    pub(crate) fn entry(
        &self,
        out: &mut Vec<u8>,
        origin: &Origin,
        extra: &[(String, String)],
        piece: Option<&Piece>,
        message: &Message<'_>,
    ) {
        let fields = [
            ("container_id", &*origin.id),
            ("container_name", &format!("/{}", origin.name)),
            ("source", if message.stderr { "stderr" } else { "stdout" }),
            ("log", &String::from_utf8_lossy(message.text)),
        ];
        let pieces = piece.map(|piece| {
            [
                ("partial_message", "true".to_owned()),
                ("partial_id", piece.id.clone()),
                ("partial_ordinal", piece.ordinal.to_string()),
                ("partial_last", piece.last.to_string()),
            ]
        });
        let seconds = message.time.div_euclid(1_000_000_000);
        // Writing to memory does not fail.
        let _ = pack::write_array_len(out, 2);
        if self.fractions {
            let fraction = message.time.rem_euclid(1_000_000_000) as u32;
            let _ = pack::write_ext_meta(out, 8, 0);
            out.extend_from_slice(&(seconds as u32).to_be_bytes());
            out.extend_from_slice(&fraction.to_be_bytes());
        } else {
            let _ = pack::write_sint(out, seconds);
        }
        let count = fields.len() + extra.len() + pieces.as_ref().map_or(0, |pieces| pieces.len());
        let _ = pack::write_map_len(out, count as u32);
        for (key, value) in fields {
            put(out, key, value);
        }
        for (key, value) in extra {
            put(out, key, value);
        }
        for (key, value) in pieces.iter().flatten() {
            put(out, key, value);
        }
    }

    /// The whole message of a batch.
    pub(crate) fn batch(&self, tag: &str, count: u32, entries: &[u8], chunk: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(entries.len() + tag.len() + 64);
        let _ = pack::write_array_len(&mut out, if self.acknowledged { 3 } else { 2 });
        let _ = pack::write_str(&mut out, tag);
        let _ = pack::write_array_len(&mut out, count);
        out.extend_from_slice(entries);
        if self.acknowledged {
            let _ = pack::write_map_len(&mut out, 1);
            put(&mut out, "chunk", chunk);
        }
        out
    }
}

/// Which piece of a long line a message is.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub id: String,
    pub ordinal: u32,
    pub last: bool,
}

fn put(out: &mut Vec<u8>, key: &str, value: &str) {
    let _ = pack::write_str(out, key);
    let _ = pack::write_str(out, value);
}

/// The answer to a batch: `{"ack": chunk}`. Short, and exactly this; anything else is no answer.
pub(crate) fn answer(chunk: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let _ = pack::write_map_len(&mut out, 1);
    put(&mut out, "ack", chunk);
    out
}
