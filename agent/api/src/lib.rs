//! Wire types of the Docker Engine API: field names, Go's rules for null, zero and absence, and nothing else.
//!
//! The daemon's adapter, the CLI's client and the tests share them, so each type both serialises and deserialises.
//!
//! | Go declares | here | written when empty |
//! |---|---|---|
//! | `string`, `int`, `bool` | plain field | the zero value |
//! | the same with `omitempty` | plain field + `skip_serializing_if` | nothing |
//! | slice, map or pointer | `Option<…>` | `null` |
//! | the same with `omitempty` | `Option<…>` + `skip_serializing_if` | nothing |
//!
//! Input goes through [`json::from_slice`], which takes keys in any case, reads `null` as the zero value, ignores unknown
//! members and refuses trailing data, each as Go's decoder does.
//!
//! Deliberately absent: validation, defaults, and every behaviour.
#![forbid(unsafe_code)]

pub mod archive;
pub mod auth;
pub mod container;
pub mod create;
pub mod event;
pub mod exec;
pub mod extension;
pub mod host_config;
pub mod image;
pub mod json;
pub mod log;
pub mod message;
pub mod network;
pub mod stats;
pub mod system;
pub mod time;
pub mod volume;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Newest API version spoken, `major.minor`.
pub const API_VERSION: &str = "1.55";
/// Oldest API version served.
pub const MIN_API_VERSION: &str = "1.40";

/// A Go `map[string]string`; ordered by key, as Go writes maps.
pub type StringMap = std::collections::BTreeMap<String, String>;
/// A Go `map[string]struct{}`: exposed ports, volumes.
pub type Set = std::collections::BTreeMap<String, Empty>;

/// Go's `struct{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Empty {}

/// The body of every error answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ErrorResponse {
    pub message: String,
}

/// Answer of exec create and commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct IdResponse {
    pub id: String,
}

/// `skip_serializing_if` helpers that mean Go's `omitempty`.
pub(crate) mod omit {
    use std::collections::BTreeMap;

    pub fn zero<T: Default + PartialEq>(value: &T) -> bool {
        *value == T::default()
    }

    pub fn list<T>(value: &Option<Vec<T>>) -> bool {
        value.as_ref().is_none_or(Vec::is_empty)
    }

    pub fn map<K, V>(value: &Option<BTreeMap<K, V>>) -> bool {
        value.as_ref().is_none_or(BTreeMap::is_empty)
    }
}
