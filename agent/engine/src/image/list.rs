//! The list of images: its filters, who uses what, and which bytes are shared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use agent_store::{ChainId, Image};

use super::ImageSummary;
use super::pattern::{Pattern, reference_fits};
use crate::Engine;
use crate::container::mounts::MountKind;
use crate::error::Result;
use crate::filters::{Filters, point_in_time, rfc3339};

/// Filters of the list.
pub const LIST_KEYS: [&str; 6] = ["before", "dangling", "label", "reference", "since", "until"];

/// Bytes of layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerUse {
    /// All layers, each once.
    pub total: u64,
    /// Those that removing every image without a container would give back.
    pub reclaimable: u64,
}

/// When an image was made, if it says so.
fn created(image: &Image) -> Option<SystemTime> {
    image.parsed.created.as_deref().and_then(rfc3339)
}

impl Engine {
    /// Ids of the containers that were made from each image or mount it.
    pub(super) fn image_users(&self) -> BTreeMap<String, Vec<String>> {
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for container in self.index.all() {
            let inner = container.lock();
            let mounted = inner.record.all_mounts().filter(|mount| mount.kind == MountKind::Image);
            let images: BTreeSet<&str> = mounted
                .map(|mount| mount.name.as_str())
                .chain([inner.record.image.as_str()])
                .collect();
            for image in images {
                users
                    .entry(image.to_owned())
                    .or_default()
                    .push(container.id.to_string());
            }
        }
        users
    }

    pub(super) fn summary(&self, image: Arc<Image>, users: &BTreeMap<String, Vec<String>>) -> ImageSummary {
        ImageSummary {
            tags: image.names.iter().map(|name| self.familiar(name)).collect(),
            digests: image.digests.iter().map(|name| self.familiar(name)).collect(),
            containers: users.get(image.id.as_str()).cloned().unwrap_or_default(),
            image,
        }
    }

    /// Images that the filters leave, newest first. Unless `all`, those without a name that others were made from are
    /// left out.
    pub fn list_images(&self, all: bool, filters: &Filters) -> Result<Vec<ImageSummary>> {
        filters.only(&LIST_KEYS)?;
        let dangling = filters.flag("dangling")?;
        let patterns: Vec<Pattern> = filters.get("reference").map(Pattern::parse).collect::<Result<_>>()?;
        // Several values narrow it down: the earliest end, the latest begin.
        let (mut before, mut since): (Option<SystemTime>, Option<SystemTime>) = (None, None);
        let mut end = |time: Option<SystemTime>| before = before.into_iter().chain(time).min();
        for name in filters.get("before") {
            end(created(&*self.find_image(name)?));
        }
        for text in filters.get("until") {
            end(Some(point_in_time(text)?));
        }
        for name in filters.get("since") {
            since = since.into_iter().chain(created(&*self.find_image(name)?)).max();
        }
        let users = self.image_users();
        let images = self.store.images().list();
        let parents: BTreeSet<&str> = images
            .iter()
            .filter_map(|image| image.parent.as_ref())
            .map(|parent| parent.as_str())
            .collect();
        let no_labels = BTreeMap::new();
        let mut list = Vec::new();
        for image in &images {
            let time = created(image);
            let nameless = image.names.is_empty() && image.digests.is_empty();
            let between = nameless && parents.contains(image.id.as_str());
            let keep = (all || !between)
                // Known by a digest alone, it is both, as in Docker.
                && dangling.is_none_or(|wanted| if wanted { image.names.is_empty() } else { !nameless })
                && before.is_none_or(|limit| time.is_some_and(|own| own < limit))
                && since.is_none_or(|limit| time.is_some_and(|own| own > limit))
                && filters.labels(image.parsed.config.labels.as_ref().unwrap_or(&no_labels));
            if !keep {
                continue;
            }
            let mut summary = self.summary(image.clone(), &users);
            if !patterns.is_empty() {
                // A pattern may have the short or the full form.
                let kept = |names: &[String]| -> Vec<String> {
                    let familiar = names.iter().map(|canonical| (canonical, self.familiar(canonical)));
                    familiar
                        .filter(|(canonical, familiar)| {
                            patterns
                                .iter()
                                .any(|pattern| reference_fits(pattern, familiar) || reference_fits(pattern, canonical))
                        })
                        .map(|(_, familiar)| familiar)
                        .collect()
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

    /// Bytes of each image's layers that another image has as well, by image id.
    pub fn shared_sizes(&self) -> BTreeMap<String, u64> {
        let images = self.store.images().list();
        let mut owners: BTreeMap<&ChainId, usize> = BTreeMap::new();
        for chain in images.iter().flat_map(|image| &image.chain) {
            *owners.entry(chain).or_default() += 1;
        }
        let layers = self.store.layers();
        let shared = |image: &Image| -> u64 {
            let common = image
                .chain
                .iter()
                .filter(|chain| owners.get(chain).is_some_and(|count| *count > 1));
            common
                .filter_map(|chain| layers.get(chain))
                .map(|layer| layer.bytes)
                .sum()
        };
        images
            .iter()
            .map(|image| (image.id.to_string(), shared(image)))
            .collect()
    }

    /// How many bytes all layers have, and how many of them only images without containers need.
    pub fn layer_use(&self) -> LayerUse {
        let users = self.image_users();
        let mut needed: BTreeSet<String> = BTreeSet::new();
        for image in self.store.images().list() {
            if users.contains_key(image.id.as_str()) {
                needed.extend(image.chain.iter().map(ToString::to_string));
            }
        }
        // A container keeps its layers even when its image is gone.
        for container in self.index.all() {
            needed.extend(container.lock().record.chain.iter().cloned());
        }
        let mut sum = LayerUse::default();
        for layer in self.store.layers().list() {
            sum.total += layer.bytes;
            if !needed.contains(layer.chain.as_str()) {
                sum.reclaimable += layer.bytes;
            }
        }
        sum
    }
}
