//! Images as a kubelet sees them, and which of them are its own.
//!
//! A kubelet removes images by itself when its disk fills, from those that its runtime lists. It may take what it has pulled and
//! nothing else: a name that it pulled is noted with the image it meant then, and an image is the kubelet's as long as all of its
//! names are. Whoever pulls, loads or tags the same name by the other API takes it over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_registry::{Credentials, Reference};
use agent_store::{Batch, Db, Image};

use super::pull::{For, PullEvent};
use crate::Engine;
use crate::error::{Error, Kind, Result};

/// Canonical name or digest reference → image id.
const TABLE: &str = "images.pods";

/// The names that only the kubelet asked for.
pub struct PodNames(Mutex<BTreeMap<String, String>>);

impl PodNames {
    /// What was noted; a name that is gone or means another image by now is not kept.
    pub(crate) fn load(db: &Db, means: impl Fn(&str) -> Option<String>) -> Result<PodNames> {
        let mut names = BTreeMap::new();
        for (name, id) in db.scan(TABLE)? {
            if let Ok(id) = String::from_utf8(id)
                && means(&name).is_some_and(|now| now == id)
            {
                names.insert(name, id);
            }
        }
        Ok(PodNames(Mutex::new(names)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, name: &str, id: &str) -> bool {
        self.lock().get(name).is_some_and(|noted| noted == id)
    }
}

/// Which images a kubelet must leave alone: what is asked of the containers is asked once, however many images there are.
pub struct Pins<'a> {
    names: &'a PodNames,
    /// Ids of the containers that have each image.
    users: BTreeMap<String, Vec<String>>,
}

impl Pins<'_> {
    /// Whether somebody else has named the image, or has a container of it.
    pub fn hold(&self, image: &Image) -> bool {
        let id = image.id.as_str();
        let mut names = references(image).peekable();
        names.peek().is_none() || !names.all(|name| self.names.has(name, id)) || self.user_of(image).is_some()
    }

    /// The id of a container that has the image.
    fn user_of(&self, image: &Image) -> Option<&str> {
        self.users.get(image.id.as_str())?.first().map(String::as_str)
    }
}

/// Names and digest references of an image.
fn references(image: &Image) -> impl Iterator<Item = &String> {
    image.names.iter().chain(&image.digests)
}

impl Engine {
    /// Pulls an image for a pod, to its end.
    ///
    /// # Errors
    /// Those of a pull.
    pub async fn pull_for_pod(&self, reference: Reference, credentials: Option<Credentials>) -> Result<Arc<Image>> {
        let reference = reference.or_latest();
        let users_before: Vec<String> = match self.find_image(&reference.canonical()) {
            Ok(image) => references(&image)
                .filter(|name| !self.pod_names.has(name, image.id.as_str()))
                .cloned()
                .collect(),
            Err(_) => Vec::new(),
        };
        let mut events = self.begin_pull(reference.clone(), None, credentials, For::Pods);
        let pulled = loop {
            match events.recv().await {
                Some(PullEvent::Done(result)) => break result?,
                Some(_) => {}
                None => return Err(Error::CutOff),
            }
        };
        let image = pulled.image;
        let repository = reference.name();
        let came = references(&image).filter(|name| {
            let asked =
                **name == reference.canonical() || name.split_once('@').is_some_and(|(name, _)| name == repository);
            asked && !users_before.contains(name)
        });
        let mut batch = Batch::new();
        for name in came {
            batch.put(TABLE, name, image.id.as_str().as_bytes().to_vec());
            self.pod_names.lock().insert(name.clone(), image.id.to_string());
        }
        if !batch.is_empty() {
            self.store.db().commit(batch).await?;
        }
        Ok(image)
    }

    /// Somebody else asked for these names as well: they are not the kubelet's alone any more.
    pub(crate) fn names_are_users(&self, names: impl IntoIterator<Item = String>) {
        let mut batch = Batch::new();
        {
            let mut noted = self.pod_names.lock();
            for name in names {
                if noted.remove(&name).is_some() {
                    batch.delete(TABLE, &name);
                }
            }
        }
        if !batch.is_empty() {
            drop(self.store.db().commit_soon(batch));
        }
    }

    /// What a kubelet must leave alone, as of now.
    pub fn pins(&self) -> Pins<'_> {
        Pins {
            names: &self.pod_names,
            users: self.image_users(),
        }
    }

    /// Removes an image with all of its names, as a kubelet means it. One that is not there is no error.
    ///
    /// # Errors
    /// `Conflict`: a container has it, or other images were made from it.
    pub async fn remove_image_for_pods(&self, name: &str) -> Result<()> {
        let image = match self.find_image(name) {
            Ok(image) => image,
            Err(Error::NoSuchImage(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        if let Some(user) = self.pins().user_of(&image) {
            return Err(Error::Conflict(format!(
                "image {} is used by container {}",
                image.id.short(),
                user.get(..12).unwrap_or(user)
            )));
        }
        match self.remove_image(image.id.as_str(), None, true, false).await {
            // Another call was faster.
            Ok(_) => {}
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.names_are_users(references(&image).cloned());
        Ok(())
    }

    /// Bytes and entries of all layers.
    pub fn image_bytes_and_inodes(&self) -> (u64, u64) {
        let layers = self.store.layers().list();
        let sum = |of: fn(&agent_store::Layer) -> u64| layers.iter().map(|layer| of(layer)).sum();
        (sum(|layer| layer.bytes), sum(|layer| layer.entries))
    }
}
