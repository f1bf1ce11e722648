//! The API's definition: an OpenAPI document made of the wire types and of the table of operations beside this file.
//!
//! Only the tests make it. What they made lies in `docs/openapi.json`, where people and generators of clients read it,
//! and the daemon serves that file: nothing of this is in the daemon. What holds the table to the router, and the
//! router to the table, is in `routes.rs`.

mod containers;
mod node;
mod operation;
mod routes;

use agent_api::{API_VERSION, MIN_API_VERSION};
use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use operation::Operation;

pub fn operations() -> Vec<Operation> {
    let mut all = node::operations();
    all.extend(containers::operations());
    all
}

/// Types of one direction become schemas of this name and suffix.
fn generator(settings: SchemaSettings, prefix: &'static str) -> SchemaGenerator {
    settings
        .with(|settings| {
            settings.meta_schema = None;
            settings.definitions_path = prefix.into();
        })
        .into_generator()
}

/// Every member's default is its zero value, as in Go: saying so each time would hide what matters.
fn without_defaults(schema: &mut Schema) {
    transform_subschemas(&mut without_defaults, schema);
    schema.remove("default");
}

/// What we write has the members of the type and no others.
fn closed(schema: &mut Schema) {
    transform_subschemas(&mut closed, schema);
    schema.remove("default");
    if schema.get("properties").is_some() {
        schema.insert("additionalProperties".to_owned(), false.into());
    }
}

/// A request's types have other rules than an answer's (nothing is required, more is taken), so other names.
fn renamed(value: &mut Value) {
    const PREFIX: &str = "#/components/schemas/";
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match member {
                    Value::String(text) if key == "$ref" && text.starts_with(PREFIX) => text.push_str("Input"),
                    other => renamed(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(renamed),
        _ => {}
    }
}

pub fn document() -> Value {
    let mut input = generator(SchemaSettings::draft2020_12().for_deserialize(), "/components/schemas");
    let mut output = generator(SchemaSettings::draft2020_12().for_serialize(), "/components/schemas");
    let mut paths = Map::new();
    for operation in operations() {
        let mut one = operation.document(&mut input, &mut output);
        if let Some(body) = one.get_mut("requestBody") {
            renamed(body);
        }
        let methods = paths.entry(operation.path).or_insert_with(|| json!({}));
        methods[operation.method] = one;
    }
    let mut schemas = output.take_definitions(false);
    for schema in schemas.values_mut() {
        if let Ok(schema) = <&mut Schema>::try_from(schema) {
            closed(schema);
        }
    }
    for (name, mut schema) in input.take_definitions(false) {
        if let Ok(schema) = <&mut Schema>::try_from(&mut schema) {
            without_defaults(schema);
        }
        renamed(&mut schema);
        schemas.insert(format!("{name}Input"), schema);
    }
    schemas.sort_keys();
    paths.sort_keys();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "iEchor, the Docker Engine API",
            "version": API_VERSION,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": format!(
                "What this daemon serves, for every version from {MIN_API_VERSION} to {API_VERSION} at once. Paths may have \
                 a version in front (`/v{MIN_API_VERSION}/info`); members that not all versions have are optional. In \
                 requests `null` is taken for any member's zero value, names of members in any case, and members that \
                 are not listed are ignored. Names of images may have slashes, which are not escaped."
            ),
        },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

    #[test]
    fn the_file_is_what_the_types_say() {
        let mut now = serde_json::to_string_pretty(&document()).unwrap();
        now.push('\n');
        if std::env::var_os("IECHOR_RENEW").is_some() {
            std::fs::write(FILE, &now).unwrap();
        }
        assert!(
            std::fs::read_to_string(FILE).unwrap_or_default() == now,
            "docs/openapi.json is out of date; renew it with: IECHOR_RENEW=1 cargo test -p agent-rest openapi"
        );
    }

    #[test]
    fn nothing_is_named_twice_or_without_a_name() {
        let document = document();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for name in schemas.keys() {
            // schemars numbers types of the same name; clients would show that.
            assert!(!name.trim_end_matches("Input").ends_with(char::is_numeric), "{name}");
        }
        let text = document.to_string();
        for part in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name} is referred to and not there");
        }
    }
}
