//! Contexts: daemons by name, in docker's layout, so that what one client exports the other imports.
//!
//! ```text
//! CONFIG/contexts/meta/SHA256-OF-NAME/meta.json                 name, description, host
//! CONFIG/contexts/tls/SHA256-OF-NAME/docker/{ca,cert,key}.pem   what TLS needs, if it is used
//! CONFIG/config.json: currentContext                            which one is used; absent: `default`
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use client::TlsOptions;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::failure::{Result, fail};
use crate::files;

/// What the flags and the environment say; it is in no file.
pub const DEFAULT: &str = "default";
/// Files of a context's TLS, by the names that docker gives them.
pub const TLS_FILES: [&str; 3] = ["ca.pem", "cert.pem", "key.pem"];

/// One context as it is in its file. What we do not know of it is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Context {
    pub name: String,
    pub metadata: Metadata,
    pub endpoints: Endpoints,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Metadata {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoints {
    pub docker: Endpoint,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    #[serde(rename = "Host", skip_serializing_if = "String::is_empty")]
    pub host: String,
    #[serde(rename = "SkipTLSVerify")]
    pub skip_tls_verify: bool,
}

/// The contexts of one configuration folder.
#[derive(Debug, Clone)]
pub struct Contexts {
    config: PathBuf,
}

impl Contexts {
    pub fn new(config: PathBuf) -> Contexts {
        Contexts { config }
    }

    pub fn meta_folder(&self, name: &str) -> PathBuf {
        self.config.join("contexts/meta").join(id(name))
    }

    pub fn tls_folder(&self, name: &str) -> PathBuf {
        self.config.join("contexts/tls").join(id(name))
    }

    /// All but `default`, by name. One whose file cannot be understood is said and left out.
    pub fn list(&self) -> Result<Vec<Context>> {
        let folder = self.config.join("contexts/meta");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => fail!("cannot read {}: {error}", folder.display()),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry?.path().join("meta.json");
            match read(&path) {
                Ok(Some(context)) => found.push(context),
                Ok(None) => {}
                Err(failure) => crate::output::warn(format!("WARNING: {failure}")),
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// # Errors
    /// There is none of this name, or its file cannot be understood.
    pub fn get(&self, name: &str) -> Result<Context> {
        check_name(name)?;
        match read(&self.meta_folder(name).join("meta.json"))? {
            Some(context) => Ok(context),
            None => fail!("context {name:?}: context not found; iechor context ls shows those that there are"),
        }
    }

    pub fn exists(&self, name: &str) -> bool {
        self.meta_folder(name).join("meta.json").exists()
    }

    /// Writes a context, a new one or another version of an old one.
    pub fn put(&self, context: &Context) -> Result {
        check_name(&context.name)?;
        let text = serde_json::to_string(context)?;
        files::write(&self.meta_folder(&context.name).join("meta.json"), text.as_bytes())
    }

    /// Replaces the files of TLS, each as (name, content); an empty list takes them away.
    pub fn put_tls(&self, name: &str, files: &[(String, Vec<u8>)]) -> Result {
        check_name(name)?;
        remove_folder(&self.tls_folder(name))?;
        for (file, content) in files {
            files::write(&self.tls_folder(name).join("docker").join(file), content)?;
        }
        Ok(())
    }

    /// The files of TLS that a context has.
    pub fn tls_files(&self, name: &str) -> Vec<(String, PathBuf)> {
        let folder = self.tls_folder(name).join("docker");
        TLS_FILES
            .iter()
            .map(|file| ((*file).to_owned(), folder.join(file)))
            .filter(|(_, path)| path.exists())
            .collect()
    }

    /// How to speak TLS to the daemon of a context, where it does.
    pub fn tls(&self, context: &Context) -> Option<TlsOptions> {
        let files = self.tls_files(&context.name);
        if files.is_empty() && !context.endpoints.docker.skip_tls_verify {
            return None;
        }
        let file = |name: &str| {
            files
                .iter()
                .find(|(file, _)| file == name)
                .map(|(_, path)| path.clone())
        };
        Some(TlsOptions {
            ca: file("ca.pem"),
            cert: file("cert.pem"),
            key: file("key.pem"),
            verify: !context.endpoints.docker.skip_tls_verify,
        })
    }

    pub fn remove(&self, name: &str) -> Result {
        self.get(name)?;
        // The name goes last: what is left of an interrupted removal can be removed again.
        remove_folder(&self.tls_folder(name))?;
        remove_folder(&self.meta_folder(name))
    }

    /// Makes `name` the one that is used from now on; `default` is what is used where none is named.
    pub fn make_current(&self, name: &str) -> Result {
        let path = self.config.join("config.json");
        let mut config = files::members(&path)?;
        if name == DEFAULT {
            config.shift_remove("currentContext");
        } else {
            config.insert("currentContext".to_owned(), name.into());
        }
        files::write_members(&path, &config)
    }
}

/// # Errors
/// In docker's words: what a context cannot be called.
pub fn check_name(name: &str) -> Result {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
    if name.is_empty() {
        fail!("context name cannot be empty");
    }
    if name == DEFAULT {
        fail!("{name:?} is a reserved context name");
    }
    if name.len() < 2 || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(is_word) {
        fail!("context name {name:?} is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\"");
    }
    Ok(())
}

fn id(name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<Option<Context>> {
    match fs::read(path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(context) => Ok(Some(context)),
            Err(error) => fail!("cannot understand {}: {error}", path.display()),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => fail!("cannot read {}: {error}", path.display()),
    }
}

fn remove_folder(path: &Path) -> Result {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => fail!("cannot remove {}: {error}", path.display()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_those_of_docker() {
        for good in ["ab", "a.b", "A_9", "x+y-z", "00"] {
            check_name(good).unwrap();
        }
        for bad in ["", "a", "default", "-ab", ".ab", "a/b", "../x", "a b", "ä1", "a\0"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_layout_is_docker_s() {
        // `echo -n name | sha256sum`
        let id = "82a3537ff0dbce7eec35d69edc3a189ee6f17d82f353a553f9aa96cb0be3ce89";
        let contexts = Contexts::new("/c".into());
        assert_eq!(contexts.meta_folder("name"), Path::new("/c/contexts/meta").join(id));
        assert_eq!(contexts.tls_folder("name"), Path::new("/c/contexts/tls").join(id));
    }

    #[test]
    fn what_is_not_known_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let contexts = Contexts::new(folder.path().to_owned());
        let text = r#"{"Name":"box","Metadata":{"Description":"d","Theme":{"x":1}},"Endpoints":{"docker":{"Host":"unix:///x","SkipTLSVerify":false}}}"#;
        let context: Context = serde_json::from_str(text).unwrap();
        contexts.put(&context).unwrap();
        assert_eq!(contexts.get("box").unwrap(), context);
        assert_eq!(
            fs::read_to_string(contexts.meta_folder("box").join("meta.json")).unwrap(),
            text
        );
        fs::write(folder.path().join("config.json"), r#"{"auths":{"h":{}},"x":[1]}"#).unwrap();
        contexts.make_current("box").unwrap();
        contexts.make_current(DEFAULT).unwrap();
        let config: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.path().join("config.json")).unwrap()).unwrap();
        assert_eq!(config, serde_json::json!({"auths": {"h": {}}, "x": [1]}));
        contexts.remove("box").unwrap();
        assert!(contexts.get("box").is_err() && contexts.list().unwrap().is_empty());
    }
}
