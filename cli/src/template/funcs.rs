//! The functions a template can call: Go's own, and the docker client's.

use serde_json::{Number, Value};

use super::eval::{sorted, truth};
use super::{Result, fail, printf};

/// Names are checked when the template is parsed, so that a typing error is found even in a branch not taken.
pub fn known(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "print", "printf", "println",
        "html", "js", "urlquery", "json", "split", "join", "title", "lower", "upper", "pad", "truncate",
    ];
    NAMES.contains(&name)
}

pub fn call(name: &str, args: &[Value]) -> Result<Value> {
    match (name, args) {
        ("not", [value]) => Ok(Value::Bool(!truth(value))),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => {
            for other in rest {
                if equal(first, other)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        ("ne", [a, b]) => Ok(Value::Bool(!equal(a, b)?)),
        ("lt", [a, b]) => Ok(Value::Bool(compare(a, b)?.is_lt())),
        ("le", [a, b]) => Ok(Value::Bool(compare(a, b)?.is_le())),
        ("gt", [a, b]) => Ok(Value::Bool(compare(a, b)?.is_gt())),
        ("ge", [a, b]) => Ok(Value::Bool(compare(a, b)?.is_ge())),
        ("len", [value]) => length(value),
        ("index", [value, keys @ ..]) => index(value, keys),
        ("slice", [value, bounds @ ..]) if bounds.len() <= 2 => slice(value, bounds),
        ("print", args) => Ok(Value::from(print(args))),
        ("println", args) => Ok(Value::from(
            args.iter().map(display).collect::<Vec<_>>().join(" ") + "\n",
        )),
        ("printf", [format, args @ ..]) => match format {
            Value::String(format) => Ok(Value::from(printf::format(format, args))),
            other => fail(format!("wrong type for value; expected string; got {}", kind(other))),
        },
        ("html", args) => Ok(Value::from(html(&print(args)))),
        ("js", args) => Ok(Value::from(js(&print(args)))),
        ("urlquery", args) => Ok(Value::from(urlquery(&print(args)))),
        ("json", [value]) => Ok(Value::from(json(value))),
        ("split", [text, separator]) => {
            let (text, separator) = (string(text)?, string(separator)?);
            Ok(match separator {
                "" => text.chars().map(|c| Value::from(c.to_string())).collect(),
                _ => text.split(separator).map(Value::from).collect(),
            })
        }
        ("join", [list, separator]) => join(list, string(separator)?),
        ("title", [text]) => Ok(Value::from(title(string(text)?))),
        ("lower", [text]) => Ok(Value::from(string(text)?.to_lowercase())),
        ("upper", [text]) => Ok(Value::from(string(text)?.to_uppercase())),
        ("pad", [text, before, after]) => pad(string(text)?, before, after),
        ("truncate", [text, length]) => {
            let (text, length) = (string(text)?, count(length)?);
            Ok(Value::from(text.chars().take(length).collect::<String>()))
        }
        _ => fail(format!("wrong number of args: got {}", args.len())),
    }
}

/// A value as `{{.}}` prints it.
pub fn display(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        other => inner(other),
    }
}

/// A value inside of another one.
fn inner(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(number) => self::number(number),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(inner).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let entries: Vec<_> = sorted(map)
                .into_iter()
                .map(|(key, value)| format!("{key}:{}", inner(value)))
                .collect();
            format!("map[{}]", entries.join(" "))
        }
    }
}

fn number(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => printf::shortest(float),
        _ => number.to_string(),
    }
}

pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// JSON as Go writes it: map keys stay as the daemon sent them, no HTML escapes.
pub fn json(value: &Value) -> String {
    value.to_string()
}

/// Operands are separated by a space where neither side is a string.
fn print(args: &[Value]) -> String {
    let mut out = String::new();
    for (at, arg) in args.iter().enumerate() {
        if at > 0 && !arg.is_string() && !args[at - 1].is_string() {
            out.push(' ');
        }
        out.push_str(&display(arg));
    }
    out
}

fn equal(a: &Value, b: &Value) -> Result<bool> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => Ok(a == b || a.as_f64() == b.as_f64()),
        (Value::Null, _) | (_, Value::Null) => Ok(a == b),
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => {
            fail("non-comparable types: lists and maps cannot be compared")
        }
        _ if kind(a) == kind(b) => Ok(a == b),
        _ => fail("incompatible types for comparison"),
    }
}

fn compare(a: &Value, b: &Value) -> Result<std::cmp::Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (Value::Number(x), Value::Number(y)) => {
            let whole = x.as_i64().zip(y.as_i64()).map(|(x, y)| x.cmp(&y));
            match whole.or_else(|| x.as_f64()?.partial_cmp(&y.as_f64()?)) {
                Some(order) => Ok(order),
                None => fail("numbers that cannot be compared"),
            }
        }
        _ => fail("incompatible types for comparison"),
    }
}

fn length(value: &Value) -> Result<Value> {
    match value {
        Value::String(text) => Ok(Value::from(text.len())),
        Value::Array(list) => Ok(Value::from(list.len())),
        Value::Object(map) => Ok(Value::from(map.len())),
        // A list or map that the daemon left out is an empty one.
        Value::Null => Ok(Value::from(0)),
        other => fail(format!("len of type {}", kind(other))),
    }
}

fn index(value: &Value, keys: &[Value]) -> Result<Value> {
    let mut value = value.clone();
    for key in keys {
        value = match (&value, key) {
            (Value::Array(list), Value::Number(at)) => match at.as_u64().and_then(|at| list.get(at as usize)) {
                Some(found) => found.clone(),
                None => return fail(format!("index out of range: {at}")),
            },
            (Value::String(text), Value::Number(at)) => {
                match at.as_u64().and_then(|at| text.as_bytes().get(at as usize)) {
                    Some(byte) => Value::from(*byte),
                    None => return fail(format!("index out of range: {at}")),
                }
            }
            (Value::Object(map), Value::String(key)) => match map.get(key) {
                Some(found) => found.clone(),
                // Labels, options and the like: a missing one is the empty string, as Go's map of strings has it.
                None if map.values().all(Value::is_string) => Value::from(""),
                None => Value::Null,
            },
            (Value::Null, Value::String(_)) => Value::Null,
            (Value::Null, _) => return fail("index of untyped nil"),
            (Value::Array(_) | Value::String(_), key) => {
                return fail(format!("cannot index slice/array with type {}", kind(key)));
            }
            (other, _) => return fail(format!("can't index item of type {}", kind(other))),
        };
    }
    Ok(value)
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value> {
    let length = match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.len(),
        other => return fail(format!("can't slice item of type {}", kind(other))),
    };
    let from = bounds.first().map_or(Ok(0), count)?;
    let to = bounds.get(1).map_or(Ok(length), count)?;
    if from > to || to > length {
        return fail(format!("invalid slice index: {from} > {to} or beyond {length}"));
    }
    match value {
        Value::Array(list) => Ok(Value::Array(list[from..to].to_vec())),
        Value::String(text) => Ok(Value::from(
            String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned(),
        )),
        _ => Ok(Value::Null),
    }
}

fn join(list: &Value, separator: &str) -> Result<Value> {
    match list {
        Value::Array(list) => Ok(Value::from(
            list.iter().map(display).collect::<Vec<_>>().join(separator),
        )),
        Value::Null => Ok(Value::from("")),
        other => fail(format!("expected a list; got {}", kind(other))),
    }
}

fn string(value: &Value) -> Result<&str> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Ok(""),
        other => fail(format!("wrong type for value; expected string; got {}", kind(other))),
    }
}

fn count(value: &Value) -> Result<usize> {
    match value.as_u64() {
        // Beyond it a width is a mistake, and would only fill the memory.
        Some(count) if count <= 1 << 20 => Ok(count as usize),
        _ => fail(format!("expected a small whole number; got {}", display(value))),
    }
}

fn pad(text: &str, before: &Value, after: &Value) -> Result<Value> {
    if text.is_empty() {
        return Ok(Value::from(""));
    }
    Ok(Value::from(format!(
        "{}{text}{}",
        " ".repeat(count(before)?),
        " ".repeat(count(after)?)
    )))
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut start = true;
    for c in text.chars() {
        if start {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        start = !(c.is_alphanumeric() || c == '_' || c == '\'');
    }
    out
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn urlquery(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
