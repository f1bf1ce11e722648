//! Bytes → values. Nothing is taken for granted: every length is held against what is left.

/// Types within types; D-Bus allows 32 arrays and 32 structures.
const DEEPEST: usize = 64;

pub type Parsed<T> = Result<T, &'static str>;

const SHORT: &str = "it ends too early";
const SIGNATURE: &str = "a signature names no type";

/// A position in a header or a body.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl<'a> Reader<'a> {
    /// From the front of `bytes`, whose numbers are big endian or not.
    pub fn new(bytes: &'a [u8], big: bool) -> Reader<'a> {
        Reader { bytes, at: 0, big }
    }

    /// How many bytes are behind us.
    pub fn position(&self) -> usize {
        self.at
    }

    fn take(&mut self, count: usize) -> Parsed<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or(SHORT)?;
        let taken = self.bytes.get(self.at..end).ok_or(SHORT)?;
        self.at = end;
        Ok(taken)
    }

    /// Passes over the padding.
    pub fn align(&mut self, to: usize) -> Parsed<()> {
        let padding = self.at.next_multiple_of(to) - self.at;
        self.take(padding).map(drop)
    }

    /// `y`
    pub fn byte(&mut self) -> Parsed<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// `u`
    pub fn u32(&mut self) -> Parsed<u32> {
        self.align(4)?;
        let bytes = self.take(4)?.try_into().map_err(|_| SHORT)?;
        Ok(if self.big {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    /// `s` or `o`
    pub fn text(&mut self) -> Parsed<&'a str> {
        let length = self.u32()? as usize;
        self.terminated(length)
    }

    /// `g`
    pub fn signature(&mut self) -> Parsed<&'a str> {
        let length = usize::from(self.byte()?);
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Parsed<&'a str> {
        let bytes = self.take(length)?;
        if self.byte()? != 0 || bytes.contains(&0) {
            return Err("a text does not end where it says");
        }
        std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8")
    }

    /// `v` with a text in it.
    pub fn text_variant(&mut self) -> Parsed<&'a str> {
        match self.signature()? {
            "s" | "o" => self.text(),
            _ => Err("a value is no text"),
        }
    }

    /// Passes over one value of each type in `signature`.
    pub fn skip(&mut self, signature: &str) -> Parsed<()> {
        self.skip_all(signature.as_bytes(), 0)
    }

    fn skip_all(&mut self, mut signature: &[u8], depth: usize) -> Parsed<()> {
        if depth > DEEPEST {
            return Err("its types are nested too deeply");
        }
        while !signature.is_empty() {
            let (one, rest) = signature.split_at(one_type(signature, 0)?);
            self.skip_one(one, depth)?;
            signature = rest;
        }
        Ok(())
    }

    /// `one` is exactly one complete type.
    fn skip_one(&mut self, one: &[u8], depth: usize) -> Parsed<()> {
        match one {
            [b'y'] => self.take(1).map(drop),
            [b's' | b'o'] => self.text().map(drop),
            [b'g'] => self.signature().map(drop),
            [b'v'] => {
                let signature = self.signature()?.as_bytes();
                if one_type(signature, 0)? != signature.len() {
                    return Err(SIGNATURE);
                }
                self.skip_all(signature, depth + 1)
            }
            [b'a', element @ ..] => {
                let length = self.u32()? as usize;
                self.align(alignment(element))?;
                self.take(length).map(drop)
            }
            [b'(' | b'{', members @ .., _] => {
                self.align(8)?;
                self.skip_all(members, depth + 1)
            }
            [_] => {
                let size = alignment(one);
                self.align(size)?;
                self.take(size).map(drop)
            }
            _ => Err(SIGNATURE),
        }
    }
}

/// Where a value of this type may begin. For numbers it is their size, too.
fn alignment(one: &[u8]) -> usize {
    match one.first() {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 4,
    }
}

/// The length of the first complete type of a signature.
fn one_type(signature: &[u8], depth: usize) -> Parsed<usize> {
    if depth > DEEPEST {
        return Err("its types are nested too deeply");
    }
    match signature.first() {
        Some(b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'v' | b'h') => Ok(1),
        Some(b'a') => Ok(1 + one_type(&signature[1..], depth + 1)?),
        Some(open @ (b'(' | b'{')) => {
            let close = if *open == b'(' { b')' } else { b'}' };
            let mut at = 1;
            while signature.get(at) != Some(&close) {
                at += one_type(signature.get(at..).unwrap_or_default(), depth + 1)?;
            }
            Ok(at + 1)
        }
        _ => Err(SIGNATURE),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::marshal::Writer;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use runtime::systemd::{UnitProperty, UnitValue};
    use runtime::wire::Blob;

    fn value() -> impl Strategy<Value = UnitValue> {
        let text = || "[^\u{0}]{0,9}";
        prop_oneof![
            any::<bool>().prop_map(UnitValue::from),
            any::<i32>().prop_map(UnitValue::from),
            any::<i64>().prop_map(UnitValue::from),
            any::<u64>().prop_map(UnitValue::from),
            text().prop_map(UnitValue::from),
            vec(text(), 0..4).prop_map(UnitValue::from),
            vec(any::<u32>(), 0..4).prop_map(UnitValue::from),
            any::<Vec<u8>>().prop_map(|bytes| UnitValue::from(Blob(bytes))),
            vec((text(), text()), 0..4).prop_map(UnitValue::from),
            vec((text(), any::<u64>()), 0..4).prop_map(UnitValue::from),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_passed_over_to_its_end(values in vec(("[^\u{0}]{0,9}", value()), 0..6), last: u32) {
            let properties: Vec<_> = values
                .into_iter()
                .map(|(name, value)| UnitProperty { name, value })
                .collect();
            let mut writer = Writer::default();
            for property in &properties {
                writer.align(8);
                writer.text(&property.name);
                writer.variant(&property.value);
            }
            writer.properties(&properties);
            writer.u32(last);
            let bytes = writer.finish().unwrap();
            let mut reader = Reader::new(&bytes, false);
            for property in &properties {
                reader.skip("(sv)").unwrap();
                let _ = property;
            }
            reader.skip("a(sv)").unwrap();
            prop_assert_eq!(reader.u32(), Ok(last));
            prop_assert_eq!(reader.position(), bytes.len());
            // A byte less is an error, at the latest at the last value.
            let mut cut = Reader::new(&bytes[..bytes.len() - 1], false);
            let whole = "(sv)".repeat(properties.len()) + "a(sv)u";
            prop_assert!(cut.skip(&whole).is_err());
        }

        #[test]
        fn no_signature_and_no_bytes_panic(
            signature in "[ybnqiuxtdsogvah(){}]{0,12}",
            bytes: Vec<u8>,
            big: bool,
        ) {
            let mut reader = Reader::new(&bytes, big);
            if reader.skip(&signature).is_ok() {
                prop_assert!(reader.position() <= bytes.len());
            }
            let mut reader = Reader::new(&bytes, big);
            let _ = (reader.text_variant(), reader.text(), reader.u32(), reader.signature());
        }
    }

    #[test]
    fn deep_types_are_refused_and_not_followed() {
        let deep = "a".repeat(200) + "y";
        assert!(Reader::new(&[0; 8], false).skip(&deep).is_err());
        let open = "(".repeat(200);
        assert!(Reader::new(&[0; 8], false).skip(&open).is_err());
        // Variants in variants: each level is three bytes.
        let variants = [1, b'v', 0].repeat(100_000);
        assert!(Reader::new(&variants, false).skip("v").is_err());
    }

    #[test]
    fn numbers_have_the_byte_order_of_the_message() {
        assert_eq!(Reader::new(&[0, 0, 1, 2], true).u32(), Ok(258));
        assert_eq!(Reader::new(&[2, 1, 0, 0], false).u32(), Ok(258));
        assert_eq!(Reader::new(&[0, 0, 0, 1, b'x', 0], true).text(), Ok("x"));
        assert!(Reader::new(&[0, 0, 0, 1, b'x', 1], true).text().is_err());
        assert!(Reader::new(&[0, 0, 0, 1, 0, 0], true).text().is_err());
    }
}
