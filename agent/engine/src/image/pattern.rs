//! Patterns of `reference=…`, with the grammar of Go's `path.Match`: `*` and `?` within a path segment, `[a-z]`, `[^a-z]`
//! and `\` before a character that stands for itself.

use crate::error::{Error, Result};

/// A pattern that was checked.
pub struct Pattern(Vec<Part>);

enum Part {
    Star,
    Any,
    One(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Pattern {
    /// # Errors
    /// A class that does not end, an empty class, or a lone `\`.
    pub fn parse(text: &str) -> Result<Pattern> {
        let bad = || Error::invalid(format!("invalid filter 'reference={text}': syntax error in pattern"));
        let mut parts = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(next) = rest.next() {
            parts.push(match next {
                '*' => Part::Star,
                '?' => Part::Any,
                '\\' => Part::One(rest.next().ok_or_else(bad)?),
                '[' => {
                    let negated = rest.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    // As Go reads it: a `]` is the end unless it comes first.
                    while ranges.is_empty() || rest.next_if_eq(&']').is_none() {
                        let low = member(&mut rest).ok_or_else(bad)?;
                        let high = match rest.next_if_eq(&'-') {
                            Some(_) => member(&mut rest).ok_or_else(bad)?,
                            None => low,
                        };
                        ranges.push((low, high));
                    }
                    Part::Class { negated, ranges }
                }
                other => Part::One(other),
            });
        }
        Ok(Pattern(parts))
    }

    /// Whether the whole text fits. The last star is the only place to go back to, so that hostile patterns cost at most
    /// the product of both lengths.
    pub fn fits(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut p, mut t) = (0, 0);
        let mut back: Option<(usize, usize)> = None;
        while t < text.len() {
            if let Some(Part::Star) = self.0.get(p) {
                p += 1;
                back = Some((p, t));
                continue;
            }
            if self.0.get(p).is_some_and(|part| part.takes(text[t])) {
                p += 1;
                t += 1;
                continue;
            }
            match back {
                // A star does not reach over a slash.
                Some((star, from)) if text[from] != '/' => {
                    p = star;
                    t = from + 1;
                    back = Some((star, t));
                }
                _ => return false,
            }
        }
        self.0[p..].iter().all(|part| matches!(part, Part::Star))
    }
}

/// One end of a range.
fn member(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        other => Some(other),
    }
}

impl Part {
    fn takes(&self, own: char) -> bool {
        match self {
            Part::Star => false,
            Part::Any => own != '/',
            Part::One(wanted) => *wanted == own,
            Part::Class { negated, ranges } => {
                own != '/' && ranges.iter().any(|(low, high)| (*low..=*high).contains(&own)) != *negated
            }
        }
    }
}

/// Docker's rule: the pattern fits the familiar name with its tag or digest, or the name alone.
pub fn reference_fits(pattern: &Pattern, name: &str) -> bool {
    let bare = match name.split_once('@') {
        Some((bare, _)) => bare,
        None => name.rsplit_once(':').map_or(name, |(bare, _)| bare),
    };
    pattern.fits(name) || pattern.fits(bare)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn references_fit_as_in_docker() {
        for (pattern, name, wanted) in [
            ("busybox", "busybox:1", true),
            ("busy*", "busybox:1", true),
            ("*/b:1", "a/b:1", true),
            ("a/?:*", "a/b:1", true),
            ("b[a-u]sybox", "busybox:1", true),
            ("b[^a-t]sybox:?", "busybox:1", true),
            ("b\\usybox", "busybox:1", true),
            ("box", "busybox:1", false),
            ("*", "a/b:1", false),
            ("busybox:2", "busybox:1", false),
            ("b[^u]sybox", "busybox:1", false),
            ("a?b", "a/b:1", false),
            ("a", "a@sha256:00", true),
        ] {
            assert_eq!(
                reference_fits(&Pattern::parse(pattern).unwrap(), name),
                wanted,
                "{pattern} {name}"
            );
        }
        for bad in ["[", "[]a", "[a", "a\\", "[a-]", "[-z]", "[^]"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    /// The same question by trying every way: slow and plain.
    fn model(parts: &[Part], text: &[char]) -> bool {
        match (parts.first(), text.first()) {
            (None, None) => true,
            (Some(Part::Star), _) if model(&parts[1..], text) => true,
            (Some(Part::Star), Some(own)) => *own != '/' && model(parts, &text[1..]),
            (Some(part), Some(own)) => part.takes(*own) && model(&parts[1..], &text[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn any_pattern_answers_as_the_plain_model(pattern in "[ab/*?\\[\\]^\\\\-]{0,8}", text in "[ab/]{0,10}") {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                let chars: Vec<char> = text.chars().collect();
                prop_assert_eq!(pattern.fits(&text), model(&pattern.0, &chars));
            }
        }

        #[test]
        fn hostile_patterns_never_panic(pattern in "\\PC{0,40}", text in "\\PC{0,40}") {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                pattern.fits(&text);
            }
        }
    }
}
