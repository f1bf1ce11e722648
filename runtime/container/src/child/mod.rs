//! The child's side: from a copy of the shim to the container's program, in the order in which the kernel allows it.
//!
//! Until the program runs, this process holds the shim's rights inside a place that others control. So it is not
//! dumpable (nobody may look into it through `/proc`), it opens paths of the root only inside the root, it writes to
//! procfs only through the host's (opened and verified by the shim), and all its descriptors close with `exec`.

mod copy_up;
mod init;
mod labels;
pub mod mounts;
pub mod nodes;
mod privileges;
mod program;
pub mod root;
pub mod rootfs;
mod terminal;
mod tuning;
pub mod users;

use std::cell::OnceCell;
use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;
use nix::sys::socket::{Shutdown, shutdown};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, fchdir, fchown, setsid};
use runtime::plan::{CgroupJoin, ConsoleSize, IdMap, JoinedNamespace, MountSource, OomScoreAdj, Plan, ProcessPlan};
use runtime::proto::Step;
use runtime::wire::Wire;
use runtime_sys::clone::{Cloned, clone3_sibling, exit_now};
use runtime_sys::{fd, mount, openat2, privilege, seqpacket, signals, uts};

use crate::failure::{At, Result, failure};
use crate::namespaces::{self, sent};
use crate::report::{order, word};
use crate::spawn::{Exec, Options, is_apart, must_wait};
use crate::{Host, hooks, host_mounts};
use program::Program;
use root::{Parents, Root};

/// What every child has.
pub struct Inherited<'a> {
    /// The child's end of the socket to its maker; its closing tells that the program runs.
    pub sync: BorrowedFd<'a>,
    /// What the maker had from the beginning.
    pub host: &'a Host,
    /// What came along with the request.
    pub options: &'a Options<'a>,
    /// The gate, once it is open: what goes wrong from then on is told there.
    pub waiting: OnceCell<OwnedFd>,
}

const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;
const NEWNS: u64 = libc::CLONE_NEWNS as u64;

/// Sets up a container and becomes its first process.
pub fn container(inherited: &Inherited<'_>, plan: &[u8], joined: &[OwnedFd], id_maps: &[OwnedFd]) -> ! {
    // Modes in the plan are meant as they stand.
    umask(Mode::empty());
    let outcome = Plan::decode(plan)
        .map_err(|error| failure(Step::Plan, "", Errno::EINVAL, error.to_string()))
        .and_then(|plan| set_up(inherited, &plan, joined, id_maps));
    end(inherited, outcome)
}

/// Enters an existing user namespace and makes the process that matters from there, so that its other namespaces (`new`)
/// belong to it. Returns in that process.
pub fn split(inherited: &Inherited<'_>, joined: &[OwnedFd], users: u32, new: u64) {
    let outcome = sent(joined, users)
        .and_then(|users| namespaces::enter(users, NEWUSER).at(Step::Join, "user namespace"))
        .and_then(|()| clone3_sibling(&inherited.host.single, new).at(Step::Clone, ""));
    match outcome {
        Ok(Cloned::Child) => {}
        Ok(Cloned::Parent { pidfd, .. }) => {
            let _ = seqpacket::send(inherited.sync, &[word::PROCESS], &[pidfd.as_fd()]);
            exit_now(0)
        }
        Err(failure) => end(inherited, Err(failure)),
    }
}

/// Enters a container and becomes a further process in it. `tasks` are the v1 files by which it joins the cgroups.
pub fn exec(inherited: &Inherited<'_>, exec: &Exec<'_>, tasks: &[PathBuf]) -> ! {
    umask(Mode::empty());
    end(inherited, enter(inherited, exec, tasks))
}

fn end(inherited: &Inherited<'_>, outcome: Result<Infallible>) -> ! {
    let Err(failure) = outcome;
    let code = if failure.errno == libc::ENOENT { 127 } else { 126 };
    if let Some(gate) = inherited.waiting.get() {
        let mut message = Vec::new();
        failure.put(&mut message);
        let _ = nix::unistd::write(gate, &message);
        exit_now(code)
    }
    let mut message = vec![word::FAILURE];
    failure.put(&mut message);
    let _ = seqpacket::send(inherited.sync, &message, &[]);
    exit_now(code)
}

fn set_up(inherited: &Inherited<'_>, plan: &Plan, joined: &[OwnedFd], id_maps: &[OwnedFd]) -> Result<Infallible> {
    let namespaces = &plan.head.namespaces;
    let apart = is_apart(&plan.head);
    let mut cgroups = Some(Cgroups { inherited, plan });
    let mut made = Made::default();
    if must_wait(&plan.head) {
        made = Made::receive(inherited)?;
    }
    if apart {
        // Before the host's user is left behind, to whom the files belong.
        cgroups.take().map_or(Ok(()), Cgroups::join)?;
        become_root(plan.head.users.as_ref())?;
    }
    join_namespaces(namespaces, joined, apart)?;
    // Without a mount namespace of its own the container has a tree that is attached nowhere, and the process its root in
    // there. What is mounted in it is nobody else's, and goes with the process.
    let alone = namespaces.new & NEWNS != 0;
    if !apart {
        // Binds that stay shared with the host are copied while the host's tree is still shared.
        made.sources = mounts::clone_early(plan, joined, id_maps)?;
        let place = plan.head.socket.parent().unwrap_or(Path::new("/"));
        if alone {
            mounts::detach_propagation()?;
        }
        made.root = Some(rootfs::make(&plan.root, place)?);
    } else if alone {
        mounts::detach_propagation()?;
    }
    made.sources.resize_with(plan.mounts.len(), || None);
    let root = made
        .root
        .ok_or_else(|| failure(Step::Root, "/", Errno::EBADF, "it was not handed over"))?;
    let root = match alone {
        true => rootfs::attach(root, &plan.hook_root)?,
        false => Root::new(root),
    };
    let shared = made.sources;
    let label = &plan.mount_label;

    for (mount, cloned) in plan.mounts.iter().zip(shared) {
        // What a cgroup mount shows depends on the cgroup of the process; everything else need not wait for it.
        let needs_cgroups = match &mount.source {
            MountSource::Fs { fstype, .. } => fstype.starts_with("cgroup"),
            MountSource::BindFrom { .. } | MountSource::Remount { .. } => false,
            MountSource::Bind { path, .. } => plan.head.cgroup.own.iter().any(|own| path.starts_with(own)),
        };
        if needs_cgroups {
            cgroups.take().map_or(Ok(()), Cgroups::join)?;
        }
        mounts::add(&root, mount, cloned, id_maps, label, apart)?;
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
    settle(inherited, plan, apart)?;
    cgroups.take().map_or(Ok(()), Cgroups::join)?;
    outside_hooks(inherited, plan)?;
    // Masks and read-only paths come after the hooks, which may have changed what is below them.
    mounts::mask(&root, &plan.masked_paths)?;
    mounts::make_readonly(&root, &plan.readonly_paths)?;
    if plan.readonly_root {
        mount::set_attributes(root.fd(), mount::attr::RDONLY, 0, 0, false).at(Step::Readonly, "/")?;
    }
    match (alone, plan.no_pivot) {
        (true, false) => pivot(&root)?,
        (true, true) => move_root(&root)?,
        (false, _) => change_root(&root)?,
    }
    if plan.root_propagation != 0 && alone {
        mounts::change_propagation(MsFlags::from_bits_retain(plan.root_propagation)).at(Step::Root, "/")?;
    }
    run(inherited, &root, &plan.process, terminal, plan)
}

/// Names, kernel parameters and the OOM score.
fn settle(inherited: &Inherited<'_>, plan: &Plan, apart: bool) -> Result<()> {
    let proc = inherited.host.proc.as_fd();
    if plan.head.namespaces.new & libc::CLONE_NEWNET as u64 != 0 {
        // A new network has a loopback interface, which is down.
        runtime_sys::netns::loopback_up().at(Step::NetDevice, "lo")?;
    }
    // Those of a network that other users own were set by whoever has rights over it.
    let theirs = apart && host_mounts::joins_network(&plan.head);
    for (key, value) in plan
        .sysctls
        .iter()
        .filter(|(key, _)| !(theirs && key.starts_with("net/")))
    {
        sysctl(proc, key, value)?;
    }
    if !plan.hostname.is_empty() {
        nix::unistd::sethostname(&plan.hostname).at(Step::Hostname, &plan.hostname)?;
    }
    if !plan.domainname.is_empty() {
        // Not by its file, which belongs to the host's root.
        uts::set_domain_name(&plan.domainname).at(Step::Hostname, &plan.domainname)?;
    }
    if apart {
        // Done from outside: whoever has left the host's users behind may only be killed more easily.
        return Ok(());
    }
    oom_score(inherited, &plan.process)
}

/// The hooks that want the namespaces but not yet the root: those outside by whoever made us, then those inside.
fn outside_hooks(inherited: &Inherited<'_>, plan: &Plan) -> Result<()> {
    if plan.head.hooks.before_root() {
        seqpacket::send(inherited.sync, &[word::HOOKS], &[]).at(Step::Hook, "createRuntime")?;
        wait_for_go(inherited);
    }
    if plan.create_container.is_empty() {
        return Ok(());
    }
    let state = plan.head.hooks.state.json("creating", nix::unistd::getpid().as_raw());
    hooks::run_all(&plan.create_container, &state)
}

/// What was mounted with the host's rights.
#[derive(Default)]
struct Made {
    root: Option<OwnedFd>,
    sources: Vec<Option<OwnedFd>>,
}

impl Made {
    /// Takes what comes until the word to go on.
    fn receive(inherited: &Inherited<'_>) -> Result<Made> {
        let mut made = Made::default();
        let mut message = [0u8; 16];
        loop {
            match seqpacket::receive(inherited.sync, &mut message) {
                Ok((count, mut fds)) if count > 0 => match message[0] {
                    order::GO => return Ok(made),
                    order::ROOT => made.root = fds.pop(),
                    order::MOUNT => {
                        let number = message.get(1..5).and_then(|bytes| u32::decode(bytes).ok());
                        let number = number.unwrap_or_default() as usize;
                        if made.sources.len() <= number {
                            made.sources.resize_with(number + 1, || None);
                        }
                        made.sources[number] = fds.pop();
                    }
                    _ => {}
                },
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                // Whoever made us could not go on, and says so itself.
                _ => exit_now(126),
            }
        }
    }
}

/// Takes on root of a user namespace, or whoever comes first in it.
fn become_root(map: Option<&IdMap>) -> Result<()> {
    let first = |ranges: Option<&Vec<runtime::plan::IdRange>>| match ranges {
        Some(ranges) if ranges.iter().all(|range| range.inside != 0) => ranges.first().map_or(0, |range| range.inside),
        _ => 0,
    };
    let (uid, gid) = (first(map.map(|map| &map.users)), first(map.map(|map| &map.groups)));
    match privilege::set_groups(&[]) {
        // Denied to namespaces that an unprivileged user has made.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
        other => other.at(Step::Identity, "no groups")?,
    }
    privilege::set_group(gid).at(Step::Identity, gid.to_string())?;
    privilege::set_user(uid).at(Step::Identity, uid.to_string())?;
    privilege::set_dumpable(false).at(Step::Identity, "")
}

fn enter(inherited: &Inherited<'_>, exec: &Exec<'_>, tasks: &[PathBuf]) -> Result<Infallible> {
    let plan = exec.plan;
    tuning::initial_affinity(&plan.process.tuning)?;
    join_tasks(tasks)?;
    tuning::last_affinity(&plan.process.tuning)?;
    oom_score(inherited, &plan.process)?;
    privileges::raise_limits(&plan.process.rlimits);
    let namespaces = exec.container.namespaces;
    let folder = (namespaces & NEWNS == 0)
        .then(|| {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
            exec.container.open_proc(inherited.host, "root", flags)
        })
        .transpose()
        .at(Step::Join, "/")?;
    // The pid namespace was chosen before the clone. One call for the rest: all or nothing.
    let kinds = namespaces & !(libc::CLONE_NEWPID as u64);
    if kinds != 0 {
        namespaces::enter(exec.container.init, kinds).at(Step::Join, "namespaces of the container")?;
    }
    if let Some(folder) = folder {
        fchdir(&folder).at(Step::Join, "/")?;
        nix::unistd::chroot(".").at(Step::Join, "/")?;
    }
    let root = Root::of_process().at(Step::Join, "/")?;
    let terminal = open_terminal(inherited, &root, plan.terminal.as_ref())?;
    run(inherited, &root, &plan.process, terminal, &Plan::default())
}

/// From inside the container's root to its program.
fn run(
    inherited: &Inherited<'_>,
    root: &Root,
    plan: &ProcessPlan,
    terminal: Option<OwnedFd>,
    container: &Plan,
) -> Result<Infallible> {
    setsid().at(Step::Streams, "session")?;
    if !plan.keep_keyring {
        match privilege::leave_session_keyring() {
            Err(error) if error.raw_os_error() != Some(libc::ENOSYS) => Err(error).at(Step::Keyring, "")?,
            _ => {}
        }
    }
    let need_home = !plan.env.iter().any(|entry| {
        use std::os::unix::ffi::OsStrExt;
        entry.as_bytes().starts_with(b"HOME=") && entry.len() > 5
    });
    let identity = users::resolve(root, &plan.user, need_home)?;
    streams(inherited, root, terminal.as_ref(), identity.uid)?;
    // Tried with all rights, and again as the user: a folder of a network file system may be open to the user alone.
    let mut changed = change_folder(root, &plan.cwd);
    tuning::apply(&plan.tuning)?;
    labels::apply(inherited.host, &plan.labels)?;
    privileges::limits(&plan.rlimits)?;
    let rest = privileges::apply(plan, &identity)?;
    if changed.is_err() {
        changed = change_folder(root, &plan.cwd);
    }
    changed.at(Step::Cwd, &plan.cwd)?;
    // A container without a process can be made, and says so when it is started.
    let find = || Program::find(&plan.argv, &plan.env, &identity.home);
    let program = match (plan.argv.is_empty(), inherited.options.gate) {
        (true, Some(_)) => None,
        _ => Some(find()?),
    };
    umask(Mode::from_bits_truncate(plan.umask.unwrap_or(0o022)));
    fd::cloexec_from(3 + inherited.options.keep).at(Step::Streams, "descriptors")?;
    if inherited.options.bound {
        // A process without its shim has no streams, no log and nobody to wait for it.
        privilege::signal_at_parents_end(libc::SIGKILL).at(Step::Exec, "shim")?;
    }
    // One that asks an agent is in force for process 1 as well; any other it loads by itself.
    rest.confine(inherited, plan, false)?;
    if container.init {
        let terminal = terminal.as_ref().map(AsFd::as_fd);
        init::split(&inherited.host.single, terminal, || rest.confine(inherited, plan, true))?;
    }
    // A plain write, which every profile allows that lets a program say anything. (A failure that follows is told too, and
    // counts.)
    nix::unistd::write(inherited.sync, &[word::RUNNING]).at(Step::Exec, "shim")?;
    if let Some(gate) = inherited.options.gate {
        wait_at(inherited, gate)?;
    }
    if !container.start_container.is_empty() {
        let state = container
            .head
            .hooks
            .state
            .json("created", nix::unistd::getpid().as_raw());
        hooks::run_all(&container.start_container, &state)?;
    }
    signals::block_all(false).at(Step::Exec, "signal mask")?;
    let program = program.map_or_else(find, Ok)?;
    rest.confine(inherited, plan, true)?;
    program.run()
}

/// Waits until somebody opens the gate to read. The set-up is over: whoever made us is told so first, and goes.
fn wait_at(inherited: &Inherited<'_>, gate: BorrowedFd<'_>) -> Result<()> {
    let _ = shutdown(inherited.sync.as_raw_fd(), Shutdown::Both);
    let path = format!("self/fd/{}", gate.as_raw_fd());
    loop {
        match inherited.host.open_proc(&path, OFlag::O_WRONLY) {
            Err(Errno::EINTR) => {}
            other => {
                let _ = inherited.waiting.set(other.at(Step::Exec, "gate")?);
                return Ok(());
            }
        }
    }
}

/// The score of the plan; without one that of any process, not that of the shim.
fn oom_score(inherited: &Inherited<'_>, plan: &ProcessPlan) -> Result<()> {
    match &plan.oom_score_adj {
        Some(score) => privileges::oom_score(inherited.host.proc.as_fd(), score),
        None => usual_score(inherited.host).map_or(Ok(()), |score| {
            privileges::oom_score(inherited.host.proc.as_fd(), &score)
        }),
    }
}

/// What a process without a wish is given where its maker has another score than any process.
pub fn usual_score(host: &Host) -> Option<OomScoreAdj> {
    host.oom_score_lowered.then_some(OomScoreAdj {
        value: 0,
        strict: false,
    })
}

/// Joins what was not joined before the clone.
fn join_namespaces(namespaces: &runtime::plan::Namespaces, fds: &[OwnedFd], apart: bool) -> Result<()> {
    for JoinedNamespace { kind, fd } in &namespaces.joined {
        let before = *kind == libc::CLONE_NEWPID as u64 || *kind == NEWUSER || apart && *kind != NEWNS;
        if !before {
            namespaces::enter(sent(fds, *fd)?, *kind)
                .at(Step::Join, format!("{} namespace", namespaces::name(*kind)))?;
        }
    }
    Ok(())
}

/// Waits for the word to go on.
fn wait_for_go(inherited: &Inherited<'_>) {
    let mut word = [0u8; 1];
    loop {
        match seqpacket::receive(inherited.sync, &mut word) {
            Ok((1, _)) => return,
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            // Whoever made us could not go on, and says so itself.
            _ => exit_now(126),
        }
    }
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
                if matches!(head.cgroup.join, CgroupJoin::Tasks { .. }) && !must_wait(head) {
                    wait_for_go(self.inherited);
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
    seqpacket::send(inherited.sync, &[word::TERMINAL], &[master.as_fd()]).at(Step::Terminal, "shim")?;
    Ok(Some(slave))
}

/// Kernel parameters of our own namespaces, by the host's procfs: that of the container could be a fake.
pub fn sysctl(proc: BorrowedFd<'_>, key: &str, value: &str) -> Result<()> {
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

/// Moves the root over the host's and makes it that of the process. What `pivot_root` refuses on the kernel's first root
/// file system.
fn move_root(root: &Root) -> Result<()> {
    fchdir(root.fd()).at(Step::Pivot, "/")?;
    nix::mount::mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).at(Step::Pivot, "/")?;
    nix::unistd::chroot(".").at(Step::Pivot, "/")?;
    nix::unistd::chdir("/").at(Step::Pivot, "/")
}

/// Makes a tree that is attached nowhere the root of the process.
fn change_root(root: &Root) -> Result<()> {
    fchdir(root.fd()).at(Step::Pivot, "/")?;
    nix::unistd::chroot(".").at(Step::Pivot, "/")?;
    nix::unistd::chdir("/").at(Step::Pivot, "/")
}

fn streams(inherited: &Inherited<'_>, root: &Root, terminal: Option<&OwnedFd>, uid: u32) -> Result<()> {
    if let Some(slave) = terminal {
        runtime_sys::pty::take_control(slave).at(Step::Terminal, "control")?;
    }
    let mut null: Option<OwnedFd> = None;
    for (number, stream) in inherited.options.streams.iter().enumerate() {
        let source = match (terminal, stream) {
            (Some(slave), _) => slave.as_fd(),
            (None, Some(stream)) => *stream,
            (None, None) => {
                // The container's own node, so that what the process sees of it is in its own root.
                null = null.or_else(|| nodes::null_device(root));
                null.as_ref().map_or(inherited.host.null.as_fd(), AsFd::as_fd)
            }
        };
        // So that /dev/stdout and the like can be opened by name. The null device belongs to everybody.
        if uid != 0 && (terminal.is_some() || stream.is_some()) && !nodes::is_null(source) {
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
