//! Turns an error answer of a registry into an [`Error`] in Docker's words.

use std::time::{Duration, SystemTime};

use http::header::{HeaderMap, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use serde::Deserialize;

use crate::challenge::{self, Challenge};
use crate::digest::Digest;
use crate::error::Error;
use crate::redirect::request_name;
use crate::reference::Reference;
use crate::transport::{Answer, Transport};

/// Of an error's body, no more is read.
const MAX_BODY: u64 = 64 << 10;
/// Of a message for the user, no more is shown.
const MAX_MESSAGE: usize = 600;

/// What was asked for.
pub(crate) enum Subject<'a> {
    Manifest(&'a Reference),
    Blob(&'a Reference, &'a Digest),
    /// Something of a repository as a whole.
    Repository(&'a Reference),
    /// The registry as a whole.
    Registry,
    Token,
}

#[derive(Deserialize)]
struct Body {
    errors: Option<Vec<Item>>,
    // Docker's token server
    details: Option<String>,
    // OAuth 2
    error: Option<String>,
    error_description: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    code: String,
    message: Option<String>,
}

/// All challenges of an answer.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .flat_map(|value| challenge::parse(value.as_bytes()))
        .collect()
}

/// Why the registry did not do what was asked.
pub(crate) async fn error(transport: &Transport, reply: Answer, method: &Method, subject: &Subject<'_>) -> Error {
    let status = reply.response.status();
    let headers = reply.response.headers().clone();
    let request = request_name(method, &reply.url);
    // A body that cannot be read changes nothing about the status.
    let body = transport
        .read(reply, method, "the error answer", MAX_BODY)
        .await
        .unwrap_or_default();
    understand(status, &headers, &body, request, subject)
}

fn understand(status: StatusCode, headers: &HeaderMap, body: &[u8], request: String, subject: &Subject<'_>) -> Error {
    let retry_after = headers
        .get(RETRY_AFTER)
        .and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now()));
    // RFC 6750 §3.1: the reason may stand in the challenge, which counts more than the body.
    for challenge in challenges(headers)
        .iter()
        .filter(|challenge| challenge.scheme == "bearer")
    {
        let code = match challenge.get("error") {
            Some("insufficient_scope") => "DENIED",
            Some("invalid_token") => "UNAUTHORIZED",
            _ => continue,
        };
        return coded(status, code, challenge.get("error_description"), subject, retry_after);
    }
    if let Ok(body) = serde_json::from_slice::<Body>(body) {
        if let Some(first) = body
            .errors
            .as_ref()
            .and_then(|errors| errors.first())
            .filter(|first| !first.code.is_empty())
        {
            return coded(status, &first.code, first.message.as_deref(), subject, retry_after);
        }
        let texts = [body.details, body.error_description, body.message, body.error];
        let said = texts.into_iter().flatten().find(|text| !text.is_empty());
        match (status.as_u16(), said) {
            (401, said @ Some(_)) => return coded(status, "UNAUTHORIZED", said.as_deref(), subject, retry_after),
            // OAuth 2 says 400 to a refresh token that is no longer good.
            (400, said @ Some(_)) if matches!(subject, Subject::Token) => {
                return coded(status, "UNAUTHORIZED", said.as_deref(), subject, retry_after);
            }
            (403, said @ Some(_)) => return coded(status, "DENIED", said.as_deref(), subject, retry_after),
            (429, said @ Some(_)) => return coded(status, "TOOMANYREQUESTS", said.as_deref(), subject, retry_after),
            _ => {}
        }
    }
    let code = match (status.as_u16(), subject) {
        (401, _) => "UNAUTHORIZED",
        (403, _) => "DENIED",
        (404, Subject::Manifest(_)) => "MANIFEST_UNKNOWN",
        (404, Subject::Blob(..)) => "BLOB_UNKNOWN",
        (404, Subject::Repository(_)) => "NAME_UNKNOWN",
        (429, _) => "TOOMANYREQUESTS",
        (status, _) => {
            let reason = StatusCode::from_u16(status)
                .ok()
                .and_then(|status| status.canonical_reason());
            return Error::Status {
                request,
                status,
                reason: reason.unwrap_or("(no reason given)"),
                retry_after,
            };
        }
    };
    coded(status, code, None, subject, retry_after)
}

/// An error with a code of the distribution specification.
fn coded(
    status: StatusCode,
    code: &str,
    message: Option<&str>,
    subject: &Subject<'_>,
    retry_after: Option<Duration>,
) -> Error {
    let message = message.map(clean).filter(|message| !message.is_empty());
    let message = message.unwrap_or_else(|| usual_message(code).to_owned());
    let reference = match subject {
        Subject::Manifest(reference) | Subject::Blob(reference, _) | Subject::Repository(reference) => Some(*reference),
        Subject::Registry | Subject::Token => None,
    };
    match (code, reference, subject) {
        ("MANIFEST_UNKNOWN", Some(reference), _) => Error::ManifestUnknown {
            reference: reference.clone().or_latest().familiar(),
            message,
        },
        ("NAME_UNKNOWN", Some(reference), _) => Error::RepositoryUnknown {
            name: reference.familiar_name(),
            message,
        },
        ("BLOB_UNKNOWN", Some(reference), Subject::Blob(_, digest)) => Error::BlobUnknown {
            name: reference.familiar_name(),
            digest: (*digest).clone(),
        },
        ("DENIED", Some(reference), _) => Error::Denied {
            name: reference.familiar_name(),
            message,
        },
        ("UNAUTHORIZED", ..) => Error::Unauthorized { message },
        ("TOOMANYREQUESTS", ..) => Error::TooManyRequests { message, retry_after },
        _ => Error::Refused {
            status: status.as_u16(),
            code: clean(&code.to_ascii_lowercase().replace('_', " ")),
            message,
        },
    }
}

/// What the distribution specification says where the registry says nothing.
fn usual_message(code: &str) -> &'static str {
    match code {
        "UNAUTHORIZED" => "authentication required",
        "DENIED" => "requested access to the resource is denied",
        "MANIFEST_UNKNOWN" => "manifest unknown",
        "NAME_UNKNOWN" => "repository name not known to registry",
        "BLOB_UNKNOWN" => "blob unknown to registry",
        "TOOMANYREQUESTS" => "too many requests",
        "UNSUPPORTED" => "the operation is unsupported",
        "NAME_INVALID" => "invalid repository name",
        _ => "unknown error",
    }
}

/// A text of a stranger, fit for a terminal and a log: no control characters, no end of lines, not long.
pub(crate) fn clean(text: &str) -> String {
    let mut clean: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_MESSAGE)
        .collect();
    if text.chars().nth(MAX_MESSAGE).is_some() {
        clean.push('…');
    }
    clean.trim().to_owned()
}

/// `Retry-After`: seconds or a date (RFC 9110 §10.2.3).
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds.min(86_400)));
    }
    let then = httpdate::parse_http_date(value.trim()).ok()?;
    Some(then.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
