//! What the engine finds when it starts: records, live shims, exit records, run records, folders. Each difference has one
//! rule; the same rules hold after an orderly stop, a `kill -9` and a reboot.
//!
//! | record | shim | exit file | rule |
//! |---|---|---|---|
//! | yes | alive | - | it runs: take it over, with the network of its run record |
//! | running | gone | yes | it ended meanwhile: take over the exit, ask the restart policy |
//! | running | gone | no | it died with the machine: exit code 255 |
//! | created/exited | killed | no | with a run record it ran, and ended with its shim: exit code 255 |
//! | created/exited | gone | - | as it is; stale run records go |
//! | none | alive | - | nobody owns it: kill it |
//! | none | - | - | folder, volume folder: removed |
//! | yes, no folder | - | - | the power went before it reached the disk: made again |
//! | - | - | - | volume mounted that no live container has, source mounted for a start: unmounted |
//!
//! The bundle of another runtime's container without a live shim is taken apart by that runtime, and removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use network::{EndpointRecord, PortBinding};
use runtime::launcher::Shim;

use crate::Engine;
use crate::container::state::Phase;
use crate::container::{Container, Record, Run, RunNet, create, exit};
use crate::disk;
use crate::error::{Error, Result};
use crate::ids::ContainerId;

impl Engine {
    /// Makes memory, disk and kernel agree. Runs once, before the first request is taken.
    pub(crate) async fn recover(&self) -> Result<()> {
        let containers = self.load_records()?;
        runtime_sys::failpoint!("recover-records-read");
        let mut live: BTreeMap<String, Shim> = BTreeMap::new();
        // Of shims that were killed, a socket is what is left.
        let mut killed = BTreeSet::new();
        for id in self.launcher.live()? {
            match self.launcher.reconnect(&id).await {
                Ok(Some(shim)) => {
                    live.insert(id, shim);
                }
                Ok(None) => {
                    killed.insert(id);
                }
                Err(error) => tracing::warn!(container = %id, %error, "a shim does not answer"),
            }
        }
        runtime_sys::failpoint!("recover-shims-found");
        self.sweep_bundles(&containers, &live).await;
        let mut owned: Vec<(String, Option<EndpointRecord>, Vec<PortBinding>)> = Vec::new();
        let mut restarts = Vec::new();
        let mut over = Vec::new();
        for container in &containers {
            let id = container.id.to_string();
            match live.remove(&id) {
                Some(shim) => {
                    let net = self.run_net(&container.id);
                    owned.push((id, net.endpoint.clone(), net.ports.clone()));
                    self.take_over(container, shim, net)?;
                }
                None => over.extend(self.settle(container, killed.contains(&id), &mut restarts)),
            }
        }
        // A run record goes when the end of its run is on the disk: this daemon may be killed too, or the disk be full.
        if !over.is_empty() && self.store.db().commit(agent_store::Batch::new()).await.is_ok() {
            for record in over {
                let _ = disk::remove_file(&record);
            }
            for id in &killed {
                self.launcher.sweep(id);
            }
        }
        runtime_sys::failpoint!("recover-taken-over");
        for (id, shim) in live {
            tracing::warn!(container = %id, "a shim without a record: killed");
            let _ = shim.signal(nix::sys::signal::Signal::SIGKILL as i32).await;
            shim.wait().await;
            shim.release().await;
        }
        self.blocking(move |engine| Ok(engine.network.recover(owned)?)).await?;
        runtime_sys::failpoint!("recover-network-made");
        let all = containers.clone();
        self.blocking(move |engine| engine.recover_mounts(&all)).await?;
        runtime_sys::failpoint!("recover-mounts-made");
        self.remove_orphans(&containers)?;
        runtime_sys::failpoint!("recover-orphans-gone");
        for container in &containers {
            // What a container wrote while no daemon was there, also one that has ended.
            self.forward(container);
        }
        let starting: Arc<BTreeSet<String>> = Arc::new(restarts.iter().map(|one| one.id.to_string()).collect());
        for container in restarts {
            let starting = starting.clone();
            let engine = self.clone();
            // Detached: a slow start must not keep the daemon from being ready.
            self.tasks.spawn(async move {
                engine.await_links(&container, &starting).await;
                let _owner = container.op.lock().await;
                if container.phase().is_live() || container.lock().removed {
                    return;
                }
                if let Err(error) = engine.start_owned(&container).await {
                    tracing::warn!(container = %container.id, error = %error.chain(), "not started again");
                }
            });
        }
        Ok(())
    }

    /// Volumes of containers that run on stay mounted, all others are unmounted; so is what was mounted for a start.
    fn recover_mounts(&self, containers: &[Arc<Container>]) -> Result<()> {
        self.clear_stages()?;
        for container in containers {
            let inner = container.lock();
            if inner.run.is_some() {
                self.volumes.remember_holder(container.id.as_str(), &inner.record);
            }
        }
        self.volumes.unmount_unheld()
    }

    fn load_records(&self) -> Result<Vec<Arc<Container>>> {
        let mut containers = Vec::new();
        for (id, bytes) in self.store.db().scan(create::TABLE)? {
            let record: Record = serde_json::from_slice(&bytes).map_err(|source| Error::Record {
                what: format!("container {id}"),
                source,
            })?;
            if let Some(users) = &record.users {
                self.allotments.remember(&id, users);
            }
            self.make_folder(&record.id)?;
            let container = Arc::new(Container::new(record));
            self.index.insert(container.clone());
            containers.push(container);
        }
        Ok(containers)
    }

    /// A create does not wait for its folders to reach the disk, only for its record. What a start needs is made again.
    fn make_folder(&self, id: &ContainerId) -> Result<()> {
        let folder = self.places(id).data;
        if folder.is_dir() {
            return Ok(());
        }
        tracing::warn!(container = %id, "its folder was not there; its log is lost");
        create::make_folder(&folder)
    }

    fn run_net(&self, id: &ContainerId) -> RunNet {
        let path = self.places(id).run_record();
        match fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(net)) => net,
            Ok(Err(error)) => {
                tracing::warn!(container = %id, %error, "the run record cannot be read; its address is not known");
                RunNet::default()
            }
            Err(_) => RunNet::default(),
        }
    }

    /// It ran on while no daemon was there.
    fn take_over(&self, container: &Arc<Container>, shim: Shim, net: RunNet) -> Result<()> {
        let cgroup = match &net.group {
            Some(group) => runtime::cgroup::CgroupPath::new(&group.path)?,
            None => self.cgroup_path(&container.lock().record)?,
        };
        shim.set_exit_file(self.places(&container.id).exit_file());
        let (run, told) = {
            let mut inner = container.lock();
            let status = &mut inner.record.status;
            let before = status.clone();
            if !status.phase.is_live() {
                status.phase = Phase::Running;
            }
            status.pid = shim.pid();
            status.started_at = Some(shim.started_at());
            let (exits, told) = (status.exits, *status == before);
            inner.run = Some(Run {
                shim: shim.clone(),
                net,
                cgroup: cgroup.clone(),
            });
            container.announce(&inner);
            (exits, told)
        };
        // Of most containers the record says already how they are: a start that writes each anew takes seconds with many.
        if !told {
            self.save_soon(container);
        }
        self.watch_exit(container, shim, run);
        self.watch_health(container, run);
        self.watch_oom(container, cgroup, run);
        Ok(())
    }

    /// No shim: what the record says of a run is over. Returns that run's own record, which is of no use any more once the
    /// container's is on the disk.
    fn settle(&self, container: &Arc<Container>, killed: bool, restarts: &mut Vec<Arc<Container>>) -> Option<PathBuf> {
        let places = self.places(&container.id);
        let exit_record = runtime::exit::read_exit(&places.exit_file()).ok().flatten();
        let started = places.run_record().exists();
        let mut inner = container.lock();
        let before = inner.record.status.clone();
        let was_live = before.phase.is_live();
        let interrupted = matches!(inner.record.status.phase, Phase::Removing);
        // Of this run, not of the one before it.
        let finished = inner.record.status.finished_at;
        let exit_record = exit_record.filter(|exit| finished.is_none_or(|finished| exit.at > finished));
        // A run whose record was not written before the crash may have come to its end under the shim, or with it.
        if was_live || (started && (exit_record.is_some() || killed)) {
            let exit = exit_record.unwrap_or_else(|| Engine::exit_unknown(SystemTime::now()));
            let status = &mut inner.record.status;
            status.exits += 1;
            status.exit_code = exit.code;
            status.oom_killed = exit.oom;
            status.finished_at = Some(exit.at);
            status.started_at.get_or_insert(exit.at);
            status.pid = 0;
            status.phase = Phase::Exited;
        } else if inner.record.status.phase == Phase::Restarting {
            inner.record.status.phase = Phase::Exited;
        }
        let again = exit::wants_start_at_boot(&inner.record.host.restart_policy, &inner.record.status);
        let auto_remove = inner.record.host.auto_remove && inner.record.status.exits > 0;
        let told = inner.record.status == before;
        container.announce(&inner);
        drop(inner);
        if was_live || started {
            // Its shim may have been killed before it could.
            self.sweep_cgroup(container);
        }
        if !told {
            self.save_soon(container);
        }
        if interrupted || auto_remove {
            container.lock().record.status.phase = Phase::Exited;
            self.remove_later(container);
        } else if again {
            restarts.push(container.clone());
        }
        started.then(|| places.run_record())
    }

    /// Folders below the engine's own roots that no record owns.
    fn remove_orphans(&self, containers: &[Arc<Container>]) -> Result<()> {
        let known: BTreeSet<&str> = containers.iter().map(|container| container.id.as_str()).collect();
        let folder = self.config.data_root.join("containers");
        for entry in fs::read_dir(&folder).map_err(Error::io("list the containers' folders"))? {
            let entry = entry.map_err(Error::io("list the containers' folders"))?;
            if !entry.file_name().to_str().is_some_and(|name| known.contains(name)) {
                self.store.discard(&entry.path())?;
            }
        }
        // Before the run records, which tell of some.
        self.remove_orphan_groups(&known)?;
        let runs = self.config.exec_root.join("run");
        for entry in fs::read_dir(&runs)
            .map_err(Error::io("list the run records"))?
            .flatten()
        {
            let name = entry.file_name();
            let id = name
                .to_str()
                .and_then(|name| name.split('.').next())
                .unwrap_or_default();
            if !known.contains(id) {
                disk::remove_file(&entry.path()).map_err(Error::io("remove a stale run record"))?;
            }
        }
        for id in self.store.snapshots().list() {
            if !known.contains(id.as_str()) {
                self.store.snapshots().remove(&id)?;
            }
        }
        self.volumes.remove_orphans()?;
        Ok(())
    }
}
