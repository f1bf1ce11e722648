//! An API's definition as a set of lines, one for each thing that can be asked for or answered:
//!
//! ```text
//! GET /containers/json
//! GET /containers/json ?limit
//! POST /containers/create > HostConfig.Mounts[].Type
//! GET /info < Plugins.Volume
//! ```
//!
//! Both forms are read: Swagger 2.0, which Docker's is in, and OpenAPI 3.1, which ours is in.

use std::collections::BTreeSet;

use serde_json::Value;

pub fn facts(document: &Value) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let name = format!("{} {path}", method.to_ascii_uppercase());
            parameters(document, &name, operation, &mut facts);
            answers(document, &name, operation, &mut facts);
            facts.insert(name);
        }
    }
    facts
}

fn parameters(document: &Value, name: &str, operation: &Value, facts: &mut BTreeSet<String>) {
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let parameter = resolve(document, parameter);
        let own = parameter["name"].as_str().unwrap_or_default();
        match parameter["in"].as_str() {
            Some("query") => _ = facts.insert(format!("{name} ?{own}")),
            Some("header") => _ = facts.insert(format!("{name} #{own}")),
            Some("body") => Walk::over(document, format!("{name} > "), &parameter["schema"], facts),
            _ => {}
        }
    }
    for content in operation["requestBody"]["content"].as_object().into_iter().flatten() {
        Walk::over(document, format!("{name} > "), &content.1["schema"], facts);
    }
}

fn answers(document: &Value, name: &str, operation: &Value, facts: &mut BTreeSet<String>) {
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        if !status.starts_with('2') {
            continue;
        }
        let response = resolve(document, response);
        let prefix = format!("{name} < ");
        Walk::over(document, prefix.clone(), &response["schema"], facts);
        // Each type of content has the same schema.
        if let Some(content) = response["content"].as_object().and_then(|all| all.values().next()) {
            Walk::over(document, prefix, &content["schema"], facts);
        }
    }
}

/// `#/definitions/X` and `#/components/schemas/X` lead where they say.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let target = value["$ref"].as_str().and_then(|text| text.strip_prefix('#'));
    target.and_then(|path| document.pointer(path)).unwrap_or(value)
}

/// A way down through a schema.
struct Walk<'a> {
    document: &'a Value,
    facts: &'a mut BTreeSet<String>,
    /// Types that are being walked through: one that holds itself is not walked through again.
    open: Vec<&'a str>,
}

impl<'a> Walk<'a> {
    fn over(document: &'a Value, prefix: String, schema: &'a Value, facts: &'a mut BTreeSet<String>) {
        let mut walk = Walk {
            document,
            facts,
            open: Vec::new(),
        };
        walk.schema(&prefix, schema);
    }

    fn schema(&mut self, prefix: &str, schema: &'a Value) {
        if let Some(name) = schema["$ref"].as_str() {
            if !self.open.contains(&name) {
                self.open.push(name);
                self.schema(prefix, resolve(self.document, schema));
                self.open.pop();
            }
            return;
        }
        for key in ["allOf", "anyOf", "oneOf"] {
            for part in schema[key].as_array().into_iter().flatten() {
                self.schema(prefix, part);
            }
        }
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            let dot = if prefix.ends_with(' ') { "" } else { "." };
            let path = format!("{prefix}{dot}{name}");
            self.schema(&path, member);
            self.facts.insert(path);
        }
        if schema["items"].is_object() {
            self.schema(&format!("{prefix}[]"), &schema["items"]);
        }
        if schema["additionalProperties"].is_object() {
            self.schema(&format!("{prefix}{{}}"), &schema["additionalProperties"]);
        }
    }
}

/// Whether `text` is what `pattern` says; `*` stands for anything.
pub fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}
