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
//! Deliberately absent, and refused: fields of other platforms.

pub mod document;
mod hooks;
mod linux;
mod load;
mod mounts;
mod options;
mod process;
mod rdt;
mod tuning;
mod users;

#[cfg(test)]
mod tests;

use crate::cgroup::{CgroupError, CgroupPath, Cgroups, DeviceRule, Resources};
use crate::cgroup::{UnitPlace, user_properties};
use crate::defaults;
pub use hooks::{hook, hook_state};
pub use load::{load, load_process};
pub use mounts::mount;
pub(crate) use options::WORDS as MOUNT_WORDS;

use crate::plan::{CgroupPlan, ConsoleSize, ExecPlan, Head, Listener, LogTarget, Plan, Root, Stdin, Symlink, User};
use crate::seccomp::{self, Filter, Profile, SeccompError};
use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, LinuxResources, LinuxSeccomp, Process, Spec};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The version of the OCI runtime specification that we follow; files of any 1.x are read.
pub const VERSION: &str = "1.3.0";

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
    /// systemd's version, where systemd makes the groups: `linux.cgroupsPath` is `slice:prefix:name` then.
    pub systemd: Option<u32>,
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
    // Needed at the start, not before.
    let nothing = process::nothing();
    let process = spec.process().as_ref().unwrap_or(&nothing);
    let section = spec.linux().as_ref().ok_or(SpecError::Missing("linux"))?;
    let (namespaces, joined) = linux::namespaces(section)?;
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
    let resources = section.resources().as_ref().unwrap_or(&no_resources);
    let mut limits = Resources::try_from(resources)?;
    // Nothing is allowed that the configuration does not allow, but for what no container works without.
    limits.devices.insert(0, DeviceRule::all(false));
    limits.devices.extend(defaults::always_allowed());
    let (cgroup, plan) = match host.systemd {
        Some(version) => unit(spec, section, host, &limits, version)?,
        None => {
            let path = cgroup_path(section, host)?;
            let plan = host.cgroups.plan_at(&path, &limits)?;
            (path, plan)
        }
    };

    let caps = process::capabilities(process)?;
    let filter = match (&host.filter, section.seccomp()) {
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
    let users = users::own(section, &namespaces)?;
    let list = spec.mounts().as_deref().unwrap_or_default();
    let mounts = mounts::compile(list, host, &cgroup, users.as_ref())?;
    let hooks = hooks::compile(spec, hooks::state(spec, host.id, host.bundle))?;
    let mut process_plan = process::compile(process, host.user.as_ref(), caps, &filter, false)?;
    tuning::of_container(section, &mut process_plan.tuning)?;
    process_plan.listener = filter.listener.as_ref().map(|listener| Listener {
        path: listener.path.clone(),
        metadata: serde_json::Value::from(listener.metadata.clone().unwrap_or_default()).to_string(),
        state: hooks.outside.state.clone(),
    });
    // As the labels of the process.
    let mount_label = section
        .mount_label()
        .clone()
        .filter(|_| process::selinux_enabled())
        .unwrap_or_default();
    let masked_paths = paths("linux.maskedPaths", section.masked_paths())?;
    let readonly_root = spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false);
    let mut readonly_paths = paths("linux.readonlyPaths", section.readonly_paths())?;
    readonly_paths.extend(mounts.readonly);
    let bare = mounts.foreign_dev;
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
                foreign: None,
                users,
                id_maps: mounts.id_maps,
                time_offsets: linux::time_offsets(section, &namespaces)?,
                net_devices: linux::net_devices(section, &namespaces)?,
                rdt: rdt::compile(section, host.id)?,
                hooks: hooks.outside,
                namespaces: namespaces.clone(),
            },
            root,
            root_id_map: None,
            readonly_root,
            root_propagation: linux::root_propagation(section.rootfs_propagation().as_deref())?,
            mounts: mounts.mounts,
            devices: if bare { Vec::new() } else { linux::devices(section)? },
            symlinks: if bare { Vec::new() } else { symlinks() },
            masked_paths,
            readonly_paths,
            hostname,
            domainname,
            sysctls: linux::sysctls(section, &has)?,
            mount_label,
            create_container: hooks.create_container,
            start_container: hooks.start_container,
            hook_root: PathBuf::new(),
            no_pivot: false,
            process: process_plan,
            init: host.init,
        },
        joined,
        cgroup,
    })
}

fn symlinks() -> Vec<Symlink> {
    let links = defaults::SYMLINKS.iter().map(|(path, target)| Symlink {
        path: path.into(),
        target: target.into(),
    });
    links.collect()
}

/// Turns the process of an exec into a plan, with `filter` as its container's.
///
/// # Errors
/// [`SpecError`] naming the field.
pub fn compile_exec(process: &Process, user: Option<&User>, stdin: Stdin, filter: &Filter) -> Result<ExecPlan> {
    let caps = process::capabilities(process)?;
    Ok(ExecPlan {
        process: process::compile(process, user, caps, filter, true)?,
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
    for (name, present) in [
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

/// The place and the plan of a group that systemd makes.
fn unit(
    spec: &Spec,
    linux: &Linux,
    host: &Host<'_>,
    limits: &Resources,
    version: u32,
) -> Result<(CgroupPath, CgroupPlan)> {
    let text = linux
        .cgroups_path()
        .as_ref()
        .map_or("", |path| path.to_str().unwrap_or("\u{fffd}"));
    let place = UnitPlace::parse(text, "iechor", host.id)?;
    let annotations = spec.annotations().iter().flatten();
    let user = user_properties(annotations.map(|(name, value)| (&**name, &**value)))?;
    let description = format!("iechor container {}", host.id);
    let (mut plan, unit) = host.cgroups.plan_unit(&place, &description, &user, limits, version)?;
    plan.systemd = Some(unit);
    Ok((place.path, plan))
}

fn cgroup_path(linux: &Linux, host: &Host<'_>) -> Result<CgroupPath> {
    match linux.cgroups_path() {
        Some(path) if !path.as_os_str().is_empty() => {
            let Some(text) = path.to_str() else {
                return invalid("linux.cgroupsPath", "it is not UTF-8");
            };
            // `slice:prefix:name`
            if text.split(':').count() == 3 && !text.contains('/') {
                return invalid(
                    "linux.cgroupsPath",
                    format!("{text:?} names a unit of systemd, which makes no groups here (--systemd-cgroup)"),
                );
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

fn paths(field: &'static str, list: &Option<Vec<String>>) -> Result<Vec<PathBuf>> {
    list.iter()
        .flatten()
        .map(|path| clean(field, Path::new(path)))
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

/// A path inside the root, by its words alone: relative ones are meant from the root, and nothing is above it. (What
/// symlinks in it mean is found out inside the root.)
fn clean(field: &str, path: &Path) -> Result<PathBuf> {
    if path.as_os_str().is_empty() || path.as_os_str().as_encoded_bytes().contains(&0) {
        return invalid(field, format!("{:?} is not a path", path.display()));
    }
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => drop(out.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(out)
}

/// A path of the host, relative to the bundle.
fn in_bundle(field: &str, bundle: &Path, path: &Path) -> Result<PathBuf> {
    if path.as_os_str().is_empty() || path.as_os_str().as_encoded_bytes().contains(&0) {
        return invalid(field, format!("{:?} is not a path", path.display()));
    }
    Ok(bundle.join(path))
}
