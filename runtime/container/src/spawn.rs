//! Making a container's processes, and doing for them what takes the host's rights.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use runtime::plan::{CgroupJoin, CgroupPlan, ExecPlan, Head, Plan};
use runtime::proto::Step;
use runtime::wire::Wire;
use runtime_sys::clone::{Cloned, clone3, reap};
use runtime_sys::{pidfd, seqpacket};

use crate::child::{self, Inherited};
use crate::failure::{At, Result, failure};
use crate::namespaces::{CLONE_NEWTIME, Detour, sent};
use crate::report::{decode, order, word};
use crate::{Host, cgroup, hooks, host_mounts, users};

/// How long a group may stay busy with a child that is dying.
const CGROUP_PATIENCE: Duration = Duration::from_secs(2);

const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;
const NEWPID: u64 = libc::CLONE_NEWPID as u64;
const NEWNS: u64 = libc::CLONE_NEWNS as u64;

/// What a child gets beside its plan.
#[derive(Default)]
pub struct Options<'a> {
    /// Standard streams where there is no terminal; missing ones are the null device.
    pub streams: [Option<BorrowedFd<'a>>; 3],
    /// A FIFO at which the child waits before its program runs, until somebody opens it to read; what goes wrong from
    /// then on is written into it.
    pub gate: Option<BorrowedFd<'a>>,
    /// Whether the process is killed when this one ends.
    pub bound: bool,
    /// So many descriptors from 3 on are the process' too.
    pub keep: u32,
}

/// A container to start.
pub struct Start<'a> {
    /// Its head, decoded.
    pub head: &'a Head,
    /// The whole plan, encoded.
    pub plan: &'a [u8],
    /// Namespaces that the plan names by index.
    pub joined: &'a [OwnedFd],
    /// Everything else.
    pub options: Options<'a>,
}

/// A process in its set-up. Dropping it leaves it alone.
pub struct Spawned {
    /// In our pid namespace.
    pub pid: i32,
    /// Never means another process.
    pub pidfd: OwnedFd,
    /// What it says ([`crate::report()`]); at its end the program runs, or never will.
    pub sync: OwnedFd,
}

impl Spawned {
    /// Takes the process back.
    pub fn kill(&self) {
        let _ = pidfd::signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = reap(self.pid, true);
    }
}

/// Starts the set-up of a container: its groups, its process, and what that needs from outside. Returns when the process
/// can go on alone.
///
/// # Errors
/// Nothing of the container is left then.
pub fn container(host: &Host, start: &Start<'_>) -> Result<Spawned> {
    let head = start.head;
    // v1: the child joins by itself; where nothing stands in the way the groups are made while it mounts. v2: it is
    // cloned into its group.
    let late = !must_wait(head) && matches!(head.cgroup.join, CgroupJoin::Tasks { .. });
    if !late {
        cgroup::make(&head.cgroup)?;
    }
    let undo = || cgroup::remove(&head.cgroup, CGROUP_PATIENCE);
    let mut spawned = clone_container(host, start).inspect_err(|_| {
        if !late {
            undo();
        }
    })?;
    let prepared = prepare(host, start, &mut spawned, late);
    if let Err(failure) = prepared {
        // A child that failed first has the better reason.
        let reason = child_failure(&spawned).unwrap_or(failure);
        spawned.kill();
        undo();
        return Err(reason);
    }
    Ok(spawned)
}

/// Whether a child has to wait for us before it does anything.
pub fn must_wait(head: &Head) -> bool {
    head.users.is_some() || head.namespaces.joined.iter().any(|joined| joined.kind == NEWUSER)
}

fn clone_container(host: &Host, start: &Start<'_>) -> Result<Spawned> {
    let head = start.head;
    let namespaces = &head.namespaces;
    let apart = must_wait(head);
    let mut detour = Detour::default();
    let mut join = || -> Result<Option<Vec<OwnedFd>>> {
        for joined in &namespaces.joined {
            // For children only; and whoever has left the host's users behind may no longer join what is the host's.
            if joined.kind == NEWPID || apart && joined.kind != NEWUSER && joined.kind != NEWNS {
                detour.enter(host, sent(start.joined, joined.fd)?, joined.kind)?;
            }
        }
        if namespaces.new & CLONE_NEWTIME != 0 {
            detour.new_clocks(host, &head.time_offsets)?;
        }
        if apart {
            return Ok(None);
        }
        let maps = head.id_maps.iter().map(|map| users::namespace(host, map));
        maps.collect::<Result<_>>().map(Some)
    };
    let outcome = join().and_then(|maps| {
        // The cgroup namespace is made by the child when it is in its group; the clocks are there already.
        let new = namespaces.new & !(libc::CLONE_NEWCGROUP as u64 | CLONE_NEWTIME);
        let (ours, theirs) = seqpacket::pair().at(Step::Streams, "socket")?;
        let joins_users = namespaces.joined.iter().find(|joined| joined.kind == NEWUSER);
        // In an existing user namespace the others are made by a child that is in it.
        let first = if joins_users.is_some() { 0 } else { new };
        let cgroup = cgroup::folder(&head.cgroup).transpose()?;
        match clone3(&host.single, first, cgroup.as_ref().map(AsFd::as_fd)).at(Step::Clone, "")? {
            Cloned::Parent { pid, pidfd } => Ok(Spawned { pid, pidfd, sync: ours }),
            Cloned::Child => {
                drop(ours);
                let inherited = inherit(host, &theirs, &start.options);
                let id_maps = maps.unwrap_or_default();
                if let Some(joined) = joins_users {
                    child::split(&inherited, start.joined, joined.fd, new & !NEWUSER);
                }
                child::container(&inherited, start.plan, start.joined, &id_maps)
            }
        }
    });
    // Nothing but its end could take our own namespaces away.
    detour.home()?;
    outcome
}

fn inherit<'a>(host: &'a Host, sync: &'a OwnedFd, options: &'a Options<'a>) -> Inherited<'a> {
    Inherited {
        sync: sync.as_fd(),
        host,
        options,
        waiting: Default::default(),
    }
}

/// Everything that the child waits for.
fn prepare(host: &Host, start: &Start<'_>, spawned: &mut Spawned, late: bool) -> Result<()> {
    let head = start.head;
    if late {
        cgroup::make(&head.cgroup)?;
    }
    if head.namespaces.joined.iter().any(|joined| joined.kind == NEWUSER) {
        follow(host, spawned)?;
    }
    if let Some(map) = &head.users {
        users::write_maps(host, spawned.pid, map)?;
    }
    if must_wait(head) {
        let plan =
            Plan::decode(start.plan).map_err(|error| failure(Step::Plan, "", Errno::EINVAL, error.to_string()))?;
        let score = plan.process.oom_score_adj.clone().or_else(|| child::usual_score(host));
        users::grant(host, spawned.pid, &plan.process.rlimits, score.as_ref())?;
        host_mounts::hand_over(host, &plan, start.joined, spawned)?;
    }
    if must_wait(head) || late {
        seqpacket::send(spawned.sync.as_fd(), &[order::GO], &[]).at(Step::Streams, "socket")?;
    }
    if head.hooks.before_root() {
        wait_for(spawned, word::HOOKS)?;
        let state = |status: &str| head.hooks.state.json(status, spawned.pid);
        hooks::run_all(&head.hooks.prestart, &state("created"))?;
        hooks::run_all(&head.hooks.create_runtime, &state("creating"))?;
        seqpacket::send(spawned.sync.as_fd(), &[order::GO], &[]).at(Step::Hook, "socket")?;
    }
    Ok(())
}

/// The process that entered the user namespace has made the one that matters, and ends.
fn follow(host: &Host, spawned: &mut Spawned) -> Result<()> {
    let mut fds = wait_for(spawned, word::PROCESS)?;
    let lost = || failure(Step::Vanished, "", Errno::UnknownErrno, "");
    let process = fds.pop().ok_or_else(lost)?;
    let _ = reap(spawned.pid, true);
    spawned.pid = pid_of(host, &process).ok_or_else(lost)?;
    spawned.pidfd = process;
    Ok(())
}

/// A process' number in our pid namespace.
fn pid_of(host: &Host, process: &OwnedFd) -> Option<i32> {
    use std::os::fd::AsRawFd;
    let path = format!("self/fdinfo/{}", process.as_raw_fd());
    let file = host.open_proc(&path, OFlag::O_RDONLY).ok()?;
    let text = std::io::read_to_string(std::fs::File::from(file)).ok()?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok().filter(|pid| *pid > 0)
}

/// Waits for a word of the child, and what comes along.
fn wait_for(spawned: &Spawned, wanted: u8) -> Result<Vec<OwnedFd>> {
    let mut message = [0u8; 8192];
    loop {
        match seqpacket::receive(spawned.sync.as_fd(), &mut message) {
            Ok((count, fds)) => match message.get(..count).and_then(<[u8]>::split_first) {
                Some((&first, _)) if first == wanted => return Ok(fds),
                Some((&word::FAILURE, rest)) => return Err(decode(rest)),
                Some(_) => {}
                None => return Err(failure(Step::Vanished, "", Errno::UnknownErrno, "")),
            },
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ECONNRESET)) => {}
            Err(error) => return Err(error).at(Step::Streams, "socket"),
        }
    }
}

/// What the child has said of its own failure so far, without waiting.
fn child_failure(spawned: &Spawned) -> Option<runtime::proto::Failure> {
    let mut message = [0u8; 8192];
    loop {
        runtime_sys::fd::set_nonblocking(spawned.sync.as_fd(), true).ok()?;
        let (count, _) = seqpacket::receive(spawned.sync.as_fd(), &mut message).ok()?;
        let (&first, rest) = message.get(..count)?.split_first()?;
        if first == word::FAILURE {
            return Some(decode(rest));
        }
    }
}

/// A running container, as something that enters it needs to know it.
pub struct Entered<'a> {
    /// Its first process.
    pub init: BorrowedFd<'a>,
    /// That process' number in our pid namespace.
    pub pid: i32,
    /// `CLONE_NEW*` of the namespaces that it does not share with us.
    pub namespaces: u64,
    /// Its groups.
    pub cgroup: &'a CgroupPlan,
}

impl Entered<'_> {
    /// Opens a file of the first process in procfs (`root`, `cgroup`). Whoever is not its parent cannot keep the number
    /// from becoming another process' meanwhile: asked after, by what never means another.
    pub fn open_proc(&self, host: &Host, name: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        let file = host.open_proc(&format!("{}/{name}", self.pid), flags)?;
        match pidfd::signal(self.init, 0) {
            Ok(()) => Ok(file),
            Err(_) => Err(Errno::ESRCH),
        }
    }
}

/// A further process.
pub struct Exec<'a> {
    /// What runs.
    pub plan: &'a ExecPlan,
    /// Where.
    pub container: Entered<'a>,
    /// Everything else.
    pub options: Options<'a>,
}

/// Starts the set-up of a further process in a container.
///
/// # Errors
/// Nothing of it is left then.
pub fn exec(host: &Host, exec: &Exec<'_>) -> Result<Spawned> {
    let groups = exec.container.cgroup;
    let tasks = &cgroup::files(groups)[..];
    let cgroup = cgroup::folder(groups).transpose()?;
    match attempt(host, exec, tasks, cgroup.as_ref()) {
        // A v2 group whose children have controllers may hold no process itself: an init system in the container has
        // divided its group. Then the exec goes where the first process is.
        Err(failure) if failure.step == Step::Clone && failure.errno == libc::EBUSY => {
            let below = cgroup::folder_of(groups, || exec.container.open_proc(host, "cgroup", OFlag::O_RDONLY))?;
            attempt(host, exec, tasks, below.as_ref())
        }
        other => other,
    }
}

fn attempt(host: &Host, exec: &Exec<'_>, tasks: &[PathBuf], cgroup: Option<&OwnedFd>) -> Result<Spawned> {
    let mut detour = Detour::default();
    let entered = match exec.container.namespaces & NEWPID {
        0 => Ok(()),
        _ => detour.enter(host, exec.container.init, NEWPID),
    };
    let outcome = entered.and_then(|()| {
        let (ours, theirs) = seqpacket::pair().at(Step::Streams, "socket")?;
        match clone3(&host.single, 0, cgroup.map(AsFd::as_fd)).at(Step::Clone, "")? {
            Cloned::Parent { pid, pidfd } => Ok(Spawned { pid, pidfd, sync: ours }),
            Cloned::Child => {
                drop(ours);
                child::exec(&inherit(host, &theirs, &exec.options), exec, tasks)
            }
        }
    });
    detour.home()?;
    outcome
}
