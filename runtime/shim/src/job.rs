//! What a shim is for: one process, from its set-up to its end. It is a container's first one, or one that enters a
//! container which another shim keeps. Only the containers of other runtimes have their execs in the same shim: theirs
//! is a program that makes them, which a confined shim could not run.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use runtime::plan::{ExecPlan, Foreign, Head};
use runtime::proto::{ExitStatus, Failure, INIT, Place, Step, Streams, Time};
use runtime_container::Entered;
use runtime_container::failure::{At, Result, failure};
use runtime_sys::clone::{Ended, reap};
use runtime_sys::epoll::Epoll;

use crate::container::Container;
use crate::process::Process;
use crate::pump::Context;
use crate::{Shim, foreign, rights, spawn};

pub struct Job {
    pub first: Process,
    /// When its program began to run.
    pub started: Option<Time>,
    pub exit: Option<ExitStatus>,
    /// What is kept of a container; an exec has none.
    pub container: Option<Container>,
}

impl Job {
    fn new(first: Process) -> Job {
        Job {
            first,
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
        asked_by: (u32, u32),
        epoll: &Epoll,
    ) -> Result<Job> {
        let head = Head::of_plan(plan).map_err(|error| failure(Step::Plan, "", Errno::EINVAL, error.to_string()))?;
        let (process, clients) = match &head.foreign {
            None => (spawn::container(shim, &head, plan, joined, asked_by, epoll)?, clients),
            Some(runtime) => (foreign::container(runtime, &head, plan, clients, asked_by)?, Vec::new()),
        };
        let mut job = Job::new(process);
        let container = job.container.insert(Container::new(shim, head, job.first.pid));
        runtime_sys::failpoint!("shim-cloned");
        let prepared = container.prepare(epoll);
        let prepared = prepared.and_then(|()| job.attach(clients, epoll));
        runtime_sys::failpoint!("shim-prepared");
        job.settle(prepared)
    }

    /// Starts the set-up of a further process in a container. On failure nothing is left.
    pub fn exec(
        shim: &Shim,
        plan: &ExecPlan,
        place: &Place,
        init: &OwnedFd,
        client: Option<(OwnedFd, Streams)>,
        asked_by: (u32, u32),
        epoll: &Epoll,
    ) -> Result<Job> {
        let container = Entered {
            init: init.as_fd(),
            pid: place.pid,
            namespaces: place.namespaces,
            cgroup: &place.cgroup,
        };
        let mut job = Job::new(spawn::exec(shim, INIT, plan, container, asked_by, epoll)?);
        runtime_sys::failpoint!("shim-exec-cloned");
        let prepared = job.attach(client, epoll);
        job.settle(prepared)
    }

    fn attach(&mut self, clients: impl IntoIterator<Item = (OwnedFd, Streams)>, epoll: &Epoll) -> Result<()> {
        for (socket, streams) in clients {
            let attached = self.first.pump.attach(socket, streams, epoll);
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

    /// Starts a further process by the runtime that made the container.
    pub fn further(&mut self, plan: &ExecPlan, client: Option<(OwnedFd, Streams)>, asked_by: (u32, u32)) -> Result<()> {
        let running = self.is_running();
        let container = self.container.as_mut().filter(|_| running).ok_or_else(not_running)?;
        let Some(runtime) = &container.head.foreign else {
            return Err(failure(Step::Join, "", Errno::ENOTSUP, "an exec has a shim of its own"));
        };
        container.last_exec += 1;
        let process = foreign::exec(runtime, &container.head.id, container.last_exec, plan, client, asked_by)?;
        container.execs.push(process);
        Ok(())
    }

    /// The runtime that made the container, if it is another one.
    pub fn foreign(&self) -> Option<&Foreign> {
        self.container.as_ref()?.head.foreign.as_ref()
    }

    pub fn process(&mut self, number: u32) -> Option<&mut Process> {
        self.processes().find(|process| process.number == number)
    }

    /// All processes, the first one first.
    pub fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        let further = self.container.iter_mut().flat_map(|container| &mut container.execs);
        std::iter::once(&mut self.first).chain(further)
    }

    /// The program runs, and no further process is ever made here: gives up what that takes, before a byte of the
    /// program's is read. A process whose shim cannot do so is ended. A shim whose container another runtime made keeps
    /// everything: that runtime makes its execs and deletes it.
    pub fn give_up_rights(&self) {
        if self.foreign().is_some() {
            return;
        }
        let head = self.container.as_ref().map(|container| &container.head);
        if rights::give_up(head).is_err() {
            let _ = self.first.signal(libc::SIGKILL);
        }
    }

    /// Takes back everything of a process that never ran its program.
    pub fn abandon(&mut self) {
        if !self.first.ended {
            let _ = self.first.signal(libc::SIGKILL);
            let _ = reap(self.first.pid, true);
        }
        if let Some(container) = &mut self.container {
            container.clear();
        }
    }

    /// The container, for a process that enters it.
    pub fn place(&self) -> Result<Place> {
        let container = self.container.as_ref().filter(|_| self.is_running());
        container
            .map(|container| container.place(self.first.pid))
            .ok_or_else(not_running)
    }

    fn is_running(&self) -> bool {
        self.started.is_some() && self.exit.is_none()
    }

    /// Lends a process' pump what it needs; only a container's first process has a log.
    pub fn pump(
        &mut self,
        number: u32,
        epoll: &Epoll,
        buffer: &mut [u8],
        work: impl FnOnce(&mut Process, &mut Context<'_>),
    ) {
        if number == INIT {
            let log = self.container.as_mut().and_then(Container::log);
            work(&mut self.first, &mut Context { epoll, buffer, log });
        } else if let Some(process) = self.process(number) {
            let log = None;
            work(process, &mut Context { epoll, buffer, log });
        }
    }

    /// A process has ended: reads its output to the end and says how it ended. A container's first one takes along what
    /// its namespace did not.
    pub fn ended(&mut self, number: u32, ended: &Ended, epoll: &Epoll, buffer: &mut [u8]) -> ExitStatus {
        let at = Time::now();
        let first = number == INIT;
        if let Some(container) = self.container.as_ref().filter(|_| first) {
            container.end();
        }
        self.pump(number, epoll, buffer, |process, context| {
            process.ended = true;
            process.pump.end(context);
        });
        let container = self.container.as_mut().filter(|_| first);
        let exit = ExitStatus {
            code: ended.code,
            signal: ended.signal,
            oom: container.is_some_and(Container::ended),
            at,
        };
        if first {
            self.exit = Some(exit.clone());
        }
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
    pub fn is_drained(&mut self) -> bool {
        self.processes().all(|process| process.pump.is_idle())
    }

    /// Forgets further processes with which there is nothing left to do.
    pub fn sweep(&mut self) {
        if let Some(container) = &mut self.container {
            container.execs.retain(|exec| !exec.ended || !exec.pump.is_idle());
        }
    }
}

fn not_running() -> Failure {
    failure(Step::Join, "", Errno::ESRCH, "the container is not running")
}
