//! Looking at eight bytes at a time. The shim is compiled for its size, where the compiler makes no wide instructions of a
//! loop over bytes; logs are the only thing of it for which that matters.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The high bit of each byte that is zero; perhaps of bytes above one as well.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH
}

/// The same for bytes that are `byte`.
const fn equal(word: u64, byte: u8) -> u64 {
    zeros(word ^ (ONES * byte as u64))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let chunk: &[u8; 8] = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*chunk))
}

/// Place of the first newline.
pub(super) fn newline(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(word) = word(bytes, at) {
        let found = equal(word, b'\n');
        if found != 0 {
            // The lowest of the bits is always right.
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = bytes[at..].iter().position(|&byte| byte == b'\n');
    rest.map(|found| at + found)
}

/// How many bytes at the front, in whole eights, stand in JSON as they are: ASCII without control characters, quotation
/// marks, `\`, `<`, `>`, `&`.
pub(super) fn plain(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(word) = word(bytes, at) {
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        // Two letters each that differ in one bit.
        let angles = equal(word & !(ONES * (b'<' ^ b'>') as u64), b'<' & b'>');
        let quotes = equal(word & !(ONES * (b'"' ^ b'&') as u64), b'"' & b'&');
        if (word | control) & HIGH | angles | quotes | equal(word, b'\\') != 0 {
            break;
        }
        at += 8;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_plain(byte: u8) -> bool {
        (0x20..0x80).contains(&byte) && !b"\"\\<>&".contains(&byte)
    }

    #[test]
    fn every_byte_at_every_place_is_told_from_the_others() {
        for byte in 0..=u8::MAX {
            for place in 0..8 {
                let mut bytes = [b'a'; 24];
                bytes[8 + place] = byte;
                assert_eq!(plain(&bytes), if is_plain(byte) { 24 } else { 8 }, "{byte} at {place}");
                assert_eq!(
                    newline(&bytes),
                    (byte == b'\n').then_some(8 + place),
                    "{byte} at {place}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn newlines_are_found_where_they_are(bytes in prop::collection::vec(prop::sample::select(vec![0, 9, 10, 11, 138, 255]), 0..40)) {
            prop_assert_eq!(newline(&bytes), bytes.iter().position(|&byte| byte == b'\n'));
        }

        #[test]
        fn what_is_plain_is(bytes: Vec<u8>, text in "[ -~]{0,60}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                let length = plain(bytes);
                prop_assert!(bytes[..length].iter().all(|&byte| is_plain(byte)));
                let next = bytes.get(length..length + 8);
                prop_assert!(next.is_none_or(|next| !next.iter().all(|&byte| is_plain(byte))));
            }
        }
    }
}
