//! `--format`: rows as a table, as lines from a template, or as JSON; and objects through a template.

use serde_json::{Map, Value};

use crate::failure::{Failure, Result};
use crate::output;
use crate::table;
use crate::template::{Methods, Plain, Template};

/// One row of a list: its fields by name, in docker's names.
pub struct Row {
    pub fields: Vec<(&'static str, Value)>,
    pub labels: Map<String, Value>,
}

impl Row {
    pub fn new(fields: Vec<(&'static str, Value)>) -> Row {
        Row {
            fields,
            labels: Map::new(),
        }
    }

    pub fn with_labels<'a>(mut self, labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Row {
        self.labels = labels
            .into_iter()
            .map(|(key, value)| (key.clone(), Value::from(value.clone())))
            .collect();
        self
    }

    fn value(&self) -> Value {
        // Go writes a map's keys in order.
        let mut fields: Vec<_> = self.fields.iter().collect();
        fields.sort_by_key(|(name, _)| *name);
        Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        )
    }
}

/// `.Label "key"` of a row.
struct Labels<'a>(&'a Map<String, Value>);

impl Methods for Labels<'_> {
    fn call(&self, _: &Value, name: &str, args: &[Value]) -> Option<Value> {
        match (name, args) {
            ("Label", [Value::String(key)]) => Some(self.0.get(key).cloned().unwrap_or_else(|| Value::from(""))),
            _ => None,
        }
    }
}

/// `.Label "key"` of the header line: the last part of the key.
struct Headings;

impl Methods for Headings {
    fn call(&self, _: &Value, name: &str, args: &[Value]) -> Option<Value> {
        match (name, args) {
            ("Label", [Value::String(key)]) => {
                let last = key.rsplit('.').next().unwrap_or(key);
                Some(Value::from(last.replace(['-', '_'], " ")))
            }
            _ => None,
        }
    }

    fn missing(&self, _: &Value, _: &str) -> Option<Value> {
        Some(Value::Null)
    }
}

/// How a list is printed.
pub struct List<'a> {
    /// `--format`, else the config file's, else nothing.
    pub format: Option<&'a str>,
    /// The template of the table that is printed without `--format`.
    pub table: &'a str,
    /// Heading of each field.
    pub headings: &'a [(&'a str, &'a str)],
}

impl List<'_> {
    /// Prints the rows.
    ///
    /// # Errors
    /// The template is wrong, or does not fit the rows.
    pub fn print(&self, rows: &[Row]) -> Result {
        let format = match self.format {
            None | Some("" | "table") => format!("table {}", self.table),
            Some(format) => format.to_owned(),
        };
        output::print(&self.render(&format, rows)?);
        Ok(())
    }

    fn render(&self, format: &str, rows: &[Row]) -> Result<String> {
        let mut text = String::new();
        if matches!(format, "json" | "{{json .}}" | "{{ json . }}") {
            for row in rows {
                text.push_str(&escaped(&row.value().to_string()));
                text.push('\n');
            }
            return Ok(text);
        }
        let (tabular, body) = match format.strip_prefix("table") {
            Some(body) if body.starts_with(char::is_whitespace) || body.is_empty() => (true, body.trim()),
            _ => (false, format),
        };
        // Shells pass `\t` on as two characters.
        let template = Template::parse(&body.replace("\\t", "\t").replace("\\n", "\n"))?;
        if tabular {
            let headings: Map<String, Value> = self
                .headings
                .iter()
                .map(|(name, heading)| ((*name).to_owned(), Value::from(*heading)))
                .collect();
            text.push_str(&template.render(&Value::Object(headings), &Headings)?);
            text.push('\n');
        }
        for row in rows {
            text.push_str(&template.render(&row.value(), &Labels(&row.labels))?);
            text.push('\n');
        }
        Ok(if tabular { table::align(&text) } else { text })
    }
}

/// Go's JSON of a row is safe inside of HTML.
fn escaped(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// Prints one object through `--format` (`json` is the object on one line).
///
/// # Errors
/// As [`List::print`].
pub fn object(format: &str, value: &Value) -> Result {
    let text = match format {
        "json" => value.to_string(),
        format => Template::parse(format)?.render(value, &Plain)?,
    };
    output::line(text);
    Ok(())
}

/// Inspected objects. Go leaves out fields that are empty, so a template has to be able to ask for these.
pub struct Inspected;

impl Methods for Inspected {
    fn null(&self, name: &str) -> &'static str {
        const LISTS: &[&str] = &[
            "Aliases",
            "Args",
            "Binds",
            "BlkioDeviceReadBps",
            "BlkioDeviceReadIOps",
            "BlkioDeviceWriteBps",
            "BlkioDeviceWriteIOps",
            "BlkioWeightDevice",
            "CapAdd",
            "CapDrop",
            "Cmd",
            "Config",
            "DNSNames",
            "DeviceCgroupRules",
            "DeviceRequests",
            "Devices",
            "Dns",
            "DnsOptions",
            "DnsSearch",
            "Entrypoint",
            "Env",
            "ExecIDs",
            "ExtraHosts",
            "GroupAdd",
            "Layers",
            "Links",
            "MaskedPaths",
            "Mounts",
            "OnBuild",
            "ReadonlyPaths",
            "RepoDigests",
            "RepoTags",
            "SecurityOpt",
            "Shell",
            "Ulimits",
            "VolumesFrom",
            "Warnings",
        ];
        const MAPS: &[&str] = &[
            "Annotations",
            "DriverOpts",
            "ExposedPorts",
            "Labels",
            "Options",
            "PortBindings",
            "Ports",
            "StorageOpt",
            "Sysctls",
            "Tmpfs",
            "Volumes",
        ];
        if LISTS.contains(&name) {
            "[]"
        } else if MAPS.contains(&name) {
            "map[]"
        } else {
            "<nil>"
        }
    }

    fn missing(&self, receiver: &Value, name: &str) -> Option<Value> {
        const OPTIONAL: &[&str] = &[
            "Annotations",
            "ArgsEscaped",
            "BindOptions",
            "Bridge",
            "Containers",
            "DNSNames",
            "DriverOpts",
            "ExposedPorts",
            "GatewayV6",
            "GraphDriver",
            "GwPriority",
            "Health",
            "Healthcheck",
            "IPv6Gateway",
            "ImageManifestDescriptor",
            "Init",
            "Isolation",
            "MacAddress",
            "Manifests",
            "Mounts",
            "Name",
            "NetworkDisabled",
            "OnBuild",
            "Parent",
            "Peers",
            "Runtime",
            "Services",
            "Shell",
            "SizeRootFs",
            "SizeRw",
            "Status",
            "StopSignal",
            "StopTimeout",
            "StorageOpt",
            "Sysctls",
            "Tmpfs",
            "UsageData",
            "Variant",
            "VolumeOptions",
            "Warnings",
        ];
        let map = receiver.as_object()?;
        // A map of strings (labels, options) has no fixed fields.
        let strings = map.is_empty() || map.values().all(Value::is_string);
        (strings || OPTIONAL.contains(&name)).then_some(Value::Null)
    }
}

/// Raw JSON with four spaces per level, as docker prints what it inspects: everything but white space outside of
/// strings stays as the daemon wrote it.
pub fn indent(json: &[u8], level: usize) -> String {
    let mut out = Vec::with_capacity(json.len() * 2);
    let mut depth = level;
    let mut bytes = json.iter().copied().peekable();
    let newline = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', depth * 4));
    };
    let mut quoted = false;
    while let Some(byte) = bytes.next() {
        if quoted {
            out.push(byte);
            match byte {
                b'\\' => out.extend(bytes.next()),
                b'"' => quoted = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'"' => {
                quoted = true;
                out.push(byte);
            }
            b'{' | b'[' => {
                out.push(byte);
                while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
                // Empty ones stay on their line.
                if let Some(close) = bytes.next_if(|next| matches!(next, b'}' | b']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                newline(&mut out, depth);
            }
            b':' => out.extend(b": "),
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// One object that was asked for by name: its raw JSON, and what to call it in messages.
pub async fn inspect<F, Fut>(names: &[String], format: Option<&str>, mut fetch: F) -> Result
where
    F: FnMut(String) -> Fut,
    Fut: Future<Output = Result<bytes::Bytes>>,
{
    let mut text = String::new();
    let mut failure: Option<Failure> = None;
    let mut objects = Vec::new();
    let template = match format {
        None | Some("" | "json") => None,
        Some(format) => Some(Template::parse(&format.replace("\\t", "\t").replace("\\n", "\n"))?),
    };
    for name in names {
        match fetch(name.clone()).await {
            Ok(raw) => match (&template, format) {
                (Some(template), _) => {
                    let value: Value = serde_json::from_slice(&raw)?;
                    match template.render(&value, &Inspected) {
                        Ok(line) => text.push_str(&(line + "\n")),
                        Err(error) => {
                            output::print(&text);
                            return Err(error.into());
                        }
                    }
                }
                (None, Some("json")) => text.push_str(&(String::from_utf8_lossy(&raw).trim().to_owned() + "\n")),
                (None, _) => objects.push(indent(&raw, 1)),
            },
            Err(error) => match &mut failure {
                Some(first) => first.message.push_str(&format!("\n{}", error.message)),
                none => *none = Some(error),
            },
        }
    }
    if template.is_none() && format != Some("json") {
        text = if objects.is_empty() {
            "[]\n".to_owned()
        } else {
            format!("[\n    {}\n]\n", objects.join(",\n    "))
        };
    }
    output::print(&text);
    failure.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn raw_json_is_indented_without_being_changed() {
        assert_eq!(
            indent(br#"{"a":[],"b":{ },"c":[1,"x:{,\"\u003c"],"d":{"e":null}}"#, 0),
            "{\n    \"a\": [],\n    \"b\": {},\n    \"c\": [\n        1,\n        \"x:{,\\\"\\u003c\"\n    ],\n    \"d\": {\n        \"e\": null\n    }\n}"
        );
    }

    #[test]
    fn lists_print_as_table_lines_or_json() {
        let list = List {
            format: None,
            table: "{{.ID}}\t{{.Name}}",
            headings: &[("ID", "CONTAINER ID"), ("Name", "NAME")],
        };
        let labels = [("com.x.some-key".to_owned(), "v".to_owned())];
        let rows = [Row::new(vec![("Name", json!("web")), ("ID", json!("abc"))])
            .with_labels(labels.iter().map(|(k, v)| (k, v)))];
        assert_eq!(
            list.render("table {{.ID}}\\t{{.Name}}", &rows).unwrap(),
            "CONTAINER ID   NAME\nabc            web\n"
        );
        assert_eq!(
            list.render("{{.Name}}:{{.Label \"com.x.some-key\"}}", &rows).unwrap(),
            "web:v\n"
        );
        assert_eq!(
            list.render("table {{.Label \"com.x.some-key\"}}", &rows).unwrap(),
            "some key\nv\n"
        );
        assert_eq!(
            list.render("json", &rows).unwrap(),
            "{\"ID\":\"abc\",\"Name\":\"web\"}\n"
        );
        assert_eq!(
            list.render("{{json .}}", &rows).unwrap(),
            "{\"ID\":\"abc\",\"Name\":\"web\"}\n"
        );
        assert!(list.render("{{.Nope}}", &rows).is_err());
    }
}
