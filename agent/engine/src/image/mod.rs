//! Images: found by any name, listed, tagged, removed; pulled and moved in and out by the submodules.

pub mod commit;
pub mod instructions;
pub mod pull;
pub mod transfer;

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_registry::{Defaults, Reference};
use agent_store::{Digest, Image};

use crate::Engine;
use crate::container::state::Phase;
use crate::error::{Error, Result};
use crate::events::EventKind;
use crate::filters::{Filters, rfc3339};

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
    /// Containers made from it.
    pub containers: usize,
}

const LIST_KEYS: [&str; 6] = ["before", "dangling", "label", "reference", "since", "until"];

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

    fn summary(&self, image: Arc<Image>, users: &BTreeMap<String, usize>) -> ImageSummary {
        ImageSummary {
            tags: image.names.iter().map(|name| self.familiar(name)).collect(),
            digests: image.digests.iter().map(|name| self.familiar(name)).collect(),
            containers: users.get(image.id.as_str()).copied().unwrap_or(0),
            image,
        }
    }

    /// Everything that inspect shows of one image.
    pub fn inspect_image(&self, name: &str) -> Result<ImageSummary> {
        let image = self.find_image(name)?;
        Ok(self.summary(image, &self.image_users()))
    }

    /// How many containers each image has.
    fn image_users(&self) -> BTreeMap<String, usize> {
        let mut users = BTreeMap::new();
        for container in self.index.all() {
            *users.entry(container.lock().record.image.clone()).or_insert(0) += 1;
        }
        users
    }

    /// Images that the filters leave, newest first.
    pub fn list_images(&self, filters: &Filters) -> Result<Vec<ImageSummary>> {
        filters.only(&LIST_KEYS)?;
        let dangling = filters.flag("dangling")?;
        let until = filters.until()?;
        let anchor = |key: &str| -> Result<Option<String>> {
            let found = filters.get(key).next().map(|name| self.find_image(name)).transpose()?;
            Ok(found.map(|image| image.parsed.created.clone().unwrap_or_default()))
        };
        let (before, since) = (anchor("before")?, anchor("since")?);
        let users = self.image_users();
        let mut list = Vec::new();
        for image in self.store.images().list() {
            let created = image.parsed.created.clone().unwrap_or_default();
            let no_labels = BTreeMap::new();
            let labels = image.parsed.config.labels.as_ref().unwrap_or(&no_labels);
            let keep = dangling.is_none_or(|wanted| wanted == image.names.is_empty())
                && before.as_ref().is_none_or(|time| created < *time)
                && since.as_ref().is_none_or(|time| created > *time)
                && until.is_none_or(|time| rfc3339(&created).is_none_or(|own| own < time))
                && filters.labels(labels);
            if !keep {
                continue;
            }
            let mut summary = self.summary(image.clone(), &users);
            if filters.has("reference") {
                // A pattern may have the short or the full form.
                let matches = |canonical: &String| {
                    let familiar = self.familiar(canonical);
                    filters.any("reference", |pattern| {
                        reference_matches(pattern, &familiar) || reference_matches(pattern, canonical)
                    })
                };
                let kept = |names: &[String]| {
                    names
                        .iter()
                        .filter(|name| matches(name))
                        .map(|name| self.familiar(name))
                        .collect::<Vec<_>>()
                };
                (summary.tags, summary.digests) = (kept(&image.names), kept(&image.digests));
                if summary.tags.is_empty() && summary.digests.is_empty() {
                    continue;
                }
            }
            list.push(summary);
        }
        Ok(list)
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
        let reference = reference.or_latest();
        let engine = self.clone();
        self.detached(async move {
            let (id, name) = (image.id.clone(), reference.canonical());
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

    /// Removes a name, or an image with all of its names, as Docker decides it.
    ///
    /// # Errors
    /// `Conflict` while containers use it, or several repositories name it, unless `force` helps.
    pub async fn remove_image(&self, name: &str, force: bool) -> Result<Vec<RemovedPart>> {
        let (engine, name) = (self.clone(), name.to_owned());
        self.detached(async move { engine.remove_image_now(&name, force).await })
            .await
    }

    async fn remove_image_now(&self, name: &str, force: bool) -> Result<Vec<RemovedPart>> {
        let image = self.find_image(name)?;
        let by_id = !self.is_name_of(&image, name);
        let mut removed = Vec::new();
        if !by_id {
            let reference = self.reference(name)?;
            let whole = match reference.digest() {
                Some(digest) => format!("{}@{digest}", reference.name()),
                None => reference.clone().or_latest().canonical(),
            };
            let others = image.names.iter().filter(|other| **other != whole).count();
            let familiar = self.familiar(&whole);
            if others > 0 || reference.digest().is_some() && !image.names.is_empty() {
                self.untag(whole).await?;
                self.image_event("untag", image.id.as_str(), &familiar);
                removed.push(RemovedPart::Untagged(familiar));
                return Ok(removed);
            }
            if let Some(user) = self.user_of(&image.id) {
                let why = format!(
                    "conflict: unable to remove repository reference \"{name}\" (must force) - container {} is using its referenced image {}",
                    user.0,
                    image.id.short()
                );
                if !force {
                    return Err(Error::Conflict(why));
                }
                // With force only the name goes while a container needs the layers.
                self.untag(whole).await?;
                self.image_event("untag", image.id.as_str(), &familiar);
                removed.push(RemovedPart::Untagged(familiar));
                return Ok(removed);
            }
        } else {
            let repositories: std::collections::BTreeSet<&str> = image
                .names
                .iter()
                .map(|name| name.rsplit_once(':').map_or(name.as_str(), |(repo, _)| repo))
                .collect();
            if repositories.len() > 1 && !force {
                return Err(Error::Conflict(format!(
                    "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
                    image.id.short()
                )));
            }
            if let Some((user, live)) = self.user_of(&image.id) {
                let (how, what) = if live {
                    ("cannot be forced", "running")
                } else {
                    ("must be forced", "stopped")
                };
                if live || !force {
                    return Err(Error::Conflict(format!(
                        "conflict: unable to delete {} ({how}) - image is being used by {what} container {user}",
                        image.id.short()
                    )));
                }
            }
        }
        for name in &image.names {
            let familiar = self.familiar(name);
            self.image_event("untag", image.id.as_str(), &familiar);
            removed.push(RemovedPart::Untagged(familiar));
        }
        removed.extend(
            image
                .digests
                .iter()
                .map(|digest| RemovedPart::Untagged(self.familiar(digest))),
        );
        let id = image.id.clone();
        let gone = self
            .blocking(move |engine| Ok(engine.store.images().remove(&id)?))
            .await?;
        self.image_event("delete", image.id.as_str(), image.id.as_str());
        removed.push(RemovedPart::Deleted(image.id.to_string()));
        removed.extend(gone.layers.iter().map(|chain| RemovedPart::Deleted(chain.to_string())));
        Ok(removed)
    }

    async fn untag(&self, name: String) -> Result<()> {
        self.blocking(move |engine| {
            engine.store.images().untag(&name)?;
            Ok(())
        })
        .await
    }

    /// Whether `text` names the image by one of its names or digests rather than by id.
    fn is_name_of(&self, image: &Image, text: &str) -> bool {
        let Ok(reference) = self.reference(text) else {
            return false;
        };
        match reference.digest() {
            Some(digest) => image.digests.contains(&format!("{}@{digest}", reference.name())),
            None => image.names.contains(&reference.or_latest().canonical()),
        }
    }

    /// A container that uses the image, a live one first: short id and whether it lives.
    fn user_of(&self, id: &Digest) -> Option<(String, bool)> {
        let mut stopped = None;
        for container in self.index.all() {
            let inner = container.lock();
            if inner.record.image != id.as_str() {
                continue;
            }
            if inner.record.status.phase.is_live() || inner.record.status.phase == Phase::Restarting {
                return Some((container.id.short().to_owned(), true));
            }
            stopped = Some((container.id.short().to_owned(), false));
        }
        stopped
    }

    /// Removes images without containers: those without a name, or with `all` every unused one.
    pub async fn prune_images(&self, all: bool, filters: Filters) -> Result<(Vec<RemovedPart>, u64)> {
        let engine = self.clone();
        self.detached(async move {
            let until = filters.until()?;
            let users = engine.image_users();
            let (mut removed, mut freed) = (Vec::new(), 0);
            for image in engine.store.images().list() {
                let no_labels = BTreeMap::new();
                let wanted = (all || image.names.is_empty())
                    && !users.contains_key(image.id.as_str())
                    && filters.labels(image.parsed.config.labels.as_ref().unwrap_or(&no_labels))
                    && until.is_none_or(|time| {
                        rfc3339(image.parsed.created.as_deref().unwrap_or_default()).is_none_or(|own| own < time)
                    });
                if !wanted {
                    continue;
                }
                let size = image.size;
                match engine.remove_image_now(image.id.as_str(), true).await {
                    Ok(parts) => {
                        removed.extend(parts);
                        freed += size;
                    }
                    // A container was made from it in the meantime, or somebody else removed it.
                    Err(Error::Conflict(_) | Error::NoSuchImage(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok((removed, freed))
        })
        .await
    }
}

/// Docker's `reference=` filter: a path pattern over name and tag, or over the name alone.
fn reference_matches(pattern: &str, tag: &str) -> bool {
    let name = tag
        .split_once('@')
        .map_or_else(|| tag.rsplit_once(':').map_or(tag, |(name, _)| name), |(name, _)| name);
    glob(pattern.as_bytes(), tag.as_bytes()) || glob(pattern.as_bytes(), name.as_bytes())
}

/// `*` and `?` within a path segment. Linear in time: the last star is the only place to go back to.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p + 1, t));
                p += 1;
            }
            Some(b'?') if text[t] != b'/' => {
                p += 1;
                t += 1;
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match back {
                Some((star, from)) if text[from] != b'/' => {
                    p = star;
                    t = from + 1;
                    back = Some((star, from + 1));
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_patterns() {
        for (pattern, tag) in [
            ("busybox", "busybox:1"),
            ("busy*", "busybox:1"),
            ("*/b:1", "a/b:1"),
            ("a/?:*", "a/b:1"),
        ] {
            assert!(reference_matches(pattern, tag), "{pattern} {tag}");
        }
        for (pattern, tag) in [("box", "busybox:1"), ("*", "a/b:1"), ("busybox:2", "busybox:1")] {
            assert!(!reference_matches(pattern, tag), "{pattern} {tag}");
        }
    }
}
