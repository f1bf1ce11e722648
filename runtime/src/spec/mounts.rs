//! The mounts of a configuration.

use super::options::Options;
use super::{Host, Result, clean, in_bundle, invalid, users};
use crate::cgroup::CgroupPath;
use crate::defaults::{self, MountOptions, V1_CGROUP_ROOT};
use crate::plan::{IdMap, Mount, MountIdMap, MountSource};
use nix::mount::MsFlags;
use oci_spec::runtime as oci;
use std::path::{Path, PathBuf};

/// Mounts, and what is to be made read-only once all of them stand.
#[derive(Default)]
pub(super) struct Compiled {
    pub mounts: Vec<Mount>,
    pub readonly: Option<PathBuf>,
    /// Maps that the mounts name by index.
    pub id_maps: Vec<IdMap>,
    /// Somebody's whole `/dev` is bound: nothing is made in it.
    pub foreign_dev: bool,
}

/// `own` is the map of the container's new user namespace.
pub(super) fn compile(
    list: &[oci::Mount],
    host: &Host<'_>,
    cgroup: &CgroupPath,
    own: Option<&IdMap>,
) -> Result<Compiled> {
    let mut out = Compiled::default();
    for mount in list {
        let field = format!("mounts of {}", mount.destination().display());
        // Relative ones of old files are meant from the root.
        let target = clean(&field, mount.destination())?;
        let options = Options::parse(mount.options().as_deref().unwrap_or_default(), &field)?;
        if mount.typ().as_deref() == Some("cgroup") {
            cgroups(&target, &options, host, cgroup, &mut out)?;
            continue;
        }
        let id_map = id_map(mount, &options, own, &field, &mut out.id_maps)?;
        let made = one(mount, target, options, host.bundle, &field)?;
        if id_map.is_some() && !matches!(made.source, MountSource::Bind { .. }) {
            return invalid(field, "only bind mounts can be idmapped");
        }
        out.foreign_dev |= made.target == Path::new("/dev") && matches!(made.source, MountSource::Bind { .. });
        out.mounts.push(Mount { id_map, ..made });
    }
    Ok(out)
}

/// A single mount, for a plan that was not made from a configuration. A relative source is meant from the host's root.
///
/// # Errors
/// As [`compile`](super::compile); mounts of control groups and with users of their own are not for this.
pub fn mount(mount: &oci::Mount) -> Result<Mount> {
    let field = format!("mount of {}", mount.destination().display());
    let options = Options::parse(mount.options().as_deref().unwrap_or_default(), &field)?;
    if mount.typ().as_deref() == Some("cgroup") || options.idmap.is_some() {
        return invalid(field, "control groups and idmap are for whole configurations");
    }
    one(
        mount,
        clean(&field, mount.destination())?,
        options,
        Path::new("/"),
        &field,
    )
}

fn id_map(
    mount: &oci::Mount,
    options: &Options,
    own: Option<&IdMap>,
    field: &str,
    all: &mut Vec<IdMap>,
) -> Result<Option<MountIdMap>> {
    let wanted = match users::of_mount(field, mount.uid_mappings(), mount.gid_mappings())? {
        Some(map) => map,
        None if options.idmap.is_none() => return Ok(None),
        None => match own {
            Some(map) => map.clone(),
            None => {
                return invalid(
                    field,
                    "idmap needs uidMappings and gidMappings, or a new user namespace",
                );
            }
        },
    };
    let known = all.iter().position(|map| *map == wanted);
    let index = known.unwrap_or_else(|| {
        all.push(wanted);
        all.len() - 1
    });
    Ok(Some(MountIdMap {
        map: u32::try_from(index).unwrap_or(u32::MAX),
        recursive: options.idmap == Some(true),
    }))
}

fn one(mount: &oci::Mount, target: PathBuf, options: Options, bundle: &Path, field: &str) -> Result<Mount> {
    let kind = mount.typ().as_deref().unwrap_or_default();
    let bind = options.bind.is_some() || matches!(kind, "bind" | "rbind" | "none") && !options.remount;
    let source = if options.remount {
        let data = if bind { String::new() } else { options.data.join(",") };
        MountSource::Remount { data }
    } else if bind {
        // Options of a file system say nothing to a bind mount, here as in mount(2): what is bound has its own.
        if options.copy_up {
            return invalid(field, "tmpcopyup is for tmpfs");
        }
        let Some(source) = mount.source() else {
            return invalid(field, "a bind mount needs a source");
        };
        MountSource::Bind {
            path: in_bundle(field, bundle, source)?,
            // A bind without a word about it is a single one; type `rbind` is nobody's, but clear.
            recursive: options.bind.unwrap_or(kind == "rbind"),
        }
    } else {
        if kind.is_empty() {
            return invalid(field, "it has neither a type nor the option bind");
        }
        if options.copy_up && kind != "tmpfs" {
            return invalid(field, "tmpcopyup is for tmpfs");
        }
        let source = mount.source().as_ref().map(|source| source.to_str().map(str::to_owned));
        let source = match source {
            Some(None) => return invalid(field, "the source is not UTF-8"),
            Some(Some(source)) if !source.is_empty() => source,
            _ => kind.to_owned(),
        };
        if kind.contains('\0') || source.contains('\0') {
            return invalid(field, "it holds a NUL");
        }
        MountSource::Fs {
            fstype: kind.to_owned(),
            source,
            data: options.data.join(","),
            copy_up: options.copy_up,
        }
    };
    Ok(Mount {
        target,
        source,
        flags: options.set.bits(),
        clear: if bind || options.remount {
            options.clear.bits()
        } else {
            0
        },
        recursive_set: options.recursive_set,
        recursive_clear: options.recursive_clear,
        propagation: options.propagation.bits(),
        optional: false,
        id_map: None,
    })
}

/// `cgroup` stands for whatever this machine has.
fn cgroups(target: &Path, options: &Options, host: &Host<'_>, cgroup: &CgroupPath, out: &mut Compiled) -> Result<()> {
    let privileged = !options.set.contains(MsFlags::MS_RDONLY);
    let wanted = MountOptions {
        privileged,
        v1_cgroups: host.cgroups.v1_mounts(),
        // The container's own groups, bound: the same view as a fresh mount in its cgroup namespace, at less cost.
        cgroup_path: Some(cgroup.as_str().to_owned()),
        ..MountOptions::default()
    };
    let root = Path::new(V1_CGROUP_ROOT);
    for mut made in defaults::mounts(&wanted) {
        let Ok(rest) = made.target.strip_prefix(root) else {
            continue;
        };
        made.target = match rest.as_os_str().is_empty() {
            true => target.to_owned(),
            false => target.join(rest),
        };
        made.propagation = options.propagation.bits();
        out.mounts.push(made);
    }
    if !wanted.v1_cgroups.is_empty() && !privileged {
        out.readonly = Some(target.to_owned());
    }
    Ok(())
}
