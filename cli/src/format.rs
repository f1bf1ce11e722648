//! `--format`: rows as a table, as lines from a template, or as JSON; and objects through a template.

use serde_json::{Map, Value};

use crate::failure::Result;
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
        output::print(&self.text(rows)?);
        Ok(())
    }

    /// What [`List::print`] prints.
    ///
    /// # Errors
    /// As there.
    pub fn text(&self, rows: &[Row]) -> Result<String> {
        let format = match self.format {
            None | Some("" | "table") => format!("table {}", self.table),
            Some(format) => format.to_owned(),
        };
        self.render(&format, rows)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

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
