//! journald's native protocol: a datagram of `NAME=value` lines, or `NAME`, length and bytes where a value has line ends.

use crate::{Message, Origin};

/// Where journald listens.
pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";

/// The fields that all messages of a container have.
pub(crate) fn common(origin: &Origin, tag: &str, extra: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in [
        ("CONTAINER_ID", origin.short_id()),
        ("CONTAINER_ID_FULL", &*origin.id),
        ("CONTAINER_NAME", &*origin.name),
        ("CONTAINER_TAG", tag),
        ("IMAGE_NAME", &*origin.image),
        ("SYSLOG_IDENTIFIER", tag),
    ] {
        field(&mut out, name, value.as_bytes());
    }
    for (key, value) in extra {
        field(&mut out, &name(key), value.as_bytes());
    }
    out
}

pub(crate) fn encode(common: &[u8], message: &Message<'_>) -> Vec<u8> {
    let mut out = common.to_vec();
    field(&mut out, "PRIORITY", if message.stderr { b"3" } else { b"6" });
    field(
        &mut out,
        "SYSLOG_TIMESTAMP",
        crate::link::rfc3339(message.time).as_bytes(),
    );
    if message.partial {
        field(&mut out, "CONTAINER_PARTIAL_MESSAGE", b"true");
    }
    field(&mut out, "MESSAGE", message.text);
    out
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// A name that journald takes: capitals, digits and underscores, none of the latter in front (those are its own).
fn name(text: &str) -> String {
    let letter = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    let name: String = text.chars().map(letter).collect();
    match name.trim_start_matches('_') {
        "" => "X".to_owned(),
        rest if rest.starts_with(|c: char| c.is_ascii_digit()) => format!("X_{rest}"),
        rest => rest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_cannot_be_smuggled_in() {
        let origin = Origin::default();
        let common = common(&origin, "t", &[("_my.key".into(), "a\nPRIORITY=0".into())]);
        let text = String::from_utf8_lossy(&common).into_owned();
        assert!(text.contains("MY_KEY\n\u{c}\0\0\0\0\0\0\0a\nPRIORITY=0\n"), "{text:?}");
        assert!(text.contains("SYSLOG_IDENTIFIER=t\n"));
    }
}
