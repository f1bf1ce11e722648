//! What a shim keeps for a container beside its first process: log, socket, groups, mounts, exit record.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use runtime::exit::write_exit;
use runtime::log::LogWriter;
use runtime::plan::{CgroupPlan, Head};
use runtime::proto::{ExitStatus, Failure, INIT, Place, Step};
use runtime_container::failure::{At, Result, failure};
use runtime_container::{cgroup, outside};
use runtime_sys::clone::Ended;
use runtime_sys::epoll::{Epoll, READ};
use runtime_sys::seqpacket;

use crate::process::Process;
use crate::token::Token;
use crate::{Shim, foreign};

/// How long a daemon that is there has to record an exit before the shim does so too; one that goes away loses its turn
/// at once. The daemon's record makes ours superfluous, and a synced file costs more than all else at a container's end.
const DAEMONS_TURN: Duration = Duration::from_secs(1);

/// How often an exit record that a full disk did not take is tried again.
const FULL_DISK_RETRY: Duration = Duration::from_secs(1);

/// How long a cgroup may stay busy with processes that are dying.
const CGROUP_PATIENCE: Duration = Duration::from_secs(2);

pub struct Container {
    pub head: Head,
    pub listener: Option<OwnedFd>,
    log: Option<LogWriter>,
    /// When the exit record is due to be written; `None`: written, or not due.
    record_at: Option<Instant>,
    cgroups_removed: bool,
    /// Keeps the container's mounts beyond the end of its processes. Taking them apart waits for an RCU grace period
    /// (measured: 1 ms on an idle machine, 5-15 ms on a busy one), which nobody has to wait for.
    mounts: Option<OwnedFd>,
    /// The daemon has recorded the exit.
    pub released: bool,
    /// Further processes, which another runtime makes here. Those of a container of ours have shims of their own.
    pub execs: Vec<Process>,
    pub last_exec: u32,
    /// Children that ended before another runtime told us whose they are.
    pub strays: Vec<Ended>,
    /// Another runtime has forgotten the container, and its bundle is gone.
    forgotten: bool,
}

impl Container {
    /// `pid` is its first process, our unreaped child.
    pub fn new(shim: &Shim, head: Head, pid: i32) -> Container {
        Container {
            mounts: match &head.foreign {
                None => mount_namespace(shim, pid),
                Some(_) => None,
            },
            head,
            listener: None,
            log: None,
            record_at: None,
            cgroups_removed: false,
            released: false,
            execs: Vec::new(),
            last_exec: INIT,
            strays: Vec::new(),
            forgotten: false,
        }
    }

    /// What the shim does while the child mounts.
    pub fn prepare(&mut self, epoll: &Epoll) -> Result<()> {
        let head = &self.head;
        self.log = Some(LogWriter::open(&head.log).at(Step::Log, log_path(head))?);
        let listener = self
            .listener
            .insert(listen(&head.socket).at(Step::Socket, &head.socket)?);
        epoll
            .watch(listener.as_fd(), Token::Listener.pack(), READ)
            .at(Step::Socket, &head.socket)
    }

    /// Takes back everything of a container whose first process never ran its program.
    pub fn clear(&mut self) {
        self.mounts = None;
        self.remove_cgroups();
        self.stop_listening();
    }

    pub fn stop_listening(&mut self) {
        if self.listener.take().is_some() {
            let _ = std::fs::remove_file(&self.head.socket);
        }
    }

    pub fn log(&mut self) -> Option<&mut LogWriter> {
        self.log.as_mut()
    }

    /// What a process that enters the container needs to know.
    pub fn place(&self, pid: i32) -> Place {
        let (namespaces, cgroup) = (&self.head.namespaces, &self.head.cgroup);
        Place {
            pid,
            namespaces: namespaces.kinds(),
            // Where they are; how they are made is nobody's matter any more.
            cgroup: CgroupPlan {
                own: cgroup.own.clone(),
                late: cgroup.late.clone(),
                join: cgroup.join.clone(),
                ..CgroupPlan::none()
            },
        }
    }

    /// The first process has ended: kills what its namespace did not take along.
    pub fn end(&self) {
        if self.head.namespaces.new & libc::CLONE_NEWPID as u64 == 0 {
            cgroup::kill(&self.head.cgroup);
        }
    }

    /// The end is known. Whether memory was short.
    pub fn ended(&mut self) -> bool {
        self.record_at = Some(Instant::now() + DAEMONS_TURN);
        cgroup::oom(&self.head.cgroup)
    }

    /// Writes the exit record when it is due, or at once when nobody else will.
    pub fn record(&mut self, exit: &ExitStatus, now: bool) {
        let Some(due) = self.record_at else { return };
        if now || Instant::now() >= due {
            self.record_at = None;
            self.let_mounts_go();
            // On a full disk it is due again, and we stay until it is written or a daemon has taken the exit over the
            // socket. Of a lost folder nothing comes back.
            let full = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT));
            if write_exit(&self.head.exit_file, exit).is_err_and(|error| full(&error)) {
                self.record_at = Some(Instant::now() + FULL_DISK_RETRY);
            }
            runtime_sys::failpoint!("shim-exit-recorded");
        }
    }

    pub fn next_due(&self) -> Option<Duration> {
        self.record_at.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// The daemon has recorded the exit. An errno when something is left behind.
    pub fn release(&mut self) -> i32 {
        self.record_at = None;
        self.released = true;
        let removed = self.remove_cgroups();
        self.stop_listening();
        runtime_sys::failpoint!("shim-released");
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
