//! Removing images by themselves, when the disk fills: off unless the administrator sets a mark.
//!
//! From the high mark down to the low one, the images that nobody has used for longest go first. Those that a container
//! has (running or not), that a pin names, that others were made from, or that were used lately, never go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use agent_store::{Batch, Db, Image};
use nix::sys::statvfs::statvfs;

use super::pattern::{Pattern, reference_fits};
use crate::Engine;
use crate::config::ImageCollection;
use crate::error::{Error, Result};

const TABLE: &str = "images.used";

/// When images were last used. Noted in memory, where it costs a container's way nothing, and written when the disk is
/// looked at: a crash loses the uses of one interval at most.
pub struct LastUse(Mutex<Times>);

#[derive(Default)]
struct Times {
    /// Image id → seconds since 1970.
    used: BTreeMap<String, u64>,
    changed: Vec<String>,
}

impl LastUse {
    pub fn load(db: &Db) -> Result<LastUse> {
        let mut times = Times::default();
        for (id, bytes) in db.scan(TABLE)? {
            // One that cannot be read is a use that nobody remembers.
            if let Some(seconds) = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok()) {
                times.used.insert(id, seconds);
            }
        }
        Ok(LastUse(Mutex::new(times)))
    }

    fn lock(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The image is used now.
    pub fn note(&self, id: &str) {
        let mut times = self.lock();
        times.used.insert(id.to_owned(), seconds(SystemTime::now()));
        if !times.changed.iter().any(|known| known == id) {
            times.changed.push(id.to_owned());
        }
    }

    /// What is to be written; images that are gone are forgotten.
    fn pending(&self, is_there: impl Fn(&str) -> bool) -> Batch {
        let mut times = self.lock();
        let mut batch = Batch::new();
        for id in std::mem::take(&mut times.changed) {
            if let Some(at) = times.used.get(&id) {
                batch.put(TABLE, &id, at.to_string().into_bytes());
            }
        }
        let gone: Vec<String> = times.used.keys().filter(|id| !is_there(id)).cloned().collect();
        for id in gone {
            times.used.remove(&id);
            batch.delete(TABLE, &id);
        }
        batch
    }

    /// Seconds since 1970: its last use, or when it came or got its last name.
    fn of(&self, image: &Image) -> u64 {
        let named = u64::try_from(image.tagged_ns / 1_000_000_000).unwrap_or(0);
        let used = self.lock().used.get(image.id.as_str()).copied().unwrap_or(0);
        used.max(image.added).max(named)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// One image as the choice sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    id: String,
    last_use: u64,
    /// A container has it, a pin names it, or another image was made from it.
    kept: bool,
}

/// Whom to remove, in order, as far as the disk needs it: pure, so that it can be tried.
fn order(mut candidates: Vec<Candidate>, now: u64, min_age: Duration) -> Vec<String> {
    candidates.retain(|one| !one.kept && one.last_use.saturating_add(min_age.as_secs()) <= now);
    candidates.sort_by(|a, b| a.last_use.cmp(&b.last_use).then_with(|| a.id.cmp(&b.id)));
    candidates.into_iter().map(|one| one.id).collect()
}

impl Engine {
    /// Begins to look at the disk, if that is asked for.
    ///
    /// # Errors
    /// A pin is no pattern.
    pub(crate) fn start_collector(&self) -> Result<()> {
        let Some(settings) = self.config.image_collection.clone() else {
            return Ok(());
        };
        let pins: Vec<Pattern> = settings
            .pins
            .iter()
            .map(|text| Pattern::parse(text))
            .collect::<Result<_>>()
            .map_err(|_| {
                Error::invalid(format!(
                    "a pin of the image collection is no pattern: {:?}",
                    settings.pins
                ))
            })?;
        let engine = self.clone();
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = engine.shutdown.cancelled() => return,
                    () = tokio::time::sleep(settings.interval) => {}
                }
                if let Err(error) = engine.collect_images(&settings, &pins).await {
                    tracing::warn!(error = error.chain(), "images could not be collected");
                }
            }
        });
        Ok(())
    }

    /// One look at the disk.
    async fn collect_images(&self, settings: &ImageCollection, pins: &[Pattern]) -> Result<()> {
        let images = self.store.images().list();
        let batch = self
            .last_use
            .pending(|id| images.iter().any(|image| image.id.as_str() == id));
        if !batch.is_empty() {
            self.store.db().commit(batch).await?;
        }
        let before = self.disk_in_use().await?;
        if before < f64::from(settings.high) {
            return Ok(());
        }
        let candidates = images.iter().map(|image| self.candidate(image, pins)).collect();
        let (mut count, mut bytes, mut now) = (0u32, 0, before);
        for id in order(candidates, seconds(SystemTime::now()), settings.min_age) {
            if now <= f64::from(settings.low) || self.is_shutting_down() {
                break;
            }
            let Some(image) = images.iter().find(|image| image.id.as_str() == id) else {
                continue;
            };
            // Somebody may have taken it in the meantime; the rules of removal see that once more.
            match self.discard_image(image).await {
                Ok((_, freed)) => {
                    count += 1;
                    bytes += freed;
                }
                Err(Error::Conflict(_)) => continue,
                Err(error) if error.kind() == crate::Kind::NotFound => continue,
                Err(error) => return Err(error),
            }
            // The files go in the background; what they leave is seen when they are gone.
            self.blocking(|engine| {
                engine.store.settle();
                Ok(())
            })
            .await?;
            now = self.disk_in_use().await?;
        }
        tracing::info!(
            count,
            bytes,
            before,
            after = now,
            "unused images were removed: the disk was over its mark"
        );
        if now > f64::from(settings.low) {
            tracing::warn!(
                in_use = now,
                low = settings.low,
                "the disk stays over its low mark: nothing else is unused"
            );
        }
        Ok(())
    }

    fn candidate(&self, image: &Arc<Image>, pins: &[Pattern]) -> Candidate {
        let standing = self.standing(image);
        let pinned = image.names.iter().any(|name| {
            let familiar = self.familiar(name);
            pins.iter()
                .any(|pin| reference_fits(pin, &familiar) || reference_fits(pin, name))
        });
        Candidate {
            id: image.id.to_string(),
            last_use: self.last_use.of(image),
            kept: pinned || standing.has_child || standing.running.is_some() || standing.stopped.is_some(),
        }
    }

    /// Percent of the data root's file system, as `df` counts it: what only root may fill is not there.
    async fn disk_in_use(&self) -> Result<f64> {
        let root = self.config.data_root.clone();
        self.blocking(move |_| {
            let stat = statvfs(&root).map_err(|errno| Error::io("look at the data root's disk")(errno.into()))?;
            let used = stat.blocks().saturating_sub(stat.blocks_free()) as f64;
            let available = stat.blocks_available() as f64;
            Ok(if used + available > 0.0 {
                used * 100.0 / (used + available)
            } else {
                0.0
            })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_longest_unused_go_first_and_nothing_that_is_kept(
            list in proptest::collection::vec((0u64..100, any::<bool>()), 0..12), now in 0u64..150, age in 0u64..60,
        ) {
            let candidates: Vec<Candidate> = list
                .iter()
                .enumerate()
                .map(|(number, (last_use, kept))| Candidate { id: number.to_string(), last_use: *last_use, kept: *kept })
                .collect();
            let chosen = order(candidates.clone(), now, Duration::from_secs(age));
            let of = |id: &String| candidates.iter().find(|one| one.id == *id).cloned();
            let mut before = 0;
            for one in chosen.iter().filter_map(of) {
                prop_assert!(!one.kept && one.last_use + age <= now && one.last_use >= before);
                before = one.last_use;
            }
            let fit = candidates.iter().filter(|one| !one.kept && one.last_use + age <= now).count();
            prop_assert_eq!(chosen.len(), fit, "as long as the disk needs it, all of them");
        }
    }
}
