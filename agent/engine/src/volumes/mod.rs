//! Named and anonymous volumes of the `local` driver: folders below the data root, owned by records. What is mounted as
//! the content of some of them is in `local`.

mod copies;
mod local;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use agent_store::{Batch, Db};
use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::container::mounts::known_driver;
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
    /// Its name before a renaming whose second step, that of the folder, may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    moved_from: Option<String>,
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
    holders: local::Holders,
}

impl Volumes {
    pub fn load(data_root: &Path, db: &Db) -> Result<Volumes> {
        let mut table: BTreeMap<String, Volume> = BTreeMap::new();
        for (name, bytes) in db.scan(TABLE)? {
            let volume: Volume = serde_json::from_slice(&bytes).map_err(|source| Error::Record {
                what: format!("volume {name}"),
                source,
            })?;
            table.insert(name, volume);
        }
        let root = data_root.join("volumes");
        let mut moved: Vec<(String, String)> = Vec::new();
        for volume in table.values_mut() {
            moved.extend(volume.moved_from.take().map(|old| (old, volume.name.clone())));
        }
        for (old, new) in moved {
            let (from, to) = (root.join(&old), root.join(new));
            // A volume that got the old name since then has a record of its own.
            if !table.contains_key(&old) && from.exists() && !to.exists() {
                fs::rename(&from, &to).map_err(Error::io(format!("finish the renaming of volume {old}")))?;
            }
        }
        Ok(Volumes {
            root,
            table: Mutex::new(table),
            holders: local::Holders::default(),
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

    /// Moves the folder of a volume that is none to the trash.
    pub(crate) fn discard_orphan(&self, name: &str, store: &agent_store::Store) -> Result<()> {
        // Held across the rename: nobody makes a volume of this name meanwhile.
        let table = self.lock();
        if table.contains_key(name) {
            return Err(Error::Conflict(format!("volume {name} was made in the meantime")));
        }
        let folder = self.root.join(name);
        disk::detach_below(&folder)?;
        Ok(store.discard(&folder)?)
    }

    /// Removes folders that no record owns: what a crash between folder and record left.
    pub fn remove_orphans(&self) -> Result<usize> {
        let table = self.lock();
        let mut removed = 0;
        for entry in fs::read_dir(&self.root).map_err(Error::io("list the volumes"))? {
            let entry = entry.map_err(Error::io("list the volumes"))?;
            if !entry.file_name().to_str().is_some_and(|name| table.contains_key(name)) {
                // Whatever is still mounted there is somebody's data.
                disk::detach_below(&entry.path())?;
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
        if known_driver(&request.driver).is_err() {
            // Docker's order: a name that is taken counts before a driver that is not there.
            return match self.volumes.get(&request.name) {
                Ok(_) => Err(Error::Conflict(format!(
                    "create {}: conflict: volume name must be unique",
                    request.name
                ))),
                Err(_) => Err(Error::NoSuchVolumeDriver(request.driver)),
            };
        }
        local::parse(&request.options).map_err(|error| match error {
            Error::Invalid(text) => Error::Invalid(format!("create {}: {text}", request.name)),
            other => other,
        })?;
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
            moved_from: None,
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
        runtime_sys::failpoint!("volume-recorded");
        let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
        self.journal.record(EventKind::Volume, "create", &name, attributes);
        Ok((volume, true))
    }

    async fn store_volume(&self, volume: &Volume) -> Result<()> {
        let data = self.volumes.mountpoint(&volume.name);
        let folder = self.volumes.root.join(&volume.name);
        self.blocking(move |engine| {
            fs::create_dir_all(&data).map_err(Error::io(format!("create {}", data.display())))?;
            disk::sync_folder(&folder)?;
            disk::sync_folder(&engine.volumes.root)
        })
        .await?;
        runtime_sys::failpoint!("volume-folder-made");
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
        let uses = |container: &crate::Container| container.lock().record.all_mounts().any(|mount| mount.name == name);
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
        // First of all: what is mounted there must not be deleted.
        let own = name.to_owned();
        self.blocking(move |engine| engine.volumes.unmount(&own)).await?;
        let mut batch = Batch::new();
        batch.delete(TABLE, name);
        self.store.db().commit(batch).await?;
        runtime_sys::failpoint!("volume-unrecorded");
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
                used.extend(container.lock().record.all_mounts().map(|mount| mount.name.clone()));
            }
            let (mut removed, mut freed) = (Vec::new(), 0);
            for volume in engine.volumes.all() {
                // What is mounted from elsewhere is never pruned, as with Docker.
                let pruned = (all || volume.anonymous) && volume.options.is_empty();
                if used.contains(&volume.name) || !pruned || !wanted(&volume) {
                    continue;
                }
                let path = engine.volumes.mountpoint(&volume.name);
                let size = engine.blocking(move |engine| Ok(engine.store.tree_size(&path)?)).await;
                // One that cannot be read can still go.
                let size = size.unwrap_or(0);
                match engine.drop_volume(&volume.name, false).await {
                    Ok(()) => {
                        runtime_sys::failpoint!("prune-volume-gone");
                        removed.push(volume.name);
                        freed += size;
                    }
                    // A container took it in the meantime, or somebody removed it.
                    Err(Error::Conflict(_) | Error::NoSuchVolume(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            let attributes = BTreeMap::from([("reclaimed".to_owned(), freed.to_string())]);
            engine.journal.record(EventKind::Volume, "prune", "", attributes);
            Ok((removed, freed))
        })
        .await
    }
}
