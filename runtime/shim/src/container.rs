//! The container's life in the shim: its first process, its execs, its end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use runtime::exit::write_exit;
use runtime::log::LogWriter;
use runtime::plan::{ExecPlan, Head};
use runtime::proto::{ExitStatus, Failure, INIT, Step, Streams, Time};
use runtime_container::failure::{At, Result, failure};
use runtime_container::{Entered, cgroup, outside};
use runtime_sys::clone::{Ended, reap};
use runtime_sys::epoll::{Epoll, READ};
use runtime_sys::seqpacket;

use crate::process::Process;
use crate::pump::Context;
use crate::token::Token;
use crate::{Shim, foreign, spawn};

/// How long a daemon that is there has to record an exit before the shim does so too; one that goes away loses its turn
/// at once. The daemon's record makes ours superfluous, and a synced file costs more than all else at a container's end.
const DAEMONS_TURN: Duration = Duration::from_secs(1);

/// How long a cgroup may stay busy with processes that are dying.
const CGROUP_PATIENCE: Duration = Duration::from_secs(2);

pub struct Container {
    pub head: Head,
    pub init: Process,
    pub execs: Vec<Process>,
    pub started: Option<Time>,
    pub exit: Option<ExitStatus>,
    pub listener: Option<OwnedFd>,
    log: LogWriter,
    next_exec: u32,
    /// When the exit record is due to be written; `None`: written, or not due.
    record_at: Option<Instant>,
    cgroups_removed: bool,
    /// Keeps the container's mounts beyond the end of its processes. Taking them apart waits for an RCU grace period
    /// (measured: 1 ms on an idle machine, 5-15 ms on a busy one), which nobody has to wait for.
    mounts: Option<OwnedFd>,
    /// The daemon has recorded the exit.
    pub released: bool,
    /// Children that ended before another runtime told us whose they are.
    pub strays: Vec<Ended>,
    /// Another runtime has forgotten the container, and its bundle is gone.
    forgotten: bool,
}

impl Container {
    /// Starts the set-up. On failure nothing is left.
    pub fn start(
        shim: &Shim,
        plan: &[u8],
        joined: &[OwnedFd],
        clients: Vec<(OwnedFd, Streams)>,
        asked_by: (u32, u32),
        epoll: &Epoll,
    ) -> Result<Container> {
        let head = Head::of_plan(plan).map_err(|error| failure(Step::Plan, "", Errno::EINVAL, error.to_string()))?;
        let (mut init, clients) = match &head.foreign {
            None => (spawn::container(shim, &head, plan, joined, asked_by, epoll)?, clients),
            Some(runtime) => (foreign::container(runtime, &head, plan, clients, asked_by)?, Vec::new()),
        };
        let prepared = Container::prepare(&head, &mut init, clients, epoll);
        match prepared {
            Ok((log, listener)) => Ok(Container {
                mounts: match &head.foreign {
                    None => mount_namespace(shim, init.pid),
                    Some(_) => None,
                },
                head,
                init,
                execs: Vec::new(),
                started: None,
                exit: None,
                listener: Some(listener),
                log,
                next_exec: INIT + 1,
                record_at: None,
                cgroups_removed: false,
                released: false,
                strays: Vec::new(),
                forgotten: false,
            }),
            Err(failure) => {
                let _ = init.signal(libc::SIGKILL);
                let _ = reap(init.pid, true);
                if let Some(runtime) = &head.foreign {
                    foreign::forget(runtime, &head.id);
                }
                outside::remove(&head, CGROUP_PATIENCE);
                Err(failure)
            }
        }
    }

    /// What the shim does while the child mounts.
    fn prepare(
        head: &Head,
        init: &mut Process,
        clients: Vec<(OwnedFd, Streams)>,
        epoll: &Epoll,
    ) -> Result<(LogWriter, OwnedFd)> {
        for (socket, streams) in clients {
            init.pump
                .attach(socket, streams, epoll)
                .at(Step::Streams, "attached client")?;
        }
        let log = LogWriter::open(&head.log).at(Step::Log, log_path(head))?;
        let listener = listen(&head.socket).at(Step::Socket, &head.socket)?;
        epoll
            .watch(listener.as_fd(), Token::Listener.pack(), READ)
            .at(Step::Socket, &head.socket)?;
        Ok((log, listener))
    }

    /// Takes back everything of a container whose first process never ran its program.
    pub fn abandon(&mut self) {
        self.mounts = None;
        if !self.init.ended {
            let _ = self.init.signal(libc::SIGKILL);
            let _ = reap(self.init.pid, true);
        }
        self.remove_cgroups();
        self.stop_listening();
    }

    pub fn stop_listening(&mut self) {
        if self.listener.take().is_some() {
            let _ = std::fs::remove_file(&self.head.socket);
        }
    }

    pub fn process(&mut self, number: u32) -> Option<&mut Process> {
        if number == INIT {
            return Some(&mut self.init);
        }
        self.execs.iter_mut().find(|exec| exec.number == number)
    }

    /// All processes, the first one first.
    pub fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        std::iter::once(&mut self.init).chain(&mut self.execs)
    }

    /// Lends a process' pump what it needs; only the first process has a log.
    pub fn with_process(
        &mut self,
        number: u32,
        epoll: &Epoll,
        buffer: &mut [u8],
        work: impl FnOnce(&mut Process, &mut Context<'_>),
    ) {
        if number == INIT {
            work(
                &mut self.init,
                &mut Context {
                    epoll,
                    buffer,
                    log: Some(&mut self.log),
                },
            );
        } else if let Some(exec) = self.execs.iter_mut().find(|exec| exec.number == number) {
            work(
                exec,
                &mut Context {
                    epoll,
                    buffer,
                    log: None,
                },
            );
        }
    }

    /// Starts a further process in the container.
    pub fn exec(
        &mut self,
        shim: &Shim,
        plan: &ExecPlan,
        client: Option<(OwnedFd, Streams)>,
        asked_by: (u32, u32),
        epoll: &Epoll,
    ) -> Result<()> {
        if self.started.is_none() || self.exit.is_some() {
            return Err(failure(
                Step::Join,
                &self.head.id,
                Errno::ESRCH,
                "the container is not running",
            ));
        }
        let number = self.next_exec;
        self.next_exec += 1;
        if let Some(runtime) = &self.head.foreign {
            let process = foreign::exec(runtime, &self.head.id, number, plan, client, asked_by)?;
            self.execs.push(process);
            return Ok(());
        }
        let mut process = spawn::exec(shim, number, plan, self.entered(), asked_by, epoll)?;
        if let Some((socket, streams)) = client {
            process
                .pump
                .attach(socket, streams, epoll)
                .at(Step::Streams, "attached client")?;
        }
        self.execs.push(process);
        Ok(())
    }

    /// The container, for a process that enters it.
    fn entered(&self) -> Entered<'_> {
        let namespaces = &self.head.namespaces;
        Entered {
            init: self.init.pidfd.as_fd(),
            pid: self.init.pid,
            namespaces: namespaces
                .joined
                .iter()
                .fold(namespaces.new, |all, joined| all | joined.kind),
            cgroup: &self.head.cgroup,
        }
    }

    /// A process has ended: reads its output to the end and says how it ended. The first process takes along what its
    /// namespace did not.
    pub fn ended(&mut self, number: u32, ended: &Ended, epoll: &Epoll, buffer: &mut [u8]) -> ExitStatus {
        let at = Time::now();
        if number == INIT && !self.owns_pid_namespace() {
            cgroup::kill(&self.head.cgroup);
        }
        self.with_process(number, epoll, buffer, |process, context| {
            process.ended = true;
            process.pump.end(context);
        });
        let oom = number == INIT && cgroup::oom(&self.head.cgroup);
        let status = ExitStatus {
            code: ended.code,
            signal: ended.signal,
            oom,
            at,
        };
        if number == INIT {
            self.exit = Some(status.clone());
            self.record_at = Some(Instant::now() + DAEMONS_TURN);
        }
        status
    }

    fn owns_pid_namespace(&self) -> bool {
        self.head.namespaces.new & libc::CLONE_NEWPID as u64 != 0
    }

    /// Writes the exit record when it is due, or at once when nobody else will.
    pub fn record(&mut self, now: bool) {
        let Some(due) = self.record_at else { return };
        if now || Instant::now() >= due {
            self.record_at = None;
            self.let_mounts_go();
            if let Some(exit) = &self.exit {
                // A full or lost disk: the exit is still told over the socket, and nothing better can be done.
                let _ = write_exit(&self.head.exit_file, exit);
            }
        }
    }

    /// How long the event loop may sleep.
    pub fn next_due(&self) -> Option<Duration> {
        self.record_at.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// The daemon has recorded the exit. An errno when something is left behind.
    pub fn release(&mut self) -> i32 {
        if self.exit.is_none() {
            return libc::EBUSY;
        }
        self.record_at = None;
        self.released = true;
        let removed = self.remove_cgroups();
        self.stop_listening();
        if removed { 0 } else { libc::ENOTEMPTY }
    }

    /// Lets the kernel take the container's mounts apart.
    pub fn let_mounts_go(&mut self) {
        self.mounts = None;
    }

    /// Removes the cgroups, once.
    pub fn remove_cgroups(&mut self) -> bool {
        if let Some(runtime) = self.head.foreign.as_ref().filter(|_| !self.forgotten) {
            self.forgotten = true;
            foreign::forget(runtime, &self.head.id);
        }
        if !self.cgroups_removed {
            self.cgroups_removed = outside::remove(&self.head, CGROUP_PATIENCE);
        }
        self.cgroups_removed
    }

    /// Whether every client has what is theirs.
    pub fn is_drained(&self) -> bool {
        self.init.pump.is_idle() && self.execs.iter().all(|exec| exec.pump.is_idle())
    }

    /// Forgets execs with which there is nothing left to do.
    pub fn sweep(&mut self) {
        self.execs.retain(|exec| !exec.ended || !exec.pump.is_idle());
    }
}

/// Listens where a shim of this container that was killed may have left its socket, but not where one lives.
fn listen(path: &Path) -> io::Result<OwnedFd> {
    match seqpacket::listen(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && seqpacket::connect(path).is_err() => {
            std::fs::remove_file(path)?;
            seqpacket::listen(path)
        }
        other => other,
    }
}

/// The mount namespace of our unreaped child; `None` costs only time at its end.
fn mount_namespace(shim: &Shim, pid: i32) -> Option<OwnedFd> {
    let path = format!("{pid}/ns/mnt");
    shim.host.open_proc(&path, OFlag::O_RDONLY).ok()
}

fn log_path(head: &Head) -> std::ffi::OsString {
    use runtime::plan::LogTarget::{JsonFile, Local, None};
    match &head.log {
        None => Default::default(),
        Local { path, .. } | JsonFile { path, .. } => path.clone().into_os_string(),
    }
}

/// A failure of a request that is not a failed start.
pub fn refusal(errno: Errno, message: &str) -> Failure {
    failure(Step::Plan, "", errno, message)
}
