//! Containers that another OCI runtime makes: its command line is run, and what it made is ours from then on.
//!
//! ```text
//! bundle/                 made for the run, in a mount namespace of the shim's own
//!   config.json           the plan's document and the user, found in the root
//!   rootfs/               the root, mounted
//!   state/                the runtime's own (`--root`)
//!   N.log N.pid N.sock    of one command, for process N: 0 the container, others execs
//!
//! create ─► the container's process (our child: the runtime ends, we are the reaper) ─► start ─► it runs
//! exec --detach ─► a further process
//! ```
//!
//! No command is waited for while it runs: its end comes as that of any child. Streams and clients are attached when
//! there is a process of the container, so that a runtime's own words reach nobody's log. Signals, sizes, control
//! groups and the end are as for our own containers; `delete` follows the end.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use runtime::plan::{ConsoleSize, ExecPlan, Foreign, Head, Plan, ProcessPlan, Stdin, finish_document};
use runtime::proto::{Failure, INIT, Step, Streams};
use runtime::wire::Wire;
use runtime_container::bundle::{mount_root, own_mounts, user_of};
use runtime_container::failure::{At, Result, failure};
use runtime_sys::clone::{Ended, reap};
use runtime_sys::epoll::{Epoll, Event as Ready, READ};
use runtime_sys::{pidfd, pty, seqpacket, signals};

use crate::process::Process;
use crate::pump::Pump;
use crate::serve::Server;
use crate::spawn::Pipes;

/// How long `delete` may take; what it leaves then is removed with the control group and the bundle.
const DELETE_LIMIT: i32 = 10_000; // milliseconds

/// Most of a log that is read: its end.
const LOG_TAIL: u64 = 4096;

/// A runtime is a program like any other: some look for helpers.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What another runtime has still to do for a process, and what waits for it.
pub struct Pending {
    stage: Stage,
    pipes: Pipes,
    clients: Vec<(OwnedFd, Streams)>,
    console: Option<UnixListener>,
    size: Option<ConsoleSize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// `create` runs, as the process' pid.
    Creating,
    /// `exec` runs, as the process' pid.
    Entering,
    /// The container's process is there and waits; `start` runs.
    Starting { command: i32 },
}

impl Stage {
    fn verb(self) -> &'static str {
        match self {
            Stage::Creating => "create",
            Stage::Entering => "exec",
            Stage::Starting { .. } => "start",
        }
    }
}

/// Begins to make a container. On failure nothing is left.
pub fn container(
    runtime: &Foreign,
    head: &Head,
    plan: &[u8],
    clients: Vec<(OwnedFd, Streams)>,
    asked_by: (u32, u32),
) -> Result<Process> {
    let plan = Plan::decode(plan).map_err(|error| failure(Step::Plan, "", Errno::EINVAL, error.to_string()))?;
    own_mounts()?;
    // Of a run whose shim was killed: in a namespace of ours, nothing is mounted in it.
    clear(&runtime.bundle).at(Step::Foreign, &runtime.bundle)?;
    let begin = || -> Result<Process> {
        let rootfs = rootfs(runtime);
        for folder in [&rootfs, &runtime.bundle.join("state")] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.at(Step::Foreign, folder)?;
        }
        mount_root(&plan.root, &rootfs)?;
        write_document(runtime, "config.json", &plan.process)?;
        let arguments = ["create".as_ref(), "--bundle".as_ref(), runtime.bundle.as_os_str()];
        let streams = (&head.stdin, head.terminal.as_ref(), clients);
        launch(runtime, &head.id, INIT, Stage::Creating, &arguments, streams, asked_by)
    };
    begin().inspect_err(|_| forget(runtime, &head.id))
}

/// Begins to make a further process.
pub fn exec(
    runtime: &Foreign,
    id: &str,
    number: u32,
    plan: &ExecPlan,
    client: Option<(OwnedFd, Streams)>,
    asked_by: (u32, u32),
) -> Result<Process> {
    let name = format!("{number}.json");
    write_document(runtime, &name, &plan.process)?;
    let document = runtime.bundle.join(&name);
    let arguments = [
        "exec".as_ref(),
        "--detach".as_ref(),
        "--process".as_ref(),
        document.as_os_str(),
    ];
    // An exec has one client at most, whose end is that of the input.
    let stdin = match &plan.stdin {
        Stdin::Null => Stdin::Null,
        Stdin::Pipe { .. } => Stdin::Pipe { once: true },
    };
    let streams = (&stdin, plan.terminal.as_ref(), client.into_iter().collect());
    launch(runtime, id, number, Stage::Entering, &arguments, streams, asked_by)
        .inspect_err(|_| remove_files(runtime, number))
}

/// Lets the runtime forget a container that has ended, and removes the bundle.
pub fn forget(runtime: &Foreign, id: &str) {
    if runtime.bundle.join("state").exists() {
        let mut delete = command(runtime, INIT);
        delete.args(["delete", "--force", id]);
        if let Ok((pid, process)) = spawn(&mut delete, runtime, "delete") {
            wait_for(pid, &process);
        }
    }
    let rootfs = rootfs(runtime);
    let _ = nix::mount::umount2(&rootfs, nix::mount::MntFlags::MNT_DETACH);
    let _ = clear(&runtime.bundle);
}

/// Waits for a command of ours; one that takes too long is killed.
fn wait_for(pid: i32, process: &OwnedFd) {
    let ended = Epoll::new().is_ok_and(|epoll| {
        epoll.watch(process.as_fd(), 0, READ).is_ok()
            && epoll
                .wait(&mut [Ready::default(); 16], DELETE_LIMIT)
                .is_ok_and(|count| count > 0)
    });
    if !ended {
        let _ = pidfd::signal(process.as_fd(), libc::SIGKILL);
    }
    let _ = reap(pid, true);
}

/// Removes a bundle, but never what is mounted in it: the content of a root is not ours.
fn clear(bundle: &Path) -> io::Result<()> {
    for removed in [fs::remove_dir(bundle.join("rootfs")), fs::remove_dir_all(bundle)] {
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn rootfs(runtime: &Foreign) -> PathBuf {
    runtime.bundle.join("rootfs")
}

/// Writes a document with its user, as the root has him.
fn write_document(runtime: &Foreign, name: &str, process: &ProcessPlan) -> Result<()> {
    let user = user_of(&rootfs(runtime), &process.user)?;
    let text = finish_document(&process.document, &user, process.umask).unwrap_or_default();
    fs::write(runtime.bundle.join(name), text).at(Step::Foreign, name)
}

/// The runtime, told where its state and the log of this command are.
fn command(runtime: &Foreign, number: u32) -> Command {
    let mut command = Command::new(&runtime.program);
    command
        .args(&runtime.args)
        .arg("--root")
        .arg(runtime.bundle.join("state"))
        .arg("--log")
        .arg(file(runtime, number, "log"))
        .args(["--log-format", "json"])
        // A path of a socket may not be long: it is named from here.
        .current_dir(&runtime.bundle)
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // What a runtime has blocked, its containers have too.
    signals::unblock_in(&mut command);
    command
}

fn file(runtime: &Foreign, number: u32, kind: &str) -> PathBuf {
    runtime.bundle.join(format!("{number}.{kind}"))
}

fn remove_files(runtime: &Foreign, number: u32) {
    for kind in ["log", "pid", "sock", "json"] {
        let _ = fs::remove_file(file(runtime, number, kind));
    }
}

fn spawn(command: &mut Command, runtime: &Foreign, verb: &str) -> Result<(i32, OwnedFd)> {
    let told = |error: io::Error| Failure {
        step: Step::Foreign,
        subject: verb.into(),
        errno: 0,
        message: format!("cannot run {}: {error}", runtime.program.display()),
    };
    let child = unprotected(|| command.spawn()).map_err(told)?;
    let pid = child.id() as i32;
    // Our child, not yet reaped: it is there.
    Ok((pid, pidfd::open(pid).map_err(told)?))
}

/// Does something whose children shall not inherit that this process is spared by the OOM killer: some runtimes leave the
/// score of a container as they have it themselves.
fn unprotected<T>(work: impl FnOnce() -> T) -> T {
    const SCORE: &str = "/proc/self/oom_score_adj";
    let own = fs::read_to_string(SCORE).ok().filter(|score| score.starts_with('-'));
    if own.is_some() {
        let _ = fs::write(SCORE, "0");
    }
    let done = work();
    if let Some(own) = own {
        let _ = fs::write(SCORE, own.trim());
    }
    done
}

/// Standard input, terminal, and clients of a process.
type Ends<'a> = (&'a Stdin, Option<&'a ConsoleSize>, Vec<(OwnedFd, Streams)>);

/// Runs a command that makes a process.
fn launch(
    runtime: &Foreign,
    id: &str,
    number: u32,
    stage: Stage,
    arguments: &[&OsStr],
    (stdin, terminal, clients): Ends<'_>,
    asked_by: (u32, u32),
) -> Result<Process> {
    let mut pipes = Pipes::new(stdin, terminal.is_some())?;
    let mut command = command(runtime, number);
    command
        .args(arguments)
        .arg("--pid-file")
        .arg(file(runtime, number, "pid"));
    let mut console = None;
    if terminal.is_some() {
        let name = format!("{number}.sock");
        console = Some(listen(&runtime.bundle, &name).at(Step::Terminal, &name)?);
        command.arg("--console-socket").arg(&name);
    }
    command.arg(id);
    let [input, output, errors] = std::mem::take(&mut pipes.theirs);
    let stream = |end: Option<OwnedFd>| end.map_or_else(Stdio::null, Stdio::from);
    command
        .stdin(stream(input))
        .stdout(stream(output))
        .stderr(stream(errors));
    let spawned = spawn(&mut command, runtime, stage.verb())?;
    let pending = Pending {
        stage,
        pipes,
        clients,
        console,
        size: terminal.cloned(),
    };
    Ok(Process::foreign(
        number,
        spawned,
        Pump::new(number, stdin),
        asked_by,
        pending,
    ))
}

/// Listens for a terminal, at a name in a folder whose own path may be longer than an address.
fn listen(folder: &Path, name: &str) -> io::Result<UnixListener> {
    nix::unistd::chdir(folder)?;
    let listener = UnixListener::bind(name);
    nix::unistd::chdir("/")?;
    listener
}

impl Pending {
    /// The process whose end is that of the command that runs.
    fn command(&self, pid: i32) -> i32 {
        match self.stage {
            Stage::Creating | Stage::Entering => pid,
            Stage::Starting { command } => command,
        }
    }

    /// What the runtime says of its failure.
    fn failure(&mut self, runtime: &Foreign, number: u32, ended: &Ended) -> Failure {
        let mut message = tail(&file(runtime, number, "log"));
        if let (true, Some(errors)) = (message.trim().is_empty(), self.pipes.outputs[1].take()) {
            // The container's stream was the runtime's until now.
            let mut bytes = vec![0; LOG_TAIL as usize];
            let _ = runtime_sys::fd::set_nonblocking(errors.as_fd(), true);
            let count = nix::unistd::read(&errors, &mut bytes).unwrap_or(0);
            message = String::from_utf8_lossy(&bytes[..count]).into_owned();
        }
        if message.trim().is_empty() {
            message = format!("{} ended with code {}", runtime.name, ended.code);
        }
        Failure {
            step: Step::Foreign,
            subject: self.stage.verb().into(),
            errno: 0,
            message,
        }
    }

    /// Connects streams and clients with the process that is there now.
    fn connect(&mut self, pump: &mut Pump, epoll: &Epoll) -> Result<()> {
        match &self.console {
            None => pump.set_pipes(self.pipes.input.take(), std::mem::take(&mut self.pipes.outputs), epoll),
            Some(listener) => receive_terminal(listener).and_then(|master| {
                if let Some(size) = self.size.as_ref().filter(|size| size.rows != 0 && size.cols != 0) {
                    pty::resize(master.as_fd(), size.rows, size.cols)?;
                }
                pump.set_terminal(master, epoll)
            }),
        }
        .at(Step::Terminal, "console socket")?;
        for (socket, streams) in self.clients.drain(..) {
            pump.attach(socket, streams, epoll)
                .at(Step::Streams, "attached client")?;
        }
        Ok(())
    }
}

/// The master that came before its sender ended: nothing is waited for.
fn receive_terminal(listener: &UnixListener) -> io::Result<OwnedFd> {
    listener.set_nonblocking(true)?;
    let (socket, _) = listener.accept()?;
    socket.set_nonblocking(true)?;
    // runc sends the terminal's name along.
    let (_, mut fds) = seqpacket::receive(socket.as_fd(), &mut [0; 4096])?;
    fds.pop().ok_or_else(|| io::Error::other("no terminal came"))
}

fn tail(log: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        use std::io::{Seek, SeekFrom};
        let mut file = fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// The process that a command made: its number and a handle on it.
fn made(runtime: &Foreign, number: u32, strays: &[Ended]) -> Result<(i32, Option<OwnedFd>)> {
    let path = file(runtime, number, "pid");
    let text = fs::read_to_string(&path).at(Step::Foreign, &path)?;
    let bad = || failure(Step::Foreign, &path, Errno::EINVAL, "no process number");
    let pid: i32 = text.trim().parse().ok().filter(|pid| *pid > 0).ok_or_else(bad)?;
    // One that has ended and was reaped is no process any more; one that was not is still its own.
    if strays.iter().any(|ended| ended.pid == pid) {
        return Ok((pid, None));
    }
    Ok((pid, Some(pidfd::open(pid).at(Step::Foreign, "process")?)))
}

impl Server {
    /// A child ended in a container of another runtime. True: that was about a set-up, and is dealt with.
    pub fn foreign_reaped(&mut self, ended: &Ended) -> bool {
        let Some(job) = &mut self.job else {
            return false;
        };
        let (mut starting, mut known, mut answered) = (false, false, None);
        for process in job.processes() {
            let (pid, number) = (process.pid, process.number);
            match process.pending() {
                Some(pending) => {
                    starting = true;
                    if pending.command(pid) == ended.pid {
                        answered = Some(number);
                    }
                }
                None => known |= pid == ended.pid,
            }
        }
        if let Some(number) = answered {
            self.answered(number, ended);
            return true;
        }
        if let Some(container) = job.container.as_mut().filter(|_| starting && !known) {
            container.strays.push(*ended);
        }
        starting && !known
    }

    /// A command of the runtime has ended.
    fn answered(&mut self, number: u32, ended: &Ended) {
        let outcome = self.advance(number, ended);
        let Some(job) = &mut self.job else { return };
        let pid = job.process(number).map(|process| process.pid);
        if number != INIT
            && let Some(runtime) = job.foreign()
        {
            remove_files(runtime, number);
        }
        match outcome {
            Ok(false) => return,
            Ok(true) => self.set_up(number, Ok(())),
            Err(failure) => self.set_up(number, Err(failure)),
        }
        let Some(job) = &mut self.job else { return };
        let starting = job.processes().any(|process| process.is_starting());
        let Some(container) = &mut job.container else { return };
        let stray = container.strays.iter().position(|stray| Some(stray.pid) == pid);
        let stray = stray.map(|index| container.strays.swap_remove(index));
        if !starting {
            container.strays = Vec::new();
        }
        if let Some(stray) = stray {
            self.reaped(&stray);
        }
    }

    /// The next step of a set-up. True: it was the last one.
    fn advance(&mut self, number: u32, ended: &Ended) -> Result<bool> {
        let gone = || failure(Step::Vanished, "", Errno::UnknownErrno, "");
        let epoll = &self.epoll;
        let job = self.job.as_mut().ok_or_else(gone)?;
        let container = job.container.as_ref().ok_or_else(gone)?;
        let runtime = container.head.foreign.clone().ok_or_else(gone)?;
        let (id, strays) = (container.head.id.clone(), container.strays.clone());
        let process = job.process(number).ok_or_else(gone)?;
        let mut pending = process.take_pending().ok_or_else(gone)?;
        if ended.code != 0 {
            return Err(pending.failure(&runtime, number, ended));
        }
        if let Stage::Starting { .. } = pending.stage {
            return Ok(true);
        }
        let (pid, handle) = made(&runtime, number, &strays)?;
        process.pid = pid;
        if let Some(handle) = handle {
            process.pidfd = handle;
        }
        if let Err(failure) = pending.connect(&mut process.pump, epoll) {
            let _ = process.signal(libc::SIGKILL);
            return Err(failure);
        }
        if pending.stage == Stage::Entering {
            return Ok(true);
        }
        let mut start = command(&runtime, number);
        start.args(["start", &id]);
        let (command, _) = spawn(&mut start, &runtime, "start")?;
        pending.stage = Stage::Starting { command };
        process.put_pending(pending);
        Ok(false)
    }
}
