//! Reading JSON the way Go's decoder reads it into a struct, with Go's words when it does not fit.
//!
//! The bytes become a tree first (nesting is bounded by the parser), and the tree is read by a deserializer that folds
//! the case of member names and takes `null` for the zero value of whatever is expected. Both sides use it: clients send
//! keys in odd cases, and servers send `null` where a list is empty.

use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};
use serde_json::{Map, Number, Value};

/// Why a body was refused; `Display` is the text of dockerd's answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing but white space.
    #[error("invalid JSON: got EOF while reading request body")]
    Empty,
    /// Bytes that are not JSON.
    #[error("invalid JSON: {0}")]
    Syntax(String),
    /// More bytes after a complete value.
    #[error("unexpected content after JSON")]
    Trailing,
    /// A value of another type than the member has.
    #[error("invalid JSON: {0}")]
    Type(Mismatch),
}

/// A value that does not fit where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    found: String,
    wanted: String,
    /// Member names from the outside in.
    path: Vec<String>,
    other: Option<String>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(other) = &self.other {
            return write!(f, "json: {other}");
        }
        write!(f, "json: cannot unmarshal {} into Go ", self.found)?;
        if self.path.is_empty() {
            f.write_str("value")?
        } else {
            write!(f, "struct field .{}", self.path.join("."))?
        }
        write!(f, " of type {}", self.wanted)
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Mismatch {
            other: Some(message.to_string()),
            ..Mismatch::default()
        }
    }

    fn invalid_type(found: de::Unexpected<'_>, wanted: &dyn de::Expected) -> Self {
        let found = match found {
            de::Unexpected::Bool(_) => "bool",
            de::Unexpected::Unsigned(_) | de::Unexpected::Signed(_) | de::Unexpected::Float(_) => "number",
            de::Unexpected::Str(_) => "string",
            de::Unexpected::Seq => "array",
            _ => "object",
        };
        Mismatch {
            found: found.to_owned(),
            wanted: wanted.to_string(),
            ..Mismatch::default()
        }
    }
}

/// Reads one value from `bytes`.
///
/// # Errors
/// [`Error`], in dockerd's words.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    from_value(parse(bytes)?)
}

/// Reads one value from a tree that was parsed before.
///
/// # Errors
/// [`Error::Type`].
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(Node(value)).map_err(Error::Type)
}

/// Parses exactly one JSON value.
///
/// # Errors
/// Everything but [`Error::Type`].
pub fn parse(bytes: &[u8]) -> Result<Value, Error> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::Empty);
    }
    let mut stream = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let value = match stream.next() {
        Some(Ok(value)) => value,
        Some(Err(error)) => return Err(Error::Syntax(syntax(bytes, &error))),
        None => return Err(Error::Empty),
    };
    let rest = bytes.get(stream.byte_offset()..).unwrap_or_default();
    if rest.iter().all(u8::is_ascii_whitespace) {
        Ok(value)
    } else {
        Err(Error::Trailing)
    }
}

/// Go's sentence for a syntax error that serde_json found.
fn syntax(bytes: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected EOF".to_owned();
    }
    let line = bytes
        .split(|b| *b == b'\n')
        .nth(error.line().saturating_sub(1))
        .unwrap_or_default();
    let at = String::from_utf8_lossy(line.get(error.column().saturating_sub(1)..).unwrap_or_default())
        .chars()
        .next();
    let place = match error.to_string() {
        text if text.starts_with("key must be a string") || text.starts_with("trailing comma") => {
            "looking for beginning of object key string"
        }
        text if text.starts_with("expected `:`") => "after object key",
        text if text.starts_with("expected `,` or `}`") => "after object key:value pair",
        text if text.starts_with("expected `,` or `]`") => "after array element",
        text if text.starts_with("control character") => "in string literal",
        text if text.starts_with("invalid escape") => "in string escape code",
        text if text.starts_with("invalid number") => "in numeric literal",
        text if text.starts_with("expected ident") => "in literal",
        text if text.starts_with("expected value") => "looking for beginning of value",
        text if text.starts_with("recursion limit") => return "exceeded max depth".to_owned(),
        text => return text,
    };
    match at {
        Some(found) => format!("invalid character {found:?} {place}"),
        None => "unexpected end of JSON input".to_owned(),
    }
}

/// A value on its way into a Rust type.
struct Node(Value);

fn unexpected(value: &Value) -> de::Unexpected<'_> {
    match value {
        Value::Null => de::Unexpected::Unit,
        Value::Bool(b) => de::Unexpected::Bool(*b),
        Value::Number(_) => de::Unexpected::Signed(0),
        Value::String(s) => de::Unexpected::Str(s),
        Value::Array(_) => de::Unexpected::Seq,
        Value::Object(_) => de::Unexpected::Map,
    }
}

/// `Expected` with a Go type name.
struct Go(&'static str);

impl de::Expected for Go {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Node {
    fn refuse<T>(&self, wanted: &'static str) -> Result<T, Mismatch> {
        Err(de::Error::invalid_type(unexpected(&self.0), &Go(wanted)))
    }

    /// A number that fits the range of the Go type, or the refusal that quotes it.
    fn integer<T: TryFrom<i128>>(&self, wanted: &'static str) -> Result<T, Mismatch> {
        match &self.0 {
            Value::Null => T::try_from(0).or_else(|_| self.refuse(wanted)),
            Value::Number(number) => whole(number).and_then(|n| T::try_from(n).ok()).ok_or_else(|| Mismatch {
                found: format!("number {number}"),
                wanted: wanted.to_owned(),
                ..Mismatch::default()
            }),
            _ => self.refuse(wanted),
        }
    }
}

fn whole(number: &Number) -> Option<i128> {
    number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from))
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty, $go:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            visitor.$visit(self.integer::<$type>($go)?)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Node {
    type Error = Mismatch;

    integers! {
        deserialize_i8 visit_i8 i8, "int8";
        deserialize_i16 visit_i16 i16, "int16";
        deserialize_i32 visit_i32 i32, "int32";
        deserialize_i64 visit_i64 i64, "int64";
        deserialize_u8 visit_u8 u8, "uint8";
        deserialize_u16 visit_u16 u16, "uint16";
        deserialize_u32 visit_u32 u32, "uint32";
        deserialize_u64 visit_u64 u64, "uint64";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(b),
            Value::Number(n) => match (n.as_u64(), n.as_i64()) {
                (Some(n), _) => visitor.visit_u64(n),
                (None, Some(n)) => visitor.visit_i64(n),
                _ => visitor.visit_f64(n.as_f64().unwrap_or_default()),
            },
            Value::String(s) => visitor.visit_string(s),
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            Value::Object(members) => visitor.visit_map(Members::new(members, None)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(b) => visitor.visit_bool(b),
            _ => self.refuse("bool"),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match &self.0 {
            Value::Null => visitor.visit_f64(0.0),
            Value::Number(n) => visitor.visit_f64(n.as_f64().unwrap_or_default()),
            _ => self.refuse("float64"),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_str(""),
            Value::String(s) => visitor.visit_string(s),
            _ => self.refuse("string"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        if self.0.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_seq(Items(Vec::new().into_iter())),
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            _ => self.refuse("[]string"),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &str, _: usize, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_map(Members::new(Map::new(), None)),
            Value::Object(members) => visitor.visit_map(Members::new(members, None)),
            _ => self.refuse("map[string]string"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_map(Members::new(Map::new(), Some(fields))),
            Value::Object(members) => visitor.visit_map(Members::new(members, Some(fields))),
            _ => self.refuse(name),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::String(s) => visitor.visit_enum(IntoDeserializer::<Mismatch>::into_deserializer(s)),
            Value::Null => visitor.visit_enum(IntoDeserializer::<Mismatch>::into_deserializer("")),
            _ => self.refuse("string"),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &str, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! { i128 u128 bytes byte_buf unit unit_struct ignored_any }
}

struct Items(std::vec::IntoIter<Value>);

impl<'de> de::SeqAccess<'de> for Items {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mismatch> {
        self.0.next().map(|value| seed.deserialize(Node(value))).transpose()
    }
}

/// The members of an object; with `fields`, those of a struct: names folded, the last of a repeated name wins.
struct Members {
    left: std::vec::IntoIter<(String, Value)>,
    current: Option<(String, Value)>,
    named: bool,
}

impl Members {
    fn new(members: Map<String, Value>, fields: Option<&'static [&'static str]>) -> Members {
        let mut list: Vec<(String, Value)> = Vec::with_capacity(members.len());
        match fields {
            None => list.extend(members),
            Some(fields) => {
                for (key, value) in members {
                    let Some(name) = field(fields, &key) else { continue };
                    match list.iter_mut().find(|(known, _)| known == name) {
                        Some(slot) => slot.1 = value,
                        None => list.push((name.to_owned(), value)),
                    }
                }
            }
        }
        Members {
            left: list.into_iter(),
            current: None,
            named: fields.is_some(),
        }
    }
}

/// The struct's own spelling of `key`.
fn field(fields: &'static [&'static str], key: &str) -> Option<&'static str> {
    let exact = fields.iter().find(|name| **name == key);
    exact
        .or_else(|| fields.iter().find(|name| name.eq_ignore_ascii_case(key)))
        .copied()
}

impl<'de> de::MapAccess<'de> for Members {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mismatch> {
        self.current = self.left.next();
        match &self.current {
            Some((key, _)) => seed.deserialize(key.as_str().into_deserializer()).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        let (key, value) = self.current.take().unwrap_or_default();
        seed.deserialize(Node(value)).map_err(|mut mismatch| {
            if self.named {
                mismatch.path.insert(0, key);
            }
            mismatch
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Inner {
        size: i64,
        names: Option<Vec<String>>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Outer {
        image: String,
        tty: bool,
        size: [u32; 2],
        inner: Inner,
        maybe: Option<bool>,
        labels: Option<std::collections::BTreeMap<String, String>>,
        u: u16,
    }

    fn read(text: &str) -> Result<Outer, String> {
        from_slice(text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn keys_in_any_case_nulls_are_zero_and_unknown_members_are_ignored() {
        let outer = read(
            r#"{"IMAGE":"a","image":"b","tTy":null,"inner":{"SIZE":3,"names":null},"X":[{}],
                "Labels":{"Key":null,"key":"v"},"Maybe":null,"U":null}"#,
        )
        .unwrap();
        assert_eq!(outer.image, "b");
        assert_eq!(outer.inner, Inner { size: 3, names: None });
        let labels = outer.labels.unwrap();
        assert_eq!((labels["Key"].as_str(), labels["key"].as_str()), ("", "v"));
        assert_eq!(outer.maybe, None);
        assert_eq!(read("null").unwrap(), Outer::default());
        assert_eq!(read(" {} \n").unwrap(), Outer::default());
    }

    #[test]
    fn refusals_are_in_dockers_words() {
        for (body, words) in [
            ("", "invalid JSON: got EOF while reading request body"),
            ("  \n", "invalid JSON: got EOF while reading request body"),
            (
                "{bad",
                "invalid JSON: invalid character 'b' looking for beginning of object key string",
            ),
            ("{\"a\" 1}", "invalid JSON: invalid character '1' after object key"),
            (
                "{\"a\":1 x",
                "invalid JSON: invalid character 'x' after object key:value pair",
            ),
            ("[1 2]", "invalid JSON: invalid character '2' after array element"),
            (
                "x",
                "invalid JSON: invalid character 'x' looking for beginning of value",
            ),
            ("{\"a\":", "invalid JSON: unexpected EOF"),
            ("{}{}", "unexpected content after JSON"),
            ("{} trailing", "unexpected content after JSON"),
            (
                r#"{"Image":3}"#,
                "invalid JSON: json: cannot unmarshal number into Go struct field .Image of type string",
            ),
            (
                r#"{"Inner":{"Size":"x"}}"#,
                "invalid JSON: json: cannot unmarshal string into Go struct field .Inner.Size of type int64",
            ),
            (
                r#"{"U":70000}"#,
                "invalid JSON: json: cannot unmarshal number 70000 into Go struct field .U of type uint16",
            ),
            (
                r#"{"Inner":{"Size":1.5}}"#,
                "invalid JSON: json: cannot unmarshal number 1.5 into Go struct field .Inner.Size of type int64",
            ),
            (
                "[]",
                "invalid JSON: json: cannot unmarshal array into Go value of type Outer",
            ),
            (
                "\"x\"",
                "invalid JSON: json: cannot unmarshal string into Go value of type Outer",
            ),
            (
                r#"{"Inner":[]}"#,
                "invalid JSON: json: cannot unmarshal array into Go struct field .Inner of type Inner",
            ),
        ] {
            assert_eq!(read(body).unwrap_err(), words, "{body}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = "[".repeat(100_000);
        assert!(read(&deep).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_slice::<Outer>(&bytes);
        }

        #[test]
        fn no_json_like_text_makes_it_panic(text in r#"[\[\]{}:,"a-z0-9.\\ -]{0,60}"#) {
            let _ = from_slice::<Outer>(text.as_bytes());
        }
    }
}
