//! Commands that other programs bring along: docker's CLI plugins, and our own in the same form.
//!
//! A plugin is an executable `iechor-NAME` or `docker-NAME` in one of the folders below, which says what it is when it is
//! called with `docker-cli-plugin-metadata`. It is asked only when its command is used, or the help is shown. It gets the
//! words as they were typed, and the daemon that our flags, environment or context mean in docker's variables.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::cli::Cli;
use crate::config::{self, Config};
use crate::failure::{Failure, Result, fail};

const PREFIXES: [&str; 2] = ["iechor-", "docker-"];
const METADATA: &str = "docker-cli-plugin-metadata";
const SYSTEM: [&str; 6] = [
    "/usr/local/lib/iechor/cli-plugins",
    "/usr/lib/iechor/cli-plugins",
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];

/// A plugin that was asked and gave a sound answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    pub name: String,
    pub path: PathBuf,
    pub about: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    schema_version: String,
    vendor: String,
    #[serde(default)]
    short_description: String,
}

/// Where plugins are looked for; what is found first counts.
fn folders(told: Option<&Path>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = config::folder(told).into_iter().collect();
    folders.extend(config::docker_folder());
    folders.iter_mut().for_each(|folder| folder.push("cli-plugins"));
    if let Ok(config) = Config::load(told) {
        folders.extend(config.cli_plugins_extra_dirs.into_iter().map(PathBuf::from));
    }
    folders.extend(SYSTEM.map(PathBuf::from));
    folders
}

/// The program that has the command `name`, and what it says of itself.
pub fn find(name: &str, told: Option<&Path>) -> Result<Option<Plugin>> {
    if !is_name(name) {
        return Ok(None);
    }
    for folder in folders(told) {
        for prefix in PREFIXES {
            let path = folder.join(format!("{prefix}{name}"));
            if is_program(&path) {
                return ask(name, path).map(Some);
            }
        }
    }
    Ok(None)
}

/// Every plugin, by name, for the help; those that cannot say what they are are left out.
pub fn all(told: Option<&Path>) -> Vec<Plugin> {
    let mut found: Vec<Plugin> = Vec::new();
    for folder in folders(told) {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let Some(name) = PREFIXES.iter().find_map(|prefix| file.strip_prefix(prefix)) else {
                continue;
            };
            let is_new = is_name(name) && !found.iter().any(|plugin| plugin.name == name);
            if is_new && is_program(&entry.path()) {
                found.extend(ask(name, entry.path()));
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

fn ask(name: &str, path: PathBuf) -> Result<Plugin> {
    let wrong = |reason: String| Failure::new(format!("the plugin {} cannot be used: {reason}", path.display()));
    let answer = Command::new(&path)
        .arg(METADATA)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|error| wrong(error.to_string()))?;
    if !answer.status.success() {
        return Err(wrong(format!("it does not say what it is ({})", answer.status)));
    }
    let metadata: Metadata = serde_json::from_slice(&answer.stdout)
        .map_err(|error| wrong(format!("it does not say what it is: {error}")))?;
    if metadata.schema_version != "0.1.0" || metadata.vendor.is_empty() {
        return Err(wrong("it is of a form that is not known".to_owned()));
    }
    Ok(Plugin {
        name: name.to_owned(),
        about: metadata.short_description,
        path,
    })
}

/// Becomes the plugin.
pub fn run(cli: &Cli, plugin: &Plugin, words: &[OsString]) -> Result {
    let mut command = Command::new(&plugin.path);
    command.arg(&plugin.name).args(words);
    let (host, tls) = cli.daemon()?;
    command.env("DOCKER_HOST", host).env_remove("DOCKER_CONTEXT");
    for variable in ["DOCKER_TLS", "DOCKER_TLS_VERIFY"] {
        command.env_remove(variable);
    }
    if let Some(tls) = tls {
        command.env("DOCKER_TLS", "1");
        if tls.verify {
            command.env("DOCKER_TLS_VERIFY", "1");
        }
        // Docker has one variable for all three: a folder with files of these names.
        let mut folder = None;
        for (file, name) in [(&tls.ca, "ca.pem"), (&tls.cert, "cert.pem"), (&tls.key, "key.pem")] {
            let Some(file) = file else { continue };
            let here = file.parent().map(Path::to_owned);
            if file.file_name() != Some(name.as_ref())
                || folder.as_ref().is_some_and(|folder| Some(folder) != here.as_ref())
            {
                fail!(
                    "a plugin finds TLS files by one folder alone: call {} {name} and put it beside the others",
                    file.display()
                );
            }
            folder = here;
        }
        if let Some(folder) = folder {
            command.env("DOCKER_CERT_PATH", folder);
        }
    }
    if let Ok(own) = std::env::current_exe() {
        command.env("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", own);
    }
    let error = command.exec();
    fail!("cannot run {}: {error}", plugin.path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_commands() {
        assert!(is_name("compose") && is_name("a2"));
        for bad in ["", "Compose", "2a", "../x", "a-b", "a.b"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
