//! The byte form of plans and messages: little endian, length in front, no self description.
//!
//! Both ends come from the same build (the daemon starts the shim from its own copy), except for a shim that outlived
//! an upgrade; the protocol version in [`crate::proto`] covers that. Decoding trusts nothing: every length is checked
//! against what is left, so that a hostile message costs an error and never an allocation larger than itself.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside a value.
    #[error("the message ends too early")]
    Short,
    /// A value is outside what its type allows.
    #[error("the message holds an unknown {0}")]
    Unknown(&'static str),
    /// Bytes are left over after the last value.
    #[error("the message is longer than its content")]
    Trailing,
}

/// A value with a byte form.
pub trait Wire: Sized {
    /// Appends the value to `out`.
    fn put(&self, out: &mut Vec<u8>);
    /// Takes a value from the front of `from`.
    ///
    /// # Errors
    /// [`WireError`] when the bytes are not such a value.
    fn get(from: &mut Reader<'_>) -> Result<Self, WireError>;

    /// The byte form of this value alone.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }

    /// The value that `bytes`, all of them, stand for.
    ///
    /// # Errors
    /// [`WireError`] when the bytes are not such a value, or more than one.
    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let value = Self::get(&mut reader)?;
        if reader.is_empty() {
            Ok(value)
        } else {
            Err(WireError::Trailing)
        }
    }
}

/// A position in bytes that are being decoded.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Whether everything was taken.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes `count` bytes.
    ///
    /// # Errors
    /// [`WireError::Short`] when fewer are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(WireError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes a length and as many bytes.
    ///
    /// # Errors
    /// [`WireError::Short`] when fewer are left.
    pub fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let count = u32::get(self)? as usize;
        self.take(count)
    }
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // A plan is bounded far below 4 GiB (ARG_MAX, PATH_MAX); a longer value would be refused by the receiver as short.
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

macro_rules! wire_int {
    ($($t:ty),*) => {$(
        impl Wire for $t {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn get(from: &mut Reader<'_>) -> Result<Self, WireError> {
                let bytes = from.take(size_of::<$t>())?;
                bytes.try_into().map(<$t>::from_le_bytes).map_err(|_| WireError::Short)
            }
        }
    )*};
}
wire_int!(u8, u16, u32, u64, i32, i64);

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, WireError> {
        match u8::get(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Unknown("truth value")),
        }
    }
}

impl Wire for OsString {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.as_bytes());
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(OsString::from_vec(from.bytes()?.to_vec()))
    }
}

impl Wire for PathBuf {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.as_os_str().as_bytes());
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Path::new(OsStr::from_bytes(from.bytes()?)).to_owned())
    }
}

impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.as_bytes());
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, WireError> {
        String::from_utf8(from.bytes()?.to_vec()).map_err(|_| WireError::Unknown("text (not UTF-8)"))
    }
}

/// Bytes as they are: a seccomp or device program, a file's content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Blob(pub Vec<u8>);

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Blob {
        Blob(bytes)
    }
}

impl std::ops::Deref for Blob {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Wire for Blob {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.0);
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Blob(from.bytes()?.to_vec()))
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        for item in self {
            item.put(out);
        }
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, WireError> {
        let count = u32::get(from)?;
        // No `with_capacity(count)`: the count is the sender's word, the items are not there yet.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(T::get(from)?);
        }
        Ok(items)
    }
}

impl<T: Wire> Wire for Box<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, WireError> {
        T::get(from).map(Box::new)
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(if bool::get(from)? { Some(T::get(from)?) } else { None })
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok((A::get(from)?, B::get(from)?))
    }
}

/// Declares a struct together with its byte form: the fields in the order in which they stand.
macro_rules! wire_struct {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* pub $field:ident : $type:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name { $($(#[$fmeta])* pub $field: $type),* }
        impl $crate::wire::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $($crate::wire::Wire::put(&self.$field, out);)*
            }
            fn get(from: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::wire::WireError> {
                Ok($name { $($field: $crate::wire::Wire::get(from)?),* })
            }
        }
    };
}

/// Declares an enum together with its byte form: a tag, then the fields of that variant.
macro_rules! wire_enum {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$vmeta:meta])* $tag:literal => $variant:ident $({ $($(#[$fmeta:meta])* $field:ident : $type:ty),* $(,)? })?),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name { $($(#[$vmeta])* $variant $({ $($(#[$fmeta])* $field: $type),* })?),* }
        impl $crate::wire::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $($name::$variant $({ $($field),* })? => {
                        out.push($tag);
                        $($($crate::wire::Wire::put($field, out);)*)?
                    })*
                }
            }
            fn get(from: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::wire::WireError> {
                match <u8 as $crate::wire::Wire>::get(from)? {
                    $($tag => Ok($name::$variant $({ $($field: $crate::wire::Wire::get(from)?),* })?),)*
                    _ => Err($crate::wire::WireError::Unknown(stringify!($name))),
                }
            }
        }
    };
}

pub(crate) use {wire_enum, wire_struct};
