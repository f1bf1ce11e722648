//! Holds the daemon's answers to its own definition, `docs/openapi.json`: every answer that a test gets by [`Server::send`]
//! is checked, whatever the test is about.
//!
//! [`Server::send`]: crate::http::Server::send

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::http::Reply;

/// The committed file, so that the program can be carried to another machine.
pub const DOCUMENT: &str = include_str!("../../../docs/openapi.json");

/// Of a long stream no more is looked at: its objects are of one kind.
const RECORDS: usize = 64;

static DEFINITION: LazyLock<Definition> = LazyLock::new(Definition::read);

struct Operation {
    method: String,
    /// What stands before and after the one parameter of the path; without one there is no `after`.
    before: String,
    after: Option<String>,
    responses: Value,
}

struct Definition {
    operations: Vec<Operation>,
    schemas: Value,
    /// By the text of the schema, made when it is first asked for.
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Operation {
    fn fits(&self, method: &str, path: &str) -> bool {
        if self.method != method {
            return false;
        }
        let Some(after) = &self.after else {
            return path == self.before;
        };
        let middle = path
            .strip_prefix(&self.before)
            .and_then(|rest| rest.strip_suffix(after.as_str()));
        // Names of images have slashes.
        middle.is_some_and(|name| !name.is_empty() && (self.before == "/images/" || !name.contains('/')))
    }
}

impl Definition {
    fn read() -> Definition {
        let document: Value = serde_json::from_str(DOCUMENT).expect("docs/openapi.json");
        let mut operations = Vec::new();
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for (method, operation) in methods.as_object().expect("methods") {
                let (before, after) = match path.split_once('{') {
                    Some((before, rest)) => (before, rest.split_once('}').map(|(_, after)| after.to_owned())),
                    None => (path.as_str(), None),
                };
                operations.push(Operation {
                    method: method.to_ascii_uppercase(),
                    before: before.to_owned(),
                    after,
                    responses: operation["responses"].clone(),
                });
            }
        }
        // The exact path first, then the one that says most.
        operations.sort_by_key(|one| match &one.after {
            None => (0, 0),
            Some(after) => (1, usize::MAX - after.len()),
        });
        Definition {
            operations,
            schemas: document["components"].clone(),
            validators: Mutex::default(),
        }
    }

    fn validator(&self, schema: &Value) -> Arc<Validator> {
        let mut made = self.validators.lock().unwrap();
        let made = made.entry(schema.to_string()).or_insert_with(|| {
            let whole = json!({ "allOf": [schema], "components": self.schemas });
            let options = jsonschema::draft202012::options().should_validate_formats(true);
            Arc::new(options.build(&whole).expect("a schema of docs/openapi.json"))
        });
        made.clone()
    }
}

/// What is wrong with an answer, by the definition; nothing for answers of other servers.
pub fn complaint(method: &str, target: &str, reply: &Reply) -> Option<String> {
    let ours = reply.header("api-version").is_some() && std::env::var_os("IECHOR_TEST_HOST").is_none();
    if !ours || matches!(method, "HEAD" | "OPTIONS") {
        return None;
    }
    let definition = &*DEFINITION;
    let path = without_version(target.split('?').next().unwrap_or_default());
    let operation = definition.operations.iter().find(|one| one.fits(method, path));
    let failure =
        json!({ "content": { "application/json": { "schema": { "$ref": "#/components/schemas/ErrorResponse" } } } });
    let response = match operation {
        _ if reply.status >= 400 => &failure,
        None => return Some("the definition has no such operation".to_owned()),
        Some(operation) => match operation.responses.get(reply.status.to_string()) {
            Some(response) => response,
            None => return Some(format!("the definition has no status {} there", reply.status)),
        },
    };
    body(definition, response, reply)
}

fn body(definition: &Definition, response: &Value, reply: &Reply) -> Option<String> {
    if reply.status < 200 {
        return None;
    }
    let kind = reply.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let Some(content) = response.get("content") else {
        return (!reply.body.is_empty()).then(|| format!("a body, where the definition has none: {}", reply.text()));
    };
    // A detached exec has nothing to say where an attached one has its output.
    if kind.is_empty() && reply.body.is_empty() && reply.status == 200 && only_bytes(content) {
        return None;
    }
    let Some(content) = content.get(kind) else {
        return Some(format!("the definition has no content of type {kind:?} there"));
    };
    let schema = content.get("schema")?;
    let validator = definition.validator(schema);
    if response.get("x-iechor-records").is_none() {
        return match serde_json::from_slice::<Value>(&reply.body) {
            Err(error) => Some(format!("no JSON: {error}")),
            Ok(value) => mismatch(&validator, &value),
        };
    }
    let separated: Vec<u8> = reply
        .body
        .iter()
        .map(|byte| if *byte == 0x1e { b' ' } else { *byte })
        .collect();
    let records = serde_json::Deserializer::from_slice(&separated).into_iter::<Value>();
    for record in records.take(RECORDS) {
        match record {
            Ok(value) => match mismatch(&validator, &value) {
                None => {}
                wrong => return wrong,
            },
            // A stream may be cut off.
            Err(error) if error.is_eof() => {}
            Err(error) => return Some(format!("no JSON: {error}")),
        }
    }
    None
}

/// Whether it is bytes in all of its types, of which there may be none at all.
fn only_bytes(content: &Value) -> bool {
    content
        .as_object()
        .is_some_and(|types| types.values().all(|one| one.get("schema").is_none()))
}

fn mismatch(validator: &Validator, value: &Value) -> Option<String> {
    let wrong: Vec<String> = validator
        .iter_errors(value)
        .take(5)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    (!wrong.is_empty()).then(|| wrong.join("; "))
}

/// `/v1.47/info` → `/info`.
fn without_version(path: &str) -> &str {
    let rest = path.strip_prefix("/v").and_then(|rest| {
        let end = rest.find('/')?;
        let version = &rest[..end];
        version.starts_with(|c: char| c.is_ascii_digit()).then(|| &rest[end..])
    });
    let path = rest.unwrap_or(path);
    if path.len() > 1 {
        path.trim_end_matches('/')
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, kind: &str, body: &str) -> Reply {
        let headers = [("Api-Version", "1.55"), ("Content-Type", kind)];
        Reply {
            status,
            headers: headers.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn what_the_definition_does_not_know_is_seen() {
        let json = "application/json";
        let wrong = |method: &str, target: &str, status, kind: &str, body: &str| {
            complaint(method, target, &reply(status, kind, body)).unwrap_or_default()
        };
        assert_eq!(
            wrong(
                "POST",
                "/v1.55/networks/prune?x=1",
                200,
                json,
                r#"{"NetworksDeleted":null}"#
            ),
            ""
        );
        assert!(wrong("POST", "/networks/prune", 200, json, "{}").contains("required"));
        assert!(wrong("POST", "/networks/prune", 200, json, r#"{"NetworksDeleted":3}"#).contains("type"));
        assert!(
            wrong(
                "POST",
                "/networks/prune",
                200,
                json,
                r#"{"NetworksDeleted":null,"X":1}"#
            )
            .contains("'X'")
        );
        assert!(wrong("POST", "/networks/prune", 200, "text/plain", "x").contains("no content of type"));
        assert!(wrong("POST", "/networks/prune", 204, json, "").contains("no status 204"));
        assert!(wrong("POST", "/nothing", 200, json, "").contains("no such operation"));
        assert!(wrong("POST", "/nothing", 404, json, r#"{"text":"x"}"#).contains("message"));
        assert_eq!(wrong("POST", "/nothing", 404, json, r#"{"message":"x"}"#), "");
        assert_eq!(wrong("POST", "/images/a/b/tag?repo=x", 201, "", ""), "");
        assert!(wrong("POST", "/images/a/b/tag?repo=x", 201, "", "x").contains("a body"));
    }

    #[test]
    fn each_object_of_a_stream_is_looked_at() {
        let event = r#"{"Type":"a","Action":"b","Actor":{"ID":"","Attributes":{}},"time":1,"timeNano":1}"#;
        let at = |body: &str| complaint("GET", "/events?until=1", &reply(200, "application/json-seq", body));
        assert_eq!(at(&format!("\u{1e}{event}\n\u{1e}{event}\n\u{1e}{{\"Ty")), None);
        assert!(at(&format!("{event}\n{{}}\n")).is_some_and(|text| text.contains("required")));
    }
}
