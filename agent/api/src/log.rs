//! Records of a container's output, where a client asks for JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::omit;
use crate::time::Time;

/// One line, or a part of one. dockerd has `MetaData` for parts and `Error` besides; the first it knows of the driver
/// `local` alone, and where it writes the second the answer is cut off here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct LogRecord {
    /// With its newline; a part that goes on in the next record has none. What is not UTF-8 is replaced.
    #[serde(skip_serializing_if = "omit::zero")]
    pub line: String,
    /// `stdout` or `stderr`.
    #[serde(skip_serializing_if = "omit::zero")]
    pub source: String,
    pub timestamp: Time,
    /// With `details`: what the log options say about the container.
    #[serde(skip_serializing_if = "omit::list")]
    pub attrs: Option<Vec<LogAttribute>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct LogAttribute {
    pub key: String,
    pub value: String,
}
