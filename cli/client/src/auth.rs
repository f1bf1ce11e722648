//! Registry credentials on their way to the daemon: base64url of a small JSON object in a header.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use http::HeaderName;
use serde::Serialize;

/// Carries [`RegistryAuth`].
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-registry-auth");

/// What a registry wants to hear. Never shown by `Debug`.
#[derive(Clone, Default, Serialize)]
pub struct RegistryAuth {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serveraddress: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identitytoken: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registrytoken: String,
}

impl RegistryAuth {
    pub(crate) fn header(&self) -> String {
        // Five strings cannot fail to serialise.
        URL_SAFE.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RegistryAuth({} at {})", self.username, self.serveraddress)
    }
}
