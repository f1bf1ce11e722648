//! What handlers take apart: version, path, query, filters, JSON bodies. Each refusal is in dockerd's words.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use agent_engine::filters::Filters;
use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{ApiError, ApiResult};
use crate::version::ApiVersion;

/// Largest JSON body. The longest honest one, a create with thousands of labels, stays far below.
const MAX_JSON: usize = 16 << 20;

impl<S: Sync> FromRequestParts<S> for ApiVersion {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().copied().unwrap_or(ApiVersion::NEWEST))
    }
}

/// The one parameter of the path: a container, exec, volume, network or image name, percent-decoded.
#[derive(Clone, Debug)]
pub struct Target(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::bad("the path is not valid UTF-8"))?;
        match params.iter().next() {
            Some((_, value)) => Ok(Target(value.to_owned())),
            None => Err(ApiError::page_not_found()),
        }
    }
}

/// The query string, decoded once.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Query::parse(parts.uri.query().unwrap_or_default()))
    }
}

impl Query {
    pub fn parse(text: &str) -> Query {
        Query(
            form_urlencoded::parse(text.as_bytes())
                .map(|(k, v)| (k.into_owned(), v.into_owned()))
                .collect(),
        )
    }

    /// The first value of `key`, or nothing.
    pub fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v)
    }

    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    pub fn all(&self, key: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(k, _)| k == key)
            .map(|(_, v)| v.clone())
            .collect()
    }

    /// dockerd's idea of a boolean.
    pub fn flag(&self, key: &str) -> bool {
        truthy(self.get(key))
    }

    /// A flag that is on when it is not there at all.
    pub fn flag_or(&self, key: &str, default: bool) -> bool {
        if self.has(key) { self.flag(key) } else { default }
    }

    /// A whole number, if there is one.
    pub fn number(&self, key: &str) -> ApiResult<Option<i64>> {
        match self.get(key) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                ApiError::bad(format!(
                    "invalid value for {key}: strconv.Atoi: parsing {text:?}: invalid syntax"
                ))
            }),
        }
    }

    /// Refuses what is asked for and not there: each of `keys` that is set to more than an empty or false value.
    pub fn refuse(&self, keys: &[&str]) -> ApiResult<()> {
        match keys.iter().find(|key| truthy(self.get(key))) {
            Some(key) => Err(ApiError::unsupported(format!("query parameter \"{key}\""))),
            None => Ok(()),
        }
    }

    pub fn filters(&self) -> ApiResult<Filters> {
        filters(self.get("filters"))
    }
}

/// True unless empty, `0`, `no`, `false` or `none`, in any case.
pub fn truthy(text: &str) -> bool {
    let text = text.trim();
    !(text.is_empty()
        || ["0", "no", "false", "none"]
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word)))
}

/// `{"key":{"value":true}}`, or the older `{"key":["value"]}`.
pub fn filters(text: &str) -> ApiResult<Filters> {
    let bad = || ApiError::bad("invalid filter");
    let mut filters = BTreeMap::new();
    if text.is_empty() {
        return Ok(Filters(filters));
    }
    let Ok(Value::Object(keys)) = serde_json::from_str(text) else {
        return Err(bad());
    };
    for (key, values) in keys {
        let values: BTreeSet<String> = match values {
            // A value that is set to false is not asked for.
            Value::Object(map) => map
                .into_iter()
                .filter(|(_, wanted)| *wanted != Value::Bool(false))
                .map(|(value, _)| value)
                .collect(),
            Value::Array(list) => list
                .into_iter()
                .map(|value| match value {
                    Value::String(text) => Ok(text),
                    _ => Err(bad()),
                })
                .collect::<ApiResult<_>>()?,
            Value::Null => BTreeSet::new(),
            _ => return Err(bad()),
        };
        filters.insert(key, values);
    }
    Ok(Filters(filters))
}

/// A body's bytes, bounded.
pub async fn bytes(body: Body, limit: usize) -> ApiResult<Bytes> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the request body is larger than {limit} bytes"),
        )),
        // The client broke off, or did not keep to its own framing.
        Err(_) => Err(ApiError::bad("the request body ended before it was complete")),
    }
}

/// The bytes of a JSON body; empty where there is none.
pub async fn json_bytes(request: Request<Body>) -> ApiResult<Bytes> {
    let (parts, body) = request.into_parts();
    let bytes = bytes(body, MAX_JSON).await?;
    if !bytes.is_empty() {
        check_json(&parts.headers)?;
    }
    Ok(bytes)
}

/// Reads an optional JSON body: no bytes stand for the default.
pub async fn json<T: DeserializeOwned + Default>(request: Request<Body>) -> ApiResult<T> {
    let bytes = json_bytes(request).await?;
    if bytes.is_empty() {
        Ok(T::default())
    } else {
        Ok(agent_api::json::from_slice(&bytes)?)
    }
}

fn check_json(headers: &HeaderMap) -> ApiResult<()> {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media = value.split(';').next().unwrap_or_default().trim();
    if media.is_empty() {
        return Err(ApiError::bad("malformed Content-Type header (): mime: no media type"));
    }
    if media.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::bad(format!(
        "unsupported Content-Type header ({media}): must be 'application/json'"
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn booleans_are_dockers() {
        for no in ["", "0", "no", "False", "NONE", " false "] {
            assert!(!truthy(no), "{no:?}");
        }
        for yes in ["1", "true", "yes", "x", "00"] {
            assert!(truthy(yes), "{yes:?}");
        }
    }

    #[test]
    fn both_forms_of_filters() {
        let values =
            |text: &str, key: &str| -> Vec<String> { filters(text).unwrap().get(key).map(str::to_owned).collect() };
        assert_eq!(values(r#"{"label":{"a=b":true,"c":false}}"#, "label"), ["a=b"]);
        assert_eq!(values(r#"{"status":["x","y"]}"#, "status"), ["x", "y"]);
        assert!(filters("").unwrap().0.is_empty() && filters("{}").unwrap().0.is_empty());
        for bad in ["{bad", "[]", "3", r#"{"a":3}"#, r#"{"a":[1]}"#, "{} x"] {
            assert_eq!(filters(bad).unwrap_err().message, "invalid filter", "{bad}");
        }
    }

    #[test]
    fn queries() {
        let query = Query::parse("all=1&names=a&names=b%2Fc&t=-1&x=abc");
        assert!(query.flag("all") && !query.flag("nothing") && query.flag_or("nothing", true));
        assert_eq!(query.all("names"), ["a", "b/c"]);
        assert_eq!(query.number("t").unwrap(), Some(-1));
        assert_eq!(query.number("nothing").unwrap(), None);
        assert!(query.number("x").is_err());
        assert!(query.refuse(&["nothing"]).is_ok() && query.refuse(&["x"]).is_err());
    }

    proptest! {
        #[test]
        fn hostile_queries_and_filters_never_panic(text in "\\PC{0,80}") {
            let query = Query::parse(&text);
            let _ = (query.filters(), query.number("a"), filters(&text));
        }
    }
}
