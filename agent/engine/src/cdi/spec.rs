//! One file: which devices of a kind there are, and what each changes of a container.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::name::{Kind, check_device};

/// Versions of the specification, oldest first; 0.1 to 0.3 are read alike.
const VERSIONS: [&str; 10] = [
    "0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0",
];

/// A checked file.
#[derive(Debug)]
pub(super) struct Spec {
    pub kind: Kind,
    pub devices: Vec<Device>,
    /// For a container with any of the devices.
    pub container_edits: Edits,
}

/// Fields that we do not know are errors: they would be edits that are not made.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    cdi_version: String,
    kind: String,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    devices: Option<Vec<Device>>,
    #[serde(default)]
    container_edits: Option<Edits>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Device {
    pub name: String,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    pub container_edits: Edits,
}

/// Changes of a container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Edits {
    /// `NAME=value`
    pub env: Vec<String>,
    pub device_nodes: Vec<DeviceNode>,
    pub mounts: Vec<Mount>,
    pub hooks: Vec<Hook>,
    /// Groups of the process.
    #[serde(alias = "additionalGIDs")]
    pub additional_gids: Vec<u32>,
    /// Known, so that it is refused by name where it is asked for, and not with the whole file.
    intel_rdt: Option<Value>,
    net_devices: Option<Vec<Value>>,
}

/// A node below `/dev`; what is absent is asked of the node on the host.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceNode {
    pub path: PathBuf,
    pub host_path: Option<PathBuf>,
    /// `b`, `c`, `u` or `p`
    #[serde(rename = "type")]
    pub kind: String,
    pub major: u32,
    pub minor: u32,
    pub file_mode: Option<u32>,
    /// Of `rwm`; nothing means all, `none` nothing.
    pub permissions: String,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    pub host_path: PathBuf,
    pub container_path: PathBuf,
    /// As in an OCI configuration.
    pub options: Vec<String>,
    /// As in an OCI configuration; nothing means a bind.
    #[serde(rename = "type")]
    pub kind: String,
}

/// When a hook runs: the OCI runtime specification's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HookName {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hook {
    pub hook_name: HookName,
    pub path: PathBuf,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub env: Vec<String>,
    /// Seconds.
    #[serde(default)]
    pub timeout: Option<i64>,
}

impl Spec {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// In words, what is wrong.
    pub fn parse(text: &str, json: bool) -> Result<Spec, String> {
        let file: File = if json {
            serde_json::from_str(text).map_err(|error| error.to_string())?
        } else {
            // Modes are written 0666, as YAML 1.1 has them; and one line says enough.
            let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
            serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?
        };
        file.check()
    }
}

impl File {
    fn check(self) -> Result<Spec, String> {
        let version = VERSIONS
            .iter()
            .position(|known| *known == self.cdi_version.trim_start_matches('v'))
            .ok_or_else(|| format!("version {:?} of CDI is not known", self.cdi_version))?;
        let kind = Kind::parse(&self.kind)?;
        let devices = self.devices.unwrap_or_default();
        let container_edits = self.container_edits.unwrap_or_default();
        if devices.is_empty() {
            return Err("it has no devices".to_owned());
        }
        let mut names = BTreeSet::new();
        for device in &devices {
            check_device(&device.name)?;
            if !names.insert(&device.name) {
                return Err(format!("device {:?} is there twice", device.name));
            }
            let edits = &device.container_edits;
            if *edits == Edits::default() {
                return Err(format!("device {:?} changes nothing", device.name));
            }
            edits
                .check()
                .map_err(|why| format!("device {:?}: {why}", device.name))?;
        }
        container_edits.check()?;

        let all = || {
            let own = devices.iter().map(|device| &device.container_edits);
            own.chain([&container_edits])
        };
        let annotated = |notes: &Option<BTreeMap<_, _>>| notes.as_ref().is_some_and(|notes| !notes.is_empty());
        let digit = |device: &Device| device.name.starts_with(|c: char| c.is_ascii_digit());
        // Which version each word came with.
        let needs = [
            ("1.1.0", all().any(|edits| edits.net_devices.is_some()), "netDevices"),
            ("0.7.0", all().any(|edits| edits.intel_rdt.is_some()), "intelRdt"),
            (
                "0.7.0",
                all().any(|edits| !edits.additional_gids.is_empty()),
                "additionalGids",
            ),
            (
                "0.6.0",
                annotated(&self.annotations) || devices.iter().any(|device| annotated(&device.annotations)),
                "annotations",
            ),
            ("0.6.0", kind.has_dotted_class(), "a class with a dot"),
            (
                "0.5.0",
                devices.iter().any(digit),
                "a device's name that begins with a digit",
            ),
            (
                "0.5.0",
                all().any(|edits| edits.device_nodes.iter().any(|node| node.host_path.is_some())),
                "hostPath of a device node",
            ),
            (
                "0.4.0",
                all().any(|edits| edits.mounts.iter().any(|mount| !mount.kind.is_empty())),
                "type of a mount",
            ),
        ];
        for (least, used, what) in needs {
            let least_number = VERSIONS.iter().position(|known| *known == least).unwrap_or_default();
            if used && version < least_number {
                return Err(format!("{what} needs cdiVersion {least}, not {}", self.cdi_version));
            }
        }
        Ok(Spec {
            kind,
            devices,
            container_edits,
        })
    }
}

impl Edits {
    pub(super) fn append(&mut self, more: &Edits) {
        self.env.extend_from_slice(&more.env);
        self.device_nodes.extend_from_slice(&more.device_nodes);
        self.mounts.extend_from_slice(&more.mounts);
        self.hooks.extend_from_slice(&more.hooks);
        self.additional_gids.extend_from_slice(&more.additional_gids);
    }

    /// An edit that nobody here carries out.
    pub(super) fn unsupported(&self) -> Option<&'static str> {
        if self.intel_rdt.is_some() {
            return Some("intelRdt");
        }
        self.net_devices.as_ref().map(|_| "netDevices")
    }

    fn check(&self) -> Result<(), String> {
        variables(&self.env)?;
        for node in &self.device_nodes {
            let path = node.path.display();
            absolute("path of a device node", &node.path)?;
            if let Some(host) = &node.host_path {
                absolute("hostPath of a device node", host)?;
            }
            if !matches!(node.kind.as_str(), "" | "b" | "c" | "u" | "p") {
                return Err(format!("device node {path}: there is no type {:?}", node.kind));
            }
            if node.permissions != "none" && !node.permissions.chars().all(|c| "rwm".contains(c)) {
                return Err(format!(
                    "device node {path}: there are no permissions {:?}",
                    node.permissions
                ));
            }
        }
        for mount in &self.mounts {
            absolute("containerPath of a mount", &mount.container_path)?;
            if mount.host_path.as_os_str().is_empty() {
                return Err("a mount has no hostPath".to_owned());
            }
        }
        for hook in &self.hooks {
            absolute("path of a hook", &hook.path)?;
            variables(&hook.env)?;
        }
        Ok(())
    }
}

fn absolute(what: &str, path: &Path) -> Result<(), String> {
    match path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0) {
        true => Ok(()),
        false => Err(format!("{what}: {path:?} is not an absolute path")),
    }
}

fn variables(env: &[String]) -> Result<(), String> {
    let bad = env.iter().find(|entry| {
        let name = entry.split_once('=').map(|(name, _)| name);
        name.is_none_or(str::is_empty) || entry.contains('\0')
    });
    match bad {
        None => Ok(()),
        Some(entry) => Err(format!("{entry:?} is not NAME=value")),
    }
}
