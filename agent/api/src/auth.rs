//! Registry credentials as clients send them in headers.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{json, omit};

/// Header that carries one set of credentials.
pub const REGISTRY_AUTH: &str = "X-Registry-Auth";

/// Credentials for one registry. `Debug` hides the secrets.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AuthConfig {
    #[serde(skip_serializing_if = "omit::zero")]
    pub username: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub password: String,
    /// `user:password` in base64; the older form.
    #[serde(skip_serializing_if = "omit::zero")]
    pub auth: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub serveraddress: String,
    /// A refresh token in place of a password.
    #[serde(skip_serializing_if = "omit::zero")]
    pub identitytoken: String,
    /// A bearer token to be sent as it is.
    #[serde(skip_serializing_if = "omit::zero")]
    pub registrytoken: String,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("serveraddress", &self.serveraddress)
            .finish_non_exhaustive()
    }
}

impl AuthConfig {
    /// The header's value.
    pub fn encode(&self) -> String {
        // A struct of strings always serialises.
        URL_SAFE.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads a header's value; dockerd takes one that it cannot read for "no credentials", and so must the caller.
    pub fn decode(header: &str) -> Option<AuthConfig> {
        let text = header.trim();
        if text.is_empty() {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
        json::from_slice(&bytes).ok()
    }

    /// Whether there is nothing to log in with.
    pub fn is_empty(&self) -> bool {
        self.username.is_empty()
            && self.password.is_empty()
            && self.auth.is_empty()
            && self.identitytoken.is_empty()
            && self.registrytoken.is_empty()
    }
}

/// Answer of `POST /auth`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct AuthResponse {
    #[serde(skip_serializing_if = "omit::zero")]
    pub identity_token: String,
    pub status: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_header_round_trips_and_garbage_is_no_login() {
        let auth = AuthConfig {
            username: "u".into(),
            password: "p?>".into(),
            ..AuthConfig::default()
        };
        assert_eq!(AuthConfig::decode(&auth.encode()).unwrap(), auth);
        assert_eq!(AuthConfig::decode(auth.encode().trim_end_matches('=')).unwrap(), auth);
        for bad in ["", "!!!", "bm90IGpzb24=", "W10="] {
            assert_eq!(AuthConfig::decode(bad), None, "{bad}");
        }
        assert!(AuthConfig::decode("e30=").unwrap().is_empty());
    }

    #[test]
    fn debug_output_has_no_secret() {
        let auth = AuthConfig {
            password: "hunter2".into(),
            identitytoken: "tok".into(),
            ..AuthConfig::default()
        };
        let text = format!("{auth:?}");
        assert!(!text.contains("hunter2") && !text.contains("tok\""));
    }
}
