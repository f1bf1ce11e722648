//! Images: found by any name and tagged; listed, removed, pulled and moved in and out by the submodules.

pub mod collect;
pub mod commit;
pub mod instructions;
pub mod list;
mod pattern;
pub mod pods;
pub mod pull;
mod pull_all;
pub mod registries;
pub mod remove;
mod rules;
pub mod transfer;

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_registry::{Defaults, Platform, Reference};
use agent_store::Image;

use crate::Engine;
use crate::error::{Error, Result};
use crate::events::EventKind;

/// What removing an image did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovedPart {
    /// A name (familiar form) or a remembered digest.
    Untagged(String),
    /// The image id, or a layer's chain id.
    Deleted(String),
}

/// One image of a list.
#[derive(Clone, Debug)]
pub struct ImageSummary {
    pub image: Arc<Image>,
    /// Familiar names (`busybox:1`).
    pub tags: Vec<String>,
    /// `busybox@sha256:…`
    pub digests: Vec<String>,
    /// Ids of the containers that were made from it or mount it.
    pub containers: Vec<String>,
}

/// Whether the image is for the platform that somebody asks for: it has one, and a variant that one side leaves out is no
/// difference.
///
/// # Errors
/// `OtherPlatform`
pub fn check_platform(image: &Image, name: &str, wanted: &Platform) -> Result<()> {
    let own = &image.parsed;
    let asked = wanted.variant.as_deref().unwrap_or_default();
    let compared = !asked.is_empty() && !own.variant.is_empty();
    let normal = |os, architecture, variant| Platform::new(os, architecture, Some(variant).filter(|_| compared));
    let equal = normal(&wanted.os, &wanted.architecture, asked) == normal(&own.os, &own.architecture, &own.variant);
    if equal {
        return Ok(());
    }
    let own = Platform {
        os: own.os.clone(),
        architecture: own.architecture.clone(),
        variant: Some(own.variant.clone()).filter(|variant| !variant.is_empty()),
    };
    Err(Error::OtherPlatform {
        name: name.to_owned(),
        wanted: wanted.to_string(),
        own: own.to_string(),
    })
}

impl Engine {
    pub fn reference_defaults(&self) -> Defaults {
        Defaults::new(self.config.default_registry.clone())
    }

    /// Reads a name as people write it.
    ///
    /// # Errors
    /// Docker's words for a malformed reference.
    pub fn reference(&self, text: &str) -> Result<Reference> {
        Reference::parse(text, &self.reference_defaults()).map_err(|error| Error::invalid(error.to_string()))
    }

    /// `docker.io/library/busybox:1` → `busybox:1`
    pub fn familiar(&self, canonical: &str) -> String {
        self.reference(canonical)
            .map_or_else(|_| canonical.to_owned(), |reference| reference.familiar())
    }

    /// An image by reference, id, id prefix or digest.
    ///
    /// # Errors
    /// `NoSuchImage` with the name as it was asked for.
    pub fn find_image(&self, name: &str) -> Result<Arc<Image>> {
        let missing = |shown: String| {
            move |error: agent_store::Error| match error.kind() {
                agent_store::Kind::NotFound => Error::NoSuchImage(shown),
                _ => Error::Store(error),
            }
        };
        let looks_like_id = name
            .strip_prefix("sha256:")
            .unwrap_or(name)
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let reference = match self.reference(name) {
            Ok(reference) => reference,
            // `sha256:abc` and 64 digits are no references, but may be ids.
            Err(_) if looks_like_id && !name.is_empty() => {
                return self.store.images().get(name).map_err(missing(name.to_owned()));
            }
            Err(error) => return Err(error),
        };
        let shown = if reference.digest().is_some() {
            name.to_owned()
        } else {
            reference.clone().or_latest().familiar()
        };
        if let Some(digest) = reference.digest() {
            let by_digest = format!("{}@{digest}", reference.name());
            return self.store.images().get(&by_digest).map_err(missing(shown));
        }
        let full = reference.or_latest().canonical();
        match self.store.images().get(&full) {
            Err(error) if error.kind() == agent_store::Kind::NotFound && looks_like_id => {
                self.store.images().get(name).map_err(missing(shown))
            }
            other => other.map_err(missing(shown)),
        }
    }

    /// Everything that inspect shows of one image.
    pub fn inspect_image(&self, name: &str) -> Result<ImageSummary> {
        let image = self.find_image(name)?;
        Ok(self.summary(image, &self.image_users()))
    }

    /// Gives an image one more name.
    pub async fn tag(&self, source: &str, repository: &str, tag: &str) -> Result<()> {
        let image = self.find_image(source)?;
        let text = if tag.is_empty() {
            repository.to_owned()
        } else {
            format!("{repository}:{tag}")
        };
        let reference = self.reference(&text)?;
        if reference.digest().is_some() {
            return Err(Error::invalid("refusing to create a tag with a digest reference"));
        }
        if reference.familiar_name() == "sha256" {
            // `sha256:…` is how ids are written.
            return Err(Error::invalid(
                "refusing to create an ambiguous tag using digest algorithm as name",
            ));
        }
        let reference = reference.or_latest();
        let engine = self.clone();
        self.detached(async move {
            let (id, name) = (image.id.clone(), reference.canonical());
            engine.names_are_users([name.clone()]);
            engine
                .blocking(move |engine| Ok(engine.store.images().tag(&id, &name)?))
                .await?;
            engine.image_event("tag", image.id.as_str(), &reference.familiar());
            Ok(())
        })
        .await
    }

    pub(crate) fn image_event(&self, action: &str, actor: &str, name: &str) {
        let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        self.journal.record(EventKind::Image, action, actor, attributes);
    }
}
