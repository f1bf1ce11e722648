//! What `POST /containers/create` takes and answers: `Config`, `HostConfig` and `NetworkingConfig` in one object.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::host_config::HostConfig;
use crate::json::{self, Error};
use crate::network::NetworkingConfig;
use crate::{Set, StringMap, omit};

/// The part of a container that does not depend on the host. Members stand in the order dockerd writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct Config {
    pub hostname: String,
    pub domainname: String,
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    #[serde(skip_serializing_if = "omit::map")]
    pub exposed_ports: Option<Set>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub env: Option<Vec<String>>,
    #[serde(deserialize_with = "words")]
    #[schemars(with = "Words")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub args_escaped: bool,
    pub image: String,
    pub volumes: Option<Set>,
    pub working_dir: String,
    #[serde(deserialize_with = "words")]
    #[schemars(with = "Words")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub network_disabled: bool,
    /// Refused from API 1.52 on; before, it went to the endpoint of the container's network mode.
    #[serde(skip_serializing_if = "omit::zero")]
    pub mac_address: String,
    pub on_build: Option<Vec<String>>,
    pub labels: Option<StringMap>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub stop_signal: String,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "omit::list", deserialize_with = "words")]
    #[schemars(with = "Words")]
    pub shell: Option<Vec<String>>,
}

/// Durations are nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthConfig {
    #[serde(skip_serializing_if = "omit::list")]
    pub test: Option<Vec<String>>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub interval: i64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub retries: i64,
}

/// The schema of what [`words`] reads: a single string is taken, and never written.
struct Words;

impl JsonSchema for Words {
    fn schema_name() -> Cow<'static, str> {
        "Words".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let list = json_schema!({ "type": "array", "items": { "type": "string" } });
        if generator.contract().is_deserialize() {
            json_schema!({ "anyOf": [list, { "type": ["string", "null"] }] })
        } else {
            json_schema!({ "type": ["array", "null"], "items": { "type": "string" } })
        }
    }
}

/// Go's `strslice.StrSlice`: a list of words, or one string that is taken for a list of one.
fn words<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    struct Words;
    impl<'de> serde::de::Visitor<'de> for Words {
        type Value = Option<Vec<String>>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("[]string")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(vec![text.to_owned()]))
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut words = Vec::new();
            while let Some(word) = items.next_element()? {
                words.push(word);
            }
            Ok(Some(words))
        }
    }
    deserializer.deserialize_any(Words)
}

/// The whole request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct CreateRequest {
    #[serde(flatten)]
    pub config: Config,
    pub host_config: Option<HostConfig>,
    pub networking_config: Option<NetworkingConfig>,
}

impl CreateRequest {
    /// Reads a request; `None` where the body is `null` or has no member of a container.
    ///
    /// # Errors
    /// In dockerd's words; see [`json`].
    pub fn parse(body: &[u8]) -> Result<CreateRequest, Error> {
        /// Named as in Go, for the error text.
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "PascalCase", rename = "container.CreateRequest")]
        struct Around {
            host_config: Option<HostConfig>,
            networking_config: Option<NetworkingConfig>,
        }
        let tree = json::parse(body)?;
        // One object in Go, two types here: members that a type does not know are ignored, so each takes its own.
        let around: Around = json::from_value(tree.clone())?;
        let config: Config = json::from_value(tree)?;
        Ok(CreateRequest {
            config,
            host_config: around.host_config,
            networking_config: around.networking_config,
        })
    }
}

/// 201.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct CreateResponse {
    pub id: String,
    /// Never null: clients range over it.
    pub warnings: Vec<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_three_parts_are_read_from_one_object() {
        let body = br#"{"image":"busybox","Cmd":"true","Entrypoint":["a","b"],"HostConfig":{"memory":5,"Binds":null},
            "NetworkingConfig":{"EndpointsConfig":{"bridge":null}},"Later":1}"#;
        let request = CreateRequest::parse(body).unwrap();
        assert_eq!(request.config.image, "busybox");
        assert_eq!(request.config.cmd, Some(vec!["true".into()]));
        assert_eq!(request.config.entrypoint, Some(vec!["a".into(), "b".into()]));
        assert_eq!(request.host_config.unwrap().memory, 5);
        assert_eq!(
            request.networking_config.unwrap().endpoints_config.unwrap()["bridge"],
            None
        );
        let none = CreateRequest::parse(b"null").unwrap();
        assert_eq!(none, CreateRequest::default());
    }

    #[test]
    fn wrong_types_are_named() {
        let error = |body: &str| CreateRequest::parse(body.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            error("[]"),
            "invalid JSON: json: cannot unmarshal array into Go value of type container.CreateRequest"
        );
        assert_eq!(
            error(r#"{"HostConfig":{"Memory":"64m"}}"#),
            "invalid JSON: json: cannot unmarshal string into Go struct field .HostConfig.Memory of type int64"
        );
        assert_eq!(error("{}{}"), "unexpected content after JSON");
    }

    #[test]
    fn what_a_client_writes_the_server_reads() {
        let request = CreateRequest {
            config: Config {
                image: "a".into(),
                env: Some(vec!["A=b".into()]),
                ..Config::default()
            },
            host_config: Some(HostConfig {
                auto_remove: true,
                ..HostConfig::default()
            }),
            networking_config: None,
        };
        assert_eq!(
            CreateRequest::parse(&serde_json::to_vec(&request).unwrap()).unwrap(),
            request
        );
    }
}
