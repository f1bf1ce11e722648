//! Byte sizes: `512`, `64m`, `1.5g`, `2GiB`. Units are powers of 1024, in any case.

/// # Errors
/// The text is no size.
pub fn parse(text: &str) -> Result<i64, String> {
    let wrong = || format!("invalid size: '{text}'");
    let split = text.rfind(|c: char| c.is_ascii_digit() || c == '.').ok_or_else(wrong)? + 1;
    let (number, unit) = text.split_at(split);
    let number = number.strip_suffix(' ').unwrap_or(number);
    if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(wrong());
    }
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        unit => {
            let power = "kmgtp"
                .find(&unit[..unit.chars().next().map_or(0, char::len_utf8)])
                .ok_or_else(wrong)?
                + 1;
            if !matches!(&unit[1..], "" | "b" | "ib") {
                return Err(format!("invalid suffix: '{unit}'"));
            }
            power
        }
    };
    let bytes = number * 1024f64.powi(power as i32);
    if bytes >= i64::MAX as f64 {
        Err(format!("size '{text}' is too large"))
    } else {
        Ok(bytes as i64)
    }
}

/// A size where `-1` means without limit.
///
/// # Errors
/// The text is no size.
pub fn parse_or_unlimited(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { parse(text) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_parse() {
        for (text, want) in [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("32k", 32 << 10),
            ("32KB", 32 << 10),
            ("32 kib", 32 << 10),
            ("1.5g", 3 << 29),
            ("2T", 2 << 40),
            ("1p", 1 << 50),
        ] {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
        for bad in [
            "",
            "b",
            "k",
            "-1",
            "1x",
            "1kk",
            "1kib1",
            "0x10",
            "1e3",
            "1.2.3",
            "999999999p",
            "é",
            "1é",
            "1  k",
            "NaN",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_or_unlimited("-1"), Ok(-1));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9a-zA-Z. éß-]{0,12}") {
            let _ = parse(&text);
        }

        #[test]
        fn whole_numbers_are_themselves(n in 0i64..1 << 50) {
            prop_assert_eq!(parse(&n.to_string()), Ok(n));
        }
    }
}
