//! One 512-byte header block.

use super::BLOCK;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Char,
    BlockDevice,
    Directory,
    Fifo,
}

/// A header block. Fields are read on demand.
#[derive(Clone, Copy)]
pub(crate) struct Block(pub [u8; BLOCK]);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Before POSIX: no magic.
    V7,
    Ustar,
    Gnu,
}

impl Block {
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|b| *b == 0)
    }

    /// The sum over the block with its own field taken as spaces; old writers summed signed bytes.
    pub fn checksum_fits(&self) -> bool {
        let Some(stored) = number(&self.0[148..156]) else {
            return false;
        };
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (at, byte) in self.0.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte as i8);
        }
        stored == unsigned || stored == signed
    }

    pub fn format(&self) -> Format {
        match &self.0[257..265] {
            b"ustar  \0" => Format::Gnu,
            magic if magic.starts_with(b"ustar\0") => Format::Ustar,
            _ => Format::V7,
        }
    }

    pub fn flag(&self) -> u8 {
        self.0[156]
    }

    /// Name, with the prefix field where the format has one.
    pub fn name(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        if self.format() != Format::Ustar {
            return name.to_vec();
        }
        // "star" archives keep times in the last 24 bytes of the prefix field and say so at the very end.
        let end = if &self.0[508..512] == b"tar\0" {
            345 + 131
        } else {
            345 + 155
        };
        let prefix = text(&self.0[345..end]);
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub fn link(&self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }

    pub fn mode(&self) -> Option<i64> {
        number(&self.0[100..108])
    }

    pub fn uid(&self) -> Option<i64> {
        number(&self.0[108..116])
    }

    pub fn gid(&self) -> Option<i64> {
        number(&self.0[116..124])
    }

    pub fn size(&self) -> Option<i64> {
        number(&self.0[124..136])
    }

    pub fn mtime(&self) -> Option<i64> {
        number(&self.0[136..148])
    }

    pub fn device(&self) -> Option<(i64, i64)> {
        if self.format() == Format::V7 {
            return Some((0, 0));
        }
        Some((number(&self.0[329..337])?, number(&self.0[337..345])?))
    }

    /// GNU old sparse: up to four (offset, length), whether extension blocks follow, the real size.
    pub fn gnu_sparse(&self) -> Option<(Vec<(u64, u64)>, bool, u64)> {
        let map = sparse_pairs(&self.0[386..482])?;
        Some((map, self.0[482] != 0, u64::try_from(number(&self.0[483..495])?).ok()?))
    }

    /// A GNU sparse extension block: up to 21 pairs, whether another one follows.
    pub fn gnu_sparse_extension(&self) -> Option<(Vec<(u64, u64)>, bool)> {
        Some((sparse_pairs(&self.0[..504])?, self.0[504] != 0))
    }
}

/// Whether a file that starts so is a tar archive: a header, or the end mark of an empty one.
pub(crate) fn is_header(start: &[u8]) -> bool {
    let Some(block) = start.first_chunk::<BLOCK>() else {
        return false;
    };
    let block = Block(*block);
    block.is_zero() || block.checksum_fits()
}

fn sparse_pairs(bytes: &[u8]) -> Option<Vec<(u64, u64)>> {
    let mut map = Vec::new();
    for pair in bytes.chunks_exact(24) {
        // The first unused pair ends the list.
        if pair[0] == 0 {
            break;
        }
        let offset = u64::try_from(number(&pair[..12])?).ok()?;
        map.push((offset, u64::try_from(number(&pair[12..])?).ok()?));
    }
    Some(map)
}

/// A field up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// Octal text, or base-256 when the first bit is set. An empty field is 0.
pub(crate) fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (at, byte) in field.iter().enumerate() {
            // The marker bit is not part of the number; for negative ones it equals the sign anyway.
            let byte = if at == 0 && !negative { byte & 0x7f } else { *byte };
            // Twelve bytes at most: a start of -1 or 0 shifted by 96 bits still fits.
            value = (value << 8) | i128::from(byte);
        }
        return i64::try_from(value).ok();
    }
    octal(field)
}

/// Octal digits between spaces and NULs.
pub(crate) fn octal(field: &[u8]) -> Option<i64> {
    let pad = |b: &u8| *b == b' ' || *b == 0;
    let start = field.iter().position(|b| !pad(b)).unwrap_or(field.len());
    let end = field[start..].iter().position(pad).map_or(field.len(), |n| start + n);
    if !field[end..].iter().all(pad) {
        return None;
    }
    let mut value: i64 = 0;
    for digit in &field[start..end] {
        if !(b'0'..=b'7').contains(digit) {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(i64::from(digit - b'0'))?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_in_all_their_forms() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"77777777"), Some(0o77777777));
        assert_eq!(number(&[0; 8]), Some(0));
        assert_eq!(number(b"00006z4\0"), None);
        assert_eq!(number(b"12 34\0\0\0"), None);
        assert_eq!(number(b"-000001\0"), None);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 1, 0, 0]), Some(65536));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]), Some(-2));
        assert_eq!(
            number(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            None,
            "does not fit 63 bits"
        );
    }
}
