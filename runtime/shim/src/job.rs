//! What a shim is for: one process, from its set-up to its end. It is a container's first one, or one that enters a
//! container which another shim keeps.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use runtime::plan::{ExecPlan, Head};
use runtime::proto::{ExitStatus, Place, Step, Streams, Time};
use runtime_container::Entered;
use runtime_container::failure::{At, Result, failure};
use runtime_sys::clone::{Ended, reap};
use runtime_sys::epoll::Epoll;

use crate::container::Container;
use crate::process::Process;
use crate::pump::Context;
use crate::{Shim, rights, spawn};

pub struct Job {
    pub process: Process,
    /// When its program began to run.
    pub started: Option<Time>,
    pub exit: Option<ExitStatus>,
    /// What is kept of a container; an exec has none.
    pub container: Option<Container>,
}

impl Job {
    fn new(process: Process) -> Job {
        Job {
            process,
            started: None,
            exit: None,
            container: None,
        }
    }

    /// Starts the set-up of a container. On failure nothing is left.
    pub fn start(
        shim: &Shim,
        plan: &[u8],
        joined: &[OwnedFd],
        clients: Vec<(OwnedFd, Streams)>,
        epoll: &Epoll,
    ) -> Result<Job> {
        let head = Head::of_plan(plan).map_err(|error| failure(Step::Plan, "", Errno::EINVAL, error.to_string()))?;
        let process = spawn::container(shim, &head, plan, joined, epoll)?;
        let mut job = Job::new(process);
        let container = job.container.insert(Container::new(shim, head, job.process.pid));
        let prepared = container.prepare(epoll);
        let prepared = prepared.and_then(|()| job.attach(clients, epoll));
        job.settle(prepared)
    }

    /// Starts the set-up of a further process in a container. On failure nothing is left.
    pub fn exec(
        shim: &Shim,
        plan: &ExecPlan,
        place: &Place,
        init: &OwnedFd,
        client: Option<(OwnedFd, Streams)>,
        epoll: &Epoll,
    ) -> Result<Job> {
        let container = Entered {
            init: init.as_fd(),
            pid: place.pid,
            namespaces: place.namespaces,
            cgroup: &place.cgroup,
        };
        let mut job = Job::new(spawn::exec(shim, plan, container, epoll)?);
        let prepared = job.attach(client, epoll);
        job.settle(prepared)
    }

    fn attach(&mut self, clients: impl IntoIterator<Item = (OwnedFd, Streams)>, epoll: &Epoll) -> Result<()> {
        for (socket, streams) in clients {
            let attached = self.process.pump.attach(socket, streams, epoll);
            attached.at(Step::Streams, "attached client")?;
        }
        Ok(())
    }

    fn settle(mut self, prepared: Result<()>) -> Result<Job> {
        match prepared {
            Ok(()) => Ok(self),
            Err(failure) => {
                self.abandon();
                Err(failure)
            }
        }
    }

    /// The program runs, and no further process is ever made here: gives up what that takes, before a byte of the
    /// program's is read. A process whose shim cannot do so is ended.
    pub fn give_up_rights(&self) {
        let head = self.container.as_ref().map(|container| &container.head);
        if rights::give_up(head).is_err() {
            let _ = self.process.signal(libc::SIGKILL);
        }
    }

    /// Takes back everything of a process that never ran its program.
    pub fn abandon(&mut self) {
        if !self.process.ended {
            let _ = self.process.signal(libc::SIGKILL);
            let _ = reap(self.process.pid, true);
        }
        if let Some(container) = &mut self.container {
            container.clear();
        }
    }

    /// The container, for a process that enters it.
    pub fn place(&self) -> Result<Place> {
        let container = self.container.as_ref().filter(|_| self.is_running());
        let not_running = || failure(Step::Join, "", Errno::ESRCH, "the container is not running");
        container
            .map(|container| container.place(self.process.pid))
            .ok_or_else(not_running)
    }

    fn is_running(&self) -> bool {
        self.started.is_some() && self.exit.is_none()
    }

    /// Lends the pump what it needs.
    pub fn pump(&mut self, epoll: &Epoll, buffer: &mut [u8], work: impl FnOnce(&mut Process, &mut Context<'_>)) {
        let log = self.container.as_mut().and_then(Container::log);
        work(&mut self.process, &mut Context { epoll, buffer, log });
    }

    /// The process has ended: reads its output to the end and says how it ended. A container's first one takes along
    /// what its namespace did not.
    pub fn ended(&mut self, ended: &Ended, epoll: &Epoll, buffer: &mut [u8]) -> ExitStatus {
        let at = Time::now();
        if let Some(container) = &self.container {
            container.end();
        }
        self.pump(epoll, buffer, |process, context| {
            process.ended = true;
            process.pump.end(context);
        });
        let exit = ExitStatus {
            code: ended.code,
            signal: ended.signal,
            oom: self.container.as_mut().is_some_and(Container::ended),
            at,
        };
        self.exit = Some(exit.clone());
        exit
    }

    /// Writes the exit record when it is due, or at once when nobody else will.
    pub fn record(&mut self, now: bool) {
        if let (Some(container), Some(exit)) = (&mut self.container, &self.exit) {
            container.record(exit, now);
        }
    }

    /// How long the event loop may sleep.
    pub fn next_due(&self) -> Option<Duration> {
        self.container.as_ref().and_then(Container::next_due)
    }

    /// The daemon has recorded the exit. An errno when something is left behind.
    pub fn release(&mut self) -> i32 {
        match &mut self.container {
            _ if self.exit.is_none() => libc::EBUSY,
            Some(container) => container.release(),
            None => 0,
        }
    }

    /// Whether every client has what is theirs.
    pub fn is_drained(&self) -> bool {
        self.process.pump.is_idle()
    }
}
