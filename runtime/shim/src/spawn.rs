//! Making processes: pipes, the socket to the child, the clone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::unistd::pipe2;
use runtime::plan::{CgroupPlan, ExecPlan, Head, Stdin};
use runtime::proto::{INIT, Step};
use runtime_sys::clone::{Cloned, clone3};
use runtime_sys::epoll::Epoll;
use runtime_sys::seqpacket;

use crate::child::failure::{At, Result};
use crate::child::{self, Inherited};
use crate::process::Process;
use crate::pump::Pump;
use crate::{Shim, cgroup};

/// The ends of a process' pipes, where it has no terminal.
struct Pipes {
    theirs: [Option<OwnedFd>; 3],
    input: Option<OwnedFd>,
    outputs: [Option<OwnedFd>; 2],
}

impl Pipes {
    fn new(stdin: &Stdin, terminal: bool) -> Result<Pipes> {
        let mut pipes = Pipes {
            theirs: [None, None, None],
            input: None,
            outputs: [None, None],
        };
        if terminal {
            return Ok(pipes);
        }
        let pipe = || pipe2(OFlag::O_CLOEXEC).at(Step::Streams, "pipe");
        if matches!(stdin, Stdin::Pipe { .. }) {
            let (read, write) = pipe()?;
            (pipes.theirs[0], pipes.input) = (Some(read), Some(write));
        }
        for number in 0..2 {
            let (read, write) = pipe()?;
            (pipes.outputs[number], pipes.theirs[number + 1]) = (Some(read), Some(write));
        }
        Ok(pipes)
    }
}

/// What to do in the child.
enum Job<'a> {
    Container {
        plan: &'a [u8],
        joined: &'a [OwnedFd],
    },
    Exec {
        plan: &'a ExecPlan,
        init: BorrowedFd<'a>,
        tasks: &'a [PathBuf],
    },
}

/// Starts the set-up of a container.
pub fn container(
    shim: &Shim,
    head: &Head,
    plan: &[u8],
    joined: &[OwnedFd],
    asked_by: (u32, u32),
    epoll: &Epoll,
) -> Result<Process> {
    let kind = CloneFlags::CLONE_NEWPID.bits() as u64;
    let target = head.namespaces.joined.iter().find(|joined| joined.kind == kind);
    let target = target
        .and_then(|target| joined.get(target.fd as usize))
        .map(AsFd::as_fd);
    // The cgroup namespace is made by the child when it is in its cgroup.
    let new = head.namespaces.new & !(CloneFlags::CLONE_NEWCGROUP.bits() as u64);
    let cgroup = cgroup::folder(&head.cgroup).transpose()?;
    let spawn = Spawn {
        number: INIT,
        namespaces: new,
        pid_namespace: target,
        cgroup: cgroup.as_ref(),
        asked_by,
    };
    let pipes = Pipes::new(&head.stdin, head.terminal.is_some())?;
    spawn.run(shim, pipes, &head.stdin, &Job::Container { plan, joined }, epoll)
}

/// Starts the set-up of a further process in the container whose first one is `init`.
pub fn exec(
    shim: &Shim,
    number: u32,
    plan: &ExecPlan,
    init: &Process,
    cgroups: &CgroupPlan,
    asked_by: (u32, u32),
    epoll: &Epoll,
) -> Result<Process> {
    let tasks = &cgroup::files(cgroups)[..];
    // An exec has one client at most, whose end is that of the input.
    let stdin = match &plan.stdin {
        Stdin::Null => Stdin::Null,
        Stdin::Pipe { .. } => Stdin::Pipe { once: true },
    };
    let attempt = |cgroup: Option<&OwnedFd>| {
        let spawn = Spawn {
            number,
            namespaces: 0,
            pid_namespace: Some(init.pidfd.as_fd()),
            cgroup,
            asked_by,
        };
        let pipes = Pipes::new(&plan.stdin, plan.terminal.is_some())?;
        let init = init.pidfd.as_fd();
        spawn.run(shim, pipes, &stdin, &Job::Exec { plan, init, tasks }, epoll)
    };
    let cgroup = cgroup::folder(cgroups).transpose()?;
    match attempt(cgroup.as_ref()) {
        // A v2 group whose children have controllers may hold no process itself: an init system in the container has
        // divided its group. Then the exec goes where the first process is.
        Err(failure) if failure.step == Step::Clone && failure.errno == libc::EBUSY => {
            let below = cgroup::folder_of(cgroups, shim.proc.as_fd(), init.pid)?;
            attempt(below.as_ref())
        }
        other => other,
    }
}

struct Spawn<'a> {
    number: u32,
    namespaces: u64,
    /// A pid namespace (or a process in it) to make the child in.
    pid_namespace: Option<BorrowedFd<'a>>,
    cgroup: Option<&'a OwnedFd>,
    asked_by: (u32, u32),
}

impl Spawn<'_> {
    fn run(self, shim: &Shim, pipes: Pipes, stdin: &Stdin, job: &Job<'_>, epoll: &Epoll) -> Result<Process> {
        let (ours, theirs) = seqpacket::pair().at(Step::Streams, "socket")?;
        if let Some(target) = self.pid_namespace {
            nix::sched::setns(target, CloneFlags::CLONE_NEWPID).at(Step::Join, "pid namespace")?;
        }
        let cloned = clone3(&shim.single, self.namespaces, self.cgroup.map(AsFd::as_fd));
        if let Ok(Cloned::Child) = cloned {
            let inherited = Inherited {
                sync: theirs.as_fd(),
                streams: pipes.theirs.each_ref().map(|end| end.as_ref().map(AsFd::as_fd)),
                proc: shim.proc.as_fd(),
                null: shim.null.as_fd(),
                oom_score_lowered: shim.oom_score_lowered,
                single: &shim.single,
            };
            drop(ours);
            match job {
                Job::Container { plan, joined } => child::container(&inherited, plan, joined),
                Job::Exec { plan, init, tasks } => child::exec(&inherited, plan, *init, tasks),
            }
        }
        if self.pid_namespace.is_some() {
            // Our own: it was there before, and nothing but its end could take it away.
            nix::sched::setns(&shim.pid_namespace, CloneFlags::CLONE_NEWPID).at(Step::Join, "own pid namespace")?;
        }
        let (pid, pidfd) = match cloned.at(Step::Clone, "")? {
            Cloned::Parent { pid, pidfd } => (pid, pidfd),
            Cloned::Child => unreachable!("the child never returns"),
        };
        let mut pump = Pump::new(self.number, stdin);
        pump.set_pipes(pipes.input, pipes.outputs, epoll)
            .at(Step::Streams, "pipes")?;
        Process::new(self.number, pid, pidfd, pump, ours, self.asked_by, epoll).at(Step::Streams, "socket")
    }
}
