//! The engine: containers, images, volumes, networks and events of one node. No HTTP, no gRPC, no command line.
//!
//! Adapters parse, call one method here, and map the answer. Every mutating verb is *plan → validate → act → record*,
//! with undo on failure, and runs detached: a client that hangs up never leaves half of one behind.
//!
//! ```text
//! Engine ─┬─ containers: Index (by id, name) → Container (op lock, record, run)
//!         ├─ store      images, layers, snapshots, records
//!         ├─ registry   pull
//!         ├─ network    bridge endpoints, ports
//!         ├─ launcher   shims
//!         └─ journal    events
//! ```
#![forbid(unsafe_code)]

pub mod cdi;
pub mod check;
pub mod config;
pub mod container;
mod disk;
pub mod error;
pub mod events;
pub mod filters;
mod groups;
pub mod ids;
pub mod image;
mod index;
pub mod info;
mod live;
mod metrics;
mod recover;
pub mod view;
pub mod volumes;

use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use agent_store::Store;
use network::Network;
use runtime::cgroup::Cgroups;
use runtime::launcher::Launcher;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

pub use config::EngineConfig;
pub use container::state::{Phase, Request};
pub use container::{Container, Snapshot};
pub use error::{Error, Kind, Result};
pub use ids::ContainerId;

/// Starts in flight at once; more only wait for each other in the kernel (measured on two cores).
const STARTS_IN_FLIGHT: usize = 4;

/// The engine of one node; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What all clones of an engine share; its parts are the engine's own business.
#[doc(hidden)]
pub struct Shared {
    pub(crate) config: EngineConfig,
    pub(crate) store: Store,
    /// What may change while we run.
    live: RwLock<Arc<live::Live>>,
    pub(crate) network: Network,
    pub(crate) launcher: Launcher,
    pub(crate) cgroups: Cgroups,
    pub(crate) machine: container::stats::Machine,
    pub(crate) driver: groups::Driver,
    pub(crate) journal: events::Journal,
    pub(crate) index: index::Index,
    /// How many ended containers' ends are not on the disk yet.
    pub(crate) untold: AtomicUsize,
    pub(crate) allotments: container::users::allot::Allotments,
    pub(crate) volumes: volumes::Volumes,
    /// Held while addresses of links are written into hosts files.
    pub(crate) hosts_files: std::sync::Mutex<()>,
    pub(crate) execs: container::exec::Execs,
    pub(crate) plans: container::plan::PlanCache,
    pub(crate) last_use: image::collect::LastUse,
    pub(crate) pod_names: image::pods::PodNames,
    pub(crate) starts: Semaphore,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
    pub(crate) identity: info::Identity,
    /// Operations that a drained shutdown waits for.
    pub(crate) operations: AtomicU64,
}

impl std::ops::Deref for Engine {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("data_root", &self.config.data_root)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the data root, finds the containers that run on, removes what has no owner, and starts what its restart
    /// policy wants.
    ///
    /// # Errors
    /// When the data root cannot be used, another daemon owns it, or the network cannot be set up.
    pub async fn open(config: EngineConfig) -> Result<Engine> {
        let driver = groups::Driver::open(config.cgroup_driver)?;
        disk::prepare(&config)?;
        let store_root = config.data_root.clone();
        let opened = tokio::task::spawn_blocking({
            let network = config.network.clone();
            move || {
                // The store first: its lock keeps a second daemon out, which must not have touched the network by then.
                let (store, recovered) = Store::open(agent_store::StoreConfig::new(store_root))?;
                let network = Network::open(network)?;
                Ok::<_, Error>((store, recovered, network))
            }
        })
        .await
        .map_err(|_| Error::CutOff)??;
        let (store, recovered, network) = opened;
        if !recovered.is_clean() {
            warn!(?recovered, "the store had to be repaired");
        }
        let launcher = Launcher::new(runtime::launcher::LauncherConfig {
            shim: config.shim.clone(),
            state: config.exec_root.join("shim"),
            warm: config.warm,
        })?;
        let events = config.data_root.join("events");
        let journal = events::Journal::open(&events).unwrap_or_else(|error| {
            warn!(%error, folder = %events.display(), "events are kept in memory only");
            events::Journal::default()
        });
        let engine = Engine {
            shared: Arc::new(Shared {
                live: RwLock::new(Arc::new(live::Live::new(&config)?)),
                volumes: volumes::Volumes::load(&config.data_root, store.db())?,
                identity: info::Identity::load(store.db())?,
                cgroups: Cgroups::detect()?,
                machine: container::stats::Machine::open()?,
                driver,
                plans: container::plan::PlanCache::new(),
                last_use: image::collect::LastUse::load(store.db())?,
                pod_names: image::pods::PodNames::load(store.db(), |name| {
                    store.images().get(name).ok().map(|image| image.id.to_string())
                })?,
                store,
                network,
                launcher,
                journal,
                index: index::Index::default(),
                untold: AtomicUsize::new(0),
                allotments: container::users::allot::Allotments::default(),
                hosts_files: std::sync::Mutex::default(),
                execs: container::exec::Execs::default(),
                starts: Semaphore::new(STARTS_IN_FLIGHT),
                tasks: TaskTracker::new(),
                shutdown: CancellationToken::new(),
                operations: AtomicU64::new(0),
                config,
            }),
        };
        engine.tasks.spawn(engine.journal.clone().keep(engine.shutdown.clone()));
        engine.recover().await?;
        engine.start_collector()?;
        Ok(engine)
    }

    /// Lets running operations end (for as long as the configuration says), then lets go of the shims: containers run on.
    pub async fn shutdown(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        let grace = self.live().shutdown_timeout;
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            let left = self.operations.load(Ordering::Relaxed);
            warn!(?grace, left, "operations cut off");
        }
        let written = self.blocking(|engine| {
            engine.journal.flush();
            Ok(())
        });
        let _ = written.await;
    }

    pub fn is_shutting_down(&self) -> bool {
        self.shutdown.is_cancelled()
    }

    /// Resolved when the engine begins to shut down; streams end then.
    pub fn shutdown_token(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Runs `operation` to its end whether or not the caller keeps waiting.
    pub(crate) async fn detached<T, F>(&self, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        if self.is_shutting_down() {
            return Err(Error::ShuttingDown);
        }
        let shared = self.shared.clone();
        let task = self.tasks.spawn(async move {
            shared.operations.fetch_add(1, Ordering::Relaxed);
            let result = operation.await;
            shared.operations.fetch_sub(1, Ordering::Relaxed);
            result
        });
        task.await.map_err(|_| Error::CutOff)?
    }

    /// Runs `work` on the blocking pool.
    pub(crate) async fn blocking<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Engine) -> Result<T> + Send + 'static,
    {
        let engine = self.clone();
        tokio::task::spawn_blocking(move || work(&engine))
            .await
            .map_err(|_| Error::CutOff)?
    }

    pub fn config(&self) -> &EngineConfig {
        &self.shared.config
    }

    /// The journal of events.
    pub fn journal(&self) -> &events::Journal {
        &self.shared.journal
    }

    /// Named and anonymous volumes.
    pub fn volumes(&self) -> &volumes::Volumes {
        &self.shared.volumes
    }

    /// Ids of a container's execs that have not ended.
    pub fn execs_of(&self, container: &Container) -> Vec<String> {
        self.shared.execs.of(container.id.as_str())
    }

    /// The container that `target` names: full id, name, or unique id prefix.
    pub fn container(&self, target: &str) -> Result<Arc<Container>> {
        self.index.resolve(target)
    }

    pub(crate) fn places(&self, id: &ContainerId) -> container::Places {
        container::Places {
            data: self.config.data_root.join("containers").join(id.as_str()),
            run: self.config.exec_root.join("run").join(format!("{id}.json")),
            bundle: self.config.exec_root.join("bundle").join(id.as_str()),
            stage: self.config.exec_root.join("stage").join(id.as_str()),
        }
    }
}
