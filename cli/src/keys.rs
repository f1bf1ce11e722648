//! Detach keys: `ctrl-p,ctrl-q` → the bytes a terminal sends for them.

/// The sequence when nothing else is configured.
pub const DEFAULT: &str = "ctrl-p,ctrl-q";

/// # Errors
/// A part is neither one character nor `ctrl-` and one of `a`–`z`, `@`, `[`, `\`, `]`, `^`, `_`.
pub fn parse(text: &str) -> Result<Vec<u8>, String> {
    text.split(',')
        .map(|key| match key.strip_prefix("ctrl-").map(str::as_bytes) {
            Some([letter @ b'a'..=b'z']) => Ok(letter - b'a' + 1),
            Some(b"@") => Ok(0),
            Some([sign @ (b'[' | b'\\' | b']' | b'^' | b'_')]) => Ok(sign - b'[' + 27),
            None if key.len() == 1 => Ok(key.as_bytes()[0]),
            _ => Err(format!("invalid detach keys {text:?}: {key:?} is neither a character nor ctrl-<character>")),
        })
        .collect()
}

/// Watches typed bytes for the sequence. The daemon would find it too; watching here as well ends the session at once
/// and keeps working when the container no longer reads its input.
#[derive(Debug)]
pub struct Watch {
    keys: Vec<u8>,
    matched: usize,
}

impl Watch {
    pub fn new(keys: Vec<u8>) -> Watch {
        Watch { keys, matched: 0 }
    }

    /// Whether the sequence ends within these bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            // After a miss the same byte may begin the sequence anew.
            self.matched = match self.keys.get(self.matched) {
                Some(key) if key == byte => self.matched + 1,
                _ => usize::from(self.keys.first() == Some(byte)),
            };
            if self.matched > 0 && self.matched == self.keys.len() {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_parse() {
        assert_eq!(parse("ctrl-p,ctrl-q").unwrap(), [16, 17]);
        assert_eq!(parse("ctrl-@,ctrl-[,ctrl-_,a").unwrap(), [0, 27, 31, b'a']);
        for bad in ["", "ctrl-", "ctrl-A", "ctrl-pp", "ab", "a,,b", "é"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_sequence_is_found_across_reads() {
        let mut watch = Watch::new(vec![16, 17]);
        assert!(!watch.feed(b"abc\x10"));
        assert!(!watch.feed(b"\x10"));
        assert!(watch.feed(b"\x11"));
        assert!(!watch.feed(b"\x10x\x11"));
    }
}
