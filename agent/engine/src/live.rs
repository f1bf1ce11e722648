//! What the administrator may change while the daemon runs: edit the file, send SIGHUP.
//!
//! Each operation takes the state as it is when it begins, and ends with that.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use agent_registry::Client;

use crate::config::{EngineConfig, RuntimeProgram};
use crate::error::Result;
use crate::events::EventKind;
use crate::image::pull::Pulls;
use crate::{Engine, Shared};

/// The part of the configuration in force, and what was made of it.
pub(crate) struct Live {
    pub(crate) registry: Client,
    pub(crate) pulls: Pulls,
    pub(crate) runtimes: BTreeMap<String, RuntimeProgram>,
    pub(crate) default_runtime: String,
    pub(crate) labels: Vec<String>,
    pub(crate) debug: bool,
    pub(crate) shutdown_timeout: Duration,
    /// What the two at the top were made of.
    source: (agent_registry::ClientConfig, usize),
}

impl Live {
    pub(crate) fn new(config: &EngineConfig) -> Result<Live> {
        Ok(Live {
            registry: Client::new(config.registry.clone())?,
            pulls: Pulls::new(config.max_concurrent_downloads),
            runtimes: config.runtimes.clone(),
            default_runtime: config.default_runtime.clone(),
            labels: config.labels.clone(),
            debug: config.debug,
            shutdown_timeout: config.shutdown_timeout,
            source: (config.registry.clone(), config.max_concurrent_downloads),
        })
    }

    /// The next state. Where nothing changed for it, the registry's connections and tokens stay, and so do turns taken.
    fn next(&self, config: &EngineConfig) -> Result<Live> {
        let mut next = Live::new(config)?;
        if next.source.0 == self.source.0 {
            next.registry = self.registry.clone();
        }
        if next.source.1 == self.source.1 {
            next.pulls = self.pulls.clone();
        }
        Ok(next)
    }
}

impl Shared {
    pub(crate) fn live(&self) -> Arc<Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Engine {
    /// How registries are reached, as it is now.
    pub fn registry_config(&self) -> agent_registry::ClientConfig {
        self.live().source.0.clone()
    }

    /// Puts the parts of `config` in force that may change while we run: labels, debug, runtimes, what registries are
    /// reached by, downloads at once, the grace at shutdown. Everything else of it is passed over.
    ///
    /// # Errors
    /// When a part cannot be used; then nothing has changed.
    pub fn reload(&self, config: &EngineConfig) -> Result<()> {
        let next = self.live().next(config)?;
        let list = |items: &[String]| serde_json::to_string(items).unwrap_or_default();
        let names: Vec<String> = next.runtimes.keys().cloned().collect();
        let attributes = BTreeMap::from([
            ("name".to_owned(), self.info().name),
            ("debug".to_owned(), next.debug.to_string()),
            ("labels".to_owned(), list(&next.labels)),
            ("runtimes".to_owned(), names.join(" ")),
            ("default-runtime".to_owned(), next.default_runtime.clone()),
            ("insecure-registries".to_owned(), list(&config.registry.insecure)),
            (
                "registry-mirrors".to_owned(),
                list(
                    &config
                        .registry
                        .mirrors
                        .iter()
                        .map(|mirror| mirror.url.clone())
                        .collect::<Vec<_>>(),
                ),
            ),
            (
                "max-concurrent-downloads".to_owned(),
                config.max_concurrent_downloads.to_string(),
            ),
            ("live-restore".to_owned(), "true".to_owned()),
            (
                "shutdown-timeout".to_owned(),
                next.shutdown_timeout.as_secs().to_string(),
            ),
        ]);
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        self.journal
            .record(EventKind::Daemon, "reload", &self.identity.id, attributes);
        Ok(())
    }
}
