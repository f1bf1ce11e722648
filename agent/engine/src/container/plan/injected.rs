//! Devices that are asked for by what they are rather than by path (`--device vendor.com/class=name`, `--gpus`), and what
//! they change of a plan.

use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime as oci;
use runtime::cgroup::{DeviceRule, Resources as Limits};
use runtime::plan::{Device, DeviceKind, Hook, Mount, Plan, User};
use runtime::spec;

use super::foreign::{is_own_runtime, refused};
use super::mounts::replace;
use super::override_env;
use crate::Engine;
use crate::cdi::{DeviceNode, Edits, HookName, Registry};
use crate::container::Record;
use crate::container::spec::{DeviceRequest, HostConfig};
use crate::error::{Error, Result};

/// The driver that takes names of the Container Device Interface.
const CDI: &str = "cdi";
/// The folder of a bundle over which the root is mounted.
pub(crate) const ROOT: &str = "rootfs";
/// What `--gpus` means where a vendor has described its devices.
const GPUS: &str = "nvidia.com/gpu";

/// All that a container's named devices change of its plan; mostly nothing.
#[derive(Debug, Default)]
pub(crate) struct Injected {
    env: Vec<String>,
    /// Where each node is on the host, and what it is in the container.
    nodes: Vec<(PathBuf, Device)>,
    rules: Vec<DeviceRule>,
    mounts: Vec<Mount>,
    hooks: Vec<(HookName, Hook)>,
    groups: Vec<String>,
}

impl Engine {
    /// What the files say now of the devices that a container asks for.
    ///
    /// # Errors
    /// In Docker's words: no driver has such a device, or no file describes it.
    pub(crate) fn injected(&self, record: &Record) -> Result<Injected> {
        let requests = &record.host.device_requests;
        if requests.is_empty() {
            return Ok(Injected::default());
        }
        let registry = Registry::read(&self.config.cdi_spec_dirs);
        let mut names = Vec::new();
        for request in requests {
            names.extend(self.device_names(request, &registry)?);
        }
        let injected = Injected::of(registry.edits(&names)?, record)?;
        if !injected.hooks.is_empty() && !is_own_runtime(&record.host.runtime) {
            let text = format!("hooks of CDI devices with the runtime {}", record.host.runtime);
            return Err(Error::unsupported(text));
        }
        Ok(injected)
    }

    /// The names of the devices that one request means.
    fn device_names(&self, request: &DeviceRequest, registry: &Registry) -> Result<Vec<String>> {
        let prefix = format!("{GPUS}=");
        let mut gpus = registry.names().filter(|name| name.starts_with(&prefix)).peekable();
        let asks_gpu = request.capabilities.iter().flatten().any(|word| word == "gpu");
        let is_gpu = request.driver == "nvidia" || request.driver.is_empty() && asks_gpu;
        if request.driver == CDI && !self.config.cdi_spec_dirs.is_empty() {
            if request.count != 0 {
                return Err(Error::invalid("unexpected count in CDI device request"));
            }
            if !request.options.is_empty() {
                return Err(Error::invalid("unexpected options in CDI device request"));
            }
            return Ok(request.device_ids.clone());
        }
        if !is_gpu || gpus.peek().is_none() {
            return Err(Error::NoDeviceDriver {
                driver: request.driver.clone(),
                capabilities: request.capabilities.clone(),
            });
        }
        if let Some(option) = request.options.keys().next() {
            return Err(Error::unsupported(format!("the option {option} of a request for GPUs")));
        }
        let all = format!("{GPUS}=all");
        Ok(match (request.count, request.device_ids.as_slice()) {
            (0, ids) => ids.iter().map(|id| format!("{GPUS}={id}")).collect(),
            (count, _) if count > 0 => (0..count).map(|number| format!("{GPUS}={number}")).collect(),
            _ if registry.names().any(|name| name == all) => vec![all],
            _ => gpus.map(str::to_owned).collect(),
        })
    }
}

/// What is wrong with requests whatever devices there are.
pub(super) fn check(host: &HostConfig) -> Result<()> {
    for request in &host.device_requests {
        if request.count != 0 && !request.device_ids.is_empty() {
            return Err(Error::invalid("cannot set both Count and DeviceIDs on device request"));
        }
    }
    Ok(())
}

impl Injected {
    fn of(edits: Edits, record: &Record) -> Result<Injected> {
        let mut injected = Injected {
            env: edits.env,
            // Everybody is in the group of root who wants to be.
            groups: edits
                .additional_gids
                .iter()
                .filter(|gid| **gid != 0)
                .map(u32::to_string)
                .collect(),
            ..Injected::default()
        };
        for node in &edits.device_nodes {
            let source = node.host_path.clone().unwrap_or_else(|| node.path.clone());
            let device = device(node, &source, &record.config.user)?;
            if let Some(rule) = rule(node, &device)? {
                injected.rules.push(rule);
            }
            injected.nodes.retain(|(_, other)| other.path != device.path);
            injected.nodes.push((source, device));
        }
        for mount in edits.mounts {
            let mut wanted = oci::Mount::default();
            wanted
                .set_destination(mount.container_path)
                .set_source(Some(mount.host_path))
                .set_typ(Some(match mount.kind.as_str() {
                    "" => "bind".to_owned(),
                    _ => mount.kind,
                }))
                .set_options(Some(mount.options));
            replace(&mut injected.mounts, spec::mount(&wanted).map_err(refused)?);
        }
        for hook in edits.hooks {
            if matches!(hook.hook_name, HookName::Poststart | HookName::Poststop) {
                // The shim has lost the right to start programs by then.
                return Err(Error::unsupported(format!(
                    "the {} hook of a CDI device ({})",
                    match hook.hook_name {
                        HookName::Poststart => "poststart",
                        _ => "poststop",
                    },
                    hook.path.display()
                )));
            }
            let mut wanted = oci::Hook::default();
            wanted
                .set_path(hook.path)
                .set_args(Some(hook.args))
                .set_env(Some(hook.env))
                .set_timeout(hook.timeout);
            let made = spec::hook("hooks of a CDI device", &wanted).map_err(refused)?;
            injected.hooks.push((hook.hook_name, made));
        }
        Ok(injected)
    }

    /// Adds the nodes to those that a container has anyway, and the right to use them.
    pub(super) fn devices(&self, devices: &mut Vec<Device>) {
        for (_, node) in &self.nodes {
            devices.retain(|own| own.path != node.path);
            devices.push(node.clone());
        }
    }

    /// Allows what the nodes stand for; a privileged container may use everything anyway.
    pub(super) fn allow(&self, limits: &mut Limits, privileged: bool) {
        if !privileged {
            limits.devices.extend(self.rules.iter().cloned());
        }
    }

    /// Whether programs of a vendor are run around the start.
    pub(crate) fn has_hooks(&self) -> bool {
        !self.hooks.is_empty()
    }

    /// Everything but nodes and rules.
    pub(super) fn edit(&self, plan: &mut Plan, record: &Record, bundle: &Path) {
        override_env(&mut plan.process.env, &self.env);
        for mount in &self.mounts {
            replace(&mut plan.mounts, mount.clone());
        }
        if !self.mounts.is_empty() {
            plan.mounts.sort_by_key(|mount| mount.target.components().count());
        }
        if let User::Named { extra_groups, .. } = &mut plan.process.user {
            extra_groups.extend(self.groups.iter().cloned());
        }
        if !self.hooks.is_empty() {
            let annotations = &record.host.annotations;
            plan.head.hooks.state = spec::hook_state(record.id.as_str(), bundle, annotations);
            plan.hook_root = bundle.join(ROOT);
        }
        for (name, hook) in &self.hooks {
            let list = match name {
                HookName::Prestart => &mut plan.head.hooks.prestart,
                HookName::CreateRuntime => &mut plan.head.hooks.create_runtime,
                HookName::CreateContainer => &mut plan.create_container,
                HookName::StartContainer => &mut plan.start_container,
                HookName::Poststart => &mut plan.head.hooks.poststart,
                HookName::Poststop => &mut plan.head.hooks.poststop,
            };
            list.push(hook.clone());
        }
    }

    /// Where the nodes are on the host, and in the container: root of a user namespace can make none.
    pub(crate) fn bound_nodes(&self) -> impl Iterator<Item = (PathBuf, PathBuf)> {
        let nodes = self.nodes.iter();
        nodes.map(|(source, node)| (source.clone(), node.path.clone()))
    }
}

/// A node, with what the file leaves open asked of the host's.
fn device(node: &DeviceNode, source: &Path, user: &str) -> Result<Device> {
    let kind = match node.kind.as_str() {
        "b" => Some(DeviceKind::Block),
        "c" | "u" => Some(DeviceKind::Char),
        "p" => Some(DeviceKind::Fifo),
        _ => None,
    };
    let ids = user.split_once(':').unwrap_or((user, ""));
    let mut device = Device {
        path: node.path.clone(),
        kind: kind.clone().unwrap_or(DeviceKind::Char),
        major: node.major,
        minor: node.minor,
        mode: node.file_mode.map_or(0o666, |mode| mode & 0o7777),
        // As the specification has it: the process' own, where it is known by number.
        uid: node.uid.or(ids.0.parse().ok()).unwrap_or(0),
        gid: node.gid.or(ids.1.parse().ok()).unwrap_or(0),
    };
    if kind.is_some() && (node.major != 0 || kind == Some(DeviceKind::Fifo)) {
        return Ok(device);
    }
    let gather = |error| {
        Error::NoDevice(format!(
            "failed to stat CDI host device {:?}: {error}",
            source.display()
        ))
    };
    let meta = fs::metadata(source).map_err(gather)?;
    let found = super::devices::device_of(&meta, node.path.clone())
        .ok_or_else(|| Error::NoDevice(format!("CDI host device {:?} is not a device", source.display())))?;
    if kind.is_some_and(|kind| kind != found.kind) {
        return Err(Error::NoDevice(format!(
            "CDI device ({:?}, {:?}), host type mismatch ({})",
            node.path.display(),
            source.display(),
            node.kind
        )));
    }
    device.kind = found.kind;
    if node.major == 0 {
        (device.major, device.minor) = (found.major, found.minor);
    }
    Ok(device)
}

fn rule(node: &DeviceNode, device: &Device) -> Result<Option<DeviceRule>> {
    let access = match node.permissions.as_str() {
        "none" => return Ok(None),
        "" => "rwm",
        some => some,
    };
    let kind = match device.kind {
        DeviceKind::Block => 'b',
        DeviceKind::Char => 'c',
        DeviceKind::Fifo => return Ok(None),
    };
    let text = format!("{kind} {}:{} {access}", device.major, device.minor);
    Ok(Some(DeviceRule::parse(true, &text)?))
}
