//! Exec: a further process in a running container.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runtime::launcher::{Attach, ExecHandle};
use tokio::sync::watch;

use super::attach::{Attachment, pair};
use super::plan::is_own_runtime;
use super::state::{Phase, Request};
use super::{Container, Inner, create};
use crate::Engine;
use crate::error::{Error, Result};
use crate::events::EventKind;
use crate::ids::random_hex;

/// What is to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecRequest {
    pub argv: Vec<String>,
    pub env: Vec<String>,
    pub user: String,
    pub working_dir: String,
    pub tty: bool,
    pub privileged: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub detach_keys: String,
    /// Height, width; a later resize or the start may change it.
    pub console: Option<[u16; 2]>,
}

/// How an exec is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecStart {
    pub detach: bool,
    pub console: Option<[u16; 2]>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum ExecPhase {
    #[default]
    Created,
    Starting,
    Running {
        pid: i32,
    },
    Exited {
        pid: i32,
        code: i32,
    },
}

/// An exec as inspect shows it.
#[derive(Clone, Debug)]
pub struct ExecView {
    pub id: String,
    pub container: String,
    pub request: ExecRequest,
    pub phase: ExecPhase,
}

struct Exec {
    container: Arc<Container>,
    request: ExecRequest,
    phase: watch::Sender<ExecPhase>,
    handle: Mutex<Option<ExecHandle>>,
}

/// All execs that are known; those of a container end with it.
#[derive(Default)]
pub struct Execs {
    table: Mutex<BTreeMap<String, Arc<Exec>>>,
}

/// Ended execs kept per container for inspection.
const KEPT_PER_CONTAINER: usize = 64;
/// How long a request waits for an exec that is being started; dockerd's.
const START_PATIENCE: Duration = Duration::from_secs(10);

impl Execs {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Exec>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: &str) -> Result<Arc<Exec>> {
        self.lock()
            .get(id)
            .cloned()
            .ok_or_else(|| Error::NoSuchExec(id.to_owned()))
    }

    /// Ids of a container's execs that have not ended.
    pub fn of(&self, container: &str) -> Vec<String> {
        let alive = |exec: &Exec| !matches!(*exec.phase.borrow(), ExecPhase::Exited { .. });
        let table = self.lock();
        table
            .iter()
            .filter(|(_, e)| e.container.id.as_str() == container && alive(e))
            .map(|(id, _)| id.clone())
            .collect()
    }

    pub(crate) fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    /// Execs that were never started cannot be any more.
    pub(crate) fn container_ended(&self, container: &str) {
        self.lock().retain(|_, exec| {
            exec.container.id.as_str() != container || !matches!(*exec.phase.borrow(), ExecPhase::Created)
        });
    }

    pub(crate) fn container_removed(&self, container: &str) {
        self.lock().retain(|_, exec| exec.container.id.as_str() != container);
    }

    fn insert(&self, id: String, exec: Exec) {
        let mut table = self.lock();
        let container = exec.container.id.as_str();
        let ended: Vec<String> = table
            .iter()
            .filter(|(_, e)| {
                e.container.id.as_str() == container && matches!(*e.phase.borrow(), ExecPhase::Exited { .. })
            })
            .map(|(id, _)| id.clone())
            .collect();
        if ended.len() >= KEPT_PER_CONTAINER {
            for id in &ended[..ended.len() / 2] {
                table.remove(id);
            }
        }
        table.insert(id, Arc::new(exec));
    }
}

/// An exec that nobody else can start. Dropped without a launch, it can be started again.
pub struct AdmittedExec {
    engine: Engine,
    exec: Option<Arc<Exec>>,
    id: String,
}

impl AdmittedExec {
    /// Starts it. `None` when detached; else the stream of its output and input.
    pub async fn launch(mut self, start: ExecStart) -> Result<Option<Attachment>> {
        let Some(exec) = self.exec.take() else {
            return Err(Error::CutOff);
        };
        let (engine, id, launched) = (self.engine.clone(), self.id.clone(), exec.clone());
        let result = self
            .engine
            .detached(async move { engine.exec_launch(launched, &id, start).await })
            .await;
        if result.is_err() {
            // Also when it was cut off: nobody waits for the end of what never ran.
            exec.phase.send_if_modified(|phase| {
                let cut = *phase == ExecPhase::Starting;
                if cut {
                    *phase = ExecPhase::Exited { pid: 0, code: 126 };
                }
                cut
            });
        }
        result
    }
}

impl Drop for AdmittedExec {
    fn drop(&mut self) {
        if let Some(exec) = &self.exec {
            exec.phase.send_replace(ExecPhase::Created);
        }
    }
}

/// Whether a further process may be started; Docker has words of its own for a paused container.
fn admit_exec(container: &Container, inner: &Inner) -> Result<()> {
    container.admit(inner, Request::Exec).map_err(|error| match error {
        Error::Conflict(_) if inner.record.status.phase == Phase::Paused => Error::Conflict(format!(
            "Container {} is paused, unpause the container before exec",
            container.id
        )),
        other => other,
    })
}

impl Engine {
    /// Registers an exec in a running container.
    pub async fn exec_create(&self, target: &str, request: ExecRequest) -> Result<String> {
        let container = self.container(target)?;
        {
            let inner = container.lock();
            admit_exec(&container, &inner)?;
        }
        if request.argv.is_empty() || request.argv[0].is_empty() {
            return Err(Error::invalid("No exec command specified"));
        }
        if !request.working_dir.is_empty() && !request.working_dir.starts_with('/') {
            return Err(Error::invalid(format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                request.working_dir
            )));
        }
        if request.argv.iter().chain(&request.env).any(|word| word.contains('\0')) {
            return Err(Error::invalid(
                "invalid exec: an argument or variable contains a NUL byte",
            ));
        }
        let id = random_hex();
        let action = format!("exec_create: {}", request.argv.join(" "));
        let attributes = create::with(container.event_attributes(), [("execID", id.clone())]);
        let exec = Exec {
            container: container.clone(),
            request,
            phase: watch::Sender::new(ExecPhase::Created),
            handle: Mutex::new(None),
        };
        self.execs.insert(id.clone(), exec);
        self.journal
            .record(EventKind::Container, action, container.id.as_str(), attributes);
        Ok(id)
    }

    /// Whether an exec may be started, which is then the caller's alone to do: nothing runs before [`AdmittedExec::launch`].
    pub fn exec_admit(&self, id: &str) -> Result<AdmittedExec> {
        let exec = self.execs.get(id)?;
        admit_exec(&exec.container, &exec.container.lock())?;
        let mut refused = None;
        exec.phase.send_if_modified(|phase| {
            match phase {
                ExecPhase::Created => *phase = ExecPhase::Starting,
                ExecPhase::Starting | ExecPhase::Running { .. } => refused = Some("is already running"),
                ExecPhase::Exited { .. } => refused = Some("has already run"),
            }
            refused.is_none()
        });
        if let Some(why) = refused {
            return Err(Error::Conflict(format!("exec command {id} {why}")));
        }
        Ok(AdmittedExec {
            engine: self.clone(),
            exec: Some(exec),
            id: id.to_owned(),
        })
    }

    async fn exec_launch(&self, exec: Arc<Exec>, id: &str, start: ExecStart) -> Result<Option<Attachment>> {
        let launched = self.exec_try(&exec, start).await;
        let (handle, attachment) = launched.inspect_err(|error| {
            let code = match error {
                Error::ExecStart { source, .. } if source.kind() == runtime::launcher::StartErrorKind::NotFound => 127,
                _ => 126,
            };
            exec.phase.send_replace(ExecPhase::Exited { pid: 0, code });
        })?;
        let container = &exec.container;
        let pid = handle.pid();
        // Before the phase: who waited for that finds the handle.
        *exec.handle.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle.clone());
        exec.phase.send_replace(ExecPhase::Running { pid });
        let attributes = create::with(container.event_attributes(), [("execID", id.to_owned())]);
        let action = format!("exec_start: {}", exec.request.argv.join(" "));
        self.journal
            .record(EventKind::Container, action, container.id.as_str(), attributes);
        let (engine, exec, id) = (self.clone(), exec.clone(), id.to_owned());
        tokio::spawn(async move {
            let exit = handle.wait().await;
            exec.handle.lock().unwrap_or_else(PoisonError::into_inner).take();
            exec.phase.send_replace(ExecPhase::Exited { pid, code: exit.code });
            let attributes = create::with(
                exec.container.event_attributes(),
                [("execID", id), ("exitCode", exit.code.to_string())],
            );
            engine
                .journal
                .record(EventKind::Container, "exec_die", exec.container.id.as_str(), attributes);
        });
        Ok(attachment)
    }

    async fn exec_try(&self, exec: &Exec, start: ExecStart) -> Result<(ExecHandle, Option<Attachment>)> {
        let (container, request) = (&exec.container, &exec.request);
        let (shim, record) = {
            let inner = container.lock();
            // Once more: it may have been paused or have ended since the exec was admitted.
            admit_exec(container, &inner)?;
            let run = inner
                .run
                .as_ref()
                .ok_or_else(|| Error::NotRunning(container.id.clone()))?;
            (run.shim.clone(), inner.record.clone())
        };
        let mut attachment = None;
        let mut theirs = None;
        if !start.detach {
            let (stream, socket) = pair()?;
            attachment = Some(Attachment {
                stream,
                tty: request.tty,
                stdin: request.stdin,
            });
            theirs = Some(Attach {
                socket,
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
            });
        }
        let compiled = self.compile_exec(&record, request, start);
        let compiled = compiled.and_then(|plan| match is_own_runtime(&record.host.runtime) {
            true => Ok(plan),
            false => self.hand_over_exec(plan),
        });
        let handle = shim.exec(compiled?, theirs).await.map_err(|source| Error::ExecStart {
            id: container.id.clone(),
            source,
        })?;
        runtime_sys::failpoint!("exec-started");
        Ok((handle, attachment))
    }

    /// Waits until an exec ended; its exit code.
    pub async fn exec_wait(&self, id: &str) -> Result<i32> {
        let exec = self.execs.get(id)?;
        let mut phase = exec.phase.subscribe();
        let ended = phase.wait_for(|phase| matches!(phase, ExecPhase::Exited { .. })).await;
        match ended.as_deref() {
            Ok(ExecPhase::Exited { code, .. }) => Ok(*code),
            _ => Err(Error::CutOff),
        }
    }

    pub fn exec_inspect(&self, id: &str) -> Result<ExecView> {
        let exec = self.execs.get(id)?;
        let phase = exec.phase.borrow().clone();
        Ok(ExecView {
            id: id.to_owned(),
            container: exec.container.id.to_string(),
            request: exec.request.clone(),
            phase,
        })
    }

    pub async fn exec_resize(&self, id: &str, rows: u16, cols: u16) -> Result<()> {
        let exec = self.execs.get(id)?;
        // Clients send the size as soon as they have their stream, and that comes before the process. It is over by
        // itself; the bound is for a shim that hangs.
        let mut phase = exec.phase.subscribe();
        let begun = phase.wait_for(|phase| *phase != ExecPhase::Starting);
        let _ = tokio::time::timeout(START_PATIENCE, begun).await;
        let handle = exec.handle.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let handle = handle.ok_or_else(|| Error::Conflict(format!("exec {id} is not running")))?;
        if !exec.request.tty {
            return Ok(());
        }
        handle.resize(rows, cols).await.map_err(|source| Error::Runtime {
            id: exec.container.id.clone(),
            source,
        })
    }

    /// Kills an exec that overstayed its time.
    pub(crate) async fn exec_kill(&self, id: &str) {
        let Ok(exec) = self.execs.get(id) else { return };
        let handle = exec.handle.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(handle) = handle {
            // It may have ended by itself; either way it is gone afterwards.
            let _ = handle.signal(nix::sys::signal::Signal::SIGKILL as i32).await;
        }
    }
}
