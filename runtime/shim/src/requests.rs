//! What a daemon asks for.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use runtime::plan::ExecPlan;
use runtime::proto::{Event, Failure, LARGEST_PLAN, Request, Streams, VERSION};
use runtime::wire::Wire;
use runtime_sys::memory::Scratch;

use crate::container::{Container, refusal};
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
                let outcome = self.start(from, version, plan.map(|plan| plan.0), joined, &attach, fds);
                if let Err(failure) = outcome {
                    self.send(from, &Event::Failed { tag: 0, failure });
                }
            }
            Request::Signal { tag, process, signal } => {
                let outcome = match self.process(process) {
                    // A process in its set-up would take the signal with the shim's handlers and rights.
                    Some(found) if found.is_starting() && signal != libc::SIGKILL => Err(libc::EAGAIN),
                    Some(found) => found
                        .signal(signal)
                        .map_err(|error| error.raw_os_error().unwrap_or(libc::EIO)),
                    None => Err(libc::ESRCH),
                };
                self.done(from, tag, outcome);
            }
            Request::Resize {
                tag,
                process,
                rows,
                cols,
            } => {
                let outcome = match self.process(process) {
                    Some(found) => found
                        .pump
                        .resize(rows, cols)
                        .map_err(|error| error.raw_os_error().unwrap_or(libc::EIO)),
                    None => Err(libc::ESRCH),
                };
                self.done(from, tag, outcome);
            }
            Request::Attach { tag, streams } => {
                let outcome = self.attach(streams, fds);
                self.done(from, tag, outcome);
            }
            Request::Exec { tag, plan, attach } => {
                if let Err(failure) = self.exec((from, tag), plan, attach, fds) {
                    self.send(from, &Event::Failed { tag, failure });
                }
            }
            Request::Release { tag } => {
                let errno = self.container.as_mut().map_or(libc::ESRCH, Container::release);
                self.send(from, &Event::Done { tag, errno });
                // A daemon that starts the container again waits for the end of the connection. Clients that are still
                // to be served are none of its business.
                if let Some(container) = self.container.as_mut().filter(|container| container.released) {
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
    fn process(&mut self, number: u32) -> Option<&mut Process> {
        self.container
            .as_mut()?
            .process(number)
            .filter(|process| !process.ended)
    }

    fn start(
        &mut self,
        from: u32,
        version: u32,
        plan: Option<Vec<u8>>,
        joined: u32,
        attach: &[Streams],
        fds: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        if version != VERSION {
            return Err(refusal(Errno::EPROTO, "daemon and shim are of different versions"));
        }
        if self.container.is_some() {
            return Err(refusal(Errno::EBUSY, "this shim has a container already"));
        }
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
            return Err(refusal(Errno::EBADF, "descriptors are missing"));
        }
        self.container = Some(Container::start(
            &self.shim,
            plan,
            &joined,
            clients,
            (from, 0),
            &self.epoll,
        )?);
        Ok(())
    }

    fn exec(
        &mut self,
        asked_by: (u32, u32),
        plan: Option<Box<ExecPlan>>,
        attach: Option<Streams>,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        let mut fds = fds.into_iter();
        let plan = match plan {
            Some(plan) => *plan,
            None => {
                ExecPlan::decode(&map_plan(fds.next())?).map_err(|error| refusal(Errno::EINVAL, &error.to_string()))?
            }
        };
        let client = attach.and_then(|streams| fds.next().map(|socket| (socket, streams)));
        let container = self
            .container
            .as_mut()
            .ok_or_else(|| refusal(Errno::ESRCH, "the container is not running"))?;
        container.exec(&self.shim, &plan, client, asked_by, &self.epoll)
    }

    fn attach(&mut self, streams: Streams, fds: Vec<OwnedFd>) -> Result<(), i32> {
        let socket = fds.into_iter().next().ok_or(libc::EBADF)?;
        let container = self
            .container
            .as_mut()
            .filter(|container| container.exit.is_none())
            .ok_or(libc::ESRCH)?;
        let attached = container.init.pump.attach(socket, streams, &self.epoll);
        attached.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// A plan in a sealed memory file.
fn map_plan(file: Option<OwnedFd>) -> Result<Scratch, Failure> {
    let file = file.ok_or_else(|| refusal(Errno::EBADF, "descriptors are missing"))?;
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
