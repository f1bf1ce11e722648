//! Removing images: by name or id as the rules decide it, and pruning what nobody uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_registry::Platform;
use agent_store::Image;

use super::RemovedPart;
use super::rules::{Asked, Standing};
use crate::Engine;
use crate::container::Record;
use crate::container::mounts::MountKind;
use crate::container::state::Phase;
use crate::error::{Error, Result};
use crate::events::EventKind;
use crate::filters::{Filters, rfc3339};

/// What a removal did, and the bytes of the layers that went.
pub type Removed = (Vec<RemovedPart>, u64);

/// Whether a container was made from the image or mounts it.
pub(crate) fn uses(record: &Record, id: &str) -> bool {
    let mounts = |mount: &crate::container::mounts::MountPoint| mount.kind == MountKind::Image && mount.name == id;
    record.image == id || record.all_mounts().any(mounts)
}

impl Engine {
    /// Removes a name, or an image with all of its names, as Docker decides it. Unless `keep_parents`, parents that have
    /// no name and no other child go along. With `only` it has to be an image for that platform: it has no other one, so
    /// that all of it goes.
    ///
    /// # Errors
    /// `Conflict` in Docker's words, and nothing is changed then; `NoSuchImage`, `OtherPlatform`.
    pub async fn remove_image(
        &self,
        name: &str,
        only: Option<Platform>,
        force: bool,
        keep_parents: bool,
    ) -> Result<Vec<RemovedPart>> {
        let (engine, name) = (self.clone(), name.to_owned());
        self.detached(async move {
            let image = engine.find_image(&name)?;
            if let Some(only) = &only {
                super::check_platform(&image, &name, only)?;
            }
            let canonical = engine.reference_of(&image, &name);
            let asked = match &canonical {
                Some(canonical) => Asked::Reference {
                    canonical,
                    written: &name,
                },
                None => Asked::Id,
            };
            Ok(engine.remove_as(&image, asked, force, keep_parents).await?.0)
        })
        .await
    }

    async fn remove_as(
        &self,
        image: &Arc<Image>,
        asked: Asked<'_>,
        force: bool,
        keep_parents: bool,
    ) -> Result<Removed> {
        let removal = self.standing(image).removal(asked, force).map_err(Error::Conflict)?;
        let (mut parts, mut bytes) = (Vec::new(), 0);
        for reference in &removal.untag {
            let familiar = self.familiar(reference);
            // An image that goes takes its names along in the same commit.
            if !removal.delete {
                let reference = reference.clone();
                self.blocking(move |engine| Ok(engine.store.images().untag(&reference)?))
                    .await?;
            }
            self.image_event("untag", image.id.as_str(), &familiar);
            parts.push(RemovedPart::Untagged(familiar));
        }
        if !removal.delete {
            return Ok((parts, 0));
        }
        let mut next = Some(image.clone());
        while let Some(image) = next {
            let id = image.id.clone();
            let gone = self
                .blocking(move |engine| Ok(engine.store.images().remove(&id)?))
                .await?;
            self.image_event("delete", image.id.as_str(), image.id.as_str());
            bytes += gone.bytes;
            parts.push(RemovedPart::Deleted(image.id.to_string()));
            parts.extend(gone.layers.iter().map(|chain| RemovedPart::Deleted(chain.to_string())));
            let parent = image.parent.as_ref().filter(|_| !keep_parents);
            next = parent
                .and_then(|parent| self.store.images().by_id(parent))
                .filter(|parent| self.standing(parent).goes_with_child());
        }
        Ok((parts, bytes))
    }

    /// Everything that the rules ask about an image.
    pub(super) fn standing(&self, image: &Image) -> Standing {
        let mut standing = Standing {
            short: image.id.short().to_owned(),
            tags: image.names.clone(),
            digests: image.digests.clone(),
            has_child: self.has_children(image),
            ..Standing::default()
        };
        for container in self.index.all() {
            let inner = container.lock();
            if uses(&inner.record, image.id.as_str()) {
                let phase = inner.record.status.phase;
                let live = phase.is_live() || phase == Phase::Restarting;
                let slot = if live {
                    &mut standing.running
                } else {
                    &mut standing.stopped
                };
                slot.get_or_insert_with(|| container.id.short().to_owned());
            }
        }
        standing
    }

    pub(super) fn has_children(&self, image: &Image) -> bool {
        let images = self.store.images().list();
        images.iter().any(|other| other.parent.as_ref() == Some(&image.id))
    }

    /// The name or digest, in canonical form, by which `text` means the image; `None` when it is an id.
    fn reference_of(&self, image: &Image, text: &str) -> Option<String> {
        let reference = self.reference(text).ok()?;
        let (canonical, known) = match reference.digest() {
            Some(digest) => (format!("{}@{digest}", reference.name()), &image.digests),
            None => (reference.or_latest().canonical(), &image.names),
        };
        known.contains(&canonical).then_some(canonical)
    }

    /// Removes images that no container uses and no other image is based on: those without a name, or with `all` every
    /// one that the filters pick. The sum is of the layers that really went.
    pub async fn prune_images(&self, all: bool, filters: Filters) -> Result<Removed> {
        let engine = self.clone();
        self.detached(async move {
            let until = filters.until()?;
            let no_labels = BTreeMap::new();
            let wanted = |image: &Image| {
                let created = image.parsed.created.as_deref().and_then(rfc3339);
                (all || image.names.is_empty())
                    && filters.labels(image.parsed.config.labels.as_ref().unwrap_or(&no_labels))
                    && until.is_none_or(|time| created.is_some_and(|own| own <= time))
            };
            let (mut removed, mut freed) = (Vec::new(), 0);
            for image in engine.store.images().list() {
                let standing = engine.standing(&image);
                let free = standing.running.is_none() && standing.stopped.is_none() && !standing.has_child;
                if !free || !wanted(&image) {
                    continue;
                }
                match engine.discard_image(&image).await {
                    Ok((parts, bytes)) => {
                        runtime_sys::failpoint!("prune-image-gone");
                        removed.extend(parts);
                        freed += bytes;
                    }
                    // A container was made from it in the meantime, or somebody else removed it.
                    Err(Error::Conflict(_)) => {}
                    Err(error) if error.kind() == crate::Kind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            let attributes = BTreeMap::from([("reclaimed".to_owned(), freed.to_string())]);
            engine.journal.record(EventKind::Image, "prune", "", attributes);
            Ok((removed, freed))
        })
        .await
    }

    /// Removes an image with all its names, unless a container uses it by now.
    pub(crate) async fn discard_image(&self, image: &Arc<Image>) -> Result<Removed> {
        let standing = self.standing(image);
        if standing.stopped.is_some() {
            return Err(Error::Conflict(format!(
                "image {} is used by a container",
                standing.short
            )));
        }
        self.remove_as(image, Asked::Id, true, false).await
    }
}
