//! Making processes: pipes, and whom they belong to.

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use runtime::plan::{ExecPlan, Head, Stdin};
use runtime::proto::Step;
use runtime_container::failure::{At, Result};
use runtime_container::{Entered, Exec, Options, Spawned, Start};
use runtime_sys::epoll::Epoll;

use crate::Shim;
use crate::process::Process;
use crate::pump::Pump;

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

    fn options(&self) -> Options<'_> {
        Options {
            streams: self.theirs.each_ref().map(|end| end.as_ref().map(AsFd::as_fd)),
            bound: true,
            ..Options::default()
        }
    }

    /// Our ends and the child become a process.
    fn adopt(self, spawned: Spawned, stdin: &Stdin, epoll: &Epoll) -> Result<Process> {
        let mut pump = Pump::new(stdin);
        pump.set_pipes(self.input, self.outputs, epoll)
            .at(Step::Streams, "pipes")?;
        Process::new(spawned, pump, epoll).at(Step::Streams, "socket")
    }
}

/// Starts the set-up of a container.
pub fn container(shim: &Shim, head: &Head, plan: &[u8], joined: &[OwnedFd], epoll: &Epoll) -> Result<Process> {
    let pipes = Pipes::new(&head.stdin, head.terminal.is_some())?;
    let start = Start {
        head,
        plan,
        joined,
        options: pipes.options(),
    };
    let spawned = runtime_container::container(&shim.host, &start)?;
    pipes.adopt(spawned, &head.stdin, epoll)
}

/// Starts the set-up of a further process in a container.
pub fn exec(shim: &Shim, plan: &ExecPlan, container: Entered<'_>, epoll: &Epoll) -> Result<Process> {
    // An exec has one client at most, whose end is that of the input.
    let stdin = match &plan.stdin {
        Stdin::Null => Stdin::Null,
        Stdin::Pipe { .. } => Stdin::Pipe { once: true },
    };
    let pipes = Pipes::new(&plan.stdin, plan.terminal.is_some())?;
    let exec = Exec {
        plan,
        container,
        options: pipes.options(),
    };
    let spawned = runtime_container::exec(&shim.host, &exec)?;
    pipes.adopt(spawned, &stdin, epoll)
}
