//! `--filter key=value`: which keys a list knows, and what they match.

mod containers;
mod names;
mod time;

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::events::Event;

pub use containers::CONTAINER_KEYS;
pub use names::Names;
pub(crate) use time::rfc3339;
pub use time::{go_duration, point_in_time};

/// Values by key; values of one key are alternatives (labels must all match), keys add up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filters(pub BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// Refuses keys that the list does not know.
    pub fn only(&self, known: &[&str]) -> Result<()> {
        match self.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(Error::invalid(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    pub fn get(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    pub fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|values| !values.is_empty())
    }

    /// No such key, or one of its values fits.
    pub fn any(&self, key: &str, fits: impl Fn(&str) -> bool) -> bool {
        !self.has(key) || self.get(key).any(fits)
    }

    /// What `name` asks of a name.
    pub fn names(&self) -> Names {
        Names::new(self.get("name"))
    }

    /// Every `label` (and no `label!`) matches.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let fits = |wanted: &str| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|own| own == value),
            None => labels.contains_key(wanted),
        };
        self.get("label").all(fits) && !self.get("label!").any(fits)
    }

    /// A yes-or-no key.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        let mut found = None;
        for value in self.get(key) {
            let flag = match value.to_ascii_lowercase().as_str() {
                "1" | "true" | "t" => true,
                "0" | "false" | "f" => false,
                _ => return Err(Error::invalid(format!("invalid filter '{key}={value}'"))),
            };
            if found.is_some_and(|other| other != flag) {
                return Err(Error::invalid(format!(
                    "invalid filter '{key}': it is given as both true and false"
                )));
            }
            found = Some(flag);
        }
        Ok(found)
    }

    /// `until`: a duration before now, or a point in time.
    pub fn until(&self) -> Result<Option<SystemTime>> {
        self.get("until").next().map(point_in_time).transpose()
    }
}

/// Whether an event is wanted.
pub fn event_matches(filters: &Filters, event: &Event) -> bool {
    let action = event.action.split(':').next().unwrap_or_default();
    let kind = event.kind.as_str();
    let of = |key: &str| {
        filters.any(key, |text| {
            kind == key
                && (event.actor.starts_with(text) || event.attributes.get("name").is_some_and(|name| name == text))
        })
    };
    filters.any("type", |text| text == kind)
        && filters.any("event", |text| text == action || text == event.action)
        && filters.labels(&event.attributes)
        && filters.any("image", |text| {
            event
                .attributes
                .get("image")
                .is_some_and(|image| image == text || image.split(':').next() == Some(text))
                || (kind == "image" && (event.actor == text || event.attributes.get("name").is_some_and(|n| n == text)))
        })
        && ["container", "volume", "network", "daemon"].into_iter().all(of)
}

/// Keys that events know; the last ones belong to objects of later versions and match nothing yet.
pub const EVENT_KEYS: [&str; 14] = [
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "type",
    "volume",
    "scope",
    "config",
    "node",
    "plugin",
    "secret",
    "service",
];
