//! SIGHUP: the configuration is read again, and what may change while the daemon runs is put in force.

use std::collections::BTreeMap;

use agent_engine::Engine;
use anyhow::Context;
use tracing::{info, warn};

use crate::flags::{Flags, Options};
use crate::logging::Level;
use crate::settings::Settings;

/// What a reload puts in force, by the file's names (dockerd's list, and the level of the log).
const LIVE: [&str; 9] = [
    "debug",
    "default-runtime",
    "insecure-registries",
    "labels",
    "log-level",
    "max-concurrent-downloads",
    "registry-mirrors",
    "runtimes",
    "shutdown-timeout",
];

/// What a reload needs of the start.
pub struct Reload {
    flags: Flags,
    level: Level,
    /// What was in force when the daemon began; the rest of it still is.
    began: BTreeMap<String, serde_json::Value>,
}

impl Reload {
    /// # Errors
    /// When the configuration cannot be read any more.
    pub fn new(flags: Flags, level: Level) -> anyhow::Result<Reload> {
        let began = by_name(&Settings::options(&flags)?)?;
        Ok(Reload { flags, level, began })
    }

    /// Reads it again. A configuration that cannot be used changes nothing, and is said in the log.
    pub fn now(&self, engine: &Engine) {
        match self.load(engine) {
            Ok(waiting) if waiting.is_empty() => info!("configuration reloaded"),
            Ok(waiting) => warn!(
                keys = waiting.join(" "),
                "configuration reloaded; these keys have changed and take effect when the daemon is restarted"
            ),
            Err(error) => warn!("the configuration is not reloaded: {error:#}"),
        }
    }

    fn load(&self, engine: &Engine) -> anyhow::Result<Vec<String>> {
        let options = Settings::options(&self.flags)?;
        let now = by_name(&options)?;
        let settings = Settings::new(options)?;
        engine.reload(&settings.engine).context("the engine refused it")?;
        self.level.set(settings.log_level);
        Ok(waiting(&self.began, &now))
    }
}

fn by_name(options: &Options) -> anyhow::Result<BTreeMap<String, serde_json::Value>> {
    let value = serde_json::to_value(options)?;
    Ok(serde_json::from_value(value)?)
}

/// Names of what is different and not put in force.
fn waiting(began: &BTreeMap<String, serde_json::Value>, now: &BTreeMap<String, serde_json::Value>) -> Vec<String> {
    now.iter()
        .filter(|(key, value)| !LIVE.contains(&key.as_str()) && began.get(*key) != Some(value))
        .map(|(key, _)| key.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_waits_for_a_restart_is_named() {
        let before = Options::default();
        let mut after = before.clone();
        (after.debug, after.mtu) = (Some(true), Some(1400));
        let names = waiting(&by_name(&before).unwrap(), &by_name(&after).unwrap());
        assert_eq!(names, ["mtu"]);
    }

    #[test]
    fn each_live_key_is_an_option() {
        let all = by_name(&Options::default()).unwrap();
        for key in LIVE {
            assert!(all.contains_key(key), "{key}");
        }
    }
}
