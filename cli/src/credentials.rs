//! Credentials for a registry: `credHelpers[host]`, then `credsStore`, then `auths`, as docker looks for them.

use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::AuthConfig;
use serde::Deserialize;

use crate::config::{Auth, Config};
use crate::failure::{Result, fail};

/// The hub's key in the files, from the days of its first protocol.
const HUB: &str = "https://index.docker.io/v1/";

/// What to send along with a pull of `image`; `None` when nothing is known about its registry.
pub fn for_image(config: &Config, image: &str) -> Result<Option<AuthConfig>> {
    of_key(config, key_of(image))
}

/// The key under which a login to `server` is stored: the hub's for the default one, else host and port.
pub fn key_of_server(server: &str) -> &str {
    match host_of(server) {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB,
        host => host,
    }
}

/// What is known about a registry by its key.
pub fn of_key(config: &Config, key: &str) -> Result<Option<AuthConfig>> {
    if let Some(helper) = config.cred_helpers.get(key).or(config.creds_store.as_ref()) {
        return ask(helper, key);
    }
    let Some(auth) = config.auths.get(key).or_else(|| {
        config
            .auths
            .iter()
            .find(|(known, _)| host_of(known) == host_of(key))
            .map(|(_, auth)| auth)
    }) else {
        return Ok(None);
    };
    stored(auth, key)
}

/// The key under which an image's registry is stored: the part in front of the first slash if it looks like a host.
fn key_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => {
            if matches!(host, "docker.io" | "index.docker.io") {
                HUB
            } else {
                host
            }
        }
        _ => HUB,
    }
}

/// Keys were written as URLs by some clients.
fn host_of(key: &str) -> &str {
    let rest = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

fn stored(auth: &Auth, key: &str) -> Result<Option<AuthConfig>> {
    let (mut username, mut password) = (auth.username.clone(), auth.password.clone());
    if !auth.auth.is_empty() {
        let decoded = STANDARD
            .decode(&auth.auth)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((user, secret)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
            fail!("the stored credentials for {key} are not valid; log in again");
        };
        (username, password) = (user.to_owned(), secret.trim_matches('\0').to_owned());
    }
    Ok(Some(AuthConfig {
        username,
        password,
        serveraddress: key.to_owned(),
        identitytoken: auth.identitytoken.clone(),
        registrytoken: auth.registrytoken.clone(),
        ..AuthConfig::default()
    }))
}

/// Runs `docker-credential-<helper> get`.
fn ask(helper: &str, key: &str) -> Result<Option<AuthConfig>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        #[serde(default)]
        username: String,
        #[serde(default)]
        secret: String,
    }
    if helper.contains('/') {
        fail!("invalid credential helper {helper:?} in the config file: it is a name, not a path");
    }
    let program = format!("docker-credential-{helper}");
    let mut child = match Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(error) => {
            // Public images can be had without.
            eprintln!("WARNING: cannot run the credential helper {program}: {error}");
            return Ok(None);
        }
    };
    if let Some(mut input) = child.stdin.take() {
        // A helper that does not read has its own error.
        let _ = input.write_all(key.as_bytes());
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        if text.contains("credentials not found in native keychain") {
            return Ok(None);
        }
        fail!("error getting credentials - {program} failed: {}", text.trim());
    }
    let Ok(answer) = serde_json::from_str::<Answer>(&text) else {
        fail!("{program} answered with something else than credentials for {key}");
    };
    let mut auth = AuthConfig {
        serveraddress: key.to_owned(),
        ..AuthConfig::default()
    };
    if answer.username == "<token>" {
        auth.identitytoken = answer.secret;
    } else {
        (auth.username, auth.password) = (answer.username, answer.secret);
    }
    Ok(Some(auth))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn registries_are_found_in_names() {
        for (image, want) in [
            ("busybox", HUB),
            ("library/busybox:1", HUB),
            ("docker.io/library/busybox", HUB),
            ("localhost/x", "localhost"),
            ("127.0.0.1:5000/x:1", "127.0.0.1:5000"),
            ("reg.example.org/a/b@sha256:0", "reg.example.org"),
        ] {
            assert_eq!(key_of(image), want, "{image}");
        }
    }

    #[test]
    fn stored_credentials_are_decoded() {
        let config: Config = serde_json::from_str(
            r#"{"auths":{"https://reg.example.org/v1/":{"auth":"bWU6c2VjcmV0OjE="},"bad.example.org":{"auth":"%%"}}}"#,
        )
        .unwrap();
        let auth = for_image(&config, "reg.example.org/x").unwrap().unwrap();
        assert_eq!((auth.username.as_str(), auth.password.as_str()), ("me", "secret:1"));
        assert!(for_image(&config, "bad.example.org/x").is_err());
        assert!(for_image(&config, "busybox").unwrap().is_none());
        assert!(!format!("{config:?}").contains("bWU6"));
    }
}
