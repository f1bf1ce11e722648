//! Intel Resource Director Technology of a configuration.

use super::{Result, invalid};
use crate::plan::Rdt;
use oci_spec::runtime::Linux;
use std::path::{Path, PathBuf};

/// `None` where the configuration does not ask for it.
pub(super) fn compile(linux: &Linux, id: &str) -> Result<Option<Rdt>> {
    let Some(rdt) = linux.intel_rdt() else { return Ok(None) };
    let Some(root) = mounted() else {
        return invalid(
            "linux.intelRdt",
            "no resctrl file system is mounted (mount -t resctrl resctrl /sys/fs/resctrl), or this CPU has no RDT",
        );
    };
    let named = rdt.clos_id().as_deref().filter(|name| !name.is_empty());
    let name = named.unwrap_or(id);
    if name.contains(['/', '\n', '\0']) || matches!(name, "." | "..") {
        return invalid("linux.intelRdt.closID", format!("{name:?} is not the name of a folder"));
    }
    let mut schemata: Vec<String> = rdt.schemata().clone().unwrap_or_default();
    // The older fields come first: what `schemata` says of the same resource overrides them.
    for line in [rdt.mem_bw_schema(), rdt.l3_cache_schema()].into_iter().flatten() {
        schemata.insert(0, line.clone());
    }
    if let Some(line) = schemata
        .iter()
        .find(|line| line.trim().is_empty() || line.contains('\0'))
    {
        return invalid("linux.intelRdt.schemata", format!("{line:?} is no schema"));
    }
    let folder = root.join(name);
    if named.is_some() && schemata.is_empty() && !folder.is_dir() {
        return invalid(
            "linux.intelRdt.closID",
            format!("there is no class {name:?}, and no schemata to make one"),
        );
    }
    #[allow(deprecated)] // still in files
    let monitoring = [rdt.enable_monitoring(), rdt.enable_cmt(), rdt.enable_mbm()]
        .into_iter()
        .any(|wish| *wish == Some(true));
    Ok(Some(Rdt {
        owned: !folder.is_dir(),
        folder,
        schemata,
        monitoring,
    }))
}

/// Where the kernel's resource control is mounted.
fn mounted() -> Option<PathBuf> {
    let root = Path::new("/sys/fs/resctrl");
    root.join("schemata").exists().then(|| root.to_owned())
}
