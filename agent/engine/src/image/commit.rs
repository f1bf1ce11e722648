//! Commit: a container's changes become an image.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_store::{CommitOptions, Digest, Healthcheck, Image, RunConfig};
use serde_json::json;

use super::instructions;
use crate::Engine;
use crate::container::Container;
use crate::container::create::with;
use crate::container::spec::Config;
use crate::container::state::Phase;
use crate::error::{Error, Result};
use crate::events::EventKind;

/// How the image is to be.
#[derive(Clone, Debug, Default)]
pub struct CommitRequest {
    pub repository: String,
    pub tag: String,
    pub author: String,
    pub comment: String,
    /// Freeze the container while its files are copied.
    pub pause: bool,
    /// Instructions, as [`super::instructions`] reads them.
    pub changes: Vec<String>,
    /// What stands in the place of the container's own configuration; what it leaves open is the container's.
    pub config: Option<Config>,
}

impl Engine {
    /// Makes an image of a container's changes; its id is returned. Volumes are not part of it.
    ///
    /// # Errors
    /// A bad name or instruction, before anything is done; a container that is being removed; a full disk.
    pub async fn commit(&self, container: &Arc<Container>, request: CommitRequest) -> Result<Digest> {
        let (engine, container) = (self.clone(), container.clone());
        self.detached(async move {
            let name = engine.commit_name(&request)?;
            let record = container.lock().record.clone();
            match record.status.phase {
                Phase::Removing => {
                    return Err(Error::Conflict(format!(
                        "You cannot commit container {} which is being removed",
                        container.id
                    )));
                }
                Phase::Dead => {
                    return Err(Error::Conflict(format!(
                        "You cannot commit container {} which is Dead",
                        container.id
                    )));
                }
                _ => {}
            }
            let own = run_config(&record.config);
            let config = match &request.config {
                None => own.clone(),
                Some(config) => run_config(config),
            };
            let config = merge(instructions::apply(config, &request.changes)?, own, &request);
            let options = CommitOptions {
                names: name.iter().cloned().collect(),
                config,
                base: Digest::parse(&record.image)
                    .ok()
                    .and_then(|id| engine.store.images().by_id(&id)),
                author: request.author.clone(),
                comment: request.comment.clone(),
                created_by: record.config.cmd.clone().unwrap_or_default().join(" "),
                created: jiff::Timestamp::now().to_string(),
                architecture: agent_registry::Platform::host().architecture,
            };
            let frozen = request.pause && container.phase() == Phase::Running;
            if frozen {
                engine.pause(&container).await?;
            }
            let id = container.id.to_string();
            let made = engine
                .blocking(move |engine| {
                    let base = options.base.as_ref().map(|base| base.id.clone());
                    let image = engine.store.archive().commit(&id, options)?;
                    engine.with_parent(image, base.as_ref())
                })
                .await;
            let told = made.map(|image| engine.committed(&container, &image, name.as_deref(), request.comment));
            if frozen {
                // Somebody may have been faster, or it may have been killed.
                if let Err(error) = engine.unpause(&container).await
                    && container.phase() == Phase::Paused
                {
                    tracing::error!(container = %container.id, error = error.chain(), "a committed container stays paused");
                }
            }
            told
        })
        .await
    }

    /// Remembers what it was made from. Without a record of it, an unnamed base would outlive its last child.
    fn with_parent(&self, image: Arc<Image>, base: Option<&Digest>) -> Result<Arc<Image>> {
        let Some(base) = base else { return Ok(image) };
        match self.store.images().set_parent(&image.id, base) {
            // Removed while the layer was copied.
            Err(error) if error.kind() == agent_store::Kind::NotFound => Ok(image),
            other => other.map_err(Error::from),
        }
    }

    fn committed(&self, container: &Container, image: &Image, name: Option<&str>, comment: String) -> Digest {
        let shown = name.map(|name| self.familiar(name)).unwrap_or_default();
        if name.is_some() {
            self.image_event("tag", image.id.as_str(), &shown);
        }
        let attributes = with(
            container.event_attributes(),
            [
                ("comment", comment),
                ("imageID", image.id.to_string()),
                ("imageRef", shown),
            ],
        );
        self.journal
            .record(EventKind::Container, "commit", container.id.as_str(), attributes);
        image.id.clone()
    }

    fn commit_name(&self, request: &CommitRequest) -> Result<Option<String>> {
        if request.repository.is_empty() {
            return Ok(None);
        }
        let text = match request.tag.as_str() {
            "" => request.repository.clone(),
            tag => format!("{}:{tag}", request.repository),
        };
        let reference = self.reference(&text)?;
        if reference.digest().is_some() {
            return Err(Error::invalid("refusing to create a tag with a digest reference"));
        }
        Ok(Some(reference.or_latest().canonical()))
    }
}

/// What an image keeps of a container's configuration.
fn run_config(config: &Config) -> RunConfig {
    let keys = |set: &std::collections::BTreeSet<String>| -> Option<BTreeMap<String, serde_json::Value>> {
        (!set.is_empty()).then(|| set.iter().map(|key| (key.clone(), json!({}))).collect())
    };
    RunConfig {
        user: config.user.clone(),
        exposed_ports: keys(&config.exposed_ports),
        env: (!config.env.is_empty()).then(|| config.env.clone()),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        args_escaped: config.args_escaped,
        volumes: keys(&config.volumes),
        working_dir: config.working_dir.clone(),
        on_build: config.on_build.clone(),
        labels: (!config.labels.is_empty()).then(|| config.labels.clone()),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_timeout,
        shell: config.shell.clone(),
        healthcheck: config.healthcheck.as_ref().map(|check| Healthcheck {
            test: (!check.test.is_empty()).then(|| check.test.clone()),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
    }
}

/// Fills in what a configuration of the request's own leaves open.
fn merge(mut config: RunConfig, own: RunConfig, request: &CommitRequest) -> RunConfig {
    if request.config.is_none() {
        return config;
    }
    if config.user.is_empty() {
        config.user = own.user;
    }
    if config.working_dir.is_empty() {
        config.working_dir = own.working_dir;
    }
    let key = |line: &str| line.split('=').next().map(str::to_owned);
    let env = config.env.get_or_insert_default();
    for line in own.env.into_iter().flatten() {
        if !env.iter().any(|set| key(set) == key(&line)) {
            env.push(line);
        }
    }
    for (set, more) in [
        (&mut config.exposed_ports, own.exposed_ports),
        (&mut config.volumes, own.volumes),
    ] {
        for (key, value) in more.into_iter().flatten() {
            set.get_or_insert_default().entry(key).or_insert(value);
        }
    }
    for (key, value) in own.labels.into_iter().flatten() {
        config.labels.get_or_insert_default().entry(key).or_insert(value);
    }
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd = own.cmd;
        }
        config.entrypoint = config.entrypoint.or(own.entrypoint);
    }
    config.healthcheck = config.healthcheck.or(own.healthcheck);
    config.stop_signal = config.stop_signal.or(own.stop_signal);
    config.stop_timeout = config.stop_timeout.or(own.stop_timeout);
    config.shell = config.shell.or(own.shell);
    config.on_build = config.on_build.or(own.on_build);
    config
}
