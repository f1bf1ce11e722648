//! `WWW-Authenticate`: which ways of authentication a server offers (RFC 9110 §11, RFC 6750 §3).
//!
//! The header comes from hostile servers, may stand several times, and may hold several challenges, so that a comma
//! separates parameters as well as challenges:
//!
//! ```text
//! WWW-Authenticate: Basic realm="a, b", Bearer realm="https://auth.example/token",service="r",scope="repository:x:pull"
//! ```

use std::str;

/// More than any registry says; the rest is not read.
const MAX_HEADER: usize = 8 * 1024;
const MAX_CHALLENGES: usize = 16;

/// One offered way of authentication.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case: `basic`, `bearer`.
    pub(crate) scheme: String,
    /// Names in lower case, values without their quotes.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of parameter `name` (lower case). The first one counts.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Every challenge of a header value that can be understood; what cannot is left out.
pub(crate) fn parse(header: &[u8]) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut input = Input {
        rest: &header[..header.len().min(MAX_HEADER)],
    };
    loop {
        input.skip_separators();
        let Some(word) = input.token() else {
            // Something that no grammar has: go to the next comma.
            if !input.skip_to_comma() {
                return challenges;
            }
            continue;
        };
        let had_space = input.skip_space();
        if input.rest.first() == Some(&b'=') && input.rest.get(1) != Some(&b'=') {
            input.rest = &input.rest[1..];
            input.skip_space();
            let value = input.value();
            // A parameter before any scheme belongs to nobody.
            if let Some(challenge) = challenges.last_mut() {
                let challenge: &mut Challenge = challenge;
                challenge.parameters.push((word.to_ascii_lowercase(), value));
            }
            continue;
        }
        if challenges.len() == MAX_CHALLENGES {
            return challenges;
        }
        challenges.push(Challenge {
            scheme: word.to_ascii_lowercase(),
            parameters: Vec::new(),
        });
        if had_space {
            input.skip_token68();
        }
    }
}

struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn take_while(&mut self, accept: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|&b| !accept(b)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn skip_space(&mut self) -> bool {
        !self.take_while(|b| matches!(b, b' ' | b'\t')).is_empty()
    }

    fn skip_separators(&mut self) {
        self.take_while(|b| matches!(b, b' ' | b'\t' | b','));
    }

    fn token(&mut self) -> Option<&'a str> {
        let token = self.take_while(is_token);
        if token.is_empty() {
            None
        } else {
            str::from_utf8(token).ok()
        }
    }

    /// `Negotiate TlRMTVNT…==`: one word of base64 in place of parameters.
    fn skip_token68(&mut self) {
        let mut ahead = Input { rest: self.rest };
        let word = ahead.take_while(|b| is_token(b) || matches!(b, b'/' | b'='));
        ahead.skip_space();
        let ends = matches!(ahead.rest.first(), None | Some(b','));
        // `realm=x` looks the same up to its value; a parameter has something after a single sign.
        let parameter = word
            .iter()
            .position(|&b| b == b'=')
            .is_some_and(|at| word[at..].iter().any(|&b| b != b'='));
        let next_scheme = !word.contains(&b'=') && !word.contains(&b'/');
        if ends && !parameter && !next_scheme {
            self.rest = ahead.rest;
        }
    }

    /// A quoted string or a token. Servers that forget the closing quote, or quote nothing at all, are understood.
    fn value(&mut self) -> String {
        if self.rest.first() != Some(&b'"') {
            let bare = self.take_while(|b| !matches!(b, b',' | b' ' | b'\t'));
            return String::from_utf8_lossy(bare).into_owned();
        }
        self.rest = &self.rest[1..];
        let mut value = Vec::new();
        while let Some((&byte, rest)) = self.rest.split_first() {
            self.rest = rest;
            match byte {
                b'"' => break,
                b'\\' => match self.rest.split_first() {
                    Some((&escaped, rest)) => {
                        value.push(escaped);
                        self.rest = rest;
                    }
                    None => break,
                },
                byte => value.push(byte),
            }
        }
        String::from_utf8_lossy(&value).into_owned()
    }

    /// Whether there is another comma to go on from.
    fn skip_to_comma(&mut self) -> bool {
        self.take_while(|b| b != b',');
        !self.rest.is_empty()
    }
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn show(header: &str) -> String {
        let show = |challenge: &Challenge| {
            let parameters: Vec<String> = challenge.parameters.iter().map(|(k, v)| format!("{k}=<{v}>")).collect();
            format!("{}({})", challenge.scheme, parameters.join(" "))
        };
        parse(header.as_bytes()).iter().map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn challenges_of_real_and_of_odd_servers() {
        for (header, expected) in [
            ("", ""),
            ("Basic", "basic()"),
            (r#"Basic realm="x""#, "basic(realm=<x>)"),
            (r#"BASIC REALM = "x" "#, "basic(realm=<x>)"),
            (
                r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#,
                "bearer(realm=<https://auth.example/token> service=<registry.example> scope=<repository:a/b:pull,push>)",
            ),
            (
                r#"Bearer realm="a",error="insufficient_scope""#,
                "bearer(realm=<a> error=<insufficient_scope>)",
            ),
            (
                r#"Bearer realm=https://a.example/t?x=1,service=b"#,
                "bearer(realm=<https://a.example/t?x=1> service=<b>)",
            ),
            (
                r#"Basic realm="a, b", Bearer realm="c""#,
                "basic(realm=<a, b>) bearer(realm=<c>)",
            ),
            (r#"Basic realm="q\"uo\\te""#, r#"basic(realm=<q"uo\te>)"#),
            (r#"Basic realm="open"#, "basic(realm=<open>)"),
            (r#"Basic realm="open\"#, "basic(realm=<open>)"),
            (r#"Negotiate, Basic realm="x""#, "negotiate() basic(realm=<x>)"),
            (
                r#"Negotiate TlRMTVNTUAACAA==, Basic realm="x""#,
                "negotiate() basic(realm=<x>)",
            ),
            (r#"Negotiate a/b, Basic realm="x""#, "negotiate() basic(realm=<x>)"),
            (
                r#"Basic realm="a" , , Bearer realm="b","#,
                "basic(realm=<a>) bearer(realm=<b>)",
            ),
            (r#"Basic realm="a" charset="UTF-8""#, "basic(realm=<a> charset=<UTF-8>)"),
            (r#"realm="nobody""#, ""),
            (r#""quoted", Basic realm="x""#, "basic(realm=<x>)"),
            (",,,", ""),
            ("=,=", ""),
            (r#"Bearer realm="a",realm="b""#, "bearer(realm=<a> realm=<b>)"),
        ] {
            assert_eq!(show(header), expected, "{header}");
        }
        assert_eq!(parse(br#"Bearer realm="a",realm="b""#)[0].get("realm"), Some("a"));
        assert_eq!(parse(b"Basic realm=\"\xff\xfe\"").len(), 1);
        assert_eq!(parse("a ".repeat(10_000).as_bytes()).len(), MAX_CHALLENGES);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(header in prop::collection::vec(any::<u8>(), 0..400)) {
            let read = parse(&header);
            prop_assert!(read.len() <= MAX_CHALLENGES);
        }

        #[test]
        fn nearly_headers_are_read_without_harm(header in "([a-zA-Z]{0,6}[ ,=\"\\\\/]{0,3}){0,30}") {
            prop_assert!(parse(header.as_bytes()).len() <= MAX_CHALLENGES);
        }

        #[test]
        fn what_is_quoted_well_is_read_back(
            values in prop::collection::vec("[ -~]{0,20}", 1..5),
            schemes in prop::collection::vec("[a-z]{2,6}", 1..4),
        ) {
            let quote = |value: &str| format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
            let parameters: Vec<String> = values.iter().enumerate().map(|(i, v)| format!("p{i}={}", quote(v))).collect();
            let header: Vec<String> = schemes.iter().map(|scheme| format!("{scheme} {}", parameters.join(", "))).collect();
            let read = parse(header.join(", ").as_bytes());
            prop_assert_eq!(read.len(), schemes.len());
            for (challenge, scheme) in read.iter().zip(&schemes) {
                prop_assert_eq!(&challenge.scheme, scheme);
                for (i, value) in values.iter().enumerate() {
                    prop_assert_eq!(challenge.get(&format!("p{i}")), Some(value.as_str()));
                }
            }
        }
    }
}
