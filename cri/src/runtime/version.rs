//! `Version`.

use crate::API_VERSION;
use cri_api::VersionResponse;

/// Kubelets compare it with this text, whatever they and the runtime are.
const PROTOCOL: &str = "0.1.0";

pub fn version() -> VersionResponse {
    VersionResponse {
        version: PROTOCOL.to_owned(),
        runtime_name: "iechor".to_owned(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime_api_version: API_VERSION.to_owned(),
    }
}
