//! What `create` and `run` share: from a bundle to a process that has been set up.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use runtime::cgroup::{CgroupPath, Cgroups};
use runtime::plan::{LogTarget, Plan, Stdin};
use runtime::proto::VERSION;
use runtime::spec::{self, Compiled, Filters};
use runtime::wire::Wire;
use runtime_container::{Agent, Host, Options, Report, Spawned, Start, cgroup, hooks, report};

use crate::args::{Global, Making};
use crate::error::{Context, Error, Result, of_failure};
use crate::log::Log;
use crate::state::{self, Container, Record};

/// How long the groups of a container that has ended may stay busy.
pub const CGROUP_PATIENCE: Duration = Duration::from_secs(5);

/// A container whose program is about to run, or waits to be started.
pub struct Launched {
    pub container: Container,
    pub plan: Plan,
    pub spawned: Spawned,
    pub report: Report,
}

/// A bundle, understood.
pub struct Bundle {
    pub folder: PathBuf,
    pub compiled: Compiled,
    rootfs: PathBuf,
    annotations: BTreeMap<String, String>,
}

/// Reads a bundle. Everything that can be found wrong is found wrong here, before anything is touched.
pub fn read_bundle(global: &Global, making: &Making, id: &str, cgroups: &Cgroups) -> Result<Bundle> {
    state::check_id(id)?;
    let folder = fs::canonicalize(&making.bundle).context(format!("no bundle at {}", making.bundle.display()))?;
    let path = folder.join("config.json");
    let json = fs::read(&path).context(format!("cannot read {}", path.display()))?;
    let spec = spec::load(&json).context(format!("cannot read {}", path.display()))?;
    let mut compiled = compile(&spec, global, id, &folder, cgroups)?;
    let plan = &mut compiled.plan;
    plan.no_pivot = making.no_pivot;
    plan.process.keep_keyring = making.no_new_keyring;
    pass_sockets(plan);
    let root = spec
        .root()
        .as_ref()
        .map(|root| folder.join(root.path()))
        .unwrap_or_default();
    let rootfs = fs::canonicalize(&root).context(format!("invalid root.path: {}", root.display()))?;
    if !rootfs.is_dir() {
        return Err(Error::new(format!(
            "invalid root.path: {} is not a folder",
            rootfs.display()
        )));
    }
    plan.root = runtime::plan::Root::Dir { path: rootfs.clone() };
    let annotations = spec.annotations().clone().unwrap_or_default().into_iter().collect();
    Ok(Bundle {
        folder,
        compiled,
        rootfs,
        annotations,
    })
}

fn compile(
    spec: &oci_spec::runtime::Spec,
    global: &Global,
    id: &str,
    bundle: &Path,
    cgroups: &Cgroups,
) -> Result<Compiled> {
    let parent = CgroupPath::new("/iechor")?;
    let filters = Filters::default();
    let host = spec::Host {
        id,
        bundle,
        root: None,
        exit_file: PathBuf::new(),
        socket: PathBuf::new(),
        log: LogTarget::None,
        stdin: Stdin::Null,
        init: false,
        user: None,
        cgroups,
        cgroup_parent: &parent,
        filter: None,
        filters: &filters,
    };
    let _ = global;
    Ok(spec::compile(spec, &host)?)
}

/// Sockets that systemd or the caller has opened for the container (sd_listen_fds(3)) are its own.
fn pass_sockets(plan: &mut Plan) {
    if let Some(count) = listen_fds() {
        plan.process.env.push(format!("LISTEN_FDS={count}").into());
        plan.process.env.push("LISTEN_PID=1".into());
    }
}

fn listen_fds() -> Option<u32> {
    std::env::var("LISTEN_FDS")
        .ok()?
        .parse()
        .ok()
        .filter(|count| *count > 0)
}

/// How many descriptors from 3 on go to the container, all of them open.
pub fn kept(preserve: u32) -> Result<u32> {
    let count = preserve.saturating_add(listen_fds().unwrap_or(0));
    for number in 3..count.saturating_add(3) {
        if fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() {
            return Err(Error::new(format!("--preserve-fds: descriptor {number} is not open")));
        }
    }
    Ok(count)
}

/// Whether, and from where, the process waits before its program runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// `create`: until `start`.
    Started,
    /// `run`: not at all.
    Now,
}

/// Makes a container. On failure nothing is left, and the hooks for its end have been run.
pub fn launch(
    global: &Global,
    making: &Making,
    id: &str,
    bundle: Bundle,
    until: Until,
    streams: [Option<BorrowedFd<'_>>; 3],
    log: &Log,
) -> Result<Launched> {
    let keep = kept(making.preserve_fds)?;
    let host = Host::open().context("cannot start containers here")?;
    let folder = state::make_folder(&global.root, id)?;
    let outcome = (|| {
        let joined = open_namespaces(&bundle.compiled)?;
        let gate = match until {
            Until::Started => Some(make_gate(&folder)?),
            Until::Now => None,
        };
        let plan = &bundle.compiled.plan;
        let encoded = plan.encode();
        Container::save_plan(&folder, &encoded)?;
        let spawned = runtime_container::container(
            &host,
            &Start {
                head: &plan.head,
                plan: &encoded,
                joined: &joined,
                options: Options {
                    streams,
                    gate: gate.as_ref().map(AsFd::as_fd),
                    bound: false,
                    keep,
                },
            },
        )
        .map_err(of_failure)?;
        finish(making, id, &folder, &bundle, &spawned)
            .inspect_err(|_| {
                spawned.kill();
                cgroup::remove(&plan.head.cgroup, CGROUP_PATIENCE);
            })
            .map(|(container, report)| (container, spawned, report))
    })();
    match outcome {
        Ok((container, spawned, report)) => Ok(Launched {
            container,
            plan: bundle.compiled.plan,
            spawned,
            report,
        }),
        Err(error) => {
            let _ = fs::remove_dir_all(&folder);
            stopped(&bundle.compiled.plan, log);
            Err(error)
        }
    }
}

/// The hooks for a container's end.
pub fn stopped(plan: &Plan, log: &Log) {
    let outside = &plan.head.hooks;
    if outside.poststop.is_empty() {
        return;
    }
    for failure in hooks::run_each(&outside.poststop, &outside.state.json("stopped", 0)) {
        log.warning(&of_failure(failure).to_string());
    }
}

fn make_gate(folder: &Path) -> Result<OwnedFd> {
    let path = state::gate(folder);
    nix::unistd::mkfifo(&path, Mode::empty()).context(format!("cannot make {}", path.display()))?;
    // The process that waits there may be any user by then. Nobody else can reach it: the folder is ours alone.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).context(format!("cannot open {}", path.display()))?;
    open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).context(format!("cannot open {}", path.display()))
}

fn open_namespaces(compiled: &Compiled) -> Result<Vec<OwnedFd>> {
    let opened = compiled.joined.iter().map(|path| {
        open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .context(format!("invalid linux.namespaces: cannot open {}", path.display()))
    });
    opened.collect()
}

/// Waits for the end of the set-up, and tells everybody.
fn finish(making: &Making, id: &str, folder: &Path, bundle: &Bundle, spawned: &Spawned) -> Result<(Container, Report)> {
    let agent = bundle.compiled.plan.process.listener.as_ref().map(|listener| Agent {
        listener,
        pid: spawned.pid,
        status: "creating",
        init: spawned.pid,
    });
    let mut report = report(&spawned.sync, agent.as_ref()).map_err(of_failure)?;
    if let (Some(master), Some(socket)) = (&report.terminal, &making.console_socket) {
        crate::console::hand_over(socket, master)?;
        report.terminal = None;
    }
    // A program that has ended already has no start time any more; it is stopped.
    let start_time = state::stat(spawned.pid).map_or(0, |(_, started)| started);
    let container = Container {
        folder: folder.to_owned(),
        record: Record {
            plan_version: VERSION,
            id: id.to_owned(),
            pid: spawned.pid,
            start_time,
            bundle: bundle.folder.clone(),
            rootfs: bundle.rootfs.clone(),
            created: jiff::Timestamp::now().to_string(),
            owner: nix::unistd::getuid().as_raw(),
            cgroup: bundle.compiled.cgroup.to_string(),
            systemd_unit: None,
            annotations: bundle.annotations.clone(),
        },
    };
    container.save()?;
    if let Some(path) = &making.pid_file {
        write_pid(path, spawned.pid)?;
    }
    Ok((container, report))
}

/// Writes a process number, whole or not at all.
pub fn write_pid(path: &Path, pid: i32) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = folder.join(format!(".{name}.new"));
    fs::write(&new, pid.to_string())
        .and_then(|()| fs::rename(&new, path))
        .context(format!("cannot write pid file {}", path.display()))
}
