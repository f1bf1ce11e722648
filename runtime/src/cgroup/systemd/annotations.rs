//! Properties that the user gives by annotations, `org.systemd.property.TimeoutStopUSec: "uint64 5000000"`.
//!
//! The value is GVariant's text, of which we read what properties of units have: truth values, texts, lists of texts
//! and integers. An integer without a type in front is an `int32`, as there.

use super::super::{CgroupError, Result};
use crate::systemd::{UnitProperty, UnitValue};

const PREFIX: &str = "org.systemd.property.";
/// What the place of the container says; another value would not be where we look for the group.
const OURS: [&str; 3] = ["Slice", "PIDs", "Description"];

/// The properties among these annotations, ordered by name.
///
/// # Errors
/// [`CgroupError::Invalid`] with the annotation's name, for names and values that cannot be passed on.
pub fn user_properties<'a>(annotations: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Vec<UnitProperty>> {
    let mut properties = Vec::new();
    for (annotation, text) in annotations {
        let Some(name) = annotation.strip_prefix(PREFIX) else {
            continue;
        };
        let invalid = |why: &str| {
            Err(CgroupError::Invalid {
                what: "annotation",
                why: format!("{annotation}: {why}"),
            })
        };
        if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return invalid("this is not the name of a property");
        }
        if OURS.contains(&name) {
            return invalid("the runtime itself decides this property");
        }
        let Some(value) = value(text) else {
            return invalid(&format!(
                "{text:?} is not a value that we can read: 'text', ['a', 'b'], true, 5, uint64 5"
            ));
        };
        match seconds(name, &value) {
            None => properties.push(UnitProperty {
                name: name.to_owned(),
                value,
            }),
            Some(Some(property)) => properties.push(property),
            Some(None) => return invalid("seconds must be an integer that is not negative"),
        }
    }
    properties.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(properties)
}

/// On the bus times are microseconds, `TimeoutStopUSec`; unit files and people say `TimeoutStopSec`. `Some(None)` for
/// what is no time.
fn seconds(name: &str, value: &UnitValue) -> Option<Option<UnitProperty>> {
    let stem = name.strip_suffix("Sec")?;
    // (USec, NSec: an upper-case letter before it.)
    if !stem.bytes().last()?.is_ascii_lowercase() {
        return None;
    }
    let seconds = match value {
        UnitValue::I32 { value } => u64::try_from(*value).ok(),
        UnitValue::I64 { value } => u64::try_from(*value).ok(),
        UnitValue::U32 { value } => Some(u64::from(*value)),
        UnitValue::U64 { value } => Some(*value),
        _ => None,
    };
    let micros = seconds.and_then(|seconds| seconds.checked_mul(1_000_000));
    Some(micros.map(|micros| UnitProperty::new(&format!("{stem}USec"), micros)))
}

fn value(text: &str) -> Option<UnitValue> {
    let text = text.trim();
    match text {
        "true" => return Some(true.into()),
        "false" => return Some(false.into()),
        _ => {}
    }
    if text.starts_with(['\'', '"']) {
        let (value, rest) = quoted(text)?;
        return rest.is_empty().then(|| value.into());
    }
    let untyped = text.strip_prefix("@as").map_or(text, str::trim_start);
    if untyped.starts_with('[') {
        let values = list(untyped)?;
        // An empty list has no type, unless one stands before it.
        return (!values.is_empty() || text.starts_with('@')).then(|| values.into());
    }
    integer(text)
}

fn integer(text: &str) -> Option<UnitValue> {
    let (kind, digits) = match text.split_once(char::is_whitespace) {
        Some((kind, digits)) => (kind, digits.trim_start()),
        None => ("int32", text),
    };
    let negative = digits.starts_with('-');
    let digits = digits.strip_prefix(['-', '+']).unwrap_or(digits);
    let (digits, base) = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let size = i128::from(u64::from_str_radix(digits, base).ok()?);
    let number = if negative { -size } else { size };
    Some(match kind {
        "int32" | "@i" => i32::try_from(number).ok()?.into(),
        "uint32" | "@u" => u32::try_from(number).ok()?.into(),
        "int64" | "@x" => i64::try_from(number).ok()?.into(),
        "uint64" | "@t" => u64::try_from(number).ok()?.into(),
        _ => return None,
    })
}

/// `['a', "b"]`
fn list(text: &str) -> Option<Vec<String>> {
    let mut rest = text.strip_prefix('[')?.trim_start();
    let mut values = Vec::new();
    if let Some(after) = rest.strip_prefix(']') {
        return after.is_empty().then_some(values);
    }
    loop {
        let (value, after) = quoted(rest)?;
        values.push(value);
        rest = after.trim_start();
        if let Some(after) = rest.strip_prefix(']') {
            return after.is_empty().then_some(values);
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
}

/// The text in quotes at the front, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|letter| matches!(letter, '\'' | '"'))?;
    let mut value = String::new();
    let mut letters = text[1..].char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            _ if letter == quote => return Some((value, &text[1 + at + 1..])),
            '\\' => value.push(match letters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                plain @ ('\\' | '\'' | '"') => plain,
                // \u and \U, \a, \b, \f, \r, \v: nothing that belongs into a unit.
                _ => return None,
            }),
            '\0' => return None,
            _ => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_read() {
        for (text, expected) in [
            ("true", UnitValue::from(true)),
            (" false ", false.into()),
            ("'inactive-or-failed'", "inactive-or-failed".into()),
            (r#""a 'b' \"c\" \\""#, r#"a 'b' "c" \"#.into()),
            ("''", "".into()),
            ("5", 5i32.into()),
            ("-5", (-5i32).into()),
            ("0x10", 16i32.into()),
            ("010", 8i32.into()),
            ("0", 0i32.into()),
            ("uint64 18446744073709551615", u64::MAX.into()),
            ("uint64   123456789", 123_456_789u64.into()),
            ("int64 -9223372036854775808", i64::MIN.into()),
            ("uint32 7", 7u32.into()),
            ("@t 7", 7u64.into()),
            ("['a', \"b\"]", vec!["a".to_owned(), "b".to_owned()].into()),
            ("['a']", vec!["a".to_owned()].into()),
            ("@as []", Vec::<String>::new().into()),
        ] {
            assert_eq!(value(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "yes",
            "'a",
            "'a' 'b'",
            "'a'b",
            "[",
            "[]",
            "['a'",
            "['a',]",
            "['a' 'b']",
            "[1]",
            "['a'] x",
            "2147483648",
            "uint32 -1",
            "uint64",
            "byte 5",
            "double 1.5",
            "1.5",
            "(1, 2)",
            "{}",
            "0x",
            "08",
            "++1",
            "'\\u0041'",
            "@as",
            "uint64 'a'",
            "int32 1 2",
            "<1>",
            "nothing",
        ] {
            assert_eq!(value(text), None, "{text}");
        }
    }

    #[test]
    fn annotations_are_passed_on_or_refused_by_name() {
        let found = user_properties([
            ("org.systemd.property.TimeoutStopSec", "5"),
            ("org.opencontainers.image.title", "x"),
            ("org.systemd.property.CollectMode", "'inactive'"),
            ("org.systemd.property.RuntimeMaxUSec", "uint64 9"),
        ]);
        assert_eq!(
            found.unwrap(),
            [
                UnitProperty::new("CollectMode", "inactive"),
                UnitProperty::new("RuntimeMaxUSec", 9u64),
                UnitProperty::new("TimeoutStopUSec", 5_000_000u64),
            ]
        );
        for (name, text, why) in [
            ("A", "true", "not the name"),
            ("No such", "true", "not the name"),
            ("Slice", "'x.slice'", "the runtime itself"),
            ("MemoryMax", "1 GB", "not a value"),
            ("TimeoutStopSec", "-1", "seconds"),
            ("TimeoutStopSec", "'5'", "seconds"),
        ] {
            let annotation = format!("org.systemd.property.{name}");
            let error = user_properties([(annotation.as_str(), text)]).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(&annotation), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "['\"\\[\\]\\\\, @a-z0-9é-]{0,20}") {
            let _ = value(&text);
        }

        #[test]
        fn texts_come_through(text in "[^\\\\'\u{0}]{0,12}", number: u64) {
            prop_assert_eq!(value(&format!("'{text}'")), Some(UnitValue::from(text.as_str())));
            prop_assert_eq!(value(&format!("uint64 {number}")), Some(UnitValue::from(number)));
        }
    }
}
