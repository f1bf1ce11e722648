//! `create`: everything of `run` but the start.

use std::io::Write;

use agent_api::create::{CreateRequest, CreateResponse};
use agent_api::message::Message;
use client::{Client, Pull};

use super::options::Options;
use super::{api_socket, request};
use crate::cli::{self, Cli};
use crate::config::Config;
use crate::credentials;
use crate::failure::{Failure, REFUSED, Result};
use crate::logins;
use crate::output;
use crate::progress::{Out, Progress};

pub use super::options::Options as Args;

pub async fn run(cli: &Cli, args: Args) -> Result {
    let request = request::build(&args, false, cli.socket()?.as_deref())?;
    let created = create(cli, &args, &request)
        .await
        .map_err(|failure| failure.with_code(1))?;
    output::line(created);
    Ok(())
}

/// Creates the container, pulling its image as `--pull` says. Returns the id.
///
/// # Errors
/// 125, with the daemon's words.
pub async fn create(cli: &Cli, options: &Options, request: &CreateRequest) -> Result<String> {
    let client = cli.client()?;
    let mut request = request.clone();
    add_proxies(cli.config()?, &client.endpoint().to_string(), &mut request);
    let logins = match options.use_api_socket {
        true => logins::all(cli.config()?)?,
        false => None,
    };
    if logins.is_some() {
        api_socket::point_to_logins(&mut request);
    }
    let request = &request;
    let mut id_file = IdFile::open(options.cidfile.as_deref())?;
    let platform = options.platform.clone().or_else(|| cli::env("DEFAULT_PLATFORM"));
    let platform = platform.as_deref();
    let refused = |error: client::Error| Failure::from(error).with_code(REFUSED);
    match options.pull.as_str() {
        "always" => pull(cli, client, options, &request.config.image, platform).await?,
        "missing" | "never" | "" => {}
        other => {
            let words = format!("invalid pull option: '{other}': must be one of always, missing or never");
            return Err(Failure::new(words).with_code(REFUSED));
        }
    }
    let name = options.name.as_deref();
    let response = match client.create_container(name, platform, request).await {
        Err(error)
            if error.is_not_found() && no_such_image(&error) && matches!(options.pull.as_str(), "missing" | "") =>
        {
            if !options.quiet {
                output::warn(format!(
                    "Unable to find image '{}' locally",
                    with_tag(&request.config.image)
                ));
            }
            pull(cli, client, options, &request.config.image, platform).await?;
            client
                .create_container(name, platform, request)
                .await
                .map_err(refused)?
        }
        other => other.map_err(refused)?,
    };
    let CreateResponse { id, warnings } = response;
    for warning in warnings {
        output::warn(format!("WARNING: {warning}"));
    }
    if let Some(logins) = &logins {
        let put = api_socket::put_logins(client, &id, logins).await;
        put.map_err(|failure| failure.with_code(REFUSED))?;
    }
    id_file.write(&id)?;
    Ok(id)
}

/// The config file's proxies become variables of the container, where it does not set them itself.
fn add_proxies(config: &Config, host: &str, request: &mut CreateRequest) {
    for (name, value) in config.proxy_environment(host) {
        let list = request.config.env.get_or_insert_default();
        if !list.iter().any(|entry| entry.split('=').next() == Some(&name)) {
            list.push(format!("{name}={value}"));
        }
    }
}

/// Another 404 (a network, a volume driver) is not cured by pulling.
fn no_such_image(error: &client::Error) -> bool {
    let words = error.message().to_lowercase();
    words.contains("no such image")
}

/// Pulls for a create: progress to stderr, because stdout carries the id.
async fn pull(cli: &Cli, client: &Client, options: &Options, image: &str, platform: Option<&str>) -> Result {
    let (name, tag) = split(image);
    let auth = credentials::for_image(cli.config()?, image)?;
    let pull = Pull {
        image: name,
        tag: if tag.is_empty() { "latest" } else { tag },
        platform,
        auth: auth.as_ref(),
    };
    let mut progress = Progress::new(Out::Stderr);
    let show = |message: Message| {
        if !options.quiet {
            progress.show(&message);
        }
    };
    let outcome = async { client.pull_image(&pull).await?.drain(show).await }.await;
    outcome.map_err(|error| Failure::from(error).with_code(REFUSED))
}

/// Name, and tag or digest: `a:1` → (a, 1), `a@sha256:…` → (a, sha256:…).
pub fn split(image: &str) -> (&str, &str) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name_of(name), digest);
    }
    match image.rsplit_once(':') {
        // A colon in front of a slash belongs to the registry's port.
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, ""),
    }
}

/// With both a tag and a digest the digest counts.
fn name_of(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

/// The name with the tag that is meant when none is said.
pub fn with_tag(image: &str) -> String {
    if split(image).1.is_empty() {
        format!("{image}:latest")
    } else {
        image.to_owned()
    }
}

/// `--cidfile`: made before anything is created, removed again when nothing was.
struct IdFile {
    file: Option<(std::fs::File, String)>,
    written: bool,
}

impl IdFile {
    fn open(path: Option<&str>) -> Result<IdFile> {
        let Some(path) = path.filter(|path| !path.is_empty()) else {
            return Ok(IdFile {
                file: None,
                written: false,
            });
        };
        match std::fs::OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => Ok(IdFile {
                file: Some((file, path.to_owned())),
                written: false,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let words =
                    format!("container ID file found, make sure the other container isn't running or delete {path}");
                Err(Failure::new(words).with_code(REFUSED))
            }
            Err(error) => {
                Err(Failure::new(format!("failed to create the container ID file {path}: {error}")).with_code(REFUSED))
            }
        }
    }

    fn write(&mut self, id: &str) -> Result {
        if let Some((file, path)) = &mut self.file {
            file.write_all(id.as_bytes()).map_err(|error| {
                Failure::new(format!("failed to write the container ID to {path}: {error}")).with_code(REFUSED)
            })?;
            self.written = true;
        }
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if let (Some((_, path)), false) = (&self.file, self.written) {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_at_tag_or_digest() {
        for (image, want) in [
            ("a", ("a", "")),
            ("a:1", ("a", "1")),
            ("r:5000/a", ("r:5000/a", "")),
            ("r:5000/a:1", ("r:5000/a", "1")),
            ("a@sha256:0", ("a", "sha256:0")),
            ("a:1@sha256:0", ("a", "sha256:0")),
        ] {
            assert_eq!(split(image), want, "{image}");
        }
        assert_eq!(with_tag("r:5000/a"), "r:5000/a:latest");
    }
}
