//! The child's side: from a copy of the shim to the container's program, in the order in which the kernel allows it.
//!
//! Until the program runs, this process holds the shim's rights inside a place that others control. So it is not
//! dumpable (nobody may look into it through `/proc`), it opens paths of the root only inside the root, it writes to
//! procfs only through the host's (opened and verified by the shim), and all its descriptors close with `exec`.

mod copy_up;
pub mod failure;
mod init;
mod mounts;
mod nodes;
mod privileges;
mod program;
mod root;
mod rootfs;
mod terminal;
mod users;

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, fchdir, fchown, setsid};
use runtime::plan::{
    CgroupJoin, ConsoleSize, ExecPlan, JoinedNamespace, MountSource, Namespaces, OomScoreAdj, Plan, ProcessPlan,
};
use runtime::proto::{Failure, Step};
use runtime::wire::Wire;
use runtime_sys::clone::{SingleThread, exit_now};
use runtime_sys::{fd, mount, openat2, privilege, seqpacket, signals};

pub use nodes::is_null;

use failure::{At, Result, failure};
use program::Program;
use root::{Parents, Root};

/// What every child of the shim has.
pub struct Inherited<'a> {
    /// The child's end of the socket to the shim; its closing tells that the program runs.
    pub sync: BorrowedFd<'a>,
    /// Standard streams, where there is no terminal; missing ones are the null device.
    pub streams: [Option<BorrowedFd<'a>>; 3],
    /// The host's procfs.
    pub proc: BorrowedFd<'a>,
    /// The host's null device.
    pub null: BorrowedFd<'a>,
    /// The shim protects itself from the OOM killer, which its children inherit.
    pub oom_score_lowered: bool,
    /// The shim has one thread.
    pub single: &'a SingleThread,
}

/// What the child says to the shim before the socket closes.
pub mod report {
    /// The master of the terminal comes along.
    pub const TERMINAL: u8 = 1;
    /// An encoded `Failure` follows.
    pub const FAILURE: u8 = 2;
    /// The program is about to run: without this word, the end of the socket is the child's death.
    pub const RUNNING: u8 = 3;
}

/// Sets up a container and becomes its first process.
pub fn container(inherited: &Inherited<'_>, plan: &[u8], joined: &[OwnedFd]) -> ! {
    let outcome = Plan::decode(plan)
        .map_err(|error| failure(Step::Plan, "", Errno::EINVAL, error.to_string()))
        .and_then(|plan| {
            // Everything below would be done to the host's mounts.
            if plan.head.namespaces.new & libc::CLONE_NEWNS as u64 == 0 {
                return Err(failure(
                    Step::Plan,
                    "",
                    Errno::EINVAL,
                    "a container needs a mount namespace of its own",
                ));
            }
            set_up(inherited, &plan, joined)
        });
    end(inherited, outcome)
}

/// Enters a container and becomes a further process in it. `tasks` are the v1 files by which it joins the cgroups.
pub fn exec(inherited: &Inherited<'_>, plan: &ExecPlan, init: BorrowedFd<'_>, tasks: &[PathBuf]) -> ! {
    end(inherited, enter(inherited, plan, init, tasks))
}

fn end(inherited: &Inherited<'_>, outcome: Result<Infallible>) -> ! {
    let Err(failure) = outcome;
    let mut message = vec![report::FAILURE];
    failure.put(&mut message);
    let _ = seqpacket::send(inherited.sync, &message, &[]);
    exit_now(if failure.errno == libc::ENOENT { 127 } else { 126 })
}

fn set_up(inherited: &Inherited<'_>, plan: &Plan, joined: &[OwnedFd]) -> Result<Infallible> {
    join_namespaces(&plan.head.namespaces, joined)?;
    // Binds that stay shared with the host are copied while the host's tree is still shared.
    let shared: Vec<Option<OwnedFd>> = plan
        .mounts
        .iter()
        .map(|mount| match &mount.source {
            MountSource::BindFrom { namespace, path } => {
                let Some(namespace) = joined.get(*namespace as usize) else {
                    return Err(failure(
                        Step::Plan,
                        path,
                        Errno::EBADF,
                        "the plan names a namespace that did not come along",
                    ));
                };
                mounts::clone_from(namespace.as_fd(), path).map(Some)
            }
            _ if mounts::is_shared(mount) => mounts::clone_source(mount),
            _ => Ok(None),
        })
        .collect::<Result<_>>()?;
    mounts::detach_propagation()?;
    let place = plan.head.socket.parent().unwrap_or(Path::new("/"));
    let root = rootfs::mount(&plan.root, place)?;

    let mut cgroups = Some(Cgroups { inherited, plan });
    for (mount, cloned) in plan.mounts.iter().zip(shared) {
        // What a cgroup mount shows depends on the cgroup of the process; everything else need not wait for it.
        let needs_cgroups = match &mount.source {
            MountSource::Fs { fstype, .. } => fstype.starts_with("cgroup"),
            MountSource::BindFrom { .. } => false,
            MountSource::Bind { path, .. } => plan.head.cgroup.own.iter().any(|own| path.starts_with(own)),
        };
        if needs_cgroups {
            cgroups.take().map_or(Ok(()), Cgroups::join)?;
        }
        mounts::add(&root, mount, cloned)?;
    }
    let mut parents = Parents::new(&root);
    for device in &plan.devices {
        nodes::device(&mut parents, device)?;
    }
    for link in &plan.symlinks {
        nodes::symlink(&mut parents, link)?;
    }
    let terminal = open_terminal(inherited, &root, plan.head.terminal.as_ref())?;
    if let Some(slave) = &terminal {
        terminal::console(&root, slave)?;
    }
    let _ = root.folder(&plan.process.cwd);
    mounts::mask(&root, &plan.masked_paths)?;
    mounts::make_readonly(&root, &plan.readonly_paths)?;

    for (key, value) in &plan.sysctls {
        sysctl(inherited.proc, key, value)?;
    }
    if !plan.hostname.is_empty() {
        nix::unistd::sethostname(&plan.hostname).at(Step::Hostname, &plan.hostname)?;
    }
    if !plan.domainname.is_empty() {
        sysctl(inherited.proc, "kernel/domainname", &plan.domainname).map_err(|failure| Failure {
            step: Step::Hostname,
            ..failure
        })?;
    }
    oom_score(inherited, &plan.process)?;
    cgroups.take().map_or(Ok(()), Cgroups::join)?;

    if plan.readonly_root {
        mount::set_attributes(root.fd(), mount::attr::RDONLY, 0, 0, false).at(Step::Readonly, "/")?;
    }
    pivot(&root)?;
    if plan.root_propagation != 0 {
        mounts::change_propagation(MsFlags::from_bits_retain(plan.root_propagation)).at(Step::Root, "/")?;
    }
    run(inherited, &root, &plan.process, terminal, plan.init)
}

fn enter(inherited: &Inherited<'_>, plan: &ExecPlan, init: BorrowedFd<'_>, tasks: &[PathBuf]) -> Result<Infallible> {
    join_tasks(tasks)?;
    oom_score(inherited, &plan.process)?;
    // The pid namespace was chosen by the shim before the clone. One call for the rest: all or nothing.
    let kinds = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWCGROUP;
    nix::sched::setns(init, kinds).at(Step::Join, "namespaces of the container")?;
    let root = Root::of_process().at(Step::Join, "/")?;
    let terminal = open_terminal(inherited, &root, plan.terminal.as_ref())?;
    run(inherited, &root, &plan.process, terminal, false)
}

/// From inside the container's root to its program.
fn run(
    inherited: &Inherited<'_>,
    root: &Root,
    plan: &ProcessPlan,
    terminal: Option<OwnedFd>,
    init: bool,
) -> Result<Infallible> {
    setsid().at(Step::Streams, "session")?;
    match privilege::leave_session_keyring() {
        Err(error) if error.raw_os_error() != Some(libc::ENOSYS) => Err(error).at(Step::Identity, "session keyring")?,
        _ => {}
    }
    let need_home = !plan.env.iter().any(|entry| {
        use std::os::unix::ffi::OsStrExt;
        entry.as_bytes().starts_with(b"HOME=") && entry.len() > 5
    });
    let identity = users::resolve(root, &plan.user, need_home)?;
    streams(inherited, root, terminal.as_ref(), identity.uid)?;
    // Tried with all rights, and again as the user: a folder of a network file system may be open to the user alone.
    let mut changed = change_folder(root, &plan.cwd);
    privileges::limits(&plan.rlimits)?;
    privileges::apply(plan, &identity)?;
    if changed.is_err() {
        changed = change_folder(root, &plan.cwd);
    }
    changed.at(Step::Cwd, &plan.cwd)?;
    let program = Program::find(&plan.argv, &plan.env, &identity.home)?;
    umask(Mode::from_bits_truncate(plan.umask.unwrap_or(0o022)));
    fd::cloexec_from(3).at(Step::Streams, "descriptors")?;
    // A process without its shim has no streams, no log and nobody to wait for it.
    privilege::signal_at_parents_end(libc::SIGKILL).at(Step::Exec, "shim")?;
    if init {
        init::split(inherited.single, terminal.as_ref().map(AsFd::as_fd))?;
    }
    seqpacket::send(inherited.sync, &[report::RUNNING], &[]).at(Step::Exec, "shim")?;
    signals::block_all(false).at(Step::Exec, "signal mask")?;
    program.run()
}

/// The score of the plan; without one that of any process, not that of the shim.
fn oom_score(inherited: &Inherited<'_>, plan: &ProcessPlan) -> Result<()> {
    match &plan.oom_score_adj {
        Some(score) => privileges::oom_score(inherited.proc, score),
        None if inherited.oom_score_lowered => privileges::oom_score(
            inherited.proc,
            &OomScoreAdj {
                value: 0,
                strict: false,
            },
        ),
        None => Ok(()),
    }
}

fn join_namespaces(namespaces: &Namespaces, fds: &[OwnedFd]) -> Result<()> {
    for JoinedNamespace { kind, fd } in &namespaces.joined {
        let kind = CloneFlags::from_bits_truncate(*kind as i32);
        if kind == CloneFlags::CLONE_NEWPID {
            continue; // done by the shim: it only takes effect for children
        }
        let namespace = fds
            .get(*fd as usize)
            .ok_or_else(|| failure(Step::Join, fd.to_string(), Errno::EBADF, "not sent"))?;
        nix::sched::setns(namespace, kind).at(Step::Join, format!("{kind:?}"))?;
    }
    Ok(())
}

/// The cgroups of a container, which the shim makes while the child mounts.
struct Cgroups<'a> {
    inherited: &'a Inherited<'a>,
    plan: &'a Plan,
}

impl Cgroups<'_> {
    fn join(self) -> Result<()> {
        let head = &self.plan.head;
        match &head.cgroup.join {
            CgroupJoin::Tasks { files } | CgroupJoin::Both { files, .. } => {
                let mut word = [0u8; 1];
                match seqpacket::receive(self.inherited.sync, &mut word) {
                    Ok((1, _)) => {}
                    // The shim could not make them and says so itself.
                    _ => exit_now(126),
                }
                join_tasks(files)?;
            }
            CgroupJoin::None | CgroupJoin::Into { .. } => {}
        }
        // Not a flag of the clone: the root of the namespace is the cgroup at this moment.
        if head.namespaces.new & libc::CLONE_NEWCGROUP as u64 != 0 {
            nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP).at(Step::CgroupJoin, "namespace")?;
        }
        Ok(())
    }
}

/// v1: writing `0` to `tasks` moves this thread, and skips the lock over whole processes that `cgroup.procs` takes.
fn join_tasks(files: &[PathBuf]) -> Result<()> {
    for path in files {
        let file = nix::fcntl::open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
        file.and_then(|file| nix::unistd::write(&file, b"0"))
            .at(Step::CgroupJoin, path)?;
    }
    Ok(())
}

fn open_terminal(inherited: &Inherited<'_>, root: &Root, size: Option<&ConsoleSize>) -> Result<Option<OwnedFd>> {
    let Some(size) = size else {
        return Ok(None);
    };
    let (master, slave) = terminal::open(root, size)?;
    seqpacket::send(inherited.sync, &[report::TERMINAL], &[master.as_fd()]).at(Step::Terminal, "shim")?;
    Ok(Some(slave))
}

/// Kernel parameters of our own namespaces, by the host's procfs: that of the container could be a fake.
fn sysctl(proc: BorrowedFd<'_>, key: &str, value: &str) -> Result<()> {
    let path = Path::new("sys").join(key);
    let flags = OFlag::O_WRONLY | OFlag::O_NOCTTY;
    let file = openat2::openat2(proc, &path, flags.bits(), 0, openat2::Resolve::IN_ROOT_NO_SYMLINKS);
    let file = file.at(Step::Sysctl, key)?;
    nix::unistd::write(&file, value.as_bytes())
        .at(Step::Sysctl, key)
        .map(drop)
}

/// Makes the container's root that of the process, and lets go of the host's.
fn pivot(root: &Root) -> Result<()> {
    fchdir(root.fd()).at(Step::Pivot, "/")?;
    // Stacks the old root over the new one at the same place, from where it is taken off: no folder is needed for it.
    nix::unistd::pivot_root(".", ".").at(Step::Pivot, "/")?;
    nix::mount::umount2(".", MntFlags::MNT_DETACH).at(Step::Pivot, "/")?;
    nix::unistd::chdir("/").at(Step::Pivot, "/")
}

fn streams(inherited: &Inherited<'_>, root: &Root, terminal: Option<&OwnedFd>, uid: u32) -> Result<()> {
    if let Some(slave) = terminal {
        runtime_sys::pty::take_control(slave).at(Step::Terminal, "control")?;
    }
    let mut null: Option<OwnedFd> = None;
    for (number, stream) in inherited.streams.iter().enumerate() {
        let source = match (terminal, stream) {
            (Some(slave), _) => slave.as_fd(),
            (None, Some(stream)) => *stream,
            (None, None) => {
                // The container's own node, so that what the process sees of it is in its own root.
                null = null.or_else(|| nodes::null_device(root));
                null.as_ref().map_or(inherited.null, AsFd::as_fd)
            }
        };
        // So that /dev/stdout and the like can be opened by name.
        if uid != 0 && (terminal.is_some() || stream.is_some()) {
            let _ = fchown(source, Some(Uid::from_raw(uid)), None);
        }
        fd::set_standard(number as i32, source).at(Step::Streams, "standard streams")?;
    }
    Ok(())
}

fn change_folder(root: &Root, path: &Path) -> nix::Result<()> {
    let path = if path.as_os_str().is_empty() {
        Path::new("/")
    } else {
        path
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let folder = match root.open(path, flags) {
        // An exec's folder may be new.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => root.folder(path),
        other => other,
    };
    fchdir(folder.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?)?;
    // A folder outside of the root would show as "(unreachable)" (CVE-2024-21626).
    let here = nix::unistd::getcwd()?;
    if here.is_absolute() { Ok(()) } else { Err(Errno::EXDEV) }
}

/// The host's procfs, verified.
pub fn host_proc() -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let proc = nix::fcntl::open("/proc", flags, Mode::empty())?;
    let kind = nix::sys::statfs::fstatfs(&proc)?.filesystem_type();
    if kind == nix::sys::statfs::PROC_SUPER_MAGIC {
        Ok(proc)
    } else {
        Err(Errno::ENOSYS)
    }
}

/// This process' own pid namespace, to come back to.
pub fn own_pid_namespace(proc: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    openat(proc, "self/ns/pid", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}
