//! The bundle of a container of ours: made for the hooks of its devices alone, which find `config.json` in it and the root by
//! that file, as with other runtimes. It lasts as long as the run.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use runtime::plan::Plan;
use runtime::spec::document;

use super::Record;
use super::foreign;
use super::plan::{ROOT, is_own_runtime, refused};
use crate::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// Writes the bundle of a run that has hooks.
    pub(super) fn write_bundle(&self, record: &Record, plan: &Plan) -> Result<()> {
        let bundle = self.places(&record.id).bundle;
        let config = document::for_hooks(plan, &bundle.join(ROOT), &record.host.annotations).map_err(refused)?;
        // Root of the container's users mounts its root there and runs some of the hooks.
        let group = plan.head.id_maps.first().and_then(|map| {
            let root = map.groups.iter().find(|range| range.inside == 0);
            root.or(map.groups.first()).map(|range| range.outside)
        });
        write(&bundle, config.as_bytes(), group).map_err(Error::io(format!(
            "write the bundle of container {} for its hooks",
            record.id
        )))
    }

    /// Removes the bundle of a run that is over. That of another runtime is its shim's.
    pub(super) fn remove_bundle(&self, record: &Record) {
        if record.host.device_requests.is_empty() || !is_own_runtime(&record.host.runtime) {
            return;
        }
        let bundle = self.places(&record.id).bundle;
        if let Err(error) = foreign::remove(&bundle) {
            tracing::warn!(container = %record.id, %error, "the bundle for hooks stays until the next start");
        }
    }
}

fn write(bundle: &Path, config: &[u8], group: Option<u32>) -> io::Result<()> {
    foreign::remove(bundle)?;
    DirBuilder::new().mode(0o700).create(bundle)?;
    DirBuilder::new().mode(0o755).create(bundle.join(ROOT))?;
    let path = bundle.join("config.json");
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    file.write_all(config)?;
    if let Some(group) = group {
        for (path, mode) in [(path.as_path(), 0o640), (bundle, 0o710)] {
            chown(path, None, Some(group))?;
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}
