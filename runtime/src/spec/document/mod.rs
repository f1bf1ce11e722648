//! The way back: a [`Plan`] → OCI runtime configuration, for a runtime that is not ours.
//!
//! ```text
//! Plan ─────────────────────────────┐
//! Outside (limits, filter, places) ─┴─► config ──► begin ··(the shim adds the user)··► config.json
//! ```
//!
//! A plan says less than a configuration: limits have become writes to files, the filter a program, namespaces
//! descriptors. Whoever made the plan still has them, as [`Outside`]. What [`compile`](super::compile) makes of the result
//! is the plan again, as far as both can say it (a test holds that). What a configuration cannot say is refused by name.
//!
//! Written as JSON rather than through the types that read it: those know fewer words than the specification, and
//! the result is text in any case.

mod mounts;
mod process;
mod resources;

#[cfg(test)]
mod tests;

use super::{Result, invalid, linux::TIME, unsupported};
use crate::cgroup::{CgroupPath, Resources};
use crate::defaults;
use crate::plan::{Device, DeviceKind, ExecPlan, Plan};
use nix::sched::CloneFlags;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a plan has lost.
#[derive(Clone, Copy, Debug)]
pub struct Outside<'a> {
    /// The container's control group.
    pub cgroup: &'a CgroupPath,
    /// Its limits and device rules.
    pub limits: &'a Resources,
    /// `linux.seccomp`.
    pub seccomp: Option<&'a Value>,
    /// Paths at which the namespaces that the plan joins can be opened, in the order of its indexes.
    pub joined: &'a [PathBuf],
}

/// The configuration of a container, but for the user of its process: as text that
/// [`finish_document`](crate::plan::finish_document) completes. Its root is the folder `rootfs` of the bundle.
///
/// # Errors
/// [`SpecError`](super::SpecError) naming what a configuration cannot say, or what no other runtime is asked for.
pub fn config(plan: &Plan, outside: &Outside<'_>) -> Result<String> {
    refuse(plan)?;
    let mut spec = Map::new();
    // What all of them read; newer versions only add fields.
    spec.insert("ociVersion".into(), "1.0.2".into());
    spec.insert("root".into(), json!({"path": "rootfs", "readonly": plan.readonly_root}));
    spec.insert("mounts".into(), mounts::all(&plan.mounts)?.into());
    if !plan.hostname.is_empty() {
        spec.insert("hostname".into(), plan.hostname.clone().into());
    }
    spec.insert("linux".into(), linux(plan, outside)?);
    let process = process::compile(&plan.process, plan.head.terminal.as_ref())?;
    Ok(open(&spec, Some(&process)))
}

/// What hooks of a container that was not made from a configuration may read of one: where its root is (`root`, a path of
/// the host), its mounts, its process but for the user, its names and namespaces of its own.
///
/// # Errors
/// As [`config`]. Mounts that no configuration can say (out of another container) are left out.
pub fn for_hooks(plan: &Plan, root: &Path, annotations: &BTreeMap<String, String>) -> Result<String> {
    let mut listed = Vec::new();
    for mount in &plan.mounts {
        let mut mount = mount.clone();
        // Whose its files are is nothing that a hook could ask for.
        mount.id_map = None;
        listed.extend(mounts::all(&[mount]).unwrap_or_default());
    }
    // The control groups are one mount in a configuration, and several in a plan.
    let mut seen = BTreeSet::new();
    listed.retain(|mount| mount["type"] != "cgroup" || seen.insert(mount["destination"].to_string()));
    let own = plan.head.namespaces.new;
    let namespaces = NAMESPACES.iter().filter(|(kind, _)| own & kind != 0);
    let namespaces: Vec<Value> = namespaces.map(|(_, name)| json!({"type": name})).collect();
    let mut spec = Map::new();
    spec.insert("ociVersion".into(), super::VERSION.into());
    spec.insert(
        "root".into(),
        json!({"path": text("root.path", root)?, "readonly": plan.readonly_root}),
    );
    spec.insert("hostname".into(), plan.hostname.clone().into());
    spec.insert("mounts".into(), listed.into());
    let process = process::compile(&plan.process, plan.head.terminal.as_ref())?;
    spec.insert("process".into(), process.into());
    spec.insert("annotations".into(), json!(annotations));
    spec.insert("linux".into(), json!({"namespaces": namespaces}));
    Ok(Value::Object(spec).to_string())
}

/// The process of an exec in the same way, for `exec --process`.
///
/// # Errors
/// As [`config`].
pub fn process(plan: &ExecPlan) -> Result<String> {
    let process = process::compile(&plan.process, plan.terminal.as_ref())?;
    Ok(open(&process, None))
}

/// An object as text without its end, with `last` as its last member, open too.
fn open(object: &Map<String, Value>, last: Option<&Map<String, Value>>) -> String {
    let text = |object: &Map<String, Value>| {
        let mut text = Value::Object(object.clone()).to_string();
        text.pop();
        text
    };
    match last {
        Some(last) => format!("{},\"process\":{}", text(object), text(last)),
        None => text(object),
    }
}

/// What is ours alone, or what the daemon never asks for.
fn refuse(plan: &Plan) -> Result<()> {
    let head = &plan.head;
    let hooks = &head.hooks;
    let refused = [
        (plan.init, "the built-in init"),
        (
            head.users.is_some() || plan.root_id_map.is_some() || !head.id_maps.is_empty(),
            "a map of users",
        ),
        (!head.time_offsets.is_empty(), "clocks of a time namespace"),
        (!head.net_devices.is_empty(), "moving a network interface"),
        (head.rdt.is_some(), "a resource class"),
        (
            !hooks.create_runtime.is_empty()
                || !hooks.poststart.is_empty()
                || !hooks.poststop.is_empty()
                || !plan.create_container.is_empty()
                || !plan.start_container.is_empty(),
            "hooks",
        ),
        (!plan.mount_label.is_empty(), "a mount label"),
        (plan.no_pivot, "a root that cannot be pivoted"),
    ];
    match refused.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => unsupported(format!("{what} in another runtime's container")),
        None => Ok(()),
    }
}

fn linux(plan: &Plan, outside: &Outside<'_>) -> Result<Value> {
    let mut linux = Map::new();
    linux.insert("namespaces".into(), namespaces(plan, outside.joined)?.into());
    linux.insert("cgroupsPath".into(), outside.cgroup.as_str().into());
    linux.insert("resources".into(), resources::compile(outside.limits));
    linux.insert("devices".into(), plan.devices.iter().filter_map(device).collect());
    linux.insert("maskedPaths".into(), texts("linux.maskedPaths", &plan.masked_paths)?);
    // The cgroup mount stands for the whole tree, and is read-only by itself.
    let readonly = plan.readonly_paths.iter();
    let readonly: Vec<_> = readonly
        .filter(|path| *path != Path::new(defaults::V1_CGROUP_ROOT))
        .collect();
    linux.insert("readonlyPaths".into(), texts("linux.readonlyPaths", readonly)?);
    let mut sysctl: Map<String, Value> = plan
        .sysctls
        .iter()
        .map(|(path, value)| (dotted(path), value.clone().into()))
        .collect();
    if !plan.domainname.is_empty() {
        // As Docker does: the field for it is newer than many a runtime, which would pass over it without a word.
        sysctl.insert("kernel.domainname".into(), plan.domainname.clone().into());
    }
    if !sysctl.is_empty() {
        linux.insert("sysctl".into(), sysctl.into());
    }
    if plan.root_propagation != 0 {
        let word = mounts::propagation(plan.root_propagation)
            .map_or_else(|| invalid("linux.rootfsPropagation", "unknown flags"), Ok)?;
        linux.insert("rootfsPropagation".into(), word.into());
    }
    if let Some(seccomp) = outside.seccomp {
        linux.insert("seccomp".into(), seccomp.clone());
    }
    if let Some(personality) = plan.process.tuning.personality {
        return unsupported(format!("personality {personality:#x} in another runtime's container"));
    }
    Ok(linux.into())
}

const NAMESPACES: [(u64, &str); 8] = [
    (CloneFlags::CLONE_NEWNS.bits() as u64, "mount"),
    (CloneFlags::CLONE_NEWPID.bits() as u64, "pid"),
    (CloneFlags::CLONE_NEWNET.bits() as u64, "network"),
    (CloneFlags::CLONE_NEWIPC.bits() as u64, "ipc"),
    (CloneFlags::CLONE_NEWUTS.bits() as u64, "uts"),
    (CloneFlags::CLONE_NEWCGROUP.bits() as u64, "cgroup"),
    (CloneFlags::CLONE_NEWUSER.bits() as u64, "user"),
    (TIME, "time"),
];

fn namespaces(plan: &Plan, paths: &[PathBuf]) -> Result<Vec<Value>> {
    let own = &plan.head.namespaces;
    let new = NAMESPACES.iter().filter(|(kind, _)| own.new & kind != 0);
    let mut all: Vec<Value> = new.map(|(_, name)| json!({"type": name})).collect();
    for joined in &own.joined {
        let name = NAMESPACES.iter().find(|(kind, _)| *kind == joined.kind);
        let path = paths.get(joined.fd as usize).and_then(|path| path.to_str());
        let (Some((_, name)), Some(path)) = (name, path) else {
            return invalid(
                "linux.namespaces",
                format!("nothing is known of namespace {}", joined.fd),
            );
        };
        all.push(json!({"type": name, "path": path}));
    }
    Ok(all)
}

/// A node that not every container has anyway.
fn device(device: &Device) -> Option<Value> {
    if defaults::devices().contains(device) {
        return None;
    }
    let kind = match device.kind {
        DeviceKind::Char => "c",
        DeviceKind::Block => "b",
        DeviceKind::Fifo => "p",
    };
    Some(json!({
        "path": device.path.to_str()?, "type": kind, "major": device.major, "minor": device.minor,
        "fileMode": device.mode, "uid": device.uid, "gid": device.gid,
    }))
}

fn texts<P: AsRef<Path>>(field: &str, paths: impl IntoIterator<Item = P>) -> Result<Value> {
    let texts = paths
        .into_iter()
        .map(|path| text(field, path.as_ref()).map(Value::from));
    texts.collect::<Result<Vec<_>>>().map(Value::from)
}

/// JSON has no other text than UTF-8.
fn text<'a>(field: &str, path: &'a Path) -> Result<&'a str> {
    match path.to_str() {
        Some(text) => Ok(text),
        None => invalid(field, format!("{:?} is not UTF-8", path.display())),
    }
}

/// `net/ipv4/conf/eth0.1/forwarding` → `net.ipv4.conf.eth0/1.forwarding`, as sysctl(8) has it.
fn dotted(path: &str) -> String {
    let swapped = path.chars().map(|c| match c {
        '/' => '.',
        '.' => '/',
        other => other,
    });
    swapped.collect()
}
