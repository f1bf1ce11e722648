//! API versions ("1.51") and the choice of the one both sides speak.

use std::fmt;
use std::str::FromStr;

/// A version of the REST API. Ordered, so that features can be compared with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    pub major: u16,
    pub minor: u16,
}

/// The newest version this client knows.
pub const NEWEST: ApiVersion = ApiVersion::new(1, 55);
/// The oldest version this client can speak: before it, `wait` and streams behave in other ways.
pub const OLDEST: ApiVersion = ApiVersion::new(1, 40);

impl ApiVersion {
    pub const fn new(major: u16, minor: u16) -> ApiVersion {
        ApiVersion { major, minor }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<ApiVersion, String> {
        let wrong = || format!("{text:?} is not an API version like 1.51");
        let (major, minor) = text
            .strip_prefix('v')
            .unwrap_or(text)
            .split_once('.')
            .ok_or_else(wrong)?;
        let number = |part: &str| {
            if part.bytes().all(|b| b.is_ascii_digit()) {
                part.parse().map_err(|_| wrong())
            } else {
                Err(wrong())
            }
        };
        Ok(ApiVersion {
            major: number(major)?,
            minor: number(minor)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_wire_types_and_the_client_agree() {
        assert_eq!(NEWEST.to_string(), agent_api::API_VERSION);
        assert_eq!(OLDEST.to_string(), agent_api::MIN_API_VERSION);
    }

    #[test]
    fn versions_parse_and_order() {
        assert_eq!("1.51".parse::<ApiVersion>().unwrap(), ApiVersion::new(1, 51));
        assert_eq!("v1.9".parse::<ApiVersion>().unwrap().to_string(), "1.9");
        assert!(ApiVersion::new(1, 9) < ApiVersion::new(1, 10));
        for bad in ["", "1", "1.", ".1", "1.x", "1.2.3", "+1.2", "1.99999999"] {
            assert!(bad.parse::<ApiVersion>().is_err(), "{bad}");
        }
    }
}
