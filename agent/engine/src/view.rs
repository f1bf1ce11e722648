//! What adapters may look at beside the verbs: events, volumes, paths, layers, networks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

pub use agent_registry::{ClientConfig, Credentials, Download, Mirror, Platform, Proxies};
pub use agent_store::{Change, Changed, Found, Image, LoadEvent, Manifest, RunConfig, TreeSource};
pub use network::{AddressPool, Cidr, NetworkConfig};
pub use runtime::log::{Entry as LogEntry, Stream as LogStream};

use crate::Engine;
use crate::config::CgroupDriver;
use crate::container::create::with;
use crate::error::{Error, Result};
use crate::events::{EventKind, Reader};
use crate::ids::ContainerId;

/// Files of a container that other programs may want to see.
#[derive(Clone, Debug)]
pub struct Paths {
    pub hosts: PathBuf,
    pub hostname: PathBuf,
    pub resolv_conf: PathBuf,
}

/// Folders of a container's layers.
#[derive(Clone, Debug)]
pub struct LayerPaths {
    /// Top first.
    pub lower: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
}

/// A network for inspection. Only the three default ones exist.
#[derive(Clone, Debug)]
pub struct NetworkView {
    pub name: &'static str,
    /// 64 hex digits, the same for as long as the data root lives.
    pub id: String,
    pub driver: &'static str,
    pub created: SystemTime,
    /// Only of the bridge.
    pub bridge: Option<network::NetworkInfo>,
}

impl Engine {
    /// The folder that everything kept is below.
    pub fn data_root(&self) -> &Path {
        &self.config.data_root
    }

    /// Who makes the control groups of containers.
    pub fn cgroup_driver(&self) -> CgroupDriver {
        self.config.cgroup_driver
    }

    /// All images, each once.
    pub fn images(&self) -> Vec<Arc<Image>> {
        self.store.images().list()
    }

    /// A reader of the journal, from `since` on or from now on.
    pub fn events(&self, since: Option<SystemTime>) -> Reader {
        self.journal.subscribe(since)
    }

    /// Bytes in a volume.
    pub async fn volume_size(&self, name: &str) -> Result<u64> {
        let path = self.volumes.mountpoint(name);
        self.blocking(move |engine| Ok(engine.store.tree_size(&path)?)).await
    }

    /// Execs of a container that have not ended.
    pub fn exec_ids(&self, container: &str) -> Vec<String> {
        self.execs.of(container)
    }

    /// A client detached from an exec by its keys.
    pub fn note_exec_detach(&self, id: &str) {
        let Ok(view) = self.exec_inspect(id) else { return };
        let Ok(container) = self.container(&view.container) else {
            return;
        };
        let attributes = with(container.event_attributes(), [("execID", id.to_owned())]);
        self.journal
            .record(EventKind::Container, "exec_detach", container.id.as_str(), attributes);
    }

    /// Paths that are hidden in a container that does not say otherwise.
    pub fn default_masked_paths(&self) -> &'static [String] {
        runtime::defaults::masked_paths()
    }

    /// Paths that are read-only in a container that does not say otherwise.
    pub fn default_readonly_paths(&self) -> &'static [&'static str] {
        runtime::defaults::READONLY_PATHS
    }

    pub fn paths(&self, id: &ContainerId) -> Paths {
        let places = self.places(id);
        Paths {
            hosts: places.hosts(),
            hostname: places.hostname(),
            resolv_conf: places.resolv_conf(),
        }
    }

    /// `None` while the layer does not exist: it is being made or removed.
    pub fn layer_paths(&self, id: &ContainerId) -> Option<LayerPaths> {
        let rw = self.store.snapshots().get(id.as_str()).ok()?;
        Some(LayerPaths {
            lower: rw.lower,
            upper: rw.upper,
            work: rw.work,
        })
    }

    /// Folder of an image's topmost layer, and of those below it, top first.
    pub fn image_layers(&self, image: &Image) -> Vec<PathBuf> {
        self.store.layers().lower(&image.chain)
    }

    /// Bytes of each layer, bottom first.
    pub fn layer_sizes(&self, image: &Image) -> Vec<u64> {
        let layers = self.store.layers();
        image
            .chain
            .iter()
            .map(|chain| layers.get(chain).map_or(0, |layer| layer.bytes))
            .collect()
    }

    /// The manifest that describes an image: the registry's, or the one that `save` writes. `None` while it is removed.
    pub fn image_manifest(&self, image: &Image) -> Option<Manifest> {
        self.store.archive().manifest(image).ok()
    }

    /// The image that an image was made from here, if it is still there.
    pub fn image_parent(&self, image: &Image) -> Option<Arc<Image>> {
        self.store.images().by_id(image.parent.as_ref()?)
    }

    pub fn networks(&self) -> Vec<NetworkView> {
        // The folder is made once; file systems without birth times show the epoch.
        let created = std::fs::metadata(&self.config.data_root).and_then(|meta| meta.created());
        let created = created.unwrap_or(SystemTime::UNIX_EPOCH);
        [("bridge", "bridge"), ("host", "host"), ("none", "null")]
            .into_iter()
            .map(|(name, driver)| NetworkView {
                name,
                id: self.network_id(name).unwrap_or_default(),
                driver,
                created,
                bridge: (name == "bridge").then(|| self.network.info()),
            })
            .collect()
    }

    /// By name, id or unique id prefix.
    ///
    /// # Errors
    /// `NoSuchNetwork`.
    pub fn network(&self, target: &str) -> Result<NetworkView> {
        let mut networks = self.networks();
        let fits = |network: &NetworkView| network.name == target || network.id == target;
        if let Some(index) = networks.iter().position(fits) {
            return Ok(networks.swap_remove(index));
        }
        networks.retain(|network| !target.is_empty() && network.id.starts_with(target));
        match networks.len() {
            0 => Err(Error::NoSuchNetwork(target.to_owned())),
            1 => Ok(networks.swap_remove(0)),
            _ => Err(Error::invalid(format!(
                "network {target} is ambiguous ({} matches found based on ID prefix)",
                networks.len()
            ))),
        }
    }

    /// Id of a network by name; nothing for a name that is none.
    pub fn network_id(&self, name: &str) -> Option<String> {
        self.identity.network(name).map(str::to_owned)
    }
}
