//! API versions: the `/vX.Y` prefix, what is served, and the words for what is not.

use std::fmt;

use agent_api::{API_VERSION, MIN_API_VERSION};

use crate::error::ApiError;

/// `major.minor`, ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    pub major: u16,
    pub minor: u16,
}

impl ApiVersion {
    /// `1.minor`, for comparing with.
    pub const fn v1(minor: u16) -> ApiVersion {
        ApiVersion { major: 1, minor }
    }

    /// Reads `1.47`; more parts than two are no version.
    pub fn parse(text: &str) -> Option<ApiVersion> {
        let (major, minor) = text.split_once('.')?;
        let number = |text: &str| -> Option<u16> {
            (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
        };
        Some(ApiVersion {
            major: number(major)?,
            minor: number(minor)?,
        })
    }

    pub const NEWEST: ApiVersion = ApiVersion::v1(55);
    pub const OLDEST: ApiVersion = ApiVersion::v1(40);

    /// Whether this is API `1.minor` or later.
    pub fn since(self, minor: u16) -> bool {
        self >= ApiVersion::v1(minor)
    }

    /// Refuses a version that is not served, in dockerd's words.
    pub fn check(self) -> Result<ApiVersion, ApiError> {
        if self < Self::OLDEST {
            return Err(ApiError::bad(format!(
                "client version {self} is too old. Minimum supported API version is {MIN_API_VERSION}, please upgrade your client to a newer version"
            )));
        }
        if self > Self::NEWEST {
            return Err(ApiError::bad(format!(
                "client version {self} is too new. Maximum supported API version is {API_VERSION}"
            )));
        }
        Ok(self)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Splits `/v1.47/info` into version and `/info`. A path without a version means the newest.
///
/// A prefix that only looks like a version (`/v1`, `/vx.y/…`) is an ordinary path, which nobody serves.
pub fn split(path: &str) -> (Option<ApiVersion>, &str) {
    let Some(rest) = path.strip_prefix("/v") else {
        return (None, path);
    };
    let end = rest.find('/').unwrap_or(rest.len());
    match ApiVersion::parse(&rest[..end]) {
        Some(version) if end < rest.len() => (Some(version), &rest[end..]),
        _ => (None, path),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn prefixes_are_split_off() {
        assert_eq!(split("/v1.47/info"), (Some(ApiVersion::v1(47)), "/info"));
        assert_eq!(split("/info"), (None, "/info"));
        assert_eq!(split("/v1.47"), (None, "/v1.47"));
        assert_eq!(split("/volumes"), (None, "/volumes"));
        assert_eq!(split("/version"), (None, "/version"));
        assert_eq!(split("/vx.1/info"), (None, "/vx.1/info"));
        assert_eq!(split("/v1.99999999/info"), (None, "/v1.99999999/info"));
    }

    #[test]
    fn the_constants_agree() {
        assert_eq!(ApiVersion::parse(API_VERSION), Some(ApiVersion::NEWEST));
        assert_eq!(ApiVersion::parse(MIN_API_VERSION), Some(ApiVersion::OLDEST));
        assert!(ApiVersion::v1(9) < ApiVersion::v1(40));
    }

    #[test]
    fn refusals_have_dockers_words() {
        let words = |text: &str| ApiVersion::parse(text).unwrap().check().unwrap_err().message;
        assert_eq!(
            words("1.99"),
            "client version 1.99 is too new. Maximum supported API version is 1.55"
        );
        assert_eq!(
            words("1.20"),
            "client version 1.20 is too old. Minimum supported API version is 1.40, please upgrade your client to a newer version"
        );
        assert!(ApiVersion::v1(40).check().is_ok() && ApiVersion::v1(55).check().is_ok());
    }
}
