//! Records of the JSON message stream: pull, push, load, import, build.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::omit;

/// One record; a stream is such objects one after the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Message {
    #[serde(skip_serializing_if = "omit::zero")]
    pub stream: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub status: String,
    /// dockerd writes `{}` with a status that has nothing to count.
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// A bar drawn by the daemon, for old clients; gone from API 1.48 on as far as clients care.
    #[serde(skip_serializing_if = "omit::zero")]
    pub progress: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub id: String,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// The same text as in `error_detail`, for old clients.
    #[serde(skip_serializing_if = "omit::zero")]
    pub error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Value>,
}

impl Message {
    /// A status line, with the id of what it is about (or nothing).
    pub fn status(id: impl Into<String>, status: impl Into<String>) -> Message {
        Message {
            id: id.into(),
            status: status.into(),
            ..Message::default()
        }
    }

    /// Work in progress on `id`: bytes done, and how many there are where that is known.
    pub fn progress(id: impl Into<String>, status: impl Into<String>, current: i64, total: i64) -> Message {
        Message {
            progress_detail: Some(ProgressDetail {
                current,
                total,
                ..ProgressDetail::default()
            }),
            ..Message::status(id, status)
        }
    }

    /// Text for the user as it stands.
    pub fn stream(text: impl Into<String>) -> Message {
        Message {
            stream: text.into(),
            ..Message::default()
        }
    }

    /// The failure that ends a stream whose status line is out already.
    pub fn failure(text: impl Into<String>) -> Message {
        let message = text.into();
        Message {
            error: message.clone(),
            error_detail: Some(ErrorDetail { code: 0, message }),
            ..Message::default()
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ProgressDetail {
    #[serde(skip_serializing_if = "omit::zero")]
    pub current: i64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub total: i64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub start: i64,
    #[serde(rename = "hidecounts", skip_serializing_if = "omit::zero")]
    pub hide_counts: bool,
    #[serde(skip_serializing_if = "omit::zero")]
    pub units: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ErrorDetail {
    #[serde(skip_serializing_if = "omit::zero")]
    pub code: i64,
    pub message: String,
}
