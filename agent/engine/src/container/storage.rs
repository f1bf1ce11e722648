//! `--storage-opt size=10G`: how much a container's writable layer may hold.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// With less there may be no room for the folders that mounts need, and no container starts.
const LEAST: u64 = 1 << 20;

/// The size in bytes, if one is asked for.
///
/// # Errors
/// Another option, by its name; what is no size, or too small a one.
pub(crate) fn size(options: &BTreeMap<String, String>) -> Result<Option<u64>> {
    let mut found = None;
    for (key, value) in options {
        if !key.eq_ignore_ascii_case("size") {
            return Err(Error::unsupported(format!("--storage-opt {key}")));
        }
        let bytes = bytes(value).ok_or_else(|| {
            Error::invalid(format!(
                "invalid --storage-opt {key}={value}: expected a number with an optional unit, as in 512m or 10G"
            ))
        })?;
        if bytes < LEAST {
            return Err(Error::invalid(format!(
                "invalid --storage-opt {key}={value}: a container's size is at least 1m"
            )));
        }
        if found.replace(bytes).is_some() {
            return Err(Error::invalid("--storage-opt size is given twice"));
        }
    }
    Ok(found)
}

/// Docker's sizes: units are powers of 1024 in any case, `b` or `ib` may follow, a blank may come before.
fn bytes(text: &str) -> Option<u64> {
    let split = text.rfind(|c: char| c.is_ascii_digit() || c == '.')? + 1;
    let (number, unit) = text.split_at(split);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let (unit, shift) = match unit.as_bytes() {
        [] | [b'b'] => (&b""[..], 0),
        [b'k', rest @ ..] => (rest, 10),
        [b'm', rest @ ..] => (rest, 20),
        [b'g', rest @ ..] => (rest, 30),
        [b't', rest @ ..] => (rest, 40),
        [b'p', rest @ ..] => (rest, 50),
        _ => return None,
    };
    if !matches!(unit, b"" | b"b" | b"ib") {
        return None;
    }
    // What a file system's counters hold, with room to round up.
    const MOST: u64 = 1 << 62;
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift).filter(|bytes| *bytes <= MOST);
    }
    let bytes = number.parse::<f64>().ok()? * (1u64 << shift) as f64;
    (bytes <= MOST as f64).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn one(key: &str, value: &str) -> Result<Option<u64>> {
        size(&BTreeMap::from([(key.to_owned(), value.to_owned())]))
    }

    #[test]
    fn sizes_are_dockers() {
        assert_eq!(size(&BTreeMap::new()).unwrap(), None);
        for (text, want) in [
            ("1048576", 1 << 20),
            ("1m", 1 << 20),
            ("120M", 120 << 20),
            ("10G", 10 << 30),
            ("10gb", 10 << 30),
            ("10 GiB", 10 << 30),
            ("1.5g", 3 << 29),
            ("2T", 2 << 40),
            ("1p", 1 << 50),
            ("2097152B", 2 << 20),
        ] {
            assert_eq!(one("size", text).unwrap(), Some(want), "{text}");
            assert_eq!(one("Size", text).unwrap(), Some(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_it() {
        for text in [
            "",
            "b",
            "g",
            "-1g",
            "+1g",
            "10x",
            "1gg",
            "1gib1",
            "0x10g",
            "1e9",
            "1.2.3g",
            "10  g",
            "NaN",
            "inf",
            "1é",
            "8192p",
            "99999999999999999999",
            "0",
            "1048575",
            "1023k",
            "0.5m",
        ] {
            let error = one("size", text).unwrap_err().to_string();
            assert!(error.contains(&format!("size={text}")), "{error}");
        }
        let error = one("dm.basesize", "10G").unwrap_err();
        assert!(error.to_string().contains("--storage-opt dm.basesize"), "{error}");
        let twice = BTreeMap::from([("SIZE".into(), "1g".into()), ("size".into(), "1g".into())]);
        assert!(size(&twice).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9a-zA-Z. é+-]{0,12}") {
            if let Some(bytes) = bytes(&text) {
                prop_assert!(bytes <= 1 << 62);
            }
        }

        #[test]
        fn whole_numbers_are_exact(number in 1u64..1 << 40, unit in 0usize..3, tail in 0usize..3) {
            let (unit, shift) = [("k", 10), ("M", 20), ("g", 30)][unit];
            let text = format!("{number}{unit}{}", ["", "b", "iB"][tail]);
            let wanted = u128::from(number) << shift;
            prop_assert_eq!(bytes(&text).map(u128::from), (wanted <= 1 << 62).then_some(wanted));
        }

        #[test]
        fn more_is_never_less(number in 0.0f64..1e6, more in 0.0f64..1e6) {
            let both = [number, number + more].map(|number| bytes(&format!("{number:.3}m")).unwrap());
            prop_assert!(both[0] <= both[1]);
        }
    }
}
