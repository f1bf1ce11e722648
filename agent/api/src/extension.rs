//! What this API has beyond Docker's; `docs/extensions.md` describes it for clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::omit;

/// `GET` and `POST /system/check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct CheckReport {
    pub differences: Vec<Difference>,
}

/// Something that a record and the machine do not agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct Difference {
    /// `volume-folder`, `interface`, …
    pub kind: String,
    /// `orphan` or `missing`.
    pub side: String,
    pub name: String,
    pub note: String,
    /// There is one safe way to put it right.
    pub repairable: bool,
    pub repaired: bool,
    /// Why it could not be repaired.
    #[serde(skip_serializing_if = "omit::zero")]
    pub error: String,
}
