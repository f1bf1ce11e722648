//! Names: `vendor.com/class=name`, and the part before the `=`, which is a kind.

use std::fmt;

/// `vendor.com/class`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    vendor: String,
    class: String,
}

/// `vendor.com/class=name`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub kind: Kind,
    pub device: String,
}

impl Kind {
    /// Vendor and class begin with a letter, end with a letter or digit, and have besides only `_`, `-` and `.`.
    pub fn parse(text: &str) -> Result<Kind, String> {
        let (vendor, class) = text
            .split_once('/')
            .ok_or_else(|| format!("{text:?} is not vendor/class"))?;
        for part in [vendor, class] {
            if !part.starts_with(|c: char| c.is_ascii_alphabetic()) || !is_word(part, "_-.") {
                return Err(format!("{text:?}: {part:?} is not the name of a vendor or class"));
            }
        }
        Ok(Kind {
            vendor: vendor.to_owned(),
            class: class.to_owned(),
        })
    }

    /// A class with a dot came with version 0.6.0.
    pub fn has_dotted_class(&self) -> bool {
        self.class.contains('.')
    }
}

impl Name {
    pub fn parse(text: &str) -> Result<Name, String> {
        let (kind, device) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} is not vendor/class=name"))?;
        check_device(device)?;
        Ok(Name {
            kind: Kind::parse(kind)?,
            device: device.to_owned(),
        })
    }
}

/// A device's own name: letters, digits, and between them `_`, `-`, `.` and `:`.
pub fn check_device(name: &str) -> Result<(), String> {
    match is_word(name, "_-.:") {
        true => Ok(()),
        false => Err(format!("{name:?} is not the name of a device")),
    }
}

fn is_word(text: &str, inner: &str) -> bool {
    let (first, last) = (text.chars().next(), text.chars().last());
    let ends = [first, last];
    ends.iter().all(|c| c.is_some_and(|c| c.is_ascii_alphanumeric()))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || inner.contains(c))
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vendor, self.class)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.device)
    }
}
