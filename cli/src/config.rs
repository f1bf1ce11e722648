//! `config.json`: ours in `~/.iechor`, docker's read for what ours does not say. Only the keys that mean something here
//! are read; `context use` writes which context is the current one, `login` and `logout` what is known of registries, and nothing
//! else of it is ever changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::failure::{Failure, Result};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    pub auths: BTreeMap<String, Auth>,
    pub creds_store: Option<String>,
    pub cred_helpers: BTreeMap<String, String>,
    #[serde(rename = "HttpHeaders")]
    pub http_headers: BTreeMap<String, String>,
    pub ps_format: Option<String>,
    pub images_format: Option<String>,
    pub networks_format: Option<String>,
    pub volumes_format: Option<String>,
    pub stats_format: Option<String>,
    pub detach_keys: Option<String>,
    pub current_context: Option<String>,
    pub cli_plugins_extra_dirs: Vec<String>,
    /// Proxies to set in new containers, by daemon address, or `default`.
    pub proxies: BTreeMap<String, Proxies>,
}

/// An entry of `auths`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Auth {
    /// base64 of `user:password`.
    pub auth: String,
    pub username: String,
    pub password: String,
    pub identitytoken: String,
    pub registrytoken: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Proxies {
    pub http_proxy: String,
    pub https_proxy: String,
    pub ftp_proxy: String,
    pub no_proxy: String,
    pub all_proxy: String,
}

// Secrets must not reach a log by accident.
impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Auth({})", self.username)
    }
}

/// Where our configuration is: as told, else by the environment, else in the home folder, if there is one.
pub fn folder(told: Option<&Path>) -> Option<PathBuf> {
    told.map(Path::to_owned)
        .or_else(|| variable("IECHOR_CONFIG"))
        .or_else(|| variable("HOME").map(|home| home.join(".iechor")))
}

/// Where docker's client has its own.
pub fn docker_folder() -> Option<PathBuf> {
    variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|home| home.join(".docker")))
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

impl Config {
    /// The proxy variables that new containers get, in both spellings, for the daemon at `host`.
    pub fn proxy_environment(&self, host: &str) -> Vec<(String, String)> {
        let Some(proxies) = self.proxies.get(host).or_else(|| self.proxies.get("default")) else {
            return Vec::new();
        };
        [
            ("HTTP_PROXY", &proxies.http_proxy),
            ("HTTPS_PROXY", &proxies.https_proxy),
            ("FTP_PROXY", &proxies.ftp_proxy),
            ("NO_PROXY", &proxies.no_proxy),
            ("ALL_PROXY", &proxies.all_proxy),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .flat_map(|(name, value)| [(name.to_owned(), value.clone()), (name.to_lowercase(), value.clone())])
        .collect()
    }

    /// Reads the file in `folder` (or in `~/.iechor`), and adds what docker's own file says about credentials.
    pub fn load(folder: Option<&Path>) -> Result<Config> {
        let mut config = match self::folder(folder) {
            Some(folder) => Config::read(&folder.join("config.json"))?.unwrap_or_default(),
            None => Config::default(),
        };
        if let Some(docker) = docker_folder().and_then(|folder| Config::read(&folder.join("config.json")).transpose()) {
            let docker = docker?;
            for (host, auth) in docker.auths {
                config.auths.entry(host).or_insert(auth);
            }
            for (host, helper) in docker.cred_helpers {
                config.cred_helpers.entry(host).or_insert(helper);
            }
            config.creds_store = config.creds_store.or(docker.creds_store);
            config.cli_plugins_extra_dirs.extend(docker.cli_plugins_extra_dirs);
        }
        Ok(config)
    }

    fn read(path: &Path) -> Result<Option<Config>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            // A folder of another user's must not stop a command that needs no credentials.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                eprintln!("WARNING: Error loading config file: {}: {error}", path.display());
                return Ok(None);
            }
            Err(error) => return Err(Failure::new(format!("cannot read {}: {error}", path.display()))),
        };
        if text.trim().is_empty() {
            return Ok(None);
        }
        match serde_json::from_str(&text) {
            Ok(config) => Ok(Some(config)),
            Err(error) => Err(Failure::new(format!("cannot understand {}: {error}", path.display()))),
        }
    }
}
