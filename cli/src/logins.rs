//! Storing logins: with a credential helper where one is configured, else in the `auths` of our own `config.json`. What
//! the file says besides is kept as it is.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::AuthConfig;
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::credentials;
use crate::failure::{Failure, Result, fail};
use crate::files;

/// Where a login went.
pub enum Stored {
    Helper,
    File(PathBuf),
}

/// Keeps a login for `key`.
pub fn store(config: &Config, folder: &Path, key: &str, auth: &AuthConfig) -> Result<Stored> {
    if let Some(helper) = helper(config, key) {
        let secret = match auth.identitytoken.as_str() {
            "" => json!({"ServerURL": key, "Username": auth.username, "Secret": auth.password}),
            token => json!({"ServerURL": key, "Username": "<token>", "Secret": token}),
        };
        call(helper, "store", &secret.to_string())?;
        return Ok(Stored::Helper);
    }
    let path = folder.join("config.json");
    let mut file = files::members(&path)?;
    let auths = file.entry("auths").or_insert_with(|| json!({}));
    match auths.as_object_mut() {
        Some(auths) => auths.insert(key.to_owned(), entry(auth)),
        None => fail!("cannot write {}: its member auths is no object", path.display()),
    };
    files::write_members(&path, &file)?;
    Ok(Stored::File(path))
}

/// A login as `auths` has it.
fn entry(auth: &AuthConfig) -> Value {
    if auth.identitytoken.is_empty() {
        return json!({ "auth": STANDARD.encode(format!("{}:{}", auth.username, auth.password)) });
    }
    json!({"auth": STANDARD.encode(format!("{}:", auth.username)), "identitytoken": auth.identitytoken})
}

/// Everything that is known, the helpers' part as well, as the text of a `config.json`; `None` where that is nothing.
pub fn all(config: &Config) -> Result<Option<String>> {
    let mut keys: BTreeSet<String> = config.auths.keys().chain(config.cred_helpers.keys()).cloned().collect();
    if let Some(helper) = config.creds_store.as_deref().filter(|name| !name.is_empty()) {
        let listed: Map<String, Value> = serde_json::from_str(&call(helper, "list", "")?).unwrap_or_default();
        keys.extend(listed.into_iter().map(|(key, _)| key));
    }
    let mut auths = Map::new();
    for key in keys {
        if let Some(auth) = credentials::of_key(config, &key)? {
            auths.insert(key, entry(&auth));
        }
    }
    Ok((!auths.is_empty()).then(|| json!({ "auths": auths }).to_string()))
}

/// Forgets a login; whether there was one.
pub fn erase(config: &Config, folder: &Path, key: &str) -> Result<bool> {
    let mut known = false;
    if let Some(helper) = helper(config, key) {
        let listed = call(helper, "list", "")?;
        let all: Map<String, Value> = serde_json::from_str(&listed).unwrap_or_default();
        if all.contains_key(key) {
            call(helper, "erase", key)?;
            known = true;
        }
    }
    let path = folder.join("config.json");
    let mut file = files::members(&path)?;
    let auths = file.get_mut("auths").and_then(Value::as_object_mut);
    if auths.is_some_and(|auths| auths.remove(key).is_some()) {
        files::write_members(&path, &file)?;
        known = true;
    }
    Ok(known)
}

fn helper<'a>(config: &'a Config, key: &str) -> Option<&'a str> {
    let found = config.cred_helpers.get(key).or(config.creds_store.as_ref());
    found.map(String::as_str).filter(|name| !name.is_empty())
}

/// Runs `docker-credential-<helper> <verb>` with `input`.
fn call(helper: &str, verb: &str, input: &str) -> Result<String> {
    if helper.contains('/') {
        fail!("invalid credential helper {helper:?} in the config file: it is a name, not a path");
    }
    let program = format!("docker-credential-{helper}");
    let started = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = started.map_err(|error| Failure::new(format!("cannot run {program}: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read has its own error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        fail!("error {verb}ing credentials - {program} failed: {}", text.trim());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_login_is_written_beside_what_is_there_and_taken_out_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(
            &path,
            r#"{"psFormat":"x","plugins":{"a":{"b":"c"}},"auths":{"other":{"auth":"eDp5"}}}"#,
        )
        .unwrap();
        let auth = AuthConfig {
            username: "me".into(),
            password: "secret:1".into(),
            ..AuthConfig::default()
        };
        assert!(matches!(
            store(&Config::default(), folder.path(), "r.example", &auth).unwrap(),
            Stored::File(_)
        ));
        let file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(file["auths"]["r.example"]["auth"], STANDARD.encode("me:secret:1"));
        assert_eq!(
            (&file["psFormat"], &file["plugins"]["a"]["b"]),
            (&json!("x"), &json!("c"))
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let config: Config = serde_json::from_value(file).unwrap();
        let found = credentials::for_image(&config, "r.example/a").unwrap().unwrap();
        assert_eq!((found.username.as_str(), found.password.as_str()), ("me", "secret:1"));
        assert!(erase(&config, folder.path(), "r.example").unwrap());
        assert!(!erase(&config, folder.path(), "r.example").unwrap());
        let file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(file["auths"], json!({"other": {"auth": "eDp5"}}));
    }
}
