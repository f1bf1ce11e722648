//! OCI runtime configuration → [`Plan`].
//!
//! ```text
//! config.json ─► oci_spec::Spec ─┐
//! defaults::spec(), changed ─────┼─► compile ─► Compiled { plan, joined namespaces }
//! Host (ids, places, root) ──────┘
//! ```
//!
//! Everything is checked here, before anything is touched: paths, duplicates, names, values, and what the parts have to do
//! with each other (a host name needs a UTS namespace). A field that we do not carry out is refused by its name, never
//! passed over; only annotations are, which are notes by definition.
//!
//! Deliberately absent, and refused: hooks, user and time namespaces, id-mapped mounts, AppArmor and SELinux labels,
//! scheduling and memory policies, Intel RDT, moved network devices.

mod mounts;
mod process;

#[cfg(test)]
mod tests;

use crate::cgroup::{CgroupError, CgroupPath, Cgroups, Resources};
use crate::defaults;
use crate::plan::{
    ConsoleSize, Device, DeviceKind, ExecPlan, Head, JoinedNamespace, LogTarget, Namespaces, Plan, Root, Stdin,
    Symlink, User,
};
use crate::seccomp::{self, Filter, Profile, SeccompError};
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use oci_spec::runtime::{
    Linux, LinuxDevice, LinuxDeviceType, LinuxNamespaceType, LinuxResources, LinuxSeccomp, Process, Spec,
};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Why a configuration is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// We do not do this.
    #[error("{0} is not supported by this runtime")]
    Unsupported(String),
    /// A needed field is absent.
    #[error("the configuration has no {0}")]
    Missing(&'static str),
    /// A field makes no sense.
    #[error("invalid {field}: {why}")]
    Invalid {
        /// Its place in the configuration.
        field: String,
        /// What is wrong.
        why: String,
    },
    /// Limits or the place of the control group.
    #[error("invalid linux.resources")]
    Cgroup(#[from] CgroupError),
    /// The system call filter.
    #[error("invalid linux.seccomp")]
    Seccomp(#[from] SeccompError),
}

type Result<T, E = SpecError> = std::result::Result<T, E>;

fn invalid<T>(field: impl Into<String>, why: impl Into<String>) -> Result<T> {
    Err(SpecError::Invalid {
        field: field.into(),
        why: why.into(),
    })
}

fn unsupported<T>(what: impl Into<String>) -> Result<T> {
    Err(SpecError::Unsupported(what.into()))
}

/// Everything about a container that is not in its configuration.
#[derive(Debug)]
pub struct Host<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The folder that relative paths of the configuration start from.
    pub bundle: &'a Path,
    /// The root file system, in place of `root.path`.
    pub root: Option<Root>,
    /// Where the exit is recorded.
    pub exit_file: PathBuf,
    /// Where the shim listens.
    pub socket: PathBuf,
    /// Where output goes.
    pub log: LogTarget,
    /// Standard input.
    pub stdin: Stdin,
    /// Whether the tiny init is process 1.
    pub init: bool,
    /// The user by Docker's notation, in place of `process.user`.
    pub user: Option<User>,
    /// Control groups of the machine.
    pub cgroups: &'a Cgroups,
    /// Parent of the container's group where `linux.cgroupsPath` says nothing.
    pub cgroup_parent: &'a CgroupPath,
    /// A filter in place of `linux.seccomp`, which must then be absent.
    pub filter: Option<Arc<Filter>>,
    /// Keeps compiled filters of `linux.seccomp`.
    pub filters: &'a Filters,
}

/// What a configuration became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// For the shim.
    pub plan: Plan,
    /// Namespace files to open and send along, in the order of the plan's indexes.
    pub joined: Vec<PathBuf>,
    /// The container's control group.
    pub cgroup: CgroupPath,
}

/// Keeps the filters of OCI profiles: runs of a container bring the same profile again and again.
#[derive(Debug, Default)]
pub struct Filters {
    cache: seccomp::Cache,
    profiles: Mutex<Vec<(LinuxSeccomp, Arc<Profile>)>>,
}

/// Different profiles kept; comparing costs a few microseconds each.
const PROFILES: usize = 16;

impl Filters {
    /// # Errors
    /// [`SeccompError`] for what is wrong with the profile.
    pub fn get(&self, oci: &LinuxSeccomp, capabilities: u64) -> Result<Arc<Filter>, SeccompError> {
        let known = {
            let profiles = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
            profiles
                .iter()
                .find(|(other, _)| other == oci)
                .map(|(_, profile)| profile.clone())
        };
        let profile = match known {
            Some(profile) => profile,
            None => {
                let profile = Arc::new(Profile::try_from(oci)?);
                let mut profiles = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
                if profiles.len() >= PROFILES {
                    profiles.remove(0);
                }
                profiles.push((oci.clone(), profile.clone()));
                profile
            }
        };
        self.cache.get(&profile, capabilities)
    }
}

/// Turns a configuration into a plan. Touches nothing but the parent of the control group, which it makes.
///
/// # Errors
/// [`SpecError`] naming the field.
pub fn compile(spec: &Spec, host: &Host<'_>) -> Result<Compiled> {
    check_version(spec.version())?;
    refuse_other_platforms(spec)?;
    let process = spec.process().as_ref().ok_or(SpecError::Missing("process"))?;
    let linux = spec.linux().as_ref().ok_or(SpecError::Missing("linux"))?;
    refuse_linux(linux)?;
    let (namespaces, joined) = namespaces(linux)?;
    let has = |flag: CloneFlags| {
        let flag = flag.bits() as u64;
        namespaces.new & flag != 0 || namespaces.joined.iter().any(|joined| joined.kind == flag)
    };
    let name = |field: &'static str, value: &Option<String>| -> Result<String> {
        let value = value.clone().unwrap_or_default();
        if !value.is_empty() && !has(CloneFlags::CLONE_NEWUTS) {
            return invalid(field, "it needs a UTS namespace of the container's own");
        }
        if value.len() > 64 || value.contains('\0') {
            return invalid(field, format!("{value:?} is longer than 64 bytes or holds a NUL"));
        }
        Ok(value)
    };
    let (hostname, domainname) = (
        name("hostname", spec.hostname())?,
        name("domainname", spec.domainname())?,
    );

    let no_resources = LinuxResources::default();
    let resources = linux.resources().as_ref().unwrap_or(&no_resources);
    let mut limits = Resources::try_from(resources)?;
    if limits.devices.iter().any(|rule| !rule.allow) {
        limits.devices.extend(defaults::always_allowed());
    }
    let cgroup = cgroup_path(linux, host)?;
    let (parent, leaf) = cgroup.split();
    let plan = match &parent {
        Some(parent) => host.cgroups.plan(parent, leaf, &limits)?,
        None => {
            return invalid(
                "linux.cgroupsPath",
                format!("{cgroup} has no parent; use one like /iechor/{}", host.id),
            );
        }
    };

    let caps = process::capabilities(process)?;
    let filter = match (&host.filter, linux.seccomp()) {
        (Some(_), Some(_)) => return invalid("linux.seccomp", "another filter is set for this container"),
        (Some(filter), None) => filter.clone(),
        (None, Some(oci)) => host.filters.get(oci, caps.bounding)?,
        (None, None) => Arc::default(),
    };
    let root = match (&host.root, spec.root()) {
        (Some(root), _) => root.clone(),
        (None, Some(root)) => Root::Dir {
            path: in_bundle("root.path", host.bundle, root.path())?,
        },
        (None, None) => return Err(SpecError::Missing("root")),
    };
    let mounts = mounts::compile(spec.mounts().as_deref().unwrap_or_default(), host, &cgroup)?;
    let mut readonly_paths = paths("linux.readonlyPaths", linux.readonly_paths())?;
    readonly_paths.extend(mounts.readonly);
    Ok(Compiled {
        plan: Plan {
            head: Head {
                id: host.id.to_owned(),
                exit_file: host.exit_file.clone(),
                socket: host.socket.clone(),
                log: host.log.clone(),
                cgroup: plan,
                stdin: host.stdin.clone(),
                terminal: terminal(process)?,
                namespaces: namespaces.clone(),
            },
            root,
            readonly_root: spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false),
            root_propagation: root_propagation(linux.rootfs_propagation().as_deref())?,
            mounts: mounts.mounts,
            devices: devices(linux)?,
            symlinks: defaults::SYMLINKS
                .iter()
                .map(|(path, target)| Symlink {
                    path: path.into(),
                    target: target.into(),
                })
                .collect(),
            masked_paths: paths("linux.maskedPaths", linux.masked_paths())?,
            readonly_paths,
            hostname,
            domainname,
            sysctls: sysctls(linux, &has)?,
            process: process::compile(process, host.user.as_ref(), caps, &filter)?,
            init: host.init,
        },
        joined,
        cgroup,
    })
}

/// Turns the process of an exec into a plan, with `filter` as its container's.
///
/// # Errors
/// [`SpecError`] naming the field.
pub fn compile_exec(process: &Process, user: Option<&User>, stdin: Stdin, filter: &Filter) -> Result<ExecPlan> {
    let caps = process::capabilities(process)?;
    Ok(ExecPlan {
        process: process::compile(process, user, caps, filter)?,
        stdin,
        terminal: terminal(process)?,
    })
}

fn check_version(version: &str) -> Result<()> {
    // Versions of 1.x only add fields.
    let major = version.split('.').next().unwrap_or_default();
    if major != "1" {
        return invalid("ociVersion", format!("{version:?} is not a 1.x version"));
    }
    Ok(())
}

fn refuse_other_platforms(spec: &Spec) -> Result<()> {
    let hooks = spec.hooks().as_ref().is_some_and(|hooks| {
        let lists = [
            hooks.create_runtime(),
            hooks.create_container(),
            hooks.start_container(),
            hooks.poststart(),
            hooks.poststop(),
        ];
        #[allow(deprecated)] // still in files
        let prestart = hooks.prestart();
        lists
            .into_iter()
            .chain([prestart])
            .any(|list| list.as_ref().is_some_and(|list| !list.is_empty()))
    });
    for (name, present) in [
        ("hooks", hooks),
        ("solaris", spec.solaris().is_some()),
        ("windows", spec.windows().is_some()),
        ("vm", spec.vm().is_some()),
        ("zos", spec.zos().is_some()),
        (
            "uidMappings",
            spec.uid_mappings().as_ref().is_some_and(|list| !list.is_empty()),
        ),
        (
            "gidMappings",
            spec.gid_mappings().as_ref().is_some_and(|list| !list.is_empty()),
        ),
    ] {
        if present {
            return unsupported(name);
        }
    }
    Ok(())
}

fn refuse_linux(linux: &Linux) -> Result<()> {
    let text = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.is_empty());
    for (name, present) in [
        (
            "linux.netDevices",
            linux.net_devices().as_ref().is_some_and(|map| !map.is_empty()),
        ),
        (
            "linux.uidMappings",
            linux.uid_mappings().as_ref().is_some_and(|list| !list.is_empty()),
        ),
        (
            "linux.gidMappings",
            linux.gid_mappings().as_ref().is_some_and(|list| !list.is_empty()),
        ),
        ("linux.mountLabel", text(linux.mount_label())),
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.memoryPolicy", linux.memory_policy().is_some()),
        ("linux.personality", linux.personality().is_some()),
        (
            "linux.timeOffsets",
            linux.time_offsets().as_ref().is_some_and(|map| !map.is_empty()),
        ),
    ] {
        if present {
            return unsupported(name);
        }
    }
    Ok(())
}

fn namespaces(linux: &Linux) -> Result<(Namespaces, Vec<PathBuf>)> {
    let mut out = Namespaces {
        new: 0,
        joined: Vec::new(),
    };
    let mut joined = Vec::new();
    let mut seen = 0;
    for namespace in linux.namespaces().iter().flatten() {
        let flag = match namespace.typ() {
            LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
            LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
            LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
            LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
            LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
            LinuxNamespaceType::User | LinuxNamespaceType::Time => {
                return unsupported(format!("a namespace of type {} in linux.namespaces", namespace.typ()));
            }
        };
        let kind = flag.bits() as u64;
        if seen & kind != 0 {
            return invalid("linux.namespaces", format!("{} is there twice", namespace.typ()));
        }
        seen |= kind;
        match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
            None => out.new |= kind,
            Some(_) if flag == CloneFlags::CLONE_NEWNS => {
                return unsupported("joining a mount namespace by linux.namespaces");
            }
            Some(path) => {
                check_path("linux.namespaces", path)?;
                let fd = u32::try_from(joined.len()).unwrap_or(u32::MAX);
                out.joined.push(JoinedNamespace { kind, fd });
                joined.push(path.clone());
            }
        }
    }
    if out.new & CloneFlags::CLONE_NEWNS.bits() as u64 == 0 {
        return invalid("linux.namespaces", "a container needs a mount namespace of its own");
    }
    Ok((out, joined))
}

fn cgroup_path(linux: &Linux, host: &Host<'_>) -> Result<CgroupPath> {
    match linux.cgroups_path() {
        Some(path) if !path.as_os_str().is_empty() => {
            let Some(text) = path.to_str() else {
                return invalid("linux.cgroupsPath", "it is not UTF-8");
            };
            // `slice:prefix:name`
            if text.split(':').count() == 3 && !text.contains('/') {
                return unsupported("a systemd cgroup in linux.cgroupsPath");
            }
            // A relative path is below what the runtime chooses, an absolute one below the mount points.
            Ok(match path.is_absolute() {
                true => CgroupPath::new(text)?,
                false => CgroupPath::new(&format!("{}/{text}", host.cgroup_parent))?,
            })
        }
        _ => Ok(host.cgroup_parent.child(host.id)?),
    }
}

fn terminal(process: &Process) -> Result<Option<ConsoleSize>> {
    let cells = |value: u64| {
        u16::try_from(value).map_err(|_| SpecError::Invalid {
            field: "process.consoleSize".into(),
            why: format!("{value} is more than 65535"),
        })
    };
    let size = match process.console_size() {
        Some(size) => ConsoleSize {
            rows: cells(size.height())?,
            cols: cells(size.width())?,
        },
        None => ConsoleSize { rows: 0, cols: 0 },
    };
    Ok(process.terminal().unwrap_or(false).then_some(size))
}

fn root_propagation(word: Option<&str>) -> Result<u64> {
    let rec = MsFlags::MS_REC;
    let flags = match word.unwrap_or_default() {
        "" => return Ok(0),
        "private" => MsFlags::MS_PRIVATE,
        "rprivate" => MsFlags::MS_PRIVATE | rec,
        "slave" => MsFlags::MS_SLAVE,
        "rslave" => MsFlags::MS_SLAVE | rec,
        "shared" => MsFlags::MS_SHARED,
        "rshared" => MsFlags::MS_SHARED | rec,
        "unbindable" => MsFlags::MS_UNBINDABLE,
        "runbindable" => MsFlags::MS_UNBINDABLE | rec,
        other => return invalid("linux.rootfsPropagation", format!("{other:?}")),
    };
    Ok(flags.bits())
}

/// The configuration's nodes, and those that every container has unless the configuration has another at its place.
fn devices(linux: &Linux) -> Result<Vec<Device>> {
    let own = linux
        .devices()
        .iter()
        .flatten()
        .map(device)
        .collect::<Result<Vec<Device>>>()?;
    let mut all = defaults::devices();
    for (index, device) in own.into_iter().enumerate() {
        let later = linux.devices().iter().flatten().skip(index + 1);
        if later.clone().any(|other| *other.path() == device.path) {
            return invalid("linux.devices", format!("{} is there twice", device.path.display()));
        }
        all.retain(|default| default.path != device.path);
        all.push(device);
    }
    Ok(all)
}

fn device(device: &LinuxDevice) -> Result<Device> {
    check_path("linux.devices", device.path())?;
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Char,
        LinuxDeviceType::B => DeviceKind::Block,
        LinuxDeviceType::P => DeviceKind::Fifo,
        LinuxDeviceType::A => {
            return invalid("linux.devices", format!("{} is of type a", device.path().display()));
        }
    };
    let number = |value: i64| {
        u32::try_from(value).map_err(|_| SpecError::Invalid {
            field: "linux.devices".into(),
            why: format!("{} has the number {value}", device.path().display()),
        })
    };
    let fifo = kind == DeviceKind::Fifo;
    Ok(Device {
        path: device.path().clone(),
        kind,
        major: if fifo { 0 } else { number(device.major())? },
        minor: if fifo { 0 } else { number(device.minor())? },
        // Files in the wild say it with the bits of the file's type.
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}

/// Settings of namespaces that the container has for itself; any other would be the host's.
fn sysctls(linux: &Linux, has: &impl Fn(CloneFlags) -> bool) -> Result<Vec<(String, String)>> {
    const IPC: [&str; 8] = [
        "kernel/msgmax",
        "kernel/msgmnb",
        "kernel/msgmni",
        "kernel/sem",
        "kernel/shmall",
        "kernel/shmmax",
        "kernel/shmmni",
        "kernel/shm_rmid_forced",
    ];
    let mut out = Vec::new();
    for (name, value) in linux.sysctl().iter().flatten() {
        // As sysctl(8): the first separator decides, so that `net/ipv4/conf/eth0.1/…` keeps its dot.
        let path = match name.find(['.', '/']) {
            Some(at) if name.as_bytes()[at] == b'.' => name
                .chars()
                .map(|c| {
                    if c == '.' {
                        '/'
                    } else if c == '/' {
                        '.'
                    } else {
                        c
                    }
                })
                .collect(),
            _ => name.clone(),
        };
        let field = || format!("linux.sysctl {name}");
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') || value.contains('\0') {
            return invalid(field(), "it is not the name of a setting");
        }
        let needed = if IPC.contains(&&*path) || path.starts_with("fs/mqueue/") {
            CloneFlags::CLONE_NEWIPC
        } else if path.starts_with("net/") {
            CloneFlags::CLONE_NEWNET
        } else if path == "kernel/domainname" {
            CloneFlags::CLONE_NEWUTS
        } else if path == "kernel/hostname" {
            return invalid(field(), "use hostname");
        } else {
            return invalid(field(), "it is a setting of the whole machine, not of a namespace");
        };
        if !has(needed) {
            return invalid(field(), "the container shares this namespace with the host");
        }
        out.push((path, value.clone()));
    }
    // A map has no order; plans of one configuration shall be equal.
    out.sort();
    Ok(out)
}

fn paths(field: &'static str, list: &Option<Vec<String>>) -> Result<Vec<PathBuf>> {
    list.iter()
        .flatten()
        .map(|path| {
            check_path(field, Path::new(path))?;
            Ok(PathBuf::from(path))
        })
        .collect()
}

/// Absolute, without `..` and NUL.
fn check_path(field: &str, path: &Path) -> Result<()> {
    let upwards = path.components().any(|part| part == Component::ParentDir);
    if !path.is_absolute() || upwards || path.as_os_str().as_encoded_bytes().contains(&0) {
        return invalid(
            field,
            format!("{:?} is not an absolute path without ..", path.display()),
        );
    }
    Ok(())
}

/// A path of the host, relative to the bundle.
fn in_bundle(field: &str, bundle: &Path, path: &Path) -> Result<PathBuf> {
    if path.as_os_str().is_empty() || path.as_os_str().as_encoded_bytes().contains(&0) {
        return invalid(field, format!("{:?} is not a path", path.display()));
    }
    Ok(bundle.join(path))
}
