//! What a daemon asks for.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use runtime::plan::ExecPlan;
use runtime::proto::{Event, Failure, LARGEST_PLAN, Place, Request, Streams, VERSION};
use runtime::wire::Wire;
use runtime_sys::clone::{Cloned, clone3_sibling};
use runtime_sys::memory::Scratch;
use runtime_sys::privilege;

use crate::container::refusal;
use crate::job::Job;
use crate::process::Process;
use crate::serve::Server;

impl Server {
    pub fn request(&mut self, from: u32, request: Request, fds: Vec<OwnedFd>) {
        match request {
            Request::Start {
                version,
                plan,
                joined,
                attach,
            } => {
                let outcome = self
                    .expect_idle(version)
                    .and_then(|()| self.start(from, plan.map(|plan| plan.0), joined, &attach, fds));
                self.begun(from, outcome);
            }
            Request::ExecIn {
                version,
                plan,
                attach,
                place,
            } => {
                let outcome = self
                    .expect_idle(version)
                    .and_then(|()| self.exec_in(from, plan, attach, &place, fds));
                self.begun(from, outcome);
            }
            Request::Exec { tag, plan, attach } => {
                if let Err(failure) = self.exec((from, tag), plan, attach, fds) {
                    self.send(from, &Event::Failed { tag, failure });
                }
            }
            Request::Signal { tag, process, signal } => {
                let outcome = self.process(process).and_then(|process| {
                    // A process in its set-up would take the signal with the shim's handlers and rights.
                    if process.is_starting() && signal != libc::SIGKILL {
                        return Err(libc::EAGAIN);
                    }
                    process.signal(signal).map_err(|error| errno(&error))
                });
                self.done(from, tag, outcome);
            }
            Request::Resize {
                tag,
                process,
                rows,
                cols,
            } => {
                let outcome = self
                    .process(process)
                    .and_then(|process| process.pump.resize(rows, cols).map_err(|error| errno(&error)));
                self.done(from, tag, outcome);
            }
            Request::Attach { tag, streams } => {
                let outcome = self.attach(streams, fds);
                self.done(from, tag, outcome);
            }
            Request::Enter { tag } => self.send_place(from, tag),
            Request::Bear { tag } => match self.bear(fds) {
                Ok(Some(pid)) => self.send(from, &Event::Born { tag, pid }),
                Ok(None) => {}
                Err(errno) => self.done(from, tag, Err(errno)),
            },
            Request::Release { tag } => {
                let errno = self.job.as_mut().map_or(libc::ESRCH, Job::release);
                self.send(from, &Event::Done { tag, errno });
                // A daemon that starts the container again waits for the end of the connection. Clients that are still
                // to be served are none of its business.
                let container = self.job.as_mut().and_then(|job| job.container.as_mut());
                if let Some(container) = container.filter(|container| container.released) {
                    container.let_mounts_go();
                    self.drop_connections();
                }
            }
        }
    }

    fn done(&mut self, to: u32, tag: u32, outcome: Result<(), i32>) {
        let errno = outcome.err().unwrap_or(0);
        self.send(to, &Event::Done { tag, errno });
    }

    /// A process that has not ended.
    fn process(&mut self, number: u32) -> Result<&mut Process, i32> {
        let process = self.job.as_mut().and_then(|job| job.process(number));
        process.filter(|process| !process.ended).ok_or(libc::ESRCH)
    }

    fn expect_idle(&self, version: u32) -> Result<(), Failure> {
        if version != VERSION {
            return Err(refusal(Errno::EPROTO, "daemon and shim are of different versions"));
        }
        if self.job.is_some() {
            return Err(refusal(Errno::EBUSY, "this shim has a process already"));
        }
        Ok(())
    }

    fn begun(&mut self, from: u32, outcome: Result<Job, Failure>) {
        match outcome {
            Ok(job) => self.job = Some(job),
            Err(failure) => self.send(from, &Event::Failed { tag: 0, failure }),
        }
    }

    /// Makes a copy of this process, which has nothing to run yet. `None` in the copy.
    fn bear(&mut self, fds: Vec<OwnedFd>) -> Result<Option<i32>, i32> {
        let socket = fds.into_iter().next().ok_or(libc::EBADF)?;
        if self.job.is_some() {
            return Err(libc::EBUSY);
        }
        match clone3_sibling(&self.shim.host.single, 0).map_err(|error| errno(&error))? {
            Cloned::Child => {
                self.newborn = Some(socket);
                Ok(None)
            }
            Cloned::Parent { pid, .. } => {
                // Whoever lists processes sees which one has no container.
                privilege::set_name(c"iechor-nursery");
                Ok(Some(pid))
            }
        }
    }

    fn start(
        &self,
        from: u32,
        plan: Option<Vec<u8>>,
        joined: u32,
        attach: &[Streams],
        fds: Vec<OwnedFd>,
    ) -> Result<Job, Failure> {
        let mut fds = fds.into_iter();
        let mapped;
        let plan: &[u8] = match &plan {
            Some(plan) => plan,
            None => {
                mapped = map_plan(fds.next())?;
                &mapped
            }
        };
        let joined: Vec<OwnedFd> = fds.by_ref().take(joined as usize).collect();
        let clients: Vec<(OwnedFd, Streams)> = fds.zip(attach.iter().cloned()).collect();
        if clients.len() != attach.len() {
            return Err(missing());
        }
        Job::start(&self.shim, plan, &joined, clients, (from, 0), &self.epoll)
    }

    fn exec_in(
        &self,
        from: u32,
        plan: Option<Box<ExecPlan>>,
        attach: Option<Streams>,
        place: &Place,
        fds: Vec<OwnedFd>,
    ) -> Result<Job, Failure> {
        let mut fds = fds.into_iter();
        let init = fds.next().ok_or_else(missing)?;
        let (plan, client) = exec_parts(plan, attach, fds)?;
        Job::exec(&self.shim, &plan, place, &init, client, (from, 0), &self.epoll)
    }

    fn exec(
        &mut self,
        asked_by: (u32, u32),
        plan: Option<Box<ExecPlan>>,
        attach: Option<Streams>,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        let (plan, client) = exec_parts(plan, attach, fds.into_iter())?;
        let job = self.job.as_mut();
        let job = job.ok_or_else(|| refusal(Errno::ESRCH, "the container is not running"))?;
        job.further(&plan, client, asked_by)
    }

    fn attach(&mut self, streams: Streams, fds: Vec<OwnedFd>) -> Result<(), i32> {
        let socket = fds.into_iter().next().ok_or(libc::EBADF)?;
        let job = self.job.as_mut().filter(|job| job.exit.is_none()).ok_or(libc::ESRCH)?;
        let attached = job.first.pump.attach(socket, streams, &self.epoll);
        attached.map_err(|error| errno(&error))
    }
}

fn errno(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn missing() -> Failure {
    refusal(Errno::EBADF, "descriptors are missing")
}

/// The plan of an exec, inline or in the next descriptor, and its client.
fn exec_parts(
    plan: Option<Box<ExecPlan>>,
    attach: Option<Streams>,
    mut fds: impl Iterator<Item = OwnedFd>,
) -> Result<(Box<ExecPlan>, Option<(OwnedFd, Streams)>), Failure> {
    let plan = match plan {
        Some(plan) => plan,
        None => Wire::decode(&map_plan(fds.next())?).map_err(|error| refusal(Errno::EINVAL, &error.to_string()))?,
    };
    let client = match attach {
        Some(streams) => Some((fds.next().ok_or_else(missing)?, streams)),
        None => None,
    };
    Ok((plan, client))
}

/// A plan in a sealed memory file.
fn map_plan(file: Option<OwnedFd>) -> Result<Scratch, Failure> {
    let file = file.ok_or_else(missing)?;
    let length = nix::sys::stat::fstat(&file).map_or(0, |about| usize::try_from(about.st_size).unwrap_or(0));
    if length == 0 || length > LARGEST_PLAN {
        return Err(refusal(Errno::E2BIG, "the plan is empty or too large"));
    }
    Scratch::of_sealed(file.as_fd(), length).map_err(|error| {
        refusal(
            Errno::from_raw(error.raw_os_error().unwrap_or(0)),
            "the plan is not in a sealed memory file",
        )
    })
}
