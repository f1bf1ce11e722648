//! Detach keys: the sequence that takes a client off a terminal and leaves the process alone.

use crate::error::{ApiError, ApiResult};

/// ctrl-p ctrl-q.
const DEFAULT: [u8; 2] = [16, 17];

/// Reads `ctrl-p,ctrl-q`, `a`, `ctrl-@,x`; nothing means the default.
pub fn parse(text: &str) -> ApiResult<Vec<u8>> {
    if text.is_empty() {
        return Ok(DEFAULT.to_vec());
    }
    text.split(',').map(|key| code(key).ok_or_else(|| bad(text))).collect()
}

fn bad(text: &str) -> ApiError {
    ApiError::bad(format!("Invalid detach keys ({text}) provided"))
}

fn code(key: &str) -> Option<u8> {
    if let &[byte] = key.as_bytes() {
        return Some(byte);
    }
    let &[control] = key.strip_prefix("ctrl-")?.as_bytes() else {
        return None;
    };
    match control {
        b'a'..=b'z' => Some(control - b'a' + 1),
        b'@' => Some(0),
        b'[' => Some(27),
        b'\\' => Some(28),
        b']' => Some(29),
        b'^' => Some(30),
        b'_' => Some(31),
        _ => None,
    }
}

/// Watches what is typed. Bytes that may be the beginning of the sequence are held back until that is decided.
#[derive(Clone, Debug)]
pub struct Scanner {
    keys: Vec<u8>,
    matched: usize,
}

/// What became of some typed bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// To be passed on; may be empty while a sequence is under way.
    Pass(Vec<u8>),
    /// The sequence is complete; these bytes came before it.
    Detach(Vec<u8>),
}

impl Scanner {
    pub fn new(keys: Vec<u8>) -> Scanner {
        Scanner { keys, matched: 0 }
    }

    pub fn scan(&mut self, typed: &[u8]) -> Scanned {
        let mut pass = Vec::with_capacity(typed.len() + self.matched);
        for &byte in typed {
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return Scanned::Detach(pass);
                }
                continue;
            }
            // Not the sequence after all: what was held back was meant for the program. The shortest fall-back that is
            // still a beginning of the sequence stays held, as a second ctrl-p does in ctrl-p ctrl-p ctrl-q.
            let mut held: Vec<u8> = self.keys[..self.matched].to_vec();
            held.push(byte);
            let mut keep = self.matched.min(held.len() - 1);
            while keep > 0 && held[held.len() - keep..] != self.keys[..keep] {
                keep -= 1;
            }
            pass.extend_from_slice(&held[..held.len() - keep]);
            self.matched = keep;
        }
        Scanned::Pass(pass)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn key_names() {
        assert_eq!(parse("").unwrap(), [16, 17]);
        assert_eq!(parse("ctrl-p,ctrl-q").unwrap(), [16, 17]);
        assert_eq!(parse("ctrl-a,x").unwrap(), [1, b'x']);
        assert_eq!(
            parse("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_").unwrap(),
            [0, 27, 28, 29, 30, 31]
        );
        for bad in ["ctrl-", "ctrl-1", "ab", "ctrl-p,", ",", "ctrl-pp"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sequences_are_found_across_reads() {
        let mut scanner = Scanner::new(vec![16, 17]);
        assert_eq!(scanner.scan(b"ab\x10"), Scanned::Pass(b"ab".to_vec()));
        assert_eq!(scanner.scan(b"c"), Scanned::Pass(b"\x10c".to_vec()));
        assert_eq!(scanner.scan(b"\x10\x10"), Scanned::Pass(b"\x10".to_vec()));
        assert_eq!(scanner.scan(b"\x11x"), Scanned::Detach(Vec::new()));
        assert_eq!(scanner.scan(b"d\x10\x11"), Scanned::Detach(b"d".to_vec()));
    }

    proptest! {
        /// Against a model: everything that came before the first occurrence of the keys, however it was cut up.
        #[test]
        fn nothing_is_lost_and_nothing_is_missed(
            typed in proptest::collection::vec(proptest::sample::select(vec![b'a', b'b']), 0..40),
            keys in proptest::collection::vec(proptest::sample::select(vec![b'a', b'b']), 1..4),
            cut in 1usize..7,
        ) {
            let found = typed.windows(keys.len()).position(|window| window == keys);
            let mut scanner = Scanner::new(keys.clone());
            let (mut passed, mut detached) = (Vec::new(), false);
            for chunk in typed.chunks(cut) {
                match scanner.scan(chunk) {
                    Scanned::Pass(bytes) => passed.extend(bytes),
                    Scanned::Detach(bytes) => {
                        passed.extend(bytes);
                        detached = true;
                        break;
                    }
                }
            }
            prop_assert_eq!(detached, found.is_some());
            match found {
                Some(at) => prop_assert_eq!(&passed, &typed[..at]),
                None => {
                    prop_assert!(typed.starts_with(&passed));
                    prop_assert!(typed.len() - passed.len() < keys.len());
                }
            }
        }
    }
}
