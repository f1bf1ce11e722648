//! `context …`: daemons by name.

pub mod create;
pub mod export;
pub mod import;
pub mod inspect;
pub mod ls;
pub mod rm;
pub mod show;
pub mod update;
pub mod use_;

use std::fs;

use crate::cli::Cli;
use crate::contexts::{self, Context, Contexts};
use crate::failure::{Failure, Result, fail};
use crate::output;

/// What `--docker` says: an endpoint by its parts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Given {
    host: Option<String>,
    /// By the names that the files get.
    files: Vec<(&'static str, String)>,
    skip_tls_verify: Option<bool>,
    from: Option<String>,
}

impl Given {
    /// `host=…,ca=FILE,cert=FILE,key=FILE,skip-tls-verify=BOOL`, or `from=CONTEXT`.
    fn parse(text: &str) -> Result<Given> {
        let mut given = Given::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let Some((key, value)) = part.split_once('=') else {
                fail!("invalid field {part:?}: expected KEY=VALUE");
            };
            match key {
                "host" => given.host = Some(value.to_owned()),
                "ca" => given.files.push(("ca.pem", value.to_owned())),
                "cert" => given.files.push(("cert.pem", value.to_owned())),
                "key" => given.files.push(("key.pem", value.to_owned())),
                "from" => given.from = Some(value.to_owned()),
                "skip-tls-verify" => match value {
                    "true" | "1" => given.skip_tls_verify = Some(true),
                    "false" | "0" => given.skip_tls_verify = Some(false),
                    other => fail!("invalid value {other:?} of skip-tls-verify: expected true or false"),
                },
                other => fail!("unrecognized config key: {other}; use host, ca, cert, key, skip-tls-verify or from"),
            }
        }
        Ok(given)
    }

    /// Puts the endpoint into `context`, checked, and gives back the files of its TLS.
    fn apply(&self, contexts: &Contexts, context: &mut Context) -> Result<Vec<(String, Vec<u8>)>> {
        if let Some(name) = &self.from {
            if *self
                != (Given {
                    from: self.from.clone(),
                    ..Given::default()
                })
            {
                fail!("from=CONTEXT takes the endpoint as it is: it goes with nothing else");
            }
            let other = contexts.get(name)?;
            context.endpoints = other.endpoints;
            return read_files(contexts, name);
        }
        let mut files = Vec::new();
        for (name, path) in &self.files {
            let content =
                fs::read(path).map_err(|error| Failure::new(format!("unable to read {name}: {path}: {error}")))?;
            files.push(((*name).to_owned(), content));
        }
        if let Some(host) = &self.host {
            client::Endpoint::parse(host, !files.is_empty())?;
            context.endpoints.docker.host.clone_from(host);
        }
        context.endpoints.docker.skip_tls_verify = self.skip_tls_verify.unwrap_or(false);
        Ok(files)
    }
}

fn read_files(contexts: &Contexts, name: &str) -> Result<Vec<(String, Vec<u8>)>> {
    contexts
        .tls_files(name)
        .into_iter()
        .map(|(file, path)| match fs::read(&path) {
            Ok(content) => Ok((file, content)),
            Err(error) => fail!("cannot read {}: {error}", path.display()),
        })
        .collect()
}

/// A new context is written only where there is none of its name.
fn refuse_existing(contexts: &Contexts, name: &str) -> Result {
    contexts::check_name(name)?;
    if contexts.exists(name) {
        fail!("context {name:?} already exists");
    }
    Ok(())
}

/// Says what makes a context useless although it is the current one.
fn warn_of_environment(cli: &Cli) {
    if let Some(name) = cli.host_variable() {
        output::warn(format!(
            "Warning: {name} environment variable overrides the active context. To use a context, either set the global \
             --context flag, or unset {name} environment variable."
        ));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn endpoints_by_their_parts() {
        let given = Given::parse("host=tcp://h:2376,ca=/a,key=/k,skip-tls-verify=true").unwrap();
        assert_eq!(given.host.as_deref(), Some("tcp://h:2376"));
        assert_eq!(given.files, [("ca.pem", "/a".to_owned()), ("key.pem", "/k".to_owned())]);
        assert_eq!(given.skip_tls_verify, Some(true));
        for bad in ["host", "colour=red", "skip-tls-verify=perhaps"] {
            assert!(Given::parse(bad).is_err(), "{bad}");
        }
    }
}
