//! Which containers a list shows.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Filters, Names};
use crate::Engine;
use crate::container::list::port_matches;
use crate::container::state::Phase;
use crate::container::{Container, Record, RunNet};
use crate::error::{Error, Result};

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
        let names = filters.names();
        let wanted = self.wanted(all || limit.is_some(), filters, &names)?;
        let without = RunNet::default();
        let row = |container: Arc<Container>| {
            let inner = container.lock();
            let net = inner.run.as_ref().map_or(&without, |run| &run.net);
            wanted(&inner.record, net).then(|| show(&inner.record, net))
        };
        let limit = limit.unwrap_or(usize::MAX);
        // Few are asked for by id or name, and few are looked at.
        Ok(if filters.has("id") {
            let picked = self.index.with_prefixes(filters.get("id"));
            picked.into_iter().filter_map(row).take(limit).collect()
        } else if filters.has("name") {
            let picked = self.index.with_names(|name| names.fit(name));
            picked.into_iter().filter_map(row).take(limit).collect()
        } else {
            self.index.newest_first().filter_map(row).take(limit).collect()
        })
    }

    /// What a list's filters pick.
    fn wanted<'a>(
        &self,
        all: bool,
        filters: &'a Filters,
        names: &'a Names,
    ) -> Result<impl Fn(&Record, &RunNet) -> bool + use<'a>> {
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
                && names.fit(&record.name)
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
