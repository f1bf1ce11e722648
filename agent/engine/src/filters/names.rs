//! Names that a list is filtered by. Docker takes them for regular expressions that may match anywhere in the name, with
//! or without a slash before it.

use regex::{Regex, RegexBuilder};

/// Bytes that a compiled expression may take. They come from clients; a match takes linear time whatever they are.
const COMPILED: usize = 256 << 10;

/// The values of a `name` filter: one has to fit. Without any, every name does.
pub struct Names(Vec<Name>);

struct Name {
    text: String,
    /// None where the text is no expression: then it can only be the name itself.
    pattern: Option<Regex>,
}

impl Names {
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Names {
        let name = |text: &str| Name {
            text: text.to_owned(),
            pattern: RegexBuilder::new(text).size_limit(COMPILED).build().ok(),
        };
        Names(values.into_iter().map(name).collect())
    }

    pub fn fit(&self, name: &str) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let slashed = format!("/{name}");
        let matches = |text: &str| {
            self.0.iter().any(|wanted| {
                wanted.text == text || wanted.pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
            })
        };
        matches(name) || matches(&slashed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fits(wanted: &str, name: &str) -> bool {
        Names::new([wanted]).fit(name)
    }

    #[test]
    fn names_are_expressions() {
        for (wanted, name) in [
            ("we", "web"),
            ("^/web$", "web"),
            ("^web", "web1"),
            ("^(web|db)-[0-9]+$", "db-12"),
            ("w.b", "web"),
            ("(?i)WEB", "web"),
        ] {
            assert!(fits(wanted, name), "{wanted} {name}");
        }
        for (wanted, name) in [
            ("^eb", "web"),
            ("we$", "web"),
            ("^(web|db)-[0-9]+$", "db-x"),
            ("[", "web"),
        ] {
            assert!(!fits(wanted, name), "{wanted} {name}");
        }
        assert!(Names::new([]).fit("web") && Names::new(["x", "b$"]).fit("web"));
    }

    proptest! {
        #[test]
        fn a_name_fits_itself(name in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,20}") {
            for wanted in [name.clone(), format!("/{name}"), format!("^/?{name}$")] {
                prop_assert!(fits(&wanted, &name), "{}", wanted);
            }
        }

        #[test]
        fn no_expression_is_too_much(wanted in "\\PC{0,40}", name in "[a-z]{1,20}") {
            fits(&wanted, &name);
        }
    }
}
