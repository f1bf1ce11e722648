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
            _ => Err(format!(
                "invalid detach keys ({text}): {key:?} is neither a character nor ctrl-<character>"
            )),
        })
        .collect()
}

/// Keeps the sequence out of what is typed. Bytes that may be its beginning are held back until the next one decides.
/// The daemon is told the keys as well; finding them here ends the session at once even when the container no longer
/// reads its input.
#[derive(Debug)]
pub struct Watch {
    keys: Vec<u8>,
    matched: usize,
}

impl Watch {
    pub fn new(keys: Vec<u8>) -> Watch {
        Watch { keys, matched: 0 }
    }

    /// What of these bytes is input, and whether the sequence was completed in them (the rest is dropped then).
    pub fn feed(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut input = Vec::with_capacity(bytes.len() + self.matched);
        for &byte in bytes {
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (input, true);
                }
                continue;
            }
            input.extend_from_slice(&self.keys[..self.matched]);
            // The byte that broke the sequence may begin it anew.
            self.matched = usize::from(self.keys.first() == Some(&byte) && self.keys.len() > 1);
            if self.matched == 0 {
                input.push(byte);
            }
        }
        (input, false)
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
    fn the_sequence_is_kept_out_and_found_across_reads() {
        let mut watch = Watch::new(vec![16, 17]);
        assert_eq!(watch.feed(b"abc\x10"), (b"abc".to_vec(), false));
        assert_eq!(watch.feed(b"\x10"), (b"\x10".to_vec(), false));
        assert_eq!(watch.feed(b"\x11zz"), (b"".to_vec(), true));
        assert_eq!(watch.feed(b"\x10x\x11"), (b"\x10x\x11".to_vec(), false));
        assert_eq!(Watch::new(vec![b'q']).feed(b"abq"), (b"ab".to_vec(), true));
    }
}
