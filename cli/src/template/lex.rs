//! Text → tokens. Trim markers are applied here: `{{-` eats the white space in front of it, `-}}` the one behind.

use super::{Result, fail};

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Text(String),
    Open,
    Close,
    /// `.Name`; an empty name is the lone dot.
    Field(String),
    /// `$name`; an empty name is the lone dollar.
    Variable(String),
    Word(String),
    Str(String),
    Int(i64),
    Float(f64),
    Pipe,
    Comma,
    Declare,
    Assign,
    LeftParen,
    RightParen,
    /// White space, which separates arguments: `.A .B` are two, `.A.B` is one.
    Space,
}

pub fn lex(text: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut trim = false;
    loop {
        let start = rest.find("{{");
        let mut plain = &rest[..start.unwrap_or(rest.len())];
        if trim {
            plain = plain.trim_start_matches(SPACE);
        }
        let Some(start) = start else {
            push_text(&mut tokens, plain);
            return Ok(tokens);
        };
        rest = &rest[start + 2..];
        if let Some(inner) = rest.strip_prefix('-').filter(|inner| inner.starts_with(SPACE)) {
            plain = plain.trim_end_matches(SPACE);
            rest = inner;
        }
        push_text(&mut tokens, plain);
        let comment = rest.trim_start_matches(SPACE);
        if let Some(body) = comment.strip_prefix("/*") {
            let Some(end) = body.find("*/") else {
                return fail("unclosed comment");
            };
            (rest, trim) = match closing(&body[end + 2..]) {
                Some(closed) => closed,
                None => return fail("comment ends before closing delimiter"),
            };
            continue;
        }
        tokens.push(Token::Open);
        (rest, trim) = action(rest, &mut tokens)?;
        tokens.push(Token::Close);
    }
}

const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

fn push_text(tokens: &mut Vec<Token>, text: &str) {
    if !text.is_empty() {
        tokens.push(Token::Text(text.to_owned()));
    }
}

/// `}}` or ` -}}` at the front: what follows, and whether it is to be trimmed.
fn closing(text: &str) -> Option<(&str, bool)> {
    if let Some(rest) = text.strip_prefix("}}") {
        return Some((rest, false));
    }
    let inner = text.trim_start_matches(SPACE);
    (inner.len() < text.len())
        .then(|| inner.strip_prefix("-}}"))
        .flatten()
        .map(|rest| (rest, true))
}

/// The inside of `{{…}}`. Returns what follows it, and whether that is to be trimmed.
fn action<'a>(mut rest: &'a str, tokens: &mut Vec<Token>) -> Result<(&'a str, bool)> {
    loop {
        if let Some(closed) = closing(rest) {
            return Ok(closed);
        }
        let Some(first) = rest.chars().next() else {
            return fail("unclosed action");
        };
        let (token, length) = match first {
            c if SPACE.contains(&c) => (Token::Space, rest.len() - rest.trim_start_matches(SPACE).len()),
            '|' => (Token::Pipe, 1),
            ',' => (Token::Comma, 1),
            '(' => (Token::LeftParen, 1),
            ')' => (Token::RightParen, 1),
            '=' => (Token::Assign, 1),
            ':' if rest.starts_with(":=") => (Token::Declare, 2),
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => number(rest)?,
            '.' => {
                let name = word(&rest[1..]);
                (Token::Field(name.to_owned()), 1 + name.len())
            }
            '$' => {
                let name = word(&rest[1..]);
                (Token::Variable(name.to_owned()), 1 + name.len())
            }
            '"' => quoted(rest)?,
            '`' => {
                let Some(end) = rest[1..].find('`') else {
                    return fail("unterminated raw quoted string");
                };
                (Token::Str(rest[1..1 + end].to_owned()), end + 2)
            }
            '\'' => character(rest)?,
            c if c.is_ascii_digit() || c == '-' || c == '+' => number(rest)?,
            c if c.is_alphabetic() || c == '_' => {
                let name = word(rest);
                (Token::Word(name.to_owned()), name.len())
            }
            c => return fail(format!("unexpected {c:?} in a template action")),
        };
        rest = &rest[length..];
        tokens.push(token);
    }
}

fn word(text: &str) -> &str {
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(text.len());
    &text[..end]
}

fn number(text: &str) -> Result<(Token, usize)> {
    let signed = text.strip_prefix(['-', '+']).map_or(0, |_| 1);
    let mut end = text.len();
    for (at, c) in text.char_indices().skip(signed) {
        let exponent_sign = (c == '-' || c == '+') && text[..at].ends_with(['e', 'E']) && !text.contains("0x");
        if !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || exponent_sign) {
            end = at;
            break;
        }
    }
    let digits = text[..end].replace('_', "");
    let (sign, plain) = match digits.strip_prefix('-') {
        Some(plain) => (-1, plain),
        None => (1, digits.strip_prefix('+').unwrap_or(&digits)),
    };
    let radix = |prefix: [&str; 2], radix| {
        prefix
            .iter()
            .find_map(|p| plain.strip_prefix(p))
            .and_then(|rest| i64::from_str_radix(rest, radix).ok())
    };
    let whole = radix(["0x", "0X"], 16)
        .or_else(|| radix(["0o", "0O"], 8))
        .or_else(|| radix(["0b", "0B"], 2));
    if let Some(value) = whole.or_else(|| plain.parse().ok()) {
        return Ok((Token::Int(sign * value), end));
    }
    // Rust reads words such as "inf" as floats, Go does not.
    match plain.parse::<f64>() {
        Ok(value) if plain.contains(|c: char| c.is_ascii_digit()) => Ok((Token::Float(sign as f64 * value), end)),
        _ => fail(format!("bad number syntax: {:?}", &text[..end])),
    }
}

fn quoted(text: &str) -> Result<(Token, usize)> {
    let mut value = String::new();
    let mut at = 1;
    loop {
        let Some(c) = text[at..].chars().next() else {
            return fail("unterminated quoted string");
        };
        match c {
            '"' => return Ok((Token::Str(value), at + 1)),
            '\n' => return fail("unterminated quoted string"),
            '\\' => {
                let (c, length) = escape(&text[at..])?;
                value.push(c);
                at += length;
            }
            c => {
                value.push(c);
                at += c.len_utf8();
            }
        }
    }
}

/// `'x'`: a number, as in Go.
fn character(text: &str) -> Result<(Token, usize)> {
    let Some(c) = text[1..].chars().next() else {
        return fail("unterminated character constant");
    };
    let (c, length) = if c == '\\' {
        escape(&text[1..])?
    } else {
        (c, c.len_utf8())
    };
    if !text[1 + length..].starts_with('\'') {
        return fail("unterminated character constant");
    }
    Ok((Token::Int(i64::from(u32::from(c))), length + 2))
}

/// A backslash escape: the character and how many bytes it took.
fn escape(text: &str) -> Result<(char, usize)> {
    let Some(c) = text[1..].chars().next() else {
        return fail("unterminated escape");
    };
    let simple = match c {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'v' => '\x0b',
        '\\' | '"' | '\'' => c,
        'x' | 'u' | 'U' => {
            let length = match c {
                'x' => 2,
                'u' => 4,
                _ => 8,
            };
            let digits = text.get(2..2 + length).unwrap_or_default();
            return match u32::from_str_radix(digits, 16).ok().and_then(char::from_u32) {
                Some(value) => Ok((value, 2 + length)),
                None => fail(format!("bad escape \\{c}{digits}")),
            };
        }
        other => return fail(format!("unknown escape \\{other}")),
    };
    Ok((simple, 2))
}
