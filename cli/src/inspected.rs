//! Objects as `inspect` shows them: the daemon's own JSON, indented, or through a template.

use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::output;
use crate::template::{Methods, Template};

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
    use super::indent;

    #[test]
    fn raw_json_is_indented_without_being_changed() {
        assert_eq!(
            indent(br#"{"a":[],"b":{ },"c":[1,"x:{,\"\u003c"],"d":{"e":null}}"#, 0),
            "{\n    \"a\": [],\n    \"b\": {},\n    \"c\": [\n        1,\n        \"x:{,\\\"\\u003c\"\n    ],\n    \"d\": {\n        \"e\": null\n    }\n}"
        );
    }
}
