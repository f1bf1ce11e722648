//! What of a container goes along with its lines: labels, variables, the tag.

use regex::Regex;

use crate::options::Options;
use crate::tag::Tag;
use crate::{Origin, Refused};

/// Which attributes were asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    labels: Vec<String>,
    labels_regex: Option<Regex>,
    env: Vec<String>,
    env_regex: Option<Regex>,
    tag: Option<Tag>,
}

pub(crate) const KEYS: &[&str] = &["labels", "labels-regex", "env", "env-regex", "tag"];

impl Wanted {
    pub(crate) fn parse(options: &Options<'_>) -> Result<Wanted, Refused> {
        let list = |key| {
            let text = options.get(key).unwrap_or_default();
            text.split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let regex = |key| match options.get(key).unwrap_or_default() {
            "" => Ok(None),
            text => Regex::new(text)
                .map(Some)
                .map_err(|error| Refused::invalid(format!("invalid value for {key}: {error}"))),
        };
        Ok(Wanted {
            labels: list("labels"),
            labels_regex: regex("labels-regex")?,
            env: list("env"),
            env_regex: regex("env-regex")?,
            tag: match options.get("tag").unwrap_or_default() {
                "" => None,
                text => Some(Tag::parse(text)?),
            },
        })
    }

    /// Labels and variables of a container, by name.
    pub fn extra(&self, origin: &Origin) -> Vec<(String, String)> {
        let wanted = |name: &str, names: &[String], regex: &Option<Regex>| {
            names.iter().any(|wanted| wanted == name) || regex.as_ref().is_some_and(|regex| regex.is_match(name))
        };
        let mut extra = std::collections::BTreeMap::new();
        for (name, value) in &origin.labels {
            if wanted(name, &self.labels, &self.labels_regex) {
                extra.insert(name.clone(), value.clone());
            }
        }
        for (name, value) in origin.env.iter().filter_map(|pair| pair.split_once('=')) {
            if wanted(name, &self.env, &self.env_regex) {
                extra.insert(name.to_owned(), value.to_owned());
            }
        }
        extra.into_iter().collect()
    }

    /// What `docker logs --details` shows and `json-file` writes: the tag too, if there is one.
    pub fn details(&self, origin: &Origin) -> Vec<(String, String)> {
        let mut all = self.extra(origin);
        if let Some(tag) = &self.tag {
            all.retain(|(name, _)| name != "tag");
            all.push(("tag".into(), tag.render(origin)));
            all.sort();
        }
        all
    }

    /// For drivers that always have one.
    pub(crate) fn tag(&self, origin: &Origin) -> String {
        self.tag.clone().unwrap_or_else(Tag::id).render(origin)
    }
}
