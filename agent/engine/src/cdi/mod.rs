//! The Container Device Interface: devices by name, as their vendors describe them in files.
//!
//! ```text
//! /etc/cdi/*.yaml, /var/run/cdi/*.json ─► Registry::read ─► "vendor.com/class=name" ─► Edits ─► the plan
//! ```
//!
//! The files are the administrator's, and are read anew for each question: whoever plugs a device in writes one. A file
//! of a later folder replaces what an earlier one says of a device; two files of one folder that say something of the
//! same device take it away, since nobody could know which one is meant. A file that cannot be read, or that asks for what
//! we do not know, gives no device, and is named where one of its kind is asked for in vain.
//!
//! This knows no containers: who has a plan or a configuration to edit asks for [`Edits`] and carries them out.

mod name;
mod spec;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use name::{Kind, Name};
pub use spec::{DeviceNode, Edits, Hook, HookName, Mount};

use spec::Spec;

/// Larger files are nobody's description of a device.
const LARGEST: u64 = 4 << 20;

/// Why devices cannot be given to a container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CdiError {
    /// The first words are those that clients know.
    #[error("unresolvable CDI devices {}{}", names.join(", "), hint(files))]
    Unresolvable {
        names: Vec<String>,
        /// Files that could not be read, with the reason.
        files: Vec<String>,
    },
    #[error("{edit} of the CDI device {device} is not supported")]
    Unsupported { device: String, edit: &'static str },
}

fn hint(files: &[String]) -> String {
    match files {
        [] => String::new(),
        files => format!(" (not read: {})", files.join("; ")),
    }
}

/// What the files say.
#[derive(Debug, Default)]
pub struct Registry {
    devices: BTreeMap<String, Found>,
    errors: Vec<String>,
}

#[derive(Debug)]
struct Found {
    folder: usize,
    /// `None`: two files of that folder have it.
    place: Option<(Arc<Spec>, usize)>,
}

impl Registry {
    /// Reads every `.json` and `.yaml` file of these folders, the least important folder first. A folder that is not there
    /// is empty.
    pub fn read(folders: &[PathBuf]) -> Registry {
        let mut registry = Registry::default();
        for (number, folder) in folders.iter().enumerate() {
            let files = match list(folder) {
                Ok(files) => files,
                Err(error) => {
                    registry.errors.push(format!("{}: {error}", folder.display()));
                    continue;
                }
            };
            for path in files {
                match load(&path) {
                    Ok(spec) => registry.add(number, spec, &path),
                    Err(why) => registry.errors.push(format!("{}: {why}", path.display())),
                }
            }
        }
        registry
    }

    fn add(&mut self, folder: usize, spec: Spec, path: &Path) {
        let spec = Arc::new(spec);
        for (index, device) in spec.devices.iter().enumerate() {
            let name = format!("{}={}", spec.kind, device.name);
            let found = Found {
                folder,
                place: Some((spec.clone(), index)),
            };
            match self.devices.entry(name) {
                Entry::Vacant(entry) => drop(entry.insert(found)),
                Entry::Occupied(mut entry) if entry.get().folder < folder => drop(entry.insert(found)),
                Entry::Occupied(mut entry) => {
                    let text = format!(
                        "{}: another file here has the device {} too",
                        path.display(),
                        entry.key()
                    );
                    self.errors.push(text);
                    entry.get_mut().place = None;
                }
            }
        }
    }

    /// Full names of all devices, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let known = self.devices.iter().filter(|(_, found)| found.place.is_some());
        known.map(|(name, _)| name.as_str())
    }

    /// What was passed over: files and folders with the reason.
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// All that these devices change of a container, in the order in which they are asked for; what a file says for all
    /// of its devices comes once, before the first of them.
    ///
    /// # Errors
    /// All names that are none or that no file has; an edit that we do not carry out.
    pub fn edits(&self, names: &[String]) -> Result<Edits, CdiError> {
        let mut edits = Edits::default();
        let mut begun: Vec<&Arc<Spec>> = Vec::new();
        let mut missing: Vec<&String> = Vec::new();
        for name in names {
            let Some((spec, index)) = self.devices.get(name).and_then(|found| found.place.as_ref()) else {
                missing.push(name);
                continue;
            };
            let supported = |part: &Edits| match part.unsupported() {
                Some(edit) => Err(CdiError::Unsupported {
                    device: name.clone(),
                    edit,
                }),
                None => Ok(()),
            };
            if !begun.iter().any(|other| Arc::ptr_eq(other, spec)) {
                supported(&spec.container_edits)?;
                edits.append(&spec.container_edits);
                begun.push(spec);
            }
            if let Some(device) = spec.devices.get(*index) {
                supported(&device.container_edits)?;
                edits.append(&device.container_edits);
            }
        }
        if missing.is_empty() {
            return Ok(edits);
        }
        Err(CdiError::Unresolvable {
            names: missing.into_iter().cloned().collect(),
            files: self.errors.clone(),
        })
    }
}

fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let known = path.extension().is_some_and(|end| end == "json" || end == "yaml");
        // Nothing else can be waited for: a pipe would never end.
        if known && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn load(path: &Path) -> Result<Spec, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > LARGEST {
        return Err(format!("{size} bytes are too many"));
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    Spec::parse(&text, path.extension().is_some_and(|end| end == "json"))
}

#[cfg(test)]
mod tests;
