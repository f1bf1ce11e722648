//! What one operation takes and answers, in words that read like a table.

use agent_api::ErrorResponse;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// Makes the schema of one type, and puts it among the generator's definitions.
type Shape = fn(&mut SchemaGenerator) -> Schema;

/// A parameter of the query, or a header.
#[derive(Clone, Debug)]
pub struct Parameter {
    pub name: &'static str,
    place: &'static str,
    required: bool,
    schema: Value,
    /// The value is JSON of this schema.
    json: bool,
}

impl Parameter {
    fn query(name: &'static str, schema: Value) -> Parameter {
        Parameter {
            name,
            place: "query",
            required: false,
            schema,
            json: false,
        }
    }

    pub fn required(self) -> Parameter {
        Parameter { required: true, ..self }
    }

    fn document(&self) -> Value {
        let mut parameter = json!({ "name": self.name, "in": self.place, "required": self.required });
        if self.json {
            parameter["content"] = json!({ "application/json": { "schema": self.schema } });
        } else {
            parameter["schema"] = self.schema.clone();
            if self.schema["type"] == "array" {
                // `names=a&names=b`.
                parameter["explode"] = true.into();
            }
        }
        parameter
    }
}

/// Anything but empty, `0`, `no`, `false` and `none` is true.
pub fn flag(name: &'static str) -> Parameter {
    Parameter::query(name, json!({ "type": "boolean" }))
}

pub fn text(name: &'static str) -> Parameter {
    Parameter::query(name, json!({ "type": "string" }))
}

pub fn number(name: &'static str) -> Parameter {
    Parameter::query(name, json!({ "type": "integer", "format": "int64" }))
}

/// A height or a width.
pub fn cells(name: &'static str) -> Parameter {
    Parameter::query(name, json!({ "type": "integer", "minimum": 0, "maximum": u16::MAX })).required()
}

/// May be given several times.
pub fn list(name: &'static str) -> Parameter {
    Parameter::query(name, json!({ "type": "array", "items": { "type": "string" } }))
}

pub fn one_of(name: &'static str, values: &[&str]) -> Parameter {
    Parameter::query(name, json!({ "type": "string", "enum": values }))
}

/// Several of a few words.
pub fn some_of(name: &'static str, values: &[&str]) -> Parameter {
    Parameter::query(
        name,
        json!({ "type": "array", "items": { "type": "string", "enum": values } }),
    )
}

/// Seconds since 1970 with a fraction, RFC 3339, or how long ago.
pub fn moment(name: &'static str) -> Parameter {
    text(name)
}

/// `os[/arch[/variant]]`.
pub fn platform(name: &'static str) -> Parameter {
    text(name)
}

/// A platform as JSON, as newer operations take it.
pub fn platform_json(name: &'static str) -> Parameter {
    let words = |names: &[&str]| -> Map<String, Value> {
        let text = json!({ "type": "string" });
        names.iter().map(|name| ((*name).to_owned(), text.clone())).collect()
    };
    Parameter {
        json: true,
        ..Parameter::query(
            name,
            json!({ "type": "object", "properties": words(&["os", "architecture", "variant", "os.version"]) }),
        )
    }
}

/// `{"key": ["value"]}` or `{"key": {"value": true}}`, with these keys and no others.
pub fn filters(keys: &[&str]) -> Parameter {
    let values = json!({ "anyOf": [
        { "type": "array", "items": { "type": "string" } },
        { "type": "object", "additionalProperties": { "type": "boolean" } },
    ] });
    let keys: Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), values.clone())).collect();
    Parameter {
        json: true,
        ..Parameter::query(
            "filters",
            json!({ "type": "object", "properties": keys, "additionalProperties": false }),
        )
    }
}

/// Credentials for a registry: base64url of JSON. What cannot be read counts as none.
pub fn registry_auth() -> Parameter {
    Parameter {
        place: "header",
        ..text("X-Registry-Auth")
    }
}

/// What the request carries.
#[derive(Clone, Copy, Debug)]
enum Body {
    Json(Shape),
    Archive,
}

/// What the answer of one status carries.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Nothing,
    Json(Shape),
    /// Objects of the type one after the other, for as long as it takes.
    Records(Shape, &'static [&'static str]),
    Bytes(&'static [&'static str]),
    /// Records in types of the first kind, bytes in types of the second.
    Either(Shape, &'static [&'static str], &'static [&'static str]),
}

/// One method of one path.
#[derive(Clone, Debug)]
pub struct Operation {
    pub method: &'static str,
    pub path: &'static str,
    summary: &'static str,
    pub parameters: Vec<Parameter>,
    body: Option<(Body, bool)>,
    answers: Vec<(u16, Answer)>,
    extension: bool,
}

fn operation(method: &'static str, path: &'static str, summary: &'static str) -> Operation {
    Operation {
        method,
        path,
        summary,
        parameters: Vec::new(),
        body: None,
        answers: Vec::new(),
        extension: false,
    }
}

pub fn get(path: &'static str, summary: &'static str) -> Operation {
    operation("get", path, summary)
}

pub fn head(path: &'static str, summary: &'static str) -> Operation {
    operation("head", path, summary)
}

pub fn post(path: &'static str, summary: &'static str) -> Operation {
    operation("post", path, summary)
}

pub fn put(path: &'static str, summary: &'static str) -> Operation {
    operation("put", path, summary)
}

pub fn delete(path: &'static str, summary: &'static str) -> Operation {
    operation("delete", path, summary)
}

impl Operation {
    pub fn takes<const N: usize>(mut self, parameters: [Parameter; N]) -> Operation {
        self.parameters.extend(parameters);
        self
    }

    /// A body of this type; without one it is the type's default.
    pub fn body<T: JsonSchema>(mut self) -> Operation {
        self.body = Some((Body::Json(SchemaGenerator::subschema_for::<T>), false));
        self
    }

    pub fn needs<T: JsonSchema>(mut self) -> Operation {
        self.body = Some((Body::Json(SchemaGenerator::subschema_for::<T>), true));
        self
    }

    /// A tar, plain or compressed.
    pub fn archive(mut self) -> Operation {
        self.body = Some((Body::Archive, true));
        self
    }

    fn answer(mut self, status: u16, answer: Answer) -> Operation {
        self.answers.push((status, answer));
        self
    }

    pub fn empty(self, status: u16) -> Operation {
        self.answer(status, Answer::Nothing)
    }

    pub fn json<T: JsonSchema>(self, status: u16) -> Operation {
        self.answer(status, Answer::Json(SchemaGenerator::subschema_for::<T>))
    }

    pub fn records<T: JsonSchema>(self, types: &'static [&'static str]) -> Operation {
        self.answer(200, Answer::Records(SchemaGenerator::subschema_for::<T>, types))
    }

    pub fn bytes(self, types: &'static [&'static str]) -> Operation {
        self.answer(200, Answer::Bytes(types))
    }

    pub fn records_or_bytes<T: JsonSchema>(
        self,
        records: &'static [&'static str],
        bytes: &'static [&'static str],
    ) -> Operation {
        let shape = SchemaGenerator::subschema_for::<T>;
        self.answer(200, Answer::Either(shape, records, bytes))
    }

    /// The connection becomes a raw stream.
    pub fn hijacks(self) -> Operation {
        self.answer(101, Answer::Nothing)
    }

    /// Not in Docker's API.
    pub fn extension(mut self) -> Operation {
        self.extension = true;
        self
    }

    /// The operation as the document has it; `input` and `output` collect the types.
    pub fn document(&self, input: &mut SchemaGenerator, output: &mut SchemaGenerator) -> Value {
        let mut parameters: Vec<Value> = path_names(self.path)
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } }))
            .collect();
        parameters.extend(self.parameters.iter().map(Parameter::document));
        let mut responses = Map::new();
        for (status, answer) in &self.answers {
            responses.insert(status.to_string(), answered(answer, output));
        }
        let error = output.subschema_for::<ErrorResponse>();
        responses.insert(
            "default".to_owned(),
            json!({ "description": "A failure", "content": { "application/json": { "schema": error } } }),
        );
        let mut document = json!({
            "operationId": self.id(),
            "summary": self.summary,
            "parameters": parameters,
            "responses": responses,
        });
        if let Some((body, required)) = self.body {
            let content = match body {
                Body::Json(shape) => json!({ "application/json": { "schema": shape(input) } }),
                Body::Archive => json!({ "application/x-tar": {} }),
            };
            document["requestBody"] = json!({ "required": required, "content": content });
        }
        if self.extension {
            document["x-iechor-extension"] = true.into();
        }
        document
    }

    /// `getContainersIdJson`.
    fn id(&self) -> String {
        let words = self
            .path
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty());
        words.fold(self.method.to_owned(), |mut id, word| {
            let (first, rest) = word.split_at(1);
            id.push_str(&first.to_ascii_uppercase());
            id.push_str(rest);
            id
        })
    }
}

fn answered(answer: &Answer, output: &mut SchemaGenerator) -> Value {
    match answer {
        Answer::Nothing => json!({ "description": "Done" }),
        Answer::Json(shape) => {
            json!({ "description": "Done", "content": { "application/json": { "schema": shape(output) } } })
        }
        Answer::Records(shape, types) => {
            let schema = json!({ "schema": shape(output) });
            let content: Map<String, Value> = types.iter().map(|one| ((*one).to_owned(), schema.clone())).collect();
            // No JSON Schema says "objects one after the other".
            json!({ "description": "Objects of this type, one after the other", "content": content, "x-iechor-records": true })
        }
        Answer::Bytes(types) => {
            let content: Map<String, Value> = types.iter().map(|one| ((*one).to_owned(), json!({}))).collect();
            json!({ "description": "Bytes", "content": content })
        }
        Answer::Either(shape, records, bytes) => {
            let mut answer = answered(&Answer::Records(*shape, records), output);
            answer["description"] = "Bytes, or objects of this type, one after the other".into();
            for one in *bytes {
                answer["content"][one] = json!({});
            }
            answer
        }
    }
}

fn path_names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}
