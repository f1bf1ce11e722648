//! The `filters` query value: `{"key":{"value":true}}`.

use std::collections::BTreeMap;

/// Conditions of a list or prune call. Values under one key are alternatives, keys are joined by "and".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeMap<String, bool>>);

impl Filters {
    pub fn new() -> Filters {
        Filters::default()
    }

    pub fn add(&mut self, key: impl Into<String>, value: impl Into<String>) -> &mut Filters {
        self.0.entry(key.into()).or_default().insert(value.into(), true);
        self
    }

    /// The same, for building in one expression.
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Filters {
        self.add(key, value);
        self
    }

    /// Reads `key=value` as `--filter` takes it.
    ///
    /// # Errors
    /// The text has no `=`, or nothing in front of it.
    pub fn parse(&mut self, text: &str) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                self.add(key.trim().to_lowercase(), value.trim());
                Ok(())
            }
            _ => Err(format!("invalid filter {text:?}: expected KEY=VALUE")),
        }
    }

    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The values under a key, for filtering on this side.
    pub fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0
            .get(key)
            .into_iter()
            .flat_map(|values| values.keys().map(String::as_str))
    }

    /// The wire form; `None` when there is no condition.
    pub fn to_query(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| serde_json::json!(self.0).to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn filters_are_written_as_the_api_reads_them() {
        let mut filters = Filters::new();
        assert_eq!(filters.to_query(), None);
        filters.parse("label=a=b").unwrap();
        filters.parse("Label= c ").unwrap();
        assert_eq!(filters.to_query().unwrap(), r#"{"label":{"a=b":true,"c":true}}"#);
        assert!(filters.parse("x").is_err());
        assert!(filters.parse("=x").is_err());
    }
}
