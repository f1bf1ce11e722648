//! One container: its record, its state, and the handles of its current run.
//!
//! `op` serialises the verbs (one owner at a time); `inner` is held for moments only, never across an await.

pub mod attach;
mod bundle;
pub mod change;
pub mod copy;
pub mod create;
pub mod exec;
pub mod exit;
pub mod files;
mod foreign;
mod forward;
pub mod health;
mod links;
pub mod list;
pub mod logging;
pub mod logs;
pub mod mounts;
mod oom;
pub mod plan;
pub mod ports;
pub mod remove;
mod save;
pub mod spec;
pub(crate) mod stage;
pub mod start;
pub mod state;
pub mod stats;
pub mod stop;
mod storage;
pub mod top;
pub mod unhealthy;
pub mod update;
pub(crate) mod users;
pub mod validate;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use network::{EndpointRecord, PortBinding};
use runtime::cgroup::CgroupPath;
use runtime::launcher::{Attach, Shim};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::groups::Group;
use crate::ids::ContainerId;
use mounts::MountPoint;
use spec::{Config, HostConfig};
use state::{Denied, Phase, Request, Status};

/// Version of [`Record`] on disk.
const RECORD_VERSION: u32 = 1;

/// What is kept of a container on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    pub id: ContainerId,
    pub name: String,
    pub created: SystemTime,
    /// Image id (`sha256:…`), and its layers from the bottom up.
    pub image: String,
    pub chain: Vec<String>,
    pub config: Config,
    pub host: HostConfig,
    pub mounts: Vec<MountPoint>,
    pub status: Status,
    pub health: Option<health::Health>,
    /// What an update has changed for the next start. Absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Box<change::Next>>,
    /// The users of its own that it was given, or has chosen. Absent in records of earlier versions.
    #[serde(default)]
    pub users: Option<users::allot::Allotted>,
}

impl Record {
    /// Program and arguments, from entrypoint and command.
    pub fn argv(&self) -> Vec<String> {
        let parts = [&self.config.entrypoint, &self.config.cmd];
        parts.into_iter().flatten().flatten().cloned().collect()
    }
}

/// Handles of the current run.
#[derive(Clone)]
pub(crate) struct Run {
    pub shim: Shim,
    pub net: RunNet,
    /// Its control group, below every hierarchy's root.
    pub cgroup: CgroupPath,
}

/// What the network gave to a run; written to the run record so that a restarted daemon knows it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunNet {
    pub endpoint: Option<EndpointRecord>,
    pub ports: Vec<PortBinding>,
    /// Absent in records of earlier versions.
    #[serde(default)]
    pub group: Option<Group>,
}

pub(crate) struct Inner {
    pub record: Record,
    pub run: Option<Run>,
    /// Streams of clients that attached before the start.
    pub pending: Vec<Attach>,
    /// The record is gone; nothing may write it again.
    pub removed: bool,
    /// Delay of the next restart by policy.
    pub backoff: exit::Backoff,
    /// This run is being ended because it is unhealthy.
    pub ailing: bool,
}

/// What waiters see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub phase: Phase,
    pub exits: u64,
    pub exit_code: i32,
    pub removed: bool,
}

pub struct Container {
    pub id: ContainerId,
    pub created: SystemTime,
    pub(crate) op: tokio::sync::Mutex<()>,
    /// Held by who writes to its files from outside: alone while it rests, together with others while it runs.
    pub(crate) files: Arc<tokio::sync::RwLock<()>>,
    inner: Mutex<Inner>,
    pub(crate) changes: watch::Sender<Change>,
    /// Nothing of an earlier run is being handled any more: the next one may start.
    pub(crate) idle: watch::Sender<bool>,
    /// Its last end is known here, but not yet on the disk: whoever is told of it waits for that.
    pub(crate) untold: AtomicBool,
    sampling: Mutex<stats::Sampling>,
    /// A task sends its log on.
    pub(crate) forwarding: AtomicBool,
}

impl Container {
    pub(crate) fn new(record: Record) -> Container {
        let change = Change {
            phase: record.status.phase,
            exits: record.status.exits,
            exit_code: record.status.exit_code,
            removed: false,
        };
        Container {
            id: record.id.clone(),
            created: record.created,
            op: tokio::sync::Mutex::new(()),
            files: Arc::default(),
            inner: Mutex::new(Inner {
                record,
                run: None,
                pending: Vec::new(),
                removed: false,
                backoff: exit::Backoff::default(),
                ailing: false,
            }),
            changes: watch::Sender::new(change),
            idle: watch::Sender::new(true),
            untold: AtomicBool::new(false),
            sampling: Mutex::default(),
            forwarding: AtomicBool::new(false),
        }
    }

    /// Short exclusive access; never hold it across an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who looks at what it uses; held for moments only.
    fn sampling(&self) -> MutexGuard<'_, stats::Sampling> {
        self.sampling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of everything that is known, for inspection.
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.lock();
        Snapshot {
            record: inner.record.clone(),
            net: inner.run.as_ref().map(|run| run.net.clone()).unwrap_or_default(),
        }
    }

    pub fn name(&self) -> String {
        self.lock().record.name.clone()
    }

    /// Waits until the last run is handled to its end.
    pub(crate) async fn settled(&self) {
        // The sender lives in the container that the caller holds.
        let _ = self.idle.subscribe().wait_for(|idle| *idle).await;
    }

    pub fn phase(&self) -> Phase {
        self.lock().record.status.phase
    }

    pub fn is_tty(&self) -> bool {
        self.lock().record.config.tty
    }

    /// Tells waiters of the state as it is now.
    pub(crate) fn announce(&self, inner: &Inner) {
        self.changes.send_replace(Change {
            phase: inner.record.status.phase,
            exits: inner.record.status.exits,
            exit_code: inner.record.status.exit_code,
            removed: inner.removed,
        });
    }

    /// Checks `request` against the state; the error has Docker's words.
    pub(crate) fn admit(&self, inner: &Inner, request: Request) -> Result<()> {
        inner
            .record
            .status
            .phase
            .admit(request)
            .map_err(|denied| self.denied(inner, denied))
    }

    fn denied(&self, inner: &Inner, denied: Denied) -> Error {
        let name = &inner.record.name;
        let id = &self.id;
        match denied {
            // Callers turn this into "nothing to do" before it becomes an error.
            Denied::AlreadySo => Error::Conflict(format!(
                "container {id} is already {}",
                inner.record.status.phase.as_str()
            )),
            Denied::NotRunning => Error::NotRunning(id.clone()),
            Denied::Paused => Error::Conflict(format!("container {id} is paused, unpause the container first")),
            Denied::NotPaused => Error::Conflict(format!("Container {id} is not paused")),
            Denied::Restarting => Error::Conflict(format!(
                "Container {id} is restarting, wait until the container is running"
            )),
            Denied::Removing => Error::Removing(id.clone()),
            Denied::StillRunning => Error::StillRunning {
                name: name.clone(),
                state: inner.record.status.phase.as_str(),
            },
            Denied::Dead => Error::Conflict(format!(
                "container {id} is dead: its removal failed half way; remove it again"
            )),
        }
    }

    /// Attributes of this container's events: its labels, image and name.
    pub(crate) fn event_attributes(&self) -> BTreeMap<String, String> {
        let inner = self.lock();
        let mut attributes = inner.record.config.labels.clone();
        attributes.insert("image".into(), inner.record.config.image.clone());
        attributes.insert("name".into(), inner.record.name.clone());
        attributes
    }
}

/// A container as it was at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub record: Record,
    pub net: RunNet,
}

/// The folders of one container below the data root and the exec root.
#[derive(Clone, Debug)]
pub struct Places {
    /// Durable: log, hosts files, exit record.
    pub data: PathBuf,
    /// Volatile: the run record.
    pub run: PathBuf,
    /// Volatile: what another runtime works with, or hooks read.
    pub bundle: PathBuf,
    /// Volatile: what is mounted for the moment of a start.
    pub stage: PathBuf,
}

impl Places {
    pub fn hosts(&self) -> PathBuf {
        self.data.join("hosts")
    }
    pub fn hostname(&self) -> PathBuf {
        self.data.join("hostname")
    }
    pub fn resolv_conf(&self) -> PathBuf {
        self.data.join("resolv.conf")
    }
    pub fn exit_file(&self) -> PathBuf {
        self.data.join("exit")
    }
    pub fn log(&self, id: &ContainerId, driver: &str) -> PathBuf {
        match driver {
            "json-file" => self.data.join(format!("{id}-json.log")),
            _ => self.data.join("container.log"),
        }
    }
    pub fn run_record(&self) -> PathBuf {
        self.run.clone()
    }
}
