//! Values → bytes, little endian, each at a multiple of its own alignment.

use runtime::systemd::{UnitProperty, UnitValue};

/// The bus takes no larger message.
pub const LARGEST: usize = 128 * 1024 * 1024;

/// The bytes of a header or a body, both of which begin at a multiple of eight.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
    bad: Option<&'static str>,
}

impl Writer {
    /// Pads with zeroes to a multiple of `to`.
    pub fn align(&mut self, to: usize) {
        self.out.resize(self.out.len().next_multiple_of(to), 0);
    }

    /// `y`
    pub fn byte(&mut self, value: u8) {
        self.out.push(value);
    }

    /// `u`; also `i` and `b`, in their four bytes.
    pub fn u32(&mut self, value: u32) {
        self.align(4);
        self.out.extend(value.to_le_bytes());
    }

    /// `t`; also `x`.
    pub fn u64(&mut self, value: u64) {
        self.align(8);
        self.out.extend(value.to_le_bytes());
    }

    /// `b`
    pub fn bool(&mut self, value: bool) {
        self.u32(u32::from(value));
    }

    /// `s`; also `o`.
    pub fn text(&mut self, value: &str) {
        if value.contains('\0') {
            self.bad = Some("a text has a NUL byte in it");
        }
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.out.extend(value.as_bytes());
        self.out.push(0);
    }

    /// `g`: ours are constants, far below 255 bytes.
    pub fn signature(&mut self, value: &str) {
        self.out.push(value.len() as u8);
        self.out.extend(value.as_bytes());
        self.out.push(0);
    }

    /// `a…`, of elements with this alignment. The padding before the first is there also when there is none, and does
    /// not count.
    pub fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Writer)) {
        self.u32(0);
        let length_at = self.out.len() - 4;
        self.align(alignment);
        let start = self.out.len();
        elements(self);
        let length = u32::try_from(self.out.len() - start).unwrap_or(u32::MAX);
        self.out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// `v`
    pub fn variant(&mut self, value: &UnitValue) {
        self.signature(value.signature());
        match value {
            UnitValue::Bool { value } => self.bool(*value),
            UnitValue::I32 { value } => self.u32(value.cast_unsigned()),
            UnitValue::U32 { value } => self.u32(*value),
            UnitValue::I64 { value } => self.u64(value.cast_unsigned()),
            UnitValue::U64 { value } => self.u64(*value),
            UnitValue::Text { value } => self.text(value),
            UnitValue::Texts { values } => self.array(4, |out| values.iter().for_each(|value| out.text(value))),
            UnitValue::Numbers { values } => self.array(4, |out| values.iter().for_each(|value| out.u32(*value))),
            UnitValue::Bytes { value } => self.array(1, |out| out.out.extend(&value.0)),
            UnitValue::Pairs { values } => self.array(8, |out| {
                for (one, other) in values {
                    out.align(8);
                    out.text(one);
                    out.text(other);
                }
            }),
            UnitValue::Amounts { values } => self.array(8, |out| {
                for (text, number) in values {
                    out.align(8);
                    out.text(text);
                    out.u64(*number);
                }
            }),
        }
    }

    /// `a(sv)`
    pub fn properties<'a>(&mut self, properties: impl IntoIterator<Item = &'a UnitProperty>) {
        self.array(8, |out| {
            for property in properties {
                out.align(8);
                out.text(&property.name);
                out.variant(&property.value);
            }
        });
    }

    /// The bytes.
    ///
    /// # Errors
    /// What cannot be said in D-Bus.
    pub fn finish(self) -> Result<Vec<u8>, &'static str> {
        match self.bad {
            Some(why) => Err(why),
            None if self.out.len() > LARGEST / 2 => Err("it is larger than a message may be"),
            None => Ok(self.out),
        }
    }
}
