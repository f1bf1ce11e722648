//! Records of the event stream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{StringMap, omit};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Event {
    // Below API 1.52, for containers and images only.
    #[serde(skip_serializing_if = "omit::zero")]
    pub status: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub id: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub from: String,
    /// `container`, `image`, `volume`, `network`, `daemon`.
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// `local` or `swarm`.
    #[serde(skip_serializing_if = "omit::zero")]
    pub scope: String,
    /// Unix seconds.
    pub time: i64,
    /// Unix nanoseconds.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Actor {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Attributes")]
    pub attributes: StringMap,
}
