//! Go's `text/template`, as far as `--format` needs it: fields, maps, variables, pipes, `if`, `range`, `with`, the
//! built-in functions, and the ones the docker client adds.
//!
//! ```text
//! text ─ lex ─► tokens ─ parse ─► nodes ─ eval(JSON value) ─► text
//! ```
//!
//! Data is JSON: what the daemon answered, or a row of a table. So maps and structs are one kind, iterated in key
//! order as Go does with maps. Deliberately absent: `define`, `template` and `block` (one line on a command line has
//! no use for them); they are refused by name.

mod eval;
mod funcs;
mod lex;
mod parse;
mod printf;

use serde_json::Value;

/// A template that is well-formed.
#[derive(Debug)]
pub struct Template {
    nodes: Vec<parse::Node>,
}

/// Why a template is refused, or fails on its data.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("template parsing error: {0}")]
pub struct TemplateError(String);

pub(crate) type Result<T> = std::result::Result<T, TemplateError>;

pub(crate) fn fail<T>(message: impl Into<String>) -> Result<T> {
    Err(TemplateError(message.into()))
}

/// What the objects of a template can do beyond having fields.
pub trait Methods {
    /// `.Name arg…` on a value. `None`: there is no such method.
    fn call(&self, _receiver: &Value, _name: &str, _args: &[Value]) -> Option<Value> {
        None
    }

    /// What a lone null field prints.
    fn null(&self, _name: &str) -> &'static str {
        "<no value>"
    }

    /// A field that the object lacks. `None` makes it an error, as a misspelt field must be.
    fn missing(&self, _receiver: &Value, _name: &str) -> Option<Value> {
        None
    }
}

/// No methods; every absent field is an error.
pub struct Plain;
impl Methods for Plain {}

impl Template {
    /// # Errors
    /// The text is not a template.
    pub fn parse(text: &str) -> Result<Template> {
        Ok(Template {
            nodes: parse::parse(lex::lex(text)?)?,
        })
    }

    /// Fills the template in.
    ///
    /// # Errors
    /// A field that is not there, a function called with the wrong things.
    pub fn render(&self, data: &Value, methods: &dyn Methods) -> Result<String> {
        eval::render(&self.nodes, data, methods)
    }
}

#[cfg(test)]
mod tests;
