//! One line of CSV, as `--mount`, `--network` and `--gpus` take it: fields with commas or quotes stand in quotes.

/// # Errors
/// A quote is where it may not be.
pub fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let mut field = String::new();
        if let Some(mut inner) = rest.strip_prefix('"') {
            loop {
                let Some(end) = inner.find('"') else {
                    return Err(format!("a quote is not closed in {line:?}"));
                };
                field.push_str(&inner[..end]);
                inner = &inner[end + 1..];
                // A doubled quote is one.
                match inner.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        inner = more;
                    }
                    None => break,
                }
            }
            rest = inner;
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err(format!("a quote ends inside of a field in {line:?}"));
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            if field.contains('"') {
                return Err(format!("a quote begins inside of a field in {line:?}"));
            }
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Ok(fields),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_split() {
        assert_eq!(fields("a=b,c").unwrap(), ["a=b", "c"]);
        assert_eq!(fields("\"a,b\",\"c\"\"d\"").unwrap(), ["a,b", "c\"d"]);
        assert_eq!(fields("a,").unwrap(), ["a", ""]);
        for bad in ["\"a", "\"a\"b", "a\"b"] {
            assert!(fields(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn quoted_fields_come_back(parts in prop::collection::vec("[a-z,\"=]{0,6}", 1..5)) {
            let line = parts.iter().map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect::<Vec<_>>().join(",");
            prop_assert_eq!(fields(&line).unwrap(), parts);
        }
    }
}
