//! `--filter key=value`: which keys a list knows, and what they match.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use crate::Engine;
use crate::container::list::port_matches;
use crate::container::state::Phase;
use crate::container::{Record, RunNet};
use crate::error::{Error, Result};
use crate::events::Event;

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

/// Seconds since 1970 with a fraction, RFC 3339, or a Go duration before now.
pub fn point_in_time(text: &str) -> Result<SystemTime> {
    let bad = || Error::invalid(format!("invalid time: \"{text}\": neither a timestamp nor a duration"));
    if let Some(duration) = go_duration(text) {
        return SystemTime::now().checked_sub(duration).ok_or_else(bad);
    }
    if let Some((seconds, fraction)) = text.split_once('.').or(Some((text, "")))
        && let Ok(seconds) = seconds.parse::<u64>()
        && fraction.bytes().all(|b| b.is_ascii_digit())
        && fraction.len() <= 9
    {
        let nanos = format!("{fraction:0<9}").parse::<u32>().map_err(|_| bad())?;
        return SystemTime::UNIX_EPOCH
            .checked_add(Duration::new(seconds, nanos))
            .ok_or_else(bad);
    }
    rfc3339(text).or_else(|| local_time(text)).ok_or_else(bad)
}

/// `2026-11-25`, `2026-11-25T10:00`, `2026-11-25T10:00:00.5`: without a zone the daemon's own is meant.
fn local_time(text: &str) -> Option<SystemTime> {
    let (text, utc) = text.strip_suffix('Z').map_or((text, false), |text| (text, true));
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    let zone = if utc {
        jiff::tz::TimeZone::UTC
    } else {
        jiff::tz::TimeZone::system()
    };
    let stamp = zone.to_timestamp(civil).ok()?;
    let nanoseconds = u64::try_from(stamp.as_nanosecond()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanoseconds))
}

/// A point in time as image configurations and clients write it.
pub(crate) fn rfc3339(text: &str) -> Option<SystemTime> {
    let stamp: jiff::Timestamp = text.parse().ok()?;
    let nanoseconds = u64::try_from(stamp.as_nanosecond()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanoseconds))
}

/// `1h30m`, `1.5s`, `300ms`; at least one unit.
pub fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0f64;
    if rest.is_empty() || !rest.bytes().any(|b| b.is_ascii_alphabetic()) {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        total += number
            * match &rest[..letters] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[letters..];
    }
    Duration::try_from_secs_f64(total).ok()
}

/// Filters of the list of containers.
pub const CONTAINER_KEYS: [&str; 15] = [
    "ancestor",
    "before",
    "expose",
    "exited",
    "health",
    "id",
    "isolation",
    "is-task",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

impl Engine {
    /// Containers for a list, newest first: the running ones, or all; `limit` counts over all states. `show` makes a row of
    /// one while it cannot change, and must not look at containers itself: nothing is copied for a row that is not wanted.
    ///
    /// # Errors
    /// A filter that is not known, or a value of one that makes no sense.
    pub fn list<T>(
        &self,
        all: bool,
        limit: Option<usize>,
        filters: &Filters,
        mut show: impl FnMut(&Record, &RunNet) -> T,
    ) -> Result<Vec<T>> {
        let wanted = self.wanted(all || limit.is_some(), filters)?;
        let mut newest_first: Vec<_> = self.index.all();
        newest_first.sort_by_cached_key(|container| Reverse(container.lock().record.created));
        let without = RunNet::default();
        let rows = newest_first.iter().filter_map(|container| {
            let inner = container.lock();
            let net = inner.run.as_ref().map_or(&without, |run| &run.net);
            wanted(&inner.record, net).then(|| show(&inner.record, net))
        });
        Ok(rows.take(limit.unwrap_or(usize::MAX)).collect())
    }

    /// What a list's filters pick.
    fn wanted<'a>(&self, all: bool, filters: &'a Filters) -> Result<impl Fn(&Record, &RunNet) -> bool + use<'a>> {
        filters.only(&CONTAINER_KEYS)?;
        for status in filters.get("status") {
            let known = [
                "created",
                "running",
                "paused",
                "restarting",
                "removing",
                "exited",
                "dead",
            ];
            if !known.contains(&status) {
                return Err(Error::invalid(format!(
                    "invalid filter 'status={status}': must be one of [created running paused restarting removing exited dead]"
                )));
            }
        }
        let codes: Vec<i32> = filters
            .get("exited")
            .map(|text| {
                text.parse()
                    .map_err(|_| Error::invalid(format!("invalid filter 'exited={text}'")))
            })
            .collect::<Result<_>>()?;
        let anchor = |key: &str| -> Result<Option<SystemTime>> {
            filters
                .get(key)
                .next()
                .map(|name| Ok(self.container(name)?.lock().record.created))
                .transpose()
        };
        let (before, since) = (anchor("before")?, anchor("since")?);
        let ancestors: Vec<String> = filters
            .get("ancestor")
            .filter_map(|name| self.find_image(name).ok())
            .map(|image| image.id.to_string())
            .collect();
        let unlimited = all || filters.has("status") || filters.has("exited") || filters.has("health");
        Ok(move |record: &Record, net: &RunNet| {
            let phase = record.status.phase;
            (unlimited || phase.is_live() || phase == Phase::Restarting)
                && before.is_none_or(|time| record.created < time)
                && since.is_none_or(|time| record.created > time)
                && (codes.is_empty() || (phase == Phase::Exited && codes.contains(&record.status.exit_code)))
                && (!filters.has("ancestor") || ancestors.contains(&record.image))
                && filters.any("status", |text| text == phase.as_str())
                && filters.any("id", |text| record.id.as_str().starts_with(text))
                && filters.any("name", |text| name_matches(text, &record.name))
                && filters.labels(&record.config.labels)
                && filters.any("network", |text| record.host.network_mode == text)
                && filters.any("volume", |text| {
                    record.mounts.iter().any(|m| m.name == text || m.target == text)
                })
                && filters.any("health", |text| {
                    record
                        .health
                        .as_ref()
                        .map_or(text == "none", |health| health.state.as_str() == text)
                })
                && filters.any("expose", |text| {
                    record.config.exposed_ports.iter().any(|port| port_matches(text, port))
                })
                && filters.any("publish", |text| {
                    net.ports
                        .iter()
                        .any(|port| port_matches(text, &format!("{}/{}", port.container_port, port.proto)))
                })
        })
    }
}

/// Docker matches names as regular expressions; the anchors and plain text are what people use of them.
fn name_matches(pattern: &str, name: &str) -> bool {
    let slashed = format!("/{name}");
    let (start, pattern) = pattern.strip_prefix('^').map_or((false, pattern), |rest| (true, rest));
    let (end, pattern) = pattern.strip_suffix('$').map_or((false, pattern), |rest| (true, rest));
    [name, slashed.as_str()].into_iter().any(|text| match (start, end) {
        (true, true) => text == pattern,
        (true, false) => text.starts_with(pattern),
        (false, true) => text.ends_with(pattern),
        (false, false) => text.contains(pattern),
    })
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_and_times() {
        assert_eq!(go_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(go_duration("1.5s"), Some(Duration::from_millis(1500)));
        for bad in ["", "5", "h", "1x", "-1s"] {
            assert_eq!(go_duration(bad), None, "{bad}");
        }
        let at = |text: &str| {
            point_in_time(text)
                .unwrap()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
        };
        assert_eq!(at("12.5"), Duration::from_millis(12_500));
        assert_eq!(at("1970-01-01T00:01:00Z"), Duration::from_secs(60));
        for day in ["1970-01-03Z", "1970-01-03T00:00Z", "1970-01-03T00:00:00Z"] {
            assert_eq!(at(day), Duration::from_secs(2 * 86_400), "{day}");
        }
        let apart = at("1970-01-04T12:00") - at("1970-01-03");
        assert_eq!(apart, Duration::from_secs(36 * 3600), "whatever the zone is");
        assert!(point_in_time("yesterday").is_err());
    }

    #[test]
    fn names_match_with_anchors() {
        assert!(name_matches("we", "web") && name_matches("^/web$", "web") && name_matches("^web", "web1"));
        assert!(!name_matches("^eb", "web") && !name_matches("we$", "web"));
    }

    proptest! {
        #[test]
        fn times_never_panic(text in "\\PC{0,30}") {
            let _ = point_in_time(&text);
            let _ = go_duration(&text);
        }
    }
}
