//! Named and anonymous volumes of the `local` driver: folders below the data root, owned by records.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use agent_store::{Batch, Db};
use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::disk;
use crate::error::{Error, Result};
use crate::events::EventKind;
use crate::ids::{ContainerId, random_hex, volume_name};

const TABLE: &str = "volumes";

/// Label that Docker puts on volumes that got their name from the daemon.
const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    pub version: u32,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    pub created: SystemTime,
    pub anonymous: bool,
}

/// What may be said of a new volume.
#[derive(Clone, Debug, Default)]
pub struct VolumeRequest {
    /// Empty: a random name.
    pub name: String,
    pub driver: String,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

pub struct Volumes {
    root: PathBuf,
    table: Mutex<BTreeMap<String, Volume>>,
}

impl Volumes {
    pub fn load(data_root: &Path, db: &Db) -> Result<Volumes> {
        let mut table = BTreeMap::new();
        for (name, bytes) in db.scan(TABLE)? {
            let volume = serde_json::from_slice(&bytes).map_err(|source| Error::Record {
                what: format!("volume {name}"),
                source,
            })?;
            table.insert(name, volume);
        }
        Ok(Volumes {
            root: data_root.join("volumes"),
            table: Mutex::new(table),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Volume>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the content of a volume is.
    pub fn mountpoint(&self, name: &str) -> PathBuf {
        self.root.join(name).join("_data")
    }

    pub fn all(&self) -> Vec<Volume> {
        self.lock().values().cloned().collect()
    }

    pub fn get(&self, name: &str) -> Result<Volume> {
        self.lock()
            .get(name)
            .cloned()
            .ok_or_else(|| Error::NoSuchVolume(name.to_owned()))
    }

    /// Removes folders that no record owns: what a crash between folder and record left.
    pub fn remove_orphans(&self) -> Result<usize> {
        let table = self.lock();
        let mut removed = 0;
        for entry in fs::read_dir(&self.root).map_err(Error::io("list the volumes"))? {
            let entry = entry.map_err(Error::io("list the volumes"))?;
            if !entry.file_name().to_str().is_some_and(|name| table.contains_key(name)) {
                fs::remove_dir_all(entry.path()).map_err(Error::io(format!("remove {}", entry.path().display())))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

impl Engine {
    /// Makes a volume, or finds the one of that name. The flag says whether it is new.
    pub(crate) async fn ensure_volume(&self, request: VolumeRequest, anonymous: bool) -> Result<(Volume, bool)> {
        if !matches!(request.driver.as_str(), "" | "local") {
            return Err(Error::unsupported(format!("volume driver {}", request.driver)));
        }
        if let Some(option) = request.options.keys().next() {
            return Err(Error::unsupported(format!("option {option} of volume driver local")));
        }
        let name = if request.name.is_empty() {
            random_hex()
        } else {
            volume_name(&request.name)?
        };
        let mut labels = request.labels;
        let anonymous = anonymous || request.name.is_empty();
        if anonymous {
            labels.insert(ANONYMOUS_LABEL.into(), String::new());
        }
        let volume = Volume {
            version: 1,
            name: name.clone(),
            labels,
            options: request.options,
            created: SystemTime::now(),
            anonymous,
        };
        {
            let mut table = self.volumes.lock();
            if let Some(existing) = table.get(&name) {
                return Ok((existing.clone(), false));
            }
            // Claimed before the folder is made, so that two creators cannot both make it.
            table.insert(name.clone(), volume.clone());
        }
        let made = self.store_volume(&volume).await;
        if let Err(error) = made {
            self.volumes.lock().remove(&name);
            let _ = fs::remove_dir_all(self.volumes.root.join(&name));
            return Err(error);
        }
        let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
        self.journal.record(EventKind::Volume, "create", &name, attributes);
        Ok((volume, true))
    }

    async fn store_volume(&self, volume: &Volume) -> Result<()> {
        let data = self.volumes.mountpoint(&volume.name);
        fs::create_dir_all(&data).map_err(Error::io(format!("create {}", data.display())))?;
        let bytes = serde_json::to_vec(volume).map_err(|source| Error::Record {
            what: volume.name.clone(),
            source,
        })?;
        let mut batch = Batch::new();
        batch.put(TABLE, &volume.name, bytes);
        Ok(self.store.db().commit(batch).await?)
    }

    /// Makes a volume; the same name again answers with the one that is there.
    pub async fn create_volume(&self, request: VolumeRequest) -> Result<Volume> {
        let engine = self.clone();
        self.detached(async move { Ok(engine.ensure_volume(request, false).await?.0) })
            .await
    }

    /// Containers that mount the volume.
    pub fn volume_users(&self, name: &str) -> Vec<ContainerId> {
        let uses = |container: &crate::Container| container.lock().record.mounts.iter().any(|mount| mount.name == name);
        self.index
            .all()
            .into_iter()
            .filter(|c| uses(c))
            .map(|c| c.id.clone())
            .collect()
    }

    /// Removes a volume that no container uses.
    ///
    /// # Errors
    /// `NoSuchVolume` unless `force`; `Conflict` while a container, running or not, has it.
    pub async fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        let engine = self.clone();
        let name = name.to_owned();
        self.detached(async move { engine.drop_volume(&name, force).await })
            .await
    }

    pub(crate) async fn drop_volume(&self, name: &str, force: bool) -> Result<()> {
        match self.volumes.get(name) {
            Err(_) if force => return Ok(()),
            other => other?,
        };
        let users = self.volume_users(name);
        if !users.is_empty() {
            let list: Vec<_> = users.iter().map(ContainerId::as_str).collect();
            return Err(Error::Conflict(format!(
                "remove {name}: volume is in use - [{}]",
                list.join(", ")
            )));
        }
        let mut batch = Batch::new();
        batch.delete(TABLE, name);
        self.store.db().commit(batch).await?;
        self.volumes.lock().remove(name);
        let folder = self.volumes.root.join(name);
        self.blocking(move |_| fs::remove_dir_all(&folder).map_err(Error::io(format!("remove {}", folder.display()))))
            .await?;
        let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
        self.journal.record(EventKind::Volume, "destroy", name, attributes);
        Ok(())
    }

    /// Removes volumes without users: anonymous ones, or `all`; `wanted` filters by record.
    pub async fn prune_volumes(
        &self,
        all: bool,
        wanted: impl Fn(&Volume) -> bool + Send + 'static,
    ) -> Result<(Vec<String>, u64)> {
        let engine = self.clone();
        self.detached(async move {
            let mut used = BTreeSet::new();
            for container in engine.index.all() {
                used.extend(container.lock().record.mounts.iter().map(|mount| mount.name.clone()));
            }
            let (mut removed, mut freed) = (Vec::new(), 0);
            for volume in engine.volumes.all() {
                if used.contains(&volume.name) || !(all || volume.anonymous) || !wanted(&volume) {
                    continue;
                }
                let path = engine.volumes.mountpoint(&volume.name);
                freed += disk::usage(&path);
                match engine.drop_volume(&volume.name, false).await {
                    Ok(()) => removed.push(volume.name),
                    // A container took it in the meantime.
                    Err(Error::Conflict(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok((removed, freed))
        })
        .await
    }
}
