//! Names and ids that cannot be wrong once they exist.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// 64 lower-case hex digits, random.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(String);

impl ContainerId {
    pub fn random() -> ContainerId {
        ContainerId(random_hex())
    }

    /// Reads a full id, as stored in a record.
    pub fn parse(text: &str) -> Option<ContainerId> {
        (text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
            .then(|| ContainerId(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, as tables and host names show it.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

/// So that tables by id can be asked for text: both compare alike.
impl std::borrow::Borrow<str> for ContainerId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// 32 random bytes as hex: ids of containers, execs and networks.
pub fn random_hex() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

/// Checks a container name: `/?[a-zA-Z0-9][a-zA-Z0-9_.-]+`; the slash is dropped.
pub fn container_name(text: &str) -> Result<String> {
    let name = text.strip_prefix('/').unwrap_or(text);
    let mut bytes = name.bytes();
    let good = name.len() >= 2
        && name.len() <= 255
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if good {
        Ok(name.to_owned())
    } else {
        Err(Error::BadName(text.to_owned()))
    }
}

/// Checks a volume name, which follows the same rule with its own words.
pub fn volume_name(text: &str) -> Result<String> {
    container_name(text).ok().filter(|name| name == text).ok_or_else(|| {
        Error::invalid(format!(
            "create {text}: \"{text}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        ))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["ab", "a.b", "/web-1", "A_1"] {
            assert_eq!(container_name(good).unwrap(), good.trim_start_matches('/'));
        }
        for bad in ["", "a", "-a", "a/b", "a b", "//a", "é1", &"x".repeat(256)] {
            assert!(container_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_are_hex_and_full() {
        let id = ContainerId::random();
        assert_eq!(ContainerId::parse(id.as_str()), Some(id.clone()));
        assert_eq!(id.short().len(), 12);
        assert_eq!(ContainerId::parse("abc"), None);
        assert_eq!(ContainerId::parse(&"G".repeat(64)), None);
    }
}
