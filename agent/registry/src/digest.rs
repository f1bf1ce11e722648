//! Content digests: `sha256:<hex>` and its longer relatives.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// A validated content digest, for example `sha256:2c26b4…`.
///
/// Only the algorithms that registries use are known (sha256, sha384, sha512), so that whoever holds one can also
/// verify content against it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(Box<str>);

/// Why a text is no digest. The words are those of Docker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No `algorithm:hex` at all.
    #[error("invalid checksum digest format")]
    Format,
    /// A hex part that is too short or too long for its algorithm.
    #[error("invalid checksum digest length")]
    Length,
    /// A well-formed digest of an algorithm that we cannot compute.
    #[error("unsupported digest algorithm")]
    Unsupported,
}

impl Digest {
    /// Parse `algorithm:hex`.
    ///
    /// # Errors
    /// When the text is malformed, its length does not fit the algorithm, or the algorithm is unknown.
    pub fn parse(text: &str) -> Result<Digest, DigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError::Format)?;
        if algorithm.is_empty() || hex.is_empty() {
            return Err(DigestError::Format);
        }
        let length = match algorithm {
            "sha256" => 64,
            "sha384" => 96,
            "sha512" => 128,
            _ if is_algorithm(algorithm) && is_encoded(hex) => return Err(DigestError::Unsupported),
            _ => return Err(DigestError::Format),
        };
        if hex.len() != length {
            return Err(DigestError::Length);
        }
        // Upper case would make two names for one content.
        if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(DigestError::Format);
        }
        Ok(Digest(text.into()))
    }

    /// The sha256 digest of `content`.
    pub fn of(content: &[u8]) -> Digest {
        Digest(format!("sha256:{}", hex::encode(Sha256::digest(content))).into())
    }

    /// `sha256`, `sha384` or `sha512`.
    pub fn algorithm(&self) -> &str {
        self.0.split_once(':').map_or("", |(algorithm, _)| algorithm)
    }

    /// The hexadecimal part.
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }

    /// The whole text, `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `content` has this digest.
    pub fn matches(&self, content: &[u8]) -> bool {
        let mut hasher = self.hasher();
        hasher.update(content);
        hasher.finish() == *self
    }

    /// A hasher of this digest's algorithm.
    pub(crate) fn hasher(&self) -> Hasher {
        match self.algorithm() {
            "sha384" => Hasher::Sha384(Sha384::new()),
            "sha512" => Hasher::Sha512(Sha512::new()),
            _ => Hasher::Sha256(Sha256::new()),
        }
    }
}

/// What `algorithm` of a digest may look like: words joined by one of `+ . - _`.
fn is_algorithm(text: &str) -> bool {
    text.split(['+', '.', '-', '_']).all(|word| {
        word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

fn is_encoded(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Running hash of a stream.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hash) => hash.update(bytes),
            Hasher::Sha384(hash) => hash.update(bytes),
            Hasher::Sha512(hash) => hash.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        let text = match self {
            Hasher::Sha256(hash) => format!("sha256:{}", hex::encode(hash.finalize())),
            Hasher::Sha384(hash) => format!("sha384:{}", hex::encode(hash.finalize())),
            Hasher::Sha512(hash) => format!("sha512:{}", hex::encode(hash.finalize())),
        };
        Digest(text.into())
    }
}

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Digest, DigestError> {
        Digest::parse(text)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Digest::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_digest_of_nothing_is_the_well_known_one() {
        let empty = Digest::of(b"");
        assert_eq!(
            empty.as_str(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(empty.algorithm(), "sha256");
        assert!(empty.matches(b"") && !empty.matches(b"x"));
    }

    #[test]
    fn malformed_digests_are_told_apart() {
        let hex = "a".repeat(64);
        for (text, error) in [
            (String::new(), DigestError::Format),
            ("sha256".into(), DigestError::Format),
            (":".into(), DigestError::Format),
            ("sha256:".into(), DigestError::Format),
            (format!(":{hex}"), DigestError::Format),
            ("sha256:abc".into(), DigestError::Length),
            (format!("sha512:{hex}"), DigestError::Length),
            (format!("sha256:{}", "A".repeat(64)), DigestError::Format),
            (format!("sha256:{}", "g".repeat(64)), DigestError::Format),
            (format!("md5:{}", "a".repeat(32)), DigestError::Unsupported),
            (format!("sha256+b64:{hex}"), DigestError::Unsupported),
            (format!("../..:{hex}"), DigestError::Format),
        ] {
            assert_eq!(Digest::parse(&text).unwrap_err(), error, "{text}");
        }
        for (algorithm, length) in [("sha256", 64), ("sha384", 96), ("sha512", 128)] {
            let text = format!("{algorithm}:{}", "0".repeat(length));
            let digest = Digest::parse(&text).unwrap();
            assert_eq!(digest.to_string(), text);
            assert_eq!(digest.hasher().finish().algorithm(), algorithm);
        }
    }
}
