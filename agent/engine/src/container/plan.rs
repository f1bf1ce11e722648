//! From a container's record to what the shim carries out.
//!
//! Namespaces, mounts, limits and privileges as Docker gives them by default, changed by what the user asked for. Users and
//! programs are looked up inside the container, by the child itself.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use runtime::cgroup::{CgroupPath, DeviceRule, Resources as Limits};
use runtime::plan::{
    Caps, ConsoleSize, Device, DeviceKind, ExecPlan, Head, JoinedNamespace, Mount, MountSource, Namespaces,
    OomScoreAdj, Plan, ProcessPlan, Rlimit, Root, Stdin, Symlink, User,
};
use runtime::seccomp::{self, Filter, Profile};
use runtime::{capabilities, defaults};

use super::exec::{ExecRequest, ExecStart};
use super::mounts::{MountKind, MountPoint, RecursiveReadOnly};
use super::spec::{Config, HostConfig, Resources, Ulimit};
use super::validate::{Share, ipc_share, network_share, pid_share};
use super::{Record, spec};
use crate::Engine;
use crate::error::{Error, Result};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"; // Docker's

/// What `--security-opt` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Security {
    no_new_privileges: Option<bool>,
    seccomp: Seccomp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Seccomp {
    #[default]
    Default,
    Unconfined,
    /// A profile as JSON text.
    Profile(String),
}

fn security(host: &HostConfig) -> Result<Security> {
    let mut found = Security::default();
    for option in &host.security_opt {
        let (key, value) = option
            .split_once('=')
            .or_else(|| option.split_once(':'))
            .unwrap_or((option, ""));
        match (key, value) {
            ("no-new-privileges", "" | "true") => found.no_new_privileges = Some(true),
            ("no-new-privileges", "false") => found.no_new_privileges = Some(false),
            ("seccomp", "unconfined") => found.seccomp = Seccomp::Unconfined,
            ("seccomp", "" | "builtin") => found.seccomp = Seccomp::Default,
            ("seccomp", profile) => found.seccomp = Seccomp::Profile(profile.to_owned()),
            // No AppArmor or SELinux is applied, so turning them off asks for what is so.
            ("apparmor", "unconfined") | ("label", "disable") => {}
            ("apparmor" | "label" | "systempaths" | "writable-cgroups" | "credentialspec", _) => {
                return Err(Error::unsupported(format!("--security-opt {option}")));
            }
            _ => return Err(Error::invalid(format!("invalid --security-opt 2: \"{option}\""))),
        }
    }
    Ok(found)
}

/// The capabilities of a container: Docker's rule, within what this daemon can hand on.
fn capability_sets(host: &HostConfig) -> Result<u64> {
    let available = capabilities::available();
    if host.privileged {
        return Ok(capabilities::ALL & available);
    }
    let wanted = capabilities::adjust(&host.cap_add, &host.cap_drop)
        .map_err(|name| Error::invalid(format!("invalid capability: \"{name}\"")))?;
    let all = host.cap_add.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let named = capabilities::mask(host.cap_add.iter().filter(|name| !name.eq_ignore_ascii_case("ALL"))).unwrap_or(0);
    let missing = capabilities::names(named & wanted & !available);
    if let (Some(name), false) = (missing.first(), all) {
        return Err(Error::invalid(format!(
            "capability {name} cannot be given: the daemon does not have it itself"
        )));
    }
    Ok(wanted & available)
}

/// Sysctls that belong to a namespace of the container; others would change the host.
fn sysctl(name: &str, host: &HostConfig) -> Result<String> {
    let path = name.replace('.', "/");
    let ipc = [
        "kernel/msgmax",
        "kernel/msgmnb",
        "kernel/msgmni",
        "kernel/sem",
        "kernel/shmall",
        "kernel/shmmax",
        "kernel/shmmni",
        "kernel/shm_rmid_forced",
    ];
    let own_ipc = ipc_share(host)? != Share::Host;
    let own_net = network_share(host)? != Share::Host;
    let refuse = |why: &str| Err(Error::invalid(format!("sysctl '{name}' is not allowed: {why}")));
    if path
        .split('/')
        .any(|part| part.is_empty() || part == ".." || part == ".")
    {
        return refuse("it is no name of a setting");
    }
    if ipc.contains(&path.as_str()) || path.starts_with("fs/mqueue/") {
        return if own_ipc {
            Ok(path)
        } else {
            refuse("the container has the host's IPC namespace")
        };
    }
    if path.starts_with("net/") {
        return if own_net {
            Ok(path)
        } else {
            refuse("the container has the host's network namespace")
        };
    }
    match path.as_str() {
        "kernel/domainname" if host.uts_mode != "host" => Ok(path),
        "kernel/hostname" => refuse("use --hostname"),
        _ => refuse("it is not in a separate kernel namespace"),
    }
}

/// Everything of a request that only the plan looks at, checked at create.
pub(crate) fn check(config: &Config, host: &HostConfig) -> Result<()> {
    let security = security(host)?;
    let caps = capability_sets(host)?;
    if let Seccomp::Profile(text) = &security.seccomp {
        let compiled = Profile::from_json(text.as_bytes())
            .and_then(|profile| seccomp::Cache::default().get(&Arc::new(profile), caps));
        compiled.map_err(|error| Error::invalid(error_text(&error)))?;
    }
    for name in host.sysctls.keys() {
        sysctl(name, host)?;
    }
    for name in host.resources.ulimits.keys() {
        rlimit_number(name)?;
    }
    for rule in &host.resources.device_cgroup_rules {
        DeviceRule::parse(true, rule).map_err(|error| Error::invalid(error.to_string()))?;
    }
    for group in &host.group_add {
        if group.is_empty() {
            return Err(Error::invalid("invalid group to add: the name is empty"));
        }
    }
    if config.user.contains('\0') {
        return Err(Error::invalid("invalid user: it contains a NUL byte"));
    }
    Ok(())
}

fn rlimit_number(name: &str) -> Result<u32> {
    use nix::libc as c;
    Ok(match name {
        "as" => c::RLIMIT_AS,
        "core" => c::RLIMIT_CORE,
        "cpu" => c::RLIMIT_CPU,
        "data" => c::RLIMIT_DATA,
        "fsize" => c::RLIMIT_FSIZE,
        "locks" => c::RLIMIT_LOCKS,
        "memlock" => c::RLIMIT_MEMLOCK,
        "msgqueue" => c::RLIMIT_MSGQUEUE,
        "nice" => c::RLIMIT_NICE,
        "nofile" => c::RLIMIT_NOFILE,
        "nproc" => c::RLIMIT_NPROC,
        "rss" => c::RLIMIT_RSS,
        "rtprio" => c::RLIMIT_RTPRIO,
        "rttime" => c::RLIMIT_RTTIME,
        "sigpending" => c::RLIMIT_SIGPENDING,
        "stack" => c::RLIMIT_STACK,
        other => return Err(Error::invalid(format!("invalid ulimit type: {other}"))),
    })
}

/// Profiles and their compiled filters: compiling takes longer than starting.
#[derive(Default)]
pub struct PlanCache {
    filters: seccomp::Cache,
    /// Users' profiles by their text.
    profiles: Mutex<HashMap<String, Arc<Profile>>>,
}

/// Users' profiles kept; there may be many.
const PROFILES: usize = 64;

impl PlanCache {
    pub fn new() -> PlanCache {
        PlanCache::default()
    }

    fn profile(&self, text: &str) -> Result<Arc<Profile>> {
        let mut profiles = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(profile) = profiles.get(text) {
            return Ok(profile.clone());
        }
        let read = Profile::from_json(text.as_bytes()).map_err(|error| Error::invalid(error_text(&error)))?;
        let profile = Arc::new(read);
        if profiles.len() >= PROFILES {
            profiles.clear();
        }
        profiles.insert(text.to_owned(), profile.clone());
        Ok(profile)
    }

    fn filter(&self, wanted: &Seccomp, caps: u64) -> Result<Arc<Filter>> {
        let profile = match wanted {
            Seccomp::Unconfined => return Ok(Arc::default()),
            Seccomp::Default => Profile::docker(),
            Seccomp::Profile(text) => self.profile(text)?,
        };
        self.filters
            .get(&profile, caps)
            .map_err(|error| Error::invalid(error_text(&error)))
    }
}

/// An error with its causes, as one line.
fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn limit(name: &str, limit: &Ulimit, strict: bool) -> Result<Rlimit> {
    let value = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
    Ok(Rlimit {
        resource: rlimit_number(name)?,
        soft: value(limit.soft),
        hard: value(limit.hard),
        strict,
    })
}

impl Engine {
    /// The control group of a container.
    pub(crate) fn cgroup_path(&self, record: &Record) -> Result<CgroupPath> {
        let parent = match record.host.resources.cgroup_parent.as_str() {
            "" => &self.config.cgroup_parent,
            own => own,
        };
        Ok(CgroupPath::new(parent)?.child(record.id.as_str())?)
    }

    /// The plan of a container's next run; `joined` are the kinds of the namespaces whose descriptors are sent along.
    pub(crate) fn compile(&self, record: &Record, joined: &[u64]) -> Result<Plan> {
        let (config, host) = (&record.config, &record.host);
        let places = self.places(&record.id);
        let rw = self.store.snapshots().get(record.id.as_str())?;
        let parent = match host.resources.cgroup_parent.as_str() {
            "" => &self.config.cgroup_parent,
            own => own,
        };
        let devices = self.devices(host)?;
        let limits = limits(&host.resources, host.privileged, &devices)?;
        let cgroup = self
            .cgroups
            .plan(&CgroupPath::new(parent)?, record.id.as_str(), &limits)?;
        let terminal = config.tty.then_some(ConsoleSize {
            rows: host.console_size[0],
            cols: host.console_size[1],
        });
        let stdin = if config.open_stdin {
            Stdin::Pipe {
                once: config.stdin_once,
            }
        } else {
            Stdin::Null
        };
        let own_uts = host.uts_mode != "host";
        let mut sysctls = Vec::new();
        // Docker's defaults for ports below 1024 and ping are set in every namespace that the network gives.
        for (name, value) in &host.sysctls {
            sysctls.push((sysctl(name, host)?, value.clone()));
        }
        let (masked, readonly) = if host.privileged {
            (Vec::new(), Vec::new())
        } else {
            let masked = host.masked_paths.as_deref().unwrap_or(defaults::masked_paths());
            let mut readonly = match &host.readonly_paths {
                Some(own) => own.iter().map(PathBuf::from).collect(),
                None => defaults::READONLY_PATHS.iter().map(PathBuf::from).collect::<Vec<_>>(),
            };
            if !self.cgroups.v1_mounts().is_empty() {
                // Writable until the hierarchies are mounted in it.
                readonly.push(PathBuf::from(defaults::V1_CGROUP_ROOT));
            }
            (masked.iter().map(PathBuf::from).collect(), readonly)
        };
        Ok(Plan {
            head: Head {
                id: record.id.to_string(),
                exit_file: places.exit_file(),
                socket: self.config.exec_root.join("shim").join(format!("{}.sock", record.id)),
                log: self.log_target(record)?,
                namespaces: namespaces(host, joined)?,
                cgroup,
                stdin,
                terminal,
            },
            root: Root::Overlay {
                lower: rw.lower,
                upper: rw.upper,
                work: rw.work,
                // Not even for --rm: a restart mounts the same layer again, which the kernel refuses after a volatile mount.
                volatile: false,
            },
            readonly_root: host.readonly_rootfs,
            root_propagation: root_propagation(&record.mounts),
            mounts: self.mounts(record)?,
            devices,
            symlinks: defaults::SYMLINKS
                .iter()
                .map(|(path, target)| Symlink {
                    path: PathBuf::from(path),
                    target: PathBuf::from(target),
                })
                .collect(),
            masked_paths: masked,
            readonly_paths: readonly,
            hostname: if own_uts {
                config.hostname.clone()
            } else {
                String::new()
            },
            domainname: if own_uts {
                config.domainname.clone()
            } else {
                String::new()
            },
            sysctls,
            process: self.process(record)?,
            init: host.init.unwrap_or(self.config.init),
        })
    }

    fn process(&self, record: &Record) -> Result<ProcessPlan> {
        let (config, host) = (&record.config, &record.host);
        let security = security(host)?;
        let caps = capability_sets(host)?;
        let filter = match (&security.seccomp, host.privileged) {
            // A privileged container has no filter unless one is asked for.
            (Seccomp::Default, true) => Arc::default(),
            (wanted, _) => self.plans.filter(wanted, caps)?,
        };
        let mut rlimits = Vec::new();
        for (name, value) in &self.config.default_ulimits {
            if !host.resources.ulimits.contains_key(name) {
                rlimits.push(limit(name, value, false)?);
            }
        }
        for (name, value) in &host.resources.ulimits {
            rlimits.push(limit(name, value, true)?);
        }
        let mut env = vec![
            OsString::from(DEFAULT_PATH),
            OsString::from(format!("HOSTNAME={}", config.hostname)),
        ];
        if config.tty {
            env.push("TERM=xterm".into());
        }
        override_env(&mut env, &config.env);
        Ok(ProcessPlan {
            argv: record.argv().into_iter().map(OsString::from).collect(),
            env,
            cwd: PathBuf::from(if config.working_dir.is_empty() {
                "/"
            } else {
                &config.working_dir
            }),
            user: User::Named {
                user: config.user.clone(),
                extra_groups: host.group_add.clone(),
            },
            umask: None,
            caps: caps_of(caps),
            no_new_privs: security.no_new_privileges.unwrap_or(self.config.no_new_privileges) && !host.privileged
                || security.no_new_privileges == Some(true),
            seccomp: filter.program.clone().into(),
            seccomp_flags: filter.flags,
            rlimits,
            oom_score_adj: (host.oom_score_adj != 0).then_some(OomScoreAdj {
                value: host.oom_score_adj,
                strict: true,
            }),
        })
    }

    /// The plan of a further process, with the container's privileges (all of them for `--privileged`).
    pub(crate) fn compile_exec(&self, record: &Record, request: &ExecRequest, start: ExecStart) -> Result<ExecPlan> {
        let mut process = self.process(record)?;
        process.argv = request.argv.iter().map(OsString::from).collect();
        if request.tty && !record.config.tty {
            process.env.push("TERM=xterm".into());
        }
        override_env(&mut process.env, &request.env);
        if !request.working_dir.is_empty() {
            process.cwd = PathBuf::from(&request.working_dir);
        }
        if !request.user.is_empty() {
            process.user = User::Named {
                user: request.user.clone(),
                extra_groups: record.host.group_add.clone(),
            };
        }
        if request.privileged {
            process.caps = caps_of(capabilities::ALL & capabilities::available());
            process.seccomp = Vec::new().into();
        }
        let console = start.console.or(request.console).unwrap_or_default();
        Ok(ExecPlan {
            process,
            stdin: if request.stdin {
                Stdin::Pipe { once: true }
            } else {
                Stdin::Null
            },
            terminal: request.tty.then_some(ConsoleSize {
                rows: console[0],
                cols: console[1],
            }),
        })
    }

    /// All mounts, parents before what lies in them.
    fn mounts(&self, record: &Record) -> Result<Vec<Mount>> {
        let host = &record.host;
        let own_cgroupns = host.cgroupns_mode != "host" && !host.privileged || host.cgroupns_mode == "private";
        let options = defaults::MountOptions {
            privileged: host.privileged,
            shm_size: u64::try_from(host.shm_size).unwrap_or_default(),
            v1_cgroups: self.cgroups.v1_mounts(),
            cgroup_path: (!own_cgroupns).then_some(self.cgroup_path(record)?.as_str().to_owned()),
        };
        let mut mounts = defaults::mounts(&options);
        match ipc_share(host)? {
            Share::Own if host.ipc_mode == "none" => mounts.retain(|mount| mount.target.as_os_str() != "/dev/shm"),
            Share::Own => {}
            // Shared memory is shared with the namespace: the host's, or the other container's.
            Share::Host => replace(&mut mounts, bind("/dev/shm".into(), "/dev/shm", true)),
            Share::Container(target) => {
                let pid = self.container(&target)?.lock().record.status.pid;
                replace(
                    &mut mounts,
                    bind(format!("/proc/{pid}/root/dev/shm").into(), "/dev/shm", true),
                );
            }
        }
        // /dev/mqueue is mounted anew in every case: it shows the queues of whatever IPC namespace the container has.
        // What the user mounts at a default mount's place takes that place.
        mounts.retain(|mount| {
            !record
                .mounts
                .iter()
                .any(|own| own.target.as_str() == mount.target.as_os_str())
        });
        let files = match network_share(host)? {
            Share::Container(target) => self.places(&self.container(&target)?.id),
            Share::Own | Share::Host => self.places(&record.id),
        };
        for (file, target) in [
            (files.resolv_conf(), "/etc/resolv.conf"),
            (files.hosts(), "/etc/hosts"),
            (self.places(&record.id).hostname(), "/etc/hostname"),
        ] {
            // `-v file:/etc/hosts` wins.
            if file.exists() && !record.mounts.iter().any(|own| own.target == target) {
                let mut mount = bind(file, target, !host.readonly_rootfs);
                mount.flags |= 0;
                mounts.push(mount);
            }
        }
        for point in &record.mounts {
            mounts.push(user_mount(point)?);
        }
        mounts.sort_by_key(|mount| mount.target.components().count());
        Ok(mounts)
    }

    /// Device nodes: the default ones and `--device`; all of the host's for a privileged container.
    fn devices(&self, host: &HostConfig) -> Result<Vec<Device>> {
        let mut devices: Vec<Device> = defaults::devices();
        if host.privileged {
            for device in host_devices() {
                if !devices.iter().any(|own| own.path == device.path) {
                    devices.push(device);
                }
            }
        }
        for asked in &host.resources.devices {
            for device in device_nodes(asked)? {
                devices.retain(|own| own.path != device.path);
                devices.push(device);
            }
        }
        Ok(devices)
    }
}

fn caps_of(set: u64) -> Caps {
    Caps {
        bounding: set,
        effective: set,
        permitted: set,
        inheritable: 0,
        ambient: 0,
    }
}

/// Later values replace earlier ones of the same name; a name without a value removes.
fn override_env(env: &mut Vec<OsString>, own: &[String]) {
    for entry in own {
        let (name, value) = entry
            .split_once('=')
            .map_or((entry.as_str(), None), |(name, value)| (name, Some(value)));
        let prefix = format!("{name}=");
        env.retain(|other| !other.as_encoded_bytes().starts_with(prefix.as_bytes()));
        if value.is_some() {
            env.push(entry.into());
        }
    }
}

fn namespaces(host: &HostConfig, joined: &[u64]) -> Result<Namespaces> {
    let mut new = CloneFlags::CLONE_NEWNS;
    if pid_share(host)? == Share::Own {
        new |= CloneFlags::CLONE_NEWPID;
    }
    if ipc_share(host)? == Share::Own {
        new |= CloneFlags::CLONE_NEWIPC;
    }
    if host.uts_mode != "host" {
        new |= CloneFlags::CLONE_NEWUTS;
    }
    if host.cgroupns_mode != "host" {
        new |= CloneFlags::CLONE_NEWCGROUP;
    }
    let joined = joined
        .iter()
        .zip(0..)
        .map(|(kind, fd)| JoinedNamespace { kind: *kind, fd })
        .collect();
    Ok(Namespaces {
        new: new.bits() as u64,
        joined,
    })
}

/// A root that is shared with the host only where a bind asks for propagation outwards.
fn root_propagation(mounts: &[MountPoint]) -> u64 {
    let asks = |words: [&str; 2]| mounts.iter().any(|mount| words.contains(&mount.propagation.as_str()));
    if asks(["shared", "rshared"]) {
        (MsFlags::MS_SHARED | MsFlags::MS_REC).bits()
    } else if asks(["slave", "rslave"]) {
        (MsFlags::MS_SLAVE | MsFlags::MS_REC).bits()
    } else {
        0
    }
}

fn replace(mounts: &mut Vec<Mount>, mount: Mount) {
    mounts.retain(|other| other.target != mount.target);
    mounts.push(mount);
}

fn bind(path: PathBuf, target: &str, writable: bool) -> Mount {
    Mount {
        target: PathBuf::from(target),
        source: MountSource::Bind { path, recursive: true },
        flags: if writable { 0 } else { MsFlags::MS_RDONLY.bits() },
        clear: 0,
        recursive_set: 0,
        recursive_clear: 0,
        propagation: 0,
        optional: false,
    }
}

/// `MOUNT_ATTR_RDONLY` of mount_setattr(2).
const MOUNT_ATTR_RDONLY: u64 = 1;

fn user_mount(point: &MountPoint) -> Result<Mount> {
    let mut mount = match point.kind {
        MountKind::Tmpfs => {
            let (flags, data) = tmpfs_options(&point.tmpfs_options, point.writable);
            return Ok(Mount {
                target: PathBuf::from(&point.target),
                source: MountSource::Fs {
                    fstype: "tmpfs".into(),
                    source: "tmpfs".into(),
                    data,
                    copy_up: true,
                },
                flags,
                clear: 0,
                recursive_set: 0,
                recursive_clear: 0,
                propagation: 0,
                optional: false,
            });
        }
        MountKind::Bind => bind(point.source.clone(), &point.target, point.writable),
        MountKind::Volume => {
            let source = match point.subpath.as_str() {
                "" => point.source.clone(),
                sub => volume_subpath(point, sub)?,
            };
            bind(source, &point.target, point.writable)
        }
    };
    if let MountSource::Bind { recursive, .. } = &mut mount.source {
        *recursive = point.recursive;
    }
    if !point.writable && point.kind == MountKind::Bind && point.recursive {
        match point.read_only_recursive {
            // Kernels since 5.12 can; this engine needs a newer one for other reasons.
            RecursiveReadOnly::IfPossible | RecursiveReadOnly::Force => mount.recursive_set = MOUNT_ATTR_RDONLY,
            RecursiveReadOnly::No => {}
        }
    }
    let rec = MsFlags::MS_REC;
    mount.propagation = match point.propagation.as_str() {
        "shared" => MsFlags::MS_SHARED,
        "rshared" => MsFlags::MS_SHARED | rec,
        "slave" => MsFlags::MS_SLAVE,
        "rslave" => MsFlags::MS_SLAVE | rec,
        "private" => MsFlags::MS_PRIVATE,
        _ => MsFlags::MS_PRIVATE | rec,
    }
    .bits();
    Ok(mount)
}

/// A folder or file below a volume, resolved so that links in the volume cannot lead out of it.
fn volume_subpath(point: &MountPoint, sub: &str) -> Result<PathBuf> {
    let path = point.source.join(sub);
    let real = path
        .canonicalize()
        .map_err(Error::io(format!("find subpath {sub} of volume {}", point.name)))?;
    let root = point
        .source
        .canonicalize()
        .map_err(Error::io(format!("find volume {}", point.name)))?;
    if real.starts_with(&root) {
        Ok(real)
    } else {
        Err(Error::invalid(format!(
            "subpath {sub} of volume {} leads out of the volume",
            point.name
        )))
    }
}

/// Mount flags and file system options of a tmpfs; Docker's defaults first.
fn tmpfs_options(options: &str, writable: bool) -> (u64, String) {
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if !writable {
        flags |= MsFlags::MS_RDONLY;
    }
    let mut data = Vec::new();
    for word in options.split(',').filter(|word| !word.is_empty()) {
        match word {
            "ro" => flags |= MsFlags::MS_RDONLY,
            "rw" => flags -= MsFlags::MS_RDONLY,
            "suid" => flags -= MsFlags::MS_NOSUID,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "dev" => flags -= MsFlags::MS_NODEV,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "exec" => flags -= MsFlags::MS_NOEXEC,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "nodiratime" => flags |= MsFlags::MS_NODIRATIME,
            "relatime" => flags |= MsFlags::MS_RELATIME,
            "strictatime" => flags |= MsFlags::MS_STRICTATIME,
            "sync" => flags |= MsFlags::MS_SYNCHRONOUS,
            word if word.contains('=') => data.push(word.to_owned()),
            // What is so anyway: atime, diratime, async, …
            _ => {}
        }
    }
    (flags.bits(), data.join(","))
}

/// Limits and device rules for the cgroup.
fn limits(resources: &Resources, privileged: bool, devices: &[Device]) -> Result<Limits> {
    let some = |value: i64| (value != 0).then_some(value);
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let mut limits = Limits {
        cpu_shares: some(resources.cpu_shares).map(i64::unsigned_abs),
        cpu_quota: some(resources.cpu_quota),
        cpu_period: some(resources.cpu_period).map(i64::unsigned_abs),
        cpuset_cpus: text(&resources.cpuset_cpus),
        cpuset_mems: text(&resources.cpuset_mems),
        memory: some(resources.memory),
        memory_swap: match (resources.memory, resources.memory_swap) {
            // Docker's default: as much swap again as memory.
            (memory, 0) if memory > 0 => Some(memory.saturating_mul(2)),
            (_, swap) => some(swap),
        },
        swap_is_default: resources.memory_swap == 0,
        memory_reservation: some(resources.memory_reservation),
        swappiness: resources.memory_swappiness.and_then(|value| u64::try_from(value).ok()),
        oom_kill_disable: resources.oom_kill_disable.unwrap_or(false),
        pids: resources.pids_limit.filter(|limit| *limit != 0),
        blkio_weight: (resources.blkio_weight != 0).then_some(resources.blkio_weight),
        ..Limits::default()
    };
    if resources.nano_cpus > 0 {
        limits.set_nano_cpus(resources.nano_cpus.unsigned_abs());
    }
    limits.devices = if privileged {
        vec![DeviceRule::all(true)]
    } else {
        defaults::device_rules()
    };
    if !privileged {
        for asked in &resources.devices {
            for node in devices.iter().filter(|node| node.path.starts_with(in_container(asked))) {
                let kind = if node.kind == DeviceKind::Block { 'b' } else { 'c' };
                let access = if asked.cgroup_permissions.is_empty() {
                    "rwm"
                } else {
                    &asked.cgroup_permissions
                };
                limits.devices.push(DeviceRule::parse(
                    true,
                    &format!("{kind} {}:{} {access}", node.major, node.minor),
                )?);
            }
        }
        for rule in &resources.device_cgroup_rules {
            limits.devices.push(DeviceRule::parse(true, rule)?);
        }
    }
    Ok(limits)
}

/// Only the limits in which `new` differs from `old`; device rules are not touched.
pub(crate) fn changed_limits(old: &Resources, new: &Resources) -> Result<Limits> {
    let (old, new) = (limits(old, true, &[])?, limits(new, true, &[])?);
    fn change<T: PartialEq>(old: Option<T>, new: Option<T>) -> Option<T> {
        if old == new { None } else { new }
    }
    Ok(Limits {
        cpu_shares: change(old.cpu_shares, new.cpu_shares),
        cpu_quota: change(old.cpu_quota, new.cpu_quota),
        cpu_period: change(old.cpu_period, new.cpu_period),
        cpuset_cpus: change(old.cpuset_cpus, new.cpuset_cpus),
        cpuset_mems: change(old.cpuset_mems, new.cpuset_mems),
        // The kernel's order of the two writes depends on both.
        memory: if (old.memory, old.memory_swap) == (new.memory, new.memory_swap) {
            None
        } else {
            new.memory
        },
        memory_swap: if (old.memory, old.memory_swap) == (new.memory, new.memory_swap) {
            None
        } else {
            new.memory_swap
        },
        memory_reservation: change(old.memory_reservation, new.memory_reservation),
        swappiness: change(old.swappiness, new.swappiness),
        pids: change(old.pids, new.pids),
        blkio_weight: change(old.blkio_weight, new.blkio_weight),
        ..Limits::default()
    })
}

fn in_container(device: &spec::Device) -> PathBuf {
    PathBuf::from(if device.path_in_container.is_empty() {
        &device.path_on_host
    } else {
        &device.path_in_container
    })
}

/// The node, or all nodes of a folder, that `--device` names.
fn device_nodes(asked: &spec::Device) -> Result<Vec<Device>> {
    let path = PathBuf::from(&asked.path_on_host);
    let missing = |source| Error::Io {
        doing: format!("gather device information for \"{}\"", asked.path_on_host),
        source,
    };
    let meta = std::fs::metadata(&path).map_err(missing)?;
    let mut nodes = Vec::new();
    if meta.is_dir() {
        collect_devices(&path, &in_container(asked), &mut nodes);
    } else if let Some(device) = device_of(&meta, in_container(asked)) {
        nodes.push(device);
    }
    if nodes.is_empty() {
        return Err(Error::invalid(format!(
            "error gathering device information: not a device node: {}",
            asked.path_on_host
        )));
    }
    Ok(nodes)
}

fn device_of(meta: &std::fs::Metadata, path: PathBuf) -> Option<Device> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => DeviceKind::Char,
        kind if kind.is_block_device() => DeviceKind::Block,
        _ => return None,
    };
    Some(Device {
        path,
        kind,
        major: nix::sys::stat::major(meta.rdev()) as u32,
        minor: nix::sys::stat::minor(meta.rdev()) as u32,
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
    })
}

fn collect_devices(folder: &std::path::Path, target: &std::path::Path, nodes: &mut Vec<Device>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (path, target) = (entry.path(), target.join(entry.file_name()));
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => collect_devices(&path, &target, nodes),
            Ok(meta) => nodes.extend(device_of(&meta, target)),
            Err(_) => {}
        }
    }
}

/// Every device of the host but those that the container has instances of its own of.
fn host_devices() -> Vec<Device> {
    let mut nodes = Vec::new();
    let Ok(entries) = std::fs::read_dir("/dev") else {
        return nodes;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if ["pts", "shm", "fd", "mqueue", "console", "ptmx"]
            .iter()
            .any(|own| name == *own)
        {
            continue;
        }
        let (path, target) = (entry.path(), PathBuf::from("/dev").join(&name));
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => collect_devices(&path, &target, &mut nodes),
            Ok(meta) => nodes.extend(device_of(&meta, target)),
            Err(_) => {}
        }
    }
    nodes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn own_variables_replace_defaults() {
        let mut env = vec![OsString::from("PATH=/bin"), OsString::from("A=1")];
        override_env(&mut env, &["PATH=/x".into(), "A".into(), "B=2".into()]);
        assert_eq!(env, ["PATH=/x", "B=2"]);
    }

    #[test]
    fn tmpfs_flags_and_data() {
        let (flags, data) = tmpfs_options("size=64m,exec,mode=1777,ro", true);
        assert_eq!(data, "size=64m,mode=1777");
        let flags = MsFlags::from_bits_truncate(flags);
        assert!(flags.contains(MsFlags::MS_RDONLY | MsFlags::MS_NOSUID) && !flags.contains(MsFlags::MS_NOEXEC));
    }

    #[test]
    fn sysctls_stay_in_their_namespaces() {
        let own = HostConfig::default();
        assert_eq!(sysctl("net.ipv4.ip_forward", &own).unwrap(), "net/ipv4/ip_forward");
        let host = HostConfig {
            network_mode: "host".into(),
            ipc_mode: "host".into(),
            ..HostConfig::default()
        };
        for name in [
            "net.ipv4.ip_forward",
            "kernel.shmmax",
            "vm.swappiness",
            "net..x",
            "net.ipv4.../../x",
        ] {
            assert!(sysctl(name, &host).is_err(), "{name}");
        }
        assert!(sysctl("kernel.panic", &own).is_err());
    }

    #[test]
    fn security_options() {
        let with = |option: &str| HostConfig {
            security_opt: vec![option.into()],
            ..HostConfig::default()
        };
        assert_eq!(
            security(&with("no-new-privileges")).unwrap().no_new_privileges,
            Some(true)
        );
        assert_eq!(
            security(&with("seccomp=unconfined")).unwrap().seccomp,
            Seccomp::Unconfined
        );
        assert!(security(&with("apparmor=foo")).is_err() && security(&with("nonsense")).is_err());
    }
}
