//! Start: reserve the network, compile the plan, hand it to a shim, answer when the program's `exec` was seen.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use network::EndpointSpec;
use runtime::launcher::StartFds;

use super::state::{Denied, Phase, Request};
use super::validate::{Share, ipc_share, network_share, pid_share};
use super::{Container, Record, Run, RunNet, files, ports};
use crate::Engine;
use crate::disk;
use crate::error::{Error, Result};
use crate::events::EventKind;
use crate::ids::ContainerId;

/// Namespace of another process, by its file below `/proc/PID/ns`.
pub(crate) fn namespace_of(pid: i32, kind: &str) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/{kind}");
    let file = std::fs::File::open(&path).map_err(Error::io(format!("open {path}")))?;
    Ok(file.into())
}

/// Namespaces that the plan joins, by kind, in the order in which their descriptors are sent.
#[derive(Default)]
pub(crate) struct Joined {
    pub kinds: Vec<u64>,
    pub fds: Vec<OwnedFd>,
    /// Who is who in the user namespace, if one is joined.
    pub users: Option<runtime::plan::IdMap>,
}

impl Joined {
    pub fn add(&mut self, kind: nix::sched::CloneFlags, fd: OwnedFd) {
        self.kinds.push(kind.bits() as u64);
        self.fds.push(fd);
    }
}

impl Engine {
    /// Starts a container. `Ok(false)`: it runs already.
    pub async fn start(&self, container: &Arc<Container>) -> Result<bool> {
        let (engine, container) = (self.clone(), container.clone());
        self.detached(async move {
            let _owner = container.op.lock().await;
            {
                let mut inner = container.lock();
                if inner.record.status.phase.admit(Request::Start) == Err(Denied::AlreadySo) {
                    return Ok(false);
                }
                container.admit(&inner, Request::Start)?;
                inner.record.status.stopped_by_user = false;
                inner.record.status.restart_count = 0;
                inner.backoff = super::exit::Backoff::default();
            }
            engine.start_owned(&container).await?;
            Ok(true)
        })
        .await
    }

    /// The start itself; the caller owns the container's `op`.
    pub(crate) async fn start_owned(&self, container: &Arc<Container>) -> Result<()> {
        let _turn = self.starts.acquire().await.map_err(|_| Error::ShuttingDown)?;
        match self.launch(container).await {
            Ok(()) => Ok(()),
            Err(error) => {
                let (code, text) = match &error {
                    Error::Start { source, .. } => (exit_code(source.kind()), source.to_string()),
                    other => (128, other.chain()),
                };
                {
                    let mut inner = container.lock();
                    let status = &mut inner.record.status;
                    // A first start that fails leaves it `created`, as Docker does.
                    status.phase = if status.exits == 0 {
                        Phase::Created
                    } else {
                        Phase::Exited
                    };
                    status.exit_code = code;
                    status.error = text;
                    status.pid = 0;
                    status.exits += 1;
                    // Clients that attached for this start see the end of their streams.
                    inner.pending.clear();
                    container.announce(&inner);
                }
                self.save_soon(container);
                let attributes = super::create::with(container.event_attributes(), [("exitCode", code.to_string())]);
                self.journal
                    .record(EventKind::Container, "die", container.id.as_str(), attributes);
                if container.lock().record.host.auto_remove {
                    self.remove_later(container);
                }
                Err(error)
            }
        }
    }

    async fn launch(&self, container: &Arc<Container>) -> Result<()> {
        container.settled().await;
        self.layers_free(container).await?;
        let record = {
            let mut inner = container.lock();
            inner.record.take_next();
            inner.record.clone()
        };
        let id = container.id.as_str();
        self.log_can_be_sent(&record).await?;
        if !record.host.storage_opt.is_empty() {
            let id = id.to_owned();
            self.blocking(move |engine| Ok(engine.store.snapshots().hold_size(&id)?))
                .await?;
        }
        let mut net = RunNet::default();
        let launched = match self.mount_sources(&record).await {
            // What is staged goes when the shim has answered: the container has its own copies then.
            Ok(_staged) => self.hand_to_shim(container, &record, &mut net).await,
            Err(error) => Err(error),
        };
        let shim = match launched {
            Ok(shim) => shim,
            Err(error) => {
                if matches!(&error, Error::Start { source, .. } if source.is_shim_gone()) {
                    self.sweep_shim(container).await;
                }
                self.release_network(id, &net);
                self.release_volumes(id, &record).await;
                self.remove_bundle(&record);
                let _ = disk::remove_file(&self.places(&container.id).run_record());
                return Err(error);
            }
        };
        runtime_sys::failpoint!("start-running");
        let cgroup = self.cgroup_path(&record)?;
        let run = {
            let mut inner = container.lock();
            let status = &mut inner.record.status;
            status.phase = Phase::Running;
            status.pid = shim.pid();
            status.started_at = Some(shim.started_at());
            status.error.clear();
            status.exit_code = 0;
            status.oom_killed = false;
            let exits = status.exits;
            inner.run = Some(Run {
                shim: shim.clone(),
                net,
                cgroup: cgroup.clone(),
            });
            container.announce(&inner);
            exits
        };
        runtime_sys::failpoint!("start-told");
        self.follow_links(container);
        // The run record and the shim's socket already tell a restarted daemon that it runs; this one is for a reboot.
        self.save_soon(container);
        self.journal
            .record(EventKind::Container, "start", id, container.event_attributes());
        self.watch_exit(container, shim, run);
        self.watch_health(container, run);
        self.watch_oom(container, cgroup, run);
        Ok(())
    }

    async fn hand_to_shim(
        &self,
        container: &Arc<Container>,
        record: &Record,
        net: &mut RunNet,
    ) -> Result<runtime::launcher::Shim> {
        let (plan, joined) = self.prepare(record, net).await?;
        runtime_sys::failpoint!("start-planned");
        let attach = std::mem::take(&mut container.lock().pending);
        let fds = StartFds {
            joined: joined.fds,
            attach,
        };
        self.launcher.start(plan, fds).await.map_err(|source| Error::Start {
            id: container.id.clone(),
            source,
        })
    }

    /// Mounts volumes that have to be, and stages what has no path of its own. Most containers need neither, and no thread.
    async fn mount_sources(&self, record: &Record) -> Result<Option<super::stage::Staged>> {
        if !record.mounts.iter().any(super::stage::is_staged) && !self.has_mounted_volumes(record) {
            return Ok(None);
        }
        let record = record.clone();
        self.blocking(move |engine| {
            engine.hold_volumes(&record)?;
            engine.stage(&record)
        })
        .await
    }

    /// All that comes before the shim is asked: network, files, plan. `net` tells the caller what to give back on failure.
    async fn prepare(&self, record: &Record, net: &mut RunNet) -> Result<(runtime::plan::Plan, Joined)> {
        let mut joined = Joined::default();
        let injected = self.injected(record)?;
        self.join_namespaces(record, &mut joined)?;
        let share = network_share(&record.host)?;
        let mut gateway = None;
        match share {
            Share::Host => {}
            Share::Container(_) => {}
            // Made by the shim.
            Share::Own if self.owns_network(record) => {}
            Share::Own if record.host.network_mode == "none" || record.config.network_disabled => {
                let netns = self.empty_netns().await?;
                joined.add(nix::sched::CloneFlags::CLONE_NEWNET, netns);
            }
            Share::Own => {
                let wanted = ports::requests(&record.config, &record.host)?;
                let mac = match record.config.mac_address.as_str() {
                    "" => None,
                    text => Some(ports::mac(text)?),
                };
                let endpoint = self
                    .endpoint(EndpointSpec {
                        mac,
                        ..EndpointSpec::default()
                    })
                    .await?;
                net.endpoint = Some(endpoint.record.clone());
                if !wanted.is_empty() {
                    // Microseconds: one netlink transaction, no wait.
                    let owner = record.id.to_string();
                    net.ports = self
                        .network
                        .publish(&owner, &endpoint.record, &wanted)
                        .map_err(|source| Error::Ports { owner, source })?;
                }
                gateway = Some(std::net::IpAddr::from(endpoint.record.gateway));
                joined.add(nix::sched::CloneFlags::CLONE_NEWNET, endpoint.netns);
            }
        }
        runtime_sys::failpoint!("start-connected");
        let places = self.places(&record.id);
        if let Share::Container(target) = network_share(&record.host)? {
            // Shares the other one's files too; they are bound from its folder by the plan.
            self.container(&target)?;
        } else {
            let address = net
                .endpoint
                .as_ref()
                .map(|endpoint| std::net::IpAddr::from(endpoint.ip));
            let host_network = network_share(&record.host)? == Share::Host;
            let links = self.link_hosts(record)?;
            files::write(&places, record, &self.config, host_network, address, gateway, &links)?;
            if !record.host.storage_opt.is_empty() {
                // A container writes to these as it likes.
                for file in [places.hosts(), places.hostname(), places.resolv_conf()] {
                    self.store.snapshots().count_in(record.id.as_str(), &file)?;
                }
            }
        }
        runtime_sys::failpoint!("start-files-written");
        net.group = Some(self.group(record)?);
        self.write_run(&record.id, net)?;
        runtime_sys::failpoint!("start-run-recorded");
        disk::remove_file(&places.exit_file()).map_err(Error::io("remove the last exit record"))?;
        let mut plan = self.compile(record, &joined.kinds, &injected)?;
        self.remap(record, &mut plan, &joined, &injected)?;
        if injected.has_hooks() {
            self.write_bundle(record, &plan)?;
        }
        if let Some(program) = &self.runtime(&record.host.runtime)? {
            self.hand_over(record, program, &mut plan, &joined.fds, &injected)?;
        }
        Ok((plan, joined))
    }

    /// Writes what the network has given to a run, for the next daemon.
    pub(super) fn write_run(&self, id: &ContainerId, net: &RunNet) -> Result<()> {
        let run = serde_json::to_vec(net).map_err(|source| Error::Record {
            what: "run".into(),
            source,
        })?;
        disk::write_atomic(&self.places(id).run_record(), &run).map_err(Error::io("write the run record"))
    }

    /// A warm endpoint takes microseconds; making one takes milliseconds and moves off the async threads.
    async fn endpoint(&self, spec: EndpointSpec) -> Result<network::Endpoint> {
        if spec == EndpointSpec::default()
            && let Some(endpoint) = self.network.ready_endpoint()
        {
            return Ok(endpoint);
        }
        self.blocking(move |engine| Ok(engine.network.bridge_endpoint(spec)?))
            .await
    }

    /// As [`Engine::endpoint`], for a namespace with nothing but a loopback.
    async fn empty_netns(&self) -> Result<OwnedFd> {
        match self.network.ready_netns() {
            Some(netns) => Ok(netns),
            None => self.blocking(|engine| Ok(engine.network.empty_netns()?)).await,
        }
    }

    fn join_namespaces(&self, record: &Record, joined: &mut Joined) -> Result<()> {
        use nix::sched::CloneFlags as Ns;
        let shares = [
            (network_share(&record.host)?, Ns::CLONE_NEWNET, "net", "network"),
            (pid_share(&record.host)?, Ns::CLONE_NEWPID, "pid", "PID"),
            (ipc_share(&record.host)?, Ns::CLONE_NEWIPC, "ipc", "IPC"),
        ];
        let mut others = Vec::new();
        for (share, kind, file, what) in shares {
            let Share::Container(target) = share else { continue };
            let other = self.container(&target)?;
            let (phase, pid) = {
                let inner = other.lock();
                (inner.record.status.phase, inner.record.status.pid)
            };
            if !phase.is_live() {
                return Err(Error::Conflict(format!(
                    "cannot join the {what} namespace of a container that is not running: {target}"
                )));
            }
            joined.add(kind, namespace_of(pid, file)?);
            others.push((target.clone(), pid));
            if kind == Ns::CLONE_NEWIPC {
                // Shared memory is shared with it: /dev/shm is bound out of the other's mount namespace.
                joined.kinds.push(super::plan::FOR_BINDS);
                joined.fds.push(namespace_of(pid, "mnt")?);
            }
        }
        self.join_users(record, &others, joined)
    }

    /// Gives back what `prepare` took from the network.
    pub(crate) fn release_network(&self, owner: &str, net: &RunNet) {
        let Some(endpoint) = &net.endpoint else { return };
        if !net.ports.is_empty()
            && let Err(error) = self.network.unpublish(owner)
        {
            tracing::warn!(container = owner, %error, "the ports of an ended container could not be taken back");
        }
        self.network.release(endpoint);
    }
}

/// Exit code that Docker records for a start that failed.
fn exit_code(kind: runtime::launcher::StartErrorKind) -> i32 {
    match kind {
        runtime::launcher::StartErrorKind::NotFound => 127,
        runtime::launcher::StartErrorKind::NotExecutable => 126,
        runtime::launcher::StartErrorKind::UserNotFound
        | runtime::launcher::StartErrorKind::NoProcess
        | runtime::launcher::StartErrorKind::Other => 128,
    }
}
