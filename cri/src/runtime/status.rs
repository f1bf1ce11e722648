//! `Status`: whether the node can run pods.

use std::collections::HashMap;

use agent_engine::Engine;

use cri_api::{RuntimeCondition, RuntimeFeatures, RuntimeStatus, StatusResponse};

const RUNTIME_READY: &str = "RuntimeReady";
const NETWORK_READY: &str = "NetworkReady";

fn not_ready(kind: &str, reason: &str, message: &str) -> RuntimeCondition {
    RuntimeCondition {
        r#type: kind.to_owned(),
        status: false,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

pub fn status(engine: &Engine, verbose: bool) -> StatusResponse {
    let message = "this version of iEchor serves images to a kubelet, and runs no pods yet";
    let mut info = HashMap::new();
    if verbose {
        info.insert("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        info.insert("root".to_owned(), engine.data_root().display().to_string());
    }
    StatusResponse {
        status: Some(RuntimeStatus {
            conditions: vec![
                not_ready(RUNTIME_READY, "PodsNotSupported", message),
                not_ready(NETWORK_READY, "PodsNotSupported", message),
            ],
        }),
        info,
        runtime_handlers: Vec::new(),
        features: Some(RuntimeFeatures::default()),
    }
}
